"""The outcome of a benchmark, shown."""

import tempfile
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.report import Report, plot, table, to_json

FANOUT = Report(
    title="fanout",
    settings={"viewers": 10_000},
    figures={"deliveries_per_second": 1_000_123.4, "p90_ms": 84.123456, "lost": 0},
    percentiles={"fanout": [(50.0, 40.0), (99.0, 90.0), (100.0, 120.0)]},
    throughput={"fanout": [(0.0, 900_000.0), (1.0, 1_000_000.0)]},
)
LIMIT = Report(title="limit", settings={"viewers": 10_000, "topics": 1}, figures={"p90_ms": 61.5})


class TableTests(SynchronousTestCase):
    def test_each_figure_has_a_row(self) -> None:
        self.assertEqual(
            table([FANOUT]),
            "                          fanout\n"
            "\n"
            "viewers                   10,000\n"
            "\n"
            "deliveries_per_second  1,000,123\n"
            "p90_ms                     84.12\n"
            "lost                           0\n",
        )

    def test_each_report_has_a_column_whatever_it_found(self) -> None:
        rows = [line.split() for line in table([FANOUT, LIMIT]).splitlines()]
        self.assertEqual(rows[0], ["fanout", "limit"])
        self.assertIn(["viewers", "10,000", "10,000"], rows)
        self.assertIn(["topics", "1"], rows)
        self.assertIn(["p90_ms", "84.12", "61.5"], rows)
        self.assertIn(["lost", "0"], rows)


class JsonTests(SynchronousTestCase):
    def test_nothing_is_left_out(self) -> None:
        self.assertEqual(
            msgspec.json.decode(to_json([FANOUT, LIMIT]), type=list[Report]), [FANOUT, LIMIT]
        )


class PlotTests(SynchronousTestCase):
    def test_the_name_says_what_is_drawn(self) -> None:
        for name, begins in (("plot.svg", b"<?xml"), ("plot.png", b"\x89PNG")):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, name)
                plot([FANOUT, LIMIT], path)
                self.assertEqual(path.read_bytes()[: len(begins)], begins)

    def test_reports_without_curves_can_be_drawn(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "plot.svg")
            plot([LIMIT], path)
            self.assertIn(b"</svg>", path.read_bytes())
