"""How often each visitor, and each address, may do something."""

import ipaddress
import math
import re
from collections import OrderedDict

import msgspec
from twisted.internet.interfaces import IReactorTime

from rtdeliver.errors import TooManyRequests
from rtdeliver.likes.model import Visitor
from rtdeliver.metrics import Sample, counter

_ROUNDING = 1e-6
# Some proxies add the client's port.
_WITH_PORT = re.compile(r"\[(.+)\](?::\d+)?|([\d.]+):\d+")
# A client is usually given this much of an IPv6 address, and chooses the rest (RFC 6177, RFC 8981).
_IPV6_PREFIX = 64


class Allowance(msgspec.Struct, frozen=True):
    """How much a visitor may do.

    :param per_second: on average.
    :param burst: at once, after a while without anything.
    """

    per_second: float
    burst: float

    def times(self, visitors: float) -> "Allowance":
        """Return what so many visitors may do together."""
        return Allowance(self.per_second * visitors, self.burst * visitors)


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
        left = self._left(visitor)
        enough = left >= 1 - _ROUNDING
        self._buckets[visitor] = (left - 1 if enough else left, self._clock.seconds())
        self._buckets.move_to_end(visitor)
        while len(self._buckets) > self._visitors:
            self._buckets.popitem(last=False)
        if not enough:
            self.refused += 1
            raise TooManyRequests(
                f"too many {self._what}: {self._allowance.per_second:g} a second are allowed",
                headers={"Retry-After": str(math.ceil(self._seconds_until_one(left)))},
            )

    def seconds_until_free(self, visitor: str) -> float:
        """Return how long a visitor has to wait for a token; 0 if there is one."""
        left = self._left(visitor)
        return 0.0 if left >= 1 - _ROUNDING else self._seconds_until_one(left)

    def _left(self, visitor: str) -> float:
        allowance = self._allowance
        now = self._clock.seconds()
        left, since = self._buckets.get(visitor, (allowance.burst, now))
        # The clock may be set back.
        return min(allowance.burst, left + max(0.0, now - since) * allowance.per_second)

    def _seconds_until_one(self, left: float) -> float:
        return (1 - left) / self._allowance.per_second


class VisitorLimit:
    """Limits each visitor, and apart from that all visitors at one address together.

    Names cost nothing, so a limit for each name alone limits nobody.

    :param visitors: limits each member, and those without a name at one address.
    :param addresses: limits all of an address.
    """

    def __init__(self, *, visitors: RateLimit, addresses: RateLimit) -> None:
        self._visitors = visitors
        self._addresses = addresses

    def take(self, visitor: Visitor) -> None:
        """Take one token of a visitor, and one of its address.

        :raises TooManyRequests: if one of them has none; nothing is taken then.
        """
        both = [(self._visitors, visitor.key), (self._addresses, visitor.address)]
        # The one with the longest wait comes first: if it has a token, so has the other.
        both.sort(key=lambda one: one[0].seconds_until_free(one[1]), reverse=True)
        for limit, key in both:
            limit.take(key)

    def samples(self, of: str) -> list[Sample]:
        """Return how much was refused.

        :param of: the name of what is limited.
        """
        limits = {"visitor": self._visitors, "address": self._addresses}
        return [refused(limit, of, by=by) for by, limit in limits.items()]


def refused(limit: RateLimit, of: str, *, by: str) -> Sample:
    """Return how much a limit refused.

    :param of: the name of what is limited.
    :param by: whose limit it is: a visitor's, or an address's.
    """
    return counter("app_refused", "Requests over a rate limit.", limit.refused, of=of, by=by)


def one_client(address: str) -> str:
    """Return what stands for a client in limits: its address, or the network if that is IPv6.

    A client can take any address of its IPv6 network, so these count as one.

    :param address: with or without a port. Anything that is no address stands for itself.
    """
    match = _WITH_PORT.fullmatch(address)
    try:
        parsed = ipaddress.ip_address((match[1] or match[2]) if match else address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), _IPV6_PREFIX), strict=False))
