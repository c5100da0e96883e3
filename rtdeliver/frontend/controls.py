"""What backends do to open streams: end them, and change their topics."""

from collections.abc import Callable, Collection, Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rtdeliver.errors import TooManyTopics, Unavailable
from rtdeliver.frontend import sse
from rtdeliver.frontend.connection import Connection
from rtdeliver.frontend.feed import Feed
from rtdeliver.frontend.members import Members
from rtdeliver.frontend.subscriptions import SubscriptionTable
from rtdeliver.frontend.supervisor import Supervisor
from rtdeliver.metrics import Sample, counter, gauge
from rtdeliver.model import (
    CloseReason,
    ConnectionId,
    Control,
    Member,
    MemberTopics,
    Revocation,
    Topic,
)
from rtdeliver.revoked import Revoked, refuses

log = Logger()


class Controls:
    """Lets controls take effect on the streams of this frontend.

    :param revoked: the revocations that are known here.
    :param confirmed: waits until a dispatcher confirms topics.
    """

    def __init__(
        self,
        *,
        table: SubscriptionTable[Connection, Feed[Connection]],
        members: Members[Connection],
        supervisor: Supervisor,
        revoked: Revoked,
        confirmed: Callable[[Iterable[Topic]], Deferred[list[Topic]]],
    ) -> None:
        self._table = table
        self._members = members
        self._supervisor = supervisor
        self._revoked = revoked
        self._confirmed = confirmed
        self._topics_refused = 0

    def take(self, controls: Iterable[Control]) -> None:
        """Let controls take effect. Those that did so before do nothing."""
        revocations = []
        for control in controls:
            if isinstance(control, Revocation):
                revocations.append(control)
            else:
                self._change(control)
        self.revoke(revocations)

    def revoke(self, revocations: Iterable[Revocation]) -> None:
        """Keep revocations, and end the streams that they are for."""
        tokens = {}
        for revocation in filter(self._revoked.add, revocations):
            if revocation.kind == "token":
                tokens[revocation.name] = revocation
            for connection in self._streams_of(revocation):
                self._disconnect(connection, revocation)
        if tokens:
            # One look at all streams for all tokens, since these are not indexed.
            for connection in list(self._supervisor):
                identity = connection.identity
                if identity is not None and identity.token_id in tokens:
                    self._disconnect(connection, tokens[identity.token_id])

    def _streams_of(self, revocation: Revocation) -> Sequence[Connection]:
        """Return the streams that a revocation of a member or of a connection is for."""
        if revocation.kind == "member":
            streams = self._members.streams(Member(revocation.name))
            return [s for s in streams if s.identity and refuses(revocation, s.identity)]
        if revocation.kind == "connection":
            found = self._supervisor.find(ConnectionId(revocation.name))
            return [] if found is None else [found]
        return []

    def samples(self) -> list[Sample]:
        return [
            gauge("revocations", "Revocations that hold.", len(self._revoked)),
            counter(
                "member_topics_refused",
                "Streams that did not get the topics that a backend added: they had no room.",
                self._topics_refused,
            ),
        ]

    def _disconnect(self, connection: Connection, revocation: Revocation) -> None:
        """End a stream. No event that waits is sent any more."""
        if not connection.is_ending:
            self._table.drop(connection)
            frame = sse.disconnected_frame(revocation.reason, reconnect=revocation.reconnect)
            connection.end(frame, CloseReason.DISCONNECTED)

    def _change(self, change: MemberTopics) -> None:
        """Add topics to all streams of a member, and remove others."""
        for connection in self._members.streams(change.member):
            if connection.is_ending:
                continue
            before = set(self._table.topics(connection))
            try:
                self._table.change(connection, add=change.add, remove=change.remove)
            except (TooManyTopics, Unavailable):
                self._topics_refused += 1
                continue
            connection.given = connection.given.difference(change.remove).union(change.add)
            now = set(self._table.topics(connection))
            if now != before:
                self._tell(connection, now - before, before - now)

    def _tell(
        self, connection: Connection, added: Collection[Topic], removed: Collection[Topic]
    ) -> None:
        """Tell a client that its topics were changed, once the new ones are confirmed."""
        frame = sse.topics_frame(list(added), list(removed))
        told = self._confirmed(added).addCallback(lambda _: connection.tell(frame))
        told.addErrback(lambda failure: log.failure("a change of topics was not told", failure))
