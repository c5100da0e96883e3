"""How often each visitor may do something."""

import math
from collections import OrderedDict

import msgspec
from twisted.internet.interfaces import IReactorTime

from rtdeliver.errors import TooManyRequests

_ROUNDING = 1e-6


class Allowance(msgspec.Struct, frozen=True):
    """How much a visitor may do.

    :param per_second: on average.
    :param burst: at once, after a while without anything.
    """

    per_second: float
    burst: int


class RateLimit:
    """A token bucket for each visitor.

    :param what: names what is limited, for the visitor.
    :param visitors: how many are remembered. Beyond that, the one who was idle for longest is
        forgotten.
    """

    def __init__(
        self, *, what: str, allowance: Allowance, visitors: int, clock: IReactorTime
    ) -> None:
        self._what = what
        self._allowance = allowance
        self._visitors = visitors
        self._clock = clock
        # The tokens in each bucket and when it had them; the bucket that was used last is at the
        # end.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, visitor: str) -> None:
        """Take one token of a visitor.

        :raises TooManyRequests: if there is none; nothing is taken then.
        """
        allowance = self._allowance
        now = self._clock.seconds()
        left, since = self._buckets.get(visitor, (allowance.burst, now))
        left = min(allowance.burst, left + (now - since) * allowance.per_second)
        enough = left >= 1 - _ROUNDING
        self._buckets[visitor] = (left - 1 if enough else left, now)
        self._buckets.move_to_end(visitor)
        while len(self._buckets) > self._visitors:
            self._buckets.popitem(last=False)
        if not enough:
            self.refused += 1
            seconds = math.ceil((1 - left) / allowance.per_second)
            raise TooManyRequests(
                f"too many {self._what}: {allowance.per_second:g} a second are allowed",
                headers={"Retry-After": str(seconds)},
            )
