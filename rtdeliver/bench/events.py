"""The events that benchmarks publish: each carries its number and the time at which it is due."""

import os
from collections.abc import Sequence

import msgspec

# In 2026, so that ids and times are as long as those that a dispatcher makes.
_EPOCH_MS = 1_795_000_000_000


def own_topic(name: str | int) -> str:
    """Return a topic that no other run uses."""
    return f"rtbench:{os.getpid()}:{name}"


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are due when.

    :param topics: events go to them in turns, and are numbered from 0 in each topic.
    :param rate: events per second, over all topics.
    :param data_bytes: the size of an event's data. It is larger where the numbers need more.
    :param seconds: how long events are due.
    :param start_ns: when the first event is due, in nanoseconds of CLOCK_MONOTONIC.
    """

    topics: Sequence[str]
    rate: float
    data_bytes: int
    seconds: float
    start_ns: int = 0

    @property
    def events(self) -> int:
        """How many events there are, over all topics."""
        return max(1, round(self.rate * self.seconds))

    def published(self) -> dict[int, int]:
        """Return how many events there are, by topic."""
        topics = len(self.topics)
        return {topic: len(range(topic, self.events, topics)) for topic in range(topics)}

    def due_ns(self, event: int) -> int:
        """Return when the event with this number, over all topics, is due."""
        return self.start_ns + round(event * 1e9 / self.rate)

    def topic(self, event: int) -> str:
        """Return the topic of the event with this number, over all topics."""
        return self.topics[event % len(self.topics)]

    def data(self, event: int) -> bytes:
        """Return an event's data: its number in its topic, when it is due, and padding."""
        number = event // len(self.topics)
        bare = b'{"n":%d,"t":%d,"pad":""}' % (number, self.due_ns(event))
        return b'%b%b"}' % (bare[:-2], b"x" * (self.data_bytes - len(bare)))

    def body(self, event: int) -> bytes:
        """Return the body that publishes an event to a dispatcher."""
        return b'{"topic":"%b","data":%b}' % (self.topic(event).encode(), self.data(event))

    def line(self, event: int) -> bytes:
        """Return the line that a dispatcher makes of an event."""
        return b'{"topic":"%b","type":"message","id":"%b","at":%d,"data":%b}' % (
            self.topic(event).encode(),
            self._id(event),
            self._at_ms(event),
            self.data(event),
        )

    def frame(self, event: int) -> bytes:
        """Return the frame in which a frontend sends an event to a viewer."""
        return b"id: %b\ndata: %b\n\n" % (self._id(event), self.line(event))

    def _at_ms(self, event: int) -> int:
        return _EPOCH_MS + self.due_ns(event) // 1_000_000

    def _id(self, event: int) -> bytes:
        return b"%d-%d-k2x9qa" % (self._at_ms(event), event % 10)


class Begin(msgspec.Struct, frozen=True):
    """Tells a process that publishes when the first event is due."""

    start_ns: int


class Published(msgspec.Struct, frozen=True):
    """What a process that publishes reports at its end.

    :param counts: how many events were accepted, by topic.
    :param late_seconds: the longest time by which an event was sent late.
    """

    counts: dict[int, int]
    late_seconds: float
