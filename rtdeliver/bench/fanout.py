"""Measures the fan-out: every event to every viewer, through a dispatcher and a frontend."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from urllib.parse import quote

import msgspec

from rtdeliver.bench.events import Published
from rtdeliver.bench.http import check_is_local, fetch_json, metrics, wait_until
from rtdeliver.bench.limit import SENDS_PER_SECOND, limit
from rtdeliver.bench.load import Load, Measured, add_load_arguments, load_of, measure
from rtdeliver.bench.machine import BenchError, allow_descriptors
from rtdeliver.bench.processes import Child
from rtdeliver.bench.producers import publish_to_dispatcher
from rtdeliver.bench.progress import Progress
from rtdeliver.bench.readers import started_readers
from rtdeliver.bench.report import Report, Value
from rtdeliver.bench.roles import started_dispatcher, started_frontend

NAME = "fanout"
HELP = "Publishes events at a rate to many viewers, through a dispatcher and a frontend."

_SPARE_DESCRIPTORS = 200
_ANNOUNCE_SECONDS = 30.0
_ANSWER_SECONDS = 30.0


class Pipeline(msgspec.Struct, frozen=True):
    """The URLs and processes of the roles that are measured.

    :param dispatcher: the URL of the dispatcher's listener.
    :param frontend: the URL of the frontend's public listener.
    :param frontend_metrics: the URL of the frontend's internal listener.
    :param processes: the ids of the processes that the benchmark started, by role.
    """

    dispatcher: str
    frontend: str
    frontend_metrics: str
    processes: Mapping[str, Sequence[int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_load_arguments(parser)
    add = parser.add_argument
    add(
        "--limit",
        action="store_true",
        help="also measure the limit of the machine, and compare with it",
    )
    add("--dispatcher", metavar="URL", help="measure a running dispatcher, at this URL")
    add(
        "--frontend",
        metavar="URL",
        help="measure a running frontend, whose public listener is at this URL",
    )
    add("--frontend-metrics", metavar="URL", help="the internal listener of that frontend")
    add("--allow-remote", action="store_true", help="allow these URLs to be on other machines")


def run(options: argparse.Namespace, progress: Progress) -> list[Report]:
    load = load_of(options)
    with _pipeline(options, load) as pipeline:
        measured, counts = fan_out(load, pipeline, progress)
    report = Report(
        title=NAME,
        settings=load.settings(),
        figures={**measured.figures(), **_own_figures(measured, counts)},
        percentiles={NAME: measured.percentiles()},
        throughput={NAME: measured.throughput()},
    )
    if not options.limit:
        return [report]
    bare = limit(load, SENDS_PER_SECOND, progress)
    return [_with_ratios(report, bare), bare]


def _with_ratios(report: Report, bare: Report) -> Report:
    """Add to ``report`` its most important figures as multiples of the machine's limit."""
    ratios = {
        f"{name}_times_limit": float(report.figures[name]) / max(1e-9, float(bare.figures[name]))
        for name in ("deliveries_per_second", "sends_per_second", "p50_ms", "p90_ms", "p99_ms")
    }
    return msgspec.structs.replace(report, figures={**report.figures, **ratios})


def fan_out(
    load: Load, pipeline: Pipeline, progress: Progress
) -> tuple[Measured[Published], Mapping[str, float]]:
    """Put ``load`` on the roles; return the result, and how much the frontend's counters grew."""
    schedule = load.schedule()
    with started_readers(
        pipeline.frontend + "/connect?topic=",
        topics=schedule.topics,
        streams=load.viewers,
        readers=load.readers,
    ) as readers:
        readers.wait_open(progress)
        wait_for_viewers(pipeline.dispatcher, schedule.topics, load.viewers)
        with Child("producer", publish_to_dispatcher, pipeline.dispatcher, schedule) as producer:
            producer.receive(_ANSWER_SECONDS)
            before = metrics(pipeline.frontend_metrics)
            measured = measure(
                load,
                readers=readers,
                source=producer,
                processes={**pipeline.processes, "producer": [producer.pid]},
                progress=progress,
            )
            after = metrics(pipeline.frontend_metrics)
    return measured, {name: value - before.get(name, 0.0) for name, value in after.items()}


def wait_for_viewers(dispatcher: str, topics: Sequence[str], viewers: int) -> None:
    """Wait until a dispatcher knows of all viewers of these topics.

    :raises BenchError: if the dispatcher does not within 30 s.
    """

    def known() -> int:
        answers = (fetch_json(f"{dispatcher}/topics?topic={quote(topic)}") for topic in topics)
        return sum(answer["viewers"] for answer in answers)

    wait_until(
        lambda: known() == viewers,
        f"the dispatcher knows of {viewers} viewers",
        seconds=_ANNOUNCE_SECONDS,
    )


@contextmanager
def started_pipeline(viewers: int) -> Iterator[Pipeline]:
    """Start a dispatcher, and a frontend for this number of viewers."""
    allow_descriptors(viewers + _SPARE_DESCRIPTORS, f"a frontend with {viewers} viewers")
    with ExitStack() as stack:
        dispatcher = stack.enter_context(started_dispatcher())
        url = dispatcher.url("listen")
        frontend = stack.enter_context(started_frontend(url, "rtbench"))
        yield Pipeline(
            url,
            frontend.url("public"),
            frontend.url("internal"),
            {"dispatcher": dispatcher.pids, "frontend": frontend.pids},
        )


@contextmanager
def _pipeline(options: argparse.Namespace, load: Load) -> Iterator[Pipeline]:
    names = ("dispatcher", "frontend", "frontend_metrics")
    urls = {name: url.rstrip("/") for name in names if (url := getattr(options, name))}
    if not urls:
        with started_pipeline(load.viewers) as pipeline:
            yield pipeline
        return
    if len(urls) < len(names):
        raise BenchError("give all of --dispatcher, --frontend and --frontend-metrics, or none")
    for url in urls.values():
        check_is_local(url, allow_remote=options.allow_remote)
    yield Pipeline(**urls, processes={})


def _own_figures(measured: Measured[Published], counts: Mapping[str, float]) -> dict[str, Value]:
    """Return the figures that only rtdeliver's roles have.

    :param counts: how much the frontend's counters grew.
    """
    sent, sends = counts["rtdeliver_sent_total"], counts["rtdeliver_sends_total"]
    events_per_send = sent / max(1.0, sends)
    figures: dict[str, Value] = {
        "sends_per_second": measured.deliveries_per_second / max(1e-9, events_per_send),
        "events_per_send": events_per_send,
        "frontend_cpu_seconds_per_million_deliveries": counts["process_cpu_seconds_total"]
        / max(1.0, sent)
        * 1e6,
    }
    if "dispatcher" in measured.cpu_seconds:
        figures["dispatcher_cpu_seconds"] = measured.cpu_seconds["dispatcher"]
    return figures
