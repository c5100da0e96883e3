"""Who may watch what at a frontend."""

from collections.abc import Iterable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import Forbidden
from rtdeliver.grants import NOTHING, grants, patterns
from rtdeliver.messages import TopicsChange
from rtdeliver.model import Member, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.tokens import Identity
from tests.fakes import TableDispatcherClient, Viewer, new_event, new_frontend

LIVE, ANN_BOB, CYD, INBOX = map(Topic, ("live:red", "conv:ann:bob", "conv:cyd", "inbox:ann"))
URL = "http://127.0.0.1:8081"


def holder(*subscribe: str, topics: Iterable[Topic] = ()) -> Identity:
    """Somebody with a token that grants these patterns."""
    return Identity(
        Member("ann"),
        expires_at=1e12,
        grants=grants(patterns(subscribe), NOTHING.publish),
        topics=tuple(topics),
    )


class AccessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.frontend = new_frontend(
            self.clock,
            TableDispatcherClient(MemoryRoutingTable(clock=self.clock)),
            public_topics=patterns(["live:*"]),
        )
        self.frontend.start(URL)
        self.clock.advance(0)

    def connect(self, *topics: Topic, identity: Identity | None = None) -> Viewer:
        viewer = Viewer(self.frontend, self.clock, *topics, identity=identity)
        self.clock.advance(0)
        return viewer

    def refused(self, *topics: Topic, identity: Identity | None = None) -> tuple[str, ...]:
        """Return the topics for which a connect is refused."""
        refusal = self.assertRaises(Forbidden, self.connect, *topics, identity=identity)
        return tuple(refusal.topics)

    def add(self, viewer: Viewer, *topics: Topic) -> list[Topic]:
        """Return the topics that the viewer has then."""
        change = TopicsChange(add=topics, remove=())
        changed = self.frontend.subscribe(viewer.id, change)
        self.clock.advance(0)
        return list(self.successResultOf(changed).topics)

    def deliver(self, *topics: Topic) -> None:
        self.frontend.deliver([new_event(f"e{n}", topic) for n, topic in enumerate(topics)])
        self.clock.advance(0)

    def test_anybody_may_watch_what_is_public(self) -> None:
        viewer = self.connect(LIVE)
        self.deliver(LIVE, ANN_BOB)
        self.assertEqual(viewer.ids, ["e0"])

    def test_without_a_token_all_else_is_refused_and_named(self) -> None:
        self.assertEqual(self.refused(LIVE, ANN_BOB, CYD), (ANN_BOB, CYD))

    def test_a_token_grants_what_it_says_beside_what_is_public(self) -> None:
        viewer = self.connect(LIVE, ANN_BOB, identity=holder("conv:ann:*"))
        self.deliver(LIVE, ANN_BOB)
        self.assertEqual(viewer.ids, ["e0", "e1"])
        self.assertEqual(self.refused(LIVE, CYD, identity=holder("conv:ann:*")), (CYD,))

    def test_a_token_without_grants_opens_nothing(self) -> None:
        self.assertEqual(self.refused(ANN_BOB, identity=holder()), (ANN_BOB,))

    def test_the_topics_of_a_token_are_watched_without_asking(self) -> None:
        viewer = self.connect(LIVE, identity=holder(topics=[INBOX]))
        [connected] = viewer.control("connected")
        self.assertEqual(set(connected["topics"]), {INBOX, LIVE})
        self.deliver(INBOX)
        self.assertEqual(viewer.ids, ["e0"])

    def test_the_topics_of_a_token_may_be_left_and_taken_again(self) -> None:
        viewer = self.connect(identity=holder(topics=[INBOX]))
        change = TopicsChange(add=(), remove=(INBOX,))
        self.successResultOf(self.frontend.subscribe(viewer.id, change))
        self.assertEqual(self.add(viewer, INBOX), [INBOX])

    def test_a_refused_change_changes_nothing(self) -> None:
        viewer = self.connect(LIVE, identity=holder("conv:ann:*"))
        change = TopicsChange(add=(ANN_BOB, CYD), remove=(LIVE,))
        refusal = self.failureResultOf(self.frontend.subscribe(viewer.id, change), Forbidden)
        self.assertEqual(tuple(refusal.value.topics), (CYD,))
        told = self.successResultOf(self.frontend.subscriptions(viewer.id))
        self.assertEqual(list(told.topics), [LIVE])
        self.assertEqual(self.add(viewer, ANN_BOB), [ANN_BOB, LIVE])

    def test_nobody_has_to_be_allowed_to_leave_a_topic(self) -> None:
        viewer = self.connect(LIVE)
        change = TopicsChange(add=(), remove=(ANN_BOB,))
        told = self.successResultOf(self.frontend.subscribe(viewer.id, change))
        self.assertEqual(list(told.topics), [LIVE])

    def test_a_refusal_is_short_however_many_topics_it_names(self) -> None:
        topics = [Topic("x" * 1000 + str(number)) for number in range(50)]
        refusal = self.assertRaises(Forbidden, self.connect, *topics)
        self.assertIn("and 47 more", refusal.message)
        self.assertLess(len(refusal.message), 500)
        self.assertEqual(len(refusal.topics), 50)

    def test_a_refused_viewer_leaves_nothing_behind(self) -> None:
        before = [(s.name, s.value) for s in self.frontend.samples() if hasattr(s, "value")]
        self.refused(ANN_BOB)
        after = [(s.name, s.value) for s in self.frontend.samples() if hasattr(s, "value")]
        self.assertEqual(before, after)
