"""The contract of IOwnerClient, for every implementation."""

from collections.abc import Mapping

from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from rtdeliver.errors import RemoteFailure, UnknownConnection
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.interfaces import IConnections, IOwnerClient
from rtdeliver.messages import TopicsChange
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.contracts.contract import SynchronousContract
from tests.fakes import TableDispatcherClient, Viewer, new_frontend

RED, GREEN = Topic("live:red"), Topic("live:green")
N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")
N2 = FrontendRef(node="n2", url="http://10.0.0.6:8081", incarnation="first")
N3 = FrontendRef(node="n3", url="http://10.0.0.7:8081", incarnation="first")


class OwnerClientContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that says how frontends are reached."""

    interface = IOwnerClient

    def make_client(self, frontends: Mapping[FrontendRef, Frontend]) -> IOwnerClient:
        """Return a client in whose world there are these frontends, and nobody else."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        dispatchers = TableDispatcherClient(MemoryRoutingTable(clock=self.clock))
        frontends = {ref: new_frontend(self.clock, dispatchers) for ref in (N1, N2)}
        self.viewers = {}
        for ref, frontend in frontends.items():
            frontend.start(ref.url)
            self.viewers[ref] = Viewer(frontend, self.clock, RED)
        self.clock.advance(2)
        self.client = self.make_client(frontends)

    def subject(self) -> IOwnerClient:
        return self.client

    def test_it_gives_connections(self) -> None:
        self.assertTrue(verifyObject(IConnections, self.client.connections(N1)))

    def test_each_frontend_is_asked_for_its_own(self) -> None:
        for ref, other in ((N1, N2), (N2, N1)):
            connections = self.client.connections(ref)
            id = self.viewers[ref].id
            told = self.successResultOf(connections.subscriptions(id))
            self.assertEqual((id, [RED]), (told.connection, list(told.topics)))
            unknown = connections.subscriptions(self.viewers[other].id)
            self.failureResultOf(unknown, UnknownConnection)

    def test_what_one_who_asked_has_changed_the_next_one_is_told(self) -> None:
        id = self.viewers[N2].id
        change = TopicsChange(add=(), remove=(RED,))
        self.successResultOf(self.client.connections(N2).subscribe(id, change))
        told = self.successResultOf(self.client.connections(N2).subscriptions(id))
        self.assertEqual([], list(told.topics))

    def test_a_frontend_that_is_not_there_fails_each_call(self) -> None:
        connections = self.client.connections(N3)
        id = self.viewers[N1].id
        self.failureResultOf(connections.subscriptions(id), RemoteFailure)
        change = TopicsChange(add=(GREEN,), remove=())
        self.failureResultOf(connections.subscribe(id, change), RemoteFailure)
