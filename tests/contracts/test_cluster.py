"""The parts of tests.cluster keep the contracts of what they stand in for, in fine weather."""

import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.history.classes import HistoryClasses
from rtdeliver.history.memory import MemoryHistory
from rtdeliver.interfaces import IDispatcherClient, IFrontendClient, IHistory, IRoutingTable
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.cluster import (
    HistoryConnection,
    Network,
    Process,
    SimulatedDispatchers,
    SimulatedFrontends,
    Store,
    StoreConnection,
    StoreState,
)
from tests.contracts.contract import fired_with
from tests.contracts.dispatcher_client import DispatcherClientContract
from tests.contracts.frontend_client import FrontendClientContract
from tests.contracts.history import LONG_AGO, SETTINGS, HistoryContract
from tests.contracts.routing_table import AwayRoutingTableContract, RoutingTableContract
from tests.fakes import (
    ScriptedDispatcherClient,
    ScriptedFrontendClient,
    new_dispatcher,
    new_frontend,
)

STEP_SECONDS = 0.001
"""How long a call is on its way."""


def process_of(role: Any, node: str, clock: Clock) -> Process[Any]:
    return Process(node=node, incarnation="first", now=clock.seconds(), build=lambda _: role)


def network_of(callee: Process[Any], clock: Clock) -> Network:
    """A network on which there is ``callee`` alone."""
    return Network(clock=clock, processes={callee.node: callee}, seed=random.Random(0))


class SimulatedDispatchersTests(DispatcherClientContract, SynchronousTestCase):
    implementation = SimulatedDispatchers

    def make_client(
        self,
        dispatcher: Dispatcher,
        routing_table: IRoutingTable,
        history: IHistory,
    ) -> IDispatcherClient:
        caller = new_frontend(self.clock, ScriptedDispatcherClient())
        return SimulatedDispatchers(
            process=process_of(caller, "n1", self.clock),
            nodes=["d1"],
            network=network_of(process_of(dispatcher, "d1", self.clock), self.clock),
        )

    def let_be_answered(self) -> None:
        self.clock.pump([STEP_SECONDS] * 2)


class HistoryConnectionTests(HistoryContract, SynchronousTestCase):
    implementation = HistoryConnection

    def make_history(self) -> IHistory:
        self.clock = Clock()
        store = Store(self.clock, self.new_history)
        dispatcher = new_dispatcher(
            self.clock, MemoryRoutingTable(clock=self.clock), ScriptedFrontendClient()
        )
        self.advance(LONG_AGO)
        return HistoryConnection(store=store, process=process_of(dispatcher, "d1", self.clock))

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


class SimulatedFrontendsTests(FrontendClientContract, SynchronousTestCase):
    implementation = SimulatedFrontends

    def make_client(self, frontend: Frontend) -> IFrontendClient:
        table = MemoryRoutingTable(clock=self.clock)
        caller = new_dispatcher(self.clock, table, ScriptedFrontendClient())
        return SimulatedFrontends(
            process=process_of(caller, "d1", self.clock),
            network=network_of(process_of(frontend, "n1", self.clock), self.clock),
            delivered=lambda *_: None,
        )

    def let_be_answered(self) -> None:
        self.clock.pump([STEP_SECONDS] * 2)


class OnStore:
    """Makes a connection to a store of its own."""

    implementation: type = StoreConnection

    def make_table(self) -> IRoutingTable:
        self.clock = Clock()
        self.clock.advance(1)
        self.store = Store(self.clock)
        caller = new_dispatcher(
            self.clock, MemoryRoutingTable(clock=self.clock), ScriptedFrontendClient()
        )
        self.process = process_of(caller, "d1", self.clock)
        return StoreConnection(
            store=self.store,
            process=self.process,
            swept=lambda _: None,
        )

    def get(self, deferred: Deferred[Any]) -> Any:
        return fired_with(deferred)


class StoreConnectionTests(OnStore, RoutingTableContract, SynchronousTestCase):
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.process.move_to(self.clock.seconds())


class AwayStoreConnectionTests(OnStore, AwayRoutingTableContract, SynchronousTestCase):
    def make_table(self) -> IRoutingTable:
        routing_table = super().make_table()
        self.store.state = StoreState.AWAY
        return routing_table
