"""Tests of rtdeliver.roles.local."""

from collections.abc import Sequence
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.errors import Unreachable
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.interfaces import (
    IDispatcherClient,
    IFrontendClient,
    IFrontendDeliveries,
    IHistory,
    IPlatform,
    IPresenceClient,
    IRoutingTable,
)
from rtdeliver.messages import Acknowledgement, Announcement, PresenceHeartbeat, TopicMembers
from rtdeliver.model import FrontendRef, Item, Topic
from rtdeliver.presence.presence import PresenceTracker
from rtdeliver.roles.local import LocalDispatcherClient, LocalFrontendClient, LocalPlatform
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.wire import Draft
from tests.contracts.dispatcher_client import DispatcherClientContract
from tests.contracts.frontend_client import N1, N1_AGAIN, FrontendClientContract
from tests.contracts.platform import DispatcherPlatformContract
from tests.contracts.presence_client import PresenceClientContract
from tests.dispatcher.test_client import client_of, routes_of
from tests.fakes import (
    ScriptedDispatcherClient,
    ScriptedFrontendClient,
    Viewer,
    new_dispatcher,
    new_event,
    new_frontend,
)

RED, GREEN = Topic("live:red"), Topic("live:green")
N2 = FrontendRef(node="n2", url="http://10.0.0.6:8081", incarnation="other")


async def unheard(_: PresenceHeartbeat) -> None:
    raise AssertionError("nobody has come")


class LocalDispatcherClientContractTests(DispatcherClientContract, SynchronousTestCase):
    """The contract, with a call instead of a request."""

    implementation = LocalDispatcherClient

    def make_client(
        self, dispatcher: Dispatcher, routing_table: IRoutingTable, history: IHistory
    ) -> IDispatcherClient:
        return LocalDispatcherClient(
            announce=dispatcher.announce,
            nodes=dispatcher.nodes,
            heartbeat=unheard,
            revocations=dispatcher.revocations,
            restore=dispatcher.restore,
            history=dispatcher.read_history,
        )


class LocalPresenceClientContractTests(PresenceClientContract, SynchronousTestCase):
    """The contract, with a call instead of a request."""

    implementation = LocalDispatcherClient

    def make_client(self, presence: PresenceTracker) -> IPresenceClient:
        dispatcher = new_dispatcher(
            self.clock, MemoryRoutingTable(clock=self.clock), ScriptedFrontendClient()
        )
        return LocalDispatcherClient(
            announce=dispatcher.announce,
            nodes=dispatcher.nodes,
            heartbeat=presence.heartbeat,
            revocations=dispatcher.revocations,
            restore=dispatcher.restore,
            history=dispatcher.read_history,
        )


class LocalFrontendClientContractTests(FrontendClientContract, SynchronousTestCase):
    """The contract, with a call instead of a request to this process's own frontend."""

    implementation = LocalFrontendClient

    def make_client(self, frontend: Frontend) -> IFrontendClient:
        return LocalFrontendClient(
            incarnation="first",
            local=frontend,
            remote=client_of(routes_of(frontend), self.clock),
        )


class LocalPlatformContractTests(DispatcherPlatformContract, SynchronousTestCase):
    """The contract, with a call instead of a request."""

    implementation = LocalPlatform

    def make_platform(
        self, dispatcher: Dispatcher, routing_table: IRoutingTable, presence: PresenceTracker
    ) -> IPlatform:
        return LocalPlatform(
            publish=dispatcher.publish,
            viewers=routing_table.viewers,
            presence=presence.presence,
            disconnect=partial(dispatcher.disconnect, keep_seconds=60),
        )


@implementer(IFrontendDeliveries)
class FailingDeliveries:
    """A frontend with a fault."""

    def deliver(self, batch: Sequence[Item]) -> None:
        raise ZeroDivisionError

    def members(self, topic: Topic, after: str, limit: int) -> TopicMembers:
        raise ZeroDivisionError


class LocalFrontendClientTests(SynchronousTestCase):
    """Which frontend is meant."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.local = new_frontend(self.clock, ScriptedDispatcherClient())
        self.viewer = Viewer(self.local, self.clock, RED)
        self.clock.advance(2)
        self.remote = ScriptedFrontendClient()
        self.client = LocalFrontendClient(incarnation="first", local=self.local, remote=self.remote)

    def ids(self) -> list[str]:
        """What the viewer of this process's own frontend got so far."""
        self.clock.advance(0)
        return self.viewer.ids

    def test_deliveries_to_this_process_go_nowhere_else(self) -> None:
        batch = [new_event("1", RED)]
        self.successResultOf(self.client.deliver(N1, batch))
        self.assertEqual(["1"], self.ids())
        self.assertEqual([], self.remote.deliveries)

    def test_deliveries_to_others_go_to_them(self) -> None:
        batch = [new_event("1", RED)]
        for other in (N2, N1_AGAIN):
            answer = self.client.deliver(other, batch)
            self.assertNoResult(answer)
            self.assertEqual((other, batch), self.remote.deliveries[-1])
            self.remote.answers[-1].errback(Unreachable("refused"))
            self.failureResultOf(answer, Unreachable)
        self.assertEqual([], self.ids())

    def test_a_fault_of_the_frontend_is_a_failure_and_no_exception(self) -> None:
        client = LocalFrontendClient(
            incarnation="first", local=FailingDeliveries(), remote=self.remote
        )
        self.failureResultOf(client.deliver(N1, [new_event("1", RED)]), ZeroDivisionError)


class LocalDispatcherClientTests(SynchronousTestCase):
    """What is passed on."""

    def test_the_announcement_is_passed_on_as_it_is(self) -> None:
        told: list[Announcement] = []

        async def announce(announcement: Announcement) -> Acknowledgement:
            told.append(announcement)
            return Acknowledgement(lease_seconds=7, full=True)

        announcement = Announcement(frontend=N1, counts={RED: 1}, lease_seconds=30)
        dispatcher = new_dispatcher(
            Clock(), MemoryRoutingTable(clock=Clock()), ScriptedFrontendClient()
        )
        self.assertEqual(
            Acknowledgement(lease_seconds=7, full=True),
            self.successResultOf(
                LocalDispatcherClient(
                    announce=announce,
                    nodes=MemoryRoutingTable(clock=Clock()).nodes,
                    heartbeat=unheard,
                    revocations=dispatcher.revocations,
                    restore=dispatcher.restore,
                    history=dispatcher.read_history,
                ).announce(announcement)
            ),
        )
        self.assertEqual([announcement], told)


class BothTests(SynchronousTestCase):
    """A frontend and a dispatcher that are one process."""

    def test_what_is_published_reaches_the_viewers(self) -> None:
        clock = Clock()
        frontend = new_frontend(
            clock,
            LocalDispatcherClient(
                announce=lambda told: dispatcher.announce(told),
                nodes=lambda: dispatcher.nodes(),
                heartbeat=unheard,
                revocations=lambda after: dispatcher.revocations(after),
                restore=lambda revocations: dispatcher.restore(revocations),
                history=lambda queries: dispatcher.read_history(queries),
            ),
        )
        dispatcher = new_dispatcher(
            clock,
            MemoryRoutingTable(clock=clock),
            LocalFrontendClient(
                incarnation="first", local=frontend, remote=ScriptedFrontendClient()
            ),
        )
        frontend.start("http://127.0.0.1:8090")
        red, green = Viewer(frontend, clock, RED), Viewer(frontend, clock, GREEN)
        clock.advance(0)
        drafts = [Draft(topic=RED, type="like", data=b"1", id=str(n)) for n in range(3)]
        self.successResultOf(Deferred.fromCoroutine(dispatcher.publish(drafts)))
        clock.advance(0)
        self.assertEqual(["0", "1", "2"], red.ids)
        self.assertEqual([], green.ids)
