"""Values with how many times each came: small, and exact enough for every percentile."""

import math
from collections.abc import Iterable, Mapping

_DIGITS = 3


class Spread:
    """Counts values, rounded to three digits and to tenths, whichever is less exact.

    So a percentile is right within 0.5 %, and there are at most about a thousand different values
    for each power of ten.

    :param counts: how many times each value came.
    """

    __slots__ = ("counts",)

    def __init__(self, counts: Iterable[tuple[float, int]] = ()) -> None:
        self.counts: dict[float, int] = {}
        self.add_all(counts)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def add(self, value: float, times: int = 1) -> None:
        """Count a value so many times."""
        rounded = _rounded(value)
        self.counts[rounded] = self.counts.get(rounded, 0) + times

    def add_all(self, counts: Iterable[tuple[float, int]], shift: float = 0.0) -> None:
        """Count many values, each so many times.

        :param shift: is added to each value.
        """
        for value, times in counts:
            self.add(value + shift, times)

    def items(self) -> tuple[tuple[float, int], ...]:
        """Return each value, with how many times it came."""
        return tuple(self.counts.items())

    def quantile(self, share: float) -> float:
        """Return the value that this share of all does not exceed; NaN if there are none."""
        [value] = quantiles(self.counts, share)
        return value


def quantiles(counts: Mapping[float, int], *shares: float) -> list[float]:
    """Return for each share the value that so many do not exceed.

    :param shares: from the smallest to the greatest.
    """
    total = sum(counts.values())
    if not total:
        return [math.nan for _ in shares]
    found: list[float] = []
    passed = 0
    ordered = sorted(counts.items())
    for value, times in ordered:
        passed += times
        while len(found) < len(shares) and passed >= max(1, math.ceil(total * shares[len(found)])):
            found.append(value)
    return found


def _rounded(value: float) -> float:
    size = abs(value)
    if size < 100:
        return round(value, 1)
    return float(round(value, _DIGITS - 1 - math.floor(math.log10(size))))
