"""Tests of rtdeliver.revocations.memory."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.interfaces import IRevocationStore
from rtdeliver.revocations.memory import MemoryRevocationStore
from tests.contracts.contract import fired_with
from tests.contracts.revocation_store import MOST, PAGE, RevocationStoreContract


class MemoryRevocationStoreTests(RevocationStoreContract, SynchronousTestCase):
    implementation = MemoryRevocationStore

    def make_store(self) -> IRevocationStore:
        self.wall = Clock()
        self.wall.advance(1_795_417_956)
        return self.new_store()

    def new_store(self) -> IRevocationStore:
        return MemoryRevocationStore(max_revocations=MOST, now=self.wall.seconds, page=PAGE)

    def lose(self) -> None:
        self.store = self.new_store()

    def now(self) -> float:
        return self.wall.seconds()

    def advance(self, seconds: float) -> None:
        self.wall.advance(seconds)

    def get(self, deferred: Deferred[Any]) -> Any:
        return fired_with(deferred)
