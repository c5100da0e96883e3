"""Tests of the histories that need no Redis."""

from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import HistoryClass
from rtdeliver.history.classes import HistoryClasses
from rtdeliver.history.memory import MemoryHistory
from rtdeliver.history.sharded import ShardedHistory
from rtdeliver.interfaces import IHistory
from rtdeliver.messages import LOST_UNKNOWN, HistoryPage, HistoryQuery
from rtdeliver.model import Topic
from tests.contracts.contract import fired_with
from tests.contracts.history import LONG_AGO, SETTINGS, HistoryContract, entries


class MemoryHistoryTests(HistoryContract, SynchronousTestCase):
    implementation: type = MemoryHistory

    def make_history(self) -> IHistory:
        self.clock = Clock()
        history = self.new_history()
        self.advance(LONG_AGO)
        return history

    def new_history(self) -> IHistory:
        return MemoryHistory(
            classes=HistoryClasses(SETTINGS.topics),
            settings=SETTINGS,
            clock=self.clock,
            now=lambda: self.now() / 1000,
        )

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def now(self) -> int:
        return 1_795_417_956_000 + round(1000 * self.clock.seconds())

    def get(self, deferred: Deferred[Any]) -> Any:
        return fired_with(deferred)


class ShardedHistoryTests(MemoryHistoryTests):
    implementation = ShardedHistory
    stores = 2

    def new_history(self) -> IHistory:
        return ShardedHistory(
            {name: super(ShardedHistoryTests, self).new_history() for name in "ab"}
        )


class BoundTests(SynchronousTestCase):
    """What is in memory is bounded."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.history = MemoryHistory(
            classes=HistoryClasses(SETTINGS.topics),
            settings=replace(SETTINGS, memory_bytes=20_000),
            clock=self.clock,
            now=lambda: 1_795_417_956 + self.clock.seconds(),
        )

    def read(self, topic: Topic, at: int) -> HistoryPage:
        query = HistoryQuery(topic=topic, at=at, limit=100)
        [page] = fired_with(self.history.read([query]))
        assert page is not None
        return page

    def test_the_topics_that_had_no_event_for_longest_go_and_that_is_told(self) -> None:
        topics = [Topic(f"conv:{number}") for number in range(60)]
        self.clock.advance(100)
        for topic in topics:
            fired_with(self.history.append(entries(1, topic=topic)))
            self.clock.advance(1)
        now = round(1000 * (1_795_417_956 + self.clock.seconds()))
        first, last = (self.read(topic, now - 70_000) for topic in (topics[0], topics[-1]))
        self.assertEqual((0, LOST_UNKNOWN), (len(first.events), first.lost))
        self.assertEqual(1, len(last.events))

    def test_a_topic_that_had_no_event_for_long_is_forgotten(self) -> None:
        fired_with(self.history.append(entries(1, topic=Topic("brief:1"))))
        self.clock.advance(10_000)
        fired_with(self.history.overdue(10))
        self.assertEqual({}, dict(self.history._logs))


class ClassesTests(SynchronousTestCase):
    def test_the_first_pattern_that_matches_counts(self) -> None:
        few, many = HistoryClass(events=1, seconds=1), HistoryClass(events=2, seconds=2)
        classes = HistoryClasses({"conv:a*": few, "conv:*": many})
        for _ in range(2):
            self.assertIs(few, classes.of(Topic("conv:ann")))
            self.assertIs(many, classes.of(Topic("conv:bob")))
            self.assertIsNone(classes.of(Topic("live:red")))
        self.assertTrue(classes)
        self.assertFalse(HistoryClasses({}))
        self.assertIsNone(HistoryClasses({}).of(Topic("conv:ann")))
