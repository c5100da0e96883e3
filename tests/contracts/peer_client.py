"""The contract of IPeerClient, for every implementation."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.errors import RemoteFailure
from rtdeliver.interfaces import IPeerClient, IRoutingTable
from rtdeliver.messages import Announcement, Bookmark
from rtdeliver.model import FrontendRef, Gap, Item, Member, MemberTopics, Revocation, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.contracts.contract import SynchronousContract
from tests.fakes import (
    FailingRoutingTable,
    ScriptedFrontendClient,
    ScriptedPeerClient,
    new_dispatcher,
    new_event,
)

RED, GREEN = Topic("live:red"), Topic("live:green ä€😀")
N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")


class PeerClientContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that says how a client for one dispatcher is made."""

    interface = IPeerClient

    def make_client(self, dispatcher: Dispatcher) -> IPeerClient:
        """Return a client of the peer datacenter whose only dispatcher is ``dispatcher``."""
        raise NotImplementedError

    def let_be_answered(self) -> None:
        """Let happen what has to happen before an answer is there."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.frontends = ScriptedFrontendClient()
        self.frontends.answer_at_once = True
        self.next_peer = ScriptedPeerClient()
        routing_table = MemoryRoutingTable(clock=self.clock)
        counts = {RED: 1, GREEN: 1}
        told = Announcement(frontend=N1, counts=counts, full=True, lease_seconds=30)
        self.successResultOf(routing_table.apply(told))
        self.client = self.client_of(routing_table)

    def client_of(self, routing_table: IRoutingTable) -> IPeerClient:
        return self.make_client(
            new_dispatcher(self.clock, routing_table, self.frontends, {"dc3": self.next_peer})
        )

    def subject(self) -> IPeerClient:
        return self.client

    def forward(self, batch: Sequence[Item]) -> None:
        answer = self.client.forward(batch)
        self.let_be_answered()
        self.assertIsNone(self.successResultOf(answer))

    def delivered(self) -> list[Item]:
        """What the frontend with viewers of all topics got so far."""
        self.clock.advance(0)
        return [item for _, batch in self.frontends.deliveries for item in batch]

    def test_events_and_gaps_are_delivered_there_as_they_are_and_in_order(self) -> None:
        batch: list[Item] = [
            Gap(topic=GREEN, lost=3),
            new_event("1", RED, '{"text":"ä€😀\\u2028"}'.encode()),
            new_event("17-0-d1", GREEN),
            new_event("2", RED),
        ]
        self.forward(batch)
        self.assertEqual(batch, self.delivered())
        self.forward([new_event("3", RED)])
        self.assertEqual([*batch, new_event("3", RED)], self.delivered())

    def test_controls_go_to_its_frontends_and_revocations_are_kept_there(self) -> None:
        ann = Revocation(kind="member", name="ann", at=1000, until=9000)
        topics = MemberTopics(member=Member("ann"), add=(RED,), remove=(GREEN,))
        batch: list[Item] = [new_event("1", RED), ann, topics]
        self.forward(batch)
        self.assertEqual({new_event("1", RED), ann, topics}, set(self.delivered()))
        self.assertEqual([], self.next_peer.forwards)
        answer = self.client.revocations(Bookmark())
        self.let_be_answered()
        self.assertEqual((ann,), self.successResultOf(answer).revocations)

    def test_what_has_no_viewers_there_is_taken(self) -> None:
        self.forward([new_event("1", Topic("live:nobody"))])
        self.assertEqual([], self.delivered())

    def test_nothing_goes_on_from_there_to_the_next_peer(self) -> None:
        self.forward([new_event("1", RED)])
        self.clock.advance(0)
        self.assertEqual([], self.next_peer.forwards)

    def test_the_batch_may_be_changed_once_it_is_handed_over(self) -> None:
        batch = [new_event("1", RED)]
        answer = self.client.forward(batch)
        batch.clear()
        self.let_be_answered()
        self.successResultOf(answer)
        self.assertEqual([new_event("1", RED)], self.delivered())

    def test_a_dispatcher_that_cannot_reach_its_table_has_taken_nothing(self) -> None:
        answer: Deferred[None] = self.client_of(FailingRoutingTable()).forward(
            [new_event("1", RED)]
        )
        self.let_be_answered()
        self.failureResultOf(answer, RemoteFailure)
        self.assertEqual([], self.delivered())
