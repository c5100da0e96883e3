"""Latencies, counted and asked for."""

import pickle

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.latency import LatencyHistogram, merged

_MICROSECONDS = st.integers(0, 10**9)
_DAY_MS = 86_400_000


def histogram_of(*values: int) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    return histogram


class LatencyHistogramTests(SynchronousTestCase):
    def test_of_nothing_all_is_zero(self) -> None:
        empty = LatencyHistogram()
        self.assertEqual(
            [len(empty), empty.mean_ms, empty.max_ms, empty.percentile_ms(99)], [0, 0, 0, 0]
        )
        self.assertEqual(empty.curve(), [])

    def test_small_values_are_exact(self) -> None:
        histogram = histogram_of(*range(1, 101))
        self.assertEqual(histogram.percentile_ms(50), 0.050)
        self.assertEqual(histogram.percentile_ms(90), 0.090)
        self.assertEqual(histogram.percentile_ms(99), 0.099)
        self.assertEqual(histogram.percentile_ms(100), 0.100)
        self.assertEqual(histogram.percentile_ms(0), 0.001)

    def test_the_mean_is_exact(self) -> None:
        self.assertEqual(histogram_of(1000, 2001, 3002).mean_ms, 2.001)

    def test_a_value_below_zero_counts_as_zero(self) -> None:
        below = histogram_of(-5)
        self.assertEqual((below.max_ms, below.mean_ms), (0, 0))
        self.assertEqual(histogram_of(-5, 7).percentile_ms(50), 0)

    def test_a_value_above_a_day_is_not_left_out(self) -> None:
        self.assertApproximates(histogram_of(10**15).max_ms, _DAY_MS, _DAY_MS / 100)

    def test_a_count_stands_for_as_many_values(self) -> None:
        histogram = LatencyHistogram()
        histogram.add(10, 99)
        histogram.add(200, 1)
        self.assertEqual(len(histogram), 100)
        self.assertEqual(histogram.percentile_ms(99), 0.010)
        self.assertEqual(histogram.percentile_ms(99.5), 0.200)

    @given(_MICROSECONDS)
    def test_a_value_is_told_within_one_percent_and_not_too_low(self, value: int) -> None:
        histogram = histogram_of(value, 10**9)
        for found in (histogram.percentile_ms(50), histogram_of(value).max_ms):
            self.assertGreaterEqual(found, value / 1000)
            self.assertLessEqual(found, value / 1000 * 1.01)

    @given(st.lists(_MICROSECONDS), st.lists(_MICROSECONDS))
    def test_merged_ones_hold_the_values_of_both(self, some: list[int], others: list[int]) -> None:
        both = merged([histogram_of(*some), histogram_of(*others)])
        self.assertEqual(both.counts, histogram_of(*some, *others).counts)
        self.assertEqual(both.mean_ms, histogram_of(*some, *others).mean_ms)

    def test_it_can_be_sent_to_another_process(self) -> None:
        sent = pickle.loads(pickle.dumps(histogram_of(5, 70_000)))  # noqa: S301
        self.assertEqual(sent.max_ms, histogram_of(70_000).max_ms)
        self.assertEqual(len(sent), 2)

    def test_the_curve_rises_to_the_highest_value(self) -> None:
        curve = histogram_of(*range(10_000)).curve()
        self.assertEqual(curve, sorted(curve))
        self.assertEqual(curve[-1][0], 100)
        self.assertGreaterEqual(curve[-1][1], 9.999)
