"""How the parts of rtcombined call each other directly instead of over HTTP."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from rtdeliver.deferreds import as_deferred
from rtdeliver.errors import AnsweredNo, Refusal
from rtdeliver.interfaces import (
    IDispatcherClient,
    IFrontendClient,
    IFrontendDeliveries,
    IPlatform,
    IPresenceClient,
)
from rtdeliver.messages import (
    Acknowledgement,
    Announcement,
    Bookmark,
    HistoryPage,
    HistoryQuery,
    NodeStatus,
    Presence,
    PresenceHeartbeat,
    Revocations,
    TopicMembers,
)
from rtdeliver.model import FrontendRef, Item, Member, Revocation, Topic
from rtdeliver.wire import Draft, encode

T = TypeVar("T")


@implementer(IDispatcherClient, IPresenceClient)
class LocalDispatcherClient:
    """Announces to the dispatcher of this process.

    :param announce: the dispatcher's own method.
    :param nodes: the dispatcher's own method.
    :param heartbeat: the presence tracker's own method.
    :param revocations: the dispatcher's own method.
    :param restore: the dispatcher's own method.
    :param history: the dispatcher's own method.
    """

    def __init__(
        self,
        *,
        announce: Callable[[Announcement], Coroutine[Any, Any, Acknowledgement]],
        nodes: Callable[[], Deferred[Sequence[NodeStatus]]],
        heartbeat: Callable[[PresenceHeartbeat], Coroutine[Any, Any, None]],
        revocations: Callable[[Bookmark], Coroutine[Any, Any, Revocations]],
        restore: Callable[[Sequence[Revocation]], Coroutine[Any, Any, None]],
        history: Callable[
            [Sequence[HistoryQuery]], Coroutine[Any, Any, Sequence[HistoryPage | None]]
        ],
    ) -> None:
        self._announce = announce
        self._nodes = nodes
        self._heartbeat = heartbeat
        self._revocations = revocations
        self._restore = restore
        self._history = history

    @as_deferred
    async def announce(self, announcement: Announcement) -> Acknowledgement:
        return await _or_fail(self._announce(announcement))

    @as_deferred
    async def frontends(self) -> Sequence[FrontendRef]:
        return [status.frontend for status in await _or_fail(self._nodes())]

    @as_deferred
    async def heartbeat(self, heartbeat: PresenceHeartbeat) -> None:
        await _or_fail(self._heartbeat(heartbeat))

    @as_deferred
    async def revocations(self, after: Bookmark) -> Revocations:
        return await _or_fail(self._revocations(after))

    @as_deferred
    async def restore(self, revocations: Sequence[Revocation]) -> None:
        await _or_fail(self._restore(revocations))

    @as_deferred
    async def history(self, queries: Sequence[HistoryQuery]) -> Sequence[HistoryPage | None]:
        return await _or_fail(self._history(queries))


async def _or_fail(answer: Awaitable[T]) -> T:
    """Wait for an answer, and raise a refusal as an HTTP client would."""
    try:
        return await answer
    except Refusal as refusal:
        raise AnsweredNo(refusal.status, refusal.message) from None


@implementer(IFrontendClient)
class LocalFrontendClient:
    """Delivers to the frontend of this process directly, and to any other through ``remote``.

    :param incarnation: the incarnation of this process.
    """

    def __init__(
        self, *, incarnation: str, local: IFrontendDeliveries, remote: IFrontendClient
    ) -> None:
        self._incarnation = incarnation
        self._local = local
        self._remote = remote

    def deliver(self, frontend: FrontendRef, batch: Sequence[Item]) -> Deferred[None]:
        if frontend.incarnation != self._incarnation:
            return self._remote.deliver(frontend, batch)
        return execute(self._local.deliver, batch)

    def members(
        self, frontend: FrontendRef, topic: Topic, after: str, limit: int
    ) -> Deferred[TopicMembers]:
        if frontend.incarnation != self._incarnation:
            return self._remote.members(frontend, topic, after, limit)
        return execute(self._local.members, topic, after, limit)


@implementer(IPlatform)
class LocalPlatform:
    """The platform for an application in this process.

    :param publish: the dispatcher's own method.
    :param viewers: the routing table's own method.
    :param presence: the presence tracker's own method.
    :param disconnect: ends the streams of a member for a reason.
    """

    def __init__(
        self,
        *,
        publish: Callable[[Sequence[Draft]], Coroutine[Any, Any, object]],
        viewers: Callable[[Topic], Deferred[Mapping[str, int]]],
        presence: Callable[[Sequence[Member]], Deferred[Sequence[Presence]]],
        disconnect: Callable[[Member, str], Coroutine[Any, Any, object]],
    ) -> None:
        self._publish = publish
        self._viewers = viewers
        self._presence = presence
        self._disconnect = disconnect

    @as_deferred
    async def publish(self, topic: Topic, type: str, data: object) -> None:
        await self._publish([Draft(topic=topic, type=type, data=encode(data), id=None)])

    def viewers(self, topic: Topic) -> Deferred[int]:
        return self._viewers(topic).addCallback(lambda viewers: sum(viewers.values()))

    def presence(self, members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        return self._presence(members)

    @as_deferred
    async def disconnect(self, member: Member, reason: str) -> None:
        await self._disconnect(member, reason)
