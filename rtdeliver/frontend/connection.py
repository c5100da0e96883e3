"""One browser's stream, as an actor: its mailbox, its turns, its end."""

import enum
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IProtocol, ITransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from rtdeliver.actor import RunQueue
from rtdeliver.config.sections import Viewers
from rtdeliver.errors import StreamLost
from rtdeliver.frontend import sse
from rtdeliver.frontend.ages import NOTHING, Passage, joined
from rtdeliver.frontend.chunked import LAST_CHUNK, chunk
from rtdeliver.frontend.feed import Cursor, Feed, in_order
from rtdeliver.frontend.tracking import TrackedEvent
from rtdeliver.interfaces import IActor, IStream, IStreamOwner, IVisited
from rtdeliver.model import CloseReason, ConnectionId, Member, Topic
from rtdeliver.tokens import Identity
from rtdeliver.wheel import TimingWheel


class ConnectionCounts:
    """Counts over all connections of a process: plain numbers, which are fast to add to.

    :ivar sent_passages: how many sends there were, by what is noted of the events in each.
    """

    def __init__(self, sent_passages: defaultdict[Passage, int]) -> None:
        self.sent_passages = sent_passages
        self.sent = 0
        self.sends = 0
        self.dropped: Counter[str] = Counter()


class _State(enum.Enum):
    OPENING = "nothing is sent until the first frame is ready"
    OPEN = "the stream accepts data"
    ENDING = "the stream accepts data, and is to close when it has accepted what waited"
    BLOCKED = "the stream accepts no data for now"
    CLOSING = "the stream was asked to close"
    CLOSED = "the stream is gone"


# Looking up a member of an enum is slow, and every turn needs this one.
_OPEN = _State.OPEN


# Each empty set would be one of its own.
_NO_TOPICS: frozenset[Topic] = frozenset()


class _Ending:
    """How a stream ends.

    :param last: the last frame; empty once it is taken.
    :param until: the position in each feed up to which the viewer is sent the events.
    """

    __slots__ = ("last", "reason", "until")

    def __init__(self, last: bytes, reason: CloseReason, until: Mapping[Feed[Any], int]) -> None:
        self.last = last
        self.reason = reason
        self.until = until

    def waits_for(self, cursors: Iterable[Cursor]) -> bool:
        """Return whether a viewer at these positions has to be sent more events."""
        return any(position < self.until.get(feed, 0) for feed, position in cursors)


@implementer(IVisited)
class _Expiry:
    """A visit at the time when a new token expires, once."""

    __slots__ = ("_connection",)

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def visit(self, now: float) -> None:
        self._connection.check_expiry(now)


@implementer(IStreamOwner, IProtocol, IActor, IVisited)
class Connection:
    """A viewer's stream.

    It becomes its transport's protocol. The feeds of its topics wake it when they have new events.
    A turn sends what has accumulated since the last one, in one send.

    :param identity: what the viewer's token proves; ``None`` for a viewer without one.
    :param expires_at: when the stream must end, by the clock of ``wheel``.
    :param heartbeat: what is sent when there was nothing else for a while.
    :param lost: called once, with the connection and the reason, when the stream is gone.
    """

    # Hundreds of thousands of these exist at a time.
    __slots__ = (
        "_control",
        "_counts",
        "_cursors",
        "_ending",
        "_expires_at",
        "_gaps",
        "_heartbeat",
        "_last_progress",
        "_lost",
        "_reason",
        "_rest",
        "_run_queue",
        "_settings",
        "_state",
        "_stream",
        "_unsent_bytes",
        "_wheel",
        "given",
        "id",
        "identity",
        "queued",
        "sequence",
    )

    def __init__(
        self,
        *,
        id: ConnectionId,
        identity: Identity | None = None,
        expires_at: float = math.inf,
        heartbeat: bytes = sse.HEARTBEAT,
        settings: Viewers,
        run_queue: RunQueue,
        wheel: TimingWheel,
        counts: ConnectionCounts,
        lost: Callable[["Connection", CloseReason], None],
    ) -> None:
        self.id = id
        self.identity = identity
        self.given = _NO_TOPICS
        """The topics that a backend has added, whatever the token grants."""
        self.queued = False
        self.sequence = -1
        """That of the last change of topics that had one."""
        self._expires_at = expires_at
        self._heartbeat = heartbeat
        self._settings = settings
        self._run_queue = run_queue
        self._wheel = wheel
        self._counts = counts
        self._lost = lost
        self._cursors: tuple[Cursor, ...] = ()
        self._control = b""
        self._state = _State.OPENING
        self._ending: _Ending | None = None
        self._stream: IStream | None = None
        self._reason = CloseReason.CLIENT_LEFT
        self._rest = b""
        # How many events of each topic were lost; 0 for an unknown number.
        self._gaps: dict[Topic, int] | None = None
        self._unsent_bytes = 0
        self._last_progress = wheel.now

    @property
    def member(self) -> Member | None:
        """The member who watches; ``None`` for an anonymous viewer."""
        return None if self.identity is None else self.identity.member

    @property
    def is_ending(self) -> bool:
        """Whether its last frame is decided."""
        return self._ending is not None or self._state in (_State.CLOSING, _State.CLOSED)

    @property
    def mailbox_bytes(self) -> int:
        """How many bytes wait to be sent."""
        waiting = sum(feed.bytes_since(position) for feed, position in self._cursors)
        return len(self._rest) + len(self._control) + waiting

    @property
    def mailbox_events(self) -> int:
        """How many events wait to be sent."""
        return sum(feed.end - max(position, feed.start) for feed, position in self._cursors)

    @property
    def missed_events(self) -> int:
        """How many events were dropped since its last turn."""
        return sum(
            max(0, feed.start - position) for feed, position in self._cursors if feed.past is None
        )

    # Called by the frontend.

    def open(self, first: bytes) -> None:
        """Send ``first``, then the events that wait already, and those that follow.

        :param first: the head of the response, and the first chunk.
        """
        if self._state is _State.OPENING:
            self._rest = first
            self._accept()
            self._wheel.add(self, self._visit_seconds())
            # At once, so that a new viewer does not wait for a fan-out to all the others.
            self._run_queue.give_turn(self)

    def miss(self, topic: Topic, lost: int) -> None:
        """Send a gap: ``lost`` events of ``topic`` will not come.

        :param lost: 0 if the number is unknown.
        """
        self._note_gap(topic, lost)
        if self._state is _OPEN:
            self._run_queue.add(self)

    def tell(self, frame: bytes) -> None:
        """Send a control frame, after the events that wait already.

        A client that does not read, and for which these come again and again, is aborted.
        """
        if self.is_ending:
            return
        self._control += frame
        if len(self._control) > self._settings.mailbox_bytes:
            self.abort(CloseReason.OVERFLOW)
        elif self._state is _OPEN:
            self._run_queue.add(self)

    def renew(self, identity: Identity, expires_at: float) -> None:
        """Go on with a new token.

        :param expires_at: when the stream must end now, by the clock of the wheel.
        """
        is_sooner = expires_at < self._expires_at
        self.identity = identity
        self._expires_at = expires_at
        if is_sooner:
            # The next visit may come too late.
            self._wheel.add(_Expiry(self), max(0.0, expires_at - self._wheel.now))

    def end(self, last: bytes, reason: CloseReason) -> None:
        """Send the waiting events, then ``last``, and end the stream.

        That takes as long as the client reads. Events that come later do not prolong it.
        """
        if self.is_ending:
            return
        self._ending = _Ending(
            chunk(last) + LAST_CHUNK, reason, {feed: feed.end for feed, _ in self._cursors}
        )
        if self._state is _State.OPEN:
            self._accept()
            self._end_now()

    def abort(self, reason: CloseReason) -> None:
        """End the stream at once."""
        if self._state not in (_State.CLOSING, _State.CLOSED):
            self._state = _State.CLOSING
            self._reason = reason
        if self._stream is not None:
            self._stream.abort()

    # Called by its feeds.

    def wake(self, cursors: tuple[Cursor]) -> None:
        self._cursors = self._cursors + cursors if self._cursors else cursors
        if self._state is _OPEN and not self.queued:
            self._run_queue.add(self)

    def forget(self, feed: Feed["Connection"]) -> None:
        self._drop((cursor for cursor in self._cursors if cursor[0] is feed), "unsubscribed")
        self._cursors = tuple(cursor for cursor in self._cursors if cursor[0] is not feed)
        if self._gaps is not None:
            self._gaps.pop(feed.topic, None)

    def go_back(self, feed: Feed["Connection"], position: int | None) -> None:
        self._cursors = tuple(cursor for cursor in self._cursors if cursor[0] is not feed)
        if position is not None:
            self.wake(((feed, position),))

    def lose(self, topic: Topic, lost: int) -> None:
        self._counts.dropped["not_kept"] += lost
        self._note_gap(topic, lost)

    def overtaken(self, feed: Feed["Connection"]) -> None:
        if any(cursor[0] is feed and cursor[1] < feed.start for cursor in self._cursors):
            self.abort(CloseReason.OVERFLOW)

    # Called by the run queue.

    def turn(self) -> None:
        stream = self._stream
        if stream is None:
            return
        if self._state is not _OPEN:
            data, events, passage = self._take_to_end()
        elif self._rest:
            data, events, passage, self._rest = self._rest, 0, NOTHING, b""
        else:
            data, events, passage = self._take()
        if not data:
            return
        counts = self._counts
        try:
            accepted = stream.send(data)
        except StreamLost:
            counts.dropped["closed"] += events
            _note_left(passage.tracked)
            self.abort(CloseReason.CLIENT_LEFT)
            return
        counts.sends += 1
        counts.sent += events
        counts.sent_passages[passage] += 1
        self._last_progress = self._wheel.now
        if accepted < len(data):
            self._block(stream, data[accepted:])
        elif self._cursors or self._gaps or self._control:
            self._run_queue.add(self)

    def failed(self) -> None:
        self.abort(CloseReason.FAILED)

    # Called by the stream and the timing wheel.

    def attached(self, stream: IStream) -> None:
        self._stream = stream

    def makeConnection(self, transport: ITransport) -> None:
        """Not called, since the transport was connected to another protocol first."""

    def connectionMade(self) -> None:
        """Not called. The stream calls `attached` instead."""

    def dataReceived(self, data: bytes) -> None:
        """Ignore the data: a client sends nothing that matters once its stream is open."""

    def writable(self) -> None:
        if self._state is _State.BLOCKED:
            self._accept()
            self._run_queue.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        if self._state is _State.CLOSED:
            return
        self._state = _State.CLOSED
        self._stream = None
        self._drop(self._cursors, "closed")
        self._cursors = ()
        self._rest = self._control = b""
        self._lost(self, self._reason)

    def visit(self, now: float) -> float | None:
        if self._state is _State.CLOSED:
            return None
        if self._state is _State.CLOSING:
            self._check_end(now)
        elif now >= self._expires_at:
            self.check_expiry(now)
        elif self._state is _State.BLOCKED:
            self._check_stall(now)
        elif now - self._last_progress >= self._settings.heartbeat_seconds and not self._cursors:
            self._control = self._control or self._heartbeat
            self._last_progress = now
            self._run_queue.add(self)
        return self._visit_seconds()

    def check_expiry(self, now: float) -> None:
        """End the stream if its token has expired."""
        if now >= self._expires_at:
            self.end(sse.expired_frame(), CloseReason.EXPIRED)
        if now >= self._expires_at + self._settings.stall_seconds:
            self.abort(CloseReason.EXPIRED)

    def logPrefix(self) -> str:
        return "Connection"

    # Helpers.

    def _visit_seconds(self) -> float:
        settings = self._settings
        now = self._wheel.now
        quiet = now - self._last_progress
        if self._state is _State.BLOCKED:
            # More often, since only a comparison of two visits shows that the client reads.
            seconds = min(settings.stall_seconds - quiet, settings.stall_seconds / 4)
        else:
            # Often enough to notice a stall in time, since a stream may become blocked at any time.
            seconds = min(settings.heartbeat_seconds - quiet, settings.stall_seconds)
        if self._state is not _State.CLOSING:
            expires_at = self._expires_at
            if now >= expires_at:
                expires_at += self._settings.stall_seconds
            return max(0.0, min(seconds, expires_at - now))
        return seconds

    def _end_now(self) -> None:
        while self._state is _State.ENDING:
            self._run_queue.give_turn(self)

    def _accept(self) -> None:
        self._state = _State.OPEN if self._ending is None else _State.ENDING

    def _take_to_end(self) -> tuple[bytes, int, Passage]:
        """Take what is left to send before the stream ends; after all of it, close the stream."""
        ending = self._ending
        if self._state is not _State.ENDING or ending is None:
            return b"", 0, NOTHING
        # To go on, or to close.
        self._run_queue.add(self)
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest, 0, NOTHING
        if ending.waits_for(self._cursors) or self._gaps or self._control:
            return self._take()
        if ending.last:
            last, ending.last = ending.last, b""
            return last, 0, NOTHING
        self._close(ending.reason)
        return b"", 0, NOTHING

    def _take(self) -> tuple[bytes, int, Passage]:
        """Take what to send next.

        :return: the data in chunks, how many events it contains, and what is noted of them.
        """
        cursors, self._cursors = self._cursors, ()
        if len(cursors) > 1:
            cursors = self._past_first(cursors)
        if len(cursors) == 1:
            [(feed, position)] = cursors
            data, events, end, passage = feed.take(self, position)
            if end < feed.end or events < end - position:
                self._note_taken(feed, position, events, end)
            if not self._gaps and not self._control:
                return data, events, passage
            chunks = [data]
        else:
            pieces, events, passage = self._take_in_order(cursors)
            chunks = [chunk(b"".join(pieces))] if pieces else []
        if self._gaps:
            chunks.insert(0, chunk(self._gap_frame()))
        if self._control:
            chunks.append(chunk(self._control))
            self._control = b""
        return chunks[0] if len(chunks) == 1 else b"".join(chunks), events, passage

    def _past_first(self, cursors: tuple[Cursor, ...]) -> tuple[Cursor, ...]:
        """Return one cursor of which something has to be taken from a history, or all."""
        for cursor in cursors:
            feed, position = cursor
            if feed.past is not None and feed.lacks(position):
                self._cursors = tuple(other for other in cursors if other is not cursor)
                return (cursor,)
        return cursors

    def _take_in_order(self, cursors: Sequence[Cursor]) -> tuple[list[bytes], int, Passage]:
        """Take from several feeds, in the order in which the events were posted."""
        pieces: list[bytes] = []
        passages: list[Passage] = []
        ends = [position for _, position in cursors]
        size = events = 0
        for index, data, end, passage in in_order(cursors):
            size += len(data)
            if size > self._settings.send_bytes and pieces:
                break
            pieces.append(data)
            passages.append(passage)
            ends[index] = end
        for (feed, position), end in zip(cursors, ends, strict=True):
            taken = max(0, end - max(position, feed.start))
            events += taken
            if taken:
                feed.advance(self, end)
                self._note_taken(feed, position, taken, end)
            else:
                self._cursors += ((feed, position),)
        return pieces, events, joined(passages)

    def _note_taken(self, feed: Feed["Connection"], position: int, events: int, end: int) -> None:
        lost = end - position - events
        if lost and feed.past is None:
            self._counts.dropped["mailbox_full"] += lost
            self._note_gap(feed.topic, lost)
        if end < feed.end:
            self._cursors += ((feed, end),)

    def _block(self, stream: IStream, rest: bytes) -> None:
        self._rest = rest
        self._state = _State.BLOCKED
        self._unsent_bytes = stream.unsent_bytes()

    def _note_gap(self, topic: Topic, lost: int) -> None:
        if self._gaps is None:
            self._gaps = {}
        self._gaps[topic] = _total((self._gaps[topic], lost)) if topic in self._gaps else lost

    def _gap_frame(self) -> bytes:
        gaps, self._gaps = self._gaps or {}, None
        return sse.gap_frame(_total(gaps.values()), list(gaps))

    def _check_stall(self, now: float) -> None:
        if self._stream is None:
            return
        unsent_bytes = self._stream.unsent_bytes()
        if unsent_bytes != self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self._last_progress = now
        elif now - self._last_progress >= self._settings.stall_seconds:
            self.abort(CloseReason.STALLED)

    def _check_end(self, now: float) -> None:
        # TLS waits for the client's close_notify before it closes.
        if self._stream is not None and now - self._last_progress >= self._settings.stall_seconds:
            self._stream.abort()

    def _drop(self, cursors: Iterable[Cursor], reason: str) -> None:
        """Count events that will not be sent, under ``reason``.

        Those that a feed has dropped already count as ``mailbox_full``, unless they are stored.
        """
        for feed, position in cursors:
            start = max(position, feed.start)
            if feed.past is None:
                self._counts.dropped["mailbox_full"] += start - position
            self._counts.dropped[reason] += feed.end - start
            _note_left(feed.tracked_since(position))

    def _close(self, reason: CloseReason) -> None:
        self._state = _State.CLOSING
        self._last_progress = self._wheel.now
        self._reason = reason
        if self._stream is not None:
            self._stream.close()


def _note_left(tracked: Iterable[TrackedEvent]) -> None:
    for event in tracked:
        event.left += 1


def _total(losses: Collection[int]) -> int:
    """Return how many events were lost in all; 0, an unknown number, if one of them is unknown."""
    return 0 if 0 in losses else sum(losses)
