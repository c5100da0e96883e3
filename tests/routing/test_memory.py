"""Tests of rtdeliver.routing.memory."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.messages import Announcement
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.contracts.routing_table import (
    BLUE,
    GREEN,
    N1,
    N1_AGAIN,
    N2,
    RED,
    RoutingTableContract,
    announcement,
)

TOPICS = [RED, GREEN, BLUE]
FRONTENDS = [N1, N1_AGAIN, N2]


class MemoryRoutingTableTests(RoutingTableContract, SynchronousTestCase):
    """The contract, on a clock that is advanced."""

    implementation = MemoryRoutingTable

    def make_table(self) -> MemoryRoutingTable:
        self.clock = Clock()
        return MemoryRoutingTable(clock=self.clock)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def get(self, deferred: Deferred[Any]) -> Any:
        return self.successResultOf(deferred)


class Seat(msgspec.Struct):
    """What a naive routing table knows of a node."""

    frontend: FrontendRef
    ends_at: float = 0.0
    sequence: int = 0
    known: bool = False
    counts: dict[Topic, int] = {}


class NaiveTable:
    """The contract word by word, searched from one end to the other."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seats: dict[str, Seat] = {}

    def apply(self, told: Announcement) -> bool:
        self._expire()
        seat = self._seats.get(told.frontend.node)
        if seat is None or seat.frontend != told.frontend:
            ends = told.lease_seconds == 0
            if seat is not None and (ends or (told.after and not told.full)):
                return False
            seat = self._seats[told.frontend.node] = Seat(told.frontend)
        if seat.sequence < told.after:
            seat.known = False
        if not 0 < told.sequence <= seat.sequence:
            seat.sequence = max(seat.sequence, told.sequence)
            seat.ends_at = self._clock.seconds() + told.lease_seconds
            seat.known |= told.full
            merged = {**({} if told.full else seat.counts), **told.counts}
            seat.counts = {topic: count for topic, count in merged.items() if count}
        return seat.known

    def forget(self, frontend: FrontendRef) -> None:
        seat = self._seats.get(frontend.node)
        if seat is not None and seat.frontend.incarnation == frontend.incarnation:
            del self._seats[frontend.node]

    def viewers(self, topic: Topic) -> dict[FrontendRef, int]:
        self._expire()
        return {s.frontend: s.counts[topic] for s in self._seats.values() if topic in s.counts}

    def nodes(self) -> list[tuple[FrontendRef, int, int]]:
        self._expire()
        return [
            (seat.frontend, len(seat.counts), sum(seat.counts.values()))
            for _, seat in sorted(self._seats.items())
        ]

    def _expire(self) -> None:
        now = self._clock.seconds()
        self._seats = {node: seat for node, seat in self._seats.items() if seat.ends_at > now}


COUNTS = st.dictionaries(st.sampled_from(TOPICS), st.integers(0, 2))
STEPS = st.one_of(
    st.builds(
        announcement,
        st.sampled_from(FRONTENDS),
        COUNTS,
        full=st.booleans(),
        lease_seconds=st.sampled_from([0.0, 10.0, 30.0]),
        sequence=st.integers(0, 8),
        after=st.integers(0, 4),
    ),
    st.sampled_from([1.0, 9.0, 10.0, 30.0]),
    st.sampled_from(FRONTENDS),
)


class ModelTests(SynchronousTestCase):
    """The routing table beside one that is too simple to be wrong."""

    @settings(deadline=None)
    @given(st.lists(STEPS, max_size=30))
    def test_it_tells_what_a_naive_table_tells(
        self, steps: list[Announcement | float | FrontendRef]
    ) -> None:
        clock = Clock()
        routing_table, naive = MemoryRoutingTable(clock=clock), NaiveTable(clock)
        for step in steps:
            if isinstance(step, Announcement):
                applied = self.successResultOf(routing_table.apply(step))
                self.assertEqual(naive.apply(step), applied.known)
            elif isinstance(step, FrontendRef):
                naive.forget(step)
                self.successResultOf(routing_table.forget(step))
            else:
                clock.advance(step)
            self.compare(routing_table, naive)

    def compare(self, routing_table: MemoryRoutingTable, naive: NaiveTable) -> None:
        for topic in TOPICS:
            expected = naive.viewers(topic)
            frontends = self.successResultOf(routing_table.route(topic)).frontends
            self.assertEqual(set(expected), set(frontends))
            self.assertEqual(
                {frontend.node: count for frontend, count in expected.items()},
                self.successResultOf(routing_table.viewers(topic)),
            )
        nodes = self.successResultOf(routing_table.nodes())
        self.assertEqual(naive.nodes(), [(n.frontend, n.topics, n.viewers) for n in nodes])
