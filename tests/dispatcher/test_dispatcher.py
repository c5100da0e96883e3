"""Tests of rtdeliver.dispatcher.dispatcher."""

import json
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.dispatcher.dispatcher import Dispatcher, Published, TopicStatus
from rtdeliver.errors import StaleIncarnation, Unavailable, Unreachable
from rtdeliver.messages import Acknowledgement, Announcement, NodeStatus, Route
from rtdeliver.model import Event, FrontendRef, Gap, Item, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.wire import Draft
from tests.fakes import (
    FailingRoutingTable,
    ScriptedFrontendClient,
    ScriptedPeerClient,
    new_dispatcher,
)

RED, GREEN, BLUE = (Topic(f"live:{name}") for name in ("red", "green", "blue"))
N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")
N2 = FrontendRef(node="n2", url="http://10.0.0.6:8081", incarnation="other")


def draft(topic: Topic, number: int = 0, id: str | None = None) -> Draft:
    return Draft(topic=topic, type="like", data=b"%d" % number, id=id)


def announcement(
    frontend: FrontendRef, counts: Mapping[Topic, int], *, lease_seconds: float = 30
) -> Announcement:
    return Announcement(frontend=frontend, counts=counts, full=True, lease_seconds=lease_seconds)


async def stop(dispatcher: Dispatcher) -> None:
    """End a dispatcher, with five seconds for what waits."""
    await dispatcher.flush(5)
    await dispatcher.stop()


class SwitchableRoutingTable(MemoryRoutingTable):
    """Cannot be reached for some topics, or not at all."""

    away = False
    away_for: tuple[Topic, ...] = ()

    def route(self, topic: Topic) -> Deferred[Route]:
        if self.away or topic in self.away_for:
            return fail(Unavailable("the table is away"))
        return super().route(topic)

    def nodes(self) -> Deferred[Sequence[NodeStatus]]:
        return fail(Unavailable("the table is away")) if self.away else super().nodes()

    def forget(self, frontend: FrontendRef) -> Deferred[None]:
        return fail(Unavailable("the table is away")) if self.away else super().forget(frontend)


class WatchingPeerClient(ScriptedPeerClient):
    """Notes how many deliveries there were before each forward."""

    def __init__(self, frontends: ScriptedFrontendClient) -> None:
        super().__init__()
        self.deliveries_before: list[int] = []
        self._frontends = frontends

    def forward(self, batch: Sequence[Item]) -> Deferred[None]:
        self.deliveries_before.append(len(self._frontends.deliveries))
        return super().forward(batch)


class DispatcherTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_417_956.553)
        self.routing_table = SwitchableRoutingTable(clock=self.clock)
        self.client = ScriptedFrontendClient()
        self.client.answer_at_once = True
        self.wall = Clock()
        self.wall.advance(1_795_417_956.553)
        self.dispatcher = new_dispatcher(
            self.clock, self.routing_table, self.client, now=self.wall.seconds
        )

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        return Deferred.fromCoroutine(coroutine)

    def announce(self, frontend: FrontendRef, counts: Mapping[Topic, int]) -> None:
        self.successResultOf(self.begin(self.dispatcher.announce(announcement(frontend, counts))))

    def publish(self, *drafts: Draft) -> list[Event]:
        published: list[Published] = self.successResultOf(
            self.begin(self.dispatcher.publish(drafts))
        )
        events = [each.event for each in published]
        self.clock.advance(0)
        return events

    def delivered(self) -> dict[str, list[str]]:
        """The ids that each node got, in order."""
        got: dict[str, list[str]] = {}
        for frontend, batch in self.client.deliveries:
            got.setdefault(frontend.node, []).extend(
                item.id for item in batch if isinstance(item, Event)
            )
        return got

    def samples(self) -> dict[str, float]:
        return {
            ".".join([sample.name, *sample.labels.values()]): sample.value
            for sample in self.dispatcher.samples()
        }


class PublishTests(DispatcherTestCase):
    """Events are accepted, and go where they have viewers."""

    def test_events_go_to_the_frontends_with_viewers_and_to_no_other(self) -> None:
        self.announce(N1, {RED: 2, GREEN: 1})
        self.announce(N2, {RED: 1})
        self.publish(draft(RED, id="r"), draft(GREEN, id="g"), draft(BLUE, id="b"))
        self.assertEqual({"n1": ["r", "g"], "n2": ["r"]}, self.delivered())

    def test_events_keep_their_order(self) -> None:
        self.announce(N1, {RED: 1, GREEN: 1})
        first = [draft((RED, GREEN)[n % 2], id=str(n)) for n in range(50)]
        self.publish(*first)
        self.publish(draft(RED, id="50"))
        self.assertEqual({"n1": [str(n) for n in range(51)]}, self.delivered())

    def test_after_the_wall_clock_is_set_back_at_follows_it_and_ids_go_on(self) -> None:
        events = self.publish(draft(RED))
        self.wall.advance(-3600)
        events += self.publish(draft(RED), draft(RED))
        self.assertEqual(
            [1795417956553, 1795414356553, 1795414356553],
            [json.loads(event.line)["at"] for event in events],
        )
        self.assertEqual(
            ["1795417956553-0", "1795417956553-1", "1795417956553-2"],
            [event.id.rpartition("-")[0] for event in events],
        )

    def test_an_event_is_one_line_made_once(self) -> None:
        self.announce(N1, {RED: 1})
        self.announce(N2, {RED: 1})
        [event] = self.publish(draft(RED, 7))
        self.assertEqual(
            {"topic": RED, "type": "like", "id": event.id, "at": 1795417956553, "data": 7},
            json.loads(event.line),
        )
        self.assertEqual([(N1, [event]), (N2, [event])], self.client.deliveries)
        for _, [delivered] in self.client.deliveries:
            self.assertIs(event, delivered)

    def test_an_id_that_was_given_is_kept(self) -> None:
        given_id, made_id = (event.id for event in self.publish(draft(RED, id="mine"), draft(RED)))
        self.assertEqual("mine", given_id)
        self.assertTrue(made_id.startswith("1795417956553-"), made_id)

    def test_the_events_are_told_in_the_order_of_the_drafts(self) -> None:
        events = self.publish(draft(GREEN, id="1"), draft(RED, id="2"), draft(GREEN, id="3"))
        self.assertEqual(["1", "2", "3"], [event.id for event in events])

    def test_an_event_without_viewers_is_accepted(self) -> None:
        self.assertEqual(1, len(self.publish(draft(RED))))
        self.assertEqual({}, self.delivered())

    def test_nothing_is_published_when_the_table_cannot_be_reached(self) -> None:
        self.announce(N1, {RED: 1, GREEN: 1})
        self.routing_table.away_for = (GREEN,)
        self.failureResultOf(
            self.begin(self.dispatcher.publish([draft(RED), draft(GREEN)])), Unavailable
        )
        self.clock.advance(10)
        self.assertEqual({}, self.delivered())
        self.assertEqual(0, self.samples()["published"])
        self.publish(draft(RED, id="1"))
        self.assertEqual({"n1": ["1"]}, self.delivered())

    def test_what_was_published_is_counted(self) -> None:
        self.publish(draft(RED), draft(GREEN))
        self.publish(draft(RED))
        self.assertEqual(3, self.samples()["published"])


class PeersTests(DispatcherTestCase):
    """What is published here goes to other datacenters, and what comes from there does not."""

    def setUp(self) -> None:
        super().setUp()
        self.peer = ScriptedPeerClient()
        self.dispatcher = new_dispatcher(
            self.clock, self.routing_table, self.client, {"dc2": self.peer}
        )

    def test_every_event_is_forwarded_with_viewers_here_or_without(self) -> None:
        self.announce(N1, {RED: 1})
        events = self.publish(draft(RED, id="1"), draft(GREEN, id="2"), draft(RED, id="3"))
        self.assertEqual([events], self.peer.forwards)
        for event, forwarded in zip(events, self.peer.forwards[0], strict=True):
            self.assertIs(event, forwarded)

    def test_a_peer_that_does_not_answer_changes_nothing_here(self) -> None:
        self.announce(N1, {RED: 1})
        for error in (None, Unreachable("refused")):
            self.publish(draft(RED, id="1"))
            if error:
                self.peer.answers.pop().errback(error)
            self.assertEqual({"n1": ["1"]}, self.delivered())
            self.client.deliveries.clear()
        self.assertEqual(2, self.samples()["published"])

    def test_delivery_here_begins_before_the_forward(self) -> None:
        peer = WatchingPeerClient(self.client)
        self.dispatcher = new_dispatcher(self.clock, self.routing_table, self.client, {"dc2": peer})
        self.announce(N1, {RED: 1})
        self.publish(draft(RED))
        self.assertEqual([1], peer.deliveries_before)

    def test_nothing_is_forwarded_of_what_is_not_published(self) -> None:
        self.routing_table.away = True
        self.failureResultOf(self.begin(self.dispatcher.publish([draft(RED)])), Unavailable)
        self.clock.advance(10)
        self.assertEqual([], self.peer.forwards)

    def test_what_a_peer_forwards_is_delivered_here_and_goes_no_further(self) -> None:
        self.announce(N1, {RED: 1})
        event = Event(topic=RED, id="1", line=b"{}")
        other = Event(topic=GREEN, id="2", line=b"{}")
        self.successResultOf(self.begin(self.dispatcher.deliver_local([event, other])))
        self.clock.advance(10)
        self.assertEqual([(N1, [event])], self.client.deliveries)
        self.assertEqual([], self.peer.forwards)
        self.assertEqual(0, self.samples()["published"])

    def test_what_a_peer_lost_is_told_to_the_frontends_with_viewers(self) -> None:
        self.announce(N1, {RED: 1})
        self.announce(N2, {GREEN: 1})
        gap, event = Gap(topic=RED, lost=3), Event(topic=RED, id="1", line=b"{}")
        self.successResultOf(self.begin(self.dispatcher.deliver_local([gap, event])))
        self.clock.advance(10)
        self.assertEqual([(N1, [gap, event])], self.client.deliveries)
        self.assertEqual(0, self.samples()["dropped.dispatcher.link_full"])


class AnnounceTests(DispatcherTestCase):
    """Frontends tell of their viewers."""

    def test_a_frontend_that_is_not_known_is_asked_for_all(self) -> None:
        partly = Announcement(frontend=N1, counts={RED: 1}, lease_seconds=20)
        self.assertEqual(
            Acknowledgement(lease_seconds=20, full=True),
            self.successResultOf(self.begin(self.dispatcher.announce(partly))),
        )
        self.assertEqual(
            Acknowledgement(lease_seconds=30, full=False),
            self.successResultOf(self.begin(self.dispatcher.announce(announcement(N1, {RED: 1})))),
        )

    def test_a_lease_of_0_takes_the_frontend_out(self) -> None:
        self.announce(N1, {RED: 1})
        self.announce(N2, {RED: 1})
        last = self.dispatcher.announce(announcement(N1, {}, lease_seconds=0))
        self.assertEqual(Acknowledgement(lease_seconds=0), self.successResultOf(self.begin(last)))
        self.publish(draft(RED, id="1"))
        self.assertEqual({"n2": ["1"]}, self.delivered())

    def test_a_table_that_cannot_be_reached_is_told(self) -> None:
        dispatcher = new_dispatcher(self.clock, FailingRoutingTable(), self.client)
        for told in (announcement(N1, {RED: 1}), announcement(N1, {}, lease_seconds=0)):
            self.failureResultOf(self.begin(dispatcher.announce(told)), Unavailable)

    def test_who_watches_a_topic_is_told(self) -> None:
        self.announce(N2, {RED: 3})
        self.announce(N1, {RED: 12})
        self.assertEqual(
            TopicStatus(topic=RED, viewers=15, frontends=["n1", "n2"]),
            self.successResultOf(self.begin(self.dispatcher.topic(RED))),
        )
        self.assertEqual(
            TopicStatus(topic=BLUE, viewers=0, frontends=[]),
            self.successResultOf(self.begin(self.dispatcher.topic(BLUE))),
        )

    def test_the_frontends_are_told(self) -> None:
        self.announce(N1, {RED: 12, GREEN: 1})
        [node] = self.successResultOf(self.dispatcher.nodes())
        self.assertEqual(NodeStatus(frontend=N1, topics=2, viewers=13, lease_seconds_left=30), node)

    def test_it_is_ready_with_a_table_in_memory(self) -> None:
        self.assertEqual([], self.dispatcher.missing())


class LinkTests(DispatcherTestCase):
    """What becomes of the ways to the frontends."""

    def test_a_frontend_whose_place_another_process_took_is_forgotten(self) -> None:
        self.client.answer_at_once = False
        self.announce(N1, {RED: 1})
        self.publish(draft(RED))
        self.client.answers[0].errback(StaleIncarnation("another process runs here"))
        self.assertEqual([], self.successResultOf(self.dispatcher.nodes()))
        self.publish(draft(RED))
        self.assertEqual(1, len(self.client.deliveries))
        self.assertEqual(1, self.samples()["dropped.dispatcher.stale_incarnation"])

    def test_what_cannot_be_forgotten_is_logged(self) -> None:
        self.client.answer_at_once = False
        self.announce(N1, {RED: 1})
        self.publish(draft(RED))
        self.routing_table.away = True
        with capturedLogs() as logged:
            self.client.answers[0].errback(StaleIncarnation("another process runs here"))
        self.assertIn(
            "n1 could not be removed from the routing table", " ".join(map(formatEvent, logged))
        )

    def test_a_frontend_that_cannot_be_reached_is_not_forgotten(self) -> None:
        self.client.answer_at_once = False
        self.announce(N1, {RED: 1})
        self.publish(draft(RED, id="1"))
        self.client.answers[0].errback(Unreachable("refused"))
        self.clock.advance(1)
        self.client.answers[1].callback(None)
        self.assertEqual({"n1": ["1", "1"]}, self.delivered())
        self.assertEqual(1, len(self.successResultOf(self.dispatcher.nodes())))

    def test_links_to_frontends_whose_lease_has_ended_are_closed(self) -> None:
        self.dispatcher.start()
        self.announce(N1, {RED: 1})
        self.announce(N2, {RED: 1})
        self.publish(draft(RED))
        for _ in range(8):
            self.clock.advance(5)
            self.announce(N2, {RED: 1})
        self.assertEqual(1, self.samples()["links"])
        self.publish(draft(RED, id="1"))
        self.assertEqual("n2", self.client.deliveries[-1][0].node)

    def test_a_table_that_is_away_closes_no_links(self) -> None:
        self.dispatcher.start()
        self.announce(N1, {RED: 1})
        self.publish(draft(RED))
        self.routing_table.away = True
        self.clock.pump([5] * 4)
        self.assertEqual(1, self.samples()["links"])
        self.routing_table.away = False
        self.clock.pump([5] * 4)
        self.assertEqual(0, self.samples()["links"])


class StopTests(DispatcherTestCase):
    """A dispatcher that ends."""

    def setUp(self) -> None:
        super().setUp()
        self.client.answer_at_once = False
        self.dispatcher.start()
        self.announce(N1, {RED: 1})

    def test_what_waits_is_delivered_first(self) -> None:
        self.publish(draft(RED, id="1"))
        self.publish(draft(RED, id="2"))
        stopped = self.begin(stop(self.dispatcher))
        for _ in range(2):
            self.clock.pump([0.1] * 5)
            self.assertNoResult(stopped)
            self.client.answers.pop(0).callback(None)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual({"n1": ["1", "2"]}, self.delivered())
        self.assertEqual(0, self.samples()["links"])
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_what_cannot_be_delivered_in_time_is_dropped(self) -> None:
        self.publish(draft(RED))
        self.publish(draft(RED))
        stopped = self.begin(stop(self.dispatcher))
        self.clock.pump([0.1] * 48)
        self.assertNoResult(stopped)
        self.clock.pump([0.1] * 4)
        self.successResultOf(stopped)
        self.assertEqual(1, self.samples()["dropped.dispatcher.closed"])
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_what_waits_for_a_peer_is_forwarded_within_the_same_time(self) -> None:
        for answered in (True, False):
            peer = ScriptedPeerClient()
            self.dispatcher = new_dispatcher(
                self.clock, self.routing_table, self.client, {"dc2": peer}
            )
            self.client.answer_at_once = True
            self.publish(draft(RED, id="1"))
            self.publish(draft(RED, id="2"))
            stopped = self.begin(stop(self.dispatcher))
            self.clock.pump([0.1] * 20)
            self.assertNoResult(stopped)
            if answered:
                peer.answers[0].callback(None)
                self.clock.pump([0.1] * 2)
                peer.answers[1].callback(None)
                self.clock.pump([0.1] * 2)
            else:
                self.clock.pump([0.1] * 32)
            self.successResultOf(stopped)
            samples = self.samples()
            self.assertEqual(2 if answered else 0, samples["forwarded.dc2"])
            self.assertEqual(0 if answered else 1, samples["dropped.dispatcher.peer_closed"])

    def test_with_nothing_waiting_it_stops_at_once(self) -> None:
        self.successResultOf(self.begin(stop(self.dispatcher)))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_one_that_was_not_started_stops(self) -> None:
        dispatcher = new_dispatcher(self.clock, self.routing_table, self.client)
        self.successResultOf(self.begin(stop(dispatcher)))
