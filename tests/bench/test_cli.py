"""The command's options and its exit status."""

import contextlib
import io
import sys
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.cli import BENCHMARKS, main


def run(*arguments: str) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr of a command that ends before it measures."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = int(end.code or 0)
    return status, out.getvalue(), err.getvalue()


class CliTests(SynchronousTestCase):
    def assert_refused(self, *arguments: str, why: str) -> None:
        status, out, err = run(*arguments)
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err.count("\n"), 1, err)
        self.assertIn(why, err)

    def test_the_help_names_every_benchmark(self) -> None:
        status, out, err = run("--help")
        self.assertEqual((status, err), (0, ""))
        for benchmark in BENCHMARKS:
            self.assertIn(benchmark.NAME, out)

    def test_every_benchmark_tells_its_options(self) -> None:
        self.assertIn("fanout", {benchmark.NAME for benchmark in BENCHMARKS})
        for benchmark in BENCHMARKS:
            status, out, _ = run(benchmark.NAME, "--help")
            self.assertEqual(status, 0)
            self.assertIn("--json", out)
            self.assertIn("--plot", out)

    def test_a_wrong_option_is_told_in_one_line(self) -> None:
        self.assert_refused(why="BENCHMARK")
        self.assert_refused("dance", why="invalid choice")
        self.assert_refused("limit", "--viewers", "many", why="--viewers")
        self.assert_refused("limit", "--rate", "0", why="0 is not a positive number")

    def test_a_plot_needs_a_name_that_says_its_format(self) -> None:
        self.assert_refused("limit", "--plot", "plot.jpg", why=".svg or .png")
        self.assert_refused("limit", "--plot", "/nowhere/plot.svg", why="no such folder")

    def test_what_an_extra_brings_is_asked_for_before_anything_is_measured(self) -> None:
        with mock.patch.dict(sys.modules, {"hdrh": None}):
            self.assert_refused("limit", why="pip install '.[bench]'")

    def test_limits_that_are_too_low_are_told_in_one_line(self) -> None:
        self.assert_refused("limit", "--viewers", "100000000000", why="ulimit -n")

    def test_roles_are_named_all_or_none(self) -> None:
        self.assert_refused("fanout", "--dispatcher", "http://127.0.0.1:1", why="or none")

    def test_another_machine_is_not_measured_by_mistake(self) -> None:
        urls = [
            word
            for name in ("dispatcher", "frontend", "frontend-metrics")
            for word in (f"--{name}", "http://192.0.2.1:1")
        ]
        self.assert_refused("fanout", *urls, why="--allow-remote")
