"""How a frontend reaches the dispatchers, and other frontends, over HTTP."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from urllib.parse import quote

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rtdeliver.errors import AnsweredNo, Refusal, RemoteFailure, TooManyTopics, UnknownConnection
from rtdeliver.http.client import Answer, NodeClient
from rtdeliver.http.requests import JSON
from rtdeliver.interfaces import IConnections, IDispatcherClient, IOwnerClient, IPresenceClient
from rtdeliver.messages import (
    Acknowledgement,
    Announcement,
    PresenceHeartbeat,
    Subscriptions,
    TopicsChange,
)
from rtdeliver.model import ConnectionId, FrontendRef
from rtdeliver.wire import decode_acknowledgement, decode_frontends, decode_subscriptions, encode

T = TypeVar("T")


@implementer(IDispatcherClient, IPresenceClient)
class HttpDispatcherClient:
    """Talks to one dispatcher until it fails, then to the next.

    :param urls: of the dispatchers, at least one.
    """

    def __init__(self, *, urls: Sequence[str], client: NodeClient) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._client = client
        self._current = 0

    def announce(self, announcement: Announcement) -> Deferred[Acknowledgement]:
        body = encode(announcement)
        return self._ask(
            lambda url: self._client.post(f"{url}/subscriptions", body, content_type=JSON),
            decode_acknowledgement,
        )

    def frontends(self) -> Deferred[Sequence[FrontendRef]]:
        return self._ask(lambda url: self._client.get(f"{url}/frontends"), decode_frontends)

    def heartbeat(self, heartbeat: PresenceHeartbeat) -> Deferred[None]:
        body = encode(heartbeat)
        return self._ask(
            lambda url: self._client.post(f"{url}/presence", body, content_type=JSON),
            lambda _: None,
        )

    def _ask(
        self, request: Callable[[str], Awaitable[Answer]], decode: Callable[[bytes], T]
    ) -> Deferred[T]:
        return Deferred.fromCoroutine(self._ask_current(request, decode))

    async def _ask_current(
        self, request: Callable[[str], Awaitable[Answer]], decode: Callable[[bytes], T]
    ) -> T:
        url = self._urls[self._current]
        try:
            return decode((await request(url)).body)
        except RemoteFailure:
            self._move_on()
            raise
        except Refusal as refusal:
            self._move_on()
            raise AnsweredNo(200, f"{url}: {refusal.message}") from None

    def _move_on(self) -> None:
        self._current = (self._current + 1) % len(self._urls)


@implementer(IOwnerClient)
class HttpOwnerClient:
    """Asks other frontends at their internal listeners."""

    def __init__(self, client: NodeClient) -> None:
        self._client = client

    def connections(self, frontend: FrontendRef) -> IConnections:
        return _RemoteConnections(frontend, self._client)


@implementer(IConnections)
class _RemoteConnections:
    """Connections that another frontend owns."""

    def __init__(self, frontend: FrontendRef, client: NodeClient) -> None:
        self._url = frontend.url.rstrip("/")
        self._client = client

    def subscribe(self, id: ConnectionId, change: TopicsChange) -> Deferred[Subscriptions]:
        return Deferred.fromCoroutine(
            _answered(self._client.post(self._path(id), encode(change), content_type=JSON))
        )

    def subscriptions(self, id: ConnectionId) -> Deferred[Subscriptions]:
        return Deferred.fromCoroutine(_answered(self._client.get(self._path(id))))

    def _path(self, id: ConnectionId) -> str:
        return f"{self._url}/connections/{quote(id, safe='')}/topics"


async def _answered(request: Awaitable[Answer]) -> Subscriptions:
    try:
        return decode_subscriptions((await request).body)
    except AnsweredNo as failure:
        if failure.status == UnknownConnection.status:
            raise UnknownConnection("no stream has this id: connect, and use the new one") from None
        if failure.status == TooManyTopics.status:
            raise TooManyTopics("the connection would have more topics than it may") from None
        raise
    except Refusal as refusal:
        raise AnsweredNo(200, refusal.message) from None
