"""Counts durations so that percentiles can be read within 10 %, and processes be added up."""

import math

LEAST_SECONDS = 0.0005
MOST_SECONDS = 60.0
# Each bucket ends 9.6 % above the one before.
_PER_DECADE = 25

BOUNDS = tuple(
    float(f"{LEAST_SECONDS * 10 ** (step / _PER_DECADE):.4g}")
    for step in range(math.ceil(math.log10(MOST_SECONDS / LEAST_SECONDS) * _PER_DECADE) + 1)
)
"""Where each bucket ends, in seconds. All processes have the same buckets, so they can be added."""

_STEP = _PER_DECADE / math.log(10)
_START = math.log(LEAST_SECONDS)


class Histogram:
    """How many durations there were in each bucket.

    :ivar counts: one for each of `BOUNDS`, and one for what is longer.
    :ivar sum_seconds: of all durations.
    """

    __slots__ = ("counts", "sum_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum_seconds = 0.0

    def __len__(self) -> int:
        return sum(self.counts)

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count a duration, 0 or more, so many times."""
        self.counts[_bucket(seconds)] += times
        self.sum_seconds += seconds * times

    def quantile(self, share: float) -> float:
        """Return a duration that this share of all does not exceed.

        It is in seconds, and NaN if there are none. It is right within 10 % between
        `LEAST_SECONDS` and `MOST_SECONDS`.
        """
        total = len(self)
        if not total:
            return math.nan
        rank = max(1, math.ceil(total * share))
        for index, count in enumerate(self.counts):
            rank -= count
            if rank <= 0:
                return BOUNDS[min(index, len(BOUNDS) - 1)]
        raise AssertionError("no bucket has the rank")


def _bucket(seconds: float) -> int:
    """Return the index of the first bucket that ends at ``seconds`` or later."""
    if seconds <= LEAST_SECONDS:
        return 0
    index = max(1, min(math.ceil((math.log(seconds) - _START) * _STEP), len(BOUNDS)))
    # Bounds are rounded to what a person can read.
    if seconds <= BOUNDS[index - 1]:
        return index - 1
    return index if index == len(BOUNDS) or seconds <= BOUNDS[index] else index + 1
