"""Which events belong to a sample."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.sampling import TypeSamples, is_sampled

IDS = [f"1795417956553-{number}-k2x9qa" for number in range(100_000)]


class SamplingTests(SynchronousTestCase):
    def test_the_share_of_a_sample_is_as_told(self) -> None:
        for one_in in (1, 2, 10, 100):
            sampled = sum(is_sampled(id, one_in) for id in IDS)
            self.assertTrue(0.9 <= sampled * one_in / len(IDS) <= 1.1, (one_in, sampled))

    def test_a_sample_of_none_is_empty(self) -> None:
        self.assertFalse(any(is_sampled(id, 0) for id in IDS))

    @given(id=st.text(min_size=1), one_in=st.integers(1, 1000), fewer=st.integers(0, 1000))
    def test_each_sample_holds_every_smaller_one(self, id: str, one_in: int, fewer: int) -> None:
        if is_sampled(id, one_in + fewer):
            self.assertTrue(is_sampled(id, one_in))

    @given(id=st.text(min_size=1), default=st.integers(0, 5), likes=st.integers(0, 5))
    def test_a_type_has_a_sample_of_its_own(self, id: str, default: int, likes: int) -> None:
        samples = TypeSamples(default, {"like": likes})
        self.assertEqual(samples.has(id, "like"), is_sampled(id, likes))
        self.assertEqual(samples.has(id, "comment"), is_sampled(id, default))
        if samples.has(id, "like") or samples.has(id, "comment"):
            self.assertTrue(samples.may_have(id))
