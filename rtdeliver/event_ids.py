"""How events get their ids."""

import re
import secrets
import string
from collections.abc import Callable

_ID = re.compile("([0-9]{13})-[0-9]+-[a-z0-9]{6}")


def time_of(id: str) -> int | None:
    """Return when `EventIds` made an id, in milliseconds since the epoch; ``None`` for others."""
    found = _ID.fullmatch(id)
    return int(found[1]) if found else None


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
