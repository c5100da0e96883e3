"""Measures very many idle streams: their cost, one event to all of them, a reconnect storm."""

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rtdeliver.bench.events import Begin, Schedule, own_topic
from rtdeliver.bench.fanout import started_pipeline, wait_for_viewers
from rtdeliver.bench.http import fetch, fetch_json, wait_until
from rtdeliver.bench.machine import allow_descriptors, check_memory, cpu_seconds, rss_bytes
from rtdeliver.bench.options import positive_int, whole_number
from rtdeliver.bench.processes import Child, wait_until_ns
from rtdeliver.bench.producers import publish_to_dispatcher
from rtdeliver.bench.progress import Progress
from rtdeliver.bench.readers import LAST_SECONDS, Readers, started_readers
from rtdeliver.bench.reading import Outcome
from rtdeliver.bench.report import Report
from rtdeliver.bench.roles import LOOPBACK, RoleProcess, started, started_dispatcher
from rtdeliver.bench.tally import Window

NAME = "hold"
HELP = "Holds very many streams, publishes one event to all, then measures a reconnect storm."

# For both ends of a stream, in the processes and in the kernel.
_BYTES_PER_STREAM = 12_000
_SPARE_DESCRIPTORS = 200
# Workers do not get exactly the same number of streams.
_UNEVEN = 1.05
_OPEN_SECONDS = 300.0
_KNOWN_SECONDS = 30.0
_ANSWER_SECONDS = 30.0
_WARM_STREAMS = 30
_DATA_BYTES = 100

_CALM_SECONDS = 1
_OTHERS_RATE = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--viewers", type=positive_int, default=100_000, help="number of streams on the workers")
    add("--workers", type=positive_int, default=6, help="number of frontend processes")
    add(
        "--storm",
        type=whole_number,
        default=10_000,
        help="viewers that reconnect at once; 0 for none",
    )
    add("--others", type=positive_int, default=1000, help="viewers that stay connected meanwhile")
    add(
        "--storm-seconds",
        type=positive_int,
        default=12,
        help="seconds in which these receive events; the others should be back by then",
    )


def run(options: argparse.Namespace, progress: Progress) -> list[Report]:
    reports = [hold(options.viewers, options.workers, progress)]
    if options.storm:
        reports.append(storm(options.storm, options.others, options.storm_seconds, progress))
    return reports


def hold(viewers: int, workers: int, progress: Progress) -> Report:
    """Open streams on several frontend processes, and publish one event to all of them."""
    share = round(viewers / workers * _UNEVEN)
    allow_descriptors(share + _SPARE_DESCRIPTORS, f"each of {workers} workers")
    check_memory(viewers * _BYTES_PER_STREAM)
    topic = own_topic(NAME)
    with ExitStack() as stack:
        dispatcher = stack.enter_context(started_dispatcher())
        hub = dispatcher.url("listen")
        frontend = stack.enter_context(_started_workers(hub, workers))
        url = frontend.url("public") + "/connect?topic="
        _warm_up(url, workers * _WARM_STREAMS, progress)
        base_bytes = rss_bytes(*frontend.pids)
        readers = stack.enter_context(
            started_readers(url, topics=[topic], streams=viewers, open_seconds=_OPEN_SECONDS)
        )
        spent = cpu_seconds(*readers.pids)
        open_seconds = readers.wait_open(progress)
        spent = cpu_seconds(*readers.pids) - spent
        wait_for_viewers(hub, [topic], viewers)
        rss = rss_bytes(*frontend.pids)
        outcome = _publish_one(readers, hub, topic)
    return Report(
        title=NAME,
        settings={"viewers": viewers, "workers": workers},
        figures={
            "connect_per_second": viewers / open_seconds,
            "generator_cpu_share": spent / open_seconds,
            "rss_bytes_per_stream": (rss - base_bytes) / viewers,
            "base_rss_bytes": base_bytes,
            "received": outcome.received,
            "lost": outcome.lost,
            "streams_ended": outcome.ended,
            "first_ms": outcome.latency.percentile_ms(0),
            "last_ms": outcome.latency.max_ms,
        },
        percentiles={"one event to all": outcome.latency.curve()},
    )


def storm(viewers: int, others: int, seconds: int, progress: Progress) -> Report:
    """Drop viewers of one frontend process, who all return at once, while others receive events.

    :param seconds: how long the others receive events after that moment.
    """
    stays, returns = own_topic("stays"), own_topic("returns")
    calm = Schedule(
        topics=[stays],
        rate=_OTHERS_RATE,
        data_bytes=_DATA_BYTES,
        seconds=_CALM_SECONDS + seconds,
    )
    with ExitStack() as stack:
        pipeline = stack.enter_context(started_pipeline(viewers + others))
        url = pipeline.frontend + "/connect?topic="
        audience = stack.enter_context(started_readers(url, topics=[stays], streams=others))
        crowd = stack.enter_context(started_readers(url, topics=[returns], streams=viewers))
        audience.wait_open(progress)
        crowd.wait_open(progress)
        wait_for_viewers(pipeline.dispatcher, [stays, returns], viewers + others)
        producer = stack.enter_context(
            Child("producer", publish_to_dispatcher, pipeline.dispatcher, calm)
        )
        producer.receive(_ANSWER_SECONDS)
        start_ns = time.monotonic_ns()
        storm_ns = start_ns + _CALM_SECONDS * 1_000_000_000
        audience.measure(Window(storm_ns, seconds))
        producer.send(Begin(start_ns))
        wait_until_ns(storm_ns)
        generator = [*audience.pids, *crowd.pids, producer.pid]
        spent = cpu_seconds(*generator)
        crowd.reopen()
        back_seconds = crowd.wait_open(progress, "reconnecting")
        spent = cpu_seconds(*generator) - spent
        audience.end_window(time.monotonic_ns())
        published = producer.receive(seconds + _ANSWER_SECONDS)
        outcome = audience.finish(published.counts)
    return Report(
        title="storm",
        settings={"viewers": viewers, "others": others, "others_rate": _OTHERS_RATE},
        figures={
            "back_seconds": back_seconds,
            "reconnect_per_second": viewers / back_seconds,
            "generator_cpu_share": spent / back_seconds,
            **{f"others_p{at}_ms": outcome.latency.percentile_ms(at) for at in (50, 90, 99)},
            "others_max_ms": outcome.latency.max_ms,
            "lost": outcome.lost,
            "duplicated": outcome.twice,
            "out_of_order": outcome.out_of_order,
            "streams_ended": outcome.ended,
        },
        percentiles={"others during the storm": outcome.latency.curve()},
    )


@contextmanager
def _started_workers(hub: str, workers: int) -> Iterator[RoleProcess]:
    """Start frontend processes that share a port, and wait until the dispatcher knows them all."""
    with started(
        "rtfrontend",
        *("--dispatcher", hub),
        *("--node", "rtbench"),
        *("--public", LOOPBACK),
        *("--internal", LOOPBACK),
        *("--workers", str(workers)),
    ) as frontend:
        wait_until(
            lambda: len(fetch_json(f"{hub}/frontends")) == workers,
            f"the dispatcher knows of {workers} workers",
            seconds=_KNOWN_SECONDS,
        )
        yield frontend


def _warm_up(url: str, streams: int, progress: Progress) -> None:
    """Open and close some streams, so that the first stream's extra cost is not measured."""
    with started_readers(url, topics=[own_topic("warm")], streams=streams) as readers:
        readers.wait_open(progress, "warming up")


def _publish_one(readers: Readers, hub: str, topic: str) -> Outcome:
    """Publish one event, and return what the readers received."""
    start_ns = time.monotonic_ns()
    readers.measure(Window(start_ns, LAST_SECONDS))
    event = Schedule(
        topics=[topic],
        rate=1,
        data_bytes=_DATA_BYTES,
        seconds=1,
        start_ns=time.monotonic_ns(),
    )
    fetch(f"{hub}/publish", body=event.body(0))
    return readers.finish(event.published())
