"""How many connections to public listeners may be open that have no stream."""

from typing import Protocol

from rtdeliver.metrics import Sample, counter, gauge


class Droppable(Protocol):
    """A connection that can be ended."""

    def drop(self) -> None:
        """End the connection at once."""


class WaitingConnections:
    """Bounds the connections that have no stream, at all public listeners of a process.

    Visitors may open connections and send nothing. So that these do not take all file descriptors,
    which internal listeners need too, the one that has been idle for longest is dropped for a new
    one. If none is idle, it is the one that is open for longest.

    :param most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # Those that are idle, and those with a request, in the order in which they became so.
        self._idle: dict[Droppable, None] = {}
        self._busy: dict[Droppable, None] = {}
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy)

    def idle(self, connection: Droppable) -> None:
        """Note that a connection, perhaps a new one, waits for a request."""
        if self._busy.pop(connection, self) is self and connection not in self._idle:
            self._make_room()
        self._idle[connection] = None

    def busy(self, connection: Droppable) -> None:
        """Note that an idle connection has a request."""
        if self._idle.pop(connection, self) is not self:
            self._busy[connection] = None

    def gone(self, connection: Droppable) -> None:
        """Note that a connection has ended, or has a stream now."""
        self._idle.pop(connection, None)
        self._busy.pop(connection, None)

    def samples(self) -> list[Sample]:
        return [
            gauge(
                "waiting_connections",
                "Open connections to public listeners that have no stream.",
                len(self),
            ),
            gauge(
                "waiting_connections_max",
                "How many such connections may be open.",
                self._most,
            ),
            counter(
                "waiting_connections_dropped",
                "Such connections that were dropped for new ones.",
                self._dropped,
            ),
        ]

    def _make_room(self) -> None:
        if len(self) < self._most:
            return
        oldest = next(iter(self._idle or self._busy))
        self.gone(oldest)
        self._dropped += 1
        oldest.drop()
