"""In which order a frontend passes on the events of a topic with history: the one of the store."""

from collections.abc import Iterable
from typing import NamedTuple

from rtdeliver.messages import HistoryPage
from rtdeliver.model import Event, Place, check_position

# Of events that came too early, so many are kept; the others are read from the history.
_MOST_WAITING = 1000
# So many epochs of a topic are told apart.
_MOST_SEGMENTS = 8


class _Segment(NamedTuple):
    """Consecutive positions in a feed, and their numbers in one epoch of a history.

    :param position: the first position.
    :param offset: by how much positions are higher than numbers.
    :param at: a time no later than when the events after the first position were stored.
    """

    position: int
    offset: int
    tag: str
    at: int


class TopicOrder:
    """Which events of a topic have come, and which come next.

    Each is passed on once, after the one before it. One that comes too early waits. What does not
    come must be read from the history.

    A position in the feed of the topic counts events. The position grows by more than one where
    events are left out.

    :param head: the place of the last event that was stored before; `BEGINNING` for none.
    :param position: the position in the feed that stands for it.
    """

    def __init__(self, head: Place, position: int) -> None:
        self._last = head
        self._segments = [_Segment(position, position - head.number, head.tag, head.at)]
        self._waiting: dict[int, Event] = {}
        self._stored = head.number
        self._is_in_other_epoch = False
        self._may_be_behind = False
        self._other: Event | None = None
        self.unreadable_until = position - head.number
        """What is not after this position in the feed can be read no more."""

    @property
    def last(self) -> Place:
        """The place of the last event that was passed on."""
        return self._last

    @property
    def position(self) -> int:
        """The position in the feed after it."""
        return self._last.number + self._segments[-1].offset

    @property
    def is_behind(self) -> bool:
        """Whether there are events that have not come, as far as is known."""
        return (
            bool(self._waiting)
            or self._may_be_behind
            or self._is_in_other_epoch
            or self._stored > self._last.number
        )

    def admit(self, event: Event) -> list[Event]:
        """Take an event that has come; return those that can be passed on now."""
        place = check_position(event.position)
        if place.tag != self._last.tag:
            if place.number == 1 and not self._last.tag:
                self._begin_epoch(Place(place.at, 0, place.tag), self._segments[-1].offset)
            else:
                if self._is_later(place):
                    self._is_in_other_epoch = True
                    self._other = event
                return []
        if place.number <= self._last.number:
            return []
        if place.number > self._last.number + 1:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting[place.number] = event
            self._stored = max(self._stored, place.number)
            return []
        self._last = place
        return [event, *self._drain()] if self._waiting else [event]

    def note_head(self, head: Place) -> None:
        """Take the place of the last event that is stored."""
        if head.tag == self._last.tag:
            self._stored = max(self._stored, head.number)
        elif self._is_later(head):
            self._is_in_other_epoch = True

    def note_lost(self) -> None:
        """Note that events were lost on the way, nobody knows how many."""
        self._may_be_behind = True

    def take(self, page: HistoryPage) -> list[Event]:
        """Take what was read from the history since `last`; return what can be passed on now.

        If there are events in between that the history has no more, `position` has grown by more
        than the number of the events that are returned.
        """
        head, start = page.head, page.start
        self._may_be_behind = False
        if head.tag != self._last.tag:
            if not self._is_later(head):
                # Nothing is stored any more, or the page was read earlier.
                self._forget_other_epoch()
                return []
            self._enter(page)
        elif start.number > self._last.number:
            self._skip_to(start)
        self._forget_other_epoch()
        self._stored = max(self._stored, head.number)
        events: list[Event] = []
        for number, event in enumerate(page.events, start.number + 1):
            if number == self._last.number + 1:
                self._last = check_position(event.position)
                events.append(event)
        return [*events, *self._drain()]

    def give_up(self) -> list[Event]:
        """Leave out what has not come, and return what can be passed on then."""
        other = self._other
        self._may_be_behind = False
        self._forget_other_epoch()
        if other is not None:
            place = check_position(other.position)
            before = Place(place.at, place.number - 1, place.tag)
            self._begin_epoch(before, self.position + 1 - before.number)
            self.unreadable_until = self.position
            return self.admit(other)
        number = min(self._waiting, default=self._stored + 1) - 1
        if number > self._last.number:
            self._skip_to(Place(self._last.at, number, self._last.tag))
            self.unreadable_until = self.position
        return self._drain()

    def insert(self, events: int) -> None:
        """Note that the feed has got events that are not in the history."""
        offset = self._segments[-1].offset + events
        self._add(_Segment(self.position + events, offset, self._last.tag, self._last.at))

    def place_at(self, position: int) -> Place | None:
        """Return the place of the event before a position in the feed.

        :return: ``None`` if it is not known any more.
        """
        for segment in reversed(self._segments):
            if segment.position <= position:
                return Place(segment.at, position - segment.offset, segment.tag)
        oldest = self._segments[0]
        number = position - oldest.offset
        # Of an earlier event the time is not known, and is not needed: the epoch is the same.
        return Place(oldest.at, number, oldest.tag) if number >= 0 else None

    def position_of(self, place: Place) -> int | None:
        """Return the position in the feed after the event at ``place``.

        :return: ``None`` if ``place`` is in another epoch than those that are known.
        """
        for segment in reversed(self._segments):
            if segment.tag == place.tag:
                return place.number + segment.offset
        return None

    def _drain(self) -> list[Event]:
        events: list[Event] = []
        waiting = self._waiting
        if waiting:
            while (event := waiting.pop(self._last.number + 1, None)) is not None:
                self._last = check_position(event.position)
                events.append(event)
            _remove(waiting, [number for number in waiting if number <= self._last.number])
        return events

    def _forget_other_epoch(self) -> None:
        self._is_in_other_epoch = False
        self._other = None

    def _is_later(self, place: Place) -> bool:
        """Return whether a place in another epoch can be later than the last one here.

        What was stored earlier is late: it is from an epoch that is over.
        """
        if any(segment.tag == place.tag for segment in self._segments):
            return place.at > self._last.at
        return bool(place.tag) and place.at >= self._last.at

    def _enter(self, page: HistoryPage) -> None:
        """Go on in another epoch."""
        start, number, offset = page.start, self._last.number, self._segments[-1].offset
        lost = page.lost if self._last.tag else start.number
        if lost < 0 or start.number != number + lost:
            # Numbers do not go on. Positions grow by one for the unknown number that is lost.
            offset = self.position + 1 - start.number
        self._begin_epoch(start, offset)

    def _begin_epoch(self, start: Place, offset: int) -> None:
        self._waiting.clear()
        self._skip_to(start, offset)
        self._stored = start.number
        other = self._other
        self._forget_other_epoch()
        if other is not None:
            place = check_position(other.position)
            if place.tag == start.tag and place.number > start.number:
                self._waiting[place.number] = other
                self._stored = max(self._stored, place.number)

    def _skip_to(self, place: Place, offset: int | None = None) -> None:
        # The store does not tell when an event came that it has no more.
        at = place.at or self._last.at
        self._last = Place(at, place.number, place.tag)
        _remove(self._waiting, [number for number in self._waiting if number <= place.number])
        offset = self._segments[-1].offset if offset is None else offset
        self._add(_Segment(place.number + offset, offset, place.tag, at))

    def _add(self, segment: _Segment) -> None:
        self._segments.append(segment)
        del self._segments[:-_MOST_SEGMENTS]


def _remove(waiting: dict[int, Event], numbers: Iterable[int]) -> None:
    for number in numbers:
        del waiting[number]
