"""Tests of rtdeliver.presence.presence."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Presence as PresenceSettings
from rtdeliver.errors import Unavailable
from rtdeliver.messages import PresenceHeartbeat
from rtdeliver.metrics import Sample
from rtdeliver.model import Member
from rtdeliver.presence.memory import MemoryPresenceStore
from rtdeliver.presence.presence import PresenceTracker
from rtdeliver.wire import Draft

ANN, BOB = Member("ann"), Member("bob")
TIMES = PresenceSettings(grace_seconds=5, claim_seconds=4)
SETTINGS = PresenceSettings(batch_members=2)
GONE_SECONDS = 40.0


class Viewer:
    """Sees what is published, each topic and id once; or nothing, while it cannot be published."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.batches: list[int] = []
        self.away = False
        self._ids: set[tuple[str, str | None]] = set()

    async def publish(self, drafts: Sequence[Draft]) -> None:
        if self.away:
            raise Unavailable("the routing table cannot be reached")
        self.batches.append(len(drafts))
        for draft in drafts:
            if (draft.topic, draft.id) not in self._ids:
                self._ids.add((draft.topic, draft.id))
                data = json.loads(draft.data)
                assert draft.topic == f"presence:{data['member']}"
                assert draft.type == "presence"
                self.seen.append((data["member"], data["status"]))

    def of(self, member: Member) -> list[str]:
        return [status for name, status in self.seen if name == member]


def sample_value(samples: list[Sample], name: str, **labels: str) -> float:
    """Return the one value with this name and these labels."""
    [value] = [
        sample.value
        for sample in samples
        if sample.name == name and labels.items() <= dict(sample.labels).items()
    ]
    return value


class AwayStore(MemoryPresenceStore):
    """Can be out of reach."""

    away = False

    def heartbeat(self, heartbeat: PresenceHeartbeat) -> Deferred[Any]:
        return fail(Unavailable("Redis is away")) if self.away else super().heartbeat(heartbeat)

    def sweep(self, limit: int) -> Deferred[Any]:
        return fail(Unavailable("Redis is away")) if self.away else super().sweep(limit)


class PresenceTrackerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_417_956)
        self.store = AwayStore(settings=TIMES, clock=self.clock, now=self.clock.seconds)
        self.viewer = Viewer()
        self.tracker = self.new_tracker()
        self.tracker.start()
        self.addCleanup(self.tracker.stop)
        # What was before the start is not its concern any more.
        self.pass_time(SETTINGS.heartbeat_seconds + SETTINGS.grace_seconds)

    def new_tracker(self) -> PresenceTracker:
        return PresenceTracker(
            store=self.store, publish=self.viewer.publish, settings=SETTINGS, clock=self.clock
        )

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.25] * round(seconds * 4))

    def beat(self, *members: Member) -> None:
        self.successResultOf(self.beating(*members))

    def beating(self, *members: Member) -> Deferred[None]:
        heartbeat = PresenceHeartbeat(members=members, heartbeat_seconds=30)
        return Deferred.fromCoroutine(self.tracker.heartbeat(heartbeat))

    def test_who_comes_is_published_at_once_all_in_one_batch(self) -> None:
        self.beat(ANN, BOB)
        self.assertEqual(self.viewer.seen, [("ann", "online"), ("bob", "online")])
        self.assertEqual(self.viewer.batches, [2])

    def test_who_is_gone_is_published_once_when_it_is_due(self) -> None:
        self.beat(ANN, BOB)
        self.pass_time(30)
        self.beat(BOB)
        self.pass_time(9.5)
        self.assertEqual(self.viewer.of(ANN), ["online"])
        self.pass_time(1)
        self.assertEqual(self.viewer.of(ANN), ["online", "offline"])
        self.pass_time(600)
        self.assertEqual(self.viewer.of(ANN), ["online", "offline"])
        self.assertEqual(self.viewer.of(BOB), ["online", "offline"])

    def test_it_is_looked_at_when_the_next_is_due_not_at_the_next_sweep_only(self) -> None:
        self.tracker.stop()
        slow = PresenceSettings(
            sweep_seconds=60, batch_members=2, heartbeat_seconds=0, grace_seconds=0
        )
        self.tracker = PresenceTracker(
            store=self.store, publish=self.viewer.publish, settings=slow, clock=self.clock
        )
        self.beat(ANN)
        self.tracker.start()
        self.addCleanup(self.tracker.stop)
        self.clock.advance(60)
        self.beat(BOB)
        self.clock.pump([1.0] * 61)
        self.assertEqual(self.viewer.of(BOB), ["online", "offline"])

    def test_more_than_one_step_of_members_are_all_published(self) -> None:
        members = [Member(f"m{number}") for number in range(7)]
        self.beat(*members)
        self.pass_time(GONE_SECONDS + 1)
        for member in members:
            self.assertEqual(self.viewer.of(member), ["online", "offline"])

    def test_what_could_not_be_published_is_published_after_its_claim(self) -> None:
        self.viewer.away = True
        self.beat(ANN)
        self.assertEqual(sample_value(self.tracker.samples(), "presence_changes_failed"), 1)
        self.viewer.away = False
        self.pass_time(TIMES.claim_seconds + 1)
        self.assertEqual(self.viewer.seen, [("ann", "online")])

    def test_heartbeats_fail_while_the_store_is_away(self) -> None:
        self.store.away = True
        self.failureResultOf(self.beating(ANN), Unavailable)

    def test_nobody_is_gone_until_heartbeats_could_come_in_again(self) -> None:
        self.beat(ANN)
        self.pass_time(20)
        self.store.away = True
        self.pass_time(25)
        self.store.away = False
        self.pass_time(30)
        self.assertEqual(self.viewer.of(ANN), ["online"])
        self.beat(ANN)
        self.pass_time(39)
        self.assertEqual(self.viewer.of(ANN), ["online"])
        self.pass_time(3)
        self.assertEqual(self.viewer.of(ANN), ["online", "offline"])

    def test_a_fault_does_not_end_the_sweeps(self) -> None:
        self.beat(ANN)
        self.patch(self.store, "sweep", lambda _: fail(ZeroDivisionError()))
        self.pass_time(5)
        self.assertGreater(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        del self.store.sweep
        self.pass_time(GONE_SECONDS)
        self.assertEqual(self.viewer.of(ANN), ["online", "offline"])

    def test_nothing_happens_after_the_stop(self) -> None:
        self.beat(ANN)
        self.tracker.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_heartbeats_and_changes_are_counted(self) -> None:
        self.beat(ANN, BOB)
        self.beat(ANN)
        self.pass_time(GONE_SECONDS + 1)
        samples = self.tracker.samples()
        self.assertEqual(sample_value(samples, "presence_heartbeats"), 3)
        self.assertEqual(sample_value(samples, "presence_changes", status="online"), 2)
        self.assertEqual(sample_value(samples, "presence_changes", status="offline"), 2)


class NoGhostTests(SynchronousTestCase):
    """Several dispatchers, streams that come and go, and dispatchers that die at any point."""

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("connect"), st.sampled_from([ANN, BOB])),
                st.tuples(st.just("disconnect"), st.sampled_from([ANN, BOB])),
                st.tuples(st.just("pass"), st.sampled_from([0.1, 3, 9.5, 31, 45])),
                st.tuples(st.just("crash"), st.sampled_from(["before publish", "after publish"])),
                st.tuples(st.just("away"), st.booleans()),
            ),
            max_size=25,
        )
    )
    @settings(max_examples=150, deadline=None)
    def test_after_all_streams_have_ended_offline_comes_once_for_each_online(
        self, steps: list[tuple[str, Any]]
    ) -> None:
        world = World()
        for step, argument in steps:
            world.do(step, argument)
            world.check()
        world.do("away", False)
        for member in (ANN, BOB):
            while world.streams[member]:
                world.do("disconnect", member)
        # The last heartbeat, its end, and the claims of some who died.
        world.do("pass", 120)
        world.check()
        for member in (ANN, BOB):
            statuses = world.viewer.of(member)
            self.assertEqual(statuses, ["online", "offline"] * (len(statuses) // 2))
            if member in world.came:
                self.assertGreaterEqual(len(statuses), 2)


class World:
    """Two dispatchers with one store, and frontends that send heartbeats for their members."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_417_956)
        self.store = MemoryPresenceStore(settings=TIMES, clock=self.clock, now=self.clock.seconds)
        self.viewer = Viewer()
        self.streams = {ANN: 0, BOB: 0}
        self.came: set[Member] = set()
        self._next_beat = {ANN: 0.0, BOB: 0.0}
        self._crashes: list[str] = []
        self.trackers = [self._new_tracker(), self._new_tracker()]
        self._turn = 0

    def do(self, step: str, argument: Any) -> None:
        if step == "connect":
            self.streams[argument] += 1
            if self.streams[argument] == 1:
                self._beat(argument)
        elif step == "disconnect":
            self.streams[argument] = max(0, self.streams[argument] - 1)
        elif step == "pass":
            for _ in range(round(argument * 10)):
                self.clock.advance(0.1)
                for member, streams in self.streams.items():
                    if streams and self.clock.seconds() >= self._next_beat[member]:
                        self._beat(member)
        elif step == "crash":
            self._crashes.append(argument)
        else:
            self.viewer.away = argument

    def check(self) -> None:
        for member in (ANN, BOB):
            statuses = self.viewer.of(member)
            assert statuses == (["online", "offline"] * len(statuses))[: len(statuses)], statuses

    def _beat(self, member: Member) -> None:
        """Send a heartbeat to one of the dispatchers."""
        self._turn += 1
        self._next_beat[member] = self.clock.seconds() + 30
        if not self.viewer.away:
            self.came.add(member)
        heartbeat = PresenceHeartbeat(members=(member,), heartbeat_seconds=30)
        tracker = self.trackers[self._turn % 2]
        done = Deferred.fromCoroutine(tracker.heartbeat(heartbeat))
        assert done.called

    def _new_tracker(self) -> PresenceTracker:
        tracker = PresenceTracker(
            store=self.store,
            publish=self._publish,
            settings=PresenceSettings(batch_members=10, heartbeat_seconds=0, grace_seconds=0),
            clock=self.clock,
        )
        tracker.start()
        return tracker

    async def _publish(self, drafts: Sequence[Draft]) -> None:
        crash = self._crashes.pop() if self._crashes else None
        if crash == "before publish":
            # As far as others can see, a publish that nobody answers for is a dead dispatcher.
            raise Unavailable("it died")
        await self.viewer.publish(drafts)
        if crash == "after publish":
            raise Unavailable("it died")
