"""Measures how many events a dispatcher accepts and delivers, and how fast it answers."""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from rtdeliver.bench.http import address_of, metrics
from rtdeliver.bench.http_load import (
    Load,
    LoadResult,
    choices,
    publish_apart,
    template,
)
from rtdeliver.bench.latency import LatencyHistogram
from rtdeliver.bench.machine import BenchError, allow_descriptors, cpu_seconds
from rtdeliver.bench.options import positive_float, positive_int
from rtdeliver.bench.progress import Progress
from rtdeliver.bench.report import Report, Value
from rtdeliver.bench.roles import RoleProcess, started_dispatcher
from rtdeliver.bench.stand_ins import Plan, StandIns, Taken

NAME = "publish"
HELP = "Publishes single events and batches to a dispatcher with stand-in frontends."

_ALONE, _SINGLE, _BATCH = KINDS = ("alone", "single", "batch")
_SPARE_DESCRIPTORS = 200
_DRAIN_SECONDS = 15.0
_PAUSE_SECONDS = 0.1
_DROPPED = 'rtdeliver_dropped_total{at="dispatcher"'


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A load on a dispatcher.

    :param topics: each event goes to a random one of these.
    :param viewers: the topics of which each stand-in frontend has a viewer, by node.
    :param batch: events in a request; 0 for single events, each the whole body.
    :param connections: each has one request in flight at most.
    :param seconds: how long requests are sent.
    :param rate: events per second; 0 for as many as are answered.
    :param pad: bytes of padding in each event.
    :param redis: the URL of the dispatcher's Redis; empty for none.
    :param kept_events: how many events of each topic are kept; 0 for none.
    """

    title: str
    settings: dict[str, Value]
    topics: Sequence[str]
    viewers: Mapping[str, Sequence[str]]
    batch: int
    connections: int
    seconds: float
    rate: float
    pad: int
    redis: str = ""
    kept_events: int = 0

    @property
    def events(self) -> int:
        """How many events a request has."""
        return self.batch or 1

    @property
    def content_type(self) -> str:
        return "application/x-ndjson" if self.batch else "application/json"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a case.

    :param during: what the stand-ins had received when the last request was answered.
    :param taken: what they had received in the end.
    :param expected: how many events they should have received; an event counts once for each
        stand-in with a viewer of it.
    :param dropped: how many events the dispatcher dropped, counted in the same way.
    :param dispatcher_cpu_seconds: processor time of the dispatcher while requests were sent.
    :param stand_ins_cpu_seconds: processor time of the stand-ins in that time.
    """

    load: LoadResult
    during: Taken
    taken: Taken
    expected: int
    dropped: int
    dispatcher_cpu_seconds: float
    stand_ins_cpu_seconds: float


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `publish` and `route` share."""
    parser.add_argument(
        "--connections",
        type=positive_int,
        default=32,
        help="connections that publish, one request at a time",
    )
    parser.add_argument(
        "--seconds", type=positive_float, default=5.0, help="seconds to measure each kind of load"
    )
    parser.add_argument("--batch", type=positive_int, default=1000, help="events in a batch")
    parser.add_argument(
        "--bytes", type=positive_int, default=50, help="bytes of padding in each event"
    )
    parser.add_argument(
        "--rate",
        type=positive_float,
        help="events per second; as many as are answered if not given",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_load_arguments(parser)
    parser.add_argument(
        "--frontends", type=positive_int, default=3, help="stand-in frontends with viewers"
    )
    parser.add_argument(
        "--topics", type=positive_int, default=1, help="topics, of which each frontend has a viewer"
    )
    parser.add_argument(
        "--redis", default="", help="URL of a Redis for the dispatcher; in memory if not given"
    )
    parser.add_argument(
        "--history", type=positive_int, default=0, help="how many events of each topic are kept"
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        action="append",
        help="measure only this kind: alone (single events without a viewer), single or batch;"
        " repeatable",
    )


def run(options: argparse.Namespace, progress: Progress) -> list[Report]:
    return [
        measure(_case(kind, options), progress) for kind in KINDS if kind in (options.kind or KINDS)
    ]


def measure(case: Case, progress: Progress) -> Report:
    """Start a dispatcher and stand-ins, publish, and count what the stand-ins receive.

    :raises BenchError: if a process fails, or the dispatcher accepts nothing.
    """
    allow_descriptors(
        case.connections + len(case.viewers) + _SPARE_DESCRIPTORS, "the dispatcher's process"
    )
    progress.update(0, 1, f"{case.title}: starting")
    with _options(case) as options, started_dispatcher(*options) as dispatcher:
        plan = Plan(
            dispatcher=dispatcher.url("listen"), topics=case.viewers, producers=case.connections
        )
        with StandIns(plan) as stand_ins:
            stand_ins.wait_ready()
            return _report(case, _outcome(case, dispatcher, stand_ins, progress))


def _case(kind: str, options: argparse.Namespace) -> Case:
    topics = [f"bench:{number}" for number in range(options.topics)]
    nodes = [] if kind == _ALONE else [f"stand-in-{number}" for number in range(options.frontends)]
    batch = options.batch if kind == _BATCH else 0
    return Case(
        title=f"publish {kind}",
        settings={"topics": len(topics), "frontends": len(nodes), **load_settings(options, batch)},
        topics=topics,
        viewers=dict.fromkeys(nodes, topics),
        batch=batch,
        connections=options.connections,
        seconds=options.seconds,
        rate=options.rate or 0.0,
        pad=options.bytes,
        redis=options.redis,
        kept_events=options.history,
    )


@contextmanager
def _options(case: Case) -> Iterator[list[str]]:
    """Yield the options of the dispatcher."""
    redis = ["--redis", case.redis] if case.redis else []
    if not case.kept_events:
        yield redis
        return
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        kept = f"{{events = {case.kept_events}, seconds = 86400}}"
        file.write(f'history.topics = {{"bench:*" = {kept}}}\n')
        file.flush()
        yield [*redis, "--config", file.name]


def load_settings(options: argparse.Namespace, batch: int) -> dict[str, Value]:
    """Return the values of the options of `add_load_arguments`, for a report."""
    return {
        "connections": options.connections,
        "seconds": options.seconds,
        "events_per_request": batch or 1,
        "bytes": options.bytes,
        "rate": options.rate or "as many as are answered",
    }


def _outcome(
    case: Case, dispatcher: RoleProcess, stand_ins: StandIns, progress: Progress
) -> Outcome:
    chosen = choices(case.topics, events=case.events)
    host, port = address_of(dispatcher.url("listen"))
    load = Load(
        host=host,
        port=port,
        connections=case.connections,
        seconds=case.seconds,
        rate=case.rate,
        content_type=case.content_type,
        templates=[template(topics, case.pad) for topics in chosen],
        events=case.events,
    )
    cpu_before = cpu_seconds(*dispatcher.pids)
    stand_ins_before = stand_ins.taken().cpu_seconds
    result = publish_apart(
        load, lambda seconds: progress.update(seconds, case.seconds, f"{case.title}: publishing")
    )
    cpu_after = cpu_seconds(*dispatcher.pids)
    during = stand_ins.taken()
    if not sum(result.accepted):
        raise BenchError(f"the dispatcher accepted nothing: {result.refusal or 'no answer'}")
    expected = expected_events(chosen, result.accepted, case.viewers)
    taken, dropped = _await_rest(expected, dispatcher, stand_ins)
    return Outcome(
        load=result,
        during=during,
        taken=taken,
        expected=expected,
        dropped=dropped,
        dispatcher_cpu_seconds=cpu_after - cpu_before,
        stand_ins_cpu_seconds=during.cpu_seconds - stand_ins_before,
    )


def expected_events(
    chosen: Sequence[Sequence[str]], accepted: Sequence[int], viewers: Mapping[str, Sequence[str]]
) -> int:
    """Return how many events should arrive, each counted once for each frontend with a viewer.

    :param chosen: the topics of the events of each body.
    :param accepted: how often each body was accepted.
    :param viewers: topics by frontend.
    """
    frontends = Counter(topic for topics in viewers.values() for topic in topics)
    return sum(
        times * sum(frontends[topic] for topic in topics)
        for topics, times in zip(chosen, accepted, strict=True)
    )


def _await_rest(expected: int, dispatcher: RoleProcess, stand_ins: StandIns) -> tuple[Taken, int]:
    """Wait until each event has arrived or was counted as dropped, or until time is up."""
    end = time.monotonic() + _DRAIN_SECONDS
    while True:
        taken = stand_ins.taken()
        counts = metrics(dispatcher.url("listen"))
        dropped = int(sum(value for name, value in counts.items() if name.startswith(_DROPPED)))
        if taken.received + dropped >= expected or time.monotonic() > end:
            return taken, dropped
        time.sleep(_PAUSE_SECONDS)


def _report(case: Case, outcome: Outcome) -> Report:
    load = outcome.load
    latencies = {"answer": load.latencies}
    if case.viewers:
        latencies["receipt"] = outcome.taken.latencies
    whole_seconds = load.per_second[: int(load.seconds)]
    return Report(
        title=case.title,
        settings=case.settings,
        figures={
            **_publish_figures(case, load),
            **(_delivery_figures(outcome) if case.viewers else {}),
            **_cpu_figures(outcome),
        },
        percentiles={f"{case.title}: {name}": found.curve() for name, found in latencies.items()},
        throughput={
            f"{case.title}: events": [
                (second, float(events)) for second, events in enumerate(whole_seconds)
            ]
        },
    )


def _publish_figures(case: Case, load: LoadResult) -> dict[str, Value]:
    requests = sum(load.accepted)
    return {
        "events_per_second": requests * case.events / load.seconds,
        "requests_per_second": requests / load.seconds,
        **_percentiles("answer", load.latencies),
        "accepted": requests * case.events,
        "refused_requests": load.refused,
        "unanswered_requests": load.unanswered,
        "not_begun_requests": load.not_begun,
    }


def _delivery_figures(outcome: Outcome) -> dict[str, Value]:
    seconds = outcome.load.seconds
    lost = outcome.expected - outcome.taken.received
    return {
        "deliveries_per_second": outcome.during.received / seconds,
        "delivery_posts_per_second": outcome.during.posts / seconds,
        **_percentiles("receipt", outcome.taken.latencies),
        "delivered": outcome.taken.received,
        "lost": lost,
        "lost_uncounted": lost - outcome.dropped,
        "misplaced": outcome.taken.misplaced,
    }


def _cpu_figures(outcome: Outcome) -> dict[str, Value]:
    seconds = outcome.load.seconds
    return {
        "dispatcher_cpu_share": outcome.dispatcher_cpu_seconds / seconds,
        "generator_cpu_share": (outcome.load.cpu_seconds + outcome.stand_ins_cpu_seconds) / seconds,
        "stand_ins_cpu_share": outcome.stand_ins_cpu_seconds / seconds,
    }


def _percentiles(name: str, latencies: LatencyHistogram) -> dict[str, Value]:
    return {
        **{f"{name}_p{at}_ms": latencies.percentile_ms(at) for at in (50, 90, 99)},
        f"{name}_max_ms": latencies.max_ms,
    }
