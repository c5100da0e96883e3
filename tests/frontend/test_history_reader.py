"""Tests of rtdeliver.frontend.history_reader and its cache."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import History
from rtdeliver.errors import RemoteFailure, Unreachable
from rtdeliver.frontend.history_reader import HistoryReader
from rtdeliver.frontend.timed_cache import TimedCache
from rtdeliver.messages import HistoryPage, HistoryQuery
from rtdeliver.metrics import Sample
from rtdeliver.model import BEGINNING, Topic
from tests.fakes import ScriptedDispatcherClient, new_backoff

SETTINGS = History(reads=2, read_queries=3, cache_seconds=3, give_up_seconds=5)
PAGE = HistoryPage(events=(), start=BEGINNING, head=BEGINNING)


def query(number: int) -> HistoryQuery:
    return HistoryQuery(topic=Topic(f"conv:{number}"), limit=0)


class HistoryReaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.client = ScriptedDispatcherClient()
        self.reader = HistoryReader(
            client=self.client, settings=SETTINGS, clock=self.clock, new_backoff=new_backoff
        )

    def read(self, number: int, *, fresh: bool = False) -> Deferred[Any]:
        return self.reader.read(query(number), fresh=fresh)

    def answer(self, place: int, *pages: HistoryPage | None) -> None:
        self.client.readings[place].callback(pages)

    def asked(self) -> list[list[str]]:
        return [[each.topic for each in queries] for queries in self.client.queries]

    def sample(self, name: str) -> float:
        return next(
            s.value for s in self.reader.samples() if isinstance(s, Sample) and s.name == name
        )

    def test_what_is_wanted_at_a_moment_goes_into_one_request(self) -> None:
        first, second = self.read(1), self.read(2)
        self.clock.advance(0)
        self.assertEqual([["conv:1", "conv:2"]], self.asked())
        self.answer(0, PAGE, None)
        self.assertIs(PAGE, self.successResultOf(first))
        self.assertIsNone(self.successResultOf(second))

    def test_requests_and_their_queries_are_bounded(self) -> None:
        readings = [self.read(number) for number in range(10)]
        self.clock.advance(0)
        self.assertEqual([3, 3], [len(queries) for queries in self.asked()])
        self.assertEqual(4, self.sample("history_reads_waiting"))
        self.answer(0, PAGE, PAGE, PAGE)
        self.assertEqual([3, 3, 3], [len(queries) for queries in self.asked()])
        for place, count in ((1, 3), (2, 3), (3, 1)):
            self.answer(place, *[PAGE] * count)
        for reading in readings:
            self.successResultOf(reading)

    def test_no_answer_has_too_many_events(self) -> None:
        for number in range(3):
            self.read(number)
        self.clock.advance(0)
        self.assertEqual({333}, {each.limit for each in self.client.queries[0]})

    def test_who_asks_for_the_same_shares_the_answer(self) -> None:
        first = self.read(1)
        self.clock.advance(0)
        second = self.read(1, fresh=True)
        self.answer(0, PAGE)
        for reading in (first, second, self.read(1)):
            self.assertIs(PAGE, self.successResultOf(reading))
        self.assertEqual(1, len(self.asked()))

    def test_an_answer_is_kept_for_a_while_unless_a_fresh_one_is_wanted(self) -> None:
        self.read(1)
        self.clock.advance(0)
        self.answer(0, PAGE)
        self.clock.advance(2.9)
        self.successResultOf(self.read(1))
        self.assertNoResult(self.read(1, fresh=True))
        self.clock.advance(0)
        self.answer(1, PAGE)
        self.clock.advance(3)
        self.assertNoResult(self.read(1))

    def test_a_failure_is_tried_again_and_told_after_a_while(self) -> None:
        reading = self.read(1)
        self.clock.advance(0)
        self.client.readings[0].errback(Unreachable("no way"))
        self.clock.advance(0.1)
        self.answer(1, PAGE)
        self.assertIs(PAGE, self.successResultOf(reading))

        reading = self.read(2)
        for _ in range(60):
            for waiting in self.client.readings:
                if not waiting.called:
                    waiting.errback(Unreachable("no way"))
            self.clock.advance(0.1)
        self.failureResultOf(reading, RemoteFailure)
        self.assertEqual(1, self.sample("history_reads_failed"))

    def test_an_answer_that_is_not_understood_is_a_failure(self) -> None:
        reading = self.read(1)
        self.clock.advance(0)
        self.answer(0)
        self.assertNoResult(reading)
        self.clock.advance(0.1)
        self.answer(1, PAGE)
        self.successResultOf(reading)

    def test_an_unexpected_error_is_logged_and_told(self) -> None:
        reading = self.read(1)
        self.clock.advance(0)
        self.client.readings[0].errback(ZeroDivisionError("a fault"))
        self.failureResultOf(reading, RemoteFailure)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.read(2)
        self.clock.advance(0)
        self.assertEqual([["conv:1"], ["conv:2"]], self.asked())


class TimedCacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.cache: TimedCache[str, int] = TimedCache(seconds=3, most_bytes=10, clock=self.clock)

    def test_values_are_kept_for_a_while(self) -> None:
        self.cache.put("a", 1, 2)
        self.clock.advance(2)
        self.cache.put("b", 2, 3)
        self.assertEqual((1, 2, 5), (self.cache.get("a"), self.cache.get("b"), self.cache.size))
        self.clock.advance(1)
        self.assertEqual((None, 2, 3), (self.cache.get("a"), self.cache.get("b"), self.cache.size))

    def test_a_new_value_takes_the_place_of_the_old_one(self) -> None:
        self.cache.put("a", 1, 2)
        self.clock.advance(2)
        self.cache.put("a", 5, 4)
        self.clock.advance(2)
        self.assertEqual((5, 4), (self.cache.get("a"), self.cache.size))

    def test_the_oldest_go_where_there_are_too_many_bytes_but_never_the_last(self) -> None:
        for name in "abc":
            self.cache.put(name, 1, 4)
        self.assertEqual((None, 1, 1), tuple(map(self.cache.get, "abc")))
        self.cache.put("large", 1, 100)
        self.assertEqual((1, 100), (self.cache.get("large"), self.cache.size))
