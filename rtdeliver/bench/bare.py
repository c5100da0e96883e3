"""A server that does nothing but send: what this machine can do at the most."""

import gc
import select
import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, urlsplit

import msgspec

from rtdeliver.bench.events import Begin, Published, Schedule

# As a frontend does by default.
_SEND_BUFFER_BYTES = 131_072
_BACKLOG = 4096
_READ_BYTES = 65_536
_POLL_SECONDS = 0.05
_EVENTS = 512
_NEVER_NS = 1 << 62
_AHEAD_NS = 1_000_000
_GREETING = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\n"
    b"Connection: close\r\n\r\n"
    b'retry: 3000\nevent: connected\ndata: {"connection":"rtbench"}\n\n'
)


class Served(Published, frozen=True):
    """What the server tells at its end.

    :param sent: events, over all viewers.
    :param sends: system calls that sent some.
    """

    sent: int
    sends: int


def serve(link: Connection, schedule: Schedule, sends_per_second: int) -> None:
    """Accept viewers, and when told to begin send all events to each.

    :param link: told the port, then gives a `Begin`, then is told what was `Served`.
    :param sends_per_second: how many there are at the most. More than the readers can receive
        would measure these, and events that are due pile up for fewer sends anyway.
    """
    gc.disable()
    topics = {topic: number for number, topic in enumerate(schedule.topics)}
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
        link.send(listener.getsockname()[1])
        viewers = _accept(listener, topics, link)
        begin: Begin = link.recv()
        schedule = msgspec.structs.replace(schedule, start_ns=begin.start_ns)
        server = _Server(schedule, viewers, sends_per_second)
        server.send_all()
        link.send(Served(schedule.published(), 0.0, sent=server.sent, sends=server.sends))
        link.recv()  # The streams stay open until the pipe ends.


class _Viewer:
    """A stream.

    :ivar position: how many events of its topic were sent to it.
    :ivar rest: what the kernel did not take of the last ones.
    """

    __slots__ = ("position", "rest", "send", "topic")

    def __init__(self, sock: socket.socket, topic: int) -> None:
        self.send = sock.send
        self.topic = topic
        self.position = 0
        self.rest = b""


class _Topic:
    """The frames of a topic that are due, and those that viewers at one position lack.

    :ivar due: how many are due.
    :ivar next_ns: when the next one is.
    :ivar lacking: by position, all frames from there on.
    """

    __slots__ = ("_frames", "_schedule", "_topic", "due", "lacking", "next_ns")

    def __init__(self, schedule: Schedule, topic: int) -> None:
        self._schedule = schedule
        self._topic = topic
        self._frames: list[bytes] = []
        self.due = 0
        self.lacking: dict[int, bytes] = {}
        self.next_ns = schedule.due_ns(topic)

    def advance(self, now_ns: int) -> None:
        """Make the frames that are due by now."""
        schedule = self._schedule
        while self.next_ns <= now_ns:
            event = self._topic + self.due * len(schedule.topics)
            self._frames.append(schedule.frame(event))
            self.due += 1
            event += len(schedule.topics)
            self.next_ns = schedule.due_ns(event) if event < schedule.events else _NEVER_NS
        self.lacking = {}

    def join(self, position: int) -> bytes:
        """Return the frames from ``position`` on, made once for all who are there."""
        self.lacking[position] = data = b"".join(self._frames[position : self.due])
        return data


class _Server:
    """Sends to each viewer in turn all that is due to it.

    :ivar sent: events, over all viewers.
    :ivar sends: system calls that sent some.
    """

    def __init__(
        self, schedule: Schedule, viewers: Sequence[_Viewer], sends_per_second: int
    ) -> None:
        self.sent = 0
        self.sends = 0
        self._topics = [_Topic(schedule, topic) for topic in range(len(schedule.topics))]
        self._viewers = viewers
        self._gap_ns = 1_000_000_000 // sends_per_second
        # When the next send may be; it is waited for once it is some way ahead.
        self._may_send_ns = 0

    def send_all(self) -> None:
        """Send every event when it is due, or when its turn comes after that."""
        while True:
            next_ns = min(topic.next_ns for topic in self._topics)
            if self._go_round():
                continue
            if next_ns == _NEVER_NS:
                return
            time.sleep(max(0.0, (next_ns - time.monotonic_ns()) / 1e9))

    def _go_round(self) -> bool:
        """Give each viewer a turn, and return whether any had something to be sent."""
        topics, clock = self._topics, time.monotonic_ns
        busy = False
        for viewer in self._viewers:
            topic = topics[viewer.topic]
            now_ns = clock()
            if now_ns >= topic.next_ns:
                topic.advance(now_ns)
            position = viewer.position
            if position < topic.due and not viewer.rest:
                busy = True
                data = topic.lacking.get(position) or topic.join(position)
                self.sent += topic.due - position
                viewer.position = topic.due
                self._send(viewer, data, now_ns)
            elif viewer.rest:
                busy = True
                self._send(viewer, viewer.rest, now_ns)
        return busy

    def _send(self, viewer: _Viewer, data: bytes, now_ns: int) -> None:
        try:
            taken = viewer.send(data)
        except BlockingIOError:
            taken = 0
        self.sends += 1
        self._may_send_ns = max(self._may_send_ns, now_ns) + self._gap_ns
        if self._may_send_ns - now_ns > _AHEAD_NS:
            time.sleep((self._may_send_ns - now_ns) / 1e9)
        viewer.rest = data[taken:] if taken < len(data) else b""


def _accept(listener: socket.socket, topics: dict[str, int], link: Connection) -> Sequence[_Viewer]:
    """Accept viewers, and greet them, until the pipe has a message."""
    viewers = []
    asking: dict[int, socket.socket] = {}
    listener.setblocking(False)
    with select.epoll() as epoll:
        epoll.register(listener, select.EPOLLIN)
        while not link.poll():
            for descriptor, _ in epoll.poll(_POLL_SECONDS, _EVENTS):
                if descriptor == listener.fileno():
                    sock, _address = listener.accept()
                    sock.setblocking(False)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
                    asking[sock.fileno()] = sock
                    epoll.register(sock, select.EPOLLIN)
                else:
                    sock = asking.pop(descriptor)
                    epoll.unregister(sock)
                    viewers.append(_greet(sock, topics))
    return viewers


def _greet(sock: socket.socket, topics: dict[str, int]) -> _Viewer:
    # A reader's request comes whole: it is one small send.
    target = sock.recv(_READ_BYTES).split(b" ", 2)[1].decode()
    sock.sendall(_GREETING)
    return _Viewer(sock, topics[parse_qs(urlsplit(target).query)["topic"][0]])
