"""How counts and durations have been over the last minutes."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.histogram import Histogram
from rtdeliver.status.history import HISTORY_SECONDS, LastMinute, Rates


class RatesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.count = 1000
        self.rates = Rates({"sent": lambda: self.count})

    def grow(self, *by: int) -> None:
        for growth in by:
            self.count += growth
            self.rates.tick()

    def test_before_the_first_second_there_is_no_rate(self) -> None:
        self.assertEqual(self.rates.per_second(), {"sent": 0.0})
        self.assertEqual(self.rates.history(), {"sent": []})

    def test_the_rate_is_that_of_the_last_five_seconds(self) -> None:
        self.grow(900, 1, 2, 3, 4, 6)
        self.assertEqual(self.rates.per_second(), {"sent": 3.2})

    def test_the_history_has_each_of_the_last_seconds(self) -> None:
        self.grow(7, *range(HISTORY_SECONDS))
        self.assertEqual(self.rates.history(), {"sent": list(range(HISTORY_SECONDS))})


class LastMinuteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.histogram = Histogram()
        self.histogram.observe(50, 1000)
        self.minute = LastMinute({"sent": self.histogram})

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.minute.tick()

    def test_what_was_counted_before_does_not_count(self) -> None:
        self.assertEqual(
            self.minute.tell(),
            {"sent": {"count": 0, "p50_ms": None, "p90_ms": None, "p99_ms": None}},
        )

    def test_percentiles_are_told_in_milliseconds(self) -> None:
        self.histogram.observe(0.010, 95)
        self.histogram.observe(0.100, 5)
        told = self.minute.tell()["sent"]
        self.assertEqual(told["count"], 100)
        self.assertTrue(10 <= told["p50_ms"] <= 11 and 10 <= told["p90_ms"] <= 11)
        self.assertTrue(100 <= told["p99_ms"] <= 110)

    def test_after_a_minute_a_duration_is_forgotten(self) -> None:
        self.wait(10)
        self.histogram.observe(0.010, 5)
        self.wait(49)
        self.assertEqual(self.minute.tell()["sent"]["count"], 5)
        self.wait(11)
        self.assertEqual(self.minute.tell()["sent"]["count"], 0)
