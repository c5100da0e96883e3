"""How events get their ids."""

import secrets
import string

from twisted.internet.interfaces import IReactorTime


class EventIds:
    """Makes ids that are unique and sort by time: milliseconds, sequence number, process.

    If the clock is set back, the ids still go on in order.
    """

    def __init__(self, *, clock: IReactorTime) -> None:
        alphabet = string.ascii_lowercase + string.digits
        self._process = "".join(secrets.choice(alphabet) for _ in range(6))
        self._clock = clock
        self._milliseconds = 0
        self._sequence = 0

    def next(self) -> str:
        """Return an id that was never returned before."""
        now = int(self._clock.seconds() * 1000)
        if now > self._milliseconds:
            self._milliseconds, self._sequence = now, 0
        else:
            self._sequence += 1
        return f"{self._milliseconds}-{self._sequence}-{self._process}"
