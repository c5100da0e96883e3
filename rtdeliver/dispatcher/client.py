"""How a dispatcher sends requests to frontends and to peer datacenters, over HTTP."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import urlencode

from zope.interface import implementer

from rtdeliver.deferreds import as_deferred
from rtdeliver.errors import AnsweredNo, Refusal, StaleIncarnation, Unavailable, Unreachable
from rtdeliver.http.client import Answer, NodeClient
from rtdeliver.http.failover import Failover
from rtdeliver.http.requests import NDJSON
from rtdeliver.http.revocations import fetch_revocations
from rtdeliver.interfaces import IFrontendClient, IPeerClient
from rtdeliver.messages import Bookmark, Revocations, TopicMembers
from rtdeliver.model import FrontendRef, Item, Topic
from rtdeliver.wire import decode_topic_members, encode_batch


class Poster(Protocol):
    """Makes a request; see `rtdeliver.http.fast_client.FastClient.post`."""

    async def post(
        self, url: str, body: bytes, *, content_type: str, headers: Mapping[str, str] | None = None
    ) -> Answer: ...


@implementer(IFrontendClient)
class HttpFrontendClient:
    """Delivers events with ``POST /deliver``, and asks for viewers.

    :param reader: for requests that are rare.
    """

    def __init__(self, client: Poster, *, reader: NodeClient) -> None:
        self._client = client
        self._reader = reader

    @as_deferred
    async def members(
        self, frontend: FrontendRef, topic: Topic, after: str, limit: int
    ) -> TopicMembers:
        query = urlencode({"topic": topic, "after": after, "limit": limit})
        answer = await self._reader.get(f"{frontend.url.rstrip('/')}/viewers?{query}")
        try:
            return decode_topic_members(answer.body)
        except Refusal as refusal:
            raise AnsweredNo(200, refusal.message) from None

    @as_deferred
    async def deliver(self, frontend: FrontendRef, batch: Sequence[Item]) -> None:
        try:
            await self._client.post(
                frontend.url.rstrip("/") + "/deliver",
                encode_batch(batch),
                content_type=NDJSON,
                headers={"Rt-Incarnation": frontend.incarnation},
            )
        except AnsweredNo as failure:
            if failure.status == StaleIncarnation.status:
                raise StaleIncarnation(str(failure)) from None
            raise


@implementer(IPeerClient)
class HttpPeerClient:
    """Forwards events with ``POST /forward``, and reads the revocations of the peer.

    :param dispatchers: the dispatchers of the peer.
    :param reader: for requests that are rare.
    """

    def __init__(self, *, dispatchers: Failover, client: Poster, reader: NodeClient) -> None:
        self._dispatchers = dispatchers
        self._client = client
        self._reader = reader

    @as_deferred
    async def forward(self, batch: Sequence[Item]) -> None:
        body = encode_batch(batch)
        await self._dispatchers.ask(lambda url: self._forward(f"{url}/forward", body))

    @as_deferred
    async def revocations(self, after: Bookmark) -> Revocations:
        return await self._dispatchers.ask(lambda url: fetch_revocations(self._reader, url, after))

    async def _forward(self, url: str, body: bytes) -> None:
        try:
            await self._client.post(url, body, content_type=NDJSON)
        except AnsweredNo as failure:
            if failure.status == Unavailable.status:
                # The peer's dispatcher cannot reach its routing table, so it has delivered nothing.
                raise Unreachable(f"{url}: {failure}") from None
            raise
