"""How a frontend sends requests to dispatchers and to other frontends, over HTTP."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from urllib.parse import quote

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from rtdeliver.deferreds import as_deferred
from rtdeliver.errors import (
    AnsweredNo,
    Forbidden,
    NotFound,
    Refusal,
    TooManyRequests,
    TooManyTopics,
    Unauthorized,
    UnknownConnection,
)
from rtdeliver.frontend.clock_offsets import ClockOffsets
from rtdeliver.http.client import Answer, NodeClient
from rtdeliver.http.failover import Failover
from rtdeliver.http.requests import JSON, NDJSON
from rtdeliver.http.revocations import fetch_revocations
from rtdeliver.interfaces import IConnections, IDispatcherClient, IOwnerClient, IPresenceClient
from rtdeliver.messages import (
    Acknowledgement,
    Announcement,
    Bookmark,
    HistoryPage,
    HistoryQuery,
    PresenceHeartbeat,
    Receipt,
    Refreshed,
    Revocations,
    Subscriptions,
    TopicsChange,
)
from rtdeliver.model import ConnectionId, FrontendRef, Revocation
from rtdeliver.wire import (
    decode_acknowledgement,
    decode_frontends,
    decode_pages,
    decode_refreshed,
    decode_subscriptions,
    encode,
    encode_batch,
    encode_queries,
    forbidden_in,
    message_in,
)

T = TypeVar("T")


@implementer(IDispatcherClient, IPresenceClient)
class HttpDispatcherClient:
    """Sends each request to one of the dispatchers.

    :param dispatchers: the dispatchers of this datacenter.
    :param offsets: is told how the dispatchers' clocks are set.
    """

    def __init__(self, *, dispatchers: Failover, client: NodeClient, offsets: ClockOffsets) -> None:
        self._dispatchers = dispatchers
        self._client = client
        self._offsets = offsets

    @as_deferred
    async def announce(self, announcement: Announcement) -> Acknowledgement:
        body = encode(announcement)
        return await self._dispatchers.ask(lambda url: self._announce(url, body))

    @as_deferred
    async def frontends(self) -> Sequence[FrontendRef]:
        return await self._dispatchers.ask(self._frontends)

    @as_deferred
    async def heartbeat(self, heartbeat: PresenceHeartbeat) -> None:
        body = encode(heartbeat)
        await self._dispatchers.ask(lambda url: self._post(f"{url}/presence", body, bool))

    @as_deferred
    async def revocations(self, after: Bookmark) -> Revocations:
        return await self._dispatchers.ask(lambda url: fetch_revocations(self._client, url, after))

    @as_deferred
    async def restore(self, revocations: Sequence[Revocation]) -> None:
        body = encode_batch(revocations)
        await self._dispatchers.ask(
            lambda url: self._client.post(f"{url}/revocations", body, content_type=NDJSON)
        )

    @as_deferred
    async def history(self, queries: Sequence[HistoryQuery]) -> Sequence[HistoryPage | None]:
        body = encode_queries(queries)
        try:
            return await self._dispatchers.ask(
                lambda url: self._post(f"{url}/history/read", body, decode_pages)
            )
        except AnsweredNo as failure:
            if failure.status == NotFound.status:
                # A dispatcher of a version that knows no histories.
                return [None] * len(queries)
            raise

    async def _announce(self, url: str, body: bytes) -> Acknowledgement:
        sent_at = self._offsets.now()
        answer = await self._post(f"{url}/subscriptions", body, decode_acknowledgement)
        self._offsets.note(url, sent_at, answer)
        return answer

    async def _frontends(self, url: str) -> Sequence[FrontendRef]:
        return decode_frontends((await self._client.get(f"{url}/frontends")).body)

    async def _post(self, url: str, body: bytes, decode: Callable[[bytes], T]) -> T:
        return decode((await self._client.post(url, body, content_type=JSON)).body)


@implementer(IOwnerClient)
class HttpOwnerClient:
    """Sends requests to the internal listeners of other frontends."""

    def __init__(self, client: NodeClient) -> None:
        self._client = client

    def connections(self, frontend: FrontendRef) -> IConnections:
        return _RemoteConnections(frontend, self._client)


@implementer(IConnections)
class _RemoteConnections:
    """The connections that another frontend owns."""

    def __init__(self, frontend: FrontendRef, client: NodeClient) -> None:
        self._url = frontend.url.rstrip("/")
        self._client = client

    @as_deferred
    async def subscribe(self, id: ConnectionId, change: TopicsChange) -> Subscriptions:
        answer = await _owned(
            self._client.post(self._path(id, "topics"), encode(change), content_type=JSON)
        )
        return _decoded(decode_subscriptions, answer)

    @as_deferred
    async def subscriptions(self, id: ConnectionId) -> Subscriptions:
        answer = await _owned(self._client.get(self._path(id, "topics")))
        return _decoded(decode_subscriptions, answer)

    @as_deferred
    async def refresh(self, id: ConnectionId, token: str) -> Refreshed:
        answer = await _owned(
            self._client.post(self._path(id, "token"), encode({"token": token}), content_type=JSON)
        )
        return _decoded(decode_refreshed, answer)

    @as_deferred
    async def receive(self, receipt: Receipt) -> None:
        await _owned(self._client.post(f"{self._url}/received", encode(receipt), content_type=JSON))

    def look_for(self, id: ConnectionId) -> Deferred[None]:  # noqa: ARG002
        return succeed(None)

    def _path(self, id: ConnectionId, what: str) -> str:
        return f"{self._url}/connections/{quote(id, safe='')}/{what}"


def _decoded(decode: Callable[[bytes], T], answer: Answer) -> T:
    try:
        return decode(answer.body)
    except Refusal as refusal:
        raise AnsweredNo(200, refusal.message) from None


async def _owned(request: Awaitable[Answer]) -> Answer:
    """Return the answer of the frontend that owns a connection; raise what it means otherwise."""
    try:
        return await request
    except AnsweredNo as failure:
        if failure.status == UnknownConnection.status:
            raise UnknownConnection(
                "no stream has this connection id; connect again, and use the new id"
            ) from None
        if failure.status == Unauthorized.status:
            # A wrong secret is refused with 401, too, but then nothing works.
            raise Unauthorized(message_in(failure.body)) from None
        if failure.status == Forbidden.status:
            raise forbidden_in(failure.body) from None
        if failure.status == TooManyTopics.status:
            raise TooManyTopics(
                "the connection would have more topics than its frontend allows"
            ) from None
        if failure.status == TooManyRequests.status:
            raise TooManyRequests("told too often", headers={"Retry-After": "1"}) from None
        raise
