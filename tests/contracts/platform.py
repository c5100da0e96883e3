"""The contract of IPlatform, for every implementation."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from rtdeliver.config.sections import Presence as PresenceSettings
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.errors import RemoteFailure, Unavailable
from rtdeliver.interfaces import IPlatform, IRoutingTable
from rtdeliver.messages import Announcement, Presence, PresenceHeartbeat
from rtdeliver.model import FrontendRef, Member, Topic, check_event_id
from rtdeliver.presence.memory import MemoryPresenceStore
from rtdeliver.presence.presence import PresenceTracker
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.fakes import FailingRoutingTable, ScriptedFrontendClient, new_dispatcher

RED, ODD = Topic("live:red"), Topic("live:ä€😀 &topic=a+b%20#?/")
MEMBERS = [Member("ann"), Member("böb ☃ &member=a+b%20#"), Member("eve")]
N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")
N2 = FrontendRef(node="n2", url="http://10.0.0.6:8081", incarnation="other")
TIMES = PresenceSettings(grace_seconds=5, claim_seconds=5)


class AwayStore(MemoryPresenceStore):
    """Cannot be reached."""

    def presence(self, members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        return fail(Unavailable("Redis is away"))


class Like(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What an application may publish as it is."""

    from_: Member
    likes: int


class PlatformContract:
    """To be mixed into a SynchronousTestCase that says how one dispatcher is reached."""

    def make_platform(
        self, dispatcher: Dispatcher, routing_table: IRoutingTable, presence: PresenceTracker
    ) -> IPlatform:
        """Return the platform that is ``dispatcher``, with its table and its presence."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_417_956)
        self.frontends = ScriptedFrontendClient()
        self.frontends.answer_at_once = True
        self.routing_table = MemoryRoutingTable(clock=self.clock)
        self.dispatcher = new_dispatcher(self.clock, self.routing_table, self.frontends)
        self.presence = self.tracker(MemoryPresenceStore(settings=TIMES, clock=self.clock))
        self.platform = self.make_platform(self.dispatcher, self.routing_table, self.presence)

    def tracker(self, store: MemoryPresenceStore) -> PresenceTracker:
        return PresenceTracker(
            store=store,
            publish=self.dispatcher.publish,
            settings=PresenceSettings(batch_members=10, heartbeat_seconds=0, grace_seconds=0),
            clock=self.clock,
        )

    def away(self) -> IPlatform:
        """A platform that can reach neither its table nor who is there."""
        routing_table = FailingRoutingTable()
        return self.make_platform(
            new_dispatcher(self.clock, routing_table, self.frontends),
            routing_table,
            self.tracker(AwayStore(settings=TIMES, clock=self.clock)),
        )

    def watch(self, frontend: FrontendRef, **counts: int) -> None:
        """Have so many viewers of the red and of the odd topic at a frontend."""
        told = {RED: counts.get("red", 0), ODD: counts.get("odd", 0)}
        announcement = Announcement(frontend=frontend, counts=told, full=True, lease_seconds=30)
        self.successResultOf(self.routing_table.apply(announcement))

    def publish(self, topic: Topic, data: object) -> None:
        self.assertIsNone(self.successResultOf(self.platform.publish(topic, "like", data)))

    def delivered(self) -> list[dict[str, Any]]:
        """The events that frontends were sent so far, as browsers read them."""
        self.clock.advance(0)
        batches = [batch for _, batch in self.frontends.deliveries]
        return [json.loads(event.line) for batch in batches for event in batch]

    def test_it_keeps_its_promise(self) -> None:
        self.assertTrue(verifyObject(IPlatform, self.platform))

    def test_an_event_goes_to_those_who_watch_its_topic(self) -> None:
        self.watch(N1, red=1)
        self.publish(RED, {"likes": 3})
        self.publish(ODD, {"likes": 4})
        [event] = self.delivered()
        self.assertEqual(
            (event["topic"], event["type"], event["data"]), (RED, "like", {"likes": 3})
        )
        self.assertEqual(event["at"], 1_795_417_956_000)
        self.assertEqual([frontend for frontend, _ in self.frontends.deliveries], [N1])

    def test_any_topic_can_be_published_to(self) -> None:
        self.watch(N1, odd=1)
        self.publish(ODD, None)
        self.assertEqual([event["topic"] for event in self.delivered()], [ODD])

    def test_data_arrives_as_the_json_that_it_is(self) -> None:
        self.watch(N1, red=1)
        for data in (None, 0, "a\r\nb\u2028ä€😀", [1, [True]], {"a": {"b": None}}, {}):
            self.publish(RED, data)
            self.assertEqual(self.delivered()[-1]["data"], data)

    def test_a_struct_arrives_under_the_names_that_it_has_on_the_wire(self) -> None:
        self.watch(N1, red=1)
        self.publish(RED, Like(MEMBERS[0], 3))
        self.assertEqual(self.delivered()[-1]["data"], {"from": "ann", "likes": 3})

    def test_each_event_has_an_id_of_its_own(self) -> None:
        self.watch(N1, red=1)
        for _ in range(3):
            self.publish(RED, 1)
        ids = [check_event_id(event["id"]) for event in self.delivered()]
        self.assertEqual((len(ids), len(set(ids))), (3, 3))

    def test_an_event_that_nobody_watches_is_accepted(self) -> None:
        self.publish(RED, 1)
        self.assertEqual(self.delivered(), [])

    def test_viewers_are_counted_over_all_frontends(self) -> None:
        self.watch(N1, red=12, odd=1)
        self.watch(N2, red=5)
        self.assertEqual(self.successResultOf(self.platform.viewers(RED)), 17)
        self.assertEqual(self.successResultOf(self.platform.viewers(ODD)), 1)

    def test_a_topic_that_nobody_watches_has_no_viewers(self) -> None:
        self.assertEqual(self.successResultOf(self.platform.viewers(ODD)), 0)

    def test_who_is_there_is_told_in_the_order_of_the_question(self) -> None:
        beat = PresenceHeartbeat(members=MEMBERS[1:], heartbeat_seconds=30)
        self.successResultOf(Deferred.fromCoroutine(self.presence.heartbeat(beat)))
        for members in (MEMBERS, MEMBERS[::-1], MEMBERS[1:2]):
            told = self.successResultOf(self.platform.presence(members))
            self.assertEqual(
                [(presence.member, presence.online) for presence in told],
                [(member, member != "ann") for member in members],
            )

    def test_everything_fails_while_the_dispatcher_cannot_reach_its_table(self) -> None:
        away = self.away()
        for answer in (
            away.publish(RED, "like", 1),
            away.viewers(RED),
            away.presence(MEMBERS),
        ):
            self.failureResultOf(answer, RemoteFailure, Unavailable)
