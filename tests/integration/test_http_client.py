"""Calls between nodes over real sockets, in this process."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import HTTPConnectionPool

from rtdeliver.errors import AnsweredNo, AnswerLost, Unreachable
from rtdeliver.http_client import NodeClient, make_agent

Serve = Callable[[type[Protocol]], Any]


class _Peer(Protocol):
    """Answers each chunk of data by a canned response; counts the connections."""

    response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"
    connections = 0

    def connectionMade(self) -> None:
        type(self).connections += 1

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(self.response)


@pytest_twisted.async_yield_fixture
async def serve() -> AsyncIterator[Serve]:
    ports = []

    async def listen(protocol: type[Protocol]) -> str:
        factory = Factory.forProtocol(protocol)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        ports.append(port)
        return f"http://127.0.0.1:{port.getHost().port}/deliver"

    yield listen
    for port in ports:
        await port.stopListening()


@pytest_twisted.async_yield_fixture
async def client() -> AsyncIterator[NodeClient]:
    agent = make_agent(reactor, connect_timeout_seconds=5)
    yield NodeClient(agent=agent, clock=reactor, secret="s3cret", timeout_seconds=5)
    pool: HTTPConnectionPool = agent._pool
    await pool.closeCachedConnections()


@pytest.fixture
def impatient() -> NodeClient:
    agent = make_agent(reactor, connect_timeout_seconds=0.2)
    return NodeClient(agent=agent, clock=reactor, secret="", timeout_seconds=0.2)


@pytest_twisted.ensureDeferred
async def test_an_answer_is_returned_and_the_connection_used_again(
    serve: Serve, client: NodeClient
) -> None:
    peer = type("Peer", (_Peer,), {})
    url = await serve(peer)
    for _ in range(3):
        answer = await client.post(url, b"x", content_type="application/x-ndjson")
        assert (answer.status, answer.body) == (202, b"ok")
    assert peer.connections == 1


@pytest_twisted.ensureDeferred
async def test_the_secret_goes_with_every_request(serve: Serve, client: NodeClient) -> None:
    seen = []

    class Peer(_Peer):
        def dataReceived(self, data: bytes) -> None:
            seen.append(data)
            super().dataReceived(data)

    await client.post(await serve(Peer), b"x", content_type="text/plain")
    assert b"\r\nAuthorization: Bearer s3cret\r\n" in seen[0]


@pytest_twisted.ensureDeferred
async def test_a_refused_connection_is_unreachable(client: NodeClient) -> None:
    with pytest.raises(Unreachable):
        await client.post("http://127.0.0.1:1/deliver", b"x", content_type="text/plain")


@pytest_twisted.ensureDeferred
async def test_a_status_other_than_2xx_is_a_no(serve: Serve, client: NodeClient) -> None:
    class Peer(_Peer):
        response = b"HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\ngone"

    with pytest.raises(AnsweredNo) as caught:
        await client.post(await serve(Peer), b"x", content_type="text/plain")
    assert caught.value.status == 410


@pytest_twisted.ensureDeferred
async def test_silence_is_a_lost_answer(serve: Serve, impatient: NodeClient) -> None:
    class Peer(_Peer):
        response = b""

    with pytest.raises(AnswerLost):
        await impatient.post(await serve(Peer), b"x", content_type="text/plain")


@pytest_twisted.ensureDeferred
async def test_half_an_answer_is_a_lost_answer(serve: Serve, impatient: NodeClient) -> None:
    class Peer(_Peer):
        response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nhalf"

    with pytest.raises(AnswerLost):
        await impatient.post(await serve(Peer), b"x", content_type="text/plain")


@pytest_twisted.ensureDeferred
async def test_a_connection_closed_without_an_answer_is_a_lost_answer(
    serve: Serve, client: NodeClient
) -> None:
    class Peer(_Peer):
        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.loseConnection()

    with pytest.raises(AnswerLost):
        await client.post(await serve(Peer), b"x", content_type="text/plain")


@pytest_twisted.ensureDeferred
async def test_an_endless_answer_is_a_lost_answer(serve: Serve, client: NodeClient) -> None:
    class Peer(_Peer):
        response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 999999\r\n\r\n" + b"x" * 100_000

    with pytest.raises(AnswerLost):
        await client.post(await serve(Peer), b"x", content_type="text/plain")
