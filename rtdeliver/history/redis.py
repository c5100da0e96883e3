"""The histories of topics, in a Redis that any number of dispatchers share."""

import secrets
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rtdeliver.config.sections import History
from rtdeliver.deferreds import all_of, as_deferred
from rtdeliver.errors import Unavailable
from rtdeliver.history.classes import HistoryClasses
from rtdeliver.interfaces import IHistory
from rtdeliver.messages import Entry, HistoryPage, HistoryQuery, Stored
from rtdeliver.model import BEGINNING, Event, Place, Topic, topic_tag
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.scripts import read_script
from rtdeliver.wire import kept_event, placed

_APPEND = read_script("rtdeliver.history", "common", "append")
_READ = read_script("rtdeliver.history", "common", "read")
_HEADS = read_script("rtdeliver.history", "common", "heads")
_OVERDUE = read_script("rtdeliver.history", "common", "overdue")
_MARK_DELIVERED = read_script("rtdeliver.history", "mark_delivered")
_CLEAR = read_script("rtdeliver.history", "clear")

# Stands for what is replaced before anybody sees it.
_NOTHING = Stored(Event(topic=Topic(""), id="", line=b""))

# No script handles more events or topics, since Redis does nothing else meanwhile.
_SLICE = 500
_SLICE_BYTES = 1_048_576


class _Append:
    """Some events that are to be stored, perhaps by several scripts.

    :ivar done: fires when all of them are.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.done: Deferred[Sequence[Stored]] = Deferred()
        self._stored: list[Stored] = []
        self._left = len(entries)

    def add(self, stored: Sequence[Stored]) -> None:
        """Note that these are stored, too."""
        self._stored += stored
        self._left -= len(stored)
        if not self._left and not self.done.called:
            self.done.callback(self._stored)

    def fail(self, error: Exception) -> None:
        """Note that no more of them are stored."""
        if not self.done.called:
            self.done.errback(error)


@implementer(IHistory)
class RedisHistory:
    """Stores what comes in while a script runs with the next one.

    It keeps one number in this process: how many events it knows to be stored. A Redis that has
    fewer has lost some, since it started again or another one took its place. All times are by the
    clock of Redis.

    :param redis: a connection that its owner starts and stops.
    :param classes: which topics have a history.
    """

    def __init__(
        self, *, redis: RedisConnection, classes: HistoryClasses, settings: History
    ) -> None:
        self._redis = redis
        self._classes = classes
        self._settings = settings
        self._claim_milliseconds = round(1000 * settings.claim_seconds)
        self._overlap_milliseconds = round(1000 * settings.overlap_seconds)
        self._known = 0
        self._waiting: deque[tuple[_Append, list[Entry]]] = deque()
        self._waiting_events = 0
        self._is_appending = False

    def keeps(self, topic: Topic) -> bool:
        return self._classes.of(topic) is not None

    def append(self, entries: Sequence[Entry]) -> Deferred[Sequence[Stored]]:
        request = _Append(entries)
        if self._waiting_events + len(entries) > self._settings.waiting_events:
            request.fail(Unavailable("too many events wait to be stored; publish them again later"))
            return request.done
        self._waiting_events += len(entries)
        self._waiting += [(request, part) for part in _slices(entries)]
        if not entries:
            request.add([])
        elif not self._is_appending:
            self._is_appending = True
            Deferred.fromCoroutine(self._append_waiting())
        return request.done

    @as_deferred
    async def read(self, queries: Sequence[HistoryQuery]) -> Sequence[HistoryPage | None]:
        return await all_of(self._read(query) for query in queries)

    @as_deferred
    async def heads(self, topics: Sequence[Topic]) -> Mapping[Topic, Place]:
        with_history = [topic for topic in topics if self._classes.of(topic) is not None]
        heads: dict[Topic, Place] = {}
        for start in range(0, len(with_history), _SLICE):
            part = with_history[start : start + _SLICE]
            [told] = await self._run(_HEADS, *part)
            fields = told.decode().split(",")
            for index, topic in enumerate(part):
                epoch, number, at = fields[3 * index : 3 * index + 3]
                heads[topic] = _place(topic, epoch, int(number), int(at))
        return heads

    @as_deferred
    async def overdue(self, limit: int) -> Sequence[Stored]:
        [told] = await self._run(_OVERDUE, self._claim_milliseconds, min(limit, _SLICE))
        found: list[tuple[Topic, int, Stored]] = []
        lines = told.split(b"\n")
        for text, about, line in zip(lines[::3], lines[1::3], lines[2::3], strict=False):
            topic = Topic(text.decode())
            way, epoch, place_text = about.decode().split(" ")
            place = _place_in(topic_tag(topic) + epoch, place_text)
            stored = Stored(placed(kept_event(topic, line), place), is_own=way == "f")
            found.append((topic, place.number, stored))
        return [stored for *_, stored in sorted(found, key=lambda each: each[:2])]

    @as_deferred
    async def mark_delivered(self, stored: Sequence[Stored]) -> None:
        for start in range(0, len(stored), _SLICE):
            await self._redis.run(
                _MARK_DELIVERED,
                *(
                    f"{each.event.position.split('-')[1]} {_way(each.is_own)} {each.event.topic}"
                    for each in stored[start : start + _SLICE]
                ),
            )

    @as_deferred
    async def clear(self, topic: Topic) -> int:
        return int(await self._redis.run(_CLEAR, topic))

    async def _append_waiting(self) -> None:
        """Store what waits, as much as one script takes at a time, one after the other."""
        while self._waiting:
            parts = self._next_parts()
            try:
                stored = await self._store([entry for _, part in parts for entry in part])
            except Exception as error:
                for request, _ in parts:
                    request.fail(error)
            else:
                following = iter(stored)
                for request, part in parts:
                    request.add([next(following) for _ in part])
        self._is_appending = False

    def _next_parts(self) -> "list[tuple[_Append, list[Entry]]]":
        parts: list[tuple[_Append, list[Entry]]] = []
        events = size = 0
        while self._waiting:
            request, part = self._waiting[0]
            events += len(part)
            size += sum(entry.event.size for entry in part)
            if parts and (events > _SLICE or size > _SLICE_BYTES):
                break
            self._waiting.popleft()
            self._waiting_events -= len(part)
            if not request.done.called:
                parts.append((request, part))
        return parts

    async def _store(self, entries: Sequence[Entry]) -> Sequence[Stored]:
        runs: dict[Topic, list[int]] = {}
        for index, entry in enumerate(entries):
            runs.setdefault(entry.event.topic, []).append(index)
        arguments: list[str | bytes | int] = []
        for topic, run in runs.items():
            arguments += [topic, *self._bounds(topic), len(run)]
            for index in run:
                entry = entries[index]
                name = entry.event.id if entry.may_repeat else ""
                head = f"{_way(entry.is_own)}{name}\n"
                arguments.append(head.encode() + entry.event.line)
        told, lines = await self._run(_APPEND, self._claim_milliseconds, *arguments)
        places, before = iter(told.decode().split(",")), iter(lines.split(b"\n"))
        stored: list[Stored] = [_NOTHING] * len(entries)
        for topic, run in runs.items():
            tag = topic_tag(topic) + next(places)
            for index in run:
                entry, place = entries[index], next(places)
                if place.startswith("="):
                    event = kept_event(topic, next(before))
                    found = placed(event, _place_in(tag, place[1:]))
                    stored[index] = Stored(found, repeated=True, is_own=entry.is_own)
                else:
                    found = placed(entry.event, _place_in(tag, place))
                    stored[index] = Stored(found, is_own=entry.is_own)
        return stored

    @as_deferred
    async def _read(self, query: HistoryQuery) -> HistoryPage | None:
        topic = query.topic
        if self._classes.of(topic) is None:
            return None
        epoch_text, number, at, start, start_at, lost, places, lines = await self._run(
            _READ,
            topic,
            self._bounds(topic)[1],
            *_asked(query),
            self._overlap_milliseconds,
            min(query.limit, self._settings.page_events),
            self._settings.page_bytes,
        )
        epoch = epoch_text.decode()
        tag = topic_tag(topic) + epoch
        return HistoryPage(
            events=tuple(
                placed(kept_event(topic, line), _place_in(tag, place))
                for place, line in zip(
                    places.decode().split(",")[:-1], lines.split(b"\n")[:-1], strict=True
                )
            ),
            start=_place(topic, epoch, int(start), int(start_at)),
            head=_place(topic, epoch, int(number), int(at)),
            lost=int(lost),
        )

    async def _run(self, script: str, *arguments: str | bytes | int) -> list[Any]:
        answer: list[Any] = await self._redis.run(
            script, self._known, secrets.token_hex(4), *arguments
        )
        self._known = max(self._known, int(answer[0]))
        return answer[1:]

    def _bounds(self, topic: Topic) -> tuple[int, int]:
        """Return how many events are kept, and for how many milliseconds."""
        bounds = self._classes.of(topic)
        if bounds is None:
            raise ValueError(f"{topic} has no history")
        return bounds.events, round(1000 * bounds.seconds)


def _slices(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    part: list[Entry] = []
    size = 0
    for entry in entries:
        size += entry.event.size
        if part and (len(part) == _SLICE or size > _SLICE_BYTES):
            yield part
            part, size = [], entry.event.size
        part.append(entry)
    if part:
        yield part


def _asked(query: HistoryQuery) -> tuple[str | int, ...]:
    """Return what a query asks for, as the script takes it."""
    since, before = query.since, query.before
    if query.rewind is not None:
        return "rewind", "", query.rewind, 0
    if before is not None:
        epoch = before.epoch if before.is_of(query.topic) else ""
        return "before", epoch, before.number, before.at
    if since is not None and since.is_of(query.topic):
        return "own", since.epoch, since.number, since.at
    if since is not None:
        return "time", "", 0, since.at
    if query.at is not None:
        return "time", "", 0, query.at
    return "all", "", 0, 0


def _place(topic: Topic, epoch: str, number: int, at: int) -> Place:
    return Place(at, number, topic_tag(topic) + epoch) if epoch else BEGINNING


def _place_in(tag: str, text: str) -> Place:
    number, _, at = text.partition("-")
    return Place(int(at), int(number), tag)


def _way(is_own: bool) -> str:
    return "f" if is_own else "h"
