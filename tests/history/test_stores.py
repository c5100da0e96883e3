"""Tests of the histories that need no Redis."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.history.classes import HistoryClasses
from rtdeliver.history.memory import MemoryHistory
from rtdeliver.history.sharded import ShardedHistory
from rtdeliver.interfaces import IHistory
from tests.contracts.contract import fired_with
from tests.contracts.history import LONG_AGO, SETTINGS, HistoryContract


class MemoryHistoryTests(HistoryContract, SynchronousTestCase):
    implementation: type = MemoryHistory

    def make_history(self) -> IHistory:
        self.clock = Clock()
        history = self.new_history()
        self.advance(LONG_AGO)
        return history

    def new_history(self) -> IHistory:
        return MemoryHistory(
            classes=HistoryClasses(SETTINGS.topics),
            settings=SETTINGS,
            clock=self.clock,
            now=lambda: self.now() / 1000,
        )

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def now(self) -> int:
        return 1_795_417_956_000 + round(1000 * self.clock.seconds())

    def get(self, deferred: Deferred[Any]) -> Any:
        return fired_with(deferred)


class ShardedHistoryTests(MemoryHistoryTests):
    implementation = ShardedHistory
    stores = 2

    def new_history(self) -> IHistory:
        return ShardedHistory(
            {name: super(ShardedHistoryTests, self).new_history() for name in "ab"}
        )
