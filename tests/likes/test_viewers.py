"""Tests of rtdeliver.likes.viewers."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import AnswerLost, Unavailable
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.model import Video
from rtdeliver.likes.viewers import ViewerCounts
from tests.likes.fakes import HangingPlatform, Published, RecordingPlatform

RED, BLUE = Video("red", "Red"), Video("blue", "Blue")


class ViewerCountsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.platform = RecordingPlatform()
        self.platform.watching[RED.live] = 17
        self.counts = self.counts_of(self.platform)

    def counts_of(self, platform: IPlatform) -> ViewerCounts:
        return ViewerCounts(
            videos=[RED, BLUE], platform=platform, every_seconds=2, clock=self.clock
        )

    def known(self) -> list[int | None]:
        return [self.counts.of(video) for video in (RED, BLUE)]

    def told(self) -> list[Published]:
        """What was published since the last look."""
        events = self.platform.events.copy()
        self.platform.events.clear()
        return events

    def test_nobody_knows_before_the_first_answer(self) -> None:
        self.assertEqual(self.known(), [None, None])
        self.assertEqual(self.platform.questions, [])

    def test_it_asks_when_it_starts_and_then_again_and_again(self) -> None:
        self.counts.start()
        self.assertEqual(self.known(), [17, 0])
        self.platform.watching[BLUE.live] = 3
        self.clock.advance(1.9)
        self.assertEqual(self.known(), [17, 0])
        self.clock.advance(0.1)
        self.assertEqual(self.known(), [17, 3])
        self.clock.pump([2, 2])
        self.assertEqual(self.platform.questions, ["live:red", "live:blue"] * 4)

    def test_what_has_changed_is_published(self) -> None:
        self.counts.start()
        self.assertEqual(
            self.told(),
            [
                Published("live:red", "viewers", {"viewers": 17}),
                Published("live:blue", "viewers", {"viewers": 0}),
            ],
        )
        self.platform.watching[RED.live] = 18
        self.clock.advance(2)
        self.assertEqual(self.told(), [Published("live:red", "viewers", {"viewers": 18})])
        self.clock.pump([2, 2])
        self.assertEqual(self.told(), [])

    def test_nobody_knows_while_no_dispatcher_answers(self) -> None:
        self.counts.start()
        for error in (AnswerLost("late"), Unavailable("no table")):
            self.platform.failures[RED.live] = error
            self.platform.watching[BLUE.live] += 1
            self.clock.advance(2)
            self.assertEqual(self.known(), [None, self.platform.watching[BLUE.live]])
        del self.platform.failures[RED.live]
        self.told()
        self.clock.advance(2)
        self.assertEqual(self.known(), [17, 2])
        self.assertEqual(self.told(), [Published("live:red", "viewers", {"viewers": 17})])

    def test_it_does_not_ask_again_before_it_has_an_answer(self) -> None:
        platform = HangingPlatform()
        self.counts = self.counts_of(platform)
        self.counts.start()
        self.clock.pump([2] * 5)
        self.assertEqual(len(platform.answers), 2)
        self.assertEqual(self.known(), [None, None])
        platform.answers[0].callback(5)
        self.assertEqual(self.known(), [5, None])

    def test_a_fault_is_logged_and_it_asks_again(self) -> None:
        self.counts.start()
        self.platform.failures[RED.live] = ZeroDivisionError()
        self.clock.advance(2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        del self.platform.failures[RED.live]
        self.platform.watching[RED.live] = 18
        self.clock.advance(2)
        self.assertEqual(self.known(), [18, 0])

    def test_after_the_stop_it_asks_no_more(self) -> None:
        self.counts.start()
        self.counts.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_can_be_stopped_twice_and_without_having_started(self) -> None:
        self.counts.stop()
        self.counts.start()
        self.counts.stop()
        self.counts.stop()

    def test_an_answer_that_comes_after_the_stop_is_the_last(self) -> None:
        platform = HangingPlatform()
        counts = self.counts_of(platform)
        counts.start()
        counts.stop()
        platform.answers[0].callback(5)
        platform.answers[1].errback(AnswerLost("late"))
        self.assertEqual(len(platform.answers), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
