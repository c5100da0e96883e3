"""What a process does when it is told to end: drain at the first signal, obey at the next."""

import math
import os
import signal
import time
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

# What comes so soon after the first signal is the same one: a service manager or a shell may tell
# a process both itself and through its parent.
_ECHO_SECONDS = 0.5


def stop_once(
    reactor: Any,
    numbers: Collection[signal.Signals],
    *,
    again: Callable[[int], None],
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Let the first of these signals stop the reactor, which a second call of ``stop`` would log.

    :param again: called in the handler of a signal that comes later.
    """
    times, told_at = 0, math.inf

    def install() -> None:
        for number in numbers:
            stop = signal.getsignal(number)
            if callable(stop):
                signal.signal(number, make_handler(stop))

    def make_handler(stop: Callable[[int, FrameType | None], Any]) -> Any:
        def heed(number: int, frame: FrameType | None) -> None:
            # Another signal may interrupt this very call.
            nonlocal times, told_at
            times += 1
            if times == 1:
                told_at = now()
                stop(number, frame)
            elif now() - told_at >= _ECHO_SECONDS:
                again(number)

        return heed

    # The reactor installs its own handlers, which stop it, when it starts.
    reactor.callWhenRunning(install)


def end_at_once(number: int) -> None:
    """Let the process end by a signal that it has a handler for."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
