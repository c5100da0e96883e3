"""What is in the bytes that a stream has received at once.

Many streams receive the same bytes, so these are parsed the first time only.
"""

from collections import deque
from collections.abc import Mapping

import msgspec

from rtdeliver.bench.machine import BenchError

# Topics keep their numbers apart by the bits above these.
_NUMBER_BITS = 32
# A chunk has no first number that a stream could wait for, unless it is all in order.
NOT_PLAIN = -1


class _Data(msgspec.Struct):
    """The data of an event that was published here: its number, and when it was due."""

    n: int
    t: int


class _Line(msgspec.Struct):
    topic: str
    data: _Data


class _Gap(msgspec.Struct):
    lost: int | None


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_gap = msgspec.json.Decoder(_Gap).decode


def first_number(topic: int) -> int:
    """Return what the first event of the topic with this number counts as."""
    return topic << _NUMBER_BITS


def topic_of(number: int) -> int:
    """Return which topic an event of this number belongs to."""
    return number >> _NUMBER_BITS


class Chunk:
    """Parsed bytes.

    :ivar first: the number of the first event, or `NOT_PLAIN` unless there are only whole events
        of consecutive numbers.
    :ivar next: the number after the last one.
    :ivar numbers: those of all events.
    :ivar dues: CLOCK_MONOTONIC in nanoseconds at which each event was due to be published.
    :ivar rest: the beginning of a frame that is not complete.
    :ivar gaps: how many frames told of lost events.
    :ivar greetings: how many frames told that the stream is connected.
    :ivar born: when it was parsed, in steps.
    :ivar times: how often it was received, by the time in steps.
    """

    __slots__ = (
        "born", "data", "dues", "first", "gaps", "greetings", "next", "numbers", "rest", "times",
    )  # fmt: skip

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.first = NOT_PLAIN
        self.next = NOT_PLAIN
        self.numbers: list[int] = []
        self.dues: list[int] = []
        self.rest = b""
        self.gaps = 0
        self.greetings = 0
        self.born = 0
        self.times: dict[int, int] = {}


def parse(data: bytes, topics: Mapping[str, int]) -> Chunk:
    """Parse bytes that begin where a frame may begin.

    :param topics: the numbers of the topics that are published to.
    :raises BenchError: if they are no event stream, or end it.
    """
    chunk = Chunk(data)
    *frames, rest = data.split(b"\n\n")
    for frame in frames:
        _parse_frame(chunk, frame, topics)
    while rest.startswith(b":") and b"\n" in rest:
        rest = rest.partition(b"\n")[2]
    chunk.rest = rest
    if chunk.numbers and not (rest or chunk.gaps or chunk.greetings):
        first = chunk.numbers[0]
        if chunk.numbers == list(range(first, first + len(chunk.numbers))):
            chunk.first = first
            chunk.next = first + len(chunk.numbers)
    return chunk


class ChunkCache:
    """Chunks by their bytes, each for as long as streams are about to receive it.

    :param topics: see `parse`.
    :param steps: after how many steps a chunk is old.
    """

    def __init__(self, topics: Mapping[str, int], *, steps: int) -> None:
        self._topics = topics
        self._steps = steps
        self._by_age: deque[Chunk] = deque()
        self.chunks: dict[bytes, Chunk] = {}

    def __len__(self) -> int:
        return len(self._by_age)

    def learn(self, data: bytes, now: int) -> Chunk:
        """Parse ``data``, and remember it, unless it is for one stream alone.

        :param now: the time in steps.
        """
        chunk = parse(data, self._topics)
        chunk.born = now
        self._by_age.append(chunk)
        if not chunk.greetings:
            self.chunks[data] = chunk
        return chunk

    def forget_old(self, now: int) -> Chunk | None:
        """Return the oldest chunk, and forget it, if it is old at ``now``."""
        if not self._by_age or now - self._by_age[0].born < self._steps:
            return None
        chunk = self._by_age.popleft()
        self.chunks.pop(chunk.data, None)
        return chunk


def _parse_frame(chunk: Chunk, frame: bytes, topics: Mapping[str, int]) -> None:
    fields = _fields(frame)
    event = fields.get(b"event", b"message")
    try:
        if event == b"message":
            _parse_event(chunk, fields, topics)
        elif event == b"gap":
            _decode_gap(fields[b"data"])
            chunk.gaps += 1
        elif event == b"connected":
            chunk.greetings += 1
        else:
            raise BenchError(f"a stream was ended: {fields.get(b'data', event).decode()}")
    except (KeyError, msgspec.DecodeError):
        raise BenchError(f"a stream sent what is no event of this measurement: {frame!r}") from None


def _parse_event(chunk: Chunk, fields: Mapping[bytes, bytes], topics: Mapping[str, int]) -> None:
    if b"data" not in fields and b"id" not in fields:
        return
    line = _decode_line(fields[b"data"])
    chunk.numbers.append(first_number(topics[line.topic]) + line.data.n)
    chunk.dues.append(line.data.t)


def _fields(frame: bytes) -> dict[bytes, bytes]:
    """Return the fields of a frame; no frame here has two lines of one."""
    pairs = (line.partition(b":") for line in frame.split(b"\n") if line)
    return {name: value.removeprefix(b" ") for name, _, value in pairs if name}
