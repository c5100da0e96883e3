"""The distribution of latencies, with an error below 1 %."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

# With two digits the error is below 1 %.
_DIGITS = 2
# One day. An HdrHistogram drops values above its limit.
_HIGHEST = 86_400_000_000

_PLOTTED = (
    *(float(percent) for percent in range(0, 90, 2)),
    *(90 + tenth / 10 for tenth in range(0, 90, 2)),
    *(99.0, 99.2, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99, 99.999, 100.0),
)


class LatencyHistogram:
    """Counts of values in microseconds. It can be sent to another process and merged there.

    The processes that measure share the machine with what they measure. So `add` only counts, which
    is several times cheaper than recording in an HdrHistogram. The HdrHistogram is filled when a
    figure is asked for.

    :ivar counts: how often each value was added.
    """

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def __len__(self) -> int:
        """Return how many values there are."""
        return self.counts.total()

    def add(self, microseconds: int, count: int = 1) -> None:
        """Count a value ``count`` times; one below 0 counts as 0."""
        self.counts[microseconds] += count

    def merge(self, other: "LatencyHistogram") -> None:
        """Add all values of ``other``."""
        self.counts.update(other.counts)

    @property
    def mean_ms(self) -> float:
        total = sum(max(value, 0) * count for value, count in self.counts.items())
        return total / len(self) / 1000 if self.counts else 0.0

    @property
    def max_ms(self) -> float:
        highest: int = self._filled().get_max_value()
        return highest / 1000

    def percentile_ms(self, percentile: float) -> float:
        """Return the value that this many percent of the values do not exceed; 0 without values."""
        value: int = self._filled().get_value_at_percentile(percentile)
        return value / 1000

    def curve(self) -> list[tuple[float, float]]:
        """Return pairs of a percentile and milliseconds for a plot, closer together towards 100."""
        values = self._filled().get_percentile_to_value_dict(_PLOTTED)
        return [(percentile, value / 1000) for percentile, value in values.items()]

    def _filled(self) -> Any:
        from hdrh.histogram import HdrHistogram

        histogram = HdrHistogram(1, _HIGHEST, _DIGITS)
        for value, count in self.counts.items():
            histogram.record_value(min(max(value, 0), _HIGHEST), count)
        return histogram


def merged(histograms: Iterable[LatencyHistogram]) -> LatencyHistogram:
    """Return a histogram with the values of all of these."""
    total = LatencyHistogram()
    for histogram in histograms:
        total.merge(histogram)
    return total
