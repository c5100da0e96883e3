"""One timer for very many heartbeats and time limits."""

import math

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rtdeliver.interfaces import IVisited

log = Logger()


class TimingWheel:
    """Visits things when they are due, to the precision of a tick, at the cost of one timer.

    The value that `IVisited.visit` returns asks for the next visit. Nothing is removed from
    outside: a thing that has ended returns ``None`` at its next visit, which is the last.

    :param tick_seconds: how late a visit may be.
    """

    def __init__(self, *, clock: IReactorTime, tick_seconds: float) -> None:
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._slots: dict[int, list[IVisited]] = {}
        self._timer: IDelayedCall | None = None
        self.now = clock.seconds()

    def add(self, visited: IVisited, seconds: float) -> None:
        """Visit ``visited`` once ``seconds`` have passed, and again as it asks."""
        now = self._clock.seconds()
        if self._timer is None:
            self.now = now
            self._wait()
        due = max(math.ceil((now + seconds) / self._tick_seconds), self._tick_at(now) + 1)
        self._slots.setdefault(due, []).append(visited)

    def _tick_at(self, seconds: float) -> int:
        return int(seconds / self._tick_seconds)

    def _wait(self) -> None:
        next_tick = (self._tick_at(self.now) + 1) * self._tick_seconds
        # If binary fractions cannot express the tick, rounding may put its end at or before now.
        seconds = max(next_tick - self.now, self._tick_seconds / 100)
        self._timer = self._clock.callLater(seconds, self._advance)

    def _advance(self) -> None:
        self.now = self._clock.seconds()
        tick = self._tick_at(self.now)
        due = [slot for at in sorted(self._slots) if at <= tick for slot in self._slots.pop(at)]
        for visited in due:
            self._visit(visited)
        self._timer = None
        if self._slots:
            self._wait()

    def _visit(self, visited: IVisited) -> None:
        try:
            seconds = visited.visit(self.now)
        except Exception:
            log.failure("{visited} failed when visited", visited=visited)
            return
        if seconds is not None:
            self.add(visited, seconds)
