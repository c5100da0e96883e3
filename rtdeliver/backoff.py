"""How long to wait after a failure before the next attempt."""

import random
from collections.abc import Callable

from twisted.application.internet import backoffPolicy

from rtdeliver.config.sections import Pauses


class Backoff:
    """Pauses that double with each failure in a row, up to a bound.

    Twisted's policy gives the growth. Its jitter adds up to a second to any pause, however short;
    here the pause itself is drawn from its upper half, so that many processes which lost the same
    server spread over a time that grows with their number of attempts.

    :param pauses: the shortest and the longest.
    :param draw: returns a number between two others.
    """

    def __init__(
        self, pauses: Pauses, *, draw: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._pause = backoffPolicy(
            initialDelay=pauses.min_seconds,
            maxDelay=pauses.max_seconds,
            factor=2,
            jitter=lambda: 0.0,
        )
        self._draw = draw
        self.failures = 0

    def fail(self) -> float:
        """Note a failure, and return the seconds to wait before the next attempt."""
        pause = self._pause(self.failures)
        self.failures += 1
        return self._draw(pause / 2, pause)

    def succeed(self) -> bool:
        """Note a success, and return whether failures came before it."""
        had_failed = self.failures > 0
        self.failures = 0
        return had_failed
