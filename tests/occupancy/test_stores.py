"""Tests of the stores of occupancy that need no Redis."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.interfaces import IOccupancyStore
from rtdeliver.messages import Announcement
from rtdeliver.model import FrontendRef
from rtdeliver.occupancy.memory import MemoryOccupancyStore
from rtdeliver.occupancy.sharded import ShardedOccupancyStore
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.contracts.contract import fired_with
from tests.contracts.occupancy_store import (
    BLUE,
    GREEN,
    LEASE_SECONDS,
    RED,
    TIMES,
    OccupancyStoreContract,
)

TOPICS = {"red": RED, "green": GREEN, "blue": BLUE}


def announcement(node: str, viewers: dict[str, int]) -> Announcement:
    """What a frontend announces."""
    frontend = FrontendRef(node=node, url=f"http://{node}:8081", incarnation=node)
    counts = {TOPICS[name]: count for name, count in viewers.items()}
    return Announcement(frontend=frontend, counts=counts, lease_seconds=LEASE_SECONDS)


class MemoryOccupancyStoreTests(OccupancyStoreContract, SynchronousTestCase):
    implementation: type = MemoryOccupancyStore

    def make_store(self) -> IOccupancyStore:
        self.clock = Clock()
        self.table = MemoryRoutingTable(clock=self.clock)
        return self.new_store()

    def new_store(self) -> IOccupancyStore:
        return MemoryOccupancyStore(
            routing_table=self.table,
            settings=TIMES,
            clock=self.clock,
            now=lambda: 1_795_417_956 + self.clock.seconds(),
        )

    def announce(self, node: str, **viewers: int) -> None:
        self.get(self.table.apply(announcement(node, viewers)))

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def get(self, deferred: Deferred[Any]) -> Any:
        return fired_with(deferred)


class ShardedOccupancyStoreTests(MemoryOccupancyStoreTests):
    implementation = ShardedOccupancyStore

    def new_store(self) -> IOccupancyStore:
        return ShardedOccupancyStore(
            {name: super(ShardedOccupancyStoreTests, self).new_store() for name in "ab"}
        )

    def test_a_sweep_is_bounded_and_says_when_to_come_again(self) -> None:
        """Each shard has the bound for itself."""
