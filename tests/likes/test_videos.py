"""Tests of rtdeliver.likes.videos."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import NotFound, TooManyRequests, Unavailable
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.model import Minute, Video, Visitor
from rtdeliver.likes.publisher import Publisher, PublishOutcome
from rtdeliver.likes.store import Store, Transactions
from rtdeliver.likes.videos import Videos, VideoSummary
from rtdeliver.likes.viewers import ViewerCounts
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

RED, BLUE = Video("red", "Canyon at dusk"), Video("blue", "blue")
NOW = 1_795_417_956.553
SOMEBODY = Visitor(None, "10.0.0.1")


class VideosTestCase(SynchronousTestCase):
    """Has two videos, and lets visitors do everything twice, and an address four times."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.database = PromptDatabase()
        self.addCleanup(self.database.close)
        self.store = Store(self.database.run)
        self.platform = RecordingPlatform(self.stored)
        self.videos = self.videos_with(self.platform)

    def videos_with(self, platform: IPlatform, run: Transactions | None = None) -> Videos:
        self.viewers = ViewerCounts(
            videos=[RED, BLUE], platform=platform, every_seconds=2, clock=self.clock
        )
        return Videos(
            videos=[RED, BLUE],
            store=Store(run or self.database.run),
            publisher=Publisher(platform=platform, waiting=100),
            viewers=self.viewers,
            likes=visitor_limit(self.clock),
            comments=visitor_limit(self.clock),
            now=self.clock.seconds,
        )

    def stored(self) -> tuple[int, list[str]]:
        """All likes and comments of the red video that are in the store now."""
        likes = self.successResultOf(self.store.likes(RED.name))
        comments = self.successResultOf(self.store.comments(RED.name, 100))
        return likes, [comment.text for comment in comments]

    def result(self, answer: Coroutine[Any, Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(answer))

    def refused(self, answer: Coroutine[Any, Any, Any], *refusals: type[Exception]) -> None:
        self.failureResultOf(Deferred.fromCoroutine(answer), *refusals)


class LikeTests(VideosTestCase):
    def test_a_like_is_told_with_all_that_there_are(self) -> None:
        self.result(self.videos.like(RED, Visitor(ANN, "10.0.0.1"), "heart"))
        liked = self.result(self.videos.like(RED, SOMEBODY, "star"))
        self.assertEqual((liked.likes, liked.reaction), (2, "star"))
        self.assertIs(liked.delivery, PublishOutcome.ACCEPTED)
        self.assertEqual(
            self.platform.events,
            [
                Published("live:red", "like", {"member": "ann", "reaction": "heart", "likes": 1}),
                Published("live:red", "like", {"member": None, "reaction": "star", "likes": 2}),
            ],
        )

    def test_it_is_stored_before_it_is_told(self) -> None:
        self.result(self.videos.like(RED, SOMEBODY, "heart"))
        self.assertEqual(self.platform.looks, [(1, [])])

    def test_it_is_stored_though_nobody_can_be_told(self) -> None:
        videos = self.videos_with(AwayPlatform())
        liked = self.result(videos.like(RED, SOMEBODY, "heart"))
        self.assertEqual((liked.likes, liked.delivery), (1, PublishOutcome.FAILED))
        self.assertEqual(self.stored(), (1, []))

    def test_it_is_stored_while_a_dispatcher_is_slow(self) -> None:
        platform = HangingPlatform()
        liked = Deferred.fromCoroutine(self.videos_with(platform).like(RED, SOMEBODY, "heart"))
        self.assertEqual(self.stored(), (1, []))
        self.assertNoResult(liked)
        platform.answers[0].callback(None)
        self.assertIs(self.successResultOf(liked).delivery, PublishOutcome.ACCEPTED)

    def test_beyond_the_limit_it_is_neither_stored_nor_told(self) -> None:
        for _ in range(2):
            self.result(self.videos.like(RED, SOMEBODY, "heart"))
        self.refused(self.videos.like(BLUE, SOMEBODY, "heart"), TooManyRequests)
        self.refused(self.videos.like(RED, SOMEBODY, "heart"), TooManyRequests)
        self.assertEqual(self.stored(), (2, []))
        self.assertEqual(len(self.platform.events), 2)
        self.assertEqual(self.successResultOf(self.store.likes(BLUE.name)), 0)

    def test_the_limit_is_of_a_member_wherever_it_is_and_of_an_address_without_one(self) -> None:
        for visitor in (Visitor(ANN, "10.0.0.1"), Visitor(ANN, "10.0.0.2"), SOMEBODY):
            self.result(self.videos.like(RED, visitor, "heart"))
        self.refused(self.videos.like(RED, Visitor(ANN, "10.0.0.3"), "heart"), TooManyRequests)
        self.result(self.videos.like(RED, SOMEBODY, "heart"))
        self.refused(self.videos.like(RED, SOMEBODY, "heart"), TooManyRequests)
        self.result(self.videos.like(RED, Visitor(None, "10.0.0.2"), "heart"))

    def test_many_names_at_one_address_share_the_limit_of_the_address(self) -> None:
        for member in (ANN, ANN, BOB, BOB):
            self.result(self.videos.like(RED, Visitor(member, HOME), "heart"))
        for visitor in (Visitor(EVE, HOME), Visitor(None, HOME)):
            self.refused(self.videos.like(RED, visitor, "heart"), TooManyRequests)
        self.refused(self.videos.typing(RED, EVE, address=HOME), TooManyRequests)
        self.assertEqual(self.stored(), (4, []))
        self.result(self.videos.like(RED, Visitor(EVE, "10.0.0.2"), "heart"))

    def test_who_may_like_as_much_as_they_want_is_not_limited(self) -> None:
        for number in range(5):
            liked = self.result(self.videos.count_like(RED, None, "fire"))
            self.assertEqual(liked.likes, number + 1)
        self.assertEqual(self.stored(), (5, []))

    def test_what_is_not_stored_is_not_told(self) -> None:
        videos = self.videos_with(self.platform, AwayDatabase().run)
        self.refused(videos.like(RED, SOMEBODY, "heart"), Unavailable)
        self.refused(videos.comment(RED, ANN, "hello", address=HOME), Unavailable)
        self.assertEqual(self.platform.events, [])
        self.assertEqual(set(values(videos.samples()).values()), {0})


class CommentTests(VideosTestCase):
    def test_a_comment_is_told_as_it_is_stored(self) -> None:
        commented = self.result(self.videos.comment(RED, ANN, "hello ☃\n", address=HOME))
        comment = commented.comment
        self.assertEqual((comment.member, comment.text), (ANN, "hello ☃\n"))
        self.assertEqual(comment.at, 1_795_417_956_553)
        self.assertIs(commented.delivery, PublishOutcome.ACCEPTED)
        told = {
            "comment": comment.comment,
            "member": "ann",
            "text": "hello ☃\n",
            "at": 1_795_417_956_553,
        }
        self.assertEqual(self.platform.events, [Published("comments:red", "comment", told)])
        self.assertEqual(self.successResultOf(self.store.comments("red", 50)), [comment])

    def test_it_is_stored_before_it_is_told(self) -> None:
        self.result(self.videos.comment(RED, ANN, "hello", address=HOME))
        self.assertEqual(self.platform.looks, [(0, ["hello"])])

    def test_it_is_stored_though_nobody_can_be_told(self) -> None:
        commented = self.result(
            self.videos_with(AwayPlatform()).comment(RED, ANN, "hello", address=HOME)
        )
        self.assertIs(commented.delivery, PublishOutcome.FAILED)
        self.assertEqual(self.stored(), (0, ["hello"]))

    def test_beyond_the_limit_of_a_member_it_is_neither_stored_nor_told(self) -> None:
        for text in "ab":
            self.result(self.videos.comment(RED, ANN, text, address=HOME))
        self.refused(self.videos.comment(RED, ANN, "c", address=HOME), TooManyRequests)
        self.assertEqual(self.stored(), (0, ["a", "b"]))
        self.assertEqual(len(self.platform.events), 2)
        self.result(self.videos.comment(RED, BOB, "d", address=HOME))

    def test_many_names_at_one_address_share_the_limit_of_the_address(self) -> None:
        for member in (ANN, ANN, BOB, BOB):
            self.result(self.videos.comment(RED, member, "x", address=HOME))
        self.refused(self.videos.comment(RED, EVE, "x", address=HOME), TooManyRequests)
        self.assertEqual(len(self.platform.events), 4)
        self.result(self.videos.comment(RED, EVE, "x", address="10.0.0.2"))

    def test_likes_do_not_count_against_it(self) -> None:
        for _ in range(2):
            self.result(self.videos.like(RED, Visitor(ANN, ""), "heart"))
        self.result(self.videos.comment(RED, ANN, "hello", address=HOME))


class TypingTests(VideosTestCase):
    def test_who_types_is_told_and_not_stored(self) -> None:
        self.assertIs(
            self.result(self.videos.typing(RED, ANN, address=HOME)), PublishOutcome.ACCEPTED
        )
        self.assertEqual(
            self.platform.events, [Published("comments:red", "typing", {"member": "ann"})]
        )
        self.assertEqual(self.stored(), (0, []))

    def test_that_nobody_can_be_told_is_no_error(self) -> None:
        self.assertIs(
            self.result(self.videos_with(AwayPlatform()).typing(RED, ANN, address=HOME)),
            PublishOutcome.FAILED,
        )

    def test_it_counts_as_a_like_where_these_are_limited(self) -> None:
        self.result(self.videos.typing(RED, ANN, address=HOME))
        self.result(self.videos.like(RED, Visitor(ANN, "10.0.0.1"), "heart"))
        self.refused(self.videos.typing(RED, ANN, address=HOME), TooManyRequests)
        self.assertEqual(len(self.platform.events), 2)


class PageTests(VideosTestCase):
    def test_a_video_is_found_by_its_name(self) -> None:
        self.assertEqual(self.videos.video("red"), RED)

    def test_one_that_there_is_not_is_answered_with_those_that_there_are(self) -> None:
        refusal = self.assertRaises(NotFound, self.videos.video, "green")
        self.assertEqual(refusal.message, "there is no such video; the videos are red, blue")

    def test_all_videos_are_told_with_their_likes_and_viewers(self) -> None:
        self.result(self.videos.like(RED, SOMEBODY, "heart"))
        self.assertEqual(
            self.result(self.videos.summaries()),
            [VideoSummary("red", "Canyon at dusk", 1, None), VideoSummary("blue", "blue", 0, None)],
        )
        self.platform.watching[BLUE.live] = 3
        self.viewers.start()
        self.addCleanup(self.viewers.stop)
        told = self.result(self.videos.summaries())
        self.assertEqual([summary.viewers for summary in told], [0, 3])

    def test_a_page_shows_what_there_is_of_its_video(self) -> None:
        self.result(self.videos.count_like(RED, ANN, "heart"))
        self.result(self.videos.count_like(RED, None, "star"))
        self.clock.advance(60)
        self.result(self.videos.count_like(RED, None, "star"))
        self.result(self.videos.count_like(BLUE, None, "fire"))
        comment = self.result(self.videos.comment(RED, ANN, "hello", address=HOME)).comment
        self.platform.watching[RED.live] = 17
        self.viewers.start()
        self.addCleanup(self.viewers.stop)
        page = self.result(self.videos.look(RED))
        self.assertEqual((page.video, page.title, page.viewers), ("red", "Canyon at dusk", 17))
        self.assertEqual((page.likes, page.reactions), (3, {"heart": 1, "star": 2}))
        begin = 1_795_417_956_553 // 60_000 * 60_000
        self.assertEqual(page.minutes, [Minute(begin, 2), Minute(begin + 60_000, 1)])
        self.assertEqual(page.comments, [comment])

    def test_a_page_shows_the_last_50_comments_and_30_minutes(self) -> None:
        for number in range(60):
            self.result(self.videos.comment(RED, ANN, str(number), address=HOME))
            self.result(self.videos.count_like(RED, None, "heart"))
            self.clock.advance(60)
        page = self.result(self.videos.look(RED))
        self.assertEqual([comment.text for comment in page.comments][::49], ["10", "59"])
        self.assertEqual((len(page.comments), len(page.minutes), page.likes), (50, 30, 60))

    def test_what_was_stored_is_counted(self) -> None:
        self.result(self.videos.like(RED, SOMEBODY, "heart"))
        self.result(self.videos.count_like(RED, None, "heart"))
        self.result(self.videos.comment(RED, ANN, "hello", address=HOME))
        self.assertEqual(values(self.videos.samples()), {"app_likes": 2, "app_comments": 1})
