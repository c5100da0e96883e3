"""How a dispatcher reaches the frontends, and dispatchers of peer datacenters, over HTTP."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rtdeliver.errors import (
    AnsweredNo,
    RemoteFailure,
    StaleIncarnation,
    Unavailable,
    Unreachable,
)
from rtdeliver.http.client import Answer
from rtdeliver.http.requests import NDJSON
from rtdeliver.interfaces import IFrontendClient, IPeerClient
from rtdeliver.model import Event, FrontendRef, Gap
from rtdeliver.wire import encode_batch


class Poster(Protocol):
    """Makes a request; see `rtdeliver.http.fast_client.FastClient.post`."""

    async def post(
        self, url: str, body: bytes, *, content_type: str, headers: Mapping[str, str] | None = None
    ) -> Answer: ...


@implementer(IFrontendClient)
class HttpFrontendClient:
    """Delivers by ``POST /deliver``."""

    def __init__(self, client: Poster) -> None:
        self._client = client

    def deliver(self, frontend: FrontendRef, batch: Sequence[Event | Gap]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._deliver(frontend, encode_batch(batch)))

    async def _deliver(self, frontend: FrontendRef, body: bytes) -> None:
        try:
            await self._client.post(
                frontend.url.rstrip("/") + "/deliver",
                body,
                content_type=NDJSON,
                headers={"Rt-Incarnation": frontend.incarnation},
            )
        except AnsweredNo as failure:
            if failure.status == StaleIncarnation.status:
                raise StaleIncarnation(str(failure)) from None
            raise


@implementer(IPeerClient)
class HttpPeerClient:
    """Forwards by ``POST /forward`` to one dispatcher of a peer until it fails, then to the next.

    :param urls: of the peer's dispatchers, at least one.
    """

    def __init__(self, *, urls: Sequence[str], client: Poster) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._client = client
        self._current = 0

    def forward(self, batch: Sequence[Event | Gap]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._forward(encode_batch(batch)))

    async def _forward(self, body: bytes) -> None:
        url = self._urls[self._current] + "/forward"
        try:
            await self._client.post(url, body, content_type=NDJSON)
        except RemoteFailure as failure:
            self._current = (self._current + 1) % len(self._urls)
            if isinstance(failure, AnsweredNo) and failure.status == Unavailable.status:
                # It cannot reach its routing table, so it has delivered nothing.
                raise Unreachable(f"{url}: {failure}") from None
            raise
