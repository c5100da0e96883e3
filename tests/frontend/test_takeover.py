"""Tests of rtdeliver.frontend.takeover, on real sockets: what a new Twisted would break first."""

import contextlib
import errno
import gc
import socket
import tempfile
import weakref
from pathlib import Path
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.ssl import PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

from rtdeliver.config.sections import Http, Sockets
from rtdeliver.errors import StreamLost
from rtdeliver.frontend.chunked import PlainStream, chunk
from rtdeliver.frontend.routes import add_connect_route
from rtdeliver.frontend.takeover import (
    SocketStream,
    TransportStream,
    response_head,
    take_over,
)
from rtdeliver.http.intake import Intake
from rtdeliver.http.routes import new_app
from rtdeliver.http.site import BoundedRequest, BoundedSite, ValidatingResource
from rtdeliver.interfaces import IStream, IStreamOwner
from rtdeliver.routing.memory import MemoryRoutingTable
from tests import certificates
from tests.contracts.stream import StreamContract
from tests.fakes import RecordingOwner, TableDispatcherClient, new_frontend
from tests.sockets import Client, SocketReactor, TlsClient

IDLE_SECONDS = 60
GET = b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n"
SEND_BUFFER_BYTES = 8192
HUGE = b"." * 1_000_000
"""More than the kernel takes at once."""
PEM = certificates.self_signed()


def settings(*, send_buffer_bytes: int = SEND_BUFFER_BYTES) -> Sockets:
    return Sockets(
        send_buffer_bytes=send_buffer_bytes, tcp_keepalive_seconds=77, tcp_user_timeout_seconds=33
    )


class Held(Resource):
    """Answers nothing; what becomes of its requests is up to the test."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render(self, request: Request) -> int:
        self.requests.append(request)
        return NOT_DONE_YET


class TakenOver(Resource):
    """Gives its requests to the owner at once, while the server handles them."""

    isLeaf = True

    def __init__(self, owner: IStreamOwner) -> None:
        super().__init__()
        self._owner = owner

    def render(self, request: Request) -> int:
        take_over(request, self._owner, settings())
        return NOT_DONE_YET


def note_requests(site: BoundedSite) -> list[weakref.ref[Any]]:
    """Return a list to which references to each request and its channel are added."""
    noted: list[weakref.ref[Any]] = []

    class NotedRequest(BoundedRequest):
        def __init__(self, channel: Any, *args: Any) -> None:
            super().__init__(channel, *args)
            noted.extend([weakref.ref(self), weakref.ref(channel)])

    made: Any = site
    made.requestFactory = NotedRequest
    return noted


def connection_of(request: Any) -> Any:
    """Return the TCP connection below the transport of a request."""
    transport = request.channel.transport
    while not isinstance(transport, tcp.Connection):
        transport = transport.transport
    return transport


class ServerTestCase(SynchronousTestCase):
    """Has an HTTP server on a loopback port, with a `Held` resource, and its clients."""

    def setUp(self) -> None:
        self.reactor = SocketReactor()
        self.clients: list[Client] = []
        self.addCleanup(self.close)
        self.held = Held()
        self.owner = RecordingOwner()
        self.serve(self.held)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for descriptor in self.reactor.removeAll():
            descriptor.connectionLost(Failure(ConnectionDone()))

    def serve(self, resource: IResource) -> BoundedSite:
        """Serve ``resource`` to those who connect from now on."""
        site = BoundedSite(
            resource,
            body_bytes=100,
            idle_seconds=IDLE_SECONDS,
            intake=Intake(Http(), listeners="public"),
            reactor=self.reactor,
        )
        self.listen(self.wrap(site))
        return site

    def wrap(self, factory: IProtocolFactory) -> IProtocolFactory:
        """Return what listens."""
        return factory

    def listen(self, factory: IProtocolFactory) -> None:
        address: Any = self.reactor.listenTCP(0, factory, interface="127.0.0.1").getHost()
        self.address: Any = (address.host, address.port)

    def new_socket(self) -> socket.socket:
        sock = socket.socket()
        # A client that reads nothing soon has all that it takes.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return sock

    def new_client(self, sock: socket.socket) -> Client:
        return Client(self.reactor, sock)

    def connect(self) -> Client:
        """Return another client of the server."""
        sock = self.new_socket()
        sock.connect(self.address)
        self.clients.append(Client(self.reactor, sock))
        self.clients[-1] = self.new_client(sock)
        return self.clients[-1]

    def ask(self, head: bytes = GET) -> tuple[Client, Any]:
        """Let a client ask, and return it with the request that the server has then."""
        client = self.connect()
        client.send(head)
        self.reactor.serve_until(lambda: self.held.requests, "the request came")
        return client, self.held.requests.pop()

    def take(self, *, send_buffer_bytes: int = SEND_BUFFER_BYTES) -> tuple[Client, IStream]:
        """Let a client ask for a stream, and give that to the owner."""
        client, request = self.ask()
        take_over(request, self.owner, settings(send_buffer_bytes=send_buffer_bytes))
        [stream] = self.owner.streams
        return client, stream


class UnixServerTestCase(ServerTestCase):
    """The same on a UNIX socket, where nothing is on its way between kernels."""

    def setUp(self) -> None:
        # A path may have 107 bytes only; see unix(7).
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        super().setUp()

    def listen(self, factory: IProtocolFactory) -> None:
        self.address = str(Path(self.folder.name, "socket"))
        self.reactor.listenUNIX(self.address, factory)

    def new_socket(self) -> socket.socket:
        return socket.socket(socket.AF_UNIX)


class OnTls(ServerTestCase):
    """Puts TLS between."""

    def wrap(self, factory: IProtocolFactory) -> IProtocolFactory:
        context = PrivateCertificate.loadPEM(b"".join(PEM)).options()
        return TLSMemoryBIOFactory(context, False, factory, clock=self.reactor)

    def new_client(self, sock: socket.socket) -> Client:
        client = TlsClient(self.reactor, sock)
        client.shake_hands()
        return client


class SocketStreamContractTests(StreamContract, UnixServerTestCase):
    """The contract, straight on a socket."""

    implementation: type = SocketStream

    def make_stream(self, owner: RecordingOwner) -> IStream:
        UnixServerTestCase.setUp(self)
        self.owner = owner
        self.client, stream = self.take()
        return stream

    def read(self, size: int) -> None:
        self.client.read(size)

    def received(self) -> bytes:
        return self.client.received

    def has_ended(self) -> bool:
        return self.client.has_ended

    def leave(self) -> None:
        self.client.close()

    def settle(self) -> None:
        self.reactor.settle()


class TransportStreamContractTests(OnTls, SocketStreamContractTests):
    """The contract, with TLS between."""

    implementation = TransportStream


class PlainStreamContractTests(SocketStreamContractTests):
    """The contract of what an HTTP/1.0 client gets. What is sent is coded in chunks before."""

    implementation = PlainStream
    HEAD = b"HTTP/1.1 200 OK\r\n\r\n"

    def make_stream(self, owner: RecordingOwner) -> IStream:
        UnixServerTestCase.setUp(self)
        self.owner = owner
        self.client, request = self.ask(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        take_over(request, owner, settings())
        [stream] = owner.streams
        stream.send(self.HEAD)
        return stream

    def send(self, data: bytes) -> bytes:
        coded = chunk(data)
        taken = self.stream.send(coded)
        self.assertIn(taken, (0, len(coded)))
        return data if taken else b""

    def read(self, size: int) -> None:
        super().read(len(self.HEAD) + size)

    def received(self) -> bytes:
        return super().received().removeprefix(self.HEAD)


class TakeOverTests(ServerTestCase):
    """What becomes of the transport, the request and the server's channel."""

    def setUp(self) -> None:
        super().setUp()
        # What is let go must be so at once, and not only when rings of objects are looked for.
        self.addCleanup(gc.enable)
        gc.disable()

    def test_what_the_owner_sends_is_the_whole_response(self) -> None:
        client, stream = self.take()
        stream.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        stream.close()
        client.read_to_the_end()
        self.assertEqual(b"HTTP/1.1 200 OK\r\n\r\nhello", client.received)

    def test_what_the_client_sends_from_then_on_comes_to_the_owner(self) -> None:
        client, _ = self.take()
        client.send(b"more")
        self.reactor.serve_until(lambda: self.owner.received, "it came")
        self.assertEqual(b"more", self.owner.received)

    def test_the_owner_is_told_once_that_the_client_has_left(self) -> None:
        client, _ = self.take()
        client.close()
        self.reactor.serve_until(lambda: self.owner.losses, "the owner was told")
        self.reactor.settle()
        self.assertEqual(1, len(self.owner.losses))

    def test_that_the_client_left_before_is_told_afterwards(self) -> None:
        client, request = self.ask()
        client.close()
        take_over(request, self.owner, settings())
        self.assertEqual((1, []), (len(self.owner.streams), self.owner.losses))
        self.reactor.serve_until(lambda: self.owner.losses, "the owner was told")

    def test_a_socket_that_takes_no_options_is_taken_over_all_the_same(self) -> None:
        _, request = self.ask()
        connection_of(request).socket.close()
        take_over(request, self.owner, settings())
        self.assertEqual(1, len(self.owner.streams))

    def test_the_request_and_its_channel_are_gone(self) -> None:
        client, request = self.ask()
        gone = [weakref.ref(request), weakref.ref(request.channel)]
        take_over(request, self.owner, settings())
        del request
        self.check_alone(client, gone)

    def test_they_are_gone_where_it_is_taken_over_while_the_server_handles_it(self) -> None:
        gone = note_requests(self.serve(TakenOver(self.owner)))
        client = self.connect()
        client.send(GET)
        self.reactor.serve_until(lambda: self.owner.streams, "it was taken over")
        self.check_alone(client, gone)

    def check_alone(self, client: Client, gone: list[weakref.ref[Any]]) -> None:
        """Check that the stream works, without anything else."""
        self.assertEqual([None, None], [ref() for ref in gone])
        self.owner.streams[0].send(b"alive")
        client.read(5)
        self.assertEqual(b"alive", client.received)

    def test_they_are_gone_where_the_request_came_through_the_routes(self) -> None:
        dispatchers = TableDispatcherClient(MemoryRoutingTable(clock=self.reactor))
        frontend = new_frontend(self.reactor, dispatchers)
        frontend.start("http://10.0.0.5:8081")
        app = new_app()
        add_connect_route(app, frontend, settings())
        gone = note_requests(self.serve(ValidatingResource(app.resource())))
        client = self.connect()
        client.send(b"GET /connect?topic=live:red HTTP/1.1\r\nHost: h\r\n\r\n")
        client.read(1)
        self.assertEqual(b"H", client.received)
        # Klein's objects refer to each other.
        gc.collect()
        self.assertEqual([None, None], [ref() for ref in gone])

    def test_the_server_waits_for_nothing_any_more(self) -> None:
        before = self.reactor.getDelayedCalls()
        _, request = self.ask()
        request.channel.setTimeout(IDLE_SECONDS)
        take_over(request, self.owner, settings())
        self.assertEqual(before, self.reactor.getDelayedCalls())
        self.reactor.advance(1000 * IDLE_SECONDS)
        self.reactor.settle()
        self.assertEqual([], self.owner.losses)

    def test_a_client_that_was_paused_for_what_it_sent_is_read_again(self) -> None:
        client, request = self.ask()
        connection = connection_of(request)
        while connection in self.reactor.readers:
            client.send(b"." * 1000)
            self.reactor.settle()
        take_over(request, self.owner, settings())
        client.send(b"!")
        self.reactor.serve_until(lambda: b"!" in self.owner.received, "it was read")

    def test_the_socket_has_the_options_that_are_set(self) -> None:
        _, request = self.ask()
        sock = connection_of(request).socket
        take_over(request, self.owner, settings(send_buffer_bytes=20_000))
        for level, option, value in (
            # The kernel doubles it; see socket(7).
            (socket.SOL_SOCKET, socket.SO_SNDBUF, 40_000),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 33_000),
        ):
            self.assertEqual(value, sock.getsockopt(level, option), option)

    def test_a_send_buffer_of_no_size_is_left_to_the_kernel(self) -> None:
        _, request = self.ask()
        sock = connection_of(request).socket
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        take_over(request, self.owner, settings(send_buffer_bytes=0))
        self.assertEqual(before, sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))


class TlsTakeOverTests(OnTls, TakeOverTests):
    """The same with TLS between, and what is so there alone."""

    def test_nothing_is_on_the_wire_as_it_was_sent(self) -> None:
        client, stream = self.take()
        for _ in range(3):
            stream.send(b"secret" * 20_000)
            client.read(len(client.received) + 120_000)
        self.assertEqual(b"secret" * 60_000, client.received)
        self.assertNotIn(b"secret", client.wire)

    def test_a_close_waits_for_the_last_word_of_the_client(self) -> None:
        client, stream = self.take()
        assert isinstance(client, TlsClient)
        client.is_polite = False
        stream.close()
        client.read_to_the_end()
        self.reactor.settle()
        self.assertEqual([], self.owner.losses)
        stream.abort()
        self.reactor.settle()
        self.assertEqual(1, len(self.owner.losses))


class TransportStreamTests(OnTls, UnixServerTestCase):
    """Through a transport that must see the data, and takes all of it while it is not full."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.stream = self.take()

    def read(self) -> None:
        self.client.read(len(self.client.received) + len(HUGE))
        self.reactor.settle()

    def test_who_was_not_refused_anything_is_not_told_that_there_is_room(self) -> None:
        self.assertEqual(len(HUGE), self.stream.send(HUGE))
        self.read()
        self.assertEqual(0, self.owner.writables)

    def test_who_was_refused_something_is_told_once(self) -> None:
        for _ in range(2):
            self.assertEqual(len(HUGE), self.stream.send(HUGE))
            if not self.owner.writables:
                self.assertEqual(0, self.stream.send(b"more"))
            self.read()
            self.assertEqual(1, self.owner.writables)


class UnixTakeOverTests(UnixServerTestCase):
    """What is so where there is no TCP."""

    def test_the_options_of_tcp_are_left_out(self) -> None:
        client, request = self.ask()
        sock = connection_of(request).socket
        take_over(request, self.owner, settings(send_buffer_bytes=20_000))
        self.assertEqual(40_000, sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
        self.assertEqual(0, sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        self.owner.streams[0].send(b"alive")
        client.read(5)


class ResponseHeadTests(ServerTestCase):
    """The head of a response."""

    def fields_to(self, request: Any) -> list[bytes]:
        for name in list(dict(request.responseHeaders.getAllRawHeaders())):
            request.responseHeaders.removeHeader(name)
        request.setHeader(b"Content-Type", b"text/event-stream")
        request.responseHeaders.setRawHeaders(b"Vary", [b"Origin", b"Cookie"])
        request.setHeader(b"Connection", b"keep-alive")
        head, end = response_head(request).split(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        self.assertEqual((b"HTTP/1.1 200 OK", b""), (first, end))
        return sorted(fields)

    def test_it_has_the_fields_that_were_set_and_the_coding(self) -> None:
        _, request = self.ask()
        self.assertEqual(
            [
                b"Connection: close",
                b"Content-Type: text/event-stream",
                b"Transfer-Encoding: chunked",
                b"Vary: Cookie",
                b"Vary: Origin",
            ],
            self.fields_to(request),
        )

    def test_to_http_1_0_it_has_no_coding(self) -> None:
        _, request = self.ask(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assertEqual(
            [
                b"Connection: close",
                b"Content-Type: text/event-stream",
                b"Vary: Cookie",
                b"Vary: Origin",
            ],
            self.fields_to(request),
        )

    def test_it_has_the_fields_that_the_server_sets_by_itself(self) -> None:
        _, request = self.ask()
        names = {line.split(b":")[0] for line in response_head(request).splitlines()[1:-1]}
        self.assertLessEqual({b"Server", b"Date"}, names)


class SocketStreamTests(UnixServerTestCase):
    """Straight on a socket; on a UNIX socket, nothing is on its way between two kernels."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.request = self.ask()
        self.transport = self.request.channel.transport
        take_over(self.request, self.owner, settings())
        [self.stream] = self.owner.streams

    def test_a_send_is_with_the_kernel_at_once_and_asks_the_reactor_for_nothing(self) -> None:
        self.assertEqual(5, self.stream.send(b"hello"))
        self.assertEqual(b"hello", self.client.peek())
        self.assertEqual((set(), None), (self.reactor.writers, self.transport.producer))

    def test_a_short_send_has_the_reactor_tell_when_there_is_room_and_only_then(self) -> None:
        taken = self.stream.send(HUGE)
        self.assertTrue(0 < taken < len(HUGE), taken)
        self.check_waiting()
        self.client.read(taken)
        self.check_told()

    def test_a_kernel_that_takes_nothing_is_waited_for_likewise(self) -> None:
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += self.transport.socket.send(b"." * 1000)
        self.assertEqual(0, self.stream.send(b"hello"))
        self.check_waiting()
        self.client.read(filled)
        self.check_told()

    def check_waiting(self) -> None:
        self.assertEqual({self.transport}, self.reactor.writers)
        self.assertIs(self.stream, self.transport.producer)
        self.assertFalse(self.transport.streamingProducer)
        self.assertEqual(0, self.owner.writables)

    def check_told(self) -> None:
        self.reactor.serve_until(lambda: self.owner.writables, "there is room")
        self.reactor.settle()
        self.assertEqual(1, self.owner.writables)
        self.assertEqual((set(), None), (self.reactor.writers, self.transport.producer))

    def test_what_is_sent_once_there_is_room_may_be_short_again(self) -> None:
        for times in (1, 2, 3):
            self.client.read(len(self.client.received) + self.stream.send(HUGE))
            self.reactor.serve_until(lambda: self.owner.writables == times, "there is room")  # noqa: B023

    def test_an_owner_that_waits_for_room_is_told_of_the_loss_alone(self) -> None:
        self.stream.send(HUGE)
        self.client.close()
        self.reactor.serve_until(lambda: self.owner.losses, "the owner was told")
        self.assertEqual(0, self.owner.writables)

    def test_a_send_finds_that_the_client_has_left(self) -> None:
        self.client.close()
        self.assertRaises(StreamLost, self.stream.send, b"hello")

    def test_a_send_after_the_loss_finds_it_too(self) -> None:
        self.client.close()
        self.reactor.serve_until(lambda: self.owner.losses, "the owner was told")
        self.assertRaises(StreamLost, self.stream.send, b"hello")

    def test_a_close_ends_the_connection_once_all_was_taken(self) -> None:
        self.stream.send(b"hello")
        self.stream.close()
        self.reactor.serve_until(lambda: self.owner.losses, "the owner was told")
        self.assertTrue(self.owner.losses[0].check(ConnectionDone))
        self.client.read_to_the_end()
        self.assertEqual(b"hello", self.client.received)

    def test_an_abort_does_not_wait_for_the_client(self) -> None:
        self.stream.send(HUGE)
        self.stream.abort()
        self.reactor.settle()
        self.assertTrue(self.owner.losses[0].check(ConnectionAborted))


class FailingTransport:
    """A transport whose socket fails, and what it is asked for."""

    def __init__(self, number: int) -> None:
        self.socket = self
        self.dataBuffer = b""
        self.offset = self._tempDataLen = 0
        self.asked: list[str] = []
        self._number = number

    def send(self, data: bytes) -> int:
        raise OSError(self._number, errno.errorcode[self._number])

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self.asked.append("streaming" if streaming else "pull")

    def startWriting(self) -> None:
        self.asked.append("write")


class ErrorTests(SynchronousTestCase):
    """What the kernel may answer to a send; see send(2)."""

    def stream(self, number: int) -> SocketStream:
        self.transport = FailingTransport(number)
        transport: Any = self.transport
        return SocketStream(transport, RecordingOwner())

    def test_a_kernel_without_room_is_waited_for(self) -> None:
        for number in (errno.EWOULDBLOCK, errno.EAGAIN, errno.ENOBUFS):
            self.assertEqual(0, self.stream(number).send(b"hello"))
            self.assertEqual(["pull", "write"], self.transport.asked)

    def test_any_other_error_says_that_the_client_is_gone(self) -> None:
        for number in (errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH):
            error = self.assertRaises(StreamLost, self.stream(number).send, b"hello")
            self.assertIn(errno.errorcode[number], str(error))
            self.assertEqual([], self.transport.asked)
