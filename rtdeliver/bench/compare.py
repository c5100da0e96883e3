"""Compares the fan-out of rtdeliver with that of nginx with nchan, in alternation."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any
from urllib.parse import quote

from rtdeliver.bench.fanout import fan_out, started_pipeline
from rtdeliver.bench.http import fetch, wait_until
from rtdeliver.bench.load import Load, Measured, measure
from rtdeliver.bench.nchan import installed, started_nchan
from rtdeliver.bench.options import positive_int, rates
from rtdeliver.bench.processes import Child
from rtdeliver.bench.producers import publish_to_nchan
from rtdeliver.bench.progress import Progress
from rtdeliver.bench.readers import started_readers
from rtdeliver.bench.report import Report, Value

NAME = "compare"
HELP = "Compares the fan-out of rtdeliver with that of nginx with nchan."

_WARMUP_SECONDS = 2
_ANSWER_SECONDS = 30.0
_KNOWN_SECONDS = 30.0
# A server sustains a rate if every event is published, and received within this time.
_LATEST_MS = 2000.0

_Serve = Callable[[Load, Progress], Measured[Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--viewers", type=positive_int, default=10_000, help="number of streams")
    add(
        "--rates",
        type=rates,
        default=[5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 150.0, 200.0],
        metavar="RATE,...",
        help="events per second; each server is measured up to the first rate it does not sustain",
    )
    add("--seconds", type=positive_int, default=10, help="seconds to measure each rate")
    add("--rounds", type=positive_int, default=2, help="how often to measure each rate")
    add(
        "--bytes",
        dest="data_bytes",
        type=positive_int,
        default=100,
        help="size of an event's data in bytes",
    )


def run(options: argparse.Namespace, progress: Progress) -> list[Report]:
    installed()
    loads = [
        Load(
            viewers=options.viewers,
            rate=rate,
            seconds=options.seconds,
            warmup_seconds=_WARMUP_SECONDS,
            topics=1,
            data_bytes=options.data_bytes,
            readers=0,
        )
        for rate in sorted(options.rates)
    ]
    found: dict[str, dict[float, list[Measured[Any]]]] = {name: {} for name in _SERVERS}
    for _ in range(options.rounds):
        for name, measured in _in_turns(loads, progress):
            found[name].setdefault(measured.load.rate, []).append(measured)
    return [
        Report(
            title=name,
            settings={
                "viewers": options.viewers,
                "seconds": options.seconds,
                "rounds": options.rounds,
                "data_bytes": options.data_bytes,
            },
            figures=figures(by_rate),
            percentiles={_label(name, best): best.percentiles()},
            throughput={_label(name, best): best.throughput()},
        )
        for name, by_rate in found.items()
        for best in [by_rate[_sustained_rate(by_rate) or min(by_rate)][-1]]
    ]


def is_sustained(measured: Measured[Any]) -> bool:
    """Whether the server sustained the load."""
    outcome = measured.outcome
    return not (
        measured.unpublished or outcome.lost or outcome.ended or outcome.latency.max_ms > _LATEST_MS
    )


def figures(by_rate: Mapping[float, Sequence[Measured[Any]]]) -> dict[str, Value]:
    """Return the highest rate a server sustained, its most deliveries, and medians by rate."""
    best = _sustained_rate(by_rate)
    return {
        "sustained_rate": best,
        "sustained_deliveries_per_second": _median(by_rate[best], _deliveries) if best else 0.0,
        "highest_deliveries_per_second": max(
            _median(rounds, _deliveries) for rounds in by_rate.values()
        ),
        **{
            f"{what}_at_{rate:g}": _median(rounds, read)
            for what, read in _FIGURES.items()
            for rate, rounds in by_rate.items()
        },
    }


def _in_turns(loads: Sequence[Load], progress: Progress) -> Iterator[tuple[str, Measured[Any]]]:
    """Measure each server at each rate, up to the first that it does not sustain."""
    able = dict(_SERVERS)
    for load in loads:
        for name, serve in list(able.items()):
            measured = serve(load, progress)
            if not is_sustained(measured):
                del able[name]
            yield name, measured


def _serve_here(load: Load, progress: Progress) -> Measured[Any]:
    with started_pipeline(load.viewers) as pipeline:
        return fan_out(load, pipeline, progress)[0]


def _serve_by_nchan(load: Load, progress: Progress) -> Measured[Any]:
    schedule = load.schedule()
    with (
        started_nchan(load.viewers) as nginx,
        started_readers(
            nginx.url + "/connect?topic=", topics=schedule.topics, streams=load.viewers
        ) as readers,
    ):
        readers.wait_open(progress)
        publish_url = nginx.url + "/publish?topic="
        wait_until(
            lambda: _subscribers(publish_url + quote(schedule.topics[0])) == load.viewers,
            f"nchan knows of {load.viewers} viewers",
            seconds=_KNOWN_SECONDS,
        )
        with Child("producer", publish_to_nchan, publish_url, schedule) as producer:
            producer.receive(_ANSWER_SECONDS)
            return measure(
                load,
                readers=readers,
                source=producer,
                processes={"nginx": nginx.pids, "producer": [producer.pid]},
                progress=progress,
            )


_SERVERS: Mapping[str, _Serve] = {"rtdeliver": _serve_here, "nchan": _serve_by_nchan}


def _subscribers(url: str) -> int:
    """Ask nchan's publisher location how many viewers a channel has."""
    lines = dict(line.split(": ", 1) for line in fetch(url).decode().splitlines() if ": " in line)
    return int(lines["active subscribers"])


def _deliveries(measured: Measured[Any]) -> float:
    return measured.deliveries_per_second


def _server_cpu_share(measured: Measured[Any]) -> float:
    used = sum(measured.cpu_seconds.get(who, 0.0) for who in ("nginx", "frontend", "dispatcher"))
    return used / measured.load.seconds


_FIGURES: Mapping[str, Callable[[Measured[Any]], float]] = {
    "deliveries_per_second": _deliveries,
    "p50_ms": lambda measured: measured.outcome.latency.percentile_ms(50),
    "p90_ms": lambda measured: measured.outcome.latency.percentile_ms(90),
    "p99_ms": lambda measured: measured.outcome.latency.percentile_ms(99),
    "unpublished": lambda measured: measured.unpublished,
    "lost": lambda measured: measured.outcome.lost,
    "server_cpu_share": _server_cpu_share,
}


def _median(rounds: Sequence[Measured[Any]], read: Callable[[Measured[Any]], float]) -> float:
    return median(read(measured) for measured in rounds)


def _sustained_rate(by_rate: Mapping[float, Sequence[Measured[Any]]]) -> float:
    sustained = [rate for rate, rounds in by_rate.items() if all(map(is_sustained, rounds))]
    return max(sustained, default=0.0)


def _label(name: str, measured: Measured[Any]) -> str:
    return f"{name} {measured.load.rate:g}/s"
