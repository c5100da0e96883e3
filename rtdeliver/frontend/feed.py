"""How the events of one topic are kept until its viewers are sent them, once for all viewers."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from rtdeliver.config.sections import Viewers
from rtdeliver.frontend.ages import NOTHING, Passage, joined
from rtdeliver.frontend.chunked import chunk
from rtdeliver.frontend.tracking import TrackedEvent
from rtdeliver.model import Topic


class Frames(msgspec.Struct, frozen=True, gc=False):
    """Consecutive events of one topic, as bytes for a stream. Made once for all viewers."""

    data: bytes
    events: int
    topic: Topic
    passage: Passage = NOTHING


class FeedViewer(Protocol):
    """A viewer, as its feeds know it."""

    def wake(self, cursors: "tuple[Cursor]") -> None:
        """A feed has new events, for the first time since the viewer had taken all."""

    def forget(self, feed: "Feed[Any]") -> None:
        """The viewer no longer watches this topic."""

    def go_back(self, feed: "Feed[Any]", position: int | None) -> None:
        """The viewer is at another position now; at the end if that is ``None``."""

    def lose(self, topic: Topic, lost: int) -> None:
        """So many events are lost for the viewer; 0 if nobody knows how many."""

    def overtaken(self, feed: "Feed[Any]") -> None:
        """The feed has dropped events, perhaps some that the viewer has not taken.

        Called only if ``overflow`` is ``close``.
        """


class Part(Protocol):
    """A part of what a feed has no more."""

    @property
    def data(self) -> bytes: ...

    @property
    def events(self) -> int: ...

    @property
    def end(self) -> int:
        """The position after it."""

    @property
    def lost(self) -> int | None:
        """How many events before it are lost; 0 if nobody knows, ``None`` if none is."""


class Past(Protocol):
    """The events of a topic with history that its feed has no more."""

    def take(self, position: int) -> Part | None:
        """Return the part that follows a position; ``None`` if it must be read first."""

    def park(self, viewer: FeedViewer, position: int) -> None:
        """Wake ``viewer`` at its position once the part that follows it was read."""

    def unpark(self, viewer: FeedViewer) -> None:
        """Forget a viewer that leaves."""


V = TypeVar("V", bound=FeedViewer)

Taken = tuple[bytes, int, int, Passage]
"""What a viewer takes of a feed; see `Feed.take`."""


class Feed(Generic[V]):
    """The events of a topic that some viewers have not taken yet, kept once for all viewers.

    Instead of a mailbox, a viewer has a position in the feed: the number of events that were posted
    up to the last one that it took. So a post costs nothing for viewers that wait for a turn
    already. A full feed drops its oldest events. A viewer that missed some notices this when it
    takes the next ones; if the topic has a history, it is sent them from there.

    :param next_number: returns a higher number for each post in any feed, which puts the posts of
        all feeds in one order.
    """

    __slots__ = (
        "_behind",
        "_byte_starts",
        "_bytes_posted",
        "_chunks",
        "_ends",
        "_idle",
        "_log",
        "_next_number",
        "_numbers",
        "_passages",
        "_settings",
        "_viewers",
        "end",
        "knows_past",
        "past",
        "start",
        "topic",
    )

    def __init__(self, topic: Topic, settings: Viewers, next_number: Callable[[], int]) -> None:
        self.topic = topic
        self.start = 0
        """The position of the oldest event that is kept."""
        self.end = 0
        """The position after the newest event."""
        self.past: Past | None = None
        """What the topic's history has; ``None`` if it has none, as far as is known."""
        self.knows_past = False
        """Whether it is known if the topic has a history."""
        self._settings = settings
        self._next_number = next_number
        self._viewers: dict[V, None] = {}
        self._idle: dict[V, None] = {}
        self._behind = 0
        self._log: list[bytes] = []
        self._ends: list[int] = []
        self._numbers: list[int] = []
        self._passages: list[Passage] = []
        # How many bytes were posted before each of the log, and in all.
        self._byte_starts: list[int] = []
        self._bytes_posted = 0
        self._chunks: dict[int, Taken] = {}

    def __len__(self) -> int:
        return len(self._viewers)

    def __iter__(self) -> Iterator[V]:
        return iter(self._viewers)

    def __contains__(self, viewer: V) -> bool:
        return viewer in self._viewers

    def join(self, viewer: V) -> None:
        """Add ``viewer``, which gets what is posted from now on."""
        self._viewers[viewer] = None
        self._idle[viewer] = None

    def leave(self, viewer: V) -> None:
        """Remove ``viewer``, which then gets none of the events that it has not taken yet."""
        viewer.forget(self)
        if self.past is not None:
            self.past.unpark(viewer)
        del self._viewers[viewer]
        if viewer in self._idle:
            del self._idle[viewer]
        else:
            self._catch_up()

    def post(self, frames: Frames) -> None:
        """Keep ``frames`` until all viewers have taken them, and wake those that had taken all."""
        position = self.end
        self.end += frames.events
        self._log.append(frames.data)
        self._ends.append(self.end)
        self._numbers.append(self._next_number())
        self._passages.append(frames.passage)
        self._byte_starts.append(self._bytes_posted)
        self._bytes_posted += len(frames.data)
        self._chunks.clear()
        self._make_room()
        self._wake_idle(position)
        if not self._behind:
            self._clear()

    def skip_to(self, position: int) -> None:
        """Go on at a later position. Viewers are sent from the history what is before it."""
        before = self.end
        self._clear()
        self.start = self.end = position
        self._wake_idle(before)

    def resume(self, viewer: V, position: int) -> None:
        """Let a viewer that has not been sent anything go on after a position."""
        if viewer not in self._idle:
            viewer.go_back(self, None)
            self.advance(viewer, self.end)
        if position < self.end:
            del self._idle[viewer]
            self._behind += 1
            viewer.go_back(self, position)

    def take(self, viewer: V, position: int) -> Taken:
        """Return the events after ``position``, as many as may be sent at a time.

        :return: a chunk of frames, the number of events in them, the position after them, and what
            is noted of them. The position grows by more than that number if events between were
            dropped.
        """
        taken = self._chunks.get(position)
        if taken is None:
            if self.past is not None and self.lacks(position):
                return self._take_past(viewer, position, self.past)
            taken = self._chunks[position] = self._make_chunk(position)
        self.advance(viewer, taken[2])
        return taken

    def lacks(self, position: int) -> bool:
        """Return whether what follows a position must come from the history of the topic.

        That is so before the oldest event, and within events that were posted together.
        """
        return self.past is not None and self.begins_after(position) != position

    def begins_after(self, position: int) -> int:
        """Return the first position, from this one on, after which the feed has the events."""
        if position <= self.start:
            return self.start
        return self._ends[bisect_left(self._ends, position)]

    def since(self, position: int) -> Iterator[tuple[int, bytes, int, Passage]]:
        """Yield the events after ``position`` without taking them; `advance` does that.

        Each is looked up when it is asked for, and nothing may be posted meanwhile.

        :return: for each post its number, its frames, the position after it, and what is noted of
            its events.
        """
        for index in range(bisect_right(self._ends, position), len(self._ends)):
            yield self._numbers[index], self._log[index], self._ends[index], self._passages[index]

    def tracked_since(self, position: int) -> Iterator[TrackedEvent]:
        """Yield the tracked events after ``position``."""
        for passage in self._passages[bisect_right(self._ends, position) :]:
            yield from passage.tracked

    def advance(self, viewer: V, position: int) -> None:
        """Note that ``viewer`` is at ``position`` now. At the end, the next post wakes it again."""
        if position == self.end:
            self._idle[viewer] = None
            self._catch_up()

    def bytes_since(self, position: int) -> int:
        """How many bytes are kept for a viewer at ``position``."""
        first = bisect_right(self._ends, position)
        return self._bytes_posted - self._byte_starts[first] if first < len(self._ends) else 0

    def _take_past(self, viewer: V, position: int, past: Past) -> Taken:
        part = past.take(position)
        if part is None:
            past.park(viewer, position)
            return b"", 0, self.end, NOTHING
        if part.lost is not None:
            viewer.lose(self.topic, part.lost)
        self.advance(viewer, part.end)
        return part.data, part.events, part.end, NOTHING

    def _wake_idle(self, position: int) -> None:
        # All viewers share one tuple: one for each would keep the garbage collector busy.
        cursors = ((self, position),)
        idle, self._idle = self._idle, {}
        self._behind += len(idle)
        for viewer in idle:
            viewer.wake(cursors)

    def _make_chunk(self, position: int) -> Taken:
        first = last = bisect_right(self._ends, position)
        size = 0
        while last < len(self._log):
            size += len(self._log[last])
            if size > self._settings.send_bytes and last > first:
                break
            last += 1
        end = self._ends[last - 1]
        data = chunk(b"".join(self._log[first:last]))
        return data, end - max(position, self.start), end, joined(self._passages[first:last])

    def _catch_up(self) -> None:
        self._behind -= 1
        if not self._behind:
            self._clear()

    def _clear(self) -> None:
        self._log.clear()
        self._ends.clear()
        self._numbers.clear()
        self._passages.clear()
        self._byte_starts.clear()
        self._chunks.clear()
        self.start = self.end

    def _make_room(self) -> None:
        limits, log = self._settings, self._log
        drop = 0
        while drop < len(log) - 1 and (
            self._bytes_posted - self._byte_starts[drop] > limits.mailbox_bytes
            or self.end - self.start > limits.mailbox_events
        ):
            self.start = self._ends[drop]
            drop += 1
        if drop:
            del log[:drop]
            del self._ends[:drop]
            del self._numbers[:drop]
            del self._passages[:drop]
            del self._byte_starts[:drop]
            if self._settings.overflow == "close" and self.past is None:
                for viewer in list(self._viewers):
                    viewer.overtaken(self)


Cursor = tuple[Feed[Any], int]
"""A feed, and a viewer's position in it."""


def in_order(cursors: Sequence[Cursor]) -> Iterator[tuple[int, bytes, int, Passage]]:
    """Yield what follows each of ``cursors`` in its feed, in the order in which it was posted.

    It is looked up only as far as it is asked for: it may be thousands of events.

    :return: for each post the index of the cursor, its frames, the position after it, and what is
        noted of its events.
    """
    following = [feed.since(position) for feed, position in cursors]
    heads = [(*post, index) for index, posts in enumerate(following) for post in islice(posts, 1)]
    heapify(heads)
    while heads:
        _, data, end, passage, index = heads[0]
        yield index, data, end, passage
        post = next(following[index], None)
        if post is None:
            heappop(heads)
        else:
            heapreplace(heads, (*post, index))
