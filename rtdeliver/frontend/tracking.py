"""What becomes of tracked events at a frontend: when they came, who was sent and received them."""

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from rtdeliver.config.sections import Latency
from rtdeliver.messages import HopRecord, HopStage
from rtdeliver.metrics import Sample, counter, gauge
from rtdeliver.model import Event
from rtdeliver.sampling import TypeSamples
from rtdeliver.spread import Spread
from rtdeliver.wire import type_of


class TrackedEvent:
    """A tracked event, and what its viewers have had of it since the last record.

    :ivar left: how many viewers ended before they were sent it.
    """

    __slots__ = ("at", "ends_at", "id", "left", "parts", "received", "sent", "type")

    def __init__(self, *, id: str, type: str, at: int, ends_at: float) -> None:
        self.id = id
        self.type = type
        self.at = at
        self.ends_at = ends_at
        self.sent = Spread()
        self.received = Spread()
        self.left = 0
        self.parts = 0


class Tracking:
    """Records what becomes of the tracked events that are delivered to a frontend.

    An event is followed for ``settle_seconds``. What its viewers have had of it is recorded again
    and again, each time what is new.

    :param record: takes the records.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        settings: Latency,
        node: str,
        incarnation: str,
        record: Callable[[HopRecord], None],
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._samples = TypeSamples(settings.track_one_in, settings.track_types)
        self._node = node
        self._incarnation = incarnation
        self._record = record
        self._clock = clock
        self._now = now
        self._events: OrderedDict[str, TrackedEvent] = OrderedDict()
        self._forgotten = 0

    def deliver(self, event: Event, viewers: int) -> TrackedEvent | None:
        """Record that ``event`` has come, if it is tracked; return what follows it then."""
        if not event.at or not self._samples.may_have(event.id):
            return None
        kind = type_of(event)
        if not self._samples.has(event.id, kind):
            return None
        tracked = TrackedEvent(
            id=event.id,
            type=kind,
            at=event.at,
            ends_at=self._clock.seconds() + self._settings.settle_seconds,
        )
        self._write(tracked, "delivered", ((self._age_ms(event.at), 1),), viewers=viewers)
        if viewers:
            self._follow(tracked)
            return tracked
        return None

    def receive(self, id: str, age_ms: float) -> None:
        """Note that a viewer received an event when it was so old, if it is followed."""
        tracked = self._events.get(id)
        if tracked is not None:
            tracked.received.add(age_ms)

    def flush(self) -> None:
        """Record what is new, and follow no longer what has been followed long enough."""
        now = self._clock.seconds()
        for tracked in list(self._events.values()):
            self._write_news(tracked)
            if tracked.ends_at <= now:
                del self._events[tracked.id]

    def samples(self) -> list[Sample]:
        return [
            gauge(
                "tracked_events", "Events that are followed to their viewers.", len(self._events)
            ),
            counter(
                "tracked_forgotten",
                "Events that were followed for too short a time, since there were too many.",
                self._forgotten,
            ),
        ]

    def _follow(self, tracked: TrackedEvent) -> None:
        self._events[tracked.id] = tracked
        if len(self._events) > self._settings.waiting_records:
            _, oldest = self._events.popitem(last=False)
            self._write_news(oldest)
            self._forgotten += 1

    def _write_news(self, tracked: TrackedEvent) -> None:
        if tracked.sent.counts or tracked.left:
            self._write(tracked, "sent", tracked.sent.items(), left=tracked.left)
            tracked.sent, tracked.left = Spread(), 0
        if tracked.received.counts:
            self._write(tracked, "received", tracked.received.items())
            tracked.received = Spread()

    def _write(
        self,
        tracked: TrackedEvent,
        stage: HopStage,
        ages: tuple[tuple[float, int], ...],
        *,
        viewers: int = 0,
        left: int = 0,
    ) -> None:
        self._record(
            HopRecord(
                stage=stage,
                id=tracked.id,
                type=tracked.type,
                at=tracked.at,
                ages=ages,
                node=self._node,
                incarnation=self._incarnation,
                part=tracked.parts,
                viewers=viewers,
                left=left,
            )
        )
        tracked.parts += 1

    def _age_ms(self, at: int) -> float:
        return round(self._now() * 1000 - at, 1)
