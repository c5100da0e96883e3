"""Tests of rtdeliver.frontend.owners."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from rtdeliver.errors import (
    AnswerLost,
    RemoteFailure,
    TooManyTopics,
    Unavailable,
    UnknownConnection,
    Unreachable,
)
from rtdeliver.frontend.owners import OwnedConnections
from rtdeliver.interfaces import IConnections, IDispatcherClient, IOwnerClient
from rtdeliver.messages import Acknowledgement, Announcement, Subscriptions, TopicsChange
from rtdeliver.model import ConnectionId, FrontendRef, Topic, make_connection_id

RED = Topic("live:red")
N2 = FrontendRef(node="n2", url="http://10.0.0.6:8081", incarnation="a")
N3 = FrontendRef(node="n3", url="http://10.0.0.7:8081", incarnation="b")
CHANGE = TopicsChange(add=(RED,), remove=())
REMEMBER_SECONDS = 3


@implementer(IConnections)
class NamedConnections:
    """Answers with its name as the topic, or with an error."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self._name = name
        self._error = error

    def subscribe(self, id: ConnectionId, change: TopicsChange) -> Deferred[Subscriptions]:
        return self._answer(id)

    def subscriptions(self, id: ConnectionId) -> Deferred[Subscriptions]:
        return self._answer(id)

    def _answer(self, id: ConnectionId) -> Deferred[Subscriptions]:
        if self._error is not None:
            return fail(self._error)
        return succeed(Subscriptions(connection=id, topics=[Topic(self._name)]))


@implementer(IOwnerClient)
class NamingOwnerClient:
    """Gives connections that answer with the name of their node, or with ``error``."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def connections(self, frontend: FrontendRef) -> IConnections:
        return NamedConnections(f"{frontend.node}.{frontend.incarnation}", self.error)


@implementer(IDispatcherClient)
class ListingDispatcherClient:
    """Lists frontends when the test says so; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Sequence[FrontendRef]]] = []

    def announce(self, announcement: Announcement) -> Deferred[Acknowledgement]:
        raise NotImplementedError

    def frontends(self) -> Deferred[Sequence[FrontendRef]]:
        self.asked.append(Deferred())
        return self.asked[-1]


class OwnedConnectionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.dispatchers = ListingDispatcherClient()
        self.owners = NamingOwnerClient()
        self.connections = OwnedConnections(
            node="n1",
            own=NamedConnections("own"),
            dispatchers=self.dispatchers,
            owners=self.owners,
            clock=self.clock,
            remember_seconds=REMEMBER_SECONDS,
        )

    def ask(self, node: str) -> Deferred[Subscriptions]:
        return self.connections.subscribe(make_connection_id(node), CHANGE)

    def answered_by(self, answer: Deferred[Subscriptions]) -> str:
        return self.successResultOf(answer).topics[0]

    def test_it_keeps_its_promise(self) -> None:
        self.assertTrue(verifyObject(IConnections, self.connections))

    def test_own_connections_are_asked_directly(self) -> None:
        self.assertEqual("own", self.answered_by(self.ask("n1")))
        self.assertEqual([], self.dispatchers.asked)

    def test_others_are_asked_at_the_node_that_their_id_names(self) -> None:
        answer = self.ask("n2")
        self.dispatchers.asked.pop().callback([N2, N3])
        self.assertEqual("n2.a", self.answered_by(answer))
        self.assertEqual("n3.b", self.answered_by(self.ask("n3")))
        id = make_connection_id("n2")
        told = self.successResultOf(self.connections.subscriptions(id))
        self.assertEqual((id, ["n2.a"]), (told.connection, told.topics))
        self.assertEqual([], self.dispatchers.asked)

    def test_an_id_that_names_no_node_is_unknown(self) -> None:
        for id in ("", "x", "n9-abc", "-" * 40):
            answer = self.connections.subscriptions(ConnectionId(id))
            self.dispatchers.asked.pop().callback([N2])
            self.failureResultOf(answer, UnknownConnection)

    def test_a_node_whose_lease_is_gone_is_unknown_once_that_is_learned(self) -> None:
        answer = self.ask("n2")
        self.dispatchers.asked.pop().callback([N2])
        self.successResultOf(answer)
        self.clock.advance(REMEMBER_SECONDS)
        answer = self.ask("n2")
        self.dispatchers.asked.pop().callback([])
        self.failureResultOf(answer, UnknownConnection)

    def test_a_new_process_of_a_node_is_asked_once_it_is_learned_of(self) -> None:
        answer = self.ask("n2")
        self.dispatchers.asked.pop().callback([N2])
        self.successResultOf(answer)
        self.clock.advance(REMEMBER_SECONDS)
        answer = self.ask("n2")
        self.dispatchers.asked.pop().callback(
            [FrontendRef(node="n2", url=N2.url, incarnation="second")]
        )
        self.assertEqual("n2.second", self.answered_by(answer))

    def test_all_who_wait_share_one_question(self) -> None:
        answers = [self.ask("n2") for _ in range(3)]
        [asked] = self.dispatchers.asked
        asked.callback([N2])
        self.assertEqual(["n2.a"] * 3, [self.answered_by(answer) for answer in answers])

    def test_without_an_answer_nobody_knows_for_all_who_wait(self) -> None:
        answers = [self.ask("n2") for _ in range(3)]
        [asked] = self.dispatchers.asked
        asked.errback(Unreachable("no dispatcher"))
        for answer in answers:
            self.failureResultOf(answer, Unavailable)

    def test_without_an_answer_what_was_known_stands(self) -> None:
        answer = self.ask("n2")
        self.dispatchers.asked.pop().callback([N2])
        self.successResultOf(answer)
        self.clock.advance(REMEMBER_SECONDS)
        answer = self.ask("n2")
        self.dispatchers.asked.pop().errback(AnswerLost("no dispatcher"))
        self.assertEqual("n2.a", self.answered_by(answer))

    def test_it_asks_again_after_a_failure(self) -> None:
        answer = self.ask("n2")
        self.dispatchers.asked.pop().errback(Unreachable("no dispatcher"))
        self.failureResultOf(answer, Unavailable)
        answer = self.ask("n2")
        self.dispatchers.asked.pop().callback([N2])
        self.assertEqual("n2.a", self.answered_by(answer))

    def test_an_owner_that_cannot_be_reached_is_as_good_as_gone(self) -> None:
        self.owners.error = RemoteFailure("it is away")
        answer = self.ask("n2")
        self.dispatchers.asked.pop().callback([N2])
        self.failureResultOf(answer, UnknownConnection)

    def test_what_the_owner_refuses_is_refused(self) -> None:
        self.owners.error = TooManyTopics("100")
        answer = self.ask("n2")
        self.dispatchers.asked.pop().callback([N2])
        self.failureResultOf(answer, TooManyTopics)
