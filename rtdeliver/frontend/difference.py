"""What the dispatchers do not know yet of this frontend's viewers, in bounded announcements."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from rtdeliver.config.sections import Routing
from rtdeliver.messages import Announcement
from rtdeliver.model import FrontendRef, Topic

# These stand in for the acknowledged count of a topic while an announcement of it is not answered.
# They differ from every count. `_UNCERTAIN`: the routing table may or may not have the topic.
# `_COUNT_UNCERTAIN`: the topic had viewers before and still has some, so the routing table has it
# whether or not the announcement arrived.
_UNCERTAIN = -1
_COUNT_UNCERTAIN = -2


class Difference:
    """Compares the subscriptions with what was last acknowledged.

    :param wanted: returns the current number of viewers of a topic.
    :param all_wanted: returns the current number of viewers of every topic that has any.
    """

    def __init__(
        self,
        *,
        wanted: Callable[[Topic], int],
        all_wanted: Callable[[], Mapping[Topic, int]],
        settings: Routing,
    ) -> None:
        self.everything = True
        """Whether the next announcements contain all topics."""
        self.acknowledged_sequence = 0
        """The sequence of the last acknowledged announcement; 0 if there was none."""
        self._wanted = wanted
        self._all_wanted = all_wanted
        self._settings = settings
        self._acknowledged: dict[Topic, int] = {}
        # Topics to announce: with viewers that may get nothing yet, without viewers, and those
        # where only the number of viewers has changed.
        self._gained: dict[Topic, None] = {}
        self._lost: dict[Topic, None] = {}
        self._recounted: dict[Topic, None] = {}
        self._sequence = 0
        # Of a full announcement: the next part, what is not in a part yet, what was acknowledged.
        self._part = 0
        self._rest: deque[Topic] = deque()
        self._staged: dict[Topic, int] = {}
        self._unrepeated: list[Topic] = []

    @property
    def is_urgent(self) -> bool:
        """Whether something is to be announced at once."""
        return self.everything or bool(self._gained or self._lost)

    def is_confirmed(self, topic: Topic) -> bool:
        """Whether a dispatcher has confirmed that it delivers ``topic`` here."""
        return self._acknowledged.get(topic, 0) not in (0, _UNCERTAIN)

    def changed(self, topic: Topic) -> None:
        """Note that the number of viewers of ``topic``, or what is acknowledged of it, changed."""
        wanted, acknowledged = self._wanted(topic), self._acknowledged.get(topic, 0)
        for topics in (self._gained, self._lost, self._recounted):
            topics.pop(topic, None)
        if wanted == acknowledged:
            return
        if not wanted:
            self._lost[topic] = None
        elif acknowledged in (0, _UNCERTAIN):
            self._gained[topic] = None
        else:
            self._recounted[topic] = None

    def begin_anew(self) -> None:
        """Let the next announcements contain all topics."""
        self.everything = True
        self._part = 0
        self._rest.clear()
        self._staged.clear()

    def next(self, frontend: FrontendRef, *, repeats: bool) -> Announcement:
        """Return the next announcement.

        :param repeats: whether to repeat acknowledged topics too, if there is nothing else left.
        """
        if self.everything:
            return self._next_part(frontend)
        topics = self._fitting(chain(self._gained, self._lost, self._recounted))
        counts = {topic: self._wanted(topic) for topic in topics}
        for topic, count in counts.items():
            for waiting in (self._gained, self._lost, self._recounted):
                waiting.pop(topic, None)
            certain = count and self.is_confirmed(topic)
            self._acknowledged[topic] = _COUNT_UNCERTAIN if certain else _UNCERTAIN
        settled = repeats and not (self._gained or self._lost or self._recounted)
        return self.announcement(frontend, counts, held=self._repeat() if settled else {})

    def announcement(
        self,
        frontend: FrontendRef,
        counts: Mapping[Topic, int],
        *,
        held: Mapping[Topic, int] | None = None,
        full: bool = False,
        part: int = 0,
        more: bool = False,
        lease_seconds: float | None = None,
    ) -> Announcement:
        """Return an announcement with the next sequence."""
        self._sequence += 1
        return Announcement(
            frontend=frontend,
            counts=counts,
            held=held or {},
            full=full,
            part=part,
            more=more,
            lease_seconds=self._settings.lease_seconds if lease_seconds is None else lease_seconds,
            sequence=self._sequence,
            after=self.acknowledged_sequence,
        )

    def acknowledge(self, announcement: Announcement) -> None:
        """Note that the routing table has everything in ``announcement``."""
        self.acknowledged_sequence = announcement.sequence
        if not announcement.full and not announcement.part:
            self._acknowledge_counts(announcement.counts)
            return
        self._part += 1
        self._staged.update({t: count for t, count in announcement.counts.items() if count})
        if announcement.more:
            return
        self.everything, self._part = False, 0
        self._acknowledged, self._staged = self._staged, {}
        for topic in [*self._gained, *self._lost, *self._recounted, *announcement.counts]:
            self.changed(topic)

    def fail(self, announcement: Announcement) -> None:
        """Note that nobody knows whether ``announcement`` has arrived."""
        if self.everything:
            self.begin_anew()
        for topic in announcement.counts:
            self.changed(topic)

    def _acknowledge_counts(self, counts: Mapping[Topic, int]) -> None:
        for topic, count in counts.items():
            if count:
                self._acknowledged[topic] = count
            else:
                self._acknowledged.pop(topic, None)
            self.changed(topic)

    def _next_part(self, frontend: FrontendRef) -> Announcement:
        if not self._part:
            self._rest = deque(self._all_wanted())
            self._staged.clear()
            self._acknowledged = dict.fromkeys([*self._acknowledged, *self._rest], _UNCERTAIN)
        counts = {topic: self._wanted(topic) for topic in self._fitting(self._rest)}
        for _ in counts:
            self._rest.popleft()
        return self.announcement(
            frontend, counts, full=not self._part, part=self._part, more=bool(self._rest)
        )

    def _repeat(self) -> dict[Topic, int]:
        """Return the acknowledged topics whose turn it is to be repeated, with their viewers."""
        if not self._unrepeated:
            self._unrepeated = list(self._acknowledged)
        share = len(self._acknowledged) * self._settings.announce_seconds
        due = min(math.ceil(share / self._settings.compare_seconds), len(self._unrepeated))
        topics = self._fitting(reversed(self._unrepeated[len(self._unrepeated) - due :]))
        del self._unrepeated[len(self._unrepeated) - len(topics) :]
        return {
            topic: count
            for topic in topics
            if (count := self._wanted(topic)) and count == self._acknowledged.get(topic)
        }

    def _fitting(self, topics: Iterable[Topic]) -> list[Topic]:
        """Return the first of ``topics``, as many as fit into one announcement."""
        fitting: list[Topic] = []
        size = 0
        for topic in topics:
            size += len(topic.encode())
            if len(fitting) == self._settings.part_topics:
                break
            if fitting and size > self._settings.part_bytes:
                break
            fitting.append(topic)
        return fitting
