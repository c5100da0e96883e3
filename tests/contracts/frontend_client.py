"""The contract of IFrontendClient, for every implementation."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rtdeliver.errors import StaleIncarnation
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.interfaces import IFrontendClient
from rtdeliver.messages import TopicMembers
from rtdeliver.model import FrontendRef, Gap, Item, Member, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.tokens import Identity
from tests.contracts.contract import SynchronousContract
from tests.fakes import TableDispatcherClient, Viewer, new_event, new_frontend

RED, GREEN = Topic("live:red"), Topic("live:green")
URL = "http://10.0.0.5:8081"
N1 = FrontendRef(node="n1", url=URL, incarnation="first")
N1_AGAIN = FrontendRef(node="n1", url=URL, incarnation="second")


class FrontendClientContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that says how a client for one frontend is made."""

    interface = IFrontendClient

    def make_client(self, frontend: Frontend) -> IFrontendClient:
        """Return a client of `N1`, which is ``frontend``."""
        raise NotImplementedError

    def let_be_answered(self) -> None:
        """Let happen what has to happen before an answer is there."""

    def subject(self) -> IFrontendClient:
        return self.client

    def setUp(self) -> None:
        self.clock = Clock()
        self.frontend = new_frontend(
            self.clock, TableDispatcherClient(MemoryRoutingTable(clock=self.clock))
        )
        self.frontend.start(URL)
        self.client = self.make_client(self.frontend)

    def connect(self, *topics: Topic) -> Viewer:
        viewer = Viewer(self.frontend, self.clock, *topics)
        self.clock.advance(0)
        return viewer

    def deliver(self, batch: Sequence[Item], frontend: FrontendRef = N1) -> Deferred[None]:
        answer = self.client.deliver(frontend, batch)
        self.let_be_answered()
        return answer

    def members(self, topic: Topic, after: str = "", limit: int = 10) -> TopicMembers:
        answer = self.client.members(N1, topic, after, limit)
        self.let_be_answered()
        return self.successResultOf(answer)

    def test_the_members_who_watch_are_told_in_pages(self) -> None:
        for name in ("cyd & \u2603", "ann", "bob", "ann"):
            Viewer(
                self.frontend,
                self.clock,
                RED,
                identity=Identity(Member(name), expires_at=1e9),
            )
        self.connect(RED)
        self.connect(GREEN)
        ann, bob, cyd = map(Member, ("ann", "bob", "cyd & \u2603"))
        self.assertEqual(TopicMembers((ann, bob, cyd), 1), self.members(RED))
        self.assertEqual(TopicMembers((ann, bob), 1, more=True), self.members(RED, limit=2))
        self.assertEqual(TopicMembers((cyd,), 1), self.members(RED, "bob", 2))
        self.assertEqual(TopicMembers((), 1), self.members(GREEN))
        self.assertEqual(TopicMembers((), 0), self.members(Topic("live:nobody")))

    def test_events_are_in_the_mailboxes_when_it_fires(self) -> None:
        red, both = self.connect(RED), self.connect(RED, GREEN)
        batch = [new_event("1", RED), new_event("2", GREEN), new_event("3", RED)]
        self.assertIsNone(self.successResultOf(self.deliver(batch)))
        self.clock.advance(0)
        self.assertEqual(["1", "3"], red.ids)
        self.assertEqual(["1", "2", "3"], both.ids)

    def test_events_arrive_as_they_are(self) -> None:
        viewer = self.connect(RED)
        event = new_event("17-0-d1", RED, '{"text":"ä€😀\\u2028"}'.encode())
        self.successResultOf(self.deliver([event]))
        self.clock.advance(0)
        self.assertIn(b"id: 17-0-d1\ndata: " + event.line + b"\n\n", viewer.stream.data)

    def test_gaps_arrive_with_the_events(self) -> None:
        viewer = self.connect(RED)
        batch: list[Item] = [Gap(topic=RED, lost=3), new_event("1", RED)]
        self.successResultOf(self.deliver(batch))
        self.clock.advance(0)
        self.assertEqual([{"lost": 3, "topics": [RED]}], viewer.control("gap"))
        self.assertEqual(["1"], viewer.ids)

    def test_a_batch_may_be_delivered_twice(self) -> None:
        viewer = self.connect(RED)
        batch = [new_event("1", RED), new_event("2", RED)]
        for _ in range(2):
            self.successResultOf(self.deliver(batch))
        self.clock.advance(0)
        self.assertEqual(["1", "2"], viewer.ids)

    def test_what_is_meant_for_another_process_is_not_taken(self) -> None:
        viewer = self.connect(RED)
        self.failureResultOf(self.deliver([new_event("1", RED)], N1_AGAIN), StaleIncarnation)
        self.clock.advance(0)
        self.assertEqual([], viewer.ids)
