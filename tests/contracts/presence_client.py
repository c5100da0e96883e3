"""The contract of IPresenceClient, for every implementation."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rtdeliver.config.sections import Presence as PresenceSettings
from rtdeliver.errors import RemoteFailure
from rtdeliver.interfaces import IPresenceClient, IPresenceStore
from rtdeliver.messages import PresenceHeartbeat
from rtdeliver.model import Member
from rtdeliver.presence.memory import MemoryPresenceStore
from rtdeliver.presence.presence import PresenceTracker
from rtdeliver.wire import Draft
from tests.contracts.contract import SynchronousContract
from tests.fakes import FailingPresenceStore

MEMBERS = [Member("ann"), Member("b\u00f6b \u2603")]


class PresenceClientContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that says how a client for one tracker is made."""

    interface = IPresenceClient

    def make_client(self, presence: PresenceTracker) -> IPresenceClient:
        """Return a client of ``presence``."""
        raise NotImplementedError

    def let_be_answered(self) -> None:
        """Let happen what has to happen before an answer is there."""

    def subject(self) -> IPresenceClient:
        return self.client

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_417_956)
        self.published: list[Draft] = []
        times = PresenceSettings(grace_seconds=5, claim_seconds=5)
        self.store = MemoryPresenceStore(settings=times, clock=self.clock, now=self.clock.seconds)
        self.client = self.make_client(self.tracker(self.store))
        self.away = self.make_client(self.tracker(FailingPresenceStore()))

    def tracker(self, store: IPresenceStore) -> PresenceTracker:
        async def publish(drafts: Sequence[Draft]) -> None:
            self.published.extend(drafts)

        return PresenceTracker(
            store=store,
            publish=publish,
            settings=PresenceSettings(batch_members=10, heartbeat_seconds=0, grace_seconds=0),
            clock=self.clock,
        )

    def beat(self, client: IPresenceClient) -> Deferred[None]:
        answer = client.heartbeat(PresenceHeartbeat(members=MEMBERS, heartbeat_seconds=7.5))
        self.let_be_answered()
        return answer

    def test_members_are_there_when_it_fires(self) -> None:
        self.successResultOf(self.beat(self.client))
        there = self.successResultOf(self.store.presence(MEMBERS))
        self.assertEqual([True, True], [presence.online for presence in there])
        self.assertEqual(
            ["presence:ann", "presence:b\u00f6b \u2603"], [draft.topic for draft in self.published]
        )

    def test_the_interval_is_told(self) -> None:
        self.successResultOf(self.beat(self.client))
        self.clock.advance(17)
        self.assertEqual([], self.successResultOf(self.store.sweep(10)).changes)
        self.clock.advance(1)
        self.assertEqual(2, len(self.successResultOf(self.store.sweep(10)).changes))

    def test_a_dispatcher_that_has_no_store_is_a_failure(self) -> None:
        self.failureResultOf(self.beat(self.away), RemoteFailure)
