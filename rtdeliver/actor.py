"""Bounded mailboxes and fair turns."""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rtdeliver.interfaces import IActor
from rtdeliver.metrics import Sample, counter, gauge

log = Logger()


class MailboxLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a mailbox holds: bytes of its items, and events in them."""

    mailbox_bytes: int
    mailbox_events: int


class Item(Protocol):
    """What a mailbox holds.

    ``size`` is the bytes it takes up, ``events`` how many events it carries: 0 for what must not
    be dropped.
    """

    @property
    def size(self) -> int: ...

    @property
    def events(self) -> int: ...


T = TypeVar("T", bound=Item)


class Mailbox(Generic[T]):
    """A queue with a bound, first in, first out.

    An empty one takes any item, so that an item larger than the bound passes alone.

    ``size`` and ``events`` tell how much is in it. ``held_bytes`` is for its owner to set: what
    was taken and could not be got rid of yet, which counts towards the bound.
    """

    __slots__ = ("_items", "_limits", "events", "held_bytes", "size")

    def __init__(self, limits: MailboxLimits) -> None:
        self._limits = limits
        self._items: list[T] = []
        self.size = 0
        self.events = 0
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Append ``item``, or return ``False`` and leave it out where there is no room."""
        size = self.size + item.size
        events = self.events + item.events
        limits = self._limits
        if (
            size + self.held_bytes > limits.mailbox_bytes or events > limits.mailbox_events
        ) and self._items:
            return False
        self._items.append(item)
        self.size = size
        self.events = events
        return True

    def put_dropping_oldest(self, item: T) -> list[T]:
        """Append ``item`` after dropping as many of the oldest as it takes.

        Items without events stay. Where they alone fill the mailbox, ``item`` itself is dropped.

        :return: the dropped items, oldest first.
        """
        dropped = []
        while not self.put(item):
            oldest = next((kept for kept in self._items if kept.events), None)
            if oldest is None:
                dropped.append(item)
                break
            self._items.remove(oldest)
            self._account(oldest, -1)
            dropped.append(oldest)
        return dropped

    def put_back(self, items: list[T]) -> None:
        """Put ``items`` before all others, whatever the bound: they were taken from here."""
        self._items[:0] = items
        for item in items:
            self._account(item, 1)

    def take(self, *, at_most_bytes: int, at_most_events: int) -> list[T]:
        """Remove and return what is in front, all of it where it is within the two limits.

        At least one item comes, however large, unless the mailbox is empty.
        """
        if self.size <= at_most_bytes and self.events <= at_most_events:
            return self.clear()
        end = size = events = 0
        for item in self._items:
            size += item.size
            events += item.events
            if end and (size > at_most_bytes or events > at_most_events):
                break
            end += 1
        taken, self._items = self._items[:end], self._items[end:]
        for item in taken:
            self._account(item, -1)
        return taken

    def clear(self) -> list[T]:
        """Remove and return all."""
        items, self._items = self._items, []
        self.size = self.events = 0
        return items

    def discard(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Remove and return the items that are ``unwanted``."""
        discarded = [item for item in self._items if unwanted(item)]
        if discarded:
            self._items = [item for item in self._items if not unwanted(item)]
        for item in discarded:
            self._account(item, -1)
        return discarded

    def _account(self, item: T, sign: int) -> None:
        self.size += sign * item.size
        self.events += sign * item.events


class RunQueue:
    """Gives turns to the actors that have work, in the order in which they asked.

    Turns are taken for a slice of time in each iteration of the reactor, which reads and accepts
    in between. An actor that asks again joins the end, so nobody waits more than one round.

    :param slice_seconds: how long turns are taken before the reactor gets its turn.
    """

    def __init__(self, *, clock: IReactorTime, slice_seconds: float) -> None:
        self._clock = clock
        self._slice_seconds = slice_seconds
        self._queue: deque[IActor] = deque()
        self._next: IDelayedCall | None = None
        self._turns = 0
        self._failed_turns = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, actor: IActor) -> None:
        """Let ``actor`` take a turn soon; nothing happens if it waits for one already."""
        if actor.queued:
            return
        actor.queued = True
        self._queue.append(actor)
        if self._next is None:
            self._next = self._clock.callLater(0, self._take_turns)

    def give_turn(self, actor: IActor) -> None:
        """Let ``actor`` take a turn now, before those that wait."""
        self._turns += 1
        try:
            actor.turn()
        except Exception:
            self._end(actor)

    def samples(self) -> list[Sample]:
        return [
            counter("turns", "Turns taken by actors.", self._turns),
            counter("failed_turns", "Turns that ended their actor.", self._failed_turns),
            gauge("run_queue_actors", "Actors that wait for a turn.", len(self._queue)),
        ]

    def _take_turns(self) -> None:
        queue = self._queue
        seconds = self._clock.seconds
        end = seconds() + self._slice_seconds
        while queue:
            actor = queue.popleft()
            actor.queued = False
            self.give_turn(actor)
            if seconds() >= end:
                break
        self._next = self._clock.callLater(0, self._take_turns) if queue else None

    def _end(self, actor: IActor) -> None:
        log.failure("{actor} failed in its turn and ends", actor=actor)
        self._failed_turns += 1
        try:
            actor.failed()
        except Exception:
            log.failure("{actor} failed while ending", actor=actor)
