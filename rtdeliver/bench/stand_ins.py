"""Stand-ins for frontends: they announce viewers, and count the deliveries."""

import gc
import secrets
import select
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Self

import msgspec

from rtdeliver.bench.http import fetch
from rtdeliver.bench.http_load import READ_BYTES, Head, Messages
from rtdeliver.bench.latency import LatencyHistogram
from rtdeliver.bench.machine import BenchError
from rtdeliver.bench.processes import Child

_START_SECONDS = 60.0
_TELL_SECONDS = 30.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The stand-ins of one process.

    :param dispatcher: the dispatcher's URL.
    :param topics: the topics of which each stand-in has a viewer, by node.
    :param producers: how many connections publish; see `rtdeliver.bench.http_load.numbers`.
    :param lease_seconds: the lease that they announce; they renew it three times as often.
    """

    dispatcher: str
    topics: Mapping[str, Sequence[str]]
    producers: int
    lease_seconds: float = 30.0


class Counts(msgspec.Struct, kw_only=True):
    """What one stand-in received.

    :param received: events that came once and in order, each with a higher number than those of
        the same producer before it.
    :param misplaced: events that came again or out of order.
    :param gaps: events that the dispatcher reported as lost.
    :param posts: requests that brought the events.
    :param refused: requests that were not a delivery to this process.
    """

    received: int = 0
    misplaced: int = 0
    gaps: int = 0
    posts: int = 0
    refused: int = 0


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What all stand-ins of a process received.

    :param counts: by node.
    :param latencies: from the time that an event carries until its whole delivery was read.
    :param cpu_seconds: processor time that the process has used since its start.
    """

    counts: dict[str, Counts]
    latencies: LatencyHistogram
    cpu_seconds: float

    @property
    def received(self) -> int:
        return sum(counts.received for counts in self.counts.values())

    @property
    def misplaced(self) -> int:
        return sum(counts.misplaced for counts in self.counts.values())

    @property
    def posts(self) -> int:
        return sum(counts.posts for counts in self.counts.values())


class _Data(msgspec.Struct, gc=False):
    n: int
    t: int


class _Line(msgspec.Struct, gc=False):
    data: _Data | None = None
    lost: int = 0


_lines = msgspec.json.Decoder(_Line)


class Frontend:
    """One stand-in: takes deliveries and answers them.

    :param producers: how many connections publish.
    """

    def __init__(self, *, incarnation: str, producers: int, latencies: LatencyHistogram) -> None:
        self.counts = Counts()
        self._incarnation = incarnation
        self._last = [-1] * producers
        self._latencies = latencies

    def answer(self, head: Head, body: bytes, now: int) -> bytes:
        """Take a request and return the answer to it.

        :param now: nanoseconds of the monotonic clock.
        :raises BenchError: if an event is not one of the load.
        """
        if not head.first_line.startswith("POST /deliver "):
            self.counts.refused += 1
            return _answer("404 Not Found", b"{}")
        if head.fields.get("rt-incarnation") != self._incarnation:
            self.counts.refused += 1
            return _answer("410 Gone", b"{}")
        self.counts.posts += 1
        taken = self._take(body, now)
        return _answer("202 Accepted", b'{"delivered":%d}\n' % taken)

    def _take(self, body: bytes, now: int) -> int:
        try:
            lines = _lines.decode_lines(body)
        except msgspec.DecodeError as error:
            raise BenchError(f"cannot decode a delivery: {error}") from None
        last = self._last
        producers = len(last)
        misplaced = gaps = 0
        time_of_run = run = 0
        for line in lines:
            data = line.data
            if data is None:
                gaps += line.lost
                continue
            number = data.n
            producer = number % producers
            if number > last[producer]:
                last[producer] = number
            else:
                misplaced += 1
            # All events of one publish carry the same time.
            if data.t != time_of_run:
                self._note(now - time_of_run, run)
                time_of_run, run = data.t, 0
            run += 1
        self._note(now - time_of_run, run)
        gap_lines = sum(line.data is None for line in lines) if gaps else 0
        self.counts.received += len(lines) - gap_lines - misplaced
        self.counts.misplaced += misplaced
        self.counts.gaps += gaps
        return len(lines)

    def _note(self, nanoseconds: int, events: int) -> None:
        if events:
            self._latencies.add(nanoseconds // 1000, events)


def _answer(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )


class _Announcer(threading.Thread):
    """Announces the viewers to the dispatcher, and then renews the leases.

    :param urls: the stand-ins', by node.
    :ivar problem: why this thread has ended; empty while it runs.
    """

    def __init__(self, plan: Plan, urls: Mapping[str, str], incarnation: str) -> None:
        super().__init__(daemon=True)
        self.problem = ""
        self._plan = plan
        self._urls = urls
        self._incarnation = incarnation
        self._sequence = 0

    def announce_all(self) -> None:
        """Announce every topic of every stand-in.

        :raises BenchError: if the dispatcher does not accept an announcement.
        """
        self._sequence += 1
        for node, topics in self._plan.topics.items():
            self._announce(node, dict.fromkeys(topics, 1), full=True)

    def run(self) -> None:
        while not self.problem:
            time.sleep(self._plan.lease_seconds / 3)
            self._sequence += 1
            try:
                for node in self._plan.topics:
                    self._announce(node, {}, full=False)
            except BenchError as error:
                self.problem = str(error)

    def _announce(self, node: str, counts: Mapping[str, int], *, full: bool) -> None:
        body = {
            "frontend": {
                "node": node,
                "url": self._urls[node],
                "incarnation": self._incarnation,
            },
            "counts": counts,
            "full": full,
            "lease_seconds": self._plan.lease_seconds,
            "sequence": self._sequence,
            "after": self._sequence - 1,
        }
        answer = fetch(f"{self._plan.dispatcher}/subscriptions", body=msgspec.json.encode(body))
        if msgspec.json.decode(answer).get("full"):
            raise BenchError(f"the dispatcher has forgotten {node}")


class _Peer:
    """A connection from the dispatcher to a stand-in."""

    __slots__ = ("frontend", "messages", "sock")

    def __init__(self, frontend: Frontend, sock: socket.socket) -> None:
        self.frontend = frontend
        self.sock = sock
        self.messages = Messages()


class _Server:
    """Serves the stand-ins of one process until the parent ends."""

    def __init__(self, link: Connection, plan: Plan) -> None:
        self._link = link
        self._latencies = LatencyHistogram()
        self._poller = select.epoll()
        self._poller.register(link.fileno(), select.EPOLLIN)
        self._frontends: dict[str, Frontend] = {}
        self._listeners: dict[int, tuple[Frontend, socket.socket]] = {}
        self._peers: dict[int, _Peer] = {}
        incarnation = secrets.token_hex(8)
        urls = {node: self._listen(node, incarnation, plan.producers) for node in plan.topics}
        self._announcer = _Announcer(plan, urls, incarnation)

    def serve(self) -> None:
        """Announce the viewers, report that to the parent, and take deliveries."""
        self._announcer.announce_all()
        self._announcer.start()
        self._link.send("ready")
        while True:
            for fd, _ in self._poller.poll(1.0):
                if fd in self._peers:
                    self._read(fd)
                elif fd in self._listeners:
                    self._accept(fd)
                else:
                    self._tell()
            if self._announcer.problem:
                raise BenchError(self._announcer.problem)

    def _listen(self, node: str, incarnation: str, producers: int) -> str:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listener.setblocking(False)
        frontend = self._frontends[node] = Frontend(
            incarnation=incarnation, producers=producers, latencies=self._latencies
        )
        self._listeners[listener.fileno()] = (frontend, listener)
        self._poller.register(listener, select.EPOLLIN)
        host, port = listener.getsockname()
        return f"http://{host}:{port}"

    def _accept(self, fd: int) -> None:
        frontend, listener = self._listeners[fd]
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peers[sock.fileno()] = _Peer(frontend, sock)
        self._poller.register(sock, select.EPOLLIN)

    def _read(self, fd: int) -> None:
        peer = self._peers[fd]
        try:
            data = peer.sock.recv(READ_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            del self._peers[fd]
            peer.sock.close()
            return
        for head, body in peer.messages.feed(data):
            peer.sock.sendall(peer.frontend.answer(head, body, time.monotonic_ns()))

    def _tell(self) -> None:
        """Send the parent what was received.

        :raises EOFError: if the parent has ended.
        """
        self._link.recv()
        self._link.send(
            Taken(
                counts={node: frontend.counts for node, frontend in self._frontends.items()},
                latencies=self._latencies,
                cpu_seconds=time.process_time(),
            )
        )


class StandIns:
    """A process with the stand-ins of a plan; it ends with the ``with`` block."""

    def __init__(self, plan: Plan) -> None:
        self._child = Child("the stand-ins' process", _serve, plan)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.end()

    def wait_ready(self) -> None:
        """Wait until the dispatcher knows their viewers.

        :raises BenchError: if the dispatcher does not accept their announcements.
        """
        self._child.receive(_START_SECONDS)

    def taken(self) -> Taken:
        """Return what the stand-ins have received so far.

        :raises BenchError: if they have failed.
        """
        taken: Taken = self._child.ask("taken", _TELL_SECONDS)
        return taken


def _serve(link: Connection, plan: Plan) -> None:
    # The work for a delivery makes no reference cycles, so there is nothing to collect.
    gc.disable()
    _Server(link, plan).serve()
