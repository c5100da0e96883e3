"""What is made of a measured load, for reports and comparisons."""

import argparse
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench import compare
from rtdeliver.bench.events import Published
from rtdeliver.bench.latency import LatencyHistogram
from rtdeliver.bench.load import Load, Measured, add_load_arguments, load_of
from rtdeliver.bench.reading import Outcome

LOAD = Load(viewers=10, rate=5.0, seconds=4, warmup_seconds=1, topics=1, data_bytes=100, readers=0)


def measured(
    *, rate: float = 5.0, per_second: int = 50, lost: int = 0, ended: int = 0,
    latest_ms: int = 90, unpublished: int = 0,
) -> Measured[Published]:  # fmt: skip
    load = msgspec.structs.replace(LOAD, rate=rate)
    latency = LatencyHistogram()
    latency.add(1000, 99)
    latency.add(latest_ms * 1000)
    return Measured(
        load=load,
        outcome=Outcome(
            received=240,
            receives=120,
            lost=lost,
            twice=0,
            out_of_order=0,
            gaps=0,
            ended=ended,
            per_second=[per_second] * 4,
            latency=latency,
        ),
        published=Published({0: load.schedule().events - unpublished}, 0.005),
        cpu_seconds={"frontend": 2.0, "readers": 1.0, "producer": 0.5},
    )


class LoadTests(SynchronousTestCase):
    def test_options_make_a_load(self) -> None:
        parser = argparse.ArgumentParser()
        add_load_arguments(parser)
        load = load_of(parser.parse_args(["--viewers", "7", "--bytes", "50"]))
        self.assertEqual((load.viewers, load.data_bytes, load.rate), (7, 50, 100))

    def test_events_are_due_in_the_warm_up_too(self) -> None:
        self.assertEqual(LOAD.schedule().events, 25)

    def test_topics_of_a_run_are_its_own(self) -> None:
        topics = msgspec.structs.replace(LOAD, topics=3).schedule().topics
        self.assertEqual(len(set(topics)), 3)


class FigureTests(SynchronousTestCase):
    def test_shares_are_of_one_processor_in_the_measured_seconds(self) -> None:
        figures = measured().figures()
        self.assertEqual(figures["frontend_cpu_share"], 0.5)
        self.assertEqual(figures["generator_cpu_share"], 0.375)
        self.assertEqual(figures["deliveries_per_second"], 50)
        self.assertEqual(figures["events_per_receive"], 2)
        self.assertEqual(figures["publish_late_max_ms"], 5)

    def test_what_was_not_published_is_told(self) -> None:
        self.assertEqual(measured(unpublished=3).figures()["unpublished"], 3)


class CompareTests(SynchronousTestCase):
    def test_a_rate_is_sustained_if_all_comes_in_time(self) -> None:
        self.assertTrue(compare.is_sustained(measured()))
        faults: list[dict[str, Any]] = [
            {"lost": 1}, {"ended": 1}, {"latest_ms": 2100}, {"unpublished": 1},
        ]  # fmt: skip
        for fault in faults:
            self.assertFalse(compare.is_sustained(measured(**fault)), fault)

    def test_the_best_rate_is_one_that_all_rounds_sustained(self) -> None:
        figures = compare.figures(
            {
                5.0: [measured(), measured(per_second=40)],
                10.0: [measured(rate=10.0, per_second=90), measured(rate=10.0, lost=4)],
            }
        )
        self.assertEqual(figures["sustained_rate"], 5)
        self.assertEqual(figures["sustained_deliveries_per_second"], 45)
        self.assertEqual(figures["highest_deliveries_per_second"], 70)
        self.assertEqual(figures["lost_at_10"], 2)

    def test_a_server_may_sustain_nothing(self) -> None:
        figures = compare.figures({5.0: [measured(lost=1)]})
        self.assertEqual(
            (figures["sustained_rate"], figures["sustained_deliveries_per_second"]), (0, 0)
        )
