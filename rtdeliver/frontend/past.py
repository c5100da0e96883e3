"""What viewers have missed of a topic with history: it is read for them, and sent in parts."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rtdeliver.errors import RemoteFailure
from rtdeliver.frontend import sse
from rtdeliver.frontend.chunked import chunk
from rtdeliver.frontend.feed import Feed, FeedViewer
from rtdeliver.frontend.history_reader import HistoryReader
from rtdeliver.frontend.timed_cache import TimedCache
from rtdeliver.frontend.topic_order import TopicOrder
from rtdeliver.messages import HistoryPage, HistoryQuery
from rtdeliver.model import Place

log = Logger()

V = TypeVar("V", bound=FeedViewer)

# What a part counts for beside its bytes.
_PART_BYTES = 200


class Part(NamedTuple):
    """Consecutive events, as bytes for a stream.

    :param data: a chunk; empty if there are no events.
    :param end: the position after them.
    :param lost: how many events before them are not kept any more; 0 if nobody knows, ``None`` if
        none is lost.
    """

    data: bytes
    events: int
    end: int
    lost: int | None = None


PartCache = TimedCache[tuple["StoredPast", int], Part]
"""The parts of all topics."""


class StoredPast:
    """The events of a topic before the oldest one that its feed has.

    :param parts: keeps parts, since many viewers want the same.
    :param send_bytes: the most bytes of a part.
    :param catch_up: brings the order to the epoch of a place.
    """

    def __init__(
        self,
        *,
        feed: Feed[Any],
        order: TopicOrder,
        reader: HistoryReader,
        parts: PartCache,
        send_bytes: int,
        catch_up: Callable[[Place], Awaitable[None]],
    ) -> None:
        self.order = order
        self._feed = feed
        self._reader = reader
        self._parts = parts
        self._send_bytes = send_bytes
        self._catch_up = catch_up
        self._positions: dict[FeedViewer, int] = {}
        self._viewers: dict[int, dict[FeedViewer, None]] = {}

    def take(self, position: int) -> Part | None:
        """Return what follows a position; ``None`` if it must be read first."""
        unreadable = self.order.unreadable_until
        if position < unreadable:
            end = min(unreadable, self._feed.begins_after(position))
            before, after = self.order.place_at(position), self.order.place_at(end)
            is_counted = before is not None and after is not None and before.tag == after.tag
            return Part(b"", 0, end, end - position if is_counted else 0)
        return self._parts.get((self, position))

    def park(self, viewer: FeedViewer, position: int) -> None:
        """Wake ``viewer`` at its position once what follows it was read."""
        self._positions[viewer] = position
        viewers = self._viewers.get(position)
        if viewers is not None:
            viewers[viewer] = None
            return
        self._viewers[position] = {viewer: None}
        Deferred.fromCoroutine(self._read(position)).addErrback(
            lambda failure: log.failure("what viewers missed could not be read", failure)
        )

    def unpark(self, viewer: FeedViewer) -> None:
        """Forget a viewer that leaves."""
        position = self._positions.pop(viewer, None)
        if position is not None:
            self._viewers[position].pop(viewer, None)

    def keep(self, asked: int, page: HistoryPage) -> bool:
        """Keep the parts of a page that was read since a position.

        :return: whether there is anything in it.
        """
        feed = self._feed
        start = self.order.position_of(page.start)
        if start is None:
            self._lose(asked)
            return True
        most = feed.begins_after(asked)
        first = max(asked, min(start, most))
        lost = None
        if page.lost and first > asked:
            lost = min(first - asked, max(page.lost, 0))
        parts: dict[int, Part] = {}
        frames: list[bytes] = []
        size, begin, end = 0, asked, first
        for position, event in enumerate(page.events, start + 1):
            if first < position <= most:
                frame = sse.event_frame(event)
                if frames and size + len(frame) > self._send_bytes:
                    parts[begin] = _part(frames, end, lost)
                    frames, size, begin, lost = [], 0, end, None
                frames.append(frame)
                size += len(frame)
                end = position
        if end > begin:
            parts[begin] = _part(frames, end, lost)
        # The first one last, since it is needed first, and others may be kept no longer.
        for begin in reversed(parts):
            self._keep(begin, parts[begin])
        return bool(parts)

    async def _read(self, position: int) -> None:
        try:
            if not (
                await self._keep_read(position, fresh=False)
                or await self._keep_read(position, fresh=True)
            ):
                self._lose(position)
        except RemoteFailure as failure:
            log.warn(
                "what viewers of {topic} missed could not be read: {e}",
                topic=self._feed.topic,
                e=failure,
            )
            self._lose(position)
        finally:
            for viewer in self._viewers.pop(position, ()):
                del self._positions[viewer]
                viewer.wake(((self._feed, position),))

    async def _keep_read(self, position: int, *, fresh: bool) -> bool:
        place = self.order.place_at(position)
        if place is None:
            return False
        query = HistoryQuery(topic=self._feed.topic, since=place if place.tag else None, limit=0)
        page = await self._reader.read(query, fresh=fresh)
        if page is None:
            return False
        if not place.tag and page.start.number:
            page = replace(page, lost=page.start.number)
        if self.order.position_of(page.start) is None:
            await self._catch_up(page.head)
        return self.keep(position, page)

    def _lose(self, position: int) -> None:
        """Note that nobody can read what follows a position, up to what the feed has."""
        self._keep(position, Part(b"", 0, self._feed.begins_after(position), 0))

    def _keep(self, position: int, part: Part) -> None:
        self._parts.put((self, position), part, len(part.data) + _PART_BYTES)


def _part(frames: Sequence[bytes], end: int, lost: int | None) -> Part:
    data = chunk(b"".join(frames)) if frames else b""
    return Part(data, len(frames), end, lost)
