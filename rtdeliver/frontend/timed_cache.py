"""What a process keeps for a while, since it may be asked for again."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from twisted.internet.interfaces import IReactorTime

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Kept(NamedTuple, Generic[V]):
    value: V
    size: int
    until: float


class TimedCache(Generic[K, V]):
    """Keeps values for some seconds, and no more bytes than are allowed, but for a last value."""

    def __init__(self, *, seconds: float, most_bytes: int, clock: IReactorTime) -> None:
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._clock = clock
        # The oldest first.
        self._kept: OrderedDict[K, _Kept[V]] = OrderedDict()
        self.size = 0
        """How many bytes are kept."""

    def get(self, key: K) -> V | None:
        """Return the value that was put under ``key`` last, if it is kept still."""
        now = self._clock.seconds()
        while self._kept:
            oldest = next(iter(self._kept))
            if self._kept[oldest].until > now:
                break
            self._forget(oldest)
        kept = self._kept.get(key)
        return None if kept is None else kept.value

    def put(self, key: K, value: V, size: int) -> None:
        """Keep ``value``, which takes up so many bytes."""
        if key in self._kept:
            self._forget(key)
        self._kept[key] = _Kept(value, size, self._clock.seconds() + self._seconds)
        self.size += size
        while self.size > self._most_bytes and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: K) -> None:
        self.size -= self._kept.pop(key).size
