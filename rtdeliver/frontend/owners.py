"""Lets a request for a connection reach the frontend that owns it."""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rtdeliver.errors import RemoteFailure, Unavailable, UnknownConnection
from rtdeliver.interfaces import IConnections, IDispatcherClient, IOwnerClient
from rtdeliver.messages import Subscriptions, TopicsChange
from rtdeliver.model import ConnectionId, FrontendRef, node_of

_GONE = "the frontend of this stream is gone: connect, and use the new id"


@implementer(IConnections)
class OwnedConnections:
    """The connections of all frontends of a datacenter.

    A connection's id names its node. Where that is another one, the dispatchers say where it is.
    They are asked again after ``remember_seconds``, and about a node that is not remembered; by
    one request at a time, however many wait for it.

    :param node: the name of this node.
    :param own: its connections.
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
        self._waiting: list[Deferred[None]] | None = None

    def subscribe(self, id: ConnectionId, change: TopicsChange) -> Deferred[Subscriptions]:
        return self._ask(id, lambda connections: connections.subscribe(id, change))

    def subscriptions(self, id: ConnectionId) -> Deferred[Subscriptions]:
        return self._ask(id, lambda connections: connections.subscriptions(id))

    def _ask(
        self, id: ConnectionId, ask: Callable[[IConnections], Deferred[Subscriptions]]
    ) -> Deferred[Subscriptions]:
        if node_of(id) == self._node:
            return ask(self._own)
        return Deferred.fromCoroutine(self._ask_owner(node_of(id), ask))

    async def _ask_owner(
        self, node: str, ask: Callable[[IConnections], Awaitable[Subscriptions]]
    ) -> Subscriptions:
        owner = await self._find(node)
        try:
            return await ask(self._owners.connections(owner))
        except RemoteFailure:
            raise UnknownConnection(_GONE) from None

    async def _find(self, node: str) -> FrontendRef:
        if node not in self._frontends or self._clock.seconds() >= self._remembered_until:
            await self._learn()
        try:
            return self._frontends[node]
        except KeyError:
            raise UnknownConnection(_GONE) from None

    async def _learn(self) -> None:
        if self._waiting is not None:
            learned: Deferred[None] = Deferred()
            self._waiting.append(learned)
            await learned
            return
        self._waiting = []
        outcome = await self._ask_dispatchers()
        waiting, self._waiting = self._waiting, None
        for learned in waiting:
            learned.callback(None) if outcome is None else learned.errback(outcome)
        if outcome is not None:
            raise outcome

    async def _ask_dispatchers(self) -> Unavailable | None:
        try:
            self._frontends = {found.node: found for found in await self._dispatchers.frontends()}
        except RemoteFailure:
            # Who was there a short while ago mostly still is.
            return None if self._frontends else Unavailable("no dispatcher says where this is")
        self._remembered_until = self._clock.seconds() + self._remember_seconds
        return None
