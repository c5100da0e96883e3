"""Tests of rtdeliver.likes.moderation."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import BadRequest, Forbidden, NotFound, Unreachable
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.limits import Allowance, RateLimit
from rtdeliver.likes.model import parse_video
from rtdeliver.likes.moderation import Moderation
from rtdeliver.likes.people import People, Session
from rtdeliver.likes.publisher import Publisher, PublishOutcome
from rtdeliver.likes.store import Store
from rtdeliver.model import Member
from rtdeliver.tokens import TokenKey
from tests.likes.fakes import ANN, BOB, AwayPlatform, PromptDatabase, Published, RecordingPlatform

MODERATOR = Member("mod")
RED = parse_video("red")


def session(member: Member, *, moderator: bool) -> Session:
    return Session(member, "token", 0, moderator)


class ModerationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = PromptDatabase()
        self.addCleanup(self.database.close)
        self.store = Store(self.database.run)
        self.platform = RecordingPlatform()
        self.moderation = self.moderation_with(self.platform)
        for member in (ANN, BOB, MODERATOR):
            self.successResultOf(self.store.come(member, at=1, away_milliseconds=0))
        self.mod = session(MODERATOR, moderator=True)

    def moderation_with(self, platform: IPlatform) -> Moderation:
        publisher = Publisher(platform=platform, waiting=10)
        people = People(
            store=self.store,
            publisher=publisher,
            platform=platform,
            key=TokenKey(b"k" * 32),
            sessions=RateLimit(what="names", allowance=Allowance(1, 1), visitors=1, clock=Clock()),
            moderators=[MODERATOR],
            password="correct horse",
            token_seconds=60,
            now=lambda: 1000,
        )
        return Moderation(
            store=self.store,
            publisher=publisher,
            platform=platform,
            people=people,
            now=lambda: 1000,
        )

    def result(self, answer: Coroutine[Any, Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(answer))

    def refused(self, answer: Coroutine[Any, Any, Any], refusal: type[Exception]) -> None:
        self.failureResultOf(Deferred.fromCoroutine(answer), refusal)

    def test_a_removed_comment_is_gone_and_others_are_told(self) -> None:
        comment = self.successResultOf(self.store.comment("red", ANN, "hi", at=1))
        removed = self.result(self.moderation.remove(self.mod, RED, comment.comment))
        self.assertEqual(removed.delivery, PublishOutcome.ACCEPTED)
        self.assertEqual([], self.successResultOf(self.store.comments("red", 10)))
        self.assertEqual(
            [Published("comments:red", "removed", {"comment": comment.comment})],
            self.platform.events,
        )
        self.refused(self.moderation.remove(self.mod, RED, comment.comment), NotFound)

    def test_a_comment_on_another_video_is_not_removed(self) -> None:
        comment = self.successResultOf(self.store.comment("green", ANN, "hi", at=1))
        self.refused(self.moderation.remove(self.mod, RED, comment.comment), NotFound)

    def test_a_banned_member_is_disconnected_and_writes_nothing_more(self) -> None:
        self.result(self.moderation.ban(self.mod, ANN))
        self.assertEqual([(ANN, "banned")], self.platform.disconnected)
        for write in (
            self.store.comment("red", ANN, "hi", at=1),
            self.store.message(ANN, BOB, "hi", at=1),
            self.store.come(ANN, at=2, away_milliseconds=0),
            self.store.check_not_banned(ANN),
        ):
            self.failureResultOf(write, Forbidden)
        self.successResultOf(self.store.message(BOB, ANN, "hi", at=1))
        self.result(self.moderation.ban(self.mod, ANN))
        self.result(self.moderation.lift(self.mod, ANN))
        self.successResultOf(self.store.comment("red", ANN, "hi", at=1))
        self.refused(self.moderation.lift(self.mod, ANN), NotFound)

    def test_only_moderators_do_this_and_none_is_banned(self) -> None:
        ann = session(ANN, moderator=False)
        self.refused(self.moderation.remove(ann, RED, 1), Forbidden)
        self.refused(self.moderation.ban(ann, BOB), Forbidden)
        self.refused(self.moderation.lift(ann, BOB), Forbidden)
        self.refused(self.moderation.ban(self.mod, MODERATOR), BadRequest)
        self.refused(self.moderation.ban(self.mod, Member("nobody")), NotFound)

    def test_without_dispatchers_a_ban_is_stored_and_says_that_it_was_not_delivered(self) -> None:
        moderation = self.moderation_with(AwayPlatform(Unreachable("nobody")))
        banned = self.result(moderation.ban(self.mod, ANN))
        self.assertEqual(banned.delivery, PublishOutcome.FAILED)
        self.failureResultOf(self.store.check_not_banned(ANN), Forbidden)
