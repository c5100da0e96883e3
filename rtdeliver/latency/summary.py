"""What operators are told of the results: percentiles, completeness, the worst events."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from rtdeliver.config.sections import Latency
from rtdeliver.latency.results import Results, Series, Trace, Verdict
from rtdeliver.metrics import Sample, gauge
from rtdeliver.spread import Spread, quantiles

_MINUTE = 60
_WINDOWS_SECONDS = (_MINUTE, 300)
_SHARES = (0.5, 0.9, 0.99)


class Summary:
    """Says what results show of the last minute, and of the last five.

    :param results: returns the results of the events that were accepted since a time.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self, *, results: Callable[[float], Results], settings: Latency, now: Callable[[], float]
    ) -> None:
        self._results = results
        self._settings = settings
        self._now = now

    def tell(self, results: Results) -> dict[str, Any]:
        """Return everything, as it is answered to operators."""
        now_ms = self._now() * 1000
        traces = results.traces(now_ms - _WINDOWS_SECONDS[-1] * 1000)
        return {
            "objective": self._objective(results),
            "stages": [
                {"seconds": seconds, **_stage(series, spread)}
                for seconds in _WINDOWS_SECONDS
                for series, spread in _sorted(results.ages(now_ms - seconds * 1000))
            ],
            "completeness": [
                {"seconds": seconds, **_completeness(kind, verdict)}
                for seconds in _WINDOWS_SECONDS
                for kind, verdict in sorted(results.verdicts(now_ms - seconds * 1000).items())
            ],
            "slowest": [_way(trace) for trace in traces[:10]],
            "incomplete": [_way(trace) for trace in traces if trace.missing],
        }

    def brief(self) -> dict[str, Any]:
        """Return what the status tells of this: the last minute, as far as this process joins."""
        since = self._now() * 1000 - _MINUTE * 1000
        results = self._results(since)
        return {
            "objective": self._objective(results),
            "stages": [_stage(series, spread) for series, spread in _sorted(results.ages(since))],
            "completeness": [
                _completeness(kind, verdict)
                for kind, verdict in sorted(results.verdicts(since).items())
            ],
        }

    def samples(self) -> Iterator[Sample]:
        since = self._now() * 1000 - _MINUTE * 1000
        results = self._results(since)
        objective = self._objective(results)
        yield gauge(
            "latency_objective_met",
            "1 while events reach pages as fast as they should, or no page tells; otherwise 0.",
            int(objective["met"]),
        )
        for series, spread in _sorted(results.ages(since)):
            for share, value in zip(_SHARES, quantiles(spread.counts, *_SHARES), strict=True):
                yield gauge(
                    "latency_seconds",
                    "Time between two stages over the last minute, by percentile.",
                    value / 1000,
                    **{"type": series.type, "from": series.start, "to": series.end},
                    origin=series.origin,
                    target=series.target,
                    quantile=str(share),
                )

    def _objective(self, results: Results) -> dict[str, Any]:
        """Say whether events reach pages as fast as they should; as long as no page tells, too."""
        received = Spread()
        for series, spread in results.ages(self._now() * 1000 - _MINUTE * 1000).items():
            if (series.start, series.end) == ("published", "received"):
                received.add_all(spread.items())
        measured = received.quantile(self._settings.objective_share)
        return {
            "from": "published",
            "to": "received",
            "share": self._settings.objective_share,
            "at_most_ms": self._settings.objective_ms,
            "seconds": _MINUTE,
            "count": len(received),
            "measured_ms": None if math.isnan(measured) else measured,
            "met": not measured > self._settings.objective_ms,
        }


def _sorted(ages: Mapping[Series, Spread]) -> list[tuple[Series, Spread]]:
    return sorted(ages.items(), key=lambda item: msgspec.structs.astuple(item[0]))


def _stage(series: Series, spread: Spread) -> dict[str, Any]:
    p50, p90, p99 = quantiles(spread.counts, *_SHARES)
    return {
        "type": series.type,
        "from": series.start,
        "to": series.end,
        "origin": series.origin,
        "target": series.target,
        "count": len(spread),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
    }


def _completeness(type: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "type": type,
        "published": verdict.published,
        "watched": verdict.watched,
        "delivered": verdict.delivered,
        "sent": verdict.sent,
        "received": verdict.received,
        "missing": verdict.missing,
    }


def _way(trace: Trace) -> dict[str, Any]:
    return {
        "id": trace.id,
        "type": trace.type,
        "at": trace.at,
        "age_ms": trace.age_ms,
        "missing": list(trace.missing),
        "hops": [
            {
                "stage": hop.stage,
                "datacenter": hop.datacenter,
                "node": hop.node,
                "first_ms": hop.first_ms,
                "last_ms": hop.last_ms,
                "times": hop.times,
            }
            for hop in trace.hops
        ],
    }
