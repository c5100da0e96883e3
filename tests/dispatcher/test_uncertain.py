"""Tests of rtdeliver.dispatcher.uncertain."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Deliveries
from rtdeliver.dispatcher.uncertain import UncertainDeliveries
from rtdeliver.errors import Unavailable
from rtdeliver.messages import Route
from rtdeliver.model import FrontendRef, Gap, Topic

RED, GREEN, BLUE = (Topic(f"live:{name}") for name in ("red", "green", "blue"))
N1, N2, N3 = (
    FrontendRef(node=node, url=f"http://{node}:8081", incarnation="first")
    for node in ("n1", "n2", "n3")
)


class UncertainDeliveriesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.routes: dict[Topic, Route] = {}
        self.gaps: list[tuple[str, Topic, int]] = []
        self.subject = UncertainDeliveries(
            settings=Deliveries(settle_seconds=1, uncertain_topics=2),
            route=self.route,
            post=self.post,
            has_history=lambda topic: topic.startswith("conv:"),
            clock=self.clock,
        )

    def route(self, topic: Topic) -> Deferred[Route]:
        if topic in self.routes:
            return succeed(self.routes[topic])
        return fail(Unavailable("the table is away"))

    def post(self, frontend: FrontendRef, gap: Gap) -> None:
        self.gaps.append((frontend.node, gap.topic, gap.lost))

    def settled(self, topic: Topic, frontends: Sequence[FrontendRef]) -> list[tuple[str, int]]:
        self.routes[topic] = Route(frontends)
        self.clock.advance(1)
        return sorted((node, lost) for node, of, lost in self.gaps if of == topic)

    def test_a_frontend_that_was_not_sent_the_events_is_sent_a_gap(self) -> None:
        self.subject.note(RED, 2, [N1])
        self.subject.note(RED, 3, [N1])
        self.assertEqual([("n2", 5)], self.settled(RED, [N1, N2]))
        self.assertEqual([0, 5], [sample.value for sample in self.subject.samples()])

    def test_each_frontend_is_told_of_what_it_was_not_sent(self) -> None:
        self.subject.note(RED, 1, [N1])
        self.subject.note(RED, 2, [N1, N2])
        self.subject.note(RED, 4, [])
        self.assertEqual([("n1", 4), ("n2", 5), ("n3", 7)], self.settled(RED, [N1, N2, N3]))

    def test_who_was_sent_all_is_told_nothing(self) -> None:
        self.subject.note(RED, 2, [N1, N2])
        self.assertEqual([], self.settled(RED, [N2]))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_nothing_is_told_before_the_route_is_certain(self) -> None:
        self.subject.note(RED, 1, [])
        self.clock.advance(1)
        self.routes[RED] = Route([N1], certain=False)
        self.clock.advance(1)
        self.assertEqual([], self.gaps)
        self.assertEqual([("n1", 1)], self.settled(RED, [N1]))

    def test_very_many_sets_of_frontends_are_told_too_much_rather_than_too_little(self) -> None:
        crowd = [
            FrontendRef(node=f"m{number}", url="http://m:8081", incarnation="first")
            for number in range(40)
        ]
        for frontend in crowd:
            self.subject.note(RED, 1, [frontend])
        self.assertEqual([("n1", 40)], self.settled(RED, [N1]))

    def test_the_number_of_topics_has_a_bound(self) -> None:
        self.subject.note(RED, 1, [])
        self.subject.note(GREEN, 1, [])
        self.subject.note(GREEN, 1, [])
        with self.assertRaises(Unavailable):
            self.subject.note(BLUE, 1, [])

    def test_it_stops(self) -> None:
        self.subject.note(RED, 1, [])
        self.subject.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
