"""Tells the service manager that the reactor still runs; see sd_watchdog_enabled(3)."""

import os
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall


def feed_watchdog(
    clock: IReactorTime, environ: Mapping[str, str], notify: Callable[[str], None]
) -> None:
    """Notify the service manager twice within each time that it allows, if it wants that at all.

    The reactor does it: one that hangs does not, and the service manager starts the process again.

    :param environ: where the service manager says what it wants of which process.
    :param notify: sends a state to the service manager.
    """
    seconds = int(environ.get("WATCHDOG_USEC") or 0) / 1e6
    if seconds and environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
        feeding = LoopingCall(notify, "WATCHDOG=1")
        feeding.clock = clock
        feeding.start(seconds / 2)
