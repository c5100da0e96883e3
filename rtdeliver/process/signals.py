"""What a process does with signals: it drains, ends at once, or reloads its settings."""

import math
import os
import signal
import time
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

# A signal so soon after the first one repeats it: a service manager or a shell may signal a process
# both directly and through its parent.
_ECHO_SECONDS = 0.5


def stop_once(
    reactor: Any,
    numbers: Collection[signal.Signals],
    *,
    again: Callable[[int], None],
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Let only the first of these signals stop the reactor; a second stop would log a traceback.

    :param again: called in the handler of a later signal, with its number.
    """
    times, told_at = 0, math.inf

    def install() -> None:
        for number in numbers:
            stop = signal.getsignal(number)
            if callable(stop):
                signal.signal(number, make_handler(stop))

    def make_handler(stop: Callable[[int, FrameType | None], Any]) -> Any:
        def handle(number: int, frame: FrameType | None) -> None:
            # Another signal may interrupt this call.
            nonlocal times, told_at
            times += 1
            if times == 1:
                told_at = now()
                stop(number, frame)
            elif now() - told_at >= _ECHO_SECONDS:
                again(number)

        return handle

    # The reactor installs its own handlers, which stop it, when it starts to run.
    reactor.callWhenRunning(install)


def reload_at_hangup(reactor: Any, reload: Callable[[], None]) -> None:
    """Call ``reload`` in the reactor at each SIGHUP, which would end the process otherwise."""

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        reactor.callFromThread(reload)

    signal.signal(signal.SIGHUP, handle)


def end_at_once(number: int) -> None:
    """End the process by a signal, without the handler that it has for this signal."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
