"""What backends do to open streams: they end them, and change their topics."""

from collections.abc import Iterable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import Forbidden, TooManyTopics, Unauthorized, UnknownConnection
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.grants import NOTHING, grants, patterns
from rtdeliver.messages import TopicsChange
from rtdeliver.metrics import Sample
from rtdeliver.model import Event, Gap, Item, Member, MemberTopics, Revocation, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.tokens import Identity, TokenKey, TokenRevoked
from tests.fakes import (
    ScriptedDispatcherClient,
    TableDispatcherClient,
    Viewer,
    new_event,
    new_frontend,
)

ANN, BOB = Member("ann"), Member("bob")
LIVE, CONV, INBOX, SECRET = map(Topic, ("live:red", "conv:ann:bob", "inbox:ann", "secret"))
URL = "http://127.0.0.1:8081"
KEY = TokenKey(b"k" * 32)
NOW = 1000.0


def identity(
    member: Member | None = ANN,
    *subscribe: str,
    topics: Iterable[Topic] = (),
    expires_at: float = NOW + 3600,
    issued_at: float | None = NOW - 10,
    token_id: str = "",
) -> Identity:
    return Identity(
        member,
        expires_at=expires_at,
        grants=grants(patterns(subscribe), NOTHING.publish),
        topics=tuple(topics),
        issued_at=issued_at,
        token_id=token_id,
    )


def revoke(kind: Any, name: str, *, at: float = NOW, **more: Any) -> Revocation:
    return Revocation(
        kind=kind, name=name, at=round(at * 1000), until=round((at + 600) * 1000), **more
    )


class Subject(SynchronousTestCase):
    """A frontend at which ``live:*`` is public, and which checks tokens."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.frontend = self.start(TableDispatcherClient(MemoryRoutingTable(clock=self.clock)))

    def start(self, dispatchers: Any) -> Frontend:
        frontend = new_frontend(
            self.clock,
            dispatchers,
            public_topics=patterns(["live:*"]),
            identify=lambda token: KEY.check(token, now=self.clock.seconds()),
        )
        frontend.start(URL)
        self.clock.advance(0)
        return frontend

    def connect(self, *topics: Topic, identity: Identity | None = None) -> Viewer:
        viewer = Viewer(self.frontend, self.clock, *topics, identity=identity)
        self.clock.advance(0)
        return viewer

    def deliver(self, *items: Item) -> None:
        self.frontend.deliver(items)
        self.clock.advance(0)

    def topics(self, viewer: Viewer) -> list[Topic]:
        return list(self.successResultOf(self.frontend.subscriptions(viewer.id)).topics)

    def refresh(self, viewer: Viewer, identity: Identity) -> Any:
        refreshed = self.frontend.refresh(viewer.id, KEY.sign(identity))
        self.clock.advance(0)
        return refreshed

    def sample(self, name: str) -> float:
        return next(
            s.value for s in self.frontend.samples() if isinstance(s, Sample) and s.name == name
        )


class DisconnectTests(Subject):
    def test_all_streams_of_a_member_end_with_the_reason_and_others_stay(self) -> None:
        anns = [self.connect(LIVE, identity=identity()) for _ in range(2)]
        others = [self.connect(LIVE, identity=identity(BOB)), self.connect(LIVE)]
        self.deliver(revoke("member", "ann", reason="banned \u2603"))
        for viewer in anns:
            self.assertEqual(
                viewer.control("disconnected"), [{"reason": "banned \u2603", "reconnect": False}]
            )
            self.assertTrue(viewer.stream.lost)
        self.deliver(new_event("e1", LIVE))
        for viewer in others:
            self.assertEqual(viewer.ids, ["e1"])
            self.assertFalse(viewer.stream.closed)

    def test_a_client_that_may_not_come_back_is_told_to_wait_for_a_day(self) -> None:
        for reconnect in (False, True):
            viewer = self.connect(identity=identity())
            self.clock.advance(1)
            self.deliver(revoke("member", "ann", at=self.clock.seconds(), reconnect=reconnect))
            told = b"retry: 86400000\nevent: disconnected" in viewer.stream.content
            self.assertEqual(told, not reconnect)

    def test_one_connection_ends(self) -> None:
        first, second = self.connect(LIVE), self.connect(LIVE)
        self.deliver(revoke("connection", first.id))
        self.assertEqual(len(first.control("disconnected")), 1)
        self.assertEqual(second.control("disconnected"), [])

    def test_the_streams_of_one_token_end(self) -> None:
        first, second = (
            self.connect(LIVE, identity=identity(token_id=token)) for token in ("t1", "t2")
        )
        self.deliver(revoke("token", "t1"), revoke("token", "t3"))
        self.assertEqual(len(first.control("disconnected")), 1)
        self.assertEqual(second.control("disconnected"), [])

    def test_no_event_that_waits_is_sent_any_more(self) -> None:
        viewer = self.connect(LIVE, identity=identity())
        self.frontend.deliver([new_event("e1", LIVE), revoke("member", "ann")])
        self.frontend.deliver([new_event("e2", LIVE)])
        self.clock.advance(0)
        self.assertEqual(viewer.ids, [])
        self.assertEqual(viewer.frames[-1][0], "disconnected")

    def test_a_slow_reader_is_sent_nothing_but_the_end(self) -> None:
        viewer = self.connect(LIVE, identity=identity())
        viewer.stream.room = 10
        self.deliver(new_event("e1", LIVE))
        self.deliver(new_event("e2", LIVE), revoke("member", "ann"))
        viewer.stream.read(1 << 20)
        self.clock.advance(0)
        self.assertEqual(viewer.ids, ["e1"], "it was begun before")
        self.assertEqual(len(viewer.control("disconnected")), 1)

    def test_a_stream_with_a_token_that_was_issued_later_stays(self) -> None:
        later = self.connect(LIVE, identity=identity(issued_at=NOW + 1))
        unknown = self.connect(LIVE, identity=identity(issued_at=None))
        self.deliver(revoke("member", "ann"))
        self.assertEqual(later.control("disconnected"), [])
        self.assertEqual(len(unknown.control("disconnected")), 1)

    def test_it_ends_once_however_often_that_is_told(self) -> None:
        order = revoke("member", "ann")
        viewer = self.connect(LIVE, identity=identity())
        self.deliver(order, order)
        self.deliver(order)
        self.assertEqual(len(viewer.control("disconnected")), 1)
        self.assertEqual(self.sample("revocations"), 1)

    def test_a_stream_that_is_not_open_yet_ends_too(self) -> None:
        self.frontend = self.start(ScriptedDispatcherClient())
        viewer = self.connect(LIVE, identity=identity())
        self.deliver(revoke("member", "ann"))
        self.clock.advance(3)
        self.assertEqual([name for name, _ in viewer.frames], ["connected", "disconnected"])

    def test_a_stream_that_ends_takes_no_topics_and_no_token(self) -> None:
        viewer = self.connect(LIVE, identity=identity())
        viewer.stream.room = 0
        self.deliver(new_event("e1", LIVE))
        self.deliver(revoke("member", "ann"))
        change = TopicsChange(add=(LIVE,), remove=())
        self.failureResultOf(self.frontend.subscribe(viewer.id, change), UnknownConnection)
        later = identity(issued_at=NOW + 1)
        self.failureResultOf(self.refresh(viewer, later), UnknownConnection)


class RefusedTokenTests(Subject):
    def refused(self, who: Identity) -> TokenRevoked:
        error: TokenRevoked = self.assertRaises(
            TokenRevoked, self.frontend.permissions.identify, KEY.sign(who)
        )
        return error

    def test_tokens_that_were_issued_before_are_refused_until_it_ends(self) -> None:
        self.deliver(revoke("member", "ann"), revoke("token", "t1", reconnect=True))
        self.assertFalse(self.refused(identity()).reconnect)
        self.assertFalse(self.refused(identity(issued_at=None)).reconnect)
        self.assertTrue(self.refused(identity(BOB, token_id="t1")).reconnect)
        self.assertFalse(self.refused(identity(token_id="t1")).reconnect, "both hold")
        for who in (
            identity(issued_at=NOW + 1),
            identity(BOB),
            identity(None),
            identity(BOB, token_id="t2"),
        ):
            self.frontend.permissions.identify(KEY.sign(who))

    def test_a_later_one_of_the_same_member_counts(self) -> None:
        self.deliver(revoke("member", "ann"), revoke("member", "ann", at=NOW + 50, reconnect=True))
        self.deliver(revoke("member", "ann", at=NOW + 20))
        self.assertTrue(self.refused(identity(issued_at=NOW + 30)).reconnect)

    def test_a_revoked_token_does_not_renew_a_stream(self) -> None:
        viewer = self.connect(identity=identity())
        self.deliver(revoke("token", "t1"))
        self.failureResultOf(self.refresh(viewer, identity(token_id="t1")), TokenRevoked)
        self.assertEqual(viewer.control("disconnected"), [])


class RefreshTests(Subject):
    def test_a_new_token_extends_the_stream(self) -> None:
        viewer = self.connect(LIVE, identity=identity(expires_at=NOW + 60))
        [connected] = viewer.control("connected")
        self.assertEqual(connected["expires_in_seconds"], 60)
        self.clock.advance(50)
        refreshed = self.successResultOf(self.refresh(viewer, identity(expires_at=NOW + 200)))
        self.assertEqual(refreshed.connection, viewer.id)
        self.assertEqual((refreshed.expires_at, refreshed.expires_in_seconds), (NOW + 200, 150))
        self.clock.pump([1] * 145)
        self.assertFalse(viewer.stream.closed)
        self.clock.pump([1] * 30)
        self.assertEqual(viewer.control("expired"), [{"expired": True}])

    def test_a_new_token_may_expire_earlier(self) -> None:
        viewer = self.connect(LIVE, identity=identity(expires_at=NOW + 3600))
        self.successResultOf(self.refresh(viewer, identity(expires_at=NOW + 5)))
        self.clock.pump([0.25] * 22)
        self.assertEqual(viewer.control("expired"), [{"expired": True}])

    def test_topics_that_it_does_not_grant_are_dropped_and_named(self) -> None:
        viewer = self.connect(LIVE, CONV, identity=identity(ANN, "conv:ann:*"))
        refreshed = self.refresh(viewer, identity(ANN, "other:*"))
        told = self.successResultOf(refreshed)
        self.assertEqual((list(told.topics), list(told.removed)), ([LIVE], [CONV]))
        self.deliver(new_event("e1", CONV), new_event("e2", LIVE))
        self.assertEqual(viewer.ids, ["e2"])
        change = TopicsChange(add=(CONV,), remove=())
        self.failureResultOf(self.frontend.subscribe(viewer.id, change), Forbidden)

    def test_events_that_wait_are_not_sent_when_their_topic_is_dropped(self) -> None:
        viewer = self.connect(CONV, identity=identity(ANN, "conv:ann:*"))
        self.frontend.deliver([new_event("e1", CONV)])
        self.successResultOf(self.frontend.refresh(viewer.id, KEY.sign(identity())))
        self.clock.advance(0)
        self.assertEqual(viewer.ids, [])

    def test_topics_that_it_newly_names_are_added_and_those_that_were_left_are_not(self) -> None:
        viewer = self.connect(identity=identity(topics=[INBOX]))
        change = TopicsChange(add=(), remove=(INBOX,))
        self.successResultOf(self.frontend.subscribe(viewer.id, change))
        told = self.successResultOf(self.refresh(viewer, identity(topics=[INBOX, CONV])))
        self.assertEqual((list(told.topics), list(told.removed)), ([CONV], []))

    def test_a_token_of_somebody_else_is_refused_and_changes_nothing(self) -> None:
        for mine, other in ((ANN, BOB), (ANN, None), (None, ANN)):
            viewer = self.connect(CONV, identity=identity(mine, "conv:ann:*"))
            self.failureResultOf(self.refresh(viewer, identity(other, "*")), Forbidden)
            self.assertEqual(self.topics(viewer), [CONV])
            change = TopicsChange(add=(SECRET,), remove=())
            self.failureResultOf(self.frontend.subscribe(viewer.id, change), Forbidden)

    def test_an_anonymous_stream_gets_the_grants_of_a_token_without_a_member(self) -> None:
        viewer = self.connect(LIVE)
        self.successResultOf(self.refresh(viewer, identity(None, "conv:*")))
        changed = self.frontend.subscribe(viewer.id, TopicsChange(add=(CONV,), remove=()))
        self.clock.advance(0)
        self.successResultOf(changed)

    def test_a_bad_token_changes_nothing(self) -> None:
        viewer = self.connect(CONV, identity=identity(ANN, "conv:ann:*"))
        for token in ("", "x.y.z", KEY.sign(identity(expires_at=NOW - 1))):
            self.failureResultOf(self.frontend.refresh(viewer.id, token), Unauthorized)
        self.assertEqual(self.topics(viewer), [CONV])

    def test_too_many_topics_change_nothing(self) -> None:
        viewer = self.connect(CONV, identity=identity(ANN, "conv:ann:*"))
        many = [Topic(f"t{number}") for number in range(6)]
        self.failureResultOf(self.refresh(viewer, identity(topics=many)), TooManyTopics)
        self.assertEqual(self.topics(viewer), [CONV])


class MemberTopicsTests(Subject):
    def change(self, *, add: Iterable[Topic] = (), remove: Iterable[Topic] = ()) -> MemberTopics:
        change = MemberTopics(member=ANN, add=tuple(add), remove=tuple(remove))
        self.deliver(change)
        return change

    def test_all_streams_of_a_member_get_topics_and_are_told(self) -> None:
        anns = [self.connect(LIVE, identity=identity()) for _ in range(2)]
        bob = self.connect(LIVE, identity=identity(BOB))
        self.change(add=[SECRET], remove=[LIVE])
        self.deliver(new_event("e1", SECRET), new_event("e2", LIVE))
        for viewer in anns:
            self.assertEqual(viewer.control("topics"), [{"added": [SECRET], "removed": [LIVE]}])
            self.assertEqual(viewer.ids, ["e1"])
        self.assertEqual(bob.ids, ["e2"])
        self.assertEqual(bob.control("topics"), [])

    def test_the_client_is_told_after_the_topic_is_confirmed(self) -> None:
        self.frontend = self.start(ScriptedDispatcherClient())
        viewer = self.connect(identity=identity())
        self.clock.advance(2)
        self.change(add=[SECRET])
        self.assertEqual(viewer.control("topics"), [])
        self.clock.advance(2)
        self.assertEqual(viewer.control("topics"), [{"added": [SECRET], "removed": []}])

    def test_one_that_changes_nothing_is_not_told(self) -> None:
        viewer = self.connect(LIVE, identity=identity())
        self.change(add=[LIVE], remove=[SECRET])
        change = self.change(add=[SECRET])
        self.deliver(change)
        self.assertEqual(viewer.control("topics"), [{"added": [SECRET], "removed": []}])

    def test_what_a_backend_gave_stays_with_a_new_token_and_may_be_left_and_taken(self) -> None:
        viewer = self.connect(identity=identity())
        self.change(add=[SECRET])
        refreshed = self.successResultOf(self.refresh(viewer, identity(ANN, "other")))
        self.assertEqual((list(refreshed.topics), list(refreshed.removed)), ([SECRET], []))
        for change in (TopicsChange((), (SECRET,)), TopicsChange((SECRET,), ())):
            changed = self.frontend.subscribe(viewer.id, change)
            self.clock.advance(0)
            self.successResultOf(changed)
        self.change(remove=[SECRET])
        again = self.frontend.subscribe(viewer.id, TopicsChange((SECRET,), ()))
        self.failureResultOf(again, Forbidden)

    def test_a_stream_without_room_goes_on_as_it_was_and_is_counted(self) -> None:
        viewer = self.connect(LIVE, identity=identity())
        self.change(add=[Topic(f"t{number}") for number in range(5)])
        self.assertEqual(self.topics(viewer), [LIVE])
        self.assertEqual(self.sample("member_topics_refused"), 1)

    def test_a_client_that_does_not_read_is_not_told_without_end(self) -> None:
        viewer = self.connect(identity=identity())
        viewer.stream.room = 0
        for number in range(20000):
            topic = Topic(f"t{number % 2}" + "x" * 1000)
            self.frontend.deliver([MemberTopics(member=ANN, add=(topic,))])
            self.frontend.deliver([MemberTopics(member=ANN, remove=(topic,))])
            if viewer.stream.aborted:
                break
        self.clock.advance(0)
        self.assertTrue(viewer.stream.aborted)

    def test_a_heartbeat_does_not_take_the_place_of_what_is_told(self) -> None:
        viewer = self.connect(LIVE, identity=identity())
        self.clock.pump([0.25] * 100)
        self.change(add=[SECRET])
        self.clock.pump([0.25] * 110)
        self.assertEqual(len(viewer.control("topics")), 1)

    def test_events_gaps_and_controls_come_in_one_batch(self) -> None:
        viewer = self.connect(LIVE, identity=identity())
        batch: list[Event | Gap | MemberTopics] = [
            new_event("e1", LIVE),
            Gap(topic=LIVE, lost=2),
            MemberTopics(member=ANN, add=(SECRET,)),
            new_event("e2", LIVE),
        ]
        self.deliver(*batch)
        names = [name for name, _ in viewer.frames]
        self.assertEqual(names, ["connected", "gap", "message", "message", "topics"])
