"""The contract of IDispatcherClient, for every implementation."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.errors import RemoteFailure
from rtdeliver.interfaces import IDispatcherClient, IHistory, IRoutingTable
from rtdeliver.messages import END, Acknowledgement, Announcement, Bookmark, Entry, HistoryQuery
from rtdeliver.model import FrontendRef, Place, Revocation, Topic, check_position
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.contracts.contract import SynchronousContract
from tests.contracts.history import event
from tests.fakes import (
    FailingRoutingTable,
    ScriptedFrontendClient,
    memory_history,
    new_dispatcher,
)

T = TypeVar("T")

RED, GREEN = Topic("live:red"), Topic("live:green ä€😀")
N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")


class DispatcherClientContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that says how a client for one dispatcher is made."""

    interface = IDispatcherClient

    def make_client(
        self, dispatcher: Dispatcher, routing_table: IRoutingTable, history: IHistory
    ) -> IDispatcherClient:
        """Return a client of ``dispatcher``, which has this routing table and these histories."""
        raise NotImplementedError

    def let_be_answered(self) -> None:
        """Let happen what has to happen before an answer is there."""

    def subject(self) -> IDispatcherClient:
        return self.client

    def setUp(self) -> None:
        self.clock = Clock()
        self.routing_table = MemoryRoutingTable(clock=self.clock)
        self.client = self.client_of(self.routing_table)

    def client_of(self, routing_table: IRoutingTable) -> IDispatcherClient:
        history = self.history = memory_history(self.clock)
        dispatcher = new_dispatcher(
            self.clock, routing_table, ScriptedFrontendClient(), history=history
        )
        return self.make_client(dispatcher, routing_table, history)

    def answered(self, answer: Deferred[T]) -> Deferred[T]:
        self.let_be_answered()
        return answer

    def announce(
        self,
        counts: dict[Topic, int],
        *,
        full: bool = False,
        lease_seconds: float = 30,
        sequence: int = 0,
    ) -> Acknowledgement:
        told = Announcement(
            frontend=N1, counts=counts, full=full, lease_seconds=lease_seconds, sequence=sequence
        )
        return self.successResultOf(self.answered(self.client.announce(told)))

    def listed(self) -> Sequence[FrontendRef]:
        return self.successResultOf(self.answered(self.client.frontends()))

    def viewers(self, topic: Topic) -> Mapping[str, int]:
        return self.successResultOf(self.routing_table.viewers(topic))

    def test_revocations_that_are_given_back_are_read(self) -> None:
        ann = Revocation(kind="member", name="ann \u2603", at=1000, until=9000, reason="why")
        stream = Revocation(kind="connection", name="n1-x", at=1000, until=9000, reconnect=True)
        self.assertIsNone(self.successResultOf(self.answered(self.client.restore([ann, stream]))))
        page = self.successResultOf(self.answered(self.client.revocations(Bookmark())))
        self.assertEqual([ann, stream], list(page.revocations))
        again = self.successResultOf(self.answered(self.client.revocations(page.bookmark)))
        self.assertEqual(((), False), (again.revocations, again.more))

    def test_histories_are_read(self) -> None:
        conv, likes = Topic("conv:1 \u2603"), Topic("live:red")
        entries = [Entry(event=event(n, conv), may_repeat=False) for n in range(5)]
        stored = self.successResultOf(self.history.append(entries))
        second = check_position(stored[1].event.position)
        asked = [
            HistoryQuery(topic=conv, since=second, limit=2),
            HistoryQuery(topic=likes, limit=2),
            HistoryQuery(topic=conv, before=END, limit=1),
            HistoryQuery(topic=conv, before=second, limit=100),
            HistoryQuery(topic=conv, at=second.at, limit=100),
            HistoryQuery(topic=conv, rewind=1, limit=100),
            HistoryQuery(topic=Topic("conv:none"), limit=100),
            HistoryQuery(topic=conv, since=Place(1, 2, "0" * 16), limit=100),
        ]
        pages = self.successResultOf(self.answered(self.client.history(asked)))
        self.assertEqual(self.successResultOf(self.history.read(asked)), pages)
        self.assertIsNotNone(pages[0])
        self.assertIsNone(pages[1])
        self.assertEqual([], self.successResultOf(self.answered(self.client.history([]))))

    def test_an_announcement_is_applied_when_it_fires(self) -> None:
        answer = self.announce({RED: 12, GREEN: 1}, full=True, lease_seconds=20)
        self.assertEqual((20, False), (answer.lease_seconds, answer.full))
        self.assertEqual({"n1": 12}, self.viewers(RED))
        self.assertEqual({"n1": 1}, self.viewers(GREEN))
        [node] = self.successResultOf(self.routing_table.nodes())
        self.assertEqual(N1, node.frontend)
        self.assertApproximates(20, node.lease_seconds_left, 0.1)

    def test_a_full_announcement_replaces_all(self) -> None:
        self.announce({RED: 1}, full=True)
        self.announce({GREEN: 1}, full=True)
        self.assertEqual({}, self.viewers(RED))

    def test_the_answer_tells_the_last_event_of_topics_with_history(self) -> None:
        conv, empty = Topic("conv:1"), Topic("conv:2")
        entries = [Entry(event=event(n, conv), may_repeat=False) for n in range(3)]
        stored = self.successResultOf(self.history.append(entries))
        answer = self.announce({RED: 1, conv: 2, empty: 1, Topic("conv:left"): 0}, full=True)
        self.assertEqual({conv: stored[2].event.position, empty: ""}, answer.heads)

    def test_the_frontends_with_a_valid_lease_are_told(self) -> None:
        self.announce({RED: 1}, full=True, lease_seconds=20)
        self.assertEqual([N1], self.listed())
        self.clock.advance(20)
        self.assertEqual([], self.listed())

    def test_no_frontends_are_told_by_one_that_cannot_reach_the_table(self) -> None:
        client = self.client_of(FailingRoutingTable())
        self.failureResultOf(self.answered(client.frontends()), RemoteFailure)

    def test_the_answer_asks_for_all_where_nothing_is_known(self) -> None:
        self.assertTrue(self.announce({RED: 1}).full)

    def test_the_sequence_is_told(self) -> None:
        self.announce({RED: 1}, full=True, sequence=2)
        self.announce({RED: 0}, sequence=1)
        self.assertEqual({"n1": 1}, self.viewers(RED))

    def test_a_lease_of_0_takes_the_frontend_out(self) -> None:
        self.announce({RED: 1}, full=True)
        self.assertEqual(0, self.announce({}, full=True, lease_seconds=0).lease_seconds)
        self.assertEqual({}, self.viewers(RED))
        self.assertEqual([], self.successResultOf(self.routing_table.nodes()))

    def test_a_table_that_cannot_be_reached_is_a_failure_of_the_other_node(self) -> None:
        client = self.client_of(FailingRoutingTable())
        told = Announcement(frontend=N1, counts={RED: 1}, full=True, lease_seconds=30)
        self.failureResultOf(self.answered(client.announce(told)), RemoteFailure)
