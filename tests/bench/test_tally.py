"""What streams received, counted."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.chunks import Chunk, first_number
from rtdeliver.bench.latency import LatencyHistogram
from rtdeliver.bench.machine import BenchError
from rtdeliver.bench.tally import STEP_NS, STEPS_PER_SECOND, Continuity, Latencies, Window

SECOND_NS = 1_000_000_000


def continuity(*numbers: int, published: int) -> tuple[int, int, int]:
    """Return what is lost, twice and out of order for a stream that received these."""
    found = Continuity(4)
    found.start(3, 0)
    found.take(3, numbers)
    return found.lost({0: published}), found.twice, found.out_of_order


class ContinuityTests(SynchronousTestCase):
    def test_all_in_order_is_all_well(self) -> None:
        self.assertEqual(continuity(0, 1, 2, published=3), (0, 0, 0))

    def test_what_did_not_come_is_lost_in_between_and_at_either_end(self) -> None:
        self.assertEqual(continuity(2, 3, 6, published=9), (2 + 2 + 2, 0, 0))
        self.assertEqual(continuity(published=9), (9, 0, 0))

    def test_what_comes_late_is_out_of_order_and_not_lost(self) -> None:
        self.assertEqual(continuity(0, 2, 1, 3, published=4), (0, 0, 1))

    def test_what_comes_again_is_counted(self) -> None:
        self.assertEqual(continuity(0, 1, 1, 0, published=2), (0, 2, 0))
        self.assertEqual(continuity(0, 2, 1, 1, published=3), (0, 1, 1))

    @given(st.lists(st.integers(0, 20)))
    def test_every_number_is_counted_as_one_thing(self, numbers: list[int]) -> None:
        lost, twice, _ = continuity(*numbers, published=21)
        self.assertEqual(lost, 21 - len(set(numbers)))
        self.assertEqual(twice, len(numbers) - len(set(numbers)))

    def test_streams_are_apart_and_so_are_topics(self) -> None:
        found = Continuity(2)
        found.start(0, 0)
        found.start(1, 7)
        found.take(0, [0, 1])
        found.take(1, [first_number(7)])
        self.assertEqual(found.lost({0: 2, 7: 1}), 0)
        self.assertEqual(found.lost({0: 3, 7: 3}), 3)

    def test_an_event_of_another_topic_is_refused(self) -> None:
        found = Continuity(1)
        found.start(0, 2)
        with self.assertRaisesRegex(BenchError, "does not watch"):
            found.take(0, [first_number(1)])


def chunk(*dues_ns: int, times: dict[int, int]) -> Chunk:
    made = Chunk(b"")
    made.dues = list(dues_ns)
    made.times = times
    return made


def rounded_ms(microseconds: int) -> float:
    """Return these as a histogram tells them."""
    histogram = LatencyHistogram()
    histogram.add(microseconds)
    return histogram.max_ms


class LatencyTests(SynchronousTestCase):
    def test_each_event_counts_for_each_receipt(self) -> None:
        latencies = Latencies(Window(0, 10))
        step = SECOND_NS // STEP_NS
        latencies.add(chunk(SECOND_NS, SECOND_NS // 2, times={step: 3, step + 4: 5}))
        histogram = latencies.histogram()
        self.assertEqual((latencies.received, latencies.receives, len(histogram)), (16, 8, 16))
        self.assertEqual(histogram.percentile_ms(1), 0.25)
        self.assertEqual(histogram.max_ms, rounded_ms(501_250))

    def test_receipts_are_not_counted_again(self) -> None:
        latencies = Latencies(Window(0, 10))
        received = chunk(SECOND_NS, times={4000: 3})
        latencies.add(received)
        latencies.add(received)
        self.assertEqual(latencies.received, 3)

    def test_only_what_was_due_in_the_window_has_a_latency(self) -> None:
        latencies = Latencies(Window(2 * SECOND_NS, 3))
        dues = [second * SECOND_NS for second in range(7)]
        latencies.add(chunk(*dues, times={6 * STEPS_PER_SECOND: 1}))
        self.assertEqual(latencies.received, 7)
        self.assertEqual(len(latencies.histogram()), 3)

    def test_the_end_of_the_window_may_become_known_later(self) -> None:
        latencies = Latencies(Window(2 * SECOND_NS, 60))
        latencies.end_at(4 * SECOND_NS)
        dues = [second * SECOND_NS for second in range(7)]
        latencies.add(chunk(*dues, times={6 * STEPS_PER_SECOND: 1}))
        self.assertEqual(len(latencies.histogram()), 2)

    def test_what_comes_in_the_window_is_counted_by_seconds(self) -> None:
        latencies = Latencies(Window(2 * SECOND_NS, 3))
        latencies.add(
            chunk(0, 0, times={second * STEPS_PER_SECOND: second for second in range(1, 8)})
        )
        self.assertEqual(latencies.per_second, [4, 6, 8])

    def test_what_comes_after_minutes_counts_as_late_as_can_be(self) -> None:
        latencies = Latencies(Window(0, 1))
        latencies.add(chunk(0, times={1000 * STEPS_PER_SECOND: 1}))
        self.assertEqual(latencies.histogram().max_ms, rounded_ms(120_000_000))
