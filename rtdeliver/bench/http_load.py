"""What a process can publish: prepared requests over keep-alive connections, every answer read."""

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
        """Of an answer.

        :raises BenchError: if this is none.
        """
        version, _, rest = self.first_line.partition(" ")
        if version != "HTTP/1.1" or not rest[:3].isdecimal():
            raise BenchError(f"{self.first_line[:100]!r} begins no answer")
        return int(rest[:3])


# Most heads of a run are equal to one before.
@lru_cache(maxsize=1024)
def parse_head(head: bytes) -> Head:
    """Read what is before the empty line.

    :raises BenchError: if it does not tell the length of the body by ``Content-Length``.
    """
    first_line, *lines = head.decode("latin-1").split("\r\n")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name.lower() in fields:
            raise BenchError(f"{line[:100]!r} is no field, or comes twice")
        fields[name.lower()] = value.strip()
    length = fields.get("content-length", "")
    if "transfer-encoding" in fields or not (length.isascii() and length.isdecimal()):
        raise BenchError(f"no length of the body after {first_line[:100]!r}")
    return Head(first_line, fields, int(length))


class Messages:
    """Cuts what comes on one connection into requests or answers."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[Head, bytes]]:
        """Return the messages that are whole now: head and body of each.

        :raises BenchError: if this is not HTTP, or larger than anything here has reason to be.
        """
        data = self._rest + data if self._rest else data
        messages = []
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = parse_head(data[:end])
            stop = end + 4 + head.length
            if head.length > _BODY_BYTES:
                raise BenchError(f"a body of {head.length} bytes")
            if len(data) < stop:
                break
            messages.append((head, data[end + 4 : stop]))
            data = data[stop:]
        else:
            if len(data) > _HEAD_BYTES:
                raise BenchError("a head without an end")
        self._rest = data
        return messages


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is published.

    :param connections: each has one request in flight at most.
    :param seconds: how long requests are begun; their answers may come later.
    :param rate: events per second, over all connections; 0 begins a request as soon as a
        connection has its answer.
    :param templates: bodies from `template`, taken in turn by all connections.
    :param events: in each body.
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
    """What became of it.

    :param accepted: requests answered 202 with the right body, by template.
    :param refused: requests answered otherwise.
    :param refusal: the first such answer.
    :param unanswered: requests that had no whole answer `ANSWER_SECONDS` after the last was begun.
    :param not_begun: requests that were due while all connections waited for answers.
    :param seconds: from the first request to the last answer.
    :param latencies: from the begin of a request, or from when it was due where there is a rate,
        until its answer was read.
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
    """Return a body with an event of each topic, a line each.

    `filled` gives each event its number and its time.

    :param pad: bytes of filling in each event.
    """
    filling = b"x" * pad
    return b"\n".join(
        b'{"topic":%b,"data":{"n":%%d,"t":%b,"pad":"%b"}}'
        % (msgspec.json.encode(topic).replace(b"%", b"%%"), _TIME, filling)
        for topic in topics
    )


def choices(topics: Sequence[str], *, events: int) -> list[list[str]]:
    """Return the topics of the events of enough bodies, chosen by chance.

    The choice is the same in every run.
    """
    chance = random.Random(0)
    bodies = 1 if len(topics) == 1 else max(_CHOSEN // events, 1)
    return [chance.choices(topics, k=events) for _ in range(bodies)]


def filled(body: bytes, numbers: range, nanoseconds: int) -> bytes:
    """Return the body of a request: a template with a number for each event, and one time."""
    return body.replace(_TIME, b"%d" % nanoseconds) % tuple(numbers)


def numbers(connection: int, connections: int, request: int, events: int) -> range:
    """Return the numbers of the events of one request.

    Those of a connection grow, and leave its place among the connections when divided by how many
    these are; so who receives them knows the producer of each and what order it must have.
    """
    first = request * events * connections + connection
    return range(first, first + events * connections, connections)


class _Accepted(msgspec.Struct):
    id: str = ""
    accepted: int = 0


_accepted_body = msgspec.json.Decoder(_Accepted)


def events_accepted(head: Head, body: bytes) -> int:
    """Return how many events an answer tells to be accepted; 0 if it is a refusal.

    :raises BenchError: if it is no answer to a publish.
    """
    if head.status != 202:
        return 0
    try:
        answer = _accepted_body.decode(body)
    except msgspec.DecodeError as error:
        raise BenchError(f"the answer to a publish is not understood: {error}") from None
    return answer.accepted or (1 if answer.id else 0)


class _Producer:
    """One connection and the request that is in flight on it.

    :param begun: when that was begun, or was due, in nanoseconds.
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
    """Publishes a load and reads the answers."""

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
        """Publish for the load's seconds, then wait for the answers."""
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
        """Return when the last answer was read, or when waiting for it ended."""
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
        # epoll itself waits in whole milliseconds, which would make requests late.
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
                raise BenchError("the dispatcher answered what it was not asked")
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

    :raises BenchError: if the dispatcher cannot be reached, closes a connection, or answers what
        is not understood.
    """
    try:
        return _Generator(load).run()
    except OSError as error:
        raise BenchError(f"cannot publish to {load.host}:{load.port}: {error}") from None


def publish_apart(load: Load, elapsed: Callable[[float], None]) -> LoadResult:
    """Publish a load from a process of its own.

    :param elapsed: called now and then with the seconds since this began.
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
    # There are no cycles to collect in what it does for each request.
    gc.disable()
    link.send(publish(load))
