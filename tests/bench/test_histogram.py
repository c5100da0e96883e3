"""Latencies, counted and asked for."""

import pickle

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.histogram import Histogram, merged

_MICROSECONDS = st.integers(0, 10**9)


def histogram_of(*values: int) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


class HistogramTests(SynchronousTestCase):
    def test_of_nothing_all_is_zero(self) -> None:
        empty = Histogram()
        self.assertEqual(
            [len(empty), empty.mean_ms, empty.max_ms, empty.percentile_ms(99)], [0, 0, 0, 0]
        )

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
        self.assertEqual(histogram_of(-5).max_ms, 0)

    def test_a_count_stands_for_as_many_values(self) -> None:
        histogram = Histogram()
        histogram.add(10, 99)
        histogram.add(200, 1)
        self.assertEqual(len(histogram), 100)
        self.assertEqual(histogram.percentile_ms(99), 0.010)
        self.assertEqual(histogram.percentile_ms(99.5), 0.200)

    @given(st.lists(_MICROSECONDS, min_size=1), st.floats(0.1, 100))
    def test_percentiles_are_those_of_the_sorted_values(
        self, values: list[int], percentile: float
    ) -> None:
        rank = max(1, -(-len(values) * percentile // 100))
        true = sorted(values)[int(rank) - 1] / 1000
        found = histogram_of(*values).percentile_ms(percentile)
        self.assertGreaterEqual(found, true)
        self.assertLessEqual(found, true * 1.01)

    @given(st.lists(_MICROSECONDS), st.lists(_MICROSECONDS))
    def test_merged_ones_hold_the_values_of_both(self, some: list[int], others: list[int]) -> None:
        both = merged([histogram_of(*some), histogram_of(*others)])
        self.assertEqual(both.buckets, histogram_of(*some, *others).buckets)
        self.assertEqual(both.mean_ms, histogram_of(*some, *others).mean_ms)

    def test_it_can_be_sent_to_another_process(self) -> None:
        sent = pickle.loads(pickle.dumps(histogram_of(5, 70_000)))  # noqa: S301
        self.assertEqual(sent.max_ms, histogram_of(70_000).max_ms)

    def test_the_curve_rises_to_the_highest_value(self) -> None:
        curve = histogram_of(*range(10_000)).curve()
        self.assertEqual(curve, sorted(curve))
        self.assertEqual(curve[-1][0], 100)
        self.assertGreaterEqual(curve[-1][1], 9.999)
