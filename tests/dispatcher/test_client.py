"""Tests of rtdeliver.dispatcher.client, against a frontend's own routes in memory."""

from twisted.internet.error import ConnectError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

from rtdeliver.config.sections import Access, Publishing
from rtdeliver.dispatcher.client import HttpFrontendClient, HttpPeerClient
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.dispatcher.routes import add_control_routes, dispatcher_posts
from rtdeliver.errors import AnsweredNo, AnswerLost, Unreachable
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.frontend.routes import add_viewers_route, frontend_posts
from rtdeliver.http.routes import add_posts, new_app
from rtdeliver.interfaces import IFrontendClient, IPeerClient
from rtdeliver.model import Event, FrontendRef, Gap, Topic
from tests.contracts.frontend_client import N1, FrontendClientContract
from tests.contracts.peer_client import PeerClientContract
from tests.fakes import MemoryAgent, new_client, new_event, new_failover, new_producers

RED = Topic("live:red")
BATCH = [new_event("1", RED)]


def client_of(host: IResource | Exception, clock: Clock, *, secret: str = "") -> HttpFrontendClient:
    """A client in whose world there is this host alone."""
    agent = MemoryAgent({"10.0.0.5:8081": host})
    client = new_client(agent, clock, secret=secret)
    return HttpFrontendClient(client, reader=client)


def routes_of(frontend: Frontend) -> IResource:
    app = new_app()
    add_posts(app, frontend_posts(frontend))
    add_viewers_route(app, frontend)
    resource: IResource = app.resource()
    return resource


class Fixed(Resource):
    """Answers everything in one way, and keeps what was asked."""

    isLeaf = True

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self._status = status
        self._body = body

    def render(self, request: Request) -> bytes:
        self.requests.append(request)
        assert request.content is not None
        self.bodies.append(request.content.read())
        request.setResponseCode(self._status)
        return self._body


class Silent(Resource):
    """Takes requests and never answers."""

    isLeaf = True

    def render(self, request: Request) -> int:
        return NOT_DONE_YET


class HttpFrontendClientContractTests(FrontendClientContract, SynchronousTestCase):
    """The contract, with a frontend's routes at the other end."""

    implementation = HttpFrontendClient

    def make_client(self, frontend: Frontend) -> IFrontendClient:
        return client_of(routes_of(frontend), self.clock)


class HttpFrontendClientTests(SynchronousTestCase):
    """What HTTP adds to it."""

    def setUp(self) -> None:
        self.clock = Clock()

    def test_a_delivery_is_one_post(self) -> None:
        frontend = Fixed(202)
        batch = [new_event("1", RED), Event(topic=RED, id="2", line=b'{"x":1}')]
        self.successResultOf(client_of(frontend, self.clock).deliver(N1, batch))
        [request] = frontend.requests
        self.assertEqual((b"POST", b"/deliver"), (request.method, request.path))
        self.assertEqual("application/x-ndjson", request.getHeader("Content-Type"))
        self.assertEqual("first", request.getHeader("Rt-Incarnation"))
        self.assertIsNone(request.getHeader("Authorization"))

    def test_a_url_may_end_in_a_slash(self) -> None:
        frontend = Fixed(202)
        ref = FrontendRef(node="n1", url="http://10.0.0.5:8081/", incarnation="first")
        self.successResultOf(client_of(frontend, self.clock).deliver(ref, BATCH))
        self.assertEqual(b"/deliver", frontend.requests[0].path)

    def test_the_secret_goes_with_it(self) -> None:
        frontend = Fixed(202)
        with_secret = client_of(frontend, self.clock, secret="open sesame")
        self.successResultOf(with_secret.deliver(N1, BATCH))
        [request] = frontend.requests
        self.assertEqual("Bearer open sesame", request.getHeader("Authorization"))

    def test_a_refused_connection_reached_nobody(self) -> None:
        client = client_of(ConnectError(), self.clock)
        self.failureResultOf(client.deliver(N1, BATCH), Unreachable)

    def test_no_answer_in_time_is_an_answer_lost(self) -> None:
        delivered = client_of(Silent(), self.clock).deliver(N1, BATCH)
        self.clock.advance(4.9)
        self.assertNoResult(delivered)
        self.clock.advance(0.2)
        self.failureResultOf(delivered, AnswerLost)

    def test_an_answer_leaves_no_timer(self) -> None:
        self.successResultOf(client_of(Fixed(202), self.clock).deliver(N1, BATCH))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_refusal_is_told_with_its_status(self) -> None:
        for status in (400, 404, 413, 500, 503):
            client = client_of(Fixed(status, b'{"error":"no"}'), self.clock)
            failure = self.failureResultOf(client.deliver(N1, BATCH), AnsweredNo)
            self.assertEqual(status, failure.value.status)

    def test_an_answer_without_end_is_not_read_to_it(self) -> None:
        client = client_of(Fixed(202, b"x" * 100_000), self.clock)
        self.failureResultOf(client.deliver(N1, BATCH), AnswerLost)


class HttpPeerClientContractTests(PeerClientContract, SynchronousTestCase):
    """The contract, with a dispatcher's routes at the other end."""

    implementation = HttpPeerClient

    def make_client(self, dispatcher: Dispatcher) -> IPeerClient:
        app = new_app()
        add_posts(app, dispatcher_posts(dispatcher, new_producers(), Publishing()))
        add_control_routes(app, dispatcher, Access(), self.clock.seconds)
        agent = MemoryAgent({"d1:8090": app.resource()})
        return HttpPeerClient(
            dispatchers=new_failover("http://d1:8090", clock=self.clock),
            client=new_client(agent, self.clock),
            reader=new_client(agent, self.clock),
        )


class HttpPeerClientTests(SynchronousTestCase):
    """Forwards to the dispatchers of a peer."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.first, self.second = Fixed(202), Fixed(202)
        self.agent = MemoryAgent({"first:8090": self.first, "second:8090": self.second})

    def new_client(self, *, secret: str = "") -> HttpPeerClient:
        return HttpPeerClient(
            dispatchers=new_failover("http://first:8090", "http://second:8090/", clock=self.clock),
            client=new_client(self.agent, self.clock, secret=secret),
            reader=new_client(self.agent, self.clock, secret=secret),
        )

    def test_a_forward_is_one_post(self) -> None:
        batch: list[Event | Gap] = [
            Gap(topic=RED, lost=3),
            Event(topic=RED, id="2", line=b'{"x":1}'),
        ]
        self.assertIsNone(self.successResultOf(self.new_client().forward(batch)))
        [request] = self.first.requests
        self.assertEqual((b"POST", b"/forward"), (request.method, request.path))
        self.assertEqual("application/x-ndjson", request.getHeader("Content-Type"))
        self.assertEqual([b'{"topic":"live:red","lost":3}\n{"x":1}'], self.first.bodies)
        self.assertIsNone(request.getHeader("Authorization"))

    def test_the_secret_goes_with_it(self) -> None:
        client = self.new_client(secret="open sesame")
        self.successResultOf(client.forward(BATCH))
        [request] = self.first.requests
        self.assertEqual("Bearer open sesame", request.getHeader("Authorization"))

    def test_it_stays_with_a_dispatcher_that_answers(self) -> None:
        client = self.new_client()
        for _ in range(3):
            self.successResultOf(client.forward(BATCH))
        self.assertEqual((3, 0), (len(self.first.requests), len(self.second.requests)))

    def test_after_each_failure_it_goes_to_the_next(self) -> None:
        client = self.new_client()
        for host, error in (
            (ConnectError(), Unreachable),
            (Fixed(500), AnsweredNo),
            (Fixed(202, b"x" * 100_000), AnswerLost),
        ):
            self.agent.hosts["first:8090"] = host
            self.failureResultOf(client.forward(BATCH), error)
            self.successResultOf(client.forward(BATCH))
            self.agent.hosts["first:8090"], self.agent.hosts["second:8090"] = self.first, Fixed(500)
            self.failureResultOf(client.forward(BATCH), AnsweredNo)
            self.agent.hosts["second:8090"] = self.second
        self.assertEqual(3, len(self.second.requests))

    def test_no_answer_in_time_is_an_answer_lost(self) -> None:
        self.agent.hosts["first:8090"] = Silent()
        client = self.new_client()
        forwarded = client.forward(BATCH)
        self.clock.advance(5.1)
        self.failureResultOf(forwarded, AnswerLost)
        self.successResultOf(client.forward(BATCH))
        self.assertEqual(1, len(self.second.requests))

    def test_a_dispatcher_without_its_table_has_taken_nothing(self) -> None:
        self.agent.hosts["first:8090"] = Fixed(503, b'{"error":"unavailable"}')
        client = self.new_client()
        self.failureResultOf(client.forward(BATCH), Unreachable)
        self.successResultOf(client.forward(BATCH))
        self.assertEqual(1, len(self.second.requests))
