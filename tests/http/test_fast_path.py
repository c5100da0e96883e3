"""The shorter way for POSTs, beside the ordinary one: no client can tell them apart."""

import re
import tracemalloc
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request
from zope.interface.verify import verifyObject

from rtdeliver.actor import RunQueue
from rtdeliver.config.sections import Http
from rtdeliver.errors import (
    BadEvent,
    StaleIncarnation,
    TooLarge,
    TooManyTopics,
    Unavailable,
    UnsupportedMediaType,
)
from rtdeliver.http.access import Gate
from rtdeliver.http.fast_path import FastPathChannel, FastPathSite, read_head
from rtdeliver.http.intake import Intake
from rtdeliver.http.replies import PostHandler, Reply, answer
from rtdeliver.http.requests import Post
from rtdeliver.http.routes import add_posts, new_app
from rtdeliver.http.site import BoundedSite, ValidatingResource
from rtdeliver.interfaces import IActor
from tests.contracts.actor import ActorContract

BODY_BYTES = 1000
IDLE_SECONDS = 60
SECRET = "swordfish"
SETTINGS = Http(head_seconds=20, body_seconds=30)

REFUSALS = [StaleIncarnation, TooLarge, UnsupportedMediaType, Unavailable, TooManyTopics]


async def echo(post: Post) -> Reply:
    return Reply(202, [post.content_type, post.incarnation, post.body.hex()])


async def count(post: Post) -> Reply:
    return Reply(202, len(post.body))


async def refuse(post: Post) -> Reply:
    raise BadEvent("not this one", lines=[1, 3], headers={"X-Why": post.content_type or "-"})


async def refuse_otherwise(post: Post) -> Reply:
    raise REFUSALS[post.body[0] % len(REFUSALS)]("no")


async def fail(_: Post) -> Reply:
    raise ZeroDivisionError


def app(posts: Mapping[str, PostHandler]) -> Klein:
    app = new_app()
    add_posts(app, posts)

    @app.route("/hello", methods=["GET", "POST"])
    def hello(request: Request) -> bytes:
        return answer(request, 200, {"hello": True})

    return app


class Client:
    """A connection to a site, and what came back on it."""

    def __init__(self, site: BoundedSite, clock: Clock) -> None:
        self.clock = clock
        self.transport = StringTransport()
        self.protocol: Any = site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            # What a closed transport gets, nobody reads.
            if not self.transport.disconnecting:
                self.protocol.dataReceived(piece)
            self.turns()

    def turns(self) -> None:
        for _ in range(10):
            self.clock.advance(0)

    def leave(self) -> None:
        self.transport.connected = False
        self.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def received(self) -> bytes:
        """What came, but for the time of day."""
        return re.sub(rb"Date: [^\r]+\r\n", b"", self.transport.value())

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.received)]


def post(path: str = "/echo", *fields: str, body: bytes = b"{}", host: str = "h") -> bytes:
    """A plain POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *fields, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class House:
    """Both ways to the same paths."""

    def __init__(
        self,
        secret: str = "",
        *,
        any_host: bool = True,
        settings: Http = SETTINGS,
        **posts: PostHandler,
    ) -> None:
        self.clock = Clock()
        self.wall = Clock()
        self.posts = {f"/{name}": handler for name, handler in posts.items()}
        self.intake = Intake(settings, listeners="internal")
        gate = Gate(secrets=[secret] if secret else [], any_host=any_host)
        self.fast_site = FastPathSite(
            self._resource(),
            posts=self.posts,
            run_queue=RunQueue(clock=self.clock, slice_seconds=1),
            body_bytes=BODY_BYTES,
            idle_seconds=IDLE_SECONDS,
            intake=self.intake,
            gate=gate,
            reactor=self.clock,
            now=self.wall.seconds,
        )
        self.ordinary_site = BoundedSite(
            self._resource(),
            body_bytes=BODY_BYTES,
            idle_seconds=IDLE_SECONDS,
            intake=self.intake,
            gate=gate,
            reactor=self.clock,
        )

    def _resource(self) -> Any:
        return ValidatingResource(app(self.posts).resource())


def unfinished_bytes(house: House) -> float:
    """How many bytes of unfinished bodies the listeners of ``house`` hold."""
    [held] = [s.value for s in house.intake.samples() if s.name == "unfinished_bodies_bytes"]
    return held


def assert_alike(house: House, *pieces: bytes) -> Client:
    """Assert that both ways answer the same to these bytes, and return the fast client."""
    fast, ordinary = (
        Client(house.fast_site, house.clock),
        Client(house.ordinary_site, house.clock),
    )
    for client in (fast, ordinary):
        client.send(*pieces)
    assert fast.received == ordinary.received
    assert fast.transport.disconnecting == ordinary.transport.disconnecting
    return fast


PLAIN = [
    post(),
    post(body=b""),
    post(body=bytes(range(256))),
    post("/echo", "Content-Type: application/json", "Rt-Incarnation: x1"),
    post("/echo", "content-type:application/json; charset=utf-8"),
    post("/echo", "Connection: keep-alive", "User-Agent: curl/8.0 (a b)", "Accept: */*"),
    post("/echo", "Connection: Keep-Alive", host="[::1]:8090"),
    post("/refuse", "Content-Type: text/plain"),
    post("/refuse"),
]
NOT_PLAIN = [
    b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD /hello HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /echo?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /ech%6f HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    b"POST http://h/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /echo HTTP/1.0\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /echo HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST  /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    b"post /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /echo HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}",
    b"POST /echo HTTP/1.1\r\nHost: h\nContent-Length: 2\r\n\r\n{}",
    b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nX: a\rb\r\n\r\n{}",
    b"\r\nPOST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    post("/echo", "Connection: close"),
    post("/echo", "Connection: keep-alive, close"),
    post("/echo", "Content-Encoding: gzip"),
    post("/echo", "Content-Length: 2"),
    post("/echo", "Content-Length: 3"),
    post("/echo", "Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n"),
    post("/echo", "Transfer-Encoding: identity"),
    post("/echo", "Transfer-Encoding : chunked"),
    post("/echo", "Expect: 100-continue"),
    post("/echo", "Upgrade: h2c", "Connection: upgrade"),
    post("/echo", "X: folded\r\n  line"),
    post("/echo", "X: a\tb"),
    post("/echo", "X:  two spaces"),
    post("/echo", "X : a space before the colon"),
    post("/echo", "No colon"),
    post("/echo", "Content-Type: a", "Content-Type: b"),
    post("/echo", "Host: other"),
    post("/echo", "X: \u00e9"),
    post("/echo", "X: " + "x" * 5000),
    post("/echo", *[f"X-{number}: x" for number in range(600)]),
    post(host="a b"),
    post(host=""),
    post(body=b"x" * (BODY_BYTES + 1)),
    post(body=b"x" * (BODY_BYTES * 9)),
    b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: +2\r\n\r\n{}",
    b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: -2\r\n\r\n{}",
    b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 0x2\r\n\r\n{}",
    b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2, 2\r\n\r\n{}",
    b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000000\r\n\r\n{}",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 5000,
    b"nonsense\r\n\r\n",
]


class AlikeTests(SynchronousTestCase):
    """Whatever comes, however it comes."""

    def setUp(self) -> None:
        self.house = House(echo=echo, refuse=refuse)

    def test_a_plain_request_is_answered_the_same(self) -> None:
        for request in PLAIN:
            self.assertEqual(1, len(assert_alike(self.house, request).statuses), request)

    def test_a_request_that_is_not_plain_is_answered_the_same(self) -> None:
        for request in NOT_PLAIN:
            assert_alike(self.house, request)

    def test_what_follows_it_on_its_connection_too(self) -> None:
        for request in NOT_PLAIN:
            assert_alike(self.house, PLAIN[0], request, PLAIN[3], PLAIN[7])

    def test_pieces_of_any_size_make_no_difference(self) -> None:
        stream = PLAIN[3] + NOT_PLAIN[0] + PLAIN[0]
        for size in range(1, 50):
            pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
            self.assertEqual(3, len(assert_alike(self.house, *pieces).statuses))

    @settings(deadline=None, max_examples=300)
    @given(st.data())
    def test_no_bytes_tell_the_two_apart(self, data: st.DataObject) -> None:
        stream = bytearray(
            b"".join(data.draw(st.lists(st.sampled_from(PLAIN + NOT_PLAIN), max_size=4)))
        )
        for _ in range(data.draw(st.integers(0, 3))):
            if stream:
                at = data.draw(st.integers(0, len(stream) - 1))
                change = data.draw(st.sampled_from([b"", b"\r", b"\n", b" ", b":", b"\x00", b"7"]))
                stream[at : at + data.draw(st.integers(0, 2))] = change
        cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=4))
        marks = [0, *sorted(cuts), len(stream)]
        assert_alike(self.house, *(bytes(stream[a:b]) for a, b in pairwise(marks)))

    def test_many_who_come_at_once_are_served_one_by_one(self) -> None:
        order: list[str] = []

        async def note(post: Post) -> Reply:
            order.append(post.incarnation)
            return Reply(202, 1)

        house = House(note=note)
        clients = [Client(house.fast_site, house.clock) for _ in range(2)]
        for name, client in zip("ab", clients, strict=True):
            client.protocol.dataReceived(post("/note", f"Rt-Incarnation: {name}") * 3)
        clients[0].turns()
        self.assertEqual(["a", "a", "b", "a", "b", "b"], order)

    def test_with_a_secret_it_is_asked_for_the_same(self) -> None:
        house = House(SECRET, echo=echo)
        for fields, status in (
            ([f"Authorization: Bearer {SECRET}"], 202),
            ([f"Authorization: bearer {SECRET}"], 401),
            (["Authorization: Bearer wrong"], 401),
            ([f"Authorization: Bearer {SECRET}x"], 401),
            ([], 401),
        ):
            self.assertEqual([status], assert_alike(house, post("/echo", *fields)).statuses)

    def test_without_a_secret_the_host_is_asked_for_the_same(self) -> None:
        house = House(any_host=False, echo=echo)
        for host, status in (
            ("localhost", 202),
            ("127.0.0.1:8090", 202),
            ("[::1]:8090", 202),
            ("evil.example", 403),
            ("localhost.evil.example:8090", 403),
        ):
            client = assert_alike(house, post(host=host))
            self.assertEqual([status], client.statuses, host)

    def test_who_lacks_the_secret_is_refused_before_the_body_comes(self) -> None:
        for house in (House(SECRET, echo=echo), House(any_host=False, echo=echo)):
            request = post(body=b"x" * 500, host="evil.example")
            client = assert_alike(house, request[:-499])
            self.assertEqual(1, len(client.statuses))
            self.assertFalse(client.transport.disconnecting)
            self.assertEqual(0, unfinished_bytes(house))
            client.send(b"x" * 499)
            self.assertEqual(1, len(client.statuses))
            self.assertTrue(client.transport.disconnecting)

    def test_every_refusal_is_answered_the_same(self) -> None:
        house = House(refuse=refuse_otherwise)
        statuses = [
            assert_alike(house, post("/refuse", body=bytes([number]))).statuses
            for number in range(len(REFUSALS))
        ]
        self.assertEqual([[410], [413], [415], [503], [409]], statuses)

    def test_a_fault_is_answered_the_same_and_logged(self) -> None:
        house = House(fail=fail)
        self.assertEqual([500], assert_alike(house, post("/fail")).statuses)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))


class HeadTests(SynchronousTestCase):
    """What is plain."""

    def test_plain_requests_are_seen_to_be(self) -> None:
        for request in PLAIN:
            self.assertIsNotNone(read_head(request.partition(b"\r\n\r\n")[0]), request)

    def test_what_is_more_than_a_head_and_a_body_of_a_length_is_not(self) -> None:
        for request in NOT_PLAIN:
            head = read_head(request.partition(b"\r\n\r\n")[0])
            # The rest is for the site to see: another path, or too much of something.
            if head is not None and head.path == b"/echo":
                self.assertGreater(len(request), BODY_BYTES, request)

    @given(st.binary(max_size=60))
    @example(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2")
    def test_any_bytes_are_read(self, head: bytes) -> None:
        read_head(head)


class WaitingTests(SynchronousTestCase):
    """A request whose answer takes its time."""

    def setUp(self) -> None:
        self.posts: list[Post] = []
        self.answers: list[Deferred[Reply]] = []
        self.house = House(wait=self.wait, echo=echo)
        self.client = Client(self.house.fast_site, self.house.clock)

    async def wait(self, post: Post) -> Reply:
        self.posts.append(post)
        answer: Deferred[Reply] = Deferred()
        self.answers.append(answer)
        return await answer

    def test_the_next_waits_for_its_answer(self) -> None:
        self.client.send(post("/wait", body=b"1") + post("/wait", body=b"2"))
        self.assertEqual([b"1"], [post.body for post in self.posts])
        self.answers[0].callback(Reply(202, 1))
        self.client.turns()
        self.assertEqual([b"1", b"2"], [post.body for post in self.posts])
        self.assertEqual([202], self.client.statuses)
        self.answers[1].callback(Reply(202, 2))
        self.client.turns()
        self.assertEqual([b"1", b"2"], re.findall(rb"\r\n\r\n(.)\n", self.client.received))

    def test_no_more_is_read_meanwhile(self) -> None:
        self.client.send(post("/wait"))
        self.assertEqual("paused", self.client.transport.producerState)
        self.answers[0].callback(Reply(202, 1))
        self.client.turns()
        self.assertEqual("producing", self.client.transport.producerState)

    def test_an_ordinary_request_that_waited_is_served_and_more_is_read(self) -> None:
        self.client.send(post("/wait") + NOT_PLAIN[0])
        self.answers[0].callback(Reply(202, 1))
        self.client.turns()
        self.assertEqual([202, 200], self.client.statuses)
        self.assertEqual("producing", self.client.transport.producerState)
        self.client.send(post())
        self.assertEqual([202, 200, 202], self.client.statuses)

    def test_a_client_that_has_left_is_not_answered(self) -> None:
        self.client.send(post("/wait") + post("/wait"))
        self.client.leave()
        self.answers[0].callback(Reply(202, 1))
        self.client.turns()
        self.assertEqual(b"", self.client.transport.value())
        self.assertEqual(1, len(self.posts))
        self.assertEqual([], self.house.clock.getDelayedCalls())

    def test_a_client_that_waits_is_not_cut_off(self) -> None:
        self.client.send(post("/wait"))
        self.house.clock.pump([IDLE_SECONDS] * 3)
        self.assertFalse(self.client.transport.disconnecting)
        self.answers[0].callback(Reply(202, 1))
        self.client.turns()
        self.house.clock.pump([IDLE_SECONDS] * 2)
        self.assertTrue(self.client.transport.disconnecting)


class DeadlineTests(SynchronousTestCase):
    """A client that takes its time to send a request."""

    HEAD = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n\r\n"
    ODD_HEAD = b"POST /echo HTTP/1.1\r\nHost: h\r\nX:\ta\r\nContent-Length: 90\r\n\r\n"

    def setUp(self) -> None:
        self.house = House(echo=echo)

    def trickle(self, client: Client, data: bytes, *, seconds: int) -> None:
        """Send a byte in each second."""
        for at in range(seconds):
            self.house.clock.advance(1)
            client.send(data[at : at + 1])

    def given_up_after(self, *begin: bytes, rest: bytes) -> int:
        """Return after how many seconds a client is given up that goes on byte by byte."""
        client = Client(self.house.fast_site, self.house.clock)
        client.send(*begin)
        answers = len(client.statuses)
        for second in range(1, 100):
            self.trickle(client, rest[second - 1 :], seconds=1)
            if client.transport.disconnecting:
                self.assertEqual(answers + 1, len(client.statuses))
                self.assertEqual(408, client.statuses[-1])
                self.assertIn(b'"request_timeout"', client.received)
                return second
        raise AssertionError("it was never given up")

    def test_a_head_is_given_up_at_its_deadline(self) -> None:
        for before in ([], [post()], [post(), NOT_PLAIN[0]]):
            for head in (self.HEAD, self.ODD_HEAD):
                self.assertEqual(20, self.given_up_after(*before, head[:1], rest=head[1:]))

    def test_a_body_is_given_up_at_its_deadline(self) -> None:
        for before in ([], [post()], [post(), NOT_PLAIN[0]]):
            for head in (self.HEAD, self.ODD_HEAD):
                self.assertEqual(30, self.given_up_after(*before, head, rest=b"x" * 90))

    def test_the_time_before_the_handover_counts(self) -> None:
        client = Client(self.house.fast_site, self.house.clock)
        client.send(b"POST /echo")
        self.house.clock.advance(19)
        # From here on, the ordinary channel is served.
        client.send(b"?")
        self.house.clock.advance(1)
        self.assertEqual([408], client.statuses)

    def test_the_time_before_the_handover_does_not_count_for_the_next_request(self) -> None:
        client = Client(self.house.fast_site, self.house.clock)
        client.send(b"POST /hello")
        self.house.clock.advance(19)
        client.send(b" HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\nGET /hello HTTP/1.1\r\n")
        self.house.clock.advance(19)
        client.send(b"Host: h\r\n\r\n")
        self.assertEqual([200, 200], client.statuses)

    def test_a_body_has_its_whole_time_however_late_the_head_came(self) -> None:
        client = Client(self.house.fast_site, self.house.clock)
        client.send(self.HEAD[:-1])
        self.house.clock.advance(19)
        client.send(self.HEAD[-1:])
        self.house.clock.advance(29)
        client.send(b"x" * 90)
        self.assertEqual([202], client.statuses)
        self.house.clock.advance(IDLE_SECONDS - 1)
        self.assertFalse(client.transport.disconnecting)
        self.house.clock.advance(1)
        self.assertTrue(client.transport.disconnecting)

    def test_late_requests_are_counted_once(self) -> None:
        self.given_up_after(self.HEAD[:1], rest=b"")
        self.given_up_after(self.HEAD, rest=b"")
        samples = self.house.intake.samples()
        self.assertEqual([1, 1], [s.value for s in samples if s.name == "late_requests"])

    def test_a_client_that_leaves_leaves_no_timer(self) -> None:
        for begin in (self.HEAD[:1], self.HEAD, self.ODD_HEAD):
            client = Client(self.house.fast_site, self.house.clock)
            client.send(begin)
            client.leave()
            self.assertEqual([], self.house.clock.getDelayedCalls())


class RoomTests(SynchronousTestCase):
    """What is held of bodies that have not come completely."""

    HEAD = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n"

    def setUp(self) -> None:
        # Room for 1000 bytes, with the head.
        self.house = House(settings=Http(bodies_bytes=2000), echo=echo)
        self.client = Client(self.house.fast_site, self.house.clock)

    def test_a_body_that_comes_in_pieces_takes_room_until_it_is_complete(self) -> None:
        self.client.send(self.HEAD + b"x" * 300)
        self.assertEqual(len(self.HEAD) + 300, unfinished_bytes(self.house))
        self.client.send(b"x" * 300)
        self.assertEqual(len(self.HEAD) + 600, unfinished_bytes(self.house))
        self.client.send(b"x" * 300)
        self.assertEqual(0, unfinished_bytes(self.house))
        self.assertEqual([202], self.client.statuses)

    def test_a_body_for_which_there_is_no_room_is_refused_at_once(self) -> None:
        self.house.intake.hold(700)
        self.client.send(self.HEAD + b"x" * 200)
        self.assertEqual([], self.client.statuses)
        self.client.send(b"x" * 200)
        self.assertEqual([503], self.client.statuses)
        self.assertIn(b"Retry-After: 1\r\n", self.client.received)
        self.assertEqual(700, unfinished_bytes(self.house))
        self.client.send(b"x" * 500)
        self.assertTrue(self.client.transport.disconnecting)
        self.assertEqual([503], self.client.statuses)

    def test_a_body_that_comes_at_once_needs_no_room(self) -> None:
        self.house.intake.hold(1000)
        self.client.send(post(body=b"x" * 900))
        self.assertEqual([202], self.client.statuses)

    def test_a_client_that_leaves_gives_back_its_room(self) -> None:
        self.client.send(self.HEAD + b"x" * 300)
        self.client.leave()
        self.assertEqual(0, unfinished_bytes(self.house))

    def test_while_requests_wait_for_their_turn_no_further_ones_are_read(self) -> None:
        states: list[str] = []

        async def note(_: Post) -> Reply:
            states.append(client.transport.producerState)
            return Reply(202, 1)

        house = House(note=note)
        client = Client(house.fast_site, house.clock)
        client.send(post("/note") * 1000)
        self.assertEqual([202] * 1000, client.statuses)
        self.assertEqual({"paused"}, set(states[1:900]))
        self.assertEqual("producing", client.transport.producerState)

    def test_a_large_body_costs_as_much_as_it_is_long(self) -> None:
        """What came is not copied with each piece: the memory in use shows copies."""
        site = FastPathSite(
            ValidatingResource(app({}).resource()),
            posts={"/echo": count},
            run_queue=RunQueue(clock=self.house.clock, slice_seconds=1),
            body_bytes=8 << 20,
            idle_seconds=IDLE_SECONDS,
            intake=Intake(Http(), listeners="internal"),
            gate=Gate(secrets=[], any_host=True),
            reactor=self.house.clock,
            now=self.house.clock.seconds,
        )
        client = Client(site, self.house.clock)
        client.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (4 << 20))
        piece = b"x" * (16 << 10)
        client.send(piece)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        copied = 0
        for _ in range(254):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            client.protocol.dataReceived(piece)
            _, peak = tracemalloc.get_traced_memory()
            copied += peak - before
        self.assertLess(copied, 64 << 20)
        client.send(piece)
        self.assertIn(b"\r\n\r\n%d\n" % (4 << 20), client.received)


class ActorContractTests(ActorContract, SynchronousTestCase):
    """The contract, where work is a request."""

    implementation = FastPathChannel

    def make_actor(self, run_queue: RunQueue, clock: Clock) -> IActor:
        site = FastPathSite(
            ValidatingResource(app({"/echo": echo}).resource()),
            posts={"/echo": echo},
            run_queue=run_queue,
            body_bytes=BODY_BYTES,
            idle_seconds=IDLE_SECONDS,
            intake=Intake(Http(), listeners="internal"),
            gate=Gate(secrets=[], any_host=True),
            reactor=clock,
            now=clock.seconds,
        )
        self.client = Client(site, clock)
        actor: IActor = self.client.protocol
        return actor

    def give_work(self) -> None:
        self.client.protocol.dataReceived(post())

    def work_done(self) -> int:
        return len(self.client.statuses)


class ConnectionTests(SynchronousTestCase):
    """A client's manners."""

    def setUp(self) -> None:
        self.house = House(echo=echo)
        self.client = Client(self.house.fast_site, self.house.clock)

    def test_it_keeps_its_promise(self) -> None:
        self.assertTrue(verifyObject(IPushProducer, self.client.protocol))

    def test_an_idle_client_is_cut_off(self) -> None:
        for begin in (b"", post()):
            client = Client(self.house.fast_site, self.house.clock)
            client.send(begin)
            self.house.clock.advance(IDLE_SECONDS - 1)
            self.assertFalse(client.transport.disconnecting)
            self.house.clock.advance(1)
            self.assertTrue(client.transport.disconnecting, begin)

    def test_one_that_does_not_read_is_served_no_more(self) -> None:
        self.client.send(post())
        self.client.protocol.pauseProducing()
        self.client.send(post() + post())
        self.assertEqual([202], self.client.statuses)
        self.assertEqual("paused", self.client.transport.producerState)
        self.client.protocol.resumeProducing()
        self.client.turns()
        self.assertEqual([202] * 3, self.client.statuses)
        self.assertEqual("producing", self.client.transport.producerState)

    def test_one_that_never_reads_is_cut_off_at_once(self) -> None:
        self.client.send(post())
        self.client.protocol.pauseProducing()
        self.house.clock.advance(IDLE_SECONDS)
        self.assertTrue(self.client.transport.disconnected)

    def test_who_goes_the_ordinary_way_leaves_nothing_behind(self) -> None:
        self.client.send(post() + NOT_PLAIN[0])
        self.client.leave()
        self.assertEqual([], self.house.clock.getDelayedCalls())

    def test_a_very_long_head_is_not_waited_for(self) -> None:
        self.client.send(b"POST /echo HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
        self.assertEqual([431], self.client.statuses)

    def test_the_time_of_day_is_told(self) -> None:
        self.house.wall.rightNow = 784111777
        self.client.send(post())
        self.assertIn(b"\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n", self.client.transport.value())
