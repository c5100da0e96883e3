"""Tests of rtdeliver.frontend.client, against a dispatcher's own routes in memory."""

import json
from collections.abc import Mapping

from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

from rtdeliver.config.sections import Access, Presence
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.dispatcher.routes import (
    add_control_routes,
    add_dispatcher_routes,
    add_history_routes,
)
from rtdeliver.errors import (
    AnsweredNo,
    AnswerLost,
    RemoteFailure,
    TooManyRequests,
    TooManyTopics,
    UnknownConnection,
    Unreachable,
)
from rtdeliver.frontend.client import HttpDispatcherClient, HttpOwnerClient, _RemoteConnections
from rtdeliver.frontend.clock_offsets import ClockOffsets
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.frontend.routes import add_connection_routes
from rtdeliver.http.routes import new_app
from rtdeliver.interfaces import (
    IConnections,
    IDispatcherClient,
    IHistory,
    IOwnerClient,
    IPresenceClient,
    IRoutingTable,
)
from rtdeliver.messages import Acknowledgement, Announcement, Receipt, TopicsChange
from rtdeliver.model import ConnectionId, FrontendRef, Topic
from rtdeliver.presence.presence import PresenceTracker
from rtdeliver.presence.routes import add_presence_routes
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.wire import encode
from tests.contracts.connections import AwayConnectionsContract, FrontendConnectionsContract
from tests.contracts.dispatcher_client import DispatcherClientContract
from tests.contracts.owner_client import OwnerClientContract
from tests.contracts.presence_client import PresenceClientContract
from tests.fakes import (
    MemoryAgent,
    TableDispatcherClient,
    Viewer,
    new_client,
    new_failover,
    new_frontend,
)

RED, GREEN = Topic("live:red"), Topic("live:green")
N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")
TOLD = Announcement(frontend=N1, counts={RED: 1}, full=True, lease_seconds=30, sequence=4)
NOW = 1_795_417_956.0
ACKNOWLEDGED = b'{"lease_seconds":30}'


def routes_of(dispatcher: Dispatcher) -> IResource:
    app = new_app()
    add_dispatcher_routes(app, dispatcher, lambda: NOW)
    add_control_routes(app, dispatcher, Access(), lambda: NOW)
    add_history_routes(app, dispatcher)
    resource: IResource = app.resource()
    return resource


class Fixed(Resource):
    """Answers everything in one way, and keeps the bodies of what was asked."""

    isLeaf = True

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__()
        self.bodies: list[bytes] = []
        self._status = status
        self._body = body

    def render(self, request: Request) -> bytes:
        assert request.content is not None
        self.bodies.append(request.content.read())
        request.setResponseCode(self._status)
        return self._body


class Silent(Resource):
    """Takes requests and never answers."""

    isLeaf = True

    def render(self, request: Request) -> int:
        return NOT_DONE_YET


class HttpPresenceClientContractTests(PresenceClientContract, SynchronousTestCase):
    """The contract, with a dispatcher's routes at the other end."""

    implementation = HttpDispatcherClient

    def make_client(self, presence: PresenceTracker) -> IPresenceClient:
        app = new_app()
        add_presence_routes(app, presence, Presence(batch_members=10))
        return HttpDispatcherClient(
            dispatchers=new_failover("http://d1:8090", clock=self.clock),
            client=new_client(MemoryAgent({"d1:8090": app.resource()}), self.clock),
            offsets=ClockOffsets(self.clock.seconds),
        )


class HttpDispatcherClientContractTests(DispatcherClientContract, SynchronousTestCase):
    """The contract, with a dispatcher's routes at the other end."""

    implementation = HttpDispatcherClient

    def make_client(
        self, dispatcher: Dispatcher, routing_table: IRoutingTable, history: IHistory
    ) -> IDispatcherClient:
        agent = MemoryAgent({"d1:8090": routes_of(dispatcher)})
        return HttpDispatcherClient(
            dispatchers=new_failover("http://d1:8090", clock=self.clock),
            client=new_client(agent, self.clock),
            offsets=ClockOffsets(self.clock.seconds),
        )


class HttpDispatcherClientTests(SynchronousTestCase):
    """What HTTP adds to it, and the choice among several."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.offsets = ClockOffsets(lambda: NOW)

    def use(self, *hosts: IResource | Exception) -> HttpDispatcherClient:
        """A client of so many dispatchers, named d0 and so on."""
        self.agent = MemoryAgent({f"d{number}:8090": host for number, host in enumerate(hosts)})
        return HttpDispatcherClient(
            dispatchers=new_failover(
                *(f"http://d{number}:8090/" for number in range(len(hosts))), clock=self.clock
            ),
            client=new_client(self.agent, self.clock),
            offsets=self.offsets,
        )

    def asked(self) -> list[str]:
        """The hosts that were asked so far."""
        return [url.removeprefix("http://")[:2] for url in self.agent.requests]

    def test_each_announcement_compares_the_clocks(self) -> None:
        told = encode({"lease_seconds": 30, "received_at": NOW + 0.2, "answered_at": NOW + 0.3})
        client = self.use(ConnectError(), Fixed(200, told))
        self.failureResultOf(client.announce(TOLD), Unreachable)
        self.successResultOf(client.announce(TOLD))
        [sample] = self.offsets.samples()
        self.assertEqual(sample.labels, {"dispatcher": "http://d1:8090"})
        self.assertAlmostEqual(sample.value, 0.25)

    def test_an_announcement_is_one_post(self) -> None:
        dispatcher = Fixed(200, ACKNOWLEDGED)
        client = self.use(dispatcher)
        self.assertEqual(
            Acknowledgement(lease_seconds=30), self.successResultOf(client.announce(TOLD))
        )
        self.assertEqual(["http://d0:8090/subscriptions"], self.agent.requests)
        self.assertEqual(
            {
                "frontend": {"node": "n1", "url": N1.url, "incarnation": "first"},
                "counts": {RED: 1},
                "full": True,
                "lease_seconds": 30,
                "sequence": 4,
            },
            json.loads(dispatcher.bodies[0]),
        )

    def test_the_same_dispatcher_is_asked_while_it_answers(self) -> None:
        client = self.use(Fixed(200, ACKNOWLEDGED), Fixed(200, ACKNOWLEDGED))
        for _ in range(3):
            self.successResultOf(client.announce(TOLD))
        self.assertEqual(["d0", "d0", "d0"], self.asked())

    def test_the_next_one_is_asked_after_a_failure_and_the_first_after_the_last(self) -> None:
        client = self.use(ConnectError(), Fixed(503, b"{}"), Fixed(200, b"nonsense"))
        for error in (Unreachable, AnsweredNo, AnsweredNo, Unreachable):
            self.failureResultOf(client.announce(TOLD), error)
        self.assertEqual(["d0", "d1", "d2", "d0"], self.asked())

    def test_one_that_answers_after_a_failure_is_kept(self) -> None:
        client = self.use(ConnectError(), Fixed(200, ACKNOWLEDGED))
        self.failureResultOf(client.announce(TOLD), Unreachable)
        for _ in range(3):
            self.successResultOf(client.announce(TOLD))
        self.assertEqual(["d0", "d1", "d1", "d1"], self.asked())

    def test_a_single_dispatcher_is_asked_again(self) -> None:
        client = self.use(ConnectError())
        self.failureResultOf(client.announce(TOLD), Unreachable)
        self.agent.hosts["d0:8090"] = Fixed(200, ACKNOWLEDGED)
        self.successResultOf(client.announce(TOLD))

    def test_a_name_that_is_not_found_reached_nobody(self) -> None:
        self.failureResultOf(self.use(DNSLookupError()).announce(TOLD), Unreachable)

    def test_no_answer_in_time_is_an_answer_lost_and_the_next_one_is_asked(self) -> None:
        client = self.use(Silent(), Fixed(200, ACKNOWLEDGED))
        answer = client.announce(TOLD)
        self.clock.advance(4.9)
        self.assertNoResult(answer)
        self.clock.advance(0.2)
        self.failureResultOf(answer, AnswerLost)
        self.successResultOf(client.announce(TOLD))
        self.assertEqual(["d0", "d1"], self.asked())

    def test_a_broken_connection_is_an_answer_lost(self) -> None:
        self.failureResultOf(self.use(OSError("broken")).announce(TOLD), AnswerLost)

    def test_an_answer_without_end_is_not_read_to_it(self) -> None:
        client = self.use(Fixed(200, b" " * 100_000 + ACKNOWLEDGED))
        self.failureResultOf(client.announce(TOLD), AnswerLost)

    def test_what_is_no_acknowledgement_is_a_failure_of_the_other_node(self) -> None:
        for body in (b"", b"{}", b"[]", b'{"lease_seconds":"long"}', b"\xff"):
            self.failureResultOf(self.use(Fixed(200, body)).announce(TOLD), RemoteFailure)


class HttpOwnerClientContractTests(OwnerClientContract, SynchronousTestCase):
    """The contract, with the frontends' routes at the other end."""

    implementation = HttpOwnerClient

    def make_client(self, frontends: Mapping[FrontendRef, Frontend]) -> IOwnerClient:
        hosts: dict[str, IResource | Exception] = {"10.0.0.7:8081": ConnectError()}
        for ref, frontend in frontends.items():
            hosts[ref.url.removeprefix("http://")] = topics_routes_of(frontend)
        return HttpOwnerClient(new_client(MemoryAgent(hosts), self.clock))


class RemoteConnectionsContractTests(FrontendConnectionsContract, SynchronousTestCase):
    """The contract, with the owner's routes at the other end."""

    implementation = _RemoteConnections

    def make_connections(self, frontend: Frontend) -> IConnections:
        self.agent = MemoryAgent({"10.0.0.5:8081": topics_routes_of(frontend)})
        return HttpOwnerClient(new_client(self.agent, self.clock)).connections(N1)

    def let_be_answered(self) -> None:
        super().let_be_answered()
        self.agent.flush()


class AwayConnectionsContractTests(AwayConnectionsContract, SynchronousTestCase):
    """The contract, with nobody at the other end."""

    implementation = _RemoteConnections

    def setUp(self) -> None:
        self.connections = connections_at(ConnectError(), Clock())


def topics_routes_of(frontend: Frontend) -> IResource:
    app = new_app()
    add_connection_routes(app, frontend)
    resource: IResource = app.resource()
    return resource


def connections_at(host: IResource | Exception, clock: Clock) -> IConnections:
    """The connections of `N1`, which is ``host``."""
    agent = MemoryAgent({"10.0.0.5:8081": host})
    return HttpOwnerClient(new_client(agent, clock)).connections(N1)


class HttpOwnerClientTests(SynchronousTestCase):
    """Against another frontend's own routes in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        routing_table = MemoryRoutingTable(clock=self.clock)
        self.owner = new_frontend(self.clock, TableDispatcherClient(routing_table))
        self.owner.start(N1.url)
        self.asked = connections_at(topics_routes_of(self.owner), self.clock)
        self.viewer = Viewer(self.owner, self.clock, RED)
        # Another one watches it, so that nothing has to be waited for.
        Viewer(self.owner, self.clock, GREEN)
        self.clock.pump([0, 0])

    def test_the_topics_of_a_connection_are_told(self) -> None:
        told = self.successResultOf(self.asked.subscriptions(self.viewer.id))
        self.assertEqual((self.viewer.id, [RED]), (told.connection, list(told.topics)))

    def test_they_are_changed(self) -> None:
        answer = self.asked.subscribe(self.viewer.id, TopicsChange(add=(GREEN,), remove=(RED,)))
        self.assertEqual([GREEN], list(self.successResultOf(answer).topics))

    def test_what_the_owner_does_not_know_is_unknown(self) -> None:
        for id in (ConnectionId("n1-nobody"), ConnectionId("../é?#"), ConnectionId("a/b")):
            self.failureResultOf(self.asked.subscriptions(id), UnknownConnection)

    def test_too_many_topics_are_refused(self) -> None:
        topics = tuple(Topic(f"topic:{number}") for number in range(1000))
        answer = self.asked.subscribe(self.viewer.id, TopicsChange(add=topics, remove=()))
        self.failureResultOf(answer, TooManyTopics)

    def test_it_is_told_what_a_page_has_received(self) -> None:
        receipt = Receipt(connection=self.viewer.id, round_trip_ms=1.5, events=("1-0-a",))
        self.assertIsNone(self.successResultOf(self.asked.receive(receipt)))
        self.failureResultOf(self.asked.receive(receipt), TooManyRequests)

    def test_any_other_answer_is_a_failure_of_the_owner(self) -> None:
        for resource in (Fixed(500, b""), Fixed(200, b"{}"), Fixed(200, b"nonsense")):
            answer = connections_at(resource, self.clock).subscriptions(self.viewer.id)
            self.failureResultOf(answer, RemoteFailure)
