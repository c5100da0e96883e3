"""The contract of IConnections, for every implementation."""

from collections.abc import Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rtdeliver.errors import (
    Forbidden,
    RemoteFailure,
    TooManyTopics,
    Unauthorized,
    UnknownConnection,
)
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.grants import grants, patterns
from rtdeliver.interfaces import IConnections, IDispatcherClient
from rtdeliver.messages import Receipt, Subscriptions, TopicsChange
from rtdeliver.model import ConnectionId, Member, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.tokens import Identity, TokenKey
from tests.contracts.contract import SynchronousContract
from tests.fakes import (
    ScriptedDispatcherClient,
    TableDispatcherClient,
    Viewer,
    new_event,
    new_frontend,
)

T = TypeVar("T")

RED, GREEN, BLUE = (Topic(f"live:{name}") for name in ("red", "green", "blue"))
KEY = TokenKey(b"k" * 32)
EXPIRES_AT = 100_000
MANY = [Topic(f"live:{number}") for number in range(6)]
"""More topics than a connection may have."""


class ConnectionsContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that has ``connections`` and plays their clients.

    A connection may have five topics. Ids begin with ``n1-``.
    """

    interface = IConnections
    connections: IConnections

    def connect(self, *topics: Topic) -> ConnectionId:
        """Begin a connection with these topics."""
        raise NotImplementedError

    def leave(self, id: ConnectionId) -> None:
        """End a connection."""
        raise NotImplementedError

    def let_be_answered(self) -> None:
        """Let happen what has to happen before an answer is there."""

    def subject(self) -> IConnections:
        return self.connections

    def answered(self, answer: Deferred[T]) -> Deferred[T]:
        self.let_be_answered()
        return answer

    def change(
        self,
        id: ConnectionId,
        *,
        add: Sequence[Topic] = (),
        remove: Sequence[Topic] = (),
        sequence: int | None = None,
    ) -> Deferred[Subscriptions]:
        change = TopicsChange(add=tuple(add), remove=tuple(remove), sequence=sequence)
        return self.answered(self.connections.subscribe(id, change))

    def topics(self, id: ConnectionId) -> list[Topic]:
        told = self.successResultOf(self.answered(self.connections.subscriptions(id)))
        self.assertEqual(id, told.connection)
        return list(told.topics)

    def test_the_topics_of_a_connection_are_told(self) -> None:
        red, both, none = self.connect(RED), self.connect(RED, GREEN), self.connect()
        self.assertEqual([RED], self.topics(red))
        self.assertEqual({RED, GREEN}, set(self.topics(both)))
        self.assertEqual([], self.topics(none))

    def test_what_a_page_has_received_is_taken_of_connections_that_are_there(self) -> None:
        id = self.connect(RED)
        for connection, failure in ((id, None), (ConnectionId(f"{id}x"), UnknownConnection)):
            receipt = Receipt(connection=connection, round_trip_ms=1.5, events=("1-0-a",))
            answer = self.answered(self.connections.receive(receipt))
            if failure is None:
                self.assertIsNone(self.successResultOf(answer))
            else:
                self.failureResultOf(answer, failure)

    def test_a_change_is_answered_with_all_topics_and_stays(self) -> None:
        id = self.connect(RED, GREEN)
        told = self.successResultOf(self.change(id, add=[BLUE], remove=[RED]))
        self.assertEqual((id, {GREEN, BLUE}), (told.connection, set(told.topics)))
        self.assertEqual(list(told.topics), self.topics(id))

    def test_a_change_concerns_its_connection_alone(self) -> None:
        changed, other = self.connect(RED), self.connect(RED)
        self.successResultOf(self.change(changed, add=[GREEN], remove=[RED]))
        self.assertEqual([RED], self.topics(other))

    def test_what_is_removed_and_added_stays(self) -> None:
        id = self.connect(RED)
        told = self.successResultOf(self.change(id, add=[RED], remove=[RED]))
        self.assertEqual([RED], list(told.topics))

    def test_the_same_change_again_changes_nothing(self) -> None:
        id = self.connect(RED)
        for _ in range(2):
            told = self.successResultOf(self.change(id, add=[GREEN], remove=[RED]))
            self.assertEqual([GREEN], list(told.topics))

    def test_too_many_topics_are_refused_and_nothing_is_changed(self) -> None:
        id = self.connect(RED)
        self.failureResultOf(self.change(id, add=MANY, remove=[RED]), TooManyTopics)
        self.assertEqual([RED], self.topics(id))

    def test_a_change_that_comes_after_a_later_one_is_told_what_holds(self) -> None:
        id = self.connect(RED)
        self.successResultOf(self.change(id, add=[GREEN], sequence=7))
        for sequence in (7, 6, 0):
            told = self.successResultOf(
                self.change(id, add=[BLUE], remove=[GREEN], sequence=sequence)
            )
            self.assertEqual({RED, GREEN}, set(told.topics))
        self.assertEqual({RED, GREEN}, set(self.topics(id)))

    def test_a_later_change_is_made_and_so_is_one_without_a_sequence(self) -> None:
        id = self.connect()
        self.successResultOf(self.change(id, add=[RED], sequence=0))
        self.successResultOf(self.change(id, add=[GREEN], sequence=5))
        self.successResultOf(self.change(id, add=[BLUE]))
        told = self.successResultOf(self.change(id, remove=[RED], sequence=6))
        self.assertEqual({GREEN, BLUE}, set(told.topics))

    def test_a_refused_change_leaves_its_sequence_free(self) -> None:
        id = self.connect(RED)
        self.failureResultOf(self.change(id, add=MANY, sequence=7), TooManyTopics)
        told = self.successResultOf(self.change(id, add=[GREEN], sequence=7))
        self.assertEqual({RED, GREEN}, set(told.topics))

    def test_sequences_are_those_of_one_connection(self) -> None:
        first, second = self.connect(), self.connect()
        self.successResultOf(self.change(first, add=[RED], sequence=7))
        told = self.successResultOf(self.change(second, add=[RED], sequence=1))
        self.assertEqual([RED], list(told.topics))

    def test_as_many_topics_as_may_be_are_taken(self) -> None:
        id = self.connect(RED)
        told = self.successResultOf(self.change(id, add=MANY[:5], remove=[RED]))
        self.assertEqual(set(MANY[:5]), set(told.topics))

    def test_an_id_that_nobody_has_is_unknown(self) -> None:
        self.connect(RED)
        for text in ("n1-nobody", "n1-é?#&x=y", "n1-a/b", "n1-%2F"):
            id = ConnectionId(text)
            asked = self.answered(self.connections.subscriptions(id))
            self.failureResultOf(asked, UnknownConnection)
            self.failureResultOf(self.change(id, add=[RED]), UnknownConnection)

    def test_a_connection_may_be_looked_for(self) -> None:
        self.assertIsNone(self.successResultOf(self.connections.look_for(self.connect())))

    def test_a_connection_that_has_ended_is_unknown(self) -> None:
        id, other = self.connect(RED), self.connect(RED)
        self.leave(id)
        asked = self.answered(self.connections.subscriptions(id))
        self.failureResultOf(asked, UnknownConnection)
        self.failureResultOf(self.change(id, add=[GREEN]), UnknownConnection)
        self.assertEqual([RED], self.topics(other))


class AwayConnectionsContract(SynchronousContract):
    """What holds for the connections of a frontend that cannot be reached."""

    interface = IConnections
    connections: IConnections

    def subject(self) -> IConnections:
        return self.connections

    def test_everything_fails(self) -> None:
        id = ConnectionId("n1-x")
        self.failureResultOf(self.connections.subscriptions(id), RemoteFailure)
        change = TopicsChange(add=(RED,), remove=())
        self.failureResultOf(self.connections.subscribe(id, change), RemoteFailure)


class FrontendConnectionsContract(ConnectionsContract):
    """To be mixed into a SynchronousTestCase that says how a frontend's connections are reached."""

    def make_connections(self, frontend: Frontend) -> IConnections:
        """Return the connections of ``frontend``, which is the node ``n1``."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.use(TableDispatcherClient(MemoryRoutingTable(clock=self.clock)))

    def use(self, dispatchers: IDispatcherClient) -> None:
        """Begin again, with these dispatchers."""
        self.frontend = new_frontend(
            self.clock,
            dispatchers,
            identify=lambda token: KEY.check(token, now=self.clock.seconds()),
        )
        self.frontend.start("http://10.0.0.5:8081")
        self.viewers: dict[ConnectionId, Viewer] = {}
        self.connections = self.make_connections(self.frontend)

    def connect(self, *topics: Topic) -> ConnectionId:
        viewer = Viewer(self.frontend, self.clock, *topics)
        self.clock.advance(2)
        self.viewers[viewer.id] = viewer
        return viewer.id

    def leave(self, id: ConnectionId) -> None:
        self.viewers[id].stream.lose()

    def let_be_answered(self) -> None:
        self.clock.advance(0)

    def test_from_the_answer_on_what_is_delivered_comes_and_nothing_else(self) -> None:
        id = self.connect(RED)
        self.successResultOf(self.change(id, add=[GREEN], remove=[RED]))
        self.frontend.deliver([new_event("1", RED), new_event("2", GREEN)])
        self.clock.advance(0)
        self.assertEqual(["2"], self.viewers[id].ids)

    def test_the_answer_waits_for_a_dispatcher_for_a_while(self) -> None:
        self.use(ScriptedDispatcherClient())
        id = self.connect()
        answer = self.change(id, add=[RED])
        self.assertNoResult(answer)
        self.clock.advance(2)
        self.let_be_answered()
        told = self.successResultOf(answer)
        self.assertEqual(([RED], [RED]), (list(told.topics), list(told.pending)))

    def test_a_repeated_change_waits_for_a_dispatcher_as_the_first_one_does(self) -> None:
        self.use(ScriptedDispatcherClient())
        id = self.connect()
        first = self.change(id, add=[RED], sequence=1)
        again = self.change(id, add=[RED, BLUE], sequence=1)
        self.assertNoResult(again)
        self.clock.advance(2)
        self.let_be_answered()
        for answer in (first, again):
            told = self.successResultOf(answer)
            self.assertEqual(([RED], [RED]), (list(told.topics), list(told.pending)))

    def test_a_new_token_replaces_the_last_one(self) -> None:
        id = self.connect(RED)
        answer = self.answered(self.connections.refresh(id, self.token(None, "conv:*")))
        told = self.successResultOf(answer)
        self.assertEqual((id, [RED], []), (told.connection, list(told.topics), list(told.removed)))
        self.assertEqual(EXPIRES_AT, told.expires_at)

    def test_a_token_that_is_refused_or_for_another_member_is_not_taken(self) -> None:
        id = self.connect(RED)
        for token, error in (("x.y.z", Unauthorized), (self.token("ann"), Forbidden)):
            refused = self.answered(self.connections.refresh(id, token))
            failure = self.failureResultOf(refused, error)
            self.assertIn("token", str(failure.value))

    def test_a_token_for_a_connection_that_nobody_has_is_not_taken(self) -> None:
        refused = self.answered(self.connections.refresh(ConnectionId("n1-x"), self.token(None)))
        self.failureResultOf(refused, UnknownConnection)

    def token(self, member: str | None, *subscribe: str) -> str:
        allowed = grants(patterns(subscribe), patterns(()))
        who = None if member is None else Member(member)
        return KEY.sign(Identity(who, expires_at=EXPIRES_AT, grants=allowed))

    def test_a_connection_that_ends_while_it_waits_is_unknown(self) -> None:
        self.use(ScriptedDispatcherClient())
        id = self.connect()
        answer = self.change(id, add=[RED])
        self.leave(id)
        self.clock.advance(2)
        self.let_be_answered()
        self.failureResultOf(answer, UnknownConnection)
