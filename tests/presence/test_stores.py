"""Tests of the stores of presence that need no Redis."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.interfaces import IPresenceStore
from rtdeliver.messages import PresenceHeartbeat
from rtdeliver.model import Member
from rtdeliver.presence.memory import MemoryPresenceStore
from rtdeliver.presence.sharded import ShardedPresenceStore
from tests.contracts.presence_store import ANN, GONE_SECONDS, TIMES, PresenceStoreContract


class MemoryPresenceStoreTests(PresenceStoreContract, SynchronousTestCase):
    implementation: type = MemoryPresenceStore

    def make_store(self) -> IPresenceStore:
        self.clock = Clock()
        self.wall = Clock()
        self.wall.advance(1_795_417_956)
        return MemoryPresenceStore(settings=TIMES, clock=self.clock, now=self.wall.seconds)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall.advance(seconds)

    def get(self, deferred: Deferred[Any]) -> Any:
        return self.successResultOf(deferred)

    def test_the_wall_clock_does_not_decide_how_long_a_member_is_online(self) -> None:
        for change_seconds in (-3600, 7200):
            with self.subTest(change_seconds=change_seconds):
                self.come(ANN)
                self.wall.advance(change_seconds)
                self.assertEqual(self.sweep(), [])
                self.advance(GONE_SECONDS - 1)
                self.assertEqual(self.sweep(), [])
                self.advance(1)
                gone = self.sweep()
                self.assertEqual([change.status for change in gone], ["offline"])
                self.tell(gone)

    def test_the_wall_clock_does_not_decide_how_long_a_claim_lasts(self) -> None:
        lost = self.beat(ANN)
        self.wall.advance(-3600)
        self.advance(TIMES.claim_seconds - 0.1)
        self.assertEqual(self.sweep(), [])
        self.advance(0.1)
        self.assertEqual(self.sweep(), lost)

    def test_a_heartbeat_is_shown_with_the_time_of_the_wall_clock(self) -> None:
        self.come(ANN)
        self.wall.advance(-3600)
        self.beat(ANN)
        [presence] = self.get(self.store.presence([ANN]))
        self.assertEqual(presence.heartbeat_at, (1_795_417_956 - 3600) * 1000)


class ShardedPresenceStoreTests(MemoryPresenceStoreTests):
    implementation = ShardedPresenceStore

    def make_store(self) -> IPresenceStore:
        self.clock = Clock()
        self.wall = Clock()
        self.wall.advance(1_795_417_956)
        self.shards = {
            name: MemoryPresenceStore(settings=TIMES, clock=self.clock, now=self.wall.seconds)
            for name in ("r1", "r2", "r3")
        }
        return ShardedPresenceStore(self.shards)

    def test_a_sweep_is_bounded_and_says_when_to_come_again(self) -> None:
        """Each shard has the bound for itself."""
        members = tuple(Member(f"m{number}") for number in range(100))
        self.come(*members)
        self.advance(41)
        swept = self.successResultOf(self.store.sweep(5))
        assert len(swept.changes) == 15
        assert swept.next_seconds == 0

    def test_members_are_spread_over_all_shards(self) -> None:
        members = tuple(Member(f"m{number}") for number in range(100))
        self.store.heartbeat(PresenceHeartbeat(members=members, heartbeat_seconds=30))
        for shard in self.shards.values():
            there = self.successResultOf(shard.presence(members))
            self.assertGreater(sum(presence.online for presence in there), 10)
