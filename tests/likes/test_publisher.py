"""Tests of rtdeliver.likes.publisher."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import AnswerLost, Unavailable, Unreachable
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.publisher import Publisher, PublishOutcome
from rtdeliver.model import Topic
from tests.likes.fakes import (
    AwayPlatform,
    HangingPlatform,
    Published,
    RecordingPlatform,
    values,
)

RED = Topic("live:red")


class PublisherTests(SynchronousTestCase):
    def use(self, platform: IPlatform) -> None:
        self.publisher = Publisher(platform=platform, waiting=2)

    def tell(self, data: object = None) -> Deferred[PublishOutcome]:
        return Deferred.fromCoroutine(self.publisher.publish(RED, "like", data))

    def test_what_a_dispatcher_takes_is_accepted(self) -> None:
        platform = RecordingPlatform()
        self.use(platform)
        self.assertIs(self.successResultOf(self.tell({"likes": 3})), PublishOutcome.ACCEPTED)
        self.assertEqual(platform.events, [Published(RED, "like", {"likes": 3})])

    def test_what_none_takes_has_failed_and_is_no_error(self) -> None:
        for error in (Unreachable("refused"), AnswerLost("late"), Unavailable("no table")):
            self.use(AwayPlatform(error))
            self.assertIs(self.successResultOf(self.tell()), PublishOutcome.FAILED)
            self.assertEqual(self.publisher.waiting, 0)

    def test_no_more_waits_than_so_much_and_what_is_beyond_fails_at_once(self) -> None:
        platform = HangingPlatform()
        self.use(platform)
        waiting = [self.tell(), self.tell()]
        self.assertEqual(self.publisher.waiting, 2)
        self.assertIs(self.successResultOf(self.tell()), PublishOutcome.FAILED)
        self.assertEqual(len(platform.answers), 2)
        for answer in waiting:
            self.assertNoResult(answer)

    def test_what_was_answered_waits_no_more(self) -> None:
        platform = HangingPlatform()
        self.use(platform)
        first, second = self.tell(), self.tell()
        platform.answers[0].callback(None)
        self.assertIs(self.successResultOf(first), PublishOutcome.ACCEPTED)
        self.assertEqual(self.publisher.waiting, 1)
        platform.answers[1].errback(AnswerLost("late"))
        self.assertIs(self.successResultOf(second), PublishOutcome.FAILED)
        self.assertEqual(self.publisher.waiting, 0)
        self.assertNoResult(self.tell())

    def test_what_nobody_asks_for_any_more_waits_no_more(self) -> None:
        self.use(HangingPlatform())
        told = self.tell()
        told.cancel()
        self.failureResultOf(told, CancelledError)
        self.assertEqual(self.publisher.waiting, 0)

    def test_a_fault_of_the_platform_is_not_hidden(self) -> None:
        self.use(AwayPlatform(ZeroDivisionError()))
        self.failureResultOf(self.tell(), ZeroDivisionError)
        self.assertEqual(self.publisher.waiting, 0)

    def test_what_became_of_events_is_counted(self) -> None:
        platform = HangingPlatform()
        self.use(platform)
        names = ("app_published.accepted", "app_published.failed")
        self.assertEqual([values(self.publisher.samples())[name] for name in names], [0, 0])
        for _ in range(3):
            self.tell()
        platform.answers[0].callback(None)
        platform.answers[1].callback(None)
        self.assertEqual([values(self.publisher.samples())[name] for name in names], [2, 1])

    def test_deliveries_are_words_on_the_wire(self) -> None:
        self.assertEqual([delivery.value for delivery in PublishOutcome], ["accepted", "failed"])
