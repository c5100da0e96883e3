"""Bounded mailboxes and fair turns."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rtdeliver.interfaces import IActor
from rtdeliver.metrics import Sample, counter, gauge

log = Logger()


class MailboxLimits(Protocol):
    """How much a mailbox holds, in bytes and in events. Sections of the settings have these."""

    @property
    def mailbox_bytes(self) -> int: ...

    @property
    def mailbox_events(self) -> int: ...


class Item(Protocol):
    """What a mailbox holds. ``size`` is how many bytes it takes up."""

    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=Item)


class Mailbox(Generic[T]):
    """A bounded queue, first in, first out.

    An empty mailbox takes any item, so an item larger than the bound still passes, alone.

    ``size`` is how many bytes are in the mailbox. The owner sets ``held_bytes``: the bytes that it
    has taken and could not hand on yet. They count towards the bound.
    """

    def __init__(self, limits: MailboxLimits) -> None:
        self._limits = limits
        self._items: deque[T] = deque()
        self.size = 0
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> Sequence[T]:
        """Append ``item``, and drop the oldest items until the mailbox is within its bound.

        :return: the dropped items, oldest first.
        """
        self._items.append(item)
        self.size += item.size
        return self._make_room() if self._is_too_full() else ()

    def take(self, *, at_most_bytes: int, at_most_events: int) -> list[T]:
        """Remove and return the oldest items, as many as the two limits allow.

        The first item is returned however large it is.
        """
        items, size = self._items, 0
        taken: list[T] = []
        while items and len(taken) < max(1, at_most_events):
            size += items[0].size
            if taken and size > at_most_bytes:
                break
            taken.append(self._remove_first())
        return taken

    def clear(self) -> list[T]:
        """Remove and return all items."""
        items = list(self._items)
        self._items.clear()
        self.size = 0
        return items

    def _make_room(self) -> list[T]:
        dropped = []
        while len(self._items) > 1 and self._is_too_full():
            dropped.append(self._remove_first())
        return dropped

    def _is_too_full(self) -> bool:
        limits = self._limits
        return (
            self.size + self.held_bytes > limits.mailbox_bytes
            or len(self._items) > limits.mailbox_events
        )

    def _remove_first(self) -> T:
        item = self._items.popleft()
        self.size -= item.size
        return item


class RunQueue:
    """Gives turns to the actors that have work, in the order in which they asked.

    In each iteration of the reactor, the queue gives turns for a slice of time. Then the reactor
    reads and accepts. An actor that asks again joins the end, so no actor waits for more than one
    round.

    :param slice_seconds: how long the queue gives turns before the reactor goes on.
    """

    def __init__(self, *, clock: IReactorTime, slice_seconds: float) -> None:
        self._clock = clock
        self._slice_seconds = slice_seconds
        self._queue: deque[IActor] = deque()
        self._next: IDelayedCall | None = None
        self._after_slices: list[Callable[[], None]] = []
        self._turns = 0
        self._failed_turns = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, actor: IActor) -> None:
        """Let ``actor`` take a turn soon; does nothing if it is in the queue already."""
        if actor.queued:
            return
        actor.queued = True
        self._queue.append(actor)
        if self._next is None:
            self._next = self._clock.callLater(0, self._take_turns)

    def after_slices(self, call: Callable[[], None]) -> None:
        """Call this whenever turns were given for a slice of time."""
        self._after_slices.append(call)

    def hurry(self, actor: IActor) -> None:
        """Let ``actor`` take a turn now; queue it if this iteration has given turns already."""
        if self._next is None:
            self._next = self._clock.callLater(0, self._take_turns)
            self.give_turn(actor)
        else:
            self.add(actor)

    def give_turn(self, actor: IActor) -> None:
        """Let ``actor`` take a turn now, ahead of the queue."""
        self._turns += 1
        try:
            actor.turn()
        except Exception:
            self._end(actor)

    def samples(self) -> list[Sample]:
        return [
            counter("turns", "Turns taken by actors.", self._turns),
            counter("failed_turns", "Turns that failed and ended their actor.", self._failed_turns),
            gauge("run_queue_actors", "Actors that wait for a turn.", len(self._queue)),
        ]

    def _take_turns(self) -> None:
        queue = self._queue
        seconds = self._clock.seconds
        end = seconds() + self._slice_seconds
        while queue:
            actor = queue.popleft()
            actor.queued = False
            self._turns += 1
            try:
                actor.turn()
            except Exception:
                self._end(actor)
            if seconds() >= end:
                break
        self._next = self._clock.callLater(0, self._take_turns) if queue else None
        for call in self._after_slices:
            call()

    def _end(self, actor: IActor) -> None:
        log.failure("{actor} failed in its turn and ends", actor=actor)
        self._failed_turns += 1
        try:
            actor.failed()
        except Exception:
            log.failure("{actor} failed while ending", actor=actor)
