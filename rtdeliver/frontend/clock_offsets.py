"""How far the dispatchers' wall clocks are from this process's."""

from collections import deque
from collections.abc import Callable

import msgspec
from twisted.logger import Logger

from rtdeliver.messages import Acknowledgement
from rtdeliver.metrics import Sample, gauge

log = Logger()

WARN_SECONDS = 0.05
"""An offset that is larger makes ages of events misleading."""

# Of so many exchanges, the shortest one tells best.
_EXCHANGES = 8


class _Exchange(msgspec.Struct, frozen=True):
    """What one announcement told.

    :param way_seconds: how long the request and the answer were on their way.
    :param offset_seconds: by how much the dispatcher's clock is ahead.
    """

    way_seconds: float
    offset_seconds: float


class ClockOffsets:
    """Estimates the offsets from the times at which announcements are sent, taken and answered.

    It assumes that a request takes as long as its answer (RFC 5905, section 8), and believes the
    exchange that was on its way for the shortest time. The offset is wrong by half of that at most.

    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._exchanges: dict[str, deque[_Exchange]] = {}
        self._warned: set[str] = set()

    def note(self, dispatcher: str, sent_at: float, answer: Acknowledgement) -> None:
        """Note an answer that has just come.

        :param dispatcher: its URL.
        :param sent_at: when the announcement was sent, in seconds since the epoch.
        """
        if not answer.answered_at:
            return
        ahead_there = answer.received_at - sent_at
        ahead_back = answer.answered_at - self.now()
        exchange = _Exchange(ahead_there - ahead_back, (ahead_there + ahead_back) / 2)
        kept = self._exchanges.setdefault(dispatcher, deque(maxlen=_EXCHANGES))
        kept.append(exchange)
        self._warn(dispatcher, self.offset_seconds(dispatcher))

    def offset_seconds(self, dispatcher: str) -> float:
        """Return by how much a dispatcher's clock is ahead; negative if it is behind."""
        # The newest of those that are as short.
        newest_first = reversed(self._exchanges[dispatcher])
        return min(newest_first, key=lambda other: round(other.way_seconds, 4)).offset_seconds

    def samples(self) -> list[Sample]:
        return [
            gauge(
                "clock_offset_seconds",
                "By how much a dispatcher's clock is ahead of this process's.",
                self.offset_seconds(dispatcher),
                dispatcher=dispatcher,
            )
            for dispatcher in self._exchanges
        ]

    def _warn(self, dispatcher: str, offset_seconds: float) -> None:
        if abs(offset_seconds) <= WARN_SECONDS:
            self._warned.discard(dispatcher)
        elif dispatcher not in self._warned:
            self._warned.add(dispatcher)
            log.warn(
                "the clock of {dispatcher} is {offset} s {direction} this one's: let NTP set both",
                dispatcher=dispatcher,
                offset=f"{abs(offset_seconds):.3f}",
                direction="ahead of" if offset_seconds > 0 else "behind",
            )
