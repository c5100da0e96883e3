"""How a process measures durations: by a clock that nobody sets."""

import time
from collections.abc import Callable
from typing import Any


def measure_monotonic_time(reactor: Any, seconds: Callable[[], float] = time.monotonic) -> None:
    """Let the reactor's timers run on monotonic time; call this before anything is scheduled.

    By default, a reactor's time is the wall clock. After that is set back by an hour, no timer
    fires for an hour, and a lease that ends at a time of the wall clock lasts an hour longer.

    `IReactorTime` promises no particular clock. Reactors of Twisted read theirs only by their
    attribute ``seconds``, and hand it to each delayed call; they add it to no time of another
    clock. Whoever is given the reactor as a clock measures durations with it. Whoever needs the
    time of day is given the wall clock beside it, as ``now``.

    Of Twisted, only the log lines of `twisted.web.server.Site` take the reactor's time for the time
    of day, and our sites write none. Slices of `twisted.internet.task.Cooperator` end by the wall
    clock; when that is set back, one slice takes longer.

    :param seconds: the clock.
    :raises RuntimeError: if something is scheduled, by the wall clock.
    """
    if reactor.getDelayedCalls():
        raise RuntimeError(f"calls are scheduled by the wall clock: {reactor.getDelayedCalls()}")
    reactor.seconds = seconds
