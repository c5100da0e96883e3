"""One reader process: it holds many event streams and reads all that they receive."""

import gc
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from urllib.parse import quote, urlsplit

import msgspec

from rtdeliver.bench.chunks import ChunkCache
from rtdeliver.bench.http import address_of
from rtdeliver.bench.latency import LatencyHistogram
from rtdeliver.bench.machine import BenchError
from rtdeliver.bench.tally import STEP_NS, STEPS_PER_SECOND, Continuity, Latencies, Window

SPARE_DESCRIPTORS = 100

_READ_BYTES = 65_536
_EVENTS = 512
# With fewer streams to read, the reader waits a moment for more. Otherwise it would wake for each,
# at the cost of the sender, which browsers on other machines do not cause. The wait counts as
# latency.
_FEW_EVENTS = 64
_NAP_SECONDS = 0.0002
_POLL_SECONDS = 0.05
_ASK_EVERY_STEPS = STEPS_PER_SECOND // 20
_TELL_SECONDS = 0.2
_CHUNKS_AT_LEISURE = 16
_NEVER = 1 << 62
# From linux/in.h. The socket module of Python 3.11 does not have it.
_IP_BIND_ADDRESS_NO_PORT = 24


class ReaderPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which streams a reader opens.

    :param url: the server's; each stream's topic is appended to it.
    :param topics: the streams watch these in turns.
    :param first: the number of the first stream among those of all readers.
    :param streams: how many streams there are.
    :param sources: the streams come from these addresses in turns; if empty, the kernel chooses.
    :param in_flight: how many streams may be opening at a time.
    :param open_seconds: how long it may take to open all of them.
    """

    url: str
    topics: Sequence[str]
    first: int
    streams: int
    sources: Sequence[str]
    in_flight: int
    open_seconds: float


class Opened(msgspec.Struct, frozen=True):
    """How many of the streams are open so far, and how many seconds that took."""

    streams: int
    of: int
    seconds: float


class Measure(msgspec.Struct, frozen=True):
    """Tells a reader to measure the events due in the window; it confirms by sending this back."""

    window: Window


class EndWindow(msgspec.Struct, frozen=True):
    """Tells a reader to measure no events that are due from ``end_ns`` on; not answered.

    It must come within a second, before the reader adds up what it has received since ``end_ns``.
    """

    end_ns: int


class Reopen(msgspec.Struct, frozen=True):
    """Tells a reader to close all streams and open them again at once; see `Opened`."""


class Finish(msgspec.Struct, frozen=True):
    """Tells a reader to read until all events have come; answered with an `Outcome`.

    :param published: how many events there are, by topic.
    :param seconds: how long to wait for them at most.
    """

    published: Mapping[int, int]
    seconds: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What streams received.

    :param received: events over all streams, in the window or not.
    :param receives: reads that brought them.
    :param lost: events that did not come.
    :param twice: events that came again.
    :param out_of_order: events that came after a later one.
    :param gaps: ``gap`` frames.
    :param ended: streams that the server closed.
    :param per_second: events received in each second of the window.
    :param latency: of the events of the window, from the time at which each was due to be
        published.
    """

    received: int
    receives: int
    lost: int
    twice: int
    out_of_order: int
    gaps: int
    ended: int
    per_second: list[int]
    latency: LatencyHistogram


def read_streams(link: Connection, plan: ReaderPlan) -> None:
    """Open streams, and read them as the parent orders, until its pipe closes."""
    gc.disable()  # A collection would find no cycles here, and would count as latency.
    reader = _Reader(link, plan)
    reader.open(in_flight=plan.in_flight)
    while True:
        reader.read_until(link.poll)
        order = link.recv()
        if isinstance(order, Measure):
            reader.measure(order.window)
            link.send(order)
        elif isinstance(order, EndWindow):
            reader.end_window(order.end_ns)
        elif isinstance(order, Reopen):
            reader.open(in_flight=plan.streams)
        else:
            link.send(reader.finish(order.published, order.seconds))


class _Opening:
    """A stream that is not open yet.

    :ivar request: the part of the request that is still to be sent.
    :ivar head: the part of the answer's head that has arrived.
    """

    __slots__ = ("head", "request")

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.head = b""


class _Reader:
    """The streams of one process, each identified by its file descriptor."""

    def __init__(self, link: Connection, plan: ReaderPlan) -> None:
        self._link = link
        self._plan = plan
        self._address = address_of(plan.url)
        self._epoll = select.epoll()
        self._topics = {topic: number for number, topic in enumerate(plan.topics)}
        self._latencies = Latencies(Window(0, 0))
        self._sockets: dict[int, socket.socket] = {}
        self._clear()

    def open(self, *, in_flight: int) -> None:
        """Close all streams, then open them, and report the progress to the parent.

        :param in_flight: how many streams may be opening at a time.
        """
        started = time.monotonic()
        self._clear()
        wanted = iter(range(self._plan.first, self._plan.first + self._plan.streams))
        told = 0.0
        while self._connect_some(wanted, in_flight):
            for descriptor, _ in self._epoll.poll(_POLL_SECONDS, _EVENTS):
                self._advance(descriptor)
            seconds = time.monotonic() - started
            if seconds > self._plan.open_seconds:
                raise BenchError(f"only {self._open_count()} streams open in {seconds:.0f} s")
            if seconds - told >= _TELL_SECONDS and self._opening:
                told = seconds
                self._tell(seconds)
        self._tell(time.monotonic() - started)

    def measure(self, window: Window) -> None:
        """Measure the events that are due in ``window``."""
        self._latencies = Latencies(window)

    def end_window(self, end_ns: int) -> None:
        """Measure no events that are due from ``end_ns`` on."""
        self._latencies.end_at(end_ns)

    def finish(self, published: Mapping[int, int], seconds: float) -> Outcome:
        """Read until all events have come, for ``seconds`` at most; return what was received."""
        deadline = time.monotonic() + seconds
        self.read_until(lambda: time.monotonic() > deadline or not self._continuity.lost(published))
        while chunk := self._cache.forget_old(_NEVER):
            self._latencies.add(chunk)
        return Outcome(
            received=self._latencies.received - self._continuity.twice,
            receives=self._latencies.receives,
            lost=self._continuity.lost(published),
            twice=self._continuity.twice,
            out_of_order=self._continuity.out_of_order,
            gaps=self._gaps,
            ended=self._plan.streams - len(self._sockets),
            per_second=self._latencies.per_second,
            latency=self._latencies.histogram(),
        )

    def read_until(self, done: Callable[[], bool]) -> None:
        """Read all streams until ``done()`` is true, which is checked regularly.

        This loop must keep up with a million events a second. For bytes that it knows already, it
        does one read, one look-up, one comparison and one count.
        """
        poll, read, clock = self._epoll.poll, os.read, time.monotonic_ns
        expected, rests, chunks = self._continuity.expected, self._rests, self._cache.chunks
        asked = 0
        while True:
            events = poll(_POLL_SECONDS, _EVENTS)
            for descriptor, _ in events:
                try:
                    data = read(descriptor, _READ_BYTES)
                except OSError:
                    data = b""
                step = clock() // STEP_NS
                chunk = chunks.get(data)
                if (
                    chunk is not None
                    and chunk.first == expected[descriptor]
                    and not rests[descriptor]
                ):
                    expected[descriptor] = chunk.next
                    times = chunk.times
                    times[step] = times.get(step, 0) + 1
                else:
                    self._take(descriptor, data, step)
            now = clock() // STEP_NS
            self._add_old(now, busy=len(events) >= _FEW_EVENTS)
            if now - asked >= _ASK_EVERY_STEPS:
                asked = now
                if done():
                    return
            if 0 < len(events) < _FEW_EVENTS:
                time.sleep(_NAP_SECONDS)

    # Reading.

    def _take(self, descriptor: int, data: bytes, step: int) -> None:
        """Take bytes that are new, do not come next, or follow an incomplete frame."""
        if not data:
            self._sockets.pop(descriptor).close()
            return
        data = self._rests[descriptor] + data
        chunk = self._cache.chunks.get(data) or self._cache.learn(data, step)
        self._rests[descriptor] = chunk.rest
        self._continuity.take(descriptor, chunk.numbers)
        self._gaps += chunk.gaps
        chunk.times[step] = chunk.times.get(step, 0) + 1

    def _add_old(self, now: int, *, busy: bool) -> None:
        """Add up some of the chunks that streams will not receive any more."""
        for _ in range(1 + len(self._cache) // 1000 if busy else _CHUNKS_AT_LEISURE):
            chunk = self._cache.forget_old(now)
            if chunk is None:
                return
            self._latencies.add(chunk)

    # Opening.

    def _clear(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        limit = self._plan.streams + SPARE_DESCRIPTORS
        self._sockets = {}
        self._opening: dict[int, _Opening] = {}
        self._rests = [b""] * limit
        self._continuity = Continuity(limit)
        self._cache = ChunkCache(self._topics, steps=STEPS_PER_SECOND)
        self._gaps = 0

    def _open_count(self) -> int:
        return len(self._sockets) - len(self._opening)

    def _tell(self, seconds: float) -> None:
        self._link.send(Opened(self._open_count(), self._plan.streams, seconds))

    def _connect_some(self, wanted: Iterator[int], in_flight: int) -> bool:
        """Connect further streams, as many as may be opening; return whether any is opening."""
        while len(self._opening) < in_flight:
            number = next(wanted, None)
            if number is None:
                break
            self._connect(number)
        return bool(self._opening)

    def _connect(self, number: int) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if self._plan.sources:
            # The kernel then chooses the port at the connect, and may use one for several servers.
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((self._plan.sources[number % len(self._plan.sources)], 0))
        with suppress(BlockingIOError):
            sock.connect(self._address)
        topic = number % len(self._plan.topics)
        descriptor = sock.fileno()
        self._sockets[descriptor] = sock
        self._opening[descriptor] = _Opening(
            stream_request(self._plan.url, self._plan.topics[topic])
        )
        self._continuity.start(descriptor, topic)
        self._epoll.register(sock, select.EPOLLOUT)

    def _advance(self, descriptor: int) -> None:
        """Take the next step to open a stream, or read it if it is open."""
        sock = self._sockets[descriptor]
        opening = self._opening.get(descriptor)
        if opening is not None and opening.request:
            opening.request = opening.request[sock.send(opening.request) :]
            if not opening.request:
                self._epoll.modify(sock, select.EPOLLIN)
            return
        data = sock.recv(_READ_BYTES)
        if opening is not None:
            if not data:
                raise BenchError("the server closed a stream before it was open")
            opening.head += data
            if b"\r\n\r\n" not in opening.head:
                return
            # All streams of a server come in the same coding.
            data, self._cache.is_coded = after_head(opening.head)
            del self._opening[descriptor]
        if data or opening is None:
            self._take(descriptor, data, time.monotonic_ns() // STEP_NS)


def stream_request(url: str, topic: str) -> bytes:
    """Return the request for a stream of ``topic``, which is appended to ``url``."""
    target = urlsplit(url + quote(topic, safe=""))
    return (
        f"GET {target.path}?{target.query} HTTP/1.1\r\n"
        f"Host: {target.netloc}\r\n"
        "Accept: text/event-stream\r\n\r\n"
    ).encode()


def after_head(answer: bytes) -> tuple[bytes, bool]:
    """Return what follows the head of the answer that opens a stream, and if it comes in chunks.

    :raises BenchError: if the answer does not open a stream.
    """
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.lower().split(b"\r\n")
    if not status.startswith(b"http/1.1 200 "):
        raise BenchError(f"a stream was refused: {status.decode(errors='replace')}")
    if not any(field.startswith(b"content-type: text/event-stream") for field in fields):
        raise BenchError("a stream was answered without the type text/event-stream")
    return body, b"transfer-encoding: chunked" in fields
