"""Tests of rtdeliver.likes.crowd."""

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import LikesCrowd
from rtdeliver.errors import TooManyRequests, Unavailable
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.crowd import Crowd
from rtdeliver.likes.model import REACTIONS, Video
from rtdeliver.likes.publisher import Publisher
from rtdeliver.likes.store import Store, Transactions
from rtdeliver.likes.videos import Videos
from rtdeliver.likes.viewers import ViewerCounts
from tests.likes.fakes import (
    AwayDatabase,
    HangingDatabase,
    HangingPlatform,
    PromptDatabase,
    RecordingPlatform,
    values,
    visitor_limit,
)

RED, BLUE = Video("red", "Red"), Video("blue", "Blue")


class CrowdTestCase(SynchronousTestCase):
    """A crowd of ten likes a second, for three seconds."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_417_956)
        self.database = PromptDatabase()
        self.addCleanup(self.database.close)
        self.platform = RecordingPlatform()
        self.use(self.platform, self.database.run)

    def use(self, platform: IPlatform, run: Transactions) -> None:
        nothing = visitor_limit(self.clock, burst=0, at_address=0)
        videos = Videos(
            videos=[RED, BLUE],
            store=Store(run),
            publisher=Publisher(platform=platform, waiting=1000),
            viewers=ViewerCounts(
                videos=[RED, BLUE], platform=platform, every_seconds=2, clock=self.clock
            ),
            likes=nothing,
            comments=nothing,
            now=self.clock.seconds,
        )
        self.crowd = Crowd(
            videos=videos,
            settings=LikesCrowd(likes_per_second=10, seconds=3),
            clock=self.clock,
        )

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.02] * round(seconds * 50))

    def likes(self, video: Video = RED) -> int:
        """How many likes of a video were told, all of which must be stored."""
        told = [event for event in self.platform.events if event.topic == video.live]
        stored = self.successResultOf(Store(self.database.run).likes(video.name))
        self.assertEqual(stored, len(told))
        return len(told)

    def skipped(self) -> float:
        return values(self.crowd.samples())["app_crowd_skipped"]


class CrowdTests(CrowdTestCase):
    def test_so_many_likes_come_each_second_until_it_leaves(self) -> None:
        self.crowd.come(RED)
        self.pass_time(1.02)
        self.assertEqual(self.likes(), 10)
        self.pass_time(1)
        self.assertEqual(self.likes(), 20)
        self.pass_time(30)
        self.assertEqual(self.likes(), 30)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.skipped(), 0)

    def test_they_come_evenly(self) -> None:
        self.crowd.come(RED)
        for number in range(1, 10):
            self.pass_time(0.1)
            self.assertIn(self.likes(), (number - 1, number))

    def test_what_was_missed_while_the_process_was_busy_is_made_up_for(self) -> None:
        self.crowd.come(RED)
        self.clock.advance(0.9)
        self.assertEqual(self.likes(), 9)
        self.clock.advance(60)
        self.assertEqual(self.likes(), 30)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_its_likes_are_of_nobody_and_of_several_kinds(self) -> None:
        self.crowd.come(RED)
        self.pass_time(4)
        self.assertEqual({event.data["member"] for event in self.platform.events}, {None})
        reactions = {event.data["reaction"] for event in self.platform.events}
        self.assertGreater(len(reactions), 1)
        self.assertLessEqual(reactions, set(REACTIONS))

    def test_while_it_is_there_no_other_one_comes(self) -> None:
        self.crowd.come(RED)
        self.pass_time(2.9)
        refusal = self.assertRaises(TooManyRequests, self.crowd.come, RED)
        self.assertGreater(int(refusal.headers["Retry-After"]), 0)
        self.pass_time(1)
        self.assertEqual(self.likes(), 30)

    def test_after_it_another_one_may_come(self) -> None:
        self.crowd.come(RED)
        self.pass_time(4)
        self.crowd.come(RED)
        self.pass_time(4)
        self.assertEqual(self.likes(), 60)

    def test_each_video_has_its_own(self) -> None:
        self.crowd.come(RED)
        self.pass_time(1)
        self.crowd.come(BLUE)
        self.pass_time(4)
        self.assertEqual((self.likes(RED), self.likes(BLUE)), (30, 30))

    def test_it_can_be_made_to_leave(self) -> None:
        self.crowd.come(RED)
        self.crowd.come(BLUE)
        self.pass_time(1.02)
        self.crowd.leave()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((self.likes(RED), self.likes(BLUE)), (10, 10))
        self.crowd.leave()
        self.crowd.come(RED)
        self.pass_time(1.02)
        self.assertEqual(self.likes(RED), 20)


class BehindTests(CrowdTestCase):
    """The backend cannot do as much."""

    def test_no_more_than_a_second_of_likes_waits_for_the_database(self) -> None:
        database = HangingDatabase()
        self.use(self.platform, database.run)
        self.crowd.come(RED)
        self.pass_time(2.02)
        self.assertEqual(len(database.answers), 10)
        self.assertEqual(self.skipped(), 10)
        for answer in database.answers[:4]:
            answer.callback(1)
        self.pass_time(1)
        self.assertEqual((len(database.answers), self.skipped()), (14, 16))

    def test_no_more_than_a_second_of_likes_waits_for_a_dispatcher(self) -> None:
        platform = HangingPlatform()
        self.use(platform, self.database.run)
        self.crowd.come(RED)
        self.pass_time(2.02)
        self.assertEqual(len(platform.answers), 10)
        self.assertEqual(self.successResultOf(Store(self.database.run).likes("red")), 10)
        platform.answers[0].errback(Failure(Unavailable("no table")))
        self.pass_time(0.1)
        self.assertEqual(len(platform.answers), 11)

    def test_likes_that_the_database_does_not_take_are_left_out_and_not_logged(self) -> None:
        self.use(self.platform, AwayDatabase().run)
        self.crowd.come(RED)
        self.pass_time(4)
        self.assertEqual(self.skipped(), 30)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.platform.events, [])

    def test_a_fault_is_logged_and_the_crowd_stays(self) -> None:
        database = HangingDatabase()
        self.use(self.platform, database.run)
        self.crowd.come(RED)
        self.pass_time(0.52)
        for answer in database.answers[:5]:
            answer.errback(Failure(ZeroDivisionError()))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 5)
        self.assertEqual(self.skipped(), 5)
        self.pass_time(1)
        self.assertEqual(len(database.answers), 15)
