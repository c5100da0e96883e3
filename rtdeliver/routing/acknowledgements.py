"""How a dispatcher learns that all others have heard of a change in the routing table."""

import secrets
from itertools import count
from typing import NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class _Waiter(NamedTuple):
    """Waits until so many dispatchers have acknowledged a change."""

    dispatchers: int
    done: Deferred[None]
    timer: IDelayedCall


class Acknowledgements:
    """Gives out tokens for changes, and waits until the dispatchers have acknowledged them.

    A token is the name of this dispatcher, a dot, and a number.

    :param wait_seconds: how long to wait for one change at most.
    """

    def __init__(self, *, clock: IReactorTime, wait_seconds: float) -> None:
        self.name = secrets.token_hex(8)
        self.overdue = 0
        """How many changes were not acknowledged by all in time."""
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._numbers = count(1)
        self._acknowledged: dict[str, int] = {}
        self._waiting: dict[str, _Waiter] = {}

    def new_token(self) -> str:
        """Return a token for a change that is about to be made."""
        token = f"{self.name}.{next(self._numbers)}"
        self._acknowledged[token] = 0
        return token

    def forget(self, token: str) -> None:
        """The change of ``token`` was not made, or was no change."""
        self._acknowledged.pop(token, None)

    def note(self, token: str) -> None:
        """A dispatcher has acknowledged the change of ``token``."""
        if token in self._acknowledged:
            self._acknowledged[token] += 1
            self._settle(token)

    def wait(self, token: str, dispatchers: int) -> Deferred[None]:
        """Fires when ``dispatchers`` have acknowledged the change, or after ``wait_seconds``."""
        if self._acknowledged[token] >= dispatchers:
            self.forget(token)
            return succeed(None)
        done: Deferred[None] = Deferred()
        timer = self._clock.callLater(self._wait_seconds, self._give_up, token)
        self._waiting[token] = _Waiter(dispatchers=dispatchers, done=done, timer=timer)
        return done

    def _settle(self, token: str) -> None:
        if token in self._waiting and self._acknowledged[token] >= self._waiting[token].dispatchers:
            self._end(token)

    def _give_up(self, token: str) -> None:
        self.overdue += 1
        self._end(token)

    def _end(self, token: str) -> None:
        self.forget(token)
        waiter = self._waiting.pop(token)
        if waiter.timer.active():
            waiter.timer.cancel()
        waiter.done.callback(None)


def owner_of(token: str) -> str:
    """Return the name of the dispatcher that gave out ``token``."""
    return token.partition(".")[0]
