"""Starts connections, finds them by id, and cleans up when they end."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rtdeliver.actor import RunQueue
from rtdeliver.config.sections import Viewers
from rtdeliver.errors import UnknownConnection
from rtdeliver.frontend import sse
from rtdeliver.frontend.ages import Passage
from rtdeliver.frontend.connection import Connection, ConnectionCounts
from rtdeliver.interfaces import IStreamOwner
from rtdeliver.metrics import Sample, counter, dropped, gauge
from rtdeliver.model import CloseReason, ConnectionId, make_connection_id
from rtdeliver.tokens import Identity
from rtdeliver.wheel import TimingWheel

_DRAIN_STEP_SECONDS = 0.05
# In this share of the time, all streams are asked to end; the rest is for those that still read.
_DRAIN_ASK_SHARE = 0.8
# How long after a drain a process that is restarted is back, at least and at most.
_RESTART_SECONDS = (0.5, 2)


class Supervisor:
    """Owns all connections of a process.

    :param node: the node's name, which connection ids contain.
    :param max_connections: the largest number of connections at a time.
    :param now: the wall clock, in seconds since the epoch.
    :param sent_passages: where connections note their sends; see `ConnectionCounts`.
    :param ended: called with each connection whose stream is gone.
    :param draw: returns a random number between two others.
    """

    def __init__(
        self,
        *,
        node: str,
        max_connections: int,
        settings: Viewers,
        clock: IReactorTime,
        now: Callable[[], float],
        run_queue: RunQueue,
        wheel: TimingWheel,
        sent_passages: defaultdict[Passage, int],
        ended: Callable[[Connection], None],
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._node = node
        self.max_connections = max_connections
        """How many streams there may be."""
        self._settings = settings
        self._draw = draw
        self._clock = clock
        self._now = now
        self._run_queue = run_queue
        self._wheel = wheel
        self._ended = ended
        self._connections: dict[ConnectionId, Connection] = {}
        self._counts = ConnectionCounts(sent_passages)
        self._started = 0
        self._closed = Counter(dict.fromkeys(CloseReason, 0))
        self._busy = Counter({"full": 0, "draining": 0, "starting": 0})
        self._draining: Deferred[None] | None = None
        # When the drain is over.
        self._drained_at = 0.0

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._connections.values())

    @property
    def busy(self) -> str | None:
        """Why new connections are refused now; ``None`` if they are accepted."""
        if self._draining is not None:
            return "draining"
        if len(self._connections) >= self.max_connections:
            return "full"
        return None

    def start(
        self,
        attach: Callable[[IStreamOwner], None],
        identity: Identity | None = None,
        heartbeat: bytes = sse.HEARTBEAT,
    ) -> Connection:
        """Return a new connection.

        :param attach: gives it its stream.
        :param identity: who the viewer is, and when the stream must end; ``None`` for an anonymous
            viewer.
        :param heartbeat: the frame that it gets while there is nothing else.
        """
        connection = Connection(
            id=make_connection_id(self._node),
            identity=identity,
            expires_at=math.inf if identity is None else self._deadline(identity.expires_at),
            heartbeat=heartbeat,
            settings=self._settings,
            run_queue=self._run_queue,
            wheel=self._wheel,
            counts=self._counts,
            lost=self._lost,
        )
        attach(connection)
        self._connections[connection.id] = connection
        self._started += 1
        return connection

    def connection(self, id: ConnectionId) -> Connection:
        """Return the connection with this id.

        :raises UnknownConnection: if there is none, or if it has ended.
        """
        try:
            return self._connections[id]
        except KeyError:
            raise UnknownConnection(
                "no stream has this connection id; connect again, and use the new id"
            ) from None

    def find(self, id: ConnectionId) -> Connection | None:
        """Return the connection with this id, if there is one."""
        return self._connections.get(id)

    def open_connection(self, id: ConnectionId) -> Connection:
        """Return the connection with this id, whose stream goes on.

        :raises UnknownConnection: if there is none, or if it ends.
        """
        connection = self.connection(id)
        if connection.is_ending:
            raise UnknownConnection("this stream ends; connect again, and use the new id")
        return connection

    def renew(self, connection: Connection, identity: Identity) -> None:
        """Let a connection go on with a new token."""
        connection.renew(identity, self._deadline(identity.expires_at))

    def busy_frame(self, reason: str) -> bytes:
        """Return the frame that asks a client to reconnect later, after a random time.

        While this process drains, the client is to find the process that is started next.
        """
        self._busy[reason] += 1
        settings = self._settings
        if self._draining is None:
            seconds = self._draw(
                settings.busy_reconnect_min_seconds, settings.busy_reconnect_max_seconds
            )
        else:
            left_seconds = max(0, self._drained_at - self._clock.seconds())
            seconds = left_seconds + self._draw(*_RESTART_SECONDS)
        return sse.busy_frame(reason, reconnect_seconds=seconds)

    def drain(self, seconds: float) -> Deferred[None]:
        """Refuse new connections, and end the existing ones, spread over ``seconds``.

        Each is sent what waits for it, then a busy frame, with which the client comes back soon: to
        another process, or to this one, which tells it when the next one is there. Those for which
        most is to be done, since something waits already, come first.

        :return: fires when no connection is left. Those that have not ended after ``seconds`` are
            aborted.
        """
        if self._draining is None:
            self._draining = Deferred()
            self._drained_at = self._clock.seconds() + seconds
            self._end_more(
                sorted(self, key=lambda connection: not connection.mailbox_bytes),
                self._clock.seconds() + seconds * _DRAIN_ASK_SHARE,
            )
            self._clock.callLater(seconds, self._abort_all)
            self._report_drained()
        return self._draining

    def sent(self) -> int:
        """How many events were sent."""
        return self._counts.sent

    def dropped(self) -> int:
        """How many events were dropped, as far as that was noticed."""
        return sum(self._counts.dropped.values())

    def losses(self) -> Mapping[str, int]:
        """Return how many events slow viewers missed, and how many streams ended for that."""
        return {
            "events (mailbox_full)": self._counts.dropped["mailbox_full"],
            "events (not_kept)": self._counts.dropped["not_kept"],
            **{
                f"streams ({reason.value})": self._closed[reason]
                for reason in (CloseReason.STALLED, CloseReason.OVERFLOW, CloseReason.FAILED)
            },
        }

    def samples(self) -> list[Sample]:
        counts = self._counts
        return [
            gauge("connections", "Open streams.", len(self)),
            gauge("connections_max", "How many streams may be open.", self.max_connections),
            *(
                counter("busy", "Viewers asked to come again later.", busy, reason=reason)
                for reason, busy in self._busy.items()
            ),
            counter("connections_started", "Streams opened.", self._started),
            *(
                counter("connections_closed", "Streams ended.", closed, reason=reason.value)
                for reason, closed in self._closed.items()
            ),
            counter("sent", "Events sent to connections.", counts.sent),
            counter("sends", "Sends to sockets.", counts.sends),
            dropped(
                counts.dropped["mailbox_full"] + sum(c.missed_events for c in self),
                at="frontend",
                reason="mailbox_full",
            ),
            *(
                dropped(counts.dropped[reason], at="frontend", reason=reason)
                for reason in ("closed", "unsubscribed", "not_kept")
            ),
            gauge(
                "mailbox_bytes",
                "Bytes waiting in mailboxes.",
                sum(connection.mailbox_bytes for connection in self),
                actor="connection",
            ),
            gauge(
                "mailbox_events",
                "Events waiting in mailboxes.",
                sum(connection.mailbox_events for connection in self),
                actor="connection",
            ),
        ]

    def _deadline(self, expires_at: float) -> float:
        """Return when a time of the wall clock comes, by the clock that measures durations."""
        return self._clock.seconds() + expires_at - self._now()

    def _end_more(self, waiting: list[Connection], until: float) -> None:
        """End as many of ``waiting`` as are due. Later steps end the rest, evenly spread."""
        left_seconds = until - self._clock.seconds()
        if left_seconds <= 0:
            self._end(waiting)
            return
        # At least one stream ends in each step, so a few streams end before the time is over.
        steps_left = math.ceil(left_seconds / _DRAIN_STEP_SECONDS)
        due = math.ceil(len(waiting) / steps_left)
        self._end(waiting[:due])
        self._clock.callLater(_DRAIN_STEP_SECONDS, self._end_more, waiting[due:], until)

    def _abort_all(self) -> None:
        for connection in list(self):
            connection.abort(CloseReason.DRAINED)

    def _end(self, connections: list[Connection]) -> None:
        most_seconds = self._settings.drain_reconnect_seconds
        for connection in connections:
            if connection.id in self._connections:
                seconds = self._draw(most_seconds / 10, most_seconds)
                frame = sse.busy_frame("draining", reconnect_seconds=seconds)
                connection.end(frame, CloseReason.DRAINED)

    def _report_drained(self) -> None:
        if self._draining is not None and not self._connections and not self._draining.called:
            self._draining.callback(None)

    def _lost(self, connection: Connection, reason: CloseReason) -> None:
        if self._connections.pop(connection.id, None) is not None:
            self._closed[reason] += 1
            self._ended(connection)
            self._report_drained()
