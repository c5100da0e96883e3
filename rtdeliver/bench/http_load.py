"""Publishes as fast as a process can: prepared requests, keep-alive connections."""

import gc
import random
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from multiprocessing.connection import Connection

import msgspec

from rtdeliver.bench.latency import LatencyHistogram
from rtdeliver.bench.machine import BenchError
from rtdeliver.bench.processes import Child

READ_BYTES = 262_144
ANSWER_SECONDS = 10.0
_CONNECT_SECONDS = 10.0
_START_SECONDS = 30.0
_PROGRESS_SECONDS = 0.2
_HEAD_BYTES = 65_536
_BODY_BYTES = 16_777_216
_CHOSEN = 65_536
_TIME = b"@time@"


class Head(msgspec.Struct, frozen=True):
    """The head of a request or an answer.

    :param fields: by lower-case name.
    :param length: of the body, in bytes.
    """

    first_line: str
    fields: dict[str, str]
    length: int

    @property
    def status(self) -> int:
        """The status of an answer.

        :raises BenchError: if this is not the head of an answer.
        """
        version, _, rest = self.first_line.partition(" ")
        if version != "HTTP/1.1" or not rest[:3].isdecimal():
            raise BenchError(f"{self.first_line[:100]!r} is not the status line of an answer")
        return int(rest[:3])


# Most heads of a run equal an earlier one.
@lru_cache(maxsize=1024)
def parse_head(head: bytes) -> Head:
    """Parse a head, without the empty line that ends it.

    :raises BenchError: if it is malformed or has no ``Content-Length``.
    """
    first_line, *lines = head.decode("latin-1").split("\r\n")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name.lower() in fields:
            raise BenchError(f"{line[:100]!r} is not a header field, or is repeated")
        fields[name.lower()] = value.strip()
    length = fields.get("content-length", "")
    if "transfer-encoding" in fields or not (length.isascii() and length.isdecimal()):
        raise BenchError(f"no Content-Length after {first_line[:100]!r}")
    return Head(first_line, fields, int(length))


class Messages:
    """Splits the bytes of one connection into requests or answers."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[Head, bytes]]:
        """Add ``data``, and return head and body of each message that is complete now.

        :raises BenchError: if it is not HTTP, or larger than any message of a benchmark.
        """
        data = self._rest + data if self._rest else data
        messages = []
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = parse_head(data[:end])
            stop = end + 4 + head.length
            if head.length > _BODY_BYTES:
                raise BenchError(f"a body has {head.length} bytes; {_BODY_BYTES} are allowed")
            if len(data) < stop:
                break
            messages.append((head, data[end + 4 : stop]))
            data = data[stop:]
        else:
            if len(data) > _HEAD_BYTES:
                raise BenchError(f"a head has more than {_HEAD_BYTES} bytes")
        self._rest = data
        return messages


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to publish.

    :param connections: each has one request in flight at most.
    :param seconds: how long requests are sent; answers may come later.
    :param rate: events per second, over all connections. With 0, a connection sends its next
        request as soon as it has the answer to the last one.
    :param templates: bodies made by `template`; the connections take them in turns.
    :param events: how many events each body has.
    """

    host: str
    port: int
    connections: int
    seconds: float
    rate: float
    content_type: str
    templates: Sequence[bytes]
    events: int


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a load.

    :param accepted: requests answered 202 with the right body, by template.
    :param refused: requests answered otherwise.
    :param refusal: the first such answer.
    :param unanswered: requests without a complete answer `ANSWER_SECONDS` after the last request.
    :param not_begun: requests never sent, since all connections were waiting for answers.
    :param seconds: from the first request to the last answer.
    :param latencies: from when a request was sent, or with a rate from when it was due, until its
        answer was read.
    :param per_second: events accepted in each second.
    """

    accepted: list[int]
    refused: int
    refusal: str
    unanswered: int
    not_begun: int
    seconds: float
    cpu_seconds: float
    latencies: LatencyHistogram
    per_second: list[int]


def template(topics: Sequence[str], pad: int) -> bytes:
    """Return the template of a body with one event for each topic, one event a line.

    `filled` puts in the number and the time of each event.

    :param pad: bytes of padding in each event.
    """
    filling = b"x" * pad
    return b"\n".join(
        b'{"topic":%b,"data":{"n":%%d,"t":%b,"pad":"%b"}}'
        % (msgspec.json.encode(topic).replace(b"%", b"%%"), _TIME, filling)
        for topic in topics
    )


def choices(topics: Sequence[str], *, events: int) -> list[list[str]]:
    """Return the topics of the events of enough bodies, chosen at random.

    Every run makes the same choice.
    """
    chance = random.Random(0)
    bodies = 1 if len(topics) == 1 else max(_CHOSEN // events, 1)
    return [chance.choices(topics, k=events) for _ in range(bodies)]


def filled(body: bytes, numbers: range, nanoseconds: int) -> bytes:
    """Return a body made of a template: each event gets its number, and all get one time."""
    return body.replace(_TIME, b"%d" % nanoseconds) % tuple(numbers)


def numbers(connection: int, connections: int, request: int, events: int) -> range:
    """Return the numbers of the events of one request.

    The numbers of a connection grow. A number modulo ``connections`` is the connection, so a
    receiver knows which connection published an event, and can check the order.
    """
    first = request * events * connections + connection
    return range(first, first + events * connections, connections)


class _Accepted(msgspec.Struct):
    id: str = ""
    accepted: int = 0


_accepted_body = msgspec.json.Decoder(_Accepted)


def events_accepted(head: Head, body: bytes) -> int:
    """Return how many events were accepted according to an answer; 0 if it is a refusal.

    :raises BenchError: if it is not an answer to a publish.
    """
    if head.status != 202:
        return 0
    try:
        answer = _accepted_body.decode(body)
    except msgspec.DecodeError as error:
        raise BenchError(f"cannot decode the answer to a publish: {error}") from None
    return answer.accepted or (1 if answer.id else 0)


class _Producer:
    """One connection and the request that is in flight on it.

    :ivar begun: when the request was sent, or was due if there is a rate, in nanoseconds.
    """

    __slots__ = ("begun", "in_flight", "messages", "number", "requests", "rest", "sock", "template")

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self.sock = sock
        self.messages = Messages()
        self.requests = 0
        self.template = 0
        self.begun = 0
        self.in_flight = False
        self.rest = b""


class _Generator:
    """Publishes a load, and reads and counts the answers."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._head = (
            f"POST /publish HTTP/1.1\r\nHost: {load.host}:{load.port}\r\n"
            f"Content-Type: {load.content_type}\r\nContent-Length: %d\r\n\r\n"
        ).encode()
        self._next_template = 0
        self._accepted = [0] * len(load.templates)
        self._refused = 0
        self._refusal = ""
        self._not_begun = 0
        self._latencies = LatencyHistogram()
        self._per_second = [0] * (int(load.seconds + ANSWER_SECONDS) + 2)
        self._poller = select.epoll()
        self._idle: deque[_Producer] = deque()
        self._producers: dict[int, _Producer] = {}
        self._in_flight = 0

    def run(self) -> LoadResult:
        """Publish for the load's seconds, then wait for the last answers."""
        self._connect()
        cpu_begun = time.process_time()
        begun = time.monotonic_ns()
        ended = self._publish(begun)
        return LoadResult(
            accepted=self._accepted,
            refused=self._refused,
            refusal=self._refusal,
            unanswered=self._in_flight,
            not_begun=self._not_begun,
            seconds=(ended - begun) / 1e9,
            cpu_seconds=time.process_time() - cpu_begun,
            latencies=self._latencies,
            per_second=self._per_second[: int((ended - begun) / 1e9) + 1],
        )

    def _connect(self) -> None:
        address = (self._load.host, self._load.port)
        for number in range(self._load.connections):
            sock = socket.create_connection(address, timeout=_CONNECT_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            producer = self._producers[sock.fileno()] = _Producer(number, sock)
            self._poller.register(sock, select.EPOLLIN)
            self._idle.append(producer)

    def _publish(self, begun: int) -> int:
        """Publish; return when the last answer was read, or when waiting for it ended."""
        due = begun
        interval = int(1e9 * self._load.events / self._load.rate) if self._load.rate else 0
        end = begun + int(self._load.seconds * 1e9)
        give_up = end + int(ANSWER_SECONDS * 1e9)
        while (now := time.monotonic_ns()) < give_up:
            if now < end:
                while self._idle and due <= now:
                    self._begin(self._idle.popleft(), due if interval else time.monotonic_ns())
                    due += interval
                self._read_answers(begun, min(due, end) if self._idle else end)
            elif self._in_flight:
                self._read_answers(begun, give_up)
            else:
                break
        self._not_begun = max(0, end - due) // interval if interval else 0
        return time.monotonic_ns()

    def _read_answers(self, begun: int, until: int) -> None:
        # epoll waits for whole milliseconds only, which would make requests late.
        seconds = max(0, until - time.monotonic_ns()) / 1e9
        ready = self._poller.poll(0)
        if not ready:
            select.select([self._poller], [], [], seconds)
            ready = self._poller.poll(0)
        for fd, events in ready:
            producer = self._producers[fd]
            if events & select.EPOLLOUT:
                self._send(producer, producer.rest)
            if events & ~select.EPOLLOUT:
                self._read(producer, begun)

    def _begin(self, producer: _Producer, due: int) -> None:
        load = self._load
        producer.template = self._next_template
        self._next_template = (self._next_template + 1) % len(load.templates)
        own = numbers(producer.number, load.connections, producer.requests, load.events)
        producer.requests += 1
        producer.begun = due
        producer.in_flight = True
        self._in_flight += 1
        body = filled(load.templates[producer.template], own, due)
        self._send(producer, self._head % len(body) + body)

    def _send(self, producer: _Producer, data: bytes) -> None:
        was_waiting = bool(producer.rest)
        try:
            producer.rest = data[producer.sock.send(data) :]
        except BlockingIOError:
            producer.rest = data
        if bool(producer.rest) != was_waiting:
            writing = select.EPOLLOUT if producer.rest else 0
            self._poller.modify(producer.sock, select.EPOLLIN | writing)

    def _read(self, producer: _Producer, begun: int) -> None:
        data = producer.sock.recv(READ_BYTES)
        if not data:
            raise BenchError("the dispatcher closed a connection")
        for head, body in producer.messages.feed(data):
            now = time.monotonic_ns()
            if not producer.in_flight or producer.rest:
                raise BenchError("the dispatcher sent an answer without a request")
            producer.in_flight = False
            self._in_flight -= 1
            self._idle.append(producer)
            self._count(producer, head, body, begun, now)

    def _count(self, producer: _Producer, head: Head, body: bytes, begun: int, now: int) -> None:
        if events_accepted(head, body) == self._load.events:
            self._accepted[producer.template] += 1
            self._latencies.add((now - producer.begun) // 1000)
            self._per_second[(now - begun) // 1_000_000_000] += self._load.events
        else:
            self._refused += 1
            self._refusal = self._refusal or f"{head.first_line}: {body[:200]!r}"


def publish(load: Load) -> LoadResult:
    """Publish a load from this process.

    :raises BenchError: if the dispatcher cannot be reached, closes a connection, or sends an
        answer that cannot be decoded.
    """
    try:
        return _Generator(load).run()
    except OSError as error:
        raise BenchError(f"cannot publish to {load.host}:{load.port}: {error}") from None


def publish_apart(load: Load, elapsed: Callable[[float], None]) -> LoadResult:
    """Publish a load from a process of its own.

    :param elapsed: called regularly with the seconds since the beginning.
    :raises BenchError: as for `publish`.
    """
    begun = time.monotonic()
    limit = begun + load.seconds + ANSWER_SECONDS + _START_SECONDS
    with Child("the producers' process", _publish_for_parent, load) as child:
        while not child.has_sent() and time.monotonic() < limit:
            elapsed(time.monotonic() - begun)
            time.sleep(_PROGRESS_SECONDS)
        result: LoadResult = child.receive(0)
        return result


def _publish_for_parent(link: Connection, load: Load) -> None:
    # The work for a request makes no reference cycles, so there is nothing to collect.
    gc.disable()
    link.send(publish(load))
