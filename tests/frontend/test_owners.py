"""Tests of rtdeliver.frontend.owners."""

from collections.abc import Mapping

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.errors import (
    AnsweredNo,
    AnswerLost,
    Refused,
    TooManyTopics,
    Unavailable,
    UnknownConnection,
    Unreachable,
)
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.frontend.owners import OwnedConnections
from rtdeliver.interfaces import IConnections, IOwnerClient
from rtdeliver.messages import Announcement, Receipt, Refreshed, Subscriptions, TopicsChange
from rtdeliver.model import ConnectionId, FrontendRef, Topic, make_connection_id
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.contracts.connections import (
    AwayConnectionsContract,
    ConnectionsContract,
    FrontendConnectionsContract,
)
from tests.contracts.owner_client import OwnerClientContract
from tests.fakes import ScriptedDispatcherClient, TableDispatcherClient

RED = Topic("live:red")
N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")
N2 = FrontendRef(node="n2", url="http://10.0.0.6:8081", incarnation="a")
N2_AGAIN = FrontendRef(node="n2", url=N2.url, incarnation="second")
N3 = FrontendRef(node="n3", url="http://10.0.0.7:8081", incarnation="b")
CHANGE = TopicsChange(add=(RED,), remove=())
REMEMBER_SECONDS = 3


@implementer(IConnections)
class MemoryConnections:
    """Connections of which there is nothing but their topics, five at most.

    :param node: whose they are.
    :param error: what every call fails with.
    """

    def __init__(self, node: str, error: Exception | None = None) -> None:
        self.topics: dict[ConnectionId, list[Topic]] = {}
        self.sequences: dict[ConnectionId, int] = {}
        self.received: list[Receipt] = []
        self.tokens: list[str] = []
        self.error = error
        self._node = node

    def connect(self, *topics: Topic) -> ConnectionId:
        """Begin a connection with these topics."""
        id = make_connection_id(self._node)
        self.topics[id] = list(topics)
        return id

    def subscribe(self, id: ConnectionId, change: TopicsChange) -> Deferred[Subscriptions]:
        return execute(self._change, id, change)

    def subscriptions(self, id: ConnectionId) -> Deferred[Subscriptions]:
        return execute(self._tell, id)

    def refresh(self, id: ConnectionId, token: str) -> Deferred[Refreshed]:
        self.tokens.append(token)
        return self.subscriptions(id).addCallback(
            lambda told: Refreshed(id, told.topics, (), 1000.0, 60.0)
        )

    def receive(self, receipt: Receipt) -> Deferred[None]:
        self.received.append(receipt)
        return self.subscriptions(receipt.connection).addCallback(lambda _: None)

    def look_for(self, id: ConnectionId) -> Deferred[None]:
        return self.subscriptions(id).addCallback(lambda _: None)

    def _change(self, id: ConnectionId, change: TopicsChange) -> Subscriptions:
        if change.sequence is not None and change.sequence <= self.sequences.get(id, -1):
            return self._tell(id)
        kept = [topic for topic in self._tell(id).topics if topic not in change.remove]
        topics = list(dict.fromkeys([*kept, *change.add]))
        if len(topics) > 5:
            raise TooManyTopics("a connection may have five topics")
        self.topics[id] = topics
        if change.sequence is not None:
            self.sequences[id] = change.sequence
        return self._tell(id)

    def _tell(self, id: ConnectionId) -> Subscriptions:
        if self.error is not None:
            raise self.error
        if id not in self.topics:
            raise UnknownConnection("there is none with this id")
        return Subscriptions(connection=id, topics=self.topics[id])


@implementer(IOwnerClient)
class MemoryOwnerClient:
    """Reaches the frontends that it is given, and no other."""

    def __init__(self, frontends: Mapping[FrontendRef, IConnections]) -> None:
        self._frontends = frontends

    def connections(self, frontend: FrontendRef) -> IConnections:
        away = MemoryConnections(frontend.node, Unreachable("nobody is there"))
        return self._frontends.get(frontend, away)


class MemoryConnectionsTests(ConnectionsContract, SynchronousTestCase):
    implementation = MemoryConnections
    connections: MemoryConnections

    def setUp(self) -> None:
        self.connections = MemoryConnections("n1")

    def connect(self, *topics: Topic) -> ConnectionId:
        return self.connections.connect(*topics)

    def leave(self, id: ConnectionId) -> None:
        del self.connections.topics[id]


class FailingMemoryConnectionsTests(AwayConnectionsContract, SynchronousTestCase):
    implementation = MemoryConnections

    def setUp(self) -> None:
        self.connections = MemoryConnections("n1", Unreachable("nobody is there"))


class MemoryOwnerClientTests(OwnerClientContract, SynchronousTestCase):
    implementation = MemoryOwnerClient

    def make_client(self, frontends: Mapping[FrontendRef, Frontend]) -> IOwnerClient:
        return MemoryOwnerClient(frontends)


class OwnContractTests(FrontendConnectionsContract, SynchronousTestCase):
    """The contract, for connections of this node."""

    implementation = OwnedConnections

    def make_connections(self, frontend: Frontend) -> IConnections:
        return owned_connections("n1", frontend, {}, self.clock)


class OthersContractTests(FrontendConnectionsContract, SynchronousTestCase):
    """The contract, for connections of another node."""

    implementation = OwnedConnections

    def make_connections(self, frontend: Frontend) -> IConnections:
        return owned_connections("n2", MemoryConnections("n2"), {N1: frontend}, self.clock)


def owned_connections(
    node: str, own: IConnections, others: Mapping[FrontendRef, IConnections], clock: Clock
) -> OwnedConnections:
    """The connections of ``node`` and of ``others``, which the dispatchers know."""
    routing_table = MemoryRoutingTable(clock=clock)
    for frontend in others:
        routing_table.apply(
            Announcement(frontend=frontend, counts={}, full=True, lease_seconds=1000)
        )
    return OwnedConnections(
        node=node,
        own=own,
        dispatchers=TableDispatcherClient(routing_table),
        owners=MemoryOwnerClient(others),
        clock=clock,
        remember_seconds=REMEMBER_SECONDS,
    )


class OwnedConnectionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.dispatchers = ScriptedDispatcherClient()
        own = MemoryConnections("n1")
        self.owners = {ref: MemoryConnections(ref.node) for ref in (N2, N3, N2_AGAIN)}
        # The only connection of each process has a topic that names the process.
        self.ids = {
            "n1": own.connect(Topic("own")),
            "n2": self.owners[N2].connect(Topic("n2.a")),
            "n3": self.owners[N3].connect(Topic("n3.b")),
        }
        self.owners[N2_AGAIN].topics[self.ids["n2"]] = [Topic("n2.second")]
        self.connections = OwnedConnections(
            node="n1",
            own=own,
            dispatchers=self.dispatchers,
            owners=MemoryOwnerClient(self.owners),
            clock=self.clock,
            remember_seconds=REMEMBER_SECONDS,
        )

    def ask(self, node: str) -> Deferred[Subscriptions]:
        return self.connections.subscribe(self.ids[node], CHANGE)

    def answered_by(self, answer: Deferred[Subscriptions]) -> str:
        return self.successResultOf(answer).topics[0]

    def test_own_connections_are_asked_directly(self) -> None:
        self.assertEqual("own", self.answered_by(self.ask("n1")))
        self.assertEqual([], self.dispatchers.listings)

    def test_others_are_asked_at_the_node_that_their_id_names(self) -> None:
        answer = self.ask("n2")
        self.dispatchers.listings.pop().callback([N2, N3])
        self.assertEqual("n2.a", self.answered_by(answer))
        self.assertEqual("n3.b", self.answered_by(self.ask("n3")))
        id = self.ids["n2"]
        told = self.successResultOf(self.connections.subscriptions(id))
        self.assertEqual((id, ["n2.a", RED]), (told.connection, told.topics))
        self.assertEqual([], self.dispatchers.listings)

    def test_an_id_that_names_no_node_is_unknown(self) -> None:
        for id in ("", "x", "n9-abc", "-" * 40):
            answer = self.connections.subscriptions(ConnectionId(id))
            self.dispatchers.listings.pop().callback([N2])
            self.failureResultOf(answer, UnknownConnection)

    def test_a_node_whose_lease_is_gone_is_unknown_once_that_is_learned(self) -> None:
        answer = self.ask("n2")
        self.dispatchers.listings.pop().callback([N2])
        self.successResultOf(answer)
        self.clock.advance(REMEMBER_SECONDS)
        answer = self.ask("n2")
        self.dispatchers.listings.pop().callback([])
        self.failureResultOf(answer, UnknownConnection)

    def test_a_new_process_of_a_node_is_asked_once_it_is_learned_of(self) -> None:
        answer = self.ask("n2")
        self.dispatchers.listings.pop().callback([N2])
        self.successResultOf(answer)
        self.clock.advance(REMEMBER_SECONDS)
        answer = self.ask("n2")
        self.dispatchers.listings.pop().callback([N2_AGAIN])
        self.assertEqual("n2.second", self.answered_by(answer))

    def test_all_who_wait_share_one_question(self) -> None:
        answers = [self.ask("n2") for _ in range(3)]
        [asked] = self.dispatchers.listings
        asked.callback([N2])
        self.assertEqual(["n2.a"] * 3, [self.answered_by(answer) for answer in answers])

    def test_without_an_answer_nobody_knows_for_all_who_wait(self) -> None:
        answers = [self.ask("n2") for _ in range(3)]
        [asked] = self.dispatchers.listings
        asked.errback(Unreachable("no dispatcher"))
        for answer in answers:
            self.failureResultOf(answer, Unavailable)

    def test_without_an_answer_what_was_known_stands(self) -> None:
        answer = self.ask("n2")
        self.dispatchers.listings.pop().callback([N2])
        self.successResultOf(answer)
        self.clock.advance(REMEMBER_SECONDS)
        answer = self.ask("n2")
        self.dispatchers.listings.pop().errback(AnswerLost("no dispatcher"))
        self.assertEqual("n2.a", self.answered_by(answer))

    def test_it_asks_again_after_a_failure(self) -> None:
        answer = self.ask("n2")
        self.dispatchers.listings.pop().errback(Unreachable("no dispatcher"))
        self.failureResultOf(answer, Unavailable)
        answer = self.ask("n2")
        self.dispatchers.listings.pop().callback([N2])
        self.assertEqual("n2.a", self.answered_by(answer))

    def test_without_an_answer_a_node_that_was_not_known_may_still_be_there(self) -> None:
        answer = self.ask("n2")
        self.dispatchers.listings.pop().callback([N2])
        self.successResultOf(answer)
        answer = self.ask("n3")
        self.dispatchers.listings.pop().errback(AnswerLost("no dispatcher"))
        self.failureResultOf(answer, Unavailable)

    def test_an_owner_whose_process_is_gone_is_gone(self) -> None:
        self.owners[N2].error = Refused("nothing listens there")
        answer = self.ask("n2")
        self.dispatchers.listings.pop().callback([N2])
        self.failureResultOf(answer, UnknownConnection)

    def test_an_owner_that_does_not_answer_may_have_made_the_change(self) -> None:
        for error in (
            AnswerLost("it is paused"),
            Unreachable("the network is cut"),
            AnsweredNo(500, "it is broken"),
            AnsweredNo(503, "it cannot now"),
        ):
            self.owners[N2].error = error
            for ask in (self.connections.subscriptions(self.ids["n2"]), self.ask("n2")):
                if self.dispatchers.listings:
                    self.dispatchers.listings.pop().callback([N2])
                refusal = self.failureResultOf(ask, Unavailable).value
                self.assertIn("again", str(refusal))

    def test_own_connections_are_looked_for_here(self) -> None:
        self.successResultOf(self.connections.look_for(self.ids["n1"]))
        unknown = make_connection_id("n1")
        self.failureResultOf(self.connections.look_for(unknown), UnknownConnection)

    def test_others_are_looked_for_as_far_as_the_dispatchers_know(self) -> None:
        looked_for = [
            self.connections.look_for(make_connection_id(node)) for node in ("n2", "n3", "n4")
        ]
        self.dispatchers.listings.pop().callback([N2, N3])
        self.successResultOf(looked_for[0])
        self.successResultOf(looked_for[1])
        self.failureResultOf(looked_for[2], UnknownConnection)

    def test_what_the_owner_refuses_is_refused(self) -> None:
        self.owners[N2].error = TooManyTopics("100")
        answer = self.ask("n2")
        self.dispatchers.listings.pop().callback([N2])
        self.failureResultOf(answer, TooManyTopics)
