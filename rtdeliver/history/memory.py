"""The histories of topics, in the memory of one dispatcher."""

import secrets
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import msgspec
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rtdeliver.config.sections import History, HistoryClass
from rtdeliver.history.classes import HistoryClasses
from rtdeliver.interfaces import IHistory
from rtdeliver.messages import LOST_UNKNOWN, Entry, HistoryPage, HistoryQuery, Stored
from rtdeliver.model import BEGINNING, Event, Place, Topic, topic_tag
from rtdeliver.wire import placed

# What an event counts for beside its line.
_EVENT_BYTES = 200
# What a topic counts for.
_TOPIC_BYTES = 1000
# How many topics a sweep looks at, to forget those that had no event for long.
_SWEPT = 100


class _Kept(msgspec.Struct, gc=False):
    """An event without its position, and when it was stored."""

    at: int
    event: Event


class _Log:
    """The history of one topic.

    :param begun: when it began, in milliseconds since the epoch.
    """

    def __init__(self, topic: Topic, begun: int) -> None:
        self.tag = topic_tag(topic) + secrets.token_hex(4)
        self.begun = begun
        self.number = 0
        self.at = 0
        self.kept: deque[_Kept] = deque()
        self.numbers: dict[str, int] = {}
        self.size = _TOPIC_BYTES

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept, or of the next one."""
        return self.number - len(self.kept) + 1

    def place(self, number: int) -> Place:
        """The place of an event that is kept, or of one before these."""
        index = number - self.first
        return Place(self.kept[index].at if index >= 0 else 0, number, self.tag)

    @property
    def head(self) -> Place:
        return Place(self.at, self.number, self.tag) if self.number else BEGINNING

    def append(self, entry: Entry, now: int) -> Place:
        self.number += 1
        self.at = max(now, self.at)
        self.kept.append(_Kept(self.at, entry.event))
        self.size += entry.event.size + _EVENT_BYTES
        if entry.may_repeat:
            self.numbers[entry.event.id] = self.number
        return self.head

    def since(self, at: int) -> int:
        """The number of the first event that was stored at ``at`` or later."""
        return self.first + bisect_left(self.kept, at, key=lambda kept: kept.at)

    def trim(self, bounds: HistoryClass, now: int) -> None:
        """Keep no more than ``bounds`` allow."""
        oldest = now - round(1000 * bounds.seconds)
        while self.kept and (len(self.kept) > bounds.events or self.kept[0].at < oldest):
            self._drop()

    def clear(self) -> int:
        count = len(self.kept)
        while self.kept:
            self._drop()
        return count

    def _drop(self) -> None:
        number = self.first
        event = self.kept.popleft().event
        self.size -= event.size + _EVENT_BYTES
        if self.numbers.get(event.id) == number:
            del self.numbers[event.id]


@implementer(IHistory)
class MemoryHistory:
    """Serves a single dispatcher. It forgets everything with the process.

    :param classes: which topics have a history.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        classes: HistoryClasses,
        settings: History,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self._classes = classes
        self._settings = settings
        self._clock = clock
        self._now = now
        self._overlap = round(1000 * settings.overlap_seconds)
        # The topics with the last event at the end.
        self._logs: OrderedDict[Topic, _Log] = OrderedDict()
        self._size = 0
        # From when on nothing was lost of what is kept no more.
        self._complete_from = self._milliseconds()
        self._claims: OrderedDict[tuple[Topic, int], tuple[float, bool]] = OrderedDict()

    def keeps(self, topic: Topic) -> bool:
        return self._classes.of(topic) is not None

    def append(self, entries: Sequence[Entry]) -> Deferred[Sequence[Stored]]:
        return execute(lambda: [self._append(entry) for entry in entries])

    def read(self, queries: Sequence[HistoryQuery]) -> Deferred[Sequence[HistoryPage | None]]:
        return execute(lambda: [self._read(query) for query in queries])

    def heads(self, topics: Sequence[Topic]) -> Deferred[Mapping[Topic, Place]]:
        def heads() -> dict[Topic, Place]:
            logs = {t: self._log(t, c) for t in topics if (c := self._classes.of(t))}
            return {topic: log.head if log else BEGINNING for topic, log in logs.items()}

        return execute(heads)

    def overdue(self, limit: int) -> Deferred[Sequence[Stored]]:
        return execute(self._overdue, limit)

    def mark_delivered(self, stored: Sequence[Stored]) -> Deferred[None]:
        def mark() -> None:
            for each in stored:
                number = int(each.event.position.split("-")[1])
                self._claims.pop((each.event.topic, number), None)

        return execute(mark)

    def clear(self, topic: Topic) -> Deferred[int]:
        return execute(self._clear, topic)

    def _append(self, entry: Entry) -> Stored:
        event = entry.event
        bounds = self._classes.of(event.topic)
        if bounds is None:
            raise ValueError(f"{event.topic} has no history")
        now = self._milliseconds()
        log = self._log(event.topic, bounds)
        if log is None:
            log = self._logs[event.topic] = _Log(event.topic, now)
            self._size += log.size
        number = log.numbers.get(event.id)
        if entry.may_repeat and number is not None:
            held = log.kept[number - log.first].event
            return Stored(placed(held, log.place(number)), repeated=True, is_own=entry.is_own)
        self._size -= log.size
        place = log.append(entry, now)
        log.trim(bounds, now)
        self._size += log.size
        self._logs.move_to_end(event.topic)
        until = self._clock.seconds() + self._settings.claim_seconds
        self._claims[event.topic, place.number] = until, entry.is_own
        self._make_room(now)
        return Stored(placed(event, place), is_own=entry.is_own)

    def _read(self, query: HistoryQuery) -> HistoryPage | None:
        bounds = self._classes.of(query.topic)
        if bounds is None:
            return None
        log = self._log(query.topic, bounds)
        start, lost = self._start(query, log, bounds)
        if log is None:
            return HistoryPage(events=(), start=BEGINNING, head=BEGINNING, lost=lost)
        end = log.number
        limit = min(query.limit, self._settings.page_events)
        if query.before is not None:
            end = _before(query.before, log) - 1
            start = self._back_from(end, log, limit)
        events: list[Event] = []
        size = 0
        for kept in islice(log.kept, start + 1 - log.first, None):
            number = start + len(events) + 1
            size += kept.event.size
            too_large = events and size > self._settings.page_bytes
            if number > end or len(events) >= limit or too_large:
                break
            events.append(placed(kept.event, Place(kept.at, number, log.tag)))
        return HistoryPage(events=tuple(events), start=log.place(start), head=log.head, lost=lost)

    def _back_from(self, end: int, log: _Log, limit: int) -> int:
        """Return the number of the event before as many as are read at a time, up to ``end``."""
        start, size = end, 0
        while start >= log.first and end - start < limit:
            size += log.kept[start - log.first].event.size
            if size > self._settings.page_bytes and start < end:
                break
            start -= 1
        return start

    def _start(
        self, query: HistoryQuery, log: _Log | None, bounds: HistoryClass
    ) -> tuple[int, int]:
        """Return the number of the event before the first one asked for, and how many are lost."""
        before_first = log.first - 1 if log else 0
        if query.rewind is not None:
            return max(before_first, log.number - query.rewind if log else 0), 0
        since, at = query.since, query.at
        if since is not None and since.is_of(query.topic):
            if log and since.tag == log.tag:
                if since.number > log.number:
                    return log.number, LOST_UNKNOWN
                start = max(since.number, before_first)
                return start, start - since.number
            if log is None or log.begun > since.at:
                return before_first, LOST_UNKNOWN
        if since is not None:
            at = since.at
        if at is None:
            return before_first, 0
        at -= self._overlap
        return self._start_at(at, log, bounds)

    def _start_at(self, at: int, log: _Log | None, bounds: HistoryClass) -> tuple[int, int]:
        if log is None or log.begun > at:
            # Nothing is known of before, but that no event came for so long.
            known = (log.begun if log else self._milliseconds()) - _known_for(bounds)
            if at < max(self._complete_from, known):
                return (log.first - 1 if log else 0), LOST_UNKNOWN
        if log is None:
            return 0, 0
        is_lost = log.first > 1 and (log.kept[0].at if log.kept else log.at) >= at
        return log.since(at) - 1, LOST_UNKNOWN if is_lost else 0

    def _overdue(self, limit: int) -> list[Stored]:
        now = self._clock.seconds()
        self._forget_old()
        due = [claim for claim, (until, _) in islice(self._claims.items(), limit) if until <= now]
        found: list[Stored] = []
        for topic, number in due:
            _, is_own = self._claims.pop((topic, number))
            log = self._logs.get(topic)
            if log is None or number < log.first or number > log.number:
                continue
            self._claims[topic, number] = now + self._settings.claim_seconds, is_own
            event = log.kept[number - log.first].event
            found.append(Stored(placed(event, log.place(number)), is_own=is_own))
        return found

    def _clear(self, topic: Topic) -> int:
        log = self._logs.get(topic)
        if log is None:
            return 0
        self._size -= log.size
        count = log.clear()
        self._size += log.size
        return count

    def _log(self, topic: Topic, bounds: HistoryClass) -> _Log | None:
        """Return the history of a topic, without what is too old; ``None`` if nothing is known."""
        log = self._logs.get(topic)
        if log is None:
            return None
        now = self._milliseconds()
        if log.at < now - _known_for(bounds):
            self._remove(topic)
            return None
        self._size -= log.size
        log.trim(bounds, now)
        self._size += log.size
        return log

    def _remove(self, topic: Topic) -> None:
        log = self._logs.pop(topic)
        self._size -= log.size

    def _make_room(self, now: int) -> None:
        while self._size > self._settings.memory_bytes and len(self._logs) > 1:
            self._remove(next(iter(self._logs)))
            self._complete_from = now + 1

    def _forget_old(self) -> None:
        for topic in list(islice(self._logs, _SWEPT)):
            bounds = self._classes.of(topic)
            if bounds is not None:
                self._log(topic, bounds)

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)


def _known_for(bounds: HistoryClass) -> int:
    """Return for how long a topic is known after its last event, in milliseconds.

    That is longer than the event is kept, so that a viewer of a quiet topic is not told of a loss.
    """
    return round(2000 * bounds.seconds) + 3_600_000


def _before(place: Place, log: _Log) -> int:
    """Return the number of the first event that is not before ``place``."""
    if place.tag == log.tag:
        return min(max(place.number, log.first), log.number + 1)
    return log.since(place.at)
