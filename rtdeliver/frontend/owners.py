"""How a request for a connection reaches the frontend that owns it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rtdeliver.deferreds import as_deferred
from rtdeliver.errors import Refused, RemoteFailure, Unavailable, UnknownConnection
from rtdeliver.interfaces import IConnections, IDispatcherClient, IOwnerClient
from rtdeliver.messages import Receipt, Refreshed, Subscriptions, TopicsChange
from rtdeliver.model import ConnectionId, FrontendRef, node_of

T = TypeVar("T")

_GONE = "the frontend of this stream is gone; connect again, and use the new id"
_UNKNOWN = "no dispatcher answers to say which frontend has this stream; try again"
_SILENT = (
    "the frontend of this stream does not answer, and may have made the change; try again with the"
    " same topics, and a higher sequence"
)


@implementer(IConnections)
class OwnedConnections:
    """The connections of all frontends of a datacenter.

    A connection's id names its node. If that is another node, this frontend asks the dispatchers
    for its URL, and remembers the answer for ``remember_seconds``. It asks earlier if a node is
    missing from the answer. All calls that need an answer meanwhile wait for the same request.

    :param node: the name of this node.
    :param own: the connections of this node.
    :param remember_seconds: how long the frontends that the dispatchers list are remembered.
    """

    def __init__(
        self,
        *,
        node: str,
        own: IConnections,
        dispatchers: IDispatcherClient,
        owners: IOwnerClient,
        clock: IReactorTime,
        remember_seconds: float,
    ) -> None:
        self._node = node
        self._own = own
        self._dispatchers = dispatchers
        self._owners = owners
        self._clock = clock
        self._remember_seconds = remember_seconds
        self._frontends: dict[str, FrontendRef] = {}
        self._remembered_until = 0.0
        self._waiters: list[Deferred[None]] | None = None

    def subscribe(self, id: ConnectionId, change: TopicsChange) -> Deferred[Subscriptions]:
        return self._ask(id, lambda connections: connections.subscribe(id, change))

    def subscriptions(self, id: ConnectionId) -> Deferred[Subscriptions]:
        return self._ask(id, lambda connections: connections.subscriptions(id))

    def refresh(self, id: ConnectionId, token: str) -> Deferred[Refreshed]:
        return self._ask(id, lambda connections: connections.refresh(id, token))

    def receive(self, receipt: Receipt) -> Deferred[None]:
        return self._ask(receipt.connection, lambda connections: connections.receive(receipt))

    @as_deferred
    async def look_for(self, id: ConnectionId) -> None:
        if node_of(id) == self._node:
            await self._own.look_for(id)
        else:
            await self._find(node_of(id))

    def _ask(self, id: ConnectionId, request: Callable[[IConnections], Deferred[T]]) -> Deferred[T]:
        if node_of(id) == self._node:
            return request(self._own)
        return Deferred.fromCoroutine(self._ask_owner(node_of(id), request))

    async def _ask_owner(self, node: str, request: Callable[[IConnections], Awaitable[T]]) -> T:
        owner = await self._find(node)
        try:
            return await request(self._owners.connections(owner))
        except Refused:
            raise UnknownConnection(_GONE) from None
        except RemoteFailure:
            raise Unavailable(_SILENT) from None

    async def _find(self, node: str) -> FrontendRef:
        if node not in self._frontends or self._clock.seconds() >= self._remembered_until:
            try:
                await self._refresh()
            except Unavailable:
                # Frontends that were there a short while ago mostly still are.
                if node not in self._frontends:
                    raise
        try:
            return self._frontends[node]
        except KeyError:
            raise UnknownConnection(_GONE) from None

    async def _refresh(self) -> None:
        if self._waiters is not None:
            refreshed: Deferred[None] = Deferred()
            self._waiters.append(refreshed)
            await refreshed
            return
        self._waiters = []
        outcome = await self._ask_dispatchers()
        waiters, self._waiters = self._waiters, None
        for refreshed in waiters:
            refreshed.callback(None) if outcome is None else refreshed.errback(outcome)
        if outcome is not None:
            raise outcome

    async def _ask_dispatchers(self) -> Unavailable | None:
        try:
            self._frontends = {found.node: found for found in await self._dispatchers.frontends()}
        except RemoteFailure:
            return Unavailable(_UNKNOWN)
        self._remembered_until = self._clock.seconds() + self._remember_seconds
        return None
