"""How latencies are distributed, with less than 1 % of error."""

from collections import Counter
from collections.abc import Iterable

# Values below 2**_BITS have a bucket each; above, each doubling has half as many.
_BITS = 8
_HALF = 1 << (_BITS - 1)

_PLOTTED = (
    *(float(percent) for percent in range(0, 90, 2)),
    *(90 + tenth / 10 for tenth in range(0, 90, 2)),
    *(99.0, 99.2, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99, 99.999, 100.0),
)


class Histogram:
    """Counts of microseconds.

    It is small, and can be sent to another process and added up there.

    :ivar buckets: how many values fell into each bucket.
    :ivar total_us: the sum of all values.
    """

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()
        self.total_us = 0

    def __len__(self) -> int:
        """How many values there are."""
        return self.buckets.total()

    def add(self, microseconds: int, count: int = 1) -> None:
        """Count a value ``count`` times; one below 0 counts as 0."""
        value = max(microseconds, 0)
        self.buckets[_bucket(value)] += count
        self.total_us += value * count

    def merge(self, other: "Histogram") -> None:
        """Add all values of ``other``."""
        self.buckets.update(other.buckets)
        self.total_us += other.total_us

    @property
    def mean_ms(self) -> float:
        return self.total_us / len(self) / 1000 if self.buckets else 0.0

    @property
    def max_ms(self) -> float:
        return _highest(max(self.buckets)) / 1000 if self.buckets else 0.0

    def percentile_ms(self, percentile: float) -> float:
        """Return what this many percent of the values are not above; 0 if there is none."""
        return self._percentiles([percentile])[0][1]

    def curve(self) -> list[tuple[float, float]]:
        """Return pairs of a percentile and milliseconds, denser towards 100, for a plot."""
        return self._percentiles(_PLOTTED)

    def _percentiles(self, ascending: Iterable[float]) -> list[tuple[float, float]]:
        found = []
        buckets = iter(sorted(self.buckets.items()))
        bucket, reached = 0, 0
        total = len(self)
        for percentile in ascending:
            # At least one value, or the lowest would be below all of them.
            wanted = max(1, -(-total * percentile // 100))
            while reached < min(wanted, total):
                bucket, count = next(buckets)
                reached += count
            found.append((percentile, _highest(bucket) / 1000))
        return found


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Return one with the values of all."""
    total = Histogram()
    for histogram in histograms:
        total.merge(histogram)
    return total


def _bucket(value: int) -> int:
    shift = max(0, value.bit_length() - _BITS)
    return _HALF * shift + (value >> shift)


def _highest(bucket: int) -> int:
    """Return the highest value that falls into ``bucket``."""
    shift = max(0, bucket // _HALF - 1)
    return ((bucket - _HALF * shift + 1) << shift) - 1
