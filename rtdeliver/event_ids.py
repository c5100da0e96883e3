"""How events get their ids."""

import secrets
import string
from collections.abc import Callable


class EventIds:
    """Makes ids that are unique and sort by time: milliseconds, sequence number, process.

    If the clock is set back, the ids still go on in order.

    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(self, *, now: Callable[[], float]) -> None:
        alphabet = string.ascii_lowercase + string.digits
        self._process = "".join(secrets.choice(alphabet) for _ in range(6))
        self._now = now
        self._milliseconds = 0
        self._sequence = 0

    def next(self) -> str:
        """Return an id that was never returned before."""
        milliseconds = int(self._now() * 1000)
        if milliseconds > self._milliseconds:
            self._milliseconds, self._sequence = milliseconds, 0
        else:
            self._sequence += 1
        return f"{self._milliseconds}-{self._sequence}-{self._process}"
