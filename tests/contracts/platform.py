"""The contract of IPlatform, for every implementation."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rtdeliver.config.sections import Presence as PresenceSettings
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.errors import RemoteFailure, Unavailable
from rtdeliver.interfaces import IPlatform, IPresenceStore, IRoutingTable
from rtdeliver.messages import Announcement, Presence, PresenceHeartbeat
from rtdeliver.model import Event, FrontendRef, Member, Topic, check_event_id
from rtdeliver.presence.memory import MemoryPresenceStore
from rtdeliver.presence.presence import PresenceTracker
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.contracts.contract import SynchronousContract
from tests.fakes import (
    FailingPresenceStore,
    FailingRoutingTable,
    ScriptedFrontendClient,
    new_dispatcher,
)

T = TypeVar("T")

RED, ODD = Topic("live:red"), Topic("live:ä€😀 &topic=a+b%20#?/")
MEMBERS = [Member("ann"), Member("böb ☃ &member=a+b%20#"), Member("eve")]
N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")
N2 = FrontendRef(node="n2", url="http://10.0.0.6:8081", incarnation="other")
TIMES = PresenceSettings(grace_seconds=5, claim_seconds=5)


class Like(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What an application may publish as it is."""

    from_: Member
    likes: int


class PlatformContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that has a ``platform`` and plays its world."""

    interface = IPlatform
    platform: IPlatform

    def watch(self, topic: Topic, viewers: int) -> None:
        """Have so many viewers of a topic."""
        raise NotImplementedError

    def come(self, members: Sequence[Member]) -> None:
        """Have these members there."""
        raise NotImplementedError

    def delivered(self) -> list[dict[str, Any]]:
        """The events of topics with viewers so far, as browsers read them."""
        raise NotImplementedError

    def let_be_answered(self) -> None:
        """Let happen what has to happen before an answer is there."""

    def subject(self) -> IPlatform:
        return self.platform

    def answered(self, answer: Deferred[T]) -> T:
        self.let_be_answered()
        return self.successResultOf(answer)

    def publish(self, topic: Topic, data: object) -> None:
        self.assertIsNone(self.answered(self.platform.publish(topic, "like", data)))

    def test_a_member_may_be_disconnected(self) -> None:
        for member in MEMBERS:
            self.assertIsNone(self.answered(self.platform.disconnect(member, "b\u00e4d \u2603")))

    def test_an_event_goes_to_those_who_watch_its_topic(self) -> None:
        self.watch(RED, 1)
        self.publish(RED, {"likes": 3})
        [event] = self.delivered()
        self.assertEqual(
            (event["topic"], event["type"], event["data"]), (RED, "like", {"likes": 3})
        )

    def test_any_topic_can_be_published_to(self) -> None:
        self.watch(ODD, 1)
        self.publish(ODD, None)
        self.assertEqual([event["topic"] for event in self.delivered()], [ODD])

    def test_data_arrives_as_the_json_that_it_is(self) -> None:
        self.watch(RED, 1)
        for data in (None, 0, "a\r\nb\u2028ä€😀", [1, [True]], {"a": {"b": None}}, {}):
            self.publish(RED, data)
            self.assertEqual(self.delivered()[-1]["data"], data)

    def test_a_struct_arrives_under_the_names_that_it_has_on_the_wire(self) -> None:
        self.watch(RED, 1)
        self.publish(RED, Like(MEMBERS[0], 3))
        self.assertEqual(self.delivered()[-1]["data"], {"from": "ann", "likes": 3})

    def test_viewers_are_counted_by_topic(self) -> None:
        self.watch(RED, 12)
        self.watch(ODD, 1)
        self.assertEqual(self.answered(self.platform.viewers(RED)), 12)
        self.assertEqual(self.answered(self.platform.viewers(ODD)), 1)

    def test_a_topic_that_nobody_watches_has_no_viewers(self) -> None:
        self.assertEqual(self.answered(self.platform.viewers(ODD)), 0)

    def test_who_is_there_is_told_in_the_order_of_the_question(self) -> None:
        self.come(MEMBERS[1:])
        for members in (MEMBERS, MEMBERS[::-1], MEMBERS[1:2]):
            told: Sequence[Presence] = self.answered(self.platform.presence(members))
            self.assertEqual(
                [(presence.member, presence.online) for presence in told],
                [(member, member != "ann") for member in members],
            )


class AwayPlatformContract(SynchronousContract):
    """What holds while no dispatcher can do what is asked; for a SynchronousTestCase likewise."""

    interface = IPlatform
    platform: IPlatform

    def let_be_answered(self) -> None:
        """Let happen what has to happen before an answer is there."""

    def subject(self) -> IPlatform:
        return self.platform

    def test_everything_fails(self) -> None:
        answers = (
            self.platform.publish(RED, "like", 1),
            self.platform.viewers(RED),
            self.platform.presence(MEMBERS),
        )
        self.let_be_answered()
        for answer in answers:
            self.failureResultOf(answer, RemoteFailure, Unavailable)


class World:
    """A dispatcher, with its routing table and its presence."""

    def __init__(self, routing_table: IRoutingTable, store: IPresenceStore, clock: Clock) -> None:
        self.clock = clock
        self.routing_table = routing_table
        self.frontends = ScriptedFrontendClient()
        self.frontends.answer_at_once = True
        self.dispatcher = new_dispatcher(clock, routing_table, self.frontends)
        self.presence = PresenceTracker(
            store=store,
            publish=self.dispatcher.publish,
            settings=PresenceSettings(batch_members=10, heartbeat_seconds=0, grace_seconds=0),
            clock=clock,
        )


class DispatcherPlatformContract(PlatformContract):
    """To be mixed into a SynchronousTestCase that says how a dispatcher is reached."""

    def make_platform(
        self, dispatcher: Dispatcher, routing_table: IRoutingTable, presence: PresenceTracker
    ) -> IPlatform:
        """Return the platform that is ``dispatcher``, with its table and its presence."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_417_956)
        self.world = World(
            MemoryRoutingTable(clock=self.clock),
            MemoryPresenceStore(settings=TIMES, clock=self.clock, now=self.clock.seconds),
            self.clock,
        )
        self.platform = self.platform_of(self.world)

    def platform_of(self, world: World) -> IPlatform:
        return self.make_platform(world.dispatcher, world.routing_table, world.presence)

    def watch(self, topic: Topic, viewers: int, frontend: FrontendRef = N1) -> None:
        told = Announcement(frontend=frontend, counts={topic: viewers}, lease_seconds=30)
        self.successResultOf(self.world.routing_table.apply(told))

    def come(self, members: Sequence[Member]) -> None:
        heartbeat = PresenceHeartbeat(members=members, heartbeat_seconds=30)
        self.successResultOf(Deferred.fromCoroutine(self.world.presence.heartbeat(heartbeat)))

    def delivered(self) -> list[dict[str, Any]]:
        self.clock.advance(0)
        return [
            json.loads(event.line)
            for _, batch in self.world.frontends.deliveries
            for event in batch
            if isinstance(event, Event)
        ]

    def test_an_event_goes_to_the_frontends_that_have_viewers_with_the_time(self) -> None:
        self.watch(RED, 1, N1)
        self.watch(ODD, 1, N2)
        self.publish(RED, 1)
        [event] = self.delivered()
        self.assertEqual(event["at"], 1_795_417_956_000)
        self.assertEqual([frontend for frontend, _ in self.world.frontends.deliveries], [N1])

    def test_each_event_has_an_id_of_its_own(self) -> None:
        self.watch(RED, 1)
        for _ in range(3):
            self.publish(RED, 1)
        ids = [check_event_id(event["id"]) for event in self.delivered()]
        self.assertEqual((len(ids), len(set(ids))), (3, 3))

    def test_an_event_that_nobody_watches_is_accepted(self) -> None:
        self.publish(RED, 1)
        self.assertEqual(self.delivered(), [])

    def test_viewers_are_counted_over_all_frontends(self) -> None:
        self.watch(RED, 12, N1)
        self.watch(RED, 5, N2)
        self.assertEqual(self.answered(self.platform.viewers(RED)), 17)

    def test_everything_fails_while_the_dispatcher_cannot_reach_its_table(self) -> None:
        away = self.platform_of(World(FailingRoutingTable(), FailingPresenceStore(), self.clock))
        for answer in (
            away.publish(RED, "like", 1),
            away.viewers(RED),
            away.presence(MEMBERS),
        ):
            self.failureResultOf(answer, RemoteFailure, Unavailable)
