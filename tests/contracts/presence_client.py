"""The contract of IPresenceClient, for every implementation."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from rtdeliver.config.sections import Presence as PresenceSettings
from rtdeliver.errors import RemoteFailure, Unavailable
from rtdeliver.interfaces import IPresenceClient
from rtdeliver.messages import PresenceChange, PresenceHeartbeat
from rtdeliver.model import Member
from rtdeliver.presence.memory import MemoryPresenceStore
from rtdeliver.presence.presence import PresenceTracker
from rtdeliver.wire import Draft

MEMBERS = [Member("ann"), Member("b\u00f6b \u2603")]


class AwayStore(MemoryPresenceStore):
    """Cannot be reached."""

    def heartbeat(self, heartbeat: PresenceHeartbeat) -> Deferred[Sequence[PresenceChange]]:
        return fail(Unavailable("Redis is away"))


class PresenceClientContract:
    """To be mixed into a SynchronousTestCase that says how a client for one tracker is made."""

    def make_client(self, presence: PresenceTracker) -> IPresenceClient:
        """Return a client of ``presence``."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_417_956)
        self.published: list[Draft] = []
        times = PresenceSettings(grace_seconds=5, claim_seconds=5)
        self.store = MemoryPresenceStore(settings=times, clock=self.clock)
        self.client = self.make_client(self.tracker(self.store))
        self.away = self.make_client(self.tracker(AwayStore(settings=times, clock=self.clock)))

    def tracker(self, store: MemoryPresenceStore) -> PresenceTracker:
        async def publish(drafts: Sequence[Draft]) -> None:
            self.published.extend(drafts)

        return PresenceTracker(
            store=store,
            publish=publish,
            settings=PresenceSettings(batch_members=10, heartbeat_seconds=0, grace_seconds=0),
            clock=self.clock,
        )

    def test_it_keeps_its_promise(self) -> None:
        self.assertTrue(verifyObject(IPresenceClient, self.client))

    def test_members_are_there_when_it_fires(self) -> None:
        self.successResultOf(
            self.client.heartbeat(PresenceHeartbeat(members=MEMBERS, heartbeat_seconds=7.5))
        )
        there = self.successResultOf(self.store.presence(MEMBERS))
        self.assertEqual([True, True], [presence.online for presence in there])
        self.assertEqual(
            ["presence:ann", "presence:b\u00f6b \u2603"], [draft.topic for draft in self.published]
        )

    def test_the_interval_is_told(self) -> None:
        self.successResultOf(
            self.client.heartbeat(PresenceHeartbeat(members=MEMBERS, heartbeat_seconds=7.5))
        )
        self.clock.advance(17)
        self.assertEqual([], self.successResultOf(self.store.sweep(10)).changes)
        self.clock.advance(1)
        self.assertEqual(2, len(self.successResultOf(self.store.sweep(10)).changes))

    def test_a_dispatcher_that_has_no_store_is_a_failure(self) -> None:
        answer = self.away.heartbeat(PresenceHeartbeat(members=MEMBERS, heartbeat_seconds=30))
        self.failureResultOf(answer, RemoteFailure)
