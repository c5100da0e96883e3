"""Measures one fan-out of any server: events at a rate to many viewers."""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from rtdeliver.bench.events import Begin, Published, Schedule, own_topic
from rtdeliver.bench.machine import cpu_seconds
from rtdeliver.bench.options import positive_float, positive_int, whole_number
from rtdeliver.bench.processes import Child, wait_until_ns
from rtdeliver.bench.progress import Progress
from rtdeliver.bench.readers import Readers
from rtdeliver.bench.reading import Outcome
from rtdeliver.bench.report import Value
from rtdeliver.bench.tally import Window

PublishedT = TypeVar("PublishedT", bound=Published)

_LEAD_SECONDS = 0.2
_ANSWER_SECONDS = 30.0


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The load that is put on a server.

    :param rate: events per second, over all topics.
    :param seconds: how long to measure, after the seconds of warm-up.
    :param data_bytes: the size of an event's data.
    :param readers: processes that hold the viewers; 0 for as few as possible.
    """

    viewers: int
    rate: float
    seconds: int
    warmup_seconds: int
    topics: int
    data_bytes: int
    readers: int

    def settings(self) -> dict[str, Value]:
        """Return the load as a report shows it."""
        return {
            "viewers": self.viewers,
            "rate": self.rate,
            "seconds": self.seconds,
            "warmup_seconds": self.warmup_seconds,
            "topics": self.topics,
            "data_bytes": self.data_bytes,
        }

    def schedule(self) -> Schedule:
        """Return the events, in topics that no other run uses."""
        return Schedule(
            topics=[own_topic(number) for number in range(self.topics)],
            rate=self.rate,
            data_bytes=self.data_bytes,
            seconds=self.warmup_seconds + self.seconds,
        )


def add_load_arguments(
    parser: argparse.ArgumentParser, *, rate: float = 100.0, seconds: int = 20
) -> None:
    """Add the options of a `Load`."""
    add = parser.add_argument
    add("--viewers", type=positive_int, default=10_000, help="number of streams")
    add("--rate", type=positive_float, default=rate, help="events per second, over all topics")
    add("--seconds", type=positive_int, default=seconds, help="seconds to measure")
    add("--warmup-seconds", type=positive_int, default=3, help="seconds to publish before that")
    add("--topics", type=positive_int, default=1, help="number of topics; each viewer watches one")
    add(
        "--bytes",
        dest="data_bytes",
        type=positive_int,
        default=100,
        help="size of an event's data in bytes",
    )
    add(
        "--readers",
        type=whole_number,
        default=0,
        help="processes that hold the streams; 0 for as few as possible",
    )


def load_of(options: argparse.Namespace) -> Load:
    """Return the load that the options ask for."""
    return Load(**{name: getattr(options, name) for name in Load.__struct_fields__})


class Measured(msgspec.Struct, Generic[PublishedT], frozen=True, kw_only=True):
    """The result of a load.

    :param outcome: what the viewers received.
    :param published: what the producer published.
    :param cpu_seconds: processor time used in the measured seconds, by process.
    """

    load: Load
    outcome: Outcome
    published: PublishedT
    cpu_seconds: Mapping[str, float]

    @property
    def deliveries_per_second(self) -> float:
        return sum(self.outcome.per_second) / self.load.seconds

    @property
    def unpublished(self) -> int:
        """How many events were not published, since the server was too slow to accept them."""
        return self.load.schedule().events - sum(self.published.counts.values())

    def figures(self) -> dict[str, Value]:
        """Return the figures that every server has."""
        outcome = self.outcome
        return {
            "deliveries_per_second": self.deliveries_per_second,
            **{f"p{at}_ms": outcome.latency.percentile_ms(at) for at in (50, 90, 99)},
            "max_ms": outcome.latency.max_ms,
            "published": sum(self.published.counts.values()),
            "unpublished": self.unpublished,
            "received": outcome.received,
            "lost": outcome.lost,
            "duplicated": outcome.twice,
            "out_of_order": outcome.out_of_order,
            "gap_frames": outcome.gaps,
            "streams_ended": outcome.ended,
            "events_per_receive": outcome.received / max(1, outcome.receives),
            "publish_late_max_ms": self.published.late_seconds * 1000,
            **{f"{who}_cpu_share": used / self.load.seconds for who, used in self.shares()},
        }

    def shares(self) -> Sequence[tuple[str, float]]:
        """Return processor seconds by process, and those of the load generator as a sum."""
        generator = sum(self.cpu_seconds.get(who, 0.0) for who in ("readers", "producer"))
        return [*self.cpu_seconds.items(), ("generator", generator)]

    def percentiles(self) -> list[tuple[float, float]]:
        """Return the latencies for a plot."""
        return self.outcome.latency.curve()

    def throughput(self) -> list[tuple[float, float]]:
        """Return the deliveries in each second for a plot."""
        return [(float(at), float(count)) for at, count in enumerate(self.outcome.per_second)]


def measure(
    load: Load,
    *,
    readers: Readers,
    source: Child,
    processes: Mapping[str, Sequence[int]],
    progress: Progress,
) -> Measured[Any]:
    """Let ``source`` publish to open streams, and measure what the readers receive.

    :param source: takes a `Begin`, and sends what was `Published`.
    :param processes: ids of the processes whose processor time to measure, besides the readers'.
    """
    start_ns = time.monotonic_ns() + round(_LEAD_SECONDS * 1e9)
    window = Window(start_ns + load.warmup_seconds * 1_000_000_000, load.seconds)
    readers.measure(window)
    source.send(Begin(start_ns))
    watched = {**processes, "readers": readers.pids}
    _wait(window.start_ns, progress, f"warming up for {load.warmup_seconds} s", source)
    before = {who: cpu_seconds(*pids) for who, pids in watched.items()}
    _wait(window.end_ns, progress, f"measuring for {load.seconds} s", source)
    used = {who: cpu_seconds(*pids) - before[who] for who, pids in watched.items()}
    published = source.receive(_ANSWER_SECONDS)
    return Measured(
        load=load,
        outcome=readers.finish(published.counts),
        published=published,
        cpu_seconds=used,
    )


def _wait(until_ns: int, progress: Progress, text: str, source: Child) -> None:
    """Wait until ``until_ns``, or until ``source`` has ended or failed."""
    began_ns = time.monotonic_ns()
    while (now_ns := time.monotonic_ns()) < until_ns and not source.has_sent():
        progress.update(now_ns - began_ns, until_ns - began_ns, text)
        wait_until_ns(min(until_ns, now_ns + 250_000_000))
