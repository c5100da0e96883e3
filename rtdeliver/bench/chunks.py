"""Parses the bytes that a stream receives at once.

Many streams receive the same bytes, so they are parsed the first time only.
"""

from collections import deque
from collections.abc import Mapping

import msgspec

from rtdeliver.bench.machine import BenchError

# An event's number has the number of its topic above these bits.
_NUMBER_BITS = 32
# The first number of a chunk that is not made of whole events in order: no stream expects it.
NOT_PLAIN = -1


class _Data(msgspec.Struct):
    """The data of an event of a benchmark: its number, and when it was due."""

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
    """Return the number of the first event of a topic, itself given by number."""
    return topic << _NUMBER_BITS


def topic_of(number: int) -> int:
    """Return the topic of the event with this number."""
    return number >> _NUMBER_BITS


class Chunk:
    """Parsed bytes.

    :ivar first: the number of the first event. `NOT_PLAIN` if the chunk has anything but whole
        events with consecutive numbers.
    :ivar next: the number after the last one.
    :ivar numbers: the numbers of all events.
    :ivar dues: when each event was due to be published, in nanoseconds of CLOCK_MONOTONIC.
    :ivar rest: the beginning of a frame that is not complete.
    :ivar gaps: how many ``gap`` frames there are.
    :ivar greetings: how many ``connected`` frames there are.
    :ivar born: when the chunk was parsed, in steps.
    :ivar times: how often streams received it, by the time in steps.
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


def parse(data: bytes, topics: Mapping[str, int], *, is_coded: bool = False) -> Chunk:
    """Parse bytes that begin at the beginning of a frame.

    :param topics: the numbers of the topics that are published to.
    :param is_coded: whether the bytes come in the chunked transfer coding.
    :raises BenchError: if they are not an event stream of a benchmark, or if they end it.
    """
    chunk = Chunk(data)
    content, uncoded_rest = _uncoded(data) if is_coded else (data, b"")
    *frames, rest = content.split(b"\n\n")
    for frame in frames:
        _parse_frame(chunk, frame, topics)
    while rest.startswith(b":") and b"\n" in rest:
        rest = rest.partition(b"\n")[2]
    if is_coded and rest:
        raise BenchError("a stream sent a part of a frame in a chunk, which rtbench does not read")
    rest = chunk.rest = uncoded_rest or rest
    if chunk.numbers and not (rest or chunk.gaps or chunk.greetings):
        first = chunk.numbers[0]
        if chunk.numbers == list(range(first, first + len(chunk.numbers))):
            chunk.first = first
            chunk.next = first + len(chunk.numbers)
    return chunk


class ChunkCache:
    """Chunks by their bytes, each kept for as long as streams may still receive it.

    :param topics: see `parse`.
    :param steps: after how many steps a chunk is old.
    :ivar is_coded: see `parse`.
    """

    def __init__(self, topics: Mapping[str, int], *, steps: int) -> None:
        self.is_coded = False
        self._topics = topics
        self._steps = steps
        self._by_age: deque[Chunk] = deque()
        self.chunks: dict[bytes, Chunk] = {}

    def __len__(self) -> int:
        return len(self._by_age)

    def learn(self, data: bytes, now: int) -> Chunk:
        """Parse ``data``, and cache it unless it is for one stream only.

        :param now: the time in steps.
        """
        chunk = parse(data, self._topics, is_coded=self.is_coded)
        chunk.born = now
        self._by_age.append(chunk)
        if not chunk.greetings:
            self.chunks[data] = chunk
        return chunk

    def forget_old(self, now: int) -> Chunk | None:
        """Remove and return the oldest chunk if it is old at ``now``; return ``None`` if not."""
        if not self._by_age or now - self._by_age[0].born < self._steps:
            return None
        chunk = self._by_age.popleft()
        self.chunks.pop(chunk.data, None)
        return chunk


def _uncoded(data: bytes) -> tuple[bytes, bytes]:
    """Return what is in complete chunks of a transfer coding, and the beginning of another one."""
    content: list[bytes] = []
    while True:
        line, end, rest = data.partition(b"\r\n")
        size = int(line, 16) if end else 0
        if not end or len(rest) < size + 2:
            return b"".join(content), data
        if not size:
            raise BenchError("the server ended a stream")
        content.append(rest[:size])
        data = rest[size + 2 :]


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
            raise BenchError(f"the server ended a stream: {fields.get(b'data', event).decode()}")
    except (KeyError, msgspec.DecodeError):
        raise BenchError(
            f"a stream sent a frame that is no event of this benchmark: {frame!r}"
        ) from None


def _parse_event(chunk: Chunk, fields: Mapping[bytes, bytes], topics: Mapping[str, int]) -> None:
    if b"data" not in fields and b"id" not in fields:
        return
    line = _decode_line(fields[b"data"])
    chunk.numbers.append(first_number(topics[line.topic]) + line.data.n)
    chunk.dues.append(line.data.t)


def _fields(frame: bytes) -> dict[bytes, bytes]:
    """Return the fields of a frame. In these streams no field has two lines."""
    pairs = (line.partition(b":") for line in frame.split(b"\n") if line)
    return {name: value.removeprefix(b" ") for name, _, value in pairs if name}
