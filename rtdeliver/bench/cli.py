"""The ``rtbench`` command: its options, and where it writes the reports."""

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn, Protocol

from rtdeliver.bench import compare, fanout, hold, limit, publish, route
from rtdeliver.bench.machine import BenchError
from rtdeliver.bench.progress import Progress
from rtdeliver.bench.report import Report, plot, table, to_json


class Benchmark(Protocol):
    """A module with one benchmark."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace, progress: Progress) -> list[Report]: ...


BENCHMARKS: tuple[Benchmark, ...] = (fanout, limit, hold, publish, route, compare)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; return 0, or 1 after a line that says why the benchmark failed."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    progress = Progress(sys.stderr, quiet=options.quiet)
    try:
        _check_installed()
        _check_plot(options.plot)
        reports = options.run(options, progress)
        progress.close()
        _write(reports, options)
    except BenchError as error:
        return _fail(progress, str(error))
    except OSError as error:
        return _fail(progress, f"{error}")
    except KeyboardInterrupt:
        return _fail(progress, "interrupted")
    return 0


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line, with the exit status of every other failure."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="rtbench", description="Measures rtdeliver on this machine.")
    benchmarks = parser.add_subparsers(required=True, metavar="BENCHMARK")
    for benchmark in BENCHMARKS:
        sub = benchmarks.add_parser(
            benchmark.NAME,
            help=benchmark.HELP,
            description=benchmark.HELP,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        benchmark.add_arguments(sub)
        sub.add_argument("--json", metavar="FILE", help="write the reports as JSON; - is stdout")
        sub.add_argument("--plot", metavar="FILE", type=Path, help="draw a plot, .svg or .png")
        sub.add_argument("--quiet", action="store_true", help="show no progress and no table")
        sub.set_defaults(run=benchmark.run)
    return parser


def _check_installed() -> None:
    if find_spec("hdrh") is None:
        raise BenchError("hdrhistogram is not installed; run: pip install '.[bench]' in a clone")


def _check_plot(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix not in (".svg", ".png"):
        raise BenchError(f"--plot {path}: the name must end in .svg or .png")
    if not path.absolute().parent.is_dir():
        raise BenchError(f"--plot {path}: there is no such folder")


def _write(reports: Sequence[Report], options: argparse.Namespace) -> None:
    if not options.quiet and options.json != "-":
        sys.stdout.write(table(reports))
    if options.json == "-":
        sys.stdout.write(to_json(reports).decode())
    elif options.json is not None:
        Path(options.json).write_bytes(to_json(reports))
    if options.plot is not None:
        try:
            plot(reports, options.plot)
        except ImportError:
            raise BenchError(
                "matplotlib is not installed; run: pip install '.[bench]' in a clone"
            ) from None


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _fail(progress: Progress, message: str) -> int:
    progress.close()
    sys.stderr.write(f"rtbench: {' '.join(message.split())}\n")
    return 1
