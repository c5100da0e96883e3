"""Measures the limit of this machine: a bare loop sends the same bytes to the same readers."""

import argparse

from rtdeliver.bench.bare import Served, serve
from rtdeliver.bench.load import Load, Measured, add_load_arguments, load_of, measure
from rtdeliver.bench.machine import allow_descriptors
from rtdeliver.bench.options import positive_int
from rtdeliver.bench.processes import Child
from rtdeliver.bench.progress import Progress
from rtdeliver.bench.readers import started_readers
from rtdeliver.bench.report import Report, Value

NAME = "limit"
HELP = "Measures the limit of this machine: a bare loop that sends to the same readers."

SENDS_PER_SECOND = 220_000

_SPARE_DESCRIPTORS = 100
_ANSWER_SECONDS = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_load_arguments(parser)
    parser.add_argument(
        "--sends-per-second",
        type=positive_int,
        default=SENDS_PER_SECOND,
        help="the most sends in a second; with too many, the readers would be what is measured",
    )


def run(options: argparse.Namespace, progress: Progress) -> list[Report]:
    return [limit(load_of(options), options.sends_per_second, progress)]


def limit(load: Load, sends_per_second: int, progress: Progress) -> Report:
    """Put ``load`` on a server that only sends.

    :param sends_per_second: the most sends in a second.
    """
    measured = _serve(load, sends_per_second, progress)
    return Report(
        title=NAME,
        settings=load.settings(),
        figures={**measured.figures(), **_own_figures(measured)},
        percentiles={NAME: measured.percentiles()},
        throughput={NAME: measured.throughput()},
    )


def _serve(load: Load, sends_per_second: int, progress: Progress) -> Measured[Served]:
    schedule = load.schedule()
    allow_descriptors(load.viewers + _SPARE_DESCRIPTORS, f"a server with {load.viewers} viewers")
    with Child("server", serve, schedule, sends_per_second) as server:
        port = server.receive(_ANSWER_SECONDS)
        with started_readers(
            f"http://127.0.0.1:{port}/connect?topic=",
            topics=schedule.topics,
            streams=load.viewers,
            readers=load.readers,
        ) as readers:
            readers.wait_open(progress)
            measured = measure(
                load,
                readers=readers,
                source=server,
                processes={"server": [server.pid]},
                progress=progress,
            )
    return measured


def _own_figures(measured: Measured[Served]) -> dict[str, Value]:
    served = measured.published
    events_per_send = served.sent / max(1, served.sends)
    seconds_per_delivery = measured.cpu_seconds["server"] / max(1, sum(measured.outcome.per_second))
    return {
        "sends_per_second": measured.deliveries_per_second / max(1e-9, events_per_send),
        "events_per_send": events_per_send,
        "server_cpu_seconds_per_million_deliveries": seconds_per_delivery * 1e6,
    }
