"""How counts and durations have been over the last minutes."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from rtdeliver.histogram import Histogram

HISTORY_SECONDS = 120

_SLOT_SECONDS = 10
_SLOTS = 6


class Rates:
    """How much counts have grown in each of the last seconds.

    :param counts: return numbers that only grow, by name.
    """

    def __init__(self, counts: Mapping[str, Callable[[], int]]) -> None:
        self._counts = dict(counts)
        self._last = {name: count() for name, count in self._counts.items()}
        self._growths: dict[str, deque[int]] = {
            name: deque(maxlen=HISTORY_SECONDS) for name in self._counts
        }

    def tick(self) -> None:
        """Note how the counts are; to be called each second."""
        for name, count in self._counts.items():
            value = count()
            self._growths[name].append(value - self._last[name])
            self._last[name] = value

    def per_second(self) -> dict[str, float]:
        """Return how much each count has grown a second, over the last five."""
        return {
            name: round(sum(recent) / len(recent), 1) if recent else 0.0
            for name, recent in ((n, list(g)[-5:]) for n, g in self._growths.items())
        }

    def history(self) -> dict[str, list[int]]:
        """Return the growth in each of the last seconds, the latest one last."""
        return {name: list(growths) for name, growths in self._growths.items()}


class LastMinute:
    """Percentiles of the durations that were counted within about the last minute.

    :param histograms: that are counted in, by name.
    """

    def __init__(self, histograms: Mapping[str, Histogram]) -> None:
        self._histograms = dict(histograms)
        self._before: deque[dict[str, list[int]]] = deque(maxlen=_SLOTS)
        self._before.append(self._counts())
        self._ticks = 0

    def tick(self) -> None:
        """Go on by a second."""
        self._ticks += 1
        if self._ticks % _SLOT_SECONDS == 0:
            self._before.append(self._counts())

    def tell(self) -> dict[str, dict[str, Any]]:
        """Return for each name how many durations there were, and percentiles in milliseconds."""
        return {name: self._tell(name) for name in self._histograms}

    def _tell(self, name: str) -> dict[str, Any]:
        recent = Histogram()
        before = self._before[0][name]
        now = self._histograms[name].counts
        recent.counts = [count - old for count, old in zip(now, before, strict=True)]
        count = len(recent)
        shares = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}
        return {
            "count": count,
            **{
                key: round(recent.quantile(share) * 1000, 1) if count else None
                for key, share in shares.items()
            },
        }

    def _counts(self) -> dict[str, list[int]]:
        return {name: list(histogram.counts) for name, histogram in self._histograms.items()}
