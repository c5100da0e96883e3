"""How old events are when they pass a hop.

Every event carries ``at``, the time at which a dispatcher accepted it. So a hop needs nothing but
its own wall clock to say how old the event is, and an event that is delayed anywhere shows at every
hop from there on.
"""

import enum
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from rtdeliver.frontend.tracking import TrackedEvent
from rtdeliver.histogram import Histogram
from rtdeliver.metrics import HistogramSample, Sample, counter, histogram


class Stage(enum.Enum):
    """What has happened to an event when its age is taken."""

    DELIVERED = "delivered"
    SENT = "sent"
    RECEIVED = "received"


class Passage:
    """What is noted of events that a viewer is sent at a time.

    :ivar at: when the first of them was accepted; 0 if it does not say.
    :ivar tracked: those among them that are tracked.
    """

    __slots__ = ("at", "tracked")

    def __init__(self, at: int = 0, tracked: tuple[TrackedEvent, ...] = ()) -> None:
        self.at = at
        self.tracked = tracked


NOTHING = Passage()
"""What is noted of what is no event."""


def joined(passages: Sequence[Passage]) -> Passage:
    """Return what is noted when all of these are sent at a time."""
    if not any(passage.tracked for passage in passages[1:]):
        # Usually. Then many viewers have the same one, which is counted once for all of them.
        return passages[0] if passages else NOTHING
    return Passage(passages[0].at, tuple(e for passage in passages for e in passage.tracked))


class EventAges:
    """Counts the ages of the events that pass a frontend, by stage.

    An age is negative where the dispatcher's clock is ahead of this one. Negative ages are counted
    apart, and are in no histogram.

    :param now: the wall clock, in seconds since the epoch.
    :ivar sent: how many sends there were since the last `flush`, by what is noted of the events in
        each. Adding to it is all that a send costs.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._histograms = {stage: Histogram() for stage in Stage}
        self._negative: Counter[Stage] = Counter()
        self.sent: defaultdict[Passage, int] = defaultdict(int)

    @property
    def histograms(self) -> Mapping[str, Histogram]:
        """The ages that were counted, by stage."""
        return {stage.value: counts for stage, counts in self._histograms.items()}

    def flush(self) -> None:
        """Take the ages of what was sent. To be called soon after the sends."""
        if not self.sent:
            return
        times_by_at: Counter[int] = Counter()
        for passage, times in self.sent.items():
            times_by_at[passage.at] += times
            for tracked in passage.tracked:
                tracked.sent.add(self.age(tracked.at) * 1000, times)
        self.sent.clear()
        self.observe(Stage.SENT, times_by_at)

    def observe(self, stage: Stage, times_by_at: Mapping[int, int]) -> None:
        """Take the ages of events that pass a stage now.

        :param times_by_at: how many events there are, by when they were accepted, in milliseconds
            since the epoch. 0 stands for events that do not say.
        """
        now_ms = self._now() * 1000
        for at, times in times_by_at.items():
            if at:
                self.observe_age(stage, (now_ms - at) / 1000, times)

    def age(self, at: int) -> float:
        """Return how long ago, in seconds, an event was accepted."""
        return self._now() - at / 1000

    def observe_age(self, stage: Stage, seconds: float, times: int = 1) -> None:
        """Count an age so many times."""
        if seconds < 0:
            self._negative[stage] += times
        else:
            self._histograms[stage].observe(seconds, times)

    def quantile(self, stage: Stage, share: float) -> float:
        """Return the age that this share of the events of a stage did not exceed, in seconds."""
        return self._histograms[stage].quantile(share)

    def samples(self) -> list[Sample | HistogramSample]:
        self.flush()
        return [
            *(
                histogram(
                    "event_age_seconds",
                    "How long ago events had been accepted when they passed a stage.",
                    counts,
                    stage=stage.value,
                )
                for stage, counts in self._histograms.items()
            ),
            *(
                counter(
                    "event_age_negative",
                    "Events from the future: their dispatcher's clock was ahead of this one.",
                    self._negative[stage],
                    stage=stage.value,
                )
                for stage in Stage
            ),
        ]
