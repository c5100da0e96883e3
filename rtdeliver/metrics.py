"""How counts become Prometheus text."""

import platform
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from itertools import accumulate
from typing import Any

import msgspec
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from rtdeliver.histogram import BOUNDS, Histogram

PREFIX = "rtdeliver_"


class Sample(msgspec.Struct, frozen=True):
    """One number at the moment of a scrape.

    :param kind: ``counter`` for what only grows, ``gauge`` otherwise.
    """

    kind: str
    name: str
    help: str
    value: float
    labels: Mapping[str, str]


class HistogramSample(msgspec.Struct, frozen=True):
    """The durations that were counted up to the moment of a scrape."""

    name: str
    help: str
    durations: Histogram
    labels: Mapping[str, str]


def counter(name: str, help: str, value: float, **labels: str) -> Sample:
    """A number that only grows; its exposed name ends in ``_total``."""
    return Sample("counter", name, help, value, labels)


def gauge(name: str, help: str, value: float, **labels: str) -> Sample:
    """A number that goes up and down."""
    return Sample("gauge", name, help, value, labels)


def histogram(name: str, help: str, durations: Histogram, **labels: str) -> HistogramSample:
    """Durations, from whose buckets Prometheus computes percentiles."""
    return HistogramSample(name, help, durations, labels)


def dropped(events: int, *, at: str, reason: str) -> Sample:
    """Events that were lost here, counted once for each receiver that missed them."""
    return counter(
        "dropped", "Events lost, for each receiver that missed them.", events, at=at, reason=reason
    )


def versions() -> dict[str, str]:
    """Return the versions of rtdeliver and of what it runs on."""
    return {
        "version": version("rtdeliver"),
        "python": platform.python_version(),
        "twisted": version("twisted"),
    }


def build_info() -> list[Sample]:
    """Return which software this process runs."""
    return [
        gauge(
            "build_info",
            "Versions of the software.",
            1,
            **versions(),
        )
    ]


Source = Callable[[], Iterable[Sample | HistogramSample]]
"""Returns what a part of a process counts."""


class Exposition:
    """Collects the samples of all parts of a process when Prometheus scrapes it.

    The parts count in plain integers, which costs their hot paths almost nothing.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = list(sources)
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client for each scrape."""
        families: dict[str, Metric] = {}
        for source in self._sources:
            for sample in source():
                if sample.name not in families:
                    families[sample.name] = _family(sample)
                _add(families[sample.name], sample)
        return families.values()


_FAMILIES: dict[str, type[Any]] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def _family(sample: Sample | HistogramSample) -> Metric:
    family = _FAMILIES[sample.kind] if isinstance(sample, Sample) else HistogramMetricFamily
    return family(PREFIX + sample.name, sample.help, labels=sorted(sample.labels))


def _add(family: Any, sample: Sample | HistogramSample) -> None:
    values = [value for _, value in sorted(sample.labels.items())]
    if isinstance(sample, Sample):
        family.add_metric(values, sample.value)
        return
    durations = sample.durations
    buckets = zip([*map(str, BOUNDS), "+Inf"], accumulate(durations.counts), strict=True)
    family.add_metric(values, list(buckets), durations.sum_seconds)
