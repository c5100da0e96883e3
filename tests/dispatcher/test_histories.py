"""Topics with history at a dispatcher: stored first, then delivered, by whoever lives."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.dispatcher.dispatcher import Dispatcher, Published
from rtdeliver.errors import BadEvent, Unavailable, Unreachable
from rtdeliver.messages import END, Announcement, HistoryQuery
from rtdeliver.metrics import Sample
from rtdeliver.model import Event, FrontendRef, Gap, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.wire import Draft
from tests.fakes import (
    HISTORY,
    ScriptedFrontendClient,
    ScriptedPeerClient,
    memory_history,
    new_dispatcher,
)

CONV, LIKES = Topic("conv:1"), Topic("live:red")
N1 = FrontendRef(node="n1", url="http://n1:8081", incarnation="first")


def prompt() -> ScriptedFrontendClient:
    """Frontends that take everything at once."""
    frontends = ScriptedFrontendClient()
    frontends.answer_at_once = True
    return frontends


class HistoriesTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.table = MemoryRoutingTable(clock=self.clock)
        self.history = memory_history(self.clock)
        self.frontends = prompt()
        self.peer = ScriptedPeerClient()
        self.peer.answer_at_once = True
        self.dispatcher = self.start(self.frontends)
        announcement = Announcement(
            frontend=N1, counts={CONV: 1, LIKES: 1}, full=True, lease_seconds=10_000
        )
        self.get(self.dispatcher.announce(announcement))

    def start(self, frontends: ScriptedFrontendClient, history: Any = None) -> Dispatcher:
        dispatcher = new_dispatcher(
            self.clock,
            self.table,
            frontends,
            peers={"west": self.peer},
            history=history or self.history,
        )
        dispatcher.start()
        return dispatcher

    def get(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def publish(self, *topics: Topic, id: str | None = None) -> list[Published]:
        drafts = [Draft(topic=topic, type="m", data=b"1", id=id) for topic in topics]
        published: list[Published] = self.get(self.dispatcher.publish(drafts))
        self.clock.advance(0)
        return published

    def delivered(self, frontends: ScriptedFrontendClient | None = None) -> list[Any]:
        return [item for _, batch in (frontends or self.frontends).deliveries for item in batch]

    def forwarded(self) -> list[Any]:
        return [item for batch in self.peer.forwards for item in batch]

    def stored(self) -> Sequence[Event]:
        query = HistoryQuery(topic=CONV, before=END, limit=100)
        [page] = self.successResultOf(self.history.read([query]))
        assert page is not None
        return page.events

    def sample(self, name: str, dispatcher: Dispatcher | None = None) -> float:
        return sum(
            sample.value
            for sample in (dispatcher or self.dispatcher).samples()
            if isinstance(sample, Sample) and sample.name == name
        )


class PublishTests(HistoriesTestCase):
    def test_an_event_is_stored_and_delivered_with_its_position(self) -> None:
        published = self.publish(LIKES, CONV)
        self.assertEqual([False, False], [each.repeated for each in published])
        self.assertEqual(["", self.stored()[0].position], [e.event.position for e in published])
        self.assertEqual([each.event for each in published], self.delivered())

    def test_peers_get_it_without_a_position_and_give_it_their_own(self) -> None:
        self.publish(CONV, LIKES)
        forwarded = self.forwarded()
        self.assertEqual([CONV, LIKES], [event.topic for event in forwarded])
        self.assertEqual(["", ""], [event.position for event in forwarded])
        self.assertNotIn(b"position", forwarded[0].line)

    def test_an_id_that_comes_again_goes_nowhere(self) -> None:
        [first] = self.publish(CONV, id="mine")
        [again] = self.publish(CONV, id="mine")
        self.assertEqual(Published(first.event, repeated=True), again)
        self.assertEqual(1, len(self.delivered()))
        self.assertEqual(1, len(self.forwarded()))
        self.assertEqual(1, self.sample("stored_before"))

    def test_what_a_peer_forwards_is_stored_once_with_a_place_of_its_own(self) -> None:
        event = self.forwarded_elsewhere()
        for _ in range(2):
            self.get(self.dispatcher.deliver_local([event, Gap(topic=CONV, lost=2)]))
            self.clock.advance(0)
        self.assertEqual([event.id], [each.id for each in self.stored()])
        events = [item for item in self.delivered() if isinstance(item, Event)]
        self.assertEqual(list(self.stored()), events)
        gaps = [item for item in self.delivered() if isinstance(item, Gap)]
        self.assertEqual([False, False], [gap.stored for gap in gaps])
        self.assertEqual([], self.forwarded())

    def forwarded_elsewhere(self) -> Event:
        other = new_dispatcher(
            self.clock,
            MemoryRoutingTable(clock=self.clock),
            ScriptedFrontendClient(),
            history=memory_history(self.clock),
        )
        draft = Draft(topic=CONV, type="m", data=b"1", id="there")
        [published] = self.get(other.publish([draft]))
        assert published.event.position
        event: Event = published.event
        return event

    def test_a_position_in_the_midst_of_a_line_is_refused(self) -> None:
        event = Event(
            topic=CONV, id="x", line=b'{"position":"1-1-0000000000000000","id":"x"}', position="1-1"
        )
        self.failureResultOf(
            Deferred.fromCoroutine(self.dispatcher.deliver_local([event])), BadEvent
        )

    def test_a_store_that_is_away_publishes_nothing(self) -> None:
        self.patch(self.history, "append", lambda _: fail(Unavailable("away")))
        drafts = [Draft(topic=topic, type="m", data=b"1", id=None) for topic in (CONV, LIKES)]
        self.failureResultOf(Deferred.fromCoroutine(self.dispatcher.publish(drafts)), Unavailable)
        self.clock.advance(0)
        self.assertEqual([], self.delivered())
        self.assertEqual([], self.forwarded())

    def test_without_histories_nothing_is_stored_read_or_told(self) -> None:
        plain = new_dispatcher(self.clock, self.table, ScriptedFrontendClient())
        [event] = self.get(plain.publish([Draft(topic=CONV, type="m", data=b"1", id=None)]))
        self.assertEqual("", event.event.position)
        self.assertEqual([None], self.get(plain.read_history([HistoryQuery(topic=CONV, limit=1)])))
        self.assertEqual(0, self.get(plain.clear_history(CONV)))
        announcement = Announcement(frontend=N1, counts={CONV: 1}, full=True, lease_seconds=9)
        self.assertIsNone(self.get(plain.announce(announcement)).heads)


class ClaimTests(HistoriesTestCase):
    """A dispatcher dies, or cannot deliver."""

    def other(self) -> tuple[Dispatcher, ScriptedFrontendClient]:
        frontends = prompt()
        return self.start(frontends), frontends

    def pass_claims(self) -> None:
        self.clock.pump([0.5] * round(2 * HISTORY.claim_seconds + 4))

    def test_what_is_delivered_is_delivered_by_nobody_else(self) -> None:
        _, frontends = self.other()
        self.publish(CONV)
        self.pass_claims()
        self.assertEqual([], self.delivered(frontends))
        self.assertEqual(0, self.sample("history_claims"))

    def test_another_one_delivers_and_forwards_what_was_stored_only(self) -> None:
        def die(*_: object) -> Any:
            raise Unavailable("as if it had died")

        other, frontends = self.other()
        self.patch(self.dispatcher, "_deliver", die)
        self.get(self.dispatcher.flush(0))
        draft = Draft(topic=CONV, type="m", data=b"1", id=None)
        [published] = self.get(self.dispatcher.publish([draft]))
        self.assertTrue(published.event.position, "202 means stored")
        self.peer.forwards.clear()
        self.pass_claims()
        self.assertEqual([published.event], self.delivered(frontends))
        self.assertIn(published.event.id, [event.id for event in self.forwarded()])
        self.assertEqual(1, self.sample("history_swept", other))

    def test_what_waits_for_a_frontend_is_left_to_others_after_a_while(self) -> None:
        self.frontends.answer_at_once = False
        self.publish(CONV)
        self.pass_claims()
        self.assertEqual(1, self.sample("history_left"))
        # It may be the one that takes it over itself.
        self.assertEqual(1, self.sample("history_swept"))

    def test_a_frontend_that_fails_keeps_no_claim(self) -> None:
        _, frontends = self.other()
        self.frontends.answer_at_once = False
        self.publish(CONV)
        self.frontends.answers[0].errback(Unreachable("no way"))
        self.pass_claims()
        self.assertEqual([], self.delivered(frontends))

    def test_a_store_that_is_away_meanwhile_stops_nothing(self) -> None:
        self.publish(CONV)
        self.patch(self.history, "mark_delivered", lambda _: fail(Unavailable("away")))
        self.patch(self.history, "overdue", lambda _: fail(Unavailable("away")))
        self.pass_claims()
        self.assertEqual(1, self.sample("history_left"))
        self.publish(CONV)
        self.assertEqual(2, len(self.delivered()))

    def test_a_fault_is_logged_and_the_next_sweep_comes(self) -> None:
        self.patch(self.history, "overdue", lambda _: fail(ZeroDivisionError("a fault")))
        self.clock.pump([1] * 3)
        self.assertGreaterEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
