"""Tests of rtdeliver.likes.store, on SQLite in memory."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import NotFound, Unavailable
from rtdeliver.likes.model import Applause, Comment, Message, Minute, conversation_topic
from rtdeliver.likes.store import Store
from rtdeliver.model import Member
from tests.likes.fakes import ANN, BOB, EVE, AwayDatabase, PromptDatabase
from tests.likes.names import names

MINUTE = 60_000
NOW = 1_795_417_956_553


class StoreTestCase(SynchronousTestCase):
    """Has a store in which ann, bob and eve are members."""

    def setUp(self) -> None:
        database = PromptDatabase()
        self.addCleanup(database.close)
        self.store = Store(database.run)
        for member in (ANN, BOB, EVE):
            self.come(member, NOW)

    def result(self, answer: Deferred[Any]) -> Any:
        return self.successResultOf(answer)

    def come(self, member: Member, at: int, *, away: int = MINUTE) -> Any:
        return self.result(self.store.come(member, at=at, away_milliseconds=away))

    def send(self, sender: Member, to: Member, text: str = "hello") -> Any:
        return self.result(self.store.message(sender, to, text, at=NOW))


class MemberTests(StoreTestCase):
    def test_one_who_was_never_here_has_come(self) -> None:
        self.assertIs(self.come(Member("new"), NOW), True)
        self.assertIn("new", self.result(self.store.members(10)))

    def test_one_who_was_here_a_short_while_ago_has_not(self) -> None:
        self.assertIs(self.come(ANN, NOW), False)
        self.assertIs(self.come(ANN, NOW + MINUTE - 1), False)

    def test_one_who_was_away_for_so_long_has(self) -> None:
        self.assertIs(self.come(ANN, NOW + MINUTE), True)
        self.assertIs(self.come(ANN, NOW + MINUTE + 1), False)

    def test_one_who_comes_again_and_again_was_not_away(self) -> None:
        for pause in (20, 40, 60, 80, 100):
            self.assertIs(self.come(ANN, NOW + pause * 1000), False, pause)

    def test_where_no_absence_is_too_short_each_time_counts(self) -> None:
        self.assertIs(self.come(ANN, NOW, away=0), True)
        self.assertIs(self.come(ANN, NOW + 1, away=0), True)

    def test_a_clock_that_is_set_back_brings_nobody(self) -> None:
        self.assertIs(self.come(ANN, NOW - 5 * MINUTE), False)
        self.assertIs(self.come(ANN, NOW + 1), False)

    def test_those_who_were_seen_last_are_first(self) -> None:
        self.come(BOB, NOW + 2 * MINUTE)
        self.come(EVE, NOW + MINUTE)
        self.assertEqual(self.result(self.store.members(10)), [BOB, EVE, ANN])

    def test_one_who_was_seen_within_the_minute_is_before_those_who_were_seen_before(self) -> None:
        self.come(BOB, NOW + 2 * MINUTE)
        self.come(EVE, NOW + 2 * MINUTE + 10)
        self.come(BOB, NOW + 2 * MINUTE + 20)
        self.assertEqual(self.result(self.store.members(2)), [BOB, EVE])

    def test_no_more_are_told_than_were_asked_for(self) -> None:
        self.come(BOB, NOW + MINUTE)
        self.assertEqual(self.result(self.store.members(1)), [BOB])


class LikeTests(StoreTestCase):
    def like(self, video: str, reaction: str = "heart", at: int = NOW) -> Any:
        return self.result(self.store.like(video, reaction, at=at))

    def applause(self, video: str, minutes: int = 30) -> Any:
        return self.result(self.store.applause(video, minutes=minutes))

    def test_a_like_is_told_with_all_that_the_video_has(self) -> None:
        told = [self.like("red"), self.like("red", "star"), self.like("blue"), self.like("red")]
        self.assertEqual(told, [1, 2, 1, 3])
        self.assertEqual(self.result(self.store.likes("red")), 3)

    def test_a_video_that_nobody_liked_has_none(self) -> None:
        self.like("blue")
        self.assertEqual(self.result(self.store.likes("red")), 0)
        self.assertEqual(self.applause("red"), Applause({}, []))

    def test_likes_are_told_by_reaction(self) -> None:
        for reaction in ("heart", "star", "heart"):
            self.like("red", reaction)
        self.like("blue", "fire")
        self.like("violet", "laugh")
        self.assertEqual(self.applause("red").reactions, {"heart": 2, "star": 1})

    def test_likes_are_told_by_minute_those_with_none_left_out(self) -> None:
        begin = 29_923_632 * MINUTE
        for at in (begin, begin + MINUTE - 1, begin + MINUTE, begin + 5 * MINUTE + 7):
            self.like("red", at=at)
        self.like("blue", at=begin + 2 * MINUTE)
        self.like("violet", at=begin + 3 * MINUTE)
        self.assertEqual(
            self.applause("red").minutes,
            [Minute(begin, 2), Minute(begin + MINUTE, 1), Minute(begin + 5 * MINUTE, 1)],
        )

    def test_of_the_minutes_the_last_are_told_in_their_order(self) -> None:
        begin = 29_923_632 * MINUTE
        for number in (3, 0, 2, 1):
            self.like("red", at=begin + number * MINUTE)
        self.assertEqual(
            [minute.at for minute in self.applause("red", minutes=2).minutes],
            [begin + 2 * MINUTE, begin + 3 * MINUTE],
        )
        self.assertEqual(self.applause("red", minutes=2).likes, 4)


class CommentTests(StoreTestCase):
    def comment(self, video: str, text: str) -> Any:
        return self.result(self.store.comment(video, ANN, text, at=NOW))

    def test_a_comment_is_told_as_it_is_kept(self) -> None:
        comment = self.comment("red", "a '\"; ☃\nb")
        self.assertEqual(comment, Comment(comment.comment, ANN, "a '\"; ☃\nb", NOW))
        self.assertEqual(self.result(self.store.comments("red", 50)), [comment])

    def test_the_last_are_told_in_their_order(self) -> None:
        for number in range(60):
            self.comment("red", str(number))
        told = self.result(self.store.comments("red", 50))
        self.assertEqual([comment.text for comment in told], [str(n) for n in range(10, 60)])

    def test_those_on_other_videos_are_not(self) -> None:
        self.comment("blue", "elsewhere")
        self.assertEqual(self.result(self.store.comments("red", 50)), [])

    def test_each_has_a_number_of_its_own_which_grows(self) -> None:
        numbers = [self.comment(video, "x").comment for video in ("red", "blue", "red")]
        self.assertEqual(numbers, sorted(set(numbers)))


class MessageTests(StoreTestCase):
    def messages(self, one: Member, other: Member, limit: int = 50) -> Any:
        return self.result(self.store.messages(one, other, limit))

    def texts(self, one: Member, other: Member, limit: int = 50) -> list[str]:
        return [message.text for message in self.messages(one, other, limit)]

    def see(self, member: Member, sender: Member, message: int) -> Deferred[None]:
        return self.store.see(member, sender, message)

    def seen(self, one: Member, other: Member) -> list[str]:
        """The texts of the messages between two that were seen."""
        return [message.text for message in self.messages(one, other) if message.seen]

    def test_a_message_is_told_as_it_is_kept(self) -> None:
        message = self.send(ANN, BOB)
        self.assertEqual(message, Message(message.message, ANN, BOB, "hello", NOW, seen=False))
        self.assertEqual(self.messages(ANN, BOB), [message])
        self.assertIs(self.messages(ANN, BOB)[0].seen, False)

    def test_both_find_it_and_nobody_else(self) -> None:
        self.send(ANN, BOB)
        self.assertEqual(self.texts(BOB, ANN), ["hello"])
        self.assertEqual(self.texts(ANN, EVE), [])
        self.assertEqual(self.texts(BOB, EVE), [])

    def test_the_last_are_told_in_their_order_whoever_sent_them(self) -> None:
        for number in range(60):
            self.send(*((ANN, BOB) if number % 3 else (BOB, ANN)), str(number))
        self.assertEqual(self.texts(ANN, BOB), [str(number) for number in range(10, 60)])
        self.assertEqual(self.texts(BOB, ANN, 2), ["58", "59"])

    def test_one_to_nobody_is_refused_and_not_kept(self) -> None:
        nobody = Member("nobody")
        self.failureResultOf(self.store.message(ANN, nobody, "hello", at=NOW), NotFound)
        self.assertEqual(self.texts(ANN, nobody), [])

    def test_all_up_to_one_are_seen(self) -> None:
        sent = [self.send(ANN, BOB, text).message for text in "abc"]
        self.assertIsNone(self.result(self.see(BOB, ANN, sent[1])))
        self.assertEqual(self.seen(ANN, BOB), ["a", "b"])

    def test_what_was_seen_stays_so(self) -> None:
        sent = [self.send(ANN, BOB, text).message for text in "abc"]
        for message in (sent[2], sent[0], sent[2]):
            self.result(self.see(BOB, ANN, message))
        self.assertEqual(self.seen(ANN, BOB), ["a", "b", "c"])

    def test_only_those_to_the_one_who_looks_are_seen(self) -> None:
        self.send(BOB, ANN, "mine")
        message = self.send(ANN, BOB, "yours").message
        self.result(self.see(BOB, ANN, message))
        self.assertEqual(self.seen(ANN, BOB), ["yours"])

    def test_those_of_another_sender_are_not_seen(self) -> None:
        self.send(EVE, BOB)
        self.result(self.see(BOB, ANN, self.send(ANN, BOB).message))
        self.assertEqual(self.seen(EVE, BOB), [])

    def test_a_message_that_is_not_to_the_member_from_that_sender_is_not_found(self) -> None:
        message = self.send(ANN, BOB).message
        for member, sender, number in (
            (ANN, BOB, message),
            (EVE, ANN, message),
            (BOB, EVE, message),
            (BOB, BOB, message),
            (BOB, ANN, message + 1),
            (BOB, ANN, 2**63 - 1),
        ):
            self.failureResultOf(self.see(member, sender, number), NotFound)
        self.assertEqual(self.seen(ANN, BOB), [])


class ConversationTests(StoreTestCase):
    def conversations(self, member: Member, limit: int = 30) -> Any:
        return self.result(self.store.conversations(member, limit))

    def others(self, member: Member, limit: int = 30) -> list[tuple[Member, str]]:
        """With whom a member has conversations, and the last text of each."""
        return [(found.member, found.last.text) for found in self.conversations(member, limit)]

    def unseen(self, member: Member) -> dict[Member, int]:
        return {found.member: found.unseen for found in self.conversations(member)}

    def test_one_who_has_none_has_none(self) -> None:
        self.send(ANN, BOB)
        self.assertEqual(self.conversations(EVE), [])

    def test_the_one_with_the_last_message_is_first_whoever_sent_it(self) -> None:
        self.send(ANN, BOB, "1")
        self.send(EVE, ANN, "2")
        self.assertEqual(self.others(ANN), [(EVE, "2"), (BOB, "1")])
        self.send(BOB, ANN, "3")
        self.assertEqual(self.others(ANN), [(BOB, "3"), (EVE, "2")])
        self.send(ANN, EVE, "4")
        self.assertEqual(self.others(ANN), [(EVE, "4"), (BOB, "3")])

    def test_those_of_others_are_not_told(self) -> None:
        self.send(BOB, EVE)
        self.send(EVE, BOB)
        self.assertEqual(self.others(ANN), [])

    def test_no_more_are_told_than_were_asked_for(self) -> None:
        self.send(ANN, BOB, "1")
        self.send(EVE, ANN, "2")
        self.assertEqual(self.others(ANN, 1), [(EVE, "2")])

    def test_one_is_told_with_its_topic_and_its_whole_last_message(self) -> None:
        message = self.send(BOB, ANN)
        [found] = self.conversations(ANN)
        self.assertEqual(found.last, message)
        self.assertEqual(found.topic, "conv:ann.bob")

    def test_what_a_member_has_not_seen_is_counted_for_it_alone(self) -> None:
        messages = [self.send(ANN, BOB).message for _ in range(3)]
        self.send(BOB, ANN)
        self.assertEqual((self.unseen(BOB), self.unseen(ANN)), ({ANN: 3}, {BOB: 1}))
        self.result(self.store.see(BOB, ANN, messages[1]))
        self.assertEqual((self.unseen(BOB), self.unseen(ANN)), ({ANN: 1}, {BOB: 1}))
        self.assertIs(self.conversations(BOB)[0].last.seen, False)

    def test_what_others_sent_is_counted_with_them(self) -> None:
        self.send(ANN, BOB)
        for _ in range(2):
            self.send(EVE, BOB)
        self.assertEqual(self.unseen(BOB), {EVE: 2, ANN: 1})

    @given(names(), names(), st.booleans())
    @settings(deadline=None)
    def test_any_two_members_have_one_that_both_find(
        self, one: Member, other: Member, first: bool
    ) -> None:
        if one == other:
            return
        database = PromptDatabase()
        store = Store(database.run)
        for member in (one, other):
            self.result(store.come(member, at=NOW, away_milliseconds=0))
        sender, to = (one, other) if first else (other, one)
        message = self.result(store.message(sender, to, "hello", at=NOW))
        for member, partner in ((one, other), (other, one)):
            [found] = self.result(store.conversations(member, 30))
            self.assertEqual((found.member, found.last), (partner, message))
            self.assertEqual(found.topic, conversation_topic(one, other))
            self.assertEqual(found.unseen, 1 if member == to else 0)
            self.assertEqual(self.result(store.messages(member, partner, 50)), [message])
        self.result(store.see(to, sender, message.message))
        self.assertEqual(self.result(store.conversations(to, 30))[0].unseen, 0)
        database.close()


class AnyMessagesTests(SynchronousTestCase):
    """Against lists in memory that say the same in a plain way."""

    @given(
        st.lists(
            st.tuples(st.permutations([ANN, BOB, EVE]), st.booleans(), st.integers(1, 12)),
            max_size=12,
        )
    )
    @settings(deadline=None)
    def test_conversations_are_what_the_messages_say(
        self, steps: list[tuple[list[Member], bool, int]]
    ) -> None:
        database = PromptDatabase()
        store = Store(database.run)
        for member in (ANN, BOB, EVE):
            self.successResultOf(store.come(member, at=NOW, away_milliseconds=0))
        sent: list[Message] = []
        seen: set[int] = set()
        for (member, other, _), is_look, number in steps:
            if is_look:
                mine = [m.message for m in sent if (m.from_, m.to) == (other, member)]
                answer = store.see(member, other, number)
                if number in mine:
                    self.successResultOf(answer)
                    seen.update(message for message in mine if message <= number)
                else:
                    self.failureResultOf(answer, NotFound)
            else:
                sent.append(self.successResultOf(store.message(member, other, "x", at=NOW)))
        for member in (ANN, BOB, EVE):
            expected: dict[Member, list[int]] = {}
            for message in reversed(sent):
                if member in (message.from_, message.to):
                    partner = message.to if message.from_ == member else message.from_
                    row = expected.setdefault(partner, [message.message, 0])
                    row[1] += message.to == member and message.message not in seen
            found = self.successResultOf(store.conversations(member, 30))
            self.assertEqual([[c.last.message, c.unseen] for c in found], list(expected.values()))
            self.assertEqual([c.member for c in found], list(expected))
        database.close()


class AwayTests(SynchronousTestCase):
    def test_everything_fails_while_the_database_is_away(self) -> None:
        store = Store(AwayDatabase().run)
        for answer in (
            store.come(ANN, at=NOW, away_milliseconds=0),
            store.members(30),
            store.like("red", "heart", at=NOW),
            store.likes("red"),
            store.applause("red", minutes=30),
            store.comment("red", ANN, "hello", at=NOW),
            store.comments("red", 50),
            store.message(ANN, BOB, "hello", at=NOW),
            store.messages(ANN, BOB, 50),
            store.see(ANN, BOB, 1),
            store.conversations(ANN, 30),
        ):
            self.failureResultOf(answer, Unavailable)
