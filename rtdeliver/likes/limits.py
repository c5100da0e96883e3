"""How much one visitor may do."""

import math
from collections import OrderedDict

import msgspec
from twisted.internet.interfaces import IReactorTime

from rtdeliver.errors import TooManyRequests

_ROUNDING = 1e-6


class Allowance(msgspec.Struct, frozen=True):
    """So much a second, and so much at once by one who did nothing for a while."""

    per_second: float
    burst: int


class RateLimit:
    """A token bucket for each visitor.

    :param visitors: how many are remembered; beyond that, those who did nothing for longest are
        not.
    """

    def __init__(
        self, *, what: str, allowance: Allowance, visitors: int, clock: IReactorTime
    ) -> None:
        self._what = what
        self._allowance = allowance
        self._visitors = visitors
        self._clock = clock
        # What is left in each bucket and when that was so, the one that was used last at the end.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, visitor: str) -> None:
        """Count one.

        :raises TooManyRequests: if it is too much; then it does not count.
        """
        allowance = self._allowance
        now = self._clock.seconds()
        left, since = self._buckets.get(visitor, (allowance.burst, now))
        # The clock may be set back.
        left = min(allowance.burst, left + max(0.0, now - since) * allowance.per_second)
        enough = left >= 1 - _ROUNDING
        self._buckets[visitor] = (left - 1 if enough else left, now)
        self._buckets.move_to_end(visitor)
        while len(self._buckets) > self._visitors:
            self._buckets.popitem(last=False)
        if not enough:
            self.refused += 1
            seconds = math.ceil((1 - left) / allowance.per_second)
            raise TooManyRequests(
                f"at most {allowance.per_second:g} {self._what} a second, please",
                headers={"Retry-After": str(seconds)},
            )
