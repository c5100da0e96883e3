"""The contract of IOccupancyStore, for every implementation."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from rtdeliver.config.sections import Topics
from rtdeliver.interfaces import IOccupancyStore
from rtdeliver.messages import OccupancyChange
from rtdeliver.model import Topic
from tests.contracts.contract import Contract

RED, GREEN, BLUE = (Topic(f"live:{name} \u2603") for name in ("red", "green", "blue"))
TIMES = Topics(occupancy=("live:*",), recheck_seconds=10, claim_seconds=4)
LEASE_SECONDS = 30


class OccupancyStoreContract(Contract):
    """To be mixed into a test case, which says how a store is made and how time passes."""

    interface = IOccupancyStore
    store: IOccupancyStore

    def make_store(self) -> IOccupancyStore:
        """Return an empty store with `TIMES`."""
        raise NotImplementedError

    def announce(self, node: str, **viewers: int) -> None:
        """Let a frontend announce viewers of red, green or blue, and renew its lease."""
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Let so much time pass for the store and for leases."""
        raise NotImplementedError

    def get(self, deferred: Deferred[Any]) -> Any:
        """Return what ``deferred`` fires with, or raise what it fails with."""
        raise NotImplementedError

    def subject(self) -> IOccupancyStore:
        return self.store

    def setUp(self) -> None:
        self.store = self.make_store()

    def check(self, *topics: Topic, may_vacate: bool = True) -> list[OccupancyChange]:
        return list(self.get(self.store.check(topics, may_vacate=may_vacate)).changes)

    def sweep(self, limit: int = 100, *, may_vacate: bool = True) -> list[OccupancyChange]:
        return list(self.get(self.store.sweep(limit, may_vacate=may_vacate)).changes)

    def tell(self, changes: Sequence[OccupancyChange]) -> None:
        self.get(self.store.mark_published(changes))

    def statuses(self, changes: Sequence[OccupancyChange]) -> list[tuple[Topic, str]]:
        return [(change.topic, change.status) for change in changes]

    def occupy(self, node: str = "n1") -> None:
        """Let red be occupied, and that be told."""
        self.announce(node, red=1)
        self.tell(self.check(RED))

    def test_nothing_is_there_at_first(self) -> None:
        assert self.check(RED) == []
        assert self.sweep() == []
        assert self.get(self.store.sweep(10, may_vacate=True)).next_seconds is None

    def test_the_first_viewer_and_the_last_one_are_changes_and_others_are_not(self) -> None:
        self.announce("n1", red=1, green=3)
        changes = self.check(RED, GREEN, BLUE)
        assert self.statuses(changes) == [(RED, "occupied"), (GREEN, "occupied")]
        self.tell(changes)
        self.announce("n1", red=2)
        self.announce("n2", red=5)
        assert self.check(RED, GREEN) == []
        self.announce("n1", red=0)
        assert self.check(RED) == []
        self.announce("n2", red=0)
        vacated = self.check(RED)
        assert self.statuses(vacated) == [(RED, "vacated")]
        assert vacated[0].at > changes[0].at
        self.tell(vacated)
        assert self.check(RED) == []
        self.announce("n2", red=1)
        assert self.statuses(self.check(RED)) == [(RED, "occupied")]

    def test_a_change_is_given_to_one_caller_and_to_the_next_if_that_one_dies(self) -> None:
        self.announce("n1", red=1)
        first = self.check(RED)
        assert self.check(RED) == []
        assert self.sweep() == []
        self.advance(TIMES.claim_seconds + 0.1)
        assert self.sweep() == first
        assert self.sweep() == []
        self.tell(first)
        self.advance(TIMES.claim_seconds + 0.1)
        assert self.sweep() == []

    def test_while_a_change_is_being_published_the_opposite_one_waits(self) -> None:
        self.announce("n1", red=1)
        occupied = self.check(RED)
        self.announce("n1", red=0)
        assert self.check(RED) == []
        assert self.sweep() == []
        self.tell(occupied)
        vacated = self.sweep()
        assert self.statuses(vacated) == [(RED, "vacated")]
        assert vacated[0].at > occupied[0].at
        self.tell(vacated)
        assert self.sweep() == []

    def test_of_a_change_that_nobody_published_and_its_opposite_the_last_counts(self) -> None:
        self.occupy()
        self.announce("n1", red=0)
        self.check(RED)
        self.announce("n1", red=1)
        self.advance(TIMES.claim_seconds + 0.1)
        self.announce("n1", red=1)
        assert self.statuses(self.sweep()) == [(RED, "occupied")]

    def test_each_change_is_later_than_the_one_before_also_when_all_are_told_at_once(self) -> None:
        changes = []
        for viewers in (1, 0, 1, 0):
            self.announce("n1", red=viewers)
            [change] = self.check(RED)
            self.tell([change])
            changes.append(change)
        assert sorted({change.at for change in changes}) == [change.at for change in changes]
        self.advance(TIMES.recheck_seconds + 0.1)
        assert self.sweep() == []
        assert self.get(self.store.sweep(10, may_vacate=True)).next_seconds is None

    def test_a_topic_whose_frontend_died_is_found_by_a_sweep(self) -> None:
        self.occupy("n1")
        self.announce("n2", green=1)
        self.tell(self.check(GREEN))
        for _ in range(4):
            self.advance(TIMES.recheck_seconds)
            self.announce("n2", green=1)
            found = self.sweep()
        assert self.statuses(found) == [(RED, "vacated")]

    def test_a_topic_that_goes_on_is_not_told_of_again(self) -> None:
        self.occupy()
        for _ in range(5):
            self.advance(TIMES.recheck_seconds)
            self.announce("n1", red=1)
            assert self.sweep() == []

    def test_while_leases_are_unsure_no_topic_is_vacated(self) -> None:
        self.occupy()
        self.announce("n1", red=0)
        assert self.check(RED, may_vacate=False) == []
        self.advance(TIMES.recheck_seconds + 0.1)
        assert self.sweep(may_vacate=False) == []
        self.announce("n1", green=1)
        assert self.statuses(self.check(GREEN, may_vacate=False)) == [(GREEN, "occupied")]
        self.advance(TIMES.recheck_seconds + 0.1)
        assert (RED, "vacated") in self.statuses(self.sweep())

    def test_a_sweep_is_bounded_and_says_when_to_come_again(self) -> None:
        self.announce("n1", red=1, green=1, blue=1)
        self.tell(self.check(RED, GREEN, BLUE))
        assert self.sweep() == []
        swept = self.get(self.store.sweep(2, may_vacate=True))
        assert TIMES.recheck_seconds - 2 < swept.next_seconds <= TIMES.recheck_seconds
        self.advance(LEASE_SECONDS + 0.1)
        assert len(self.sweep(2)) == 2
        assert self.get(self.store.sweep(1, may_vacate=False)).next_seconds is not None
        assert len(self.sweep(2)) <= 1

    def test_very_many_topics_are_looked_at(self) -> None:
        self.announce("n1", red=1)
        others = [Topic(f"live:{number}") for number in range(1200)]
        assert self.statuses(self.check(*others, RED)) == [(RED, "occupied")]
