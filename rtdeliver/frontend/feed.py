"""What the viewers of one topic are sent, kept once for all of them."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from rtdeliver.config.sections import Viewers
from rtdeliver.model import Topic


class Frames(msgspec.Struct, frozen=True, gc=False):
    """Consecutive events of one topic as bytes for a stream, made once for all viewers."""

    data: bytes
    events: int
    topic: Topic


class FeedViewer(Protocol):
    """Who watches topics."""

    def wake(self, cursors: "tuple[Cursor]") -> None:
        """There is something to take, for the first time since all was taken."""

    def forget(self, feed: "Feed[Any]") -> None:
        """It does not watch this topic any more."""

    def overtaken(self, feed: "Feed[Any]") -> None:
        """What it has not taken may be kept no longer, and it is not to miss it."""


V = TypeVar("V", bound=FeedViewer)


class Feed(Generic[V]):
    """The events of a topic that some viewer has not been sent yet, and who has been sent all.

    A viewer has a position in it instead of a mailbox of its own: the number of events that there
    had been when it had taken all. So what is posted while viewers wait for their turns costs
    nothing for each of them. The oldest events are dropped where there is no room for them;
    viewers who had not taken these find it out when they take what follows.

    :param number: gives all that is posted in any feed its place in one order.
    """

    __slots__ = (
        "_behind",
        "_bytes",
        "_ends",
        "_idle",
        "_joined",
        "_log",
        "_number",
        "_numbers",
        "_settings",
        "_viewers",
        "end",
        "start",
        "topic",
    )

    def __init__(self, topic: Topic, settings: Viewers, number: Callable[[], int]) -> None:
        self.topic = topic
        self.start = 0
        """The position of the first event that is kept."""
        self.end = 0
        """The position after the last event."""
        self._settings = settings
        self._number = number
        self._viewers: dict[V, None] = {}
        self._idle: dict[V, None] = {}
        self._behind = 0
        self._log: list[bytes] = []
        self._ends: list[int] = []
        self._numbers: list[int] = []
        self._bytes = 0
        self._joined: dict[int, tuple[bytes, int, int]] = {}

    def __len__(self) -> int:
        return len(self._viewers)

    def __iter__(self) -> Iterator[V]:
        return iter(self._viewers)

    def join(self, viewer: V) -> None:
        """Let ``viewer`` have what is posted from now on."""
        self._viewers[viewer] = None
        self._idle[viewer] = None

    def leave(self, viewer: V) -> None:
        """Let ``viewer`` have no more, also of what it has not taken yet."""
        viewer.forget(self)
        del self._viewers[viewer]
        if viewer in self._idle:
            del self._idle[viewer]
        else:
            self._catch_up()

    def post(self, frames: Frames) -> None:
        """Keep ``frames`` until all viewers have taken them, and wake those who wait."""
        position = self.end
        self.end += frames.events
        self._log.append(frames.data)
        self._ends.append(self.end)
        self._numbers.append(self._number())
        self._bytes += len(frames.data)
        self._joined.clear()
        self._make_room()
        # Made once for all: a tuple for each viewer would keep the garbage collector busy.
        cursors = ((self, position),)
        idle, self._idle = self._idle, {}
        self._behind += len(idle)
        for viewer in idle:
            viewer.wake(cursors)
        if not self._behind:
            self._clear()

    def take(self, viewer: V, position: int) -> tuple[bytes, int, int]:
        """Return what follows ``position``, as much as may be sent at a time.

        :return: frames, how many events these are, and the position after them. It has grown by
            more than so many events where some were dropped.
        """
        taken = self._joined.get(position)
        if taken is None:
            taken = self._joined[position] = self._join(position)
        self.advance(viewer, taken[2])
        return taken

    def since(self, position: int) -> Iterator[tuple[int, bytes, int]]:
        """Return what follows ``position``, which is not taken by that.

        :return: frames, each with its number before it, and the position after it.
        """
        first = bisect_right(self._ends, position)
        return zip(self._numbers[first:], self._log[first:], self._ends[first:], strict=True)

    def advance(self, viewer: V, position: int) -> None:
        """Note how far ``viewer`` has come; it is woken again once it has come to the end."""
        if position == self.end:
            self._idle[viewer] = None
            self._catch_up()

    def bytes_since(self, position: int) -> int:
        """How many bytes are kept for a viewer at ``position``."""
        return sum(map(len, self._log[bisect_right(self._ends, position) :]))

    def _join(self, position: int) -> tuple[bytes, int, int]:
        first = last = bisect_right(self._ends, position)
        size = 0
        while last < len(self._log):
            size += len(self._log[last])
            if size > self._settings.send_bytes and last > first:
                break
            last += 1
        pieces = self._log[first:last]
        end = self._ends[last - 1]
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return data, end - max(position, self.start), end

    def _catch_up(self) -> None:
        self._behind -= 1
        if not self._behind:
            self._clear()

    def _clear(self) -> None:
        self._log.clear()
        self._ends.clear()
        self._numbers.clear()
        self._joined.clear()
        self._bytes = 0
        self.start = self.end

    def _make_room(self) -> None:
        limits, log = self._settings, self._log
        drop = 0
        while drop < len(log) - 1 and (
            self._bytes > limits.mailbox_bytes or self.end - self.start > limits.mailbox_events
        ):
            self._bytes -= len(log[drop])
            self.start = self._ends[drop]
            drop += 1
        if drop:
            del log[:drop]
            del self._ends[:drop]
            del self._numbers[:drop]
            if self._settings.overflow == "close":
                for viewer in list(self._viewers):
                    viewer.overtaken(self)


Cursor = tuple[Feed[Any], int]
"""A feed, and a viewer's position in it."""
