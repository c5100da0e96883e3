"""One browser's stream, as an actor: its mailbox, its turns, its end."""

import enum
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Literal

import msgspec
from twisted.internet.interfaces import IProtocol, ITransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from rtdeliver.actor import Mailbox, MailboxLimits, RunQueue
from rtdeliver.errors import StreamLost
from rtdeliver.frontend import sse
from rtdeliver.interfaces import IActor, IStream, IStreamOwner, IVisited
from rtdeliver.model import CloseReason, ConnectionId, Topic
from rtdeliver.wheel import TimingWheel


class Frames(msgspec.Struct, frozen=True, gc=False):
    """Consecutive events of one topic as bytes for a stream, made once for all viewers."""

    data: bytes
    events: int
    topic: Topic

    @property
    def size(self) -> int:
        """How many bytes a mailbox accounts for them."""
        return len(self.data)


def _control(data: bytes) -> Frames:
    """Frames that carry no event, and so are never dropped."""
    return Frames(data=data, events=0, topic=Topic(""))


_HEARTBEAT = _control(sse.HEARTBEAT)


class ConnectionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What all connections of a frontend have in common.

    :param overflow: what a connection does whose mailbox is full.
    :param send_bytes: how much a turn hands to the kernel at most, and so how much of its own a
        stalled connection holds beside what it shares with others.
    :param heartbeat_seconds: within how many seconds something is sent.
    :param stall_seconds: a client that reads nothing for so long is cut off.
    """

    limits: MailboxLimits
    overflow: Literal["drop_oldest", "close"]
    send_bytes: int
    heartbeat_seconds: float
    stall_seconds: float


class ConnectionCounts:
    """Counts over all connections of a process; plain numbers, for the hot path."""

    def __init__(self) -> None:
        self.sent = 0
        self.sends = 0
        self.dropped: Counter[str] = Counter()


class _State(enum.Enum):
    OPENING = "nothing is sent before the first frame is there"
    OPEN = "the stream takes data"
    BLOCKED = "the stream takes no data for now"
    CLOSING = "the end has been asked for"
    CLOSED = "the stream is gone"


@implementer(IStreamOwner, IProtocol, IActor, IVisited)
class Connection:
    """A viewer.

    It becomes its transport's protocol; what it may send comes to `post` at any time, and leaves
    in turns: all that piled up, in one send.

    :param lost: called once, with the connection and the reason, when the stream is gone.
    """

    # Hundreds of thousands of these exist at a time.
    __slots__ = (
        "_counts",
        "_gaps",
        "_last_moved",
        "_lost",
        "_mailbox",
        "_reason",
        "_rest",
        "_run_queue",
        "_settings",
        "_state",
        "_stream",
        "_unsent_bytes",
        "_wheel",
        "id",
        "queued",
    )

    def __init__(
        self,
        *,
        id: ConnectionId,
        settings: ConnectionSettings,
        run_queue: RunQueue,
        wheel: TimingWheel,
        counts: ConnectionCounts,
        lost: Callable[["Connection", CloseReason], None],
    ) -> None:
        self.id = id
        self.queued = False
        self._settings = settings
        self._run_queue = run_queue
        self._wheel = wheel
        self._counts = counts
        self._lost = lost
        self._mailbox: Mailbox[Frames] = Mailbox(settings.limits)
        self._state = _State.OPENING
        self._stream: IStream | None = None
        self._reason = CloseReason.CLIENT_LEFT
        self._rest = b""
        self._gaps: Counter[Topic] | None = None
        self._unsent_bytes = 0
        self._last_moved = wheel.now

    @property
    def mailbox_bytes(self) -> int:
        """How many bytes wait to be sent."""
        return self._mailbox.size + self._mailbox.held_bytes

    @property
    def mailbox_events(self) -> int:
        """How many events wait to be sent."""
        return self._mailbox.events

    # What the frontend asks.

    def open(self, first: bytes) -> None:
        """Send ``first``, and from now on what is posted, or was already."""
        if self._state is _State.OPENING:
            self._hold(first)
            self._state = _State.OPEN
            self._wheel.add(self, self._visit_seconds())
            # A newcomer does not wait while a fan-out to all others takes its round.
            self._run_queue.give_turn(self)

    def post(self, frames: Frames) -> None:
        """Send ``frames`` in a turn soon, after what is waiting already."""
        if not self._mailbox.put(frames):
            self._overflow(frames)
        if self._state is _State.OPEN and not self.queued:
            self._run_queue.add(self)

    def miss(self, topic: Topic, lost: int) -> None:
        """Tell the client that ``lost`` events of ``topic`` will not come.

        :param lost: 0 if nobody knows how many.
        """
        if self._gaps is None:
            self._gaps = Counter()
        self._gaps[topic] += lost
        if self._state is _State.OPEN:
            self._run_queue.add(self)

    def discard(self, topics: Collection[Topic]) -> None:
        """Drop what waits of ``topics``: the viewer no longer wants it."""
        self._drop(self._mailbox.discard(lambda frames: frames.topic in topics), "unsubscribed")
        if self._gaps is not None:
            for topic in topics:
                self._gaps.pop(topic, None)

    def end(self, last: bytes, reason: CloseReason) -> None:
        """Send what waits, then ``last``, and end the stream."""
        if self._state is _State.OPEN:
            self._mailbox.put_back([*self._mailbox.clear(), _control(last)])
            while self._state is _State.OPEN and (self._rest or len(self._mailbox)):
                self._run_queue.give_turn(self)
        if self._state is _State.OPEN:
            self._close(reason)
        else:
            self.abort(reason)

    def abort(self, reason: CloseReason) -> None:
        """End the stream at once."""
        if self._state not in (_State.CLOSING, _State.CLOSED):
            self._state = _State.CLOSING
            self._reason = reason
        if self._stream is not None:
            self._stream.abort()

    # An actor's turns.

    def turn(self) -> None:
        if self._state is not _State.OPEN or self._stream is None:
            return
        if self._rest:
            waiting, data = [], self._rest
            self._hold(b"")
        else:
            waiting = self._mailbox.take(
                at_most_bytes=self._settings.send_bytes, at_most_events=self._mailbox.events
            )
            pieces = [frames.data for frames in waiting]
            if self._gaps:
                pieces.insert(0, self._gap_frame())
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if not data:
            return
        try:
            taken = self._stream.send(data)
        except StreamLost:
            self._drop(waiting, "closed")
            self.abort(CloseReason.CLIENT_LEFT)
            return
        self._counts.sends += 1
        for frames in waiting:
            self._counts.sent += frames.events
        self._last_moved = self._wheel.now
        if taken < len(data):
            self._block(self._stream, data[taken:])
        elif len(self._mailbox) or self._gaps:
            self._run_queue.add(self)

    def failed(self) -> None:
        self.abort(CloseReason.FAILED)

    # What the stream and the timing wheel tell.

    def attached(self, stream: IStream) -> None:
        self._stream = stream

    def makeConnection(self, transport: ITransport) -> None:
        """Not called: the transport was connected to a protocol before this one."""

    def connectionMade(self) -> None:
        """Not called; see `attached`."""

    def dataReceived(self, data: bytes) -> None:
        """A client has nothing to say once its stream is open."""

    def writable(self) -> None:
        if self._state is _State.BLOCKED:
            self._state = _State.OPEN
            self._run_queue.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        if self._state is _State.CLOSED:
            return
        self._state = _State.CLOSED
        self._stream = None
        self._drop(self._mailbox.clear(), "closed")
        self._rest = b""
        self._lost(self, self._reason)

    def visit(self, now: float) -> float | None:
        if self._state is _State.CLOSED:
            return None
        if self._state is _State.BLOCKED:
            self._check_stall(now)
        elif self._state is _State.CLOSING:
            self._check_end(now)
        elif now - self._last_moved >= self._settings.heartbeat_seconds and not len(self._mailbox):
            self.post(_HEARTBEAT)
            self._last_moved = now
        return self._visit_seconds()

    def logPrefix(self) -> str:
        return "Connection"

    # How it works.

    def _visit_seconds(self) -> float:
        settings = self._settings
        quiet = self._wheel.now - self._last_moved
        if self._state is _State.BLOCKED:
            # Looked at more often: that it drains shows only from one look to the next.
            return min(settings.stall_seconds - quiet, settings.stall_seconds / 4)
        # A stream may become blocked at any time, and is to be found stalled in time.
        return min(settings.heartbeat_seconds - quiet, settings.stall_seconds)

    def _hold(self, rest: bytes) -> None:
        """Keep ``rest`` to be sent before all else."""
        self._rest = rest
        self._mailbox.held_bytes = len(rest)

    def _block(self, stream: IStream, rest: bytes) -> None:
        self._hold(rest)
        self._state = _State.BLOCKED
        self._unsent_bytes = stream.unsent_bytes()

    def _gap_frame(self) -> bytes:
        gaps, self._gaps = self._gaps or Counter(), None
        return sse.gap_frame(gaps.total(), list(gaps))

    def _check_stall(self, now: float) -> None:
        if self._stream is None:
            return
        unsent_bytes = self._stream.unsent_bytes()
        if unsent_bytes != self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self._last_moved = now
        elif now - self._last_moved >= self._settings.stall_seconds:
            self.abort(CloseReason.STALLED)

    def _check_end(self, now: float) -> None:
        # TLS waits for the other side's word before it closes.
        if self._stream is not None and now - self._last_moved >= self._settings.stall_seconds:
            self._stream.abort()

    def _overflow(self, frames: Frames) -> None:
        if self._settings.overflow == "close":
            self._drop([frames], "mailbox_full")
            self.abort(CloseReason.OVERFLOW)
            return
        dropped = self._mailbox.put_dropping_oldest(frames)
        self._drop(dropped, "mailbox_full")
        for lost in dropped:
            if lost.events:
                self.miss(lost.topic, lost.events)

    def _drop(self, lost: Iterable[Frames], reason: str) -> None:
        self._counts.dropped[reason] += sum(frames.events for frames in lost)

    def _close(self, reason: CloseReason) -> None:
        self._state = _State.CLOSING
        self._last_moved = self._wheel.now
        self._reason = reason
        if self._stream is not None:
            self._stream.close()
