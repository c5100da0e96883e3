"""Which topics have the most viewers, found bit by bit."""

import heapq
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rtdeliver.model import Topic

log = Logger()

_TOP = 20
# So many are looked at without a pause; that takes about a millisecond.
_AT_A_TIME = 5_000
_PAUSE_SECONDS = 0.05
_REFRESH_SECONDS = 2.0


class TopTopics:
    """The topics with the most viewers, as long as somebody wants to know.

    :param counts: yields all topics with the numbers of their viewers.
    """

    def __init__(
        self, *, counts: Callable[[], Iterator[tuple[Topic, int]]], clock: IReactorTime
    ) -> None:
        self._counts = counts
        self._clock = clock
        self._top: list[tuple[int, Topic]] = []
        self._left: Iterator[tuple[Topic, int]] = iter(())
        self._found: list[tuple[int, Topic]] = []
        self._fresh_until = clock.seconds()
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def tell(self) -> list[dict[str, Any]]:
        """Return what was last found, and look again if that is old."""
        if self._clock.seconds() >= self._fresh_until and not self._loop.running:
            self._left, self._found = self._counts(), []
            self._loop.start(_PAUSE_SECONDS).addErrback(
                lambda failure: log.failure("topics could not be counted", failure)
            )
        return [{"topic": topic, "viewers": viewers} for viewers, topic in self._top]

    def _look(self) -> None:
        some = [(viewers, topic) for topic, viewers in islice(self._left, _AT_A_TIME)]
        self._found = heapq.nlargest(_TOP, [*self._found, *some])
        if len(some) < _AT_A_TIME:
            self._top = self._found
            self._fresh_until = self._clock.seconds() + _REFRESH_SECONDS
            self._loop.stop()
