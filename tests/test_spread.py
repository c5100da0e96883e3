"""Values with how many times each came."""

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.spread import Spread, quantiles

VALUES = st.lists(st.floats(-1000, 100_000), min_size=1, max_size=50)


class SpreadTests(SynchronousTestCase):
    @given(values=VALUES, share=st.floats(0.001, 1))
    def test_a_percentile_is_right_within_half_a_percent_or_a_twentieth(
        self, values: list[float], share: float
    ) -> None:
        spread = Spread((value, 1) for value in values)
        exact = sorted(values)[max(1, math.ceil(len(values) * share)) - 1]
        self.assertTrue(abs(spread.quantile(share) - exact) <= max(0.051, abs(exact) * 0.00501))

    @given(values=VALUES)
    def test_several_percentiles_are_the_same_as_each_alone(self, values: list[float]) -> None:
        spread = Spread((value, 1) for value in values)
        shares = (0.5, 0.9, 0.99)
        self.assertEqual(
            quantiles(spread.counts, *shares), [spread.quantile(share) for share in shares]
        )

    @given(values=VALUES, others=VALUES)
    def test_spreads_can_be_added(self, values: list[float], others: list[float]) -> None:
        together = Spread((value, 2) for value in values)
        together.add_all(Spread((value, 3) for value in others).items())
        self.assertEqual(len(together), 2 * len(values) + 3 * len(others))

    def test_values_can_be_shifted(self) -> None:
        spread = Spread()
        spread.add_all([(3.0, 2)], shift=-1.5)
        self.assertEqual(spread.items(), ((1.5, 2),))

    def test_without_values_there_is_no_percentile(self) -> None:
        self.assertTrue(math.isnan(Spread().quantile(0.5)))

    def test_the_number_of_different_values_is_bounded(self) -> None:
        spread = Spread((value / 100, 1) for value in range(1_000_000))
        self.assertEqual(len(spread), 1_000_000)
        self.assertLess(len(spread.counts), 4000)
