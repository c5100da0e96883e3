"""Calls between nodes over real sockets, in this process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool

from rtdeliver.config.sections import Http
from rtdeliver.errors import AnsweredNo, AnswerLost, Unreachable
from rtdeliver.http.client import NodeClient, make_agent
from rtdeliver.http.fast_client import FastClient
from tests.integration.roles import DEADLINE_SECONDS

ANSWER_BYTES = 90_000


class _Peer(Protocol):
    """Answers each chunk of data by a canned response; counts the connections."""

    transport: ITCPTransport
    response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"
    connections = 0

    def connectionMade(self) -> None:
        type(self).connections += 1

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.response)


Serve = Callable[[type[_Peer]], Awaitable[str]]


@pytest_twisted.async_yield_fixture
async def serve() -> AsyncIterator[Serve]:
    ports = []
    peers: list[_Peer] = []

    async def listen(protocol: type[_Peer]) -> str:
        def build() -> _Peer:
            peers.append(protocol())
            return peers[-1]

        factory = Factory.forProtocol(build)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        ports.append(port)
        return f"http://127.0.0.1:{port.getHost().port}/deliver"

    yield listen
    for port in ports:
        await port.stopListening()
    for peer in peers:
        if peer.connected:
            peer.transport.abortConnection()
    # By then both ends of each connection know.
    for _ in range(3):
        await deferLater(reactor, 0)


Client = NodeClient | FastClient


@pytest_twisted.async_yield_fixture(params=["general", "fast"])
async def clients(request: Any) -> AsyncIterator[Callable[..., Client]]:
    """Makes clients of one kind: all kinds keep the same promises."""
    agents = []
    fast = []

    def make(*, secret: str, timeout_seconds: float) -> Client:
        settings = Http(request_seconds=timeout_seconds, internal_body_bytes=ANSWER_BYTES)
        if request.param == "fast":
            client = FastClient(reactor=reactor, settings=settings, secret=secret)
            fast.append(client)
            return client
        agents.append(make_agent(reactor, settings))
        return NodeClient(agent=agents[-1], clock=reactor, settings=settings, secret=secret)

    yield make
    for client in fast:
        client.close()
    for agent in agents:
        pool: HTTPConnectionPool = agent._pool
        await pool.closeCachedConnections()


@pytest.fixture
def client(clients: Callable[..., Client]) -> Client:
    return clients(secret="s3cret", timeout_seconds=DEADLINE_SECONDS)


@pytest.fixture
def impatient(clients: Callable[..., Client]) -> Client:
    return clients(secret="", timeout_seconds=1)


@pytest_twisted.ensureDeferred
async def test_an_answer_is_returned_and_the_connection_used_again(
    serve: Serve, client: Client
) -> None:
    class Peer(_Peer):
        connections = 0

    url = await serve(Peer)
    for _ in range(3):
        answer = await client.post(url, b"x", content_type="application/x-ndjson")
        assert (answer.status, answer.body) == (202, b"ok")
    assert Peer.connections == 1


@pytest_twisted.ensureDeferred
async def test_the_secret_goes_with_every_request(serve: Serve, client: Client) -> None:
    seen = []

    class Peer(_Peer):
        def dataReceived(self, data: bytes) -> None:
            seen.append(data)
            super().dataReceived(data)

    await client.post(await serve(Peer), b"x", content_type="text/plain")
    assert b"\r\nAuthorization: Bearer s3cret\r\n" in seen[0]


@pytest_twisted.ensureDeferred
async def test_a_refused_connection_is_unreachable(client: Client) -> None:
    with pytest.raises(Unreachable):
        await client.post("http://127.0.0.1:1/deliver", b"x", content_type="text/plain")


@pytest_twisted.ensureDeferred
async def test_a_status_other_than_2xx_is_a_no(serve: Serve, client: Client) -> None:
    class Peer(_Peer):
        response = b"HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\ngone"

    with pytest.raises(AnsweredNo) as caught:
        await client.post(await serve(Peer), b"x", content_type="text/plain")
    assert caught.value.status == 410


@pytest_twisted.ensureDeferred
async def test_silence_is_a_lost_answer(serve: Serve, impatient: Client) -> None:
    class Peer(_Peer):
        response = b""

    with pytest.raises(AnswerLost):
        await impatient.post(await serve(Peer), b"x", content_type="text/plain")


@pytest_twisted.ensureDeferred
async def test_half_an_answer_is_a_lost_answer(serve: Serve, impatient: Client) -> None:
    class Peer(_Peer):
        response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nhalf"

    with pytest.raises(AnswerLost):
        await impatient.post(await serve(Peer), b"x", content_type="text/plain")


@pytest_twisted.ensureDeferred
async def test_a_connection_closed_without_an_answer_is_a_lost_answer(
    serve: Serve, client: Client
) -> None:
    class Peer(_Peer):
        def dataReceived(self, data: bytes) -> None:
            self.transport.loseConnection()

    with pytest.raises(AnswerLost):
        await client.post(await serve(Peer), b"x", content_type="text/plain")


@pytest_twisted.ensureDeferred
async def test_an_endless_answer_is_a_lost_answer(serve: Serve, client: Client) -> None:
    class Peer(_Peer):
        response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 999999\r\n\r\n" + b"x" * 100_000

    with pytest.raises(AnswerLost):
        await client.post(await serve(Peer), b"x", content_type="text/plain")


@pytest_twisted.ensureDeferred
async def test_an_answer_as_large_as_the_largest_body_is_read(serve: Serve, client: Client) -> None:
    class Peer(_Peer):
        response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (
            ANSWER_BYTES,
            b"x" * ANSWER_BYTES,
        )

    answer = await client.post(await serve(Peer), b"x", content_type="text/plain")
    assert answer.body == b"x" * ANSWER_BYTES


@pytest_twisted.ensureDeferred
async def test_an_answer_in_chunks_is_read(serve: Serve, client: Client) -> None:
    class Peer(_Peer):
        response = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n"
        )

    url = await serve(Peer)
    for _ in range(2):
        assert (await client.post(url, b"x", content_type="text/plain")).body == b"ok!"


@pytest_twisted.ensureDeferred
async def test_an_answer_that_comes_byte_by_byte_is_read(serve: Serve, client: Client) -> None:
    class Peer(_Peer):
        def dataReceived(self, data: bytes) -> None:
            for place in range(len(self.response)):
                reactor.callLater(
                    place / 2000, self.transport.write, self.response[place : place + 1]
                )

    answer = await client.post(await serve(Peer), b"x", content_type="text/plain")
    assert (answer.status, answer.body) == (202, b"ok")


@pytest_twisted.ensureDeferred
async def test_a_connection_that_the_other_side_closes_is_not_used_again(
    serve: Serve, client: Client
) -> None:
    class Peer(_Peer):
        response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        connections = 0

    url = await serve(Peer)
    for number in range(1, 4):
        assert (await client.post(url, b"x", content_type="text/plain")).status == 202
        assert Peer.connections == number


@pytest_twisted.ensureDeferred
async def test_what_is_not_http_is_a_lost_answer(serve: Serve, client: Client) -> None:
    class Peer(_Peer):
        response = b"220 mail.example.com ESMTP\r\n"

        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.loseConnection()

    with pytest.raises(AnswerLost):
        await client.post(await serve(Peer), b"x", content_type="text/plain")


@pytest_twisted.ensureDeferred
async def test_requests_at_the_same_time_have_connections_of_their_own(
    serve: Serve, client: Client
) -> None:
    held: list[Any] = []

    class Peer(_Peer):
        connections = 0

        def dataReceived(self, data: bytes) -> None:
            held.append(self.transport)
            if len(held) == 3:
                for transport in held:
                    transport.write(self.response)

    url = await serve(Peer)
    posts = [
        Deferred.fromCoroutine(client.post(url, b"x", content_type="text/plain")) for _ in range(3)
    ]
    for post in posts:
        assert (await post).status == 202
    assert Peer.connections == 3


@pytest_twisted.ensureDeferred
async def test_what_nobody_asked_for_is_no_answer_to_the_next_request(
    serve: Serve, client: Client
) -> None:
    transports, lost = [], Deferred[None]()

    class Peer(_Peer):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            transports.append(self.transport)

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            if not lost.called:
                lost.callback(None)

    url = await serve(Peer)
    assert (await client.post(url, b"x", content_type="text/plain")).body == b"ok"
    transports[0].write(_Peer.response.replace(b"ok", b"no"))
    await lost.addTimeout(DEADLINE_SECONDS, reactor)
    assert (await client.post(url, b"x", content_type="text/plain")).body == b"ok"
