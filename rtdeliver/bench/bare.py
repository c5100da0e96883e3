"""A server that only sends: it shows the most that this machine can do."""

import gc
import select
import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, urlsplit

import msgspec

from rtdeliver.bench.events import Begin, Published, Schedule

# The default of a frontend.
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
    """What the server reports at its end.

    :param sent: how many events it sent, over all viewers.
    :param sends: how many system calls that took.
    """

    sent: int
    sends: int


def serve(link: Connection, schedule: Schedule, sends_per_second: int) -> None:
    """Accept viewers, and send each of them all events, once the parent says when to begin.

    :param link: takes the port, then gives a `Begin`, then takes what was `Served`.
    :param sends_per_second: the most sends in a second. With more than the readers can receive,
        the readers would be measured. With fewer, events pile up and leave together.
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
        link.recv()  # Keeps the streams open until the pipe closes.


class _Viewer:
    """A stream.

    :ivar position: how many events of its topic were sent to it.
    :ivar rest: the part of these that the kernel has not taken yet.
    """

    __slots__ = ("position", "rest", "send", "topic")

    def __init__(self, sock: socket.socket, topic: int) -> None:
        self.send = sock.send
        self.topic = topic
        self.position = 0
        self.rest = b""


class _Topic:
    """The frames of a topic that are due, joined once for all viewers at the same position.

    :ivar due: how many frames are due.
    :ivar next_ns: when the next one is due.
    :ivar lacking: by position, all due frames from there on.
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
        """Join the frames from ``position`` on, once for all viewers there."""
        self.lacking[position] = data = b"".join(self._frames[position : self.due])
        return data


class _Server:
    """Sends to each viewer in turn all that is due to it.

    :ivar sent: how many events were sent, over all viewers.
    :ivar sends: how many system calls that took.
    """

    def __init__(
        self, schedule: Schedule, viewers: Sequence[_Viewer], sends_per_second: int
    ) -> None:
        self.sent = 0
        self.sends = 0
        self._topics = [_Topic(schedule, topic) for topic in range(len(schedule.topics))]
        self._viewers = viewers
        self._gap_ns = 1_000_000_000 // sends_per_second
        # The earliest time of the next send. The loop waits for it only once it is _AHEAD_NS ahead.
        self._may_send_ns = 0

    def send_all(self) -> None:
        """Send every event when it is due, or later, when its viewer's turn comes."""
        while True:
            next_ns = min(topic.next_ns for topic in self._topics)
            if self._go_round():
                continue
            if next_ns == _NEVER_NS:
                return
            time.sleep(max(0.0, (next_ns - time.monotonic_ns()) / 1e9))

    def _go_round(self) -> bool:
        """Give each viewer a turn; return whether there was something to send."""
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
    """Accept and greet viewers until the parent sends a message."""
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
    # A reader sends its small request at once, so it arrives whole.
    target = sock.recv(_READ_BYTES).split(b" ", 2)[1].decode()
    sock.sendall(_GREETING)
    return _Viewer(sock, topics[parse_qs(urlsplit(target).query)["topic"][0]])
