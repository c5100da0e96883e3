"""The shorter wires of a process that is dispatcher and frontend in one."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from rtdeliver.errors import AnsweredNo, Refusal
from rtdeliver.interfaces import (
    Acknowledgement,
    Announcement,
    Heartbeat,
    IDispatcherClient,
    IFrontendClient,
    IFrontendDeliveries,
    IPresenceClient,
    NodeStatus,
)
from rtdeliver.model import Event, FrontendRef, Gap

T = TypeVar("T")


@implementer(IDispatcherClient, IPresenceClient)
class LocalDispatcherClient:
    """Announces to the dispatcher of this process.

    :param announce: the dispatcher's own method.
    :param nodes: the dispatcher's own method.
    :param heartbeat: the presence tracker's own method.
    """

    def __init__(
        self,
        *,
        announce: Callable[[Announcement], Coroutine[Any, Any, Acknowledgement]],
        nodes: Callable[[], Deferred[Sequence[NodeStatus]]],
        heartbeat: Callable[[Heartbeat], Coroutine[Any, Any, None]],
    ) -> None:
        self._announce = announce
        self._nodes = nodes
        self._heartbeat = heartbeat

    def announce(self, announcement: Announcement) -> Deferred[Acknowledgement]:
        return Deferred.fromCoroutine(_or_fail(self._announce(announcement)))

    def frontends(self) -> Deferred[Sequence[FrontendRef]]:
        return Deferred.fromCoroutine(_or_fail(self._frontends()))

    def heartbeat(self, heartbeat: Heartbeat) -> Deferred[None]:
        return Deferred.fromCoroutine(_or_fail(self._heartbeat(heartbeat)))

    async def _frontends(self) -> Sequence[FrontendRef]:
        return [status.frontend for status in await self._nodes()]


async def _or_fail(answer: Awaitable[T]) -> T:
    """Wait for an answer; a refusal is what it would be from afar."""
    try:
        return await answer
    except Refusal as refusal:
        raise AnsweredNo(refusal.status, refusal.message) from None


@implementer(IFrontendClient)
class LocalFrontendClient:
    """Delivers to the frontend of this process directly, and to any other by ``remote``.

    :param incarnation: of this process.
    """

    def __init__(
        self, *, incarnation: str, local: IFrontendDeliveries, remote: IFrontendClient
    ) -> None:
        self._incarnation = incarnation
        self._local = local
        self._remote = remote

    def deliver(self, frontend: FrontendRef, batch: Sequence[Event | Gap]) -> Deferred[None]:
        if frontend.incarnation != self._incarnation:
            return self._remote.deliver(frontend, batch)
        return execute(self._local.deliver, batch)
