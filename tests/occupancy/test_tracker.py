"""Tests of rtdeliver.occupancy.tracker."""

import json
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Topics
from rtdeliver.errors import Unavailable
from rtdeliver.messages import Announcement
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.occupancy.memory import MemoryOccupancyStore
from rtdeliver.occupancy.tracker import OccupancyTracker
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.wire import Draft

RED, GREEN, CHAT = Topic("live:red"), Topic("live:green"), Topic("chat")
LEASE_SECONDS = 30
SETTINGS = Topics(
    occupancy=("live:*", "occupancy:*"), recheck_seconds=10, sweep_seconds=1, claim_seconds=4
)


class World:
    """Dispatchers that share a table and a store, and what they publish."""

    def __init__(self, trackers: int = 1, occupancy: Topics = SETTINGS) -> None:
        self.clock = Clock()
        self.table = MemoryRoutingTable(clock=self.clock)
        self.store = MemoryOccupancyStore(
            routing_table=self.table,
            settings=occupancy,
            clock=self.clock,
            now=lambda: 1_795_417_956 + self.clock.seconds(),
        )
        self.told: list[Draft] = []
        self.away = False
        self.trackers = [
            OccupancyTracker(
                store=self.store,
                publish=self.publish,
                settings=occupancy,
                lease_seconds=LEASE_SECONDS,
                clock=self.clock,
            )
            for _ in range(trackers)
        ]
        for tracker in self.trackers:
            tracker.start()
        self.clock.pump([1] * (LEASE_SECONDS + 1))

    async def publish(self, drafts: Sequence[Draft]) -> None:
        if self.away:
            raise Unavailable("the table is away")
        self.told += drafts

    def announce(self, tracker: int, node: str, counts: dict[Topic, int]) -> None:
        frontend = FrontendRef(node=node, url=f"http://{node}:8081", incarnation=node)
        told = Announcement(frontend=frontend, counts=counts, lease_seconds=LEASE_SECONDS)
        self.table.apply(told)
        self.trackers[tracker].note(counts)
        self.clock.advance(0)

    def statuses(self) -> list[tuple[str, str]]:
        return [(draft.topic, draft.type) for draft in self.told]


class OccupancyTrackerTests(SynchronousTestCase):
    def test_changes_of_matching_topics_are_told_once(self) -> None:
        world = World(trackers=2)
        own = Topic("occupancy:live:red")
        world.announce(0, "n1", {RED: 1, CHAT: 1, own: 1})
        world.announce(1, "n2", {RED: 2})
        world.announce(0, "n1", {RED: 0})
        world.announce(1, "n2", {RED: 0})
        world.clock.pump([1] * 30)
        self.assertEqual(
            [("occupancy:live:red", "occupied"), ("occupancy:live:red", "vacated")],
            world.statuses(),
        )
        self.assertEqual({"topic": RED}, json.loads(world.told[0].data))

    def test_a_topic_whose_frontend_died_is_vacated_after_its_lease(self) -> None:
        world = World()
        world.announce(0, "n1", {RED: 1})
        world.clock.pump([1] * (LEASE_SECONDS - 1))
        self.assertEqual(1, len(world.told))
        world.clock.pump([1] * 12)
        self.assertEqual(("occupancy:live:red", "vacated"), world.statuses()[-1])

    def test_what_could_not_be_published_is_published_later_with_the_same_id(self) -> None:
        world = World()
        world.away = True
        world.announce(0, "n1", {RED: 1})
        world.clock.pump([1] * 3)
        world.away = False
        world.clock.pump([1] * 10)
        self.assertEqual([("occupancy:live:red", "occupied")], world.statuses())

    def test_what_a_dispatcher_left_is_published_by_another(self) -> None:
        world = World(trackers=2)
        world.trackers[0].stop()
        changes = world.store.check([RED], may_vacate=True)
        world.announce(1, "n1", {})
        self.successResultOf(changes)
        frontend = FrontendRef(node="n1", url="http://n1:8081", incarnation="n1")
        world.table.apply(Announcement(frontend=frontend, counts={RED: 1}, lease_seconds=60))
        [left] = self.successResultOf(world.store.check([RED], may_vacate=True)).changes
        world.clock.pump([1] * 6)
        self.assertEqual([left.id], [draft.id for draft in world.told])

    def test_after_an_outage_no_topic_is_vacated_before_leases_could_be_renewed(self) -> None:
        world = World()
        world.announce(0, "n1", {RED: 1})
        world.away = True
        world.announce(0, "n2", {GREEN: 1})
        world.clock.pump([1] * 5)
        world.away = False
        world.clock.pump([1] * (LEASE_SECONDS - 2))
        self.assertNotIn(("occupancy:live:red", "vacated"), world.statuses())

    def test_a_process_that_stood_still_vacates_nothing_before_leases_are_renewed(
        self,
    ) -> None:
        world = World()
        world.announce(0, "n1", {RED: 1})
        world.clock.pump([1] * 3)
        world.clock.advance(60)
        world.announce(0, "n1", {RED: 1})
        world.clock.pump([1] * 20)
        self.assertEqual([("occupancy:live:red", "occupied")], world.statuses())

    def test_a_name_that_is_too_long_is_counted(self) -> None:
        world = World()
        world.announce(0, "n1", {Topic("live:" + "x" * 1018): 1, RED: 1})
        self.assertEqual([("occupancy:live:red", "occupied")], world.statuses())
        counts = {sample.name: sample.value for sample in world.trackers[0].samples()}
        self.assertEqual(1, counts["occupancy_too_long"])

    def test_without_patterns_nothing_happens(self) -> None:
        world = World(occupancy=Topics())
        world.announce(0, "n1", {RED: 1})
        self.assertEqual([], world.told)
        self.assertEqual([], world.clock.getDelayedCalls())

    @settings(deadline=None, max_examples=100)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.sampled_from(["n1", "n2"]),
                st.sampled_from([RED, GREEN]),
                st.integers(0, 2),
                st.sampled_from([0, 0, 1, 5, 35]),
                st.booleans(),
            ),
            max_size=30,
        )
    )
    def test_what_was_told_last_is_what_holds(
        self, steps: list[tuple[int, str, Topic, int, int, bool]]
    ) -> None:
        world = World(trackers=2)
        for tracker, node, topic, viewers, seconds, away in steps:
            world.away = away
            world.announce(tracker, node, {topic: viewers})
            world.clock.pump([1] * seconds)
        world.away = False
        world.clock.pump([1] * (2 * LEASE_SECONDS + 20))
        last = {draft.topic: draft.type for draft in world.told}
        for topic in (RED, GREEN):
            occupied = bool(self.successResultOf(world.table.viewers(topic)))
            told = last.get(Topic(f"occupancy:{topic}"), "vacated")
            self.assertEqual("occupied" if occupied else "vacated", told)
        for topic in (RED, GREEN):
            ids = [d.id for d in world.told if d.topic == f"occupancy:{topic}"]
            self.assertEqual(len(ids), len(set(ids)))
