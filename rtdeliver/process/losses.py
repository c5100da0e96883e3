"""Sums up in the log what was lost or ended, instead of one line for each."""

from collections import Counter
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

log = Logger()

_LOOK_SECONDS = 1
_TELL_SECONDS = 60


class LossLog:
    """Logs once a minute how counts of losses have grown, by reason, if they have.

    The first loss after a minute without one is told at once.

    :param counts: returns numbers that only grow, by reason; cheap to call.
    """

    def __init__(self, counts: Callable[[], Mapping[str, int]], clock: IReactorTime) -> None:
        self._counts = counts
        self._clock = clock
        self._last: Mapping[str, int] = {}
        self._untold: Counter[str] = Counter()
        self._first_at = self._last_at = 0.0
        self._told_at: float | None = None
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to look."""
        self._last = dict(self._counts())
        self._loop.start(_LOOK_SECONDS, now=False).addErrback(
            lambda failure: log.failure("losses are told no longer", failure)
        )

    def stop(self) -> None:
        """Tell what was not told yet, and look no more."""
        if self._loop.running:
            self._loop.stop()
            self._note()
            self._tell()

    def _look(self) -> None:
        self._note()
        now = self._clock.seconds()
        if self._told_at is None or now >= self._told_at + _TELL_SECONDS:
            self._tell()

    def _note(self) -> None:
        counts = dict(self._counts())
        grown = {
            reason: count - self._last.get(reason, 0)
            for reason, count in counts.items()
            if count > self._last.get(reason, 0)
        }
        self._last = counts
        if grown:
            now = self._clock.seconds()
            self._first_at = self._first_at if self._untold else now
            self._last_at = now
            self._untold.update(grown)

    def _tell(self) -> None:
        if not self._untold:
            return
        now = self._clock.seconds()
        log.warn(
            "lost since the last such line: {reasons}; the first {first:.0f} s ago, the last"
            " {last:.0f} s ago",
            reasons=", ".join(f"{count} {reason}" for reason, count in self._untold.most_common()),
            count=self._untold.total(),
            first=now - self._first_at,
            last=now - self._last_at,
        )
        self._untold.clear()
        self._told_at = now
