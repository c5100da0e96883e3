"""Counts what streams received: lost, repeated and late events."""

from collections.abc import Mapping, Sequence

import msgspec

from rtdeliver.bench.chunks import Chunk, first_number, topic_of
from rtdeliver.bench.latency import LatencyHistogram
from rtdeliver.bench.machine import BenchError

STEP_NS = 250_000
STEPS_PER_SECOND = 1_000_000_000 // STEP_NS
_LATEST_SECONDS = 120


class Continuity:
    """Checks that each stream receives every number of its topic, once and in order.

    :param streams: how many streams there may be; their numbers are below this one.
    :ivar expected: by stream, the number that comes next. For chunks that begin with it, the loop
        that reads the streams updates it directly.
    """

    def __init__(self, streams: int) -> None:
        self.expected = [0] * streams
        self.twice = 0
        self.out_of_order = 0
        self._topics: dict[int, int] = {}
        self._missing: dict[int, set[int]] = {}

    def start(self, stream: int, topic: int, number: int = 0) -> None:
        """Expect the events of ``topic`` from ``number`` on."""
        self._topics[stream] = topic
        self.expected[stream] = first_number(topic) + number

    def take(self, stream: int, numbers: Sequence[int]) -> None:
        """Check events in the order in which a stream received them.

        :raises BenchError: if an event is not of the stream's topic.
        """
        expected = self.expected[stream]
        for number in numbers:
            if topic_of(number) != self._topics[stream]:
                raise BenchError("a stream received an event of a topic that it does not watch")
            if number == expected:
                expected += 1
            elif number > expected:
                self._missing.setdefault(stream, set()).update(range(expected, number))
                expected = number + 1
            else:
                self._count_late(stream, number)
        self.expected[stream] = expected

    def lost(self, published: Mapping[int, int]) -> int:
        """Return how many events have not come.

        :param published: how many there are, by topic.
        """
        behind = sum(
            first_number(topic) + published.get(topic, 0) - self.expected[stream]
            for stream, topic in self._topics.items()
        )
        return behind + sum(map(len, self._missing.values()))

    def _count_late(self, stream: int, number: int) -> None:
        missing = self._missing.get(stream, set())
        if number in missing:
            missing.discard(number)
            self.out_of_order += 1
        else:
            self.twice += 1


class Window(msgspec.Struct, frozen=True):
    """The time in which measured events are due; it begins at ``start_ns`` of CLOCK_MONOTONIC."""

    start_ns: int
    seconds: int

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.seconds * 1_000_000_000


class Latencies:
    """The latencies of the events due in a window, and how many events came in each second of it.

    Times of receipt are known in steps of 0.25 ms, and latencies are rounded up to a step.
    """

    def __init__(self, window: Window) -> None:
        self.per_second = [0] * window.seconds
        self.received = 0
        self.receives = 0
        self._window = window
        self._end_ns = window.end_ns
        self._steps = [0] * (_LATEST_SECONDS * STEPS_PER_SECOND)

    def end_at(self, end_ns: int) -> None:
        """Measure no further events that are due from ``end_ns`` on."""
        self._end_ns = min(end_ns, self._end_ns)

    def add(self, chunk: Chunk) -> None:
        """Count a chunk's events for each time that it was received since the last call."""
        window = self._window
        dues = [due // STEP_NS for due in chunk.dues if window.start_ns <= due < self._end_ns]
        first_step = window.start_ns // STEP_NS
        steps, latest = self._steps, len(self._steps) - 1
        for step, count in chunk.times.items():
            self.receives += count if chunk.dues else 0
            self.received += count * len(chunk.dues)
            second = (step - first_step) // STEPS_PER_SECOND
            if 0 <= second < window.seconds:
                self.per_second[second] += count * len(chunk.dues)
            for due in dues:
                steps[min(step - due, latest)] += count
        chunk.times = {}

    def histogram(self) -> LatencyHistogram:
        found = LatencyHistogram()
        for step, count in enumerate(self._steps):
            if count:
                found.add((step + 1) * (STEP_NS // 1000), count)
        return found
