"""The shorter wires of a process that is dispatcher and frontend in one."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from rtdeliver.errors import AnsweredNo, Refusal
from rtdeliver.interfaces import (
    Acknowledgement,
    Announcement,
    IDispatcherClient,
    IFrontendClient,
    IFrontendDeliveries,
    NodeStatus,
)
from rtdeliver.model import Event, FrontendRef, Gap


@implementer(IDispatcherClient)
class LocalDispatcherClient:
    """Announces to the dispatcher of this process.

    :param announce: the dispatcher's own method.
    :param nodes: the dispatcher's own method.
    """

    def __init__(
        self,
        *,
        announce: Callable[[Announcement], Coroutine[Any, Any, Acknowledgement]],
        nodes: Callable[[], Deferred[Sequence[NodeStatus]]],
    ) -> None:
        self._announce = announce
        self._nodes = nodes

    def announce(self, announcement: Announcement) -> Deferred[Acknowledgement]:
        return Deferred.fromCoroutine(self._announce_or_fail(announcement))

    def frontends(self) -> Deferred[Sequence[FrontendRef]]:
        return Deferred.fromCoroutine(self._frontends_or_fail())

    async def _announce_or_fail(self, announcement: Announcement) -> Acknowledgement:
        try:
            return await self._announce(announcement)
        except Refusal as refusal:
            raise AnsweredNo(refusal.status, refusal.message) from None

    async def _frontends_or_fail(self) -> Sequence[FrontendRef]:
        try:
            return [status.frontend for status in await self._nodes()]
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
