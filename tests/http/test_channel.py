"""How long a client may take to send a request, however it sends it."""

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.ssl import PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request

from rtdeliver.actor import RunQueue
from rtdeliver.config.sections import Http
from rtdeliver.http.access import Gate
from rtdeliver.http.fast_path import FastPathSite
from rtdeliver.http.intake import Intake
from rtdeliver.http.replies import answer
from rtdeliver.http.routes import new_app
from rtdeliver.http.site import BoundedSite
from tests.certificates import self_signed
from tests.http.peers import Peer, app, served
from tests.sockets import SocketReactor, TlsClient

HEAD_SECONDS = 20
BODY_SECONDS = 30
IDLE_SECONDS = 60

GET = b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD = b"POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n\r\n"
CHUNKED = b"POST /length HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
LATE = (408, "request_timeout")


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.peer = Peer(served(app()))

    def trickle(self, data: bytes, *, seconds: int) -> None:
        """Send a byte in each second."""
        for at in range(seconds):
            self.peer.clock.advance(1)
            if not self.peer.cut_off:
                self.peer.send_bytes(data[at : at + 1])

    def test_a_head_that_trickles_is_given_up_at_its_deadline(self) -> None:
        self.trickle(GET, seconds=HEAD_SECONDS)
        self.assertFalse(self.peer.cut_off)
        self.trickle(GET[HEAD_SECONDS:], seconds=1)
        answer = self.peer.answer()
        self.assertEqual(answer.refusal, LATE)
        self.assertEqual(answer.headers["Connection"], "close")
        self.assertIn("20 s", answer.json["message"])
        self.assertTrue(self.peer.cut_off)

    def test_a_body_that_trickles_is_given_up_at_its_deadline(self) -> None:
        for begin, body in ((HEAD, b"x" * 90), (CHUNKED, b"1\r\nx\r\n" * 20)):
            self.peer = Peer(served(app())).send_bytes(begin)
            self.trickle(body, seconds=BODY_SECONDS - 1)
            self.assertFalse(self.peer.cut_off)
            self.trickle(body, seconds=1)
            self.assertEqual(self.peer.answer().refusal, LATE)
            self.assertTrue(self.peer.cut_off)

    def test_a_body_has_its_whole_time_however_late_the_head_came(self) -> None:
        self.peer.send_bytes(HEAD[:-1])
        self.peer.clock.advance(HEAD_SECONDS - 1)
        self.peer.send_bytes(HEAD[-1:])
        self.peer.clock.advance(BODY_SECONDS - 1)
        self.peer.send_bytes(b"x" * 90)
        self.assertEqual(self.peer.answer().json, {"bytes": 90})

    def test_a_later_request_has_the_same_deadlines(self) -> None:
        for begin, seconds in ((GET[:9], HEAD_SECONDS), (HEAD, BODY_SECONDS)):
            for pause in (0, IDLE_SECONDS - 1):
                self.peer = Peer(served(app())).send_bytes(GET)
                self.peer.clock.advance(pause)
                self.peer.send_bytes(begin)
                self.peer.clock.advance(seconds - 1)
                self.assertFalse(self.peer.cut_off)
                self.peer.clock.advance(1)
                self.assertEqual(self.peer.answers()[-1].refusal, LATE)

    def test_a_request_that_began_together_with_the_one_before_it_has_them_too(self) -> None:
        for begin, seconds in ((GET[:-2], HEAD_SECONDS), (HEAD, BODY_SECONDS)):
            self.peer = Peer(served(app())).send_bytes(GET + begin)
            self.peer.clock.advance(seconds - 1)
            self.assertFalse(self.peer.cut_off)
            self.peer.clock.advance(1)
            self.assertEqual(self.peer.answers()[-1].refusal, LATE)

    def test_a_client_without_a_request_is_closed_without_an_answer(self) -> None:
        self.peer.clock.advance(IDLE_SECONDS - 1)
        self.assertFalse(self.peer.cut_off)
        self.peer.clock.advance(1)
        self.assertTrue(self.peer.cut_off)
        self.assertEqual(self.peer.received, b"")

    def test_idle_time_begins_with_the_answer(self) -> None:
        self.peer.clock.advance(IDLE_SECONDS - 1)
        self.peer.send_bytes(GET)
        self.peer.clock.advance(IDLE_SECONDS - 1)
        self.assertFalse(self.peer.cut_off)
        self.peer.clock.advance(1)
        self.assertTrue(self.peer.cut_off)

    def test_a_request_that_is_being_answered_has_all_the_time(self) -> None:
        app = new_app()
        waiting: Deferred[None] = Deferred()

        @app.route("/", methods=["GET"])
        async def wait(request: Request) -> bytes:
            await waiting
            return answer(request, 200, "at last")

        peer = Peer(served(app)).send("GET / HTTP/1.1")
        peer.send_bytes(b"GET / H")
        peer.clock.pump([IDLE_SECONDS] * 3)
        self.assertFalse(peer.cut_off)
        waiting.callback(None)
        self.assertEqual(peer.answer().json, "at last")
        # The next one began to be read now.
        peer.clock.advance(HEAD_SECONDS)
        self.assertEqual(peer.answers()[-1].refusal, LATE)

    def test_late_requests_are_counted_by_the_part_that_was_late(self) -> None:
        for begin, seconds, part in ((b"G", HEAD_SECONDS, "head"), (HEAD, BODY_SECONDS, "body")):
            peer = Peer(served(app())).send_bytes(begin)
            peer.clock.advance(seconds)
            self.assertEqual(
                {s.labels["part"]: s.value for s in peer.intake.samples() if "part" in s.labels},
                {"head": 0, "body": 0, part: 1},
            )


class ClosingTests(SynchronousTestCase):
    """A connection that does not end although it is closed, as TLS or a full buffer allows."""

    def test_it_is_cut_off_after_a_while(self) -> None:
        last = b"GET /last HTTP/1.1\r\nHost: h\r\n\r\n"
        closings: dict[bytes, Callable[[Peer], object]] = {
            last: lambda _: None,
            b"": lambda peer: peer.clock.advance(IDLE_SECONDS),
            b"G": lambda peer: peer.clock.advance(HEAD_SECONDS),
        }
        for begin, close in closings.items():
            peer = Peer(served(app())).send_bytes(begin)
            close(peer)
            self.assertTrue(peer.cut_off, begin)
            peer.clock.advance(IDLE_SECONDS - 1)
            self.assertFalse(peer.is_aborted, begin)
            peer.clock.advance(1)
            self.assertTrue(peer.is_aborted, begin)

    def test_after_a_head_that_cannot_be_read_it_waits_for_the_client_as_for_a_head(self) -> None:
        peer = Peer(served(app())).send_bytes(b"nonsense\r\n")
        self.assertEqual((400, "bad_request"), peer.answer().refusal)
        self.assertTrue(peer.cut_off)
        peer.send_bytes(b"more nonsense\r\n")
        peer.clock.advance(HEAD_SECONDS - 1)
        self.assertFalse(peer.is_aborted)
        peer.clock.advance(1)
        self.assertTrue(peer.is_aborted)
        self.assertEqual(400, peer.answer().status)

    def test_a_client_that_has_gone_leaves_no_timer(self) -> None:
        for begin in (b"", GET, GET[:9], HEAD, b"nonsense\r\n"):
            peer = Peer(served(app())).send_bytes(begin)
            peer.leave()
            self.assertEqual(peer.clock.getDelayedCalls(), [], begin)


class TlsTests(SynchronousTestCase):
    """Both kinds of channels over TLS, which closes only when the other side agrees."""

    def setUp(self) -> None:
        self.reactor = SocketReactor()
        self.addCleanup(self.close)

    def close(self) -> None:
        for descriptor in self.reactor.removeAll():
            descriptor.connectionLost(Failure(ConnectionDone()))

    def connect(self, site: BoundedSite) -> TlsClient:
        pem = self_signed()
        pair = PrivateCertificate.loadPEM(pem.certificate + pem.key)
        factory = TLSMemoryBIOFactory(pair.options(), False, site, self.reactor)
        port: Any = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        sock = socket.create_connection(("127.0.0.1", port.getHost().port))
        client = TlsClient(self.reactor, sock)
        self.addCleanup(client.close)
        client.shake_hands()
        self.reactor.settle()
        return client

    def sites(self) -> list[BoundedSite]:
        settings = Http()
        intake = Intake(settings, listeners="internal")
        resource = served(app())
        return [
            BoundedSite(
                resource,
                body_bytes=100,
                idle_seconds=IDLE_SECONDS,
                intake=intake,
                reactor=self.reactor,
            ),
            FastPathSite(
                resource,
                posts={},
                run_queue=RunQueue(clock=self.reactor, slice_seconds=1),
                body_bytes=100,
                idle_seconds=IDLE_SECONDS,
                intake=intake,
                gate=Gate(secrets=[], any_host=True),
                reactor=self.reactor,
                now=self.reactor.seconds,
            ),
        ]

    def test_an_idle_or_late_client_sees_the_end(self) -> None:
        for begin, seconds in ((b"", IDLE_SECONDS), (b"P", HEAD_SECONDS)):
            for site in self.sites():
                client = self.connect(site)
                if begin:
                    client.send(begin)
                    self.reactor.settle()
                self.reactor.advance(seconds)
                client.read_to_the_end()
                self.assertEqual(b"408" in client.received, bool(begin))

    def test_a_client_that_does_not_agree_is_cut_off(self) -> None:
        for site in self.sites():
            client = self.connect(site)
            client.is_polite = False
            open_before = len(self.reactor.getReaders())
            self.reactor.advance(IDLE_SECONDS)
            client.read_to_the_end()
            self.reactor.settle()
            self.assertEqual(len(self.reactor.getReaders()), open_before)
            self.reactor.advance(IDLE_SECONDS)
            self.reactor.settle()
            self.assertEqual(len(self.reactor.getReaders()), open_before - 1)
