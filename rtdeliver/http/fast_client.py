"""How nodes make their most frequent requests: deliveries and forwards.

A POST has the same effect as with `rtdeliver.http.client.NodeClient`, at a tenth of the cost: the
request is written in one piece, and llhttp reads the answer.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httptools
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from rtdeliver.config.sections import Http
from rtdeliver.errors import AnswerLost, Unreachable
from rtdeliver.http.client import Answer, accepted
from rtdeliver.http.endpoints import NodeEndpoints

_PORTS = {"http": 80, "https": 443}


class FastClient:
    """Posts to other nodes, on connections that it keeps open.

    :param settings: have the time for a request with its answer, and for an idle connection, and
        the largest answer.
    :param secret: sent as a bearer token; empty for none.
    """

    def __init__(self, *, reactor: Any, settings: Http, secret: str) -> None:
        self._reactor = reactor
        self._endpoints = NodeEndpoints(reactor=reactor, timeout_seconds=settings.request_seconds)
        self.use_secret(secret)
        self._timeout_seconds = settings.request_seconds
        self._idle_seconds = settings.client_idle_seconds
        self._answer_bytes = settings.internal_body_bytes
        self._idle: dict[str, list[_Connection]] = {}

    def use_secret(self, secret: str) -> None:
        """Send this secret from now on; empty for none."""
        self._authorization = f"Authorization: Bearer {secret}\r\n" if secret else ""

    async def post(
        self, url: str, body: bytes, *, content_type: str, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send ``body`` by POST and return the answer.

        :raises Unreachable: if no connection could be made, so that nothing was sent.
        :raises AnswerLost: if the request may have been sent, and no complete answer came in time.
        :raises AnsweredNo: if the status is not 2xx.
        """
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        connection = self._take_idle(place) or await self._connect(url, parts)
        fields = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = (
            f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n{self._authorization}"
            f"{fields}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            answer = await connection.exchange(head.encode() + body).addTimeout(
                self._timeout_seconds, self._reactor
            )
        except (AnswerLost, defer.TimeoutError) as error:
            connection.abort()
            raise AnswerLost(f"{url}: {error or 'no complete answer came in time'}") from None
        if connection.is_reusable:
            connection.idle_since = self._reactor.seconds()
            self._idle.setdefault(place, []).append(connection)
        return accepted(answer)

    def close(self) -> None:
        """Close the connections that are not in use."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    def _take_idle(self, place: str) -> "_Connection | None":
        connections = self._idle.get(place, [])
        newest = self._reactor.seconds() - self._idle_seconds
        while connections:
            connection = connections.pop()
            if connection.is_reusable and connection.idle_since > newest:
                return connection
            connection.abort()
        return None

    async def _connect(self, url: str, parts: SplitResult) -> "_Connection":
        endpoint = self._endpoints.endpoint(
            parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]
        )
        try:
            connection: Any = await endpoint.connect(Factory.forProtocol(self._new_connection))
        except (ConnectError, DNSLookupError) as error:
            raise Unreachable(f"{url}: {error}") from None
        connected: _Connection = connection
        return connected

    def _new_connection(self) -> "_Connection":
        return _Connection(answer_bytes=self._answer_bytes)


class _Connection(Protocol):
    """A connection to a node, for one request after the other.

    :param answer_bytes: the largest body of an answer.
    """

    transport: Any

    def __init__(self, *, answer_bytes: int) -> None:
        self._answer_bytes = answer_bytes
        self.idle_since = 0.0
        self.is_reusable = True
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: Deferred[Answer] | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0

    def exchange(self, request: bytes) -> Deferred[Answer]:
        """Send a request; fires with its answer, or fails with `AnswerLost`."""
        self._waiting = Deferred()
        self.transport.write(request)
        return self._waiting

    def abort(self) -> None:
        self.is_reusable = False
        self._waiting = None
        self.transport.abortConnection()

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        if self._waiting is None:
            # There is no request that these bytes could answer.
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lose(f"the answer is not HTTP: {error}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lose(reason.getErrorMessage())

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._body_bytes += len(data)
        if self._body_bytes > self._answer_bytes:
            self._lose(f"the answer's body has more than {self._answer_bytes} bytes")

    def on_message_complete(self) -> None:
        answer = Answer(status=self._parser.get_status_code(), body=b"".join(self._body))
        self._body, self._body_bytes = [], 0
        waiting, self._waiting = self._waiting, None
        if not self._parser.should_keep_alive():
            self.is_reusable = False
            self.transport.loseConnection()
        if waiting is not None:
            waiting.callback(answer)

    def _lose(self, why: str) -> None:
        self.is_reusable = False
        self._body.clear()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(AnswerLost(why))
