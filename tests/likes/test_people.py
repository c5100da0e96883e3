"""Tests of rtdeliver.likes.people."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import AnswerLost, Forbidden, TooManyRequests, Unauthorized, Unavailable
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.limits import Allowance, RateLimit
from rtdeliver.likes.people import MemberStatus, People, Session
from rtdeliver.likes.publisher import Publisher
from rtdeliver.likes.store import Store, Transactions
from rtdeliver.model import Member
from rtdeliver.tokens import Identity, TokenKey
from tests.likes.fakes import (
    ANN,
    BOB,
    EVE,
    HOME,
    AwayDatabase,
    AwayPlatform,
    PromptDatabase,
    Published,
    RecordingPlatform,
)

PASSWORD = "correct horse"
MODERATOR = Member("mod")
NOW = 1_795_417_956.553
ANN_JOINED = Published("members", "joined", {"member": "ann"})


class PeopleTestCase(SynchronousTestCase):
    """Lets an address take three names at once; tokens are good for an hour."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.database = PromptDatabase()
        self.addCleanup(self.database.close)
        self.key = TokenKey(b"k" * 32)
        self.platform = RecordingPlatform(self.stored)
        self.people = self.people_with(self.platform)

    def people_with(self, platform: IPlatform, run: Transactions | None = None) -> People:
        return People(
            store=Store(run or self.database.run),
            publisher=Publisher(platform=platform, waiting=100),
            platform=platform,
            key=self.key,
            sessions=RateLimit(
                what="names", allowance=Allowance(0.1, 3), visitors=10, clock=self.clock
            ),
            moderators=[MODERATOR],
            password=PASSWORD,
            token_seconds=3600,
            now=self.clock.seconds,
        )

    def stored(self) -> list[Member]:
        """The members that are in the store now."""
        members = self.successResultOf(Store(self.database.run).members(100))
        return list(members)

    def result(self, answer: Coroutine[Any, Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(answer))

    def refused(self, answer: Coroutine[Any, Any, Any], *refusals: type[Exception]) -> None:
        self.failureResultOf(Deferred.fromCoroutine(answer), *refusals)

    def enter(self, member: Member, address: str = HOME) -> Session:
        session: Session = self.result(self.people.enter(member, address=address))
        return session


class ModeratorTests(PeopleTestCase):
    def enter_with(self, member: Member, password: str) -> Session:
        session: Session = self.result(self.people.enter(member, password=password, address=HOME))
        return session

    def test_the_name_of_a_moderator_needs_the_password(self) -> None:
        for password in ("", "wrong"):
            self.refused(
                self.people.enter(MODERATOR, password=password, address=HOME), Unauthorized
            )
        session = self.enter_with(MODERATOR, PASSWORD)
        self.assertTrue(session.moderator)
        self.assertTrue(self.people.identify(session.token).moderator)

    def test_others_are_no_moderators_whatever_they_send(self) -> None:
        self.assertFalse(self.enter_with(ANN, PASSWORD).moderator)

    def test_a_token_of_before_the_member_became_a_moderator_does_not_count(self) -> None:
        token = self.key.sign(Identity(MODERATOR, NOW + 60))
        self.assertFalse(self.people.identify(token).moderator)

    def test_a_member_is_granted_its_own_conversations_and_who_is_online(self) -> None:
        token = self.enter(ANN).token
        granted = self.key.check(token, now=NOW).grants
        for topic, may in (
            ("conv:ann.bob", True),
            ("conv:al.ann", True),
            ("conv:ann", False),
            ("conv:anna.bob", False),
            ("conv:bob.joann", False),
            ("conv:bob.eve", False),
            ("presence:bob", True),
            ("live:red", False),
        ):
            self.assertEqual(granted.subscribe.cover(topic), may, topic)
        self.assertFalse(granted.publish.cover("comments:red"))

    def test_a_banned_member_gets_no_token_and_is_not_resumed_until_that_is_lifted(self) -> None:
        token = self.enter(ANN).token
        store = Store(self.database.run)
        self.successResultOf(store.ban(ANN, MODERATOR, at=1))
        self.refused(self.people.enter(ANN, address=HOME), Forbidden)
        self.refused(self.people.resume(token), Forbidden)
        self.successResultOf(store.lift_ban(ANN))
        self.enter(ANN)


class EnterTests(PeopleTestCase):
    def test_a_member_gets_a_token_that_is_good_for_so_long(self) -> None:
        session = self.enter(ANN)
        self.assertEqual((session.member, session.expires_at), (ANN, 1_795_421_556_000))
        self.assertEqual(self.people.identify(session.token), session)
        self.clock.advance(3600)
        self.assertRaises(Unauthorized, self.people.identify, session.token)

    def test_that_it_has_come_is_told_once_it_is_stored(self) -> None:
        self.enter(ANN)
        self.assertEqual(self.platform.events, [ANN_JOINED])
        self.assertEqual(self.platform.looks, [[ANN]])

    def test_who_takes_its_name_again_is_told_of_again(self) -> None:
        self.enter(ANN)
        self.clock.advance(1)
        self.enter(ANN)
        self.assertEqual(self.platform.events, [ANN_JOINED] * 2)
        self.assertEqual(self.stored(), [ANN])

    def test_it_comes_in_though_nobody_can_be_told(self) -> None:
        self.people = self.people_with(AwayPlatform())
        self.assertEqual(self.people.identify(self.enter(ANN).token).member, ANN)
        self.assertEqual(self.stored(), [ANN])

    def test_an_address_that_takes_too_many_names_gets_no_more_and_none_is_stored(self) -> None:
        for member in (ANN, BOB, EVE):
            self.enter(member)
        self.refused(self.people.enter(Member("more"), address=HOME), TooManyRequests)
        self.assertNotIn("more", self.stored())
        self.assertEqual(len(self.platform.events), 3)
        self.enter(Member("more"), "10.0.0.2")

    def test_who_is_not_stored_gets_no_token_and_is_not_told_of(self) -> None:
        people = self.people_with(self.platform, AwayDatabase().run)
        self.refused(people.enter(ANN, address=HOME), Unavailable)
        self.assertEqual(self.platform.events, [])


class ResumeTests(PeopleTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.session = self.enter(ANN)
        self.platform.events.clear()

    def resume(self) -> Session:
        session: Session = self.result(self.people.resume(self.session.token))
        return session

    def test_a_session_is_what_it_was(self) -> None:
        self.clock.advance(600)
        self.assertEqual(self.resume(), self.session)

    def test_who_was_here_within_the_minute_is_not_told_of(self) -> None:
        self.clock.advance(59.9)
        self.resume()
        self.assertEqual(self.platform.events, [])

    def test_who_was_away_for_a_minute_is_told_of_once(self) -> None:
        self.clock.advance(60.1)
        self.resume()
        self.assertEqual(self.platform.events, [ANN_JOINED])
        self.clock.advance(1)
        self.resume()
        self.assertEqual(self.platform.events, [ANN_JOINED])

    def test_who_loads_page_after_page_is_not_told_of(self) -> None:
        for _ in range(10):
            self.clock.advance(20)
            self.resume()
        self.assertEqual(self.platform.events, [])

    def test_a_name_that_another_backend_signed_for_is_stored_and_told_of(self) -> None:
        token = self.key.sign(Identity(BOB, NOW + 60))
        session = self.result(self.people.resume(token))
        self.assertEqual((session.member, session.token), (BOB, token))
        self.assertEqual(self.platform.events, [Published("members", "joined", {"member": "bob"})])
        self.assertIn(BOB, self.stored())

    def test_what_is_no_good_token_is_refused_and_nobody_is_told_of(self) -> None:
        other = TokenKey(b"x" * 32).sign(Identity(EVE, NOW + 60))
        for token in ("", "a.b.c", other, self.key.sign(Identity(EVE, NOW - 1))):
            self.refused(self.people.resume(token), Unauthorized)
            self.assertRaises(Unauthorized, self.people.identify, token)
        self.assertEqual(self.stored(), [ANN])
        self.assertEqual(self.platform.events, [])

    def test_a_name_that_nobody_can_take_here_is_refused(self) -> None:
        # With a dot, two pairs of members could have one conversation.
        for name in ("a.b", "ann bob", "x" * 25, "e\u0301ve"):
            token = self.key.sign(Identity(Member(name), NOW + 60))
            self.assertRaises(Unauthorized, self.people.identify, token)


class LastSeenTests(PeopleTestCase):
    def setUp(self) -> None:
        super().setUp()
        for member in (ANN, BOB):
            self.enter(member)
            self.clock.advance(61)

    def test_members_are_told_the_last_one_first_with_whether_they_are_there(self) -> None:
        self.platform.there = {ANN}
        self.assertEqual(
            self.result(self.people.last_seen()),
            [MemberStatus(BOB, False), MemberStatus(ANN, True)],
        )
        self.assertEqual(self.platform.questions, [[BOB, ANN]])

    def test_they_are_told_though_nobody_knows_who_is_there(self) -> None:
        for error in (AnswerLost("late"), Unavailable("no store")):
            people = self.people_with(AwayPlatform(error))
            self.assertEqual(
                self.result(people.last_seen()), [MemberStatus(BOB, None), MemberStatus(ANN, None)]
            )

    def test_30_are_told(self) -> None:
        for number in range(40):
            self.clock.advance(100)
            self.enter(Member(f"m{number}"))
        told = self.result(self.people.last_seen())
        self.assertEqual([status.member for status in told], [f"m{n}" for n in range(39, 9, -1)])


class NobodyTests(PeopleTestCase):
    def test_where_there_are_no_members_nobody_is_asked_for(self) -> None:
        self.assertEqual(self.result(self.people.last_seen()), [])
        self.assertEqual(self.platform.questions, [])
