"""Tests of rtdeliver.likes.conversations."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import BadRequest, NotFound, TooManyRequests, Unavailable
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.conversations import Conversations, Seen
from rtdeliver.likes.publisher import Publisher, PublishOutcome
from rtdeliver.likes.store import Store, Transactions
from rtdeliver.model import Member
from tests.likes.fakes import (
    ANN,
    BOB,
    EVE,
    HOME,
    AwayDatabase,
    AwayPlatform,
    HangingPlatform,
    PromptDatabase,
    Published,
    RecordingPlatform,
    values,
    visitor_limit,
)

NOW = 1_795_417_956.553


class ConversationsTestCase(SynchronousTestCase):
    """Lets ann, bob and eve send two messages at once, and an address four."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.database = PromptDatabase()
        self.addCleanup(self.database.close)
        self.store = Store(self.database.run)
        for member in (ANN, BOB, EVE):
            self.successResultOf(self.store.come(member, at=0, away_milliseconds=0))
        self.platform = RecordingPlatform(self.stored)
        self.conversations = self.conversations_with(self.platform)

    def conversations_with(
        self,
        platform: IPlatform,
        run: Transactions | None = None,
        *,
        burst: int = 2,
        at_address: int = 4,
    ) -> Conversations:
        return Conversations(
            store=Store(run or self.database.run),
            publisher=Publisher(platform=platform, waiting=100),
            messages=visitor_limit(self.clock, burst=burst, at_address=at_address),
            seen=visitor_limit(self.clock, burst=burst, at_address=at_address),
            now=self.clock.seconds,
        )

    def stored(self) -> list[tuple[str, bool]]:
        """The texts between ann and bob that are in the store now, and whether they were seen."""
        messages = self.successResultOf(self.store.messages(ANN, BOB, 100))
        return [(message.text, message.seen) for message in messages]

    def result(self, answer: Coroutine[Any, Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(answer))

    def refused(self, answer: Coroutine[Any, Any, Any], *refusals: type[Exception]) -> None:
        self.failureResultOf(Deferred.fromCoroutine(answer), *refusals)

    def send(self, member: Member, to: Member, text: str = "hello") -> int:
        """Have a message sent, and return its number."""
        number: int = self.result(
            self.conversations.send(member, to, text, address=HOME)
        ).message.message
        return number


class SendTests(ConversationsTestCase):
    def test_a_message_is_told_as_it_is_stored(self) -> None:
        sent = self.result(self.conversations.send(BOB, ANN, "hello ☃\n", address=HOME))
        told = {
            "message": sent.message.message,
            "from": "bob",
            "to": "ann",
            "text": "hello ☃\n",
            "at": 1_795_417_956_553,
            "seen": False,
        }
        self.assertEqual(self.platform.events, [Published("conv:ann.bob", "message", told)])
        self.assertIs(sent.delivery, PublishOutcome.ACCEPTED)
        self.assertEqual(self.successResultOf(self.store.messages(ANN, BOB, 50)), [sent.message])

    def test_it_is_stored_before_it_is_told(self) -> None:
        self.send(ANN, BOB)
        self.assertEqual(self.platform.looks, [[("hello", False)]])

    def test_it_is_stored_though_nobody_can_be_told(self) -> None:
        sent = self.result(
            self.conversations_with(AwayPlatform()).send(ANN, BOB, "hello", address=HOME)
        )
        self.assertIs(sent.delivery, PublishOutcome.FAILED)
        self.assertEqual(self.stored(), [("hello", False)])

    def test_it_is_stored_while_a_dispatcher_is_slow(self) -> None:
        platform = HangingPlatform()
        sent = Deferred.fromCoroutine(
            self.conversations_with(platform).send(ANN, BOB, "hello", address=HOME)
        )
        self.assertEqual(self.stored(), [("hello", False)])
        self.assertNoResult(sent)
        platform.answers[0].callback(None)
        self.assertIs(self.successResultOf(sent).delivery, PublishOutcome.ACCEPTED)

    def test_beyond_the_limit_it_is_neither_stored_nor_told(self) -> None:
        self.send(ANN, BOB, "a")
        self.send(ANN, EVE, "b")
        self.refused(self.conversations.send(ANN, BOB, "c", address=HOME), TooManyRequests)
        self.assertEqual(self.stored(), [("a", False)])
        self.assertEqual(len(self.platform.events), 2)
        self.send(BOB, ANN)

    def test_many_names_at_one_address_share_the_limit_of_the_address(self) -> None:
        for member in (ANN, ANN, BOB, BOB):
            self.send(member, EVE)
        refused = self.conversations.send(EVE, ANN, "hello", address=HOME)
        self.refused(refused, TooManyRequests)
        self.result(self.conversations.send(EVE, ANN, "hello", address="10.0.0.2"))

    def test_one_to_nobody_is_refused_and_not_told(self) -> None:
        self.refused(
            self.conversations.send(ANN, Member("nobody"), "hello", address=HOME), NotFound
        )
        self.assertEqual(self.platform.events, [])

    def test_one_to_oneself_is_refused_and_does_not_count(self) -> None:
        for _ in range(3):
            self.refused(self.conversations.send(ANN, ANN, "hello", address=HOME), BadRequest)
        self.assertEqual(self.platform.events, [])
        self.send(ANN, BOB)

    def test_what_is_not_stored_is_not_told(self) -> None:
        conversations = self.conversations_with(self.platform, AwayDatabase().run)
        self.refused(conversations.send(ANN, BOB, "hello", address=HOME), Unavailable)
        self.refused(conversations.see(ANN, BOB, 1, address=HOME), Unavailable)
        self.assertEqual(self.platform.events, [])
        self.assertEqual(values(conversations.samples()), {"app_messages": 0})

    def test_messages_are_counted(self) -> None:
        self.send(ANN, BOB)
        self.send(BOB, ANN)
        self.assertEqual(values(self.conversations.samples()), {"app_messages": 2})


class SeeTests(ConversationsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.first, self.second = self.send(ANN, BOB, "a"), self.send(ANN, BOB, "b")
        self.platform.events.clear()
        self.platform.looks.clear()

    def test_what_was_seen_is_told_by_its_last_message(self) -> None:
        seen = self.result(self.conversations.see(BOB, ANN, self.second, address=HOME))
        self.assertEqual(seen, Seen(self.second, PublishOutcome.ACCEPTED))
        self.assertEqual(
            self.platform.events,
            [Published("conv:ann.bob", "seen", {"by": "bob", "message": self.second})],
        )

    def test_it_is_stored_before_it_is_told(self) -> None:
        self.result(self.conversations.see(BOB, ANN, self.first, address=HOME))
        self.assertEqual(self.platform.looks, [[("a", True), ("b", False)]])

    def test_it_is_stored_though_nobody_can_be_told(self) -> None:
        conversations = self.conversations_with(AwayPlatform())
        seen = self.result(conversations.see(BOB, ANN, self.second, address=HOME))
        self.assertIs(seen.delivery, PublishOutcome.FAILED)
        self.assertEqual(self.stored(), [("a", True), ("b", True)])

    def test_beyond_the_limit_it_is_neither_stored_nor_told(self) -> None:
        for _ in range(2):
            self.result(self.conversations.see(BOB, ANN, self.first, address=HOME))
        refused = self.conversations.see(BOB, ANN, self.second, address=HOME)
        self.refused(refused, TooManyRequests)
        self.assertEqual(self.stored(), [("a", True), ("b", False)])
        self.assertEqual(len(self.platform.events), 2)

    def test_many_names_at_one_address_share_the_limit_of_the_address(self) -> None:
        conversations = self.conversations_with(self.platform, at_address=1)
        self.result(conversations.see(BOB, ANN, self.first, address=HOME))
        self.refused(conversations.see(EVE, ANN, self.first, address=HOME), TooManyRequests)
        self.result(conversations.see(BOB, ANN, self.second, address="10.0.0.2"))

    def test_what_another_was_sent_cannot_be_seen(self) -> None:
        for member, sender in ((ANN, BOB), (EVE, ANN), (BOB, EVE)):
            self.refused(self.conversations.see(member, sender, self.first, address=HOME), NotFound)
        self.assertEqual(self.stored(), [("a", False), ("b", False)])
        self.assertEqual(self.platform.events, [])


class LookTests(ConversationsTestCase):
    def test_a_conversation_is_shown_with_where_it_goes_on(self) -> None:
        self.send(ANN, BOB, "a")
        self.send(BOB, ANN, "b")
        page = self.result(self.conversations.look(BOB, ANN))
        self.assertEqual((page.member, page.topic), (ANN, "conv:ann.bob"))
        self.assertEqual([message.text for message in page.messages], ["a", "b"])

    def test_one_that_has_not_begun_is_empty(self) -> None:
        page = self.result(self.conversations.look(ANN, EVE))
        self.assertEqual((page.topic, list(page.messages)), ("conv:ann.eve", []))

    def test_the_last_50_messages_are_shown(self) -> None:
        self.conversations = self.conversations_with(self.platform, burst=60, at_address=60)
        for number in range(60):
            self.send(ANN, BOB, str(number))
        messages = self.result(self.conversations.look(ANN, BOB)).messages
        self.assertEqual([message.text for message in messages], [str(n) for n in range(10, 60)])

    def test_a_member_has_those_that_it_takes_part_in_the_last_one_first(self) -> None:
        self.send(ANN, BOB)
        self.send(EVE, ANN)
        told = self.successResultOf(self.conversations.all_of(ANN))
        self.assertEqual([(found.member, found.unseen) for found in told], [(EVE, 1), (BOB, 0)])

    def test_a_member_is_told_of_30_of_them(self) -> None:
        self.conversations = self.conversations_with(self.platform, burst=40, at_address=40)
        for number in range(40):
            other = Member(f"m{number}")
            self.successResultOf(self.store.come(other, at=0, away_milliseconds=0))
            self.send(ANN, other)
        told = self.successResultOf(self.conversations.all_of(ANN))
        self.assertEqual([found.member for found in told], [f"m{n}" for n in range(39, 9, -1)])
