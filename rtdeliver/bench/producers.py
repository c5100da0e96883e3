"""A process that publishes each event when it is due."""

import math
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from urllib.parse import quote, urlsplit

import msgspec

from rtdeliver.bench.events import Begin, Published, Schedule
from rtdeliver.bench.http import address_of
from rtdeliver.bench.machine import BenchError

READY = "ready"

_Request = Callable[[Schedule, int], bytes]

_CONNECTIONS = 64
_ANSWER_SECONDS = 10.0
# Events that are still waiting this long after the last one was due are not published.
_LATEST_NS = 2_000_000_000
_READ_BYTES = 65_536
_ACCEPTED = (b"HTTP/1.1 201 ", b"HTTP/1.1 202 ")


def publish_to_dispatcher(link: Connection, url: str, schedule: Schedule) -> None:
    """Publish every event when it is due, or as soon as possible afterwards.

    The events of a topic go through one connection, each after the answer to the one before, so
    they have an order. Each event carries the time at which it was due, so a late answer makes the
    events behind it late too. Events that are still waiting 2 s after the last one was due are not
    published.

    :param link: takes `READY`, then gives a `Begin`, then takes what was `Published`.
    :param url: the dispatcher's.
    """
    _publish(link, url, schedule, _to_dispatcher)


def publish_to_nchan(link: Connection, url: str, schedule: Schedule) -> None:
    """Do the same at a publisher location of nchan: ``url`` with the topic appended."""
    target = urlsplit(url)
    _publish(link, url, schedule, partial(_to_nchan, f"{target.path}?{target.query}"))


class _Lane:
    """A keep-alive connection, and the events that wait for it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, _ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waiting: deque[int] = deque()
        self.asked_at = 0.0
        self.topic = 0
        self.answer = b""

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def is_busy(self) -> bool:
        return bool(self.asked_at)


class _Producer:
    """Publishes the events of a schedule.

    :param request: makes the complete request for an event.
    """

    def __init__(
        self,
        *,
        address: tuple[str, int],
        schedule: Schedule,
        request: _Request,
    ) -> None:
        self._schedule = schedule
        self._request = request
        self._lanes = [_Lane(address) for _ in range(min(len(schedule.topics), _CONNECTIONS))]
        self._accepted: Counter[int] = Counter()
        self._late_ns = 0

    def run(self, start_ns: int) -> Published:
        """Publish all events, the first one at ``start_ns``."""
        self._schedule = schedule = msgspec.structs.replace(self._schedule, start_ns=start_ns)
        begun = 0
        end_ns = schedule.due_ns(schedule.events) + _LATEST_NS
        while self._accepted.total() < schedule.events:
            now_ns = time.monotonic_ns()
            while begun < schedule.events and schedule.due_ns(begun) <= now_ns:
                lane = self._lanes[begun % len(schedule.topics) % len(self._lanes)]
                lane.waiting.append(begun)
                self._send_next(lane)
                begun += 1
            if now_ns > end_ns:
                self._give_up()
            if begun == schedule.events and not any(lane.is_busy for lane in self._lanes):
                break
            self._take_answers(begun)
        return Published(dict(self._accepted), self._late_ns / 1e9)

    def _give_up(self) -> None:
        """Drop the events that have not been sent."""
        for lane in self._lanes:
            lane.waiting.clear()

    def _take_answers(self, begun: int) -> None:
        """Read the answers that arrive before the next event is due."""
        busy = [lane for lane in self._lanes if lane.is_busy]
        pause = _ANSWER_SECONDS
        if begun < self._schedule.events:
            pause = max(0.0, (self._schedule.due_ns(begun) - time.monotonic_ns()) / 1e9)
        for lane in select.select(busy, [], [], pause)[0]:
            self._take_answer(lane)
            self._send_next(lane)
        oldest = min((lane.asked_at for lane in busy if lane.is_busy), default=math.inf)
        if time.monotonic() - oldest > _ANSWER_SECONDS:
            raise BenchError(f"a publish was not answered within {_ANSWER_SECONDS:g} s")

    def _send_next(self, lane: _Lane) -> None:
        if lane.waiting and not lane.is_busy:
            event = lane.waiting.popleft()
            lane.asked_at = time.monotonic()
            lane.topic = event % len(self._schedule.topics)
            lane.socket.sendall(self._request(self._schedule, event))
            late_ns = time.monotonic_ns() - self._schedule.due_ns(event)
            self._late_ns = max(self._late_ns, late_ns)

    def _take_answer(self, lane: _Lane) -> None:
        data = lane.socket.recv(_READ_BYTES)
        if not data:
            raise BenchError("a producer's connection was closed")
        lane.answer += data
        head, end, body = lane.answer.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        if not head.startswith(_ACCEPTED):
            raise BenchError(f"a publish was refused: {lane.answer[:300].decode(errors='replace')}")
        lane.answer = b""
        lane.asked_at = 0.0
        self._accepted[lane.topic] += 1


def _publish(link: Connection, url: str, schedule: Schedule, request: _Request) -> None:
    producer = _Producer(address=address_of(url), schedule=schedule, request=request)
    link.send(READY)
    begin: Begin = link.recv()
    link.send(producer.run(begin.start_ns))


def _to_dispatcher(schedule: Schedule, event: int) -> bytes:
    return _post("/publish", schedule.body(event))


def _to_nchan(path: str, schedule: Schedule, event: int) -> bytes:
    return _post(path + quote(schedule.topic(event), safe=""), schedule.line(event))


def _post(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _length(head: bytes) -> int:
    for field in head.lower().split(b"\r\n"):
        if field.startswith(b"content-length:"):
            return int(field.partition(b":")[2])
    raise BenchError("a publish was answered without a Content-Length")
