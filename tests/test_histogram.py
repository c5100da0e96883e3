"""How durations are counted."""

import itertools
import math

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.histogram import BOUNDS, LEAST_SECONDS, MOST_SECONDS, Histogram

SECONDS = st.floats(0, 1000)


class HistogramTests(SynchronousTestCase):
    def test_buckets_reach_from_half_a_millisecond_to_a_minute_in_steps_of_less_than_10_percent(
        self,
    ) -> None:
        self.assertEqual(BOUNDS[0], LEAST_SECONDS)
        self.assertGreaterEqual(BOUNDS[-1], MOST_SECONDS)
        self.assertLess(BOUNDS[-2], MOST_SECONDS)
        for lower, upper in itertools.pairwise(BOUNDS):
            self.assertTrue(lower < upper < lower * 1.1)

    @example(0.0005000000000000001, 1)
    @given(SECONDS | st.sampled_from(BOUNDS), st.integers(1, 1000))
    def test_a_duration_is_in_the_first_bucket_that_ends_at_it_or_later(
        self, seconds: float, times: int
    ) -> None:
        histogram = Histogram()
        histogram.observe(seconds, times)
        ends = [*BOUNDS, math.inf]
        [index] = [index for index, count in enumerate(histogram.counts) if count]
        self.assertEqual(histogram.counts[index], times)
        self.assertLessEqual(seconds, ends[index])
        if index:
            self.assertGreater(seconds, ends[index - 1])
        self.assertEqual(histogram.sum_seconds, seconds * times)

    @given(
        st.lists(st.floats(LEAST_SECONDS, MOST_SECONDS), min_size=1),
        st.sampled_from([0.01, 0.5, 0.9, 0.99, 1]),
    )
    def test_a_quantile_is_right_within_10_percent(self, many: list[float], share: float) -> None:
        histogram = Histogram()
        for seconds in many:
            histogram.observe(seconds)
        exact = sorted(many)[max(1, math.ceil(len(many) * share)) - 1]
        self.assertLessEqual(exact, histogram.quantile(share))
        self.assertLess(histogram.quantile(share), exact * 1.1)

    def test_what_is_longer_than_the_last_bucket_counts_too(self) -> None:
        histogram = Histogram()
        histogram.observe(10_000, 3)
        self.assertEqual(len(histogram), 3)
        self.assertEqual(histogram.quantile(0.5), BOUNDS[-1])

    def test_nothing_has_no_quantile(self) -> None:
        self.assertTrue(math.isnan(Histogram().quantile(0.5)))
