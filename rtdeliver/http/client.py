"""How nodes call each other: one request, with a bound on its time and its answer."""

from collections.abc import Mapping
from typing import Any

import msgspec
from treq.client import HTTPClient
from treq.content import collect
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as ConnectionRefused
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from rtdeliver.config.sections import Http
from rtdeliver.errors import AnsweredNo, AnswerLost, Refused, RemoteFailure, Unreachable
from rtdeliver.http.endpoints import NodeEndpoints


class Answer(msgspec.Struct, frozen=True):
    """The response to a request."""

    status: int
    body: bytes


def accepted(answer: Answer) -> Answer:
    """Return ``answer``.

    :raises AnsweredNo: if its status is not 2xx.
    """
    if not 200 <= answer.status < 300:
        raise AnsweredNo(answer.status, answer.body[:200].decode("utf-8", "replace"), answer.body)
    return answer


class NodeClient:
    """Calls other nodes.

    :param settings: have the time for a request with its answer, and the largest answer.
    :param secret: sent as a bearer token; empty for none.
    """

    def __init__(self, *, agent: IAgent, clock: IReactorTime, settings: Http, secret: str) -> None:
        self._http = HTTPClient(agent)
        self._clock = clock
        self.use_secret(secret)
        self._timeout_seconds = settings.request_seconds
        self._answer_bytes = settings.internal_body_bytes

    def use_secret(self, secret: str) -> None:
        """Send this secret from now on; empty for none."""
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}

    async def post(
        self, url: str, body: bytes, *, content_type: str, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send ``body`` by POST and return the answer.

        :raises Unreachable: if no connection could be made, so that nothing was sent; `Refused` if
            no process listens there.
        :raises AnswerLost: if the request may have been sent, and no complete answer came in time.
        :raises AnsweredNo: if the status is not 2xx.
        """
        return await self._request(
            "POST", url, body, {**(headers or {}), "Content-Type": content_type}
        )

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Get ``url`` and return the answer; fails like `post`."""
        return await self._request("GET", url, b"", headers or {})

    async def _request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        try:
            answer = await self._exchange(method, url, body, {**self._headers, **headers})
        except RemoteFailure:
            raise
        except ConnectionRefused as error:
            raise Refused(f"{url}: {error}") from None
        except (ConnectError, DNSLookupError) as error:
            raise Unreachable(f"{url}: {error}") from None
        except Exception as error:
            raise AnswerLost(f"{url}: {type(error).__name__} {error}") from None
        return accepted(answer)

    def _exchange(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str]
    ) -> Deferred[Answer]:
        exchange = Deferred.fromCoroutine(self._exchange_unbounded(method, url, body, headers))
        return exchange.addTimeout(self._timeout_seconds, self._clock)

    async def _exchange_unbounded(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        response: IResponse = await self._http.request(
            method,
            url,
            data=body or None,
            # No node sends another one elsewhere, and a secret must not go there.
            allow_redirects=False,
            headers=Headers({name: [value] for name, value in headers.items()}),
        )
        received = bytearray()

        def keep(piece: bytes) -> None:
            received.extend(piece)
            if len(received) > self._answer_bytes:
                raise AnswerLost(
                    f"{url}: the answer's body has more than {self._answer_bytes} bytes"
                )

        # A connection is used again only if the answer was read to its end.
        await collect(response, keep)
        return Answer(status=response.code, body=bytes(received))


def make_agent(reactor: object, settings: Http) -> Agent:
    """Return an agent that keeps connections open between requests."""
    pool: Any = HTTPConnectionPool(reactor, persistent=True)
    pool.cachedConnectionTimeout = settings.client_idle_seconds
    endpoints = NodeEndpoints(reactor=reactor, timeout_seconds=settings.request_seconds)
    agent: Agent = Agent.usingEndpointFactory(reactor, endpoints, pool=pool)
    return agent
