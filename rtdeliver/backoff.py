"""How long to wait after a failure before the next attempt."""

import random
from collections.abc import Callable

from twisted.application.internet import backoffPolicy

from rtdeliver.config.sections import Pauses


class Backoff:
    """Pauses that double with each consecutive failure, up to a bound.

    Twisted's policy computes the doubling. Its own jitter adds up to a second to any pause, however
    short, so it is not used. Instead, the wait is drawn between half of the pause and all of it.
    Processes that lost the same server then spread over a time that grows with each attempt.

    :param pauses: the shortest and the longest pause.
    :param draw: returns a number between its two arguments.
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
        """Record a failure, and return the seconds to wait before the next attempt."""
        pause = self._pause(self.failures)
        self.failures += 1
        return self._draw(pause / 2, pause)

    def succeed(self) -> bool:
        """Record a success, and return whether failures came before it."""
        had_failed = self.failures > 0
        self.failures = 0
        return had_failed
