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
from tests.contracts.presence_store import TIMES, PresenceStoreContract


class MemoryPresenceStoreTests(PresenceStoreContract, SynchronousTestCase):
    implementation: type = MemoryPresenceStore

    def make_store(self) -> IPresenceStore:
        self.clock = Clock()
        self.clock.advance(1_795_417_956)
        return MemoryPresenceStore(settings=TIMES, clock=self.clock)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def get(self, deferred: Deferred[Any]) -> Any:
        return self.successResultOf(deferred)


class ShardedPresenceStoreTests(MemoryPresenceStoreTests):
    implementation = ShardedPresenceStore

    def make_store(self) -> IPresenceStore:
        self.clock = Clock()
        self.clock.advance(1_795_417_956)
        self.shards = {
            name: MemoryPresenceStore(settings=TIMES, clock=self.clock)
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
