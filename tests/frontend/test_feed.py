"""Tests of rtdeliver.frontend.feed."""

from collections.abc import Iterable
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Viewers
from rtdeliver.frontend.ages import Passage
from rtdeliver.frontend.chunked import contents
from rtdeliver.frontend.feed import Cursor, Feed, Frames, in_order
from rtdeliver.model import Topic

RED = Topic("live:red")
ENDLESS = 1 << 30


class Watcher:
    """A viewer that takes when it is told to, and notes what it got."""

    def __init__(self) -> None:
        self.cursor: Cursor | None = None
        self.wakes = 0
        self.overtakings = 0
        self.forgotten = 0
        self.data = b""
        self.events = 0
        self.lost = 0
        self.told: list[int] = []

    def wake(self, cursors: tuple[Cursor]) -> None:
        assert self.cursor is None
        [self.cursor] = cursors
        self.wakes += 1

    def forget(self, feed: Feed["Watcher"]) -> None:
        self.forgotten += 1
        self.cursor = None

    def go_back(self, feed: Feed["Watcher"], position: int | None) -> None:
        self.cursor = None if position is None else (feed, position)

    def lose(self, topic: Topic, lost: int) -> None:
        self.told.append(lost)

    def overtaken(self, feed: Feed["Watcher"]) -> None:
        self.overtakings += 1

    def take(self) -> None:
        if self.cursor is not None:
            feed, position = self.cursor
            data, events, end, _ = feed.take(self, position)
            self.data += contents(data)
            self.events += events
            self.lost += end - position - events
            self.cursor = None if end == feed.end else (feed, end)

    def take_all(self) -> None:
        while self.cursor is not None:
            self.take()


def new_feed(
    *,
    mailbox_bytes: int = ENDLESS,
    mailbox_events: int = ENDLESS,
    send_bytes: int = ENDLESS,
    close: bool = False,
) -> Feed[Watcher]:
    return Feed(
        RED,
        Viewers(
            mailbox_bytes=mailbox_bytes,
            mailbox_events=mailbox_events,
            overflow="close" if close else "drop_oldest",
            send_bytes=send_bytes,
        ),
        count(1).__next__,
    )


def frames(data: bytes, events: int = 1, at: int = 0) -> Frames:
    return Frames(data=data, events=events, topic=RED, passage=Passage(at))


def ats(
    posts: Iterable[tuple[int, bytes, int, Passage]],
) -> list[tuple[int, bytes, int, int]]:
    """Return posts with the times of their first events."""
    return [(number, data, end, passage.at) for number, data, end, passage in posts]


class CountedBytes(bytes):
    """Counts how often its length is asked for."""

    looks = 0

    def __len__(self) -> int:
        CountedBytes.looks += 1
        return super().__len__()


def joined(feed: Feed[Watcher], viewers: int = 1) -> list[Watcher]:
    watchers = [Watcher() for _ in range(viewers)]
    for watcher in watchers:
        feed.join(watcher)
    return watchers


class FeedTests(SynchronousTestCase):
    def test_viewers_are_woken_once_and_take_all_that_came(self) -> None:
        feed = new_feed()
        watchers = joined(feed, 2)
        for data in (b"a", b"b", b"c"):
            feed.post(frames(data))
        for watcher in watchers:
            watcher.take()
        self.assertEqual([(b"abc", 3, 1)] * 2, [(w.data, w.events, w.wakes) for w in watchers])
        feed.post(frames(b"d"))
        self.assertEqual([2, 2], [watcher.wakes for watcher in watchers])

    def test_all_take_the_same_bytes(self) -> None:
        feed = new_feed()
        watchers = joined(feed, 2)
        feed.post(frames(b"a" * 100))
        feed.post(frames(b"b" * 100))
        taken = []
        for watcher in watchers:
            assert watcher.cursor is not None
            taken.append(feed.take(watcher, watcher.cursor[1])[0])
        self.assertIs(taken[0], taken[1])

    def test_who_comes_later_has_what_comes_later(self) -> None:
        feed = new_feed()
        [early] = joined(feed)
        feed.post(frames(b"a"))
        [late] = joined(feed)
        feed.post(frames(b"b"))
        early.take()
        late.take()
        self.assertEqual((b"ab", b"b"), (early.data, late.data))

    def test_what_all_have_taken_is_kept_no_longer(self) -> None:
        feed = new_feed()
        watchers = joined(feed, 3)
        feed.post(frames(b"abc"))
        for watcher in watchers:
            self.assertEqual(3, feed.bytes_since(0))
            watcher.take()
        self.assertEqual(0, feed.bytes_since(0))

    def test_what_the_last_who_lagged_left_is_kept_no_longer(self) -> None:
        feed = new_feed()
        watchers = joined(feed, 2)
        feed.post(frames(b"abc"))
        watchers[0].take()
        feed.leave(watchers[1])
        self.assertEqual(0, feed.bytes_since(0))
        self.assertEqual([watchers[0]], list(feed))

    def test_who_leaves_is_told_first_and_woken_no_more(self) -> None:
        feed = new_feed()
        idle, behind = joined(feed, 2)
        feed.post(frames(b"a"))
        idle.take()
        for watcher in (idle, behind):
            feed.leave(watcher)
        feed.post(frames(b"b"))
        self.assertEqual([1, 1], [idle.forgotten, behind.forgotten])
        self.assertEqual((None, None, 0), (idle.cursor, behind.cursor, len(feed)))

    def test_a_viewer_takes_as_much_as_may_be_sent_at_a_time(self) -> None:
        feed = new_feed(send_bytes=5)
        [watcher] = joined(feed)
        for data in (b"aa", b"bb", b"cc", b"dddddddd"):
            feed.post(frames(data))
        taken = []
        while watcher.cursor is not None:
            watcher.take()
            taken.append(watcher.data)
        self.assertEqual([b"aabb", b"aabbcc", b"aabbccdddddddd"], taken)

    def test_the_oldest_are_dropped_where_there_is_no_room(self) -> None:
        for feed in (new_feed(mailbox_events=3), new_feed(mailbox_bytes=2)):
            slow, quick = joined(feed, 2)
            feed.post(frames(b"a", events=2))
            quick.take()
            feed.post(frames(b"b", events=1))
            feed.post(frames(b"c", events=1))
            quick.take()
            slow.take()
            self.assertEqual((b"abc", 4, 0), (quick.data, quick.events, quick.lost))
            self.assertEqual((b"bc", 2, 2), (slow.data, slow.events, slow.lost))

    def test_what_is_larger_than_all_room_is_kept_alone(self) -> None:
        feed = new_feed(mailbox_bytes=2, mailbox_events=1)
        [watcher] = joined(feed)
        feed.post(frames(b"a"))
        feed.post(frames(b"bbbb", events=3))
        watcher.take()
        self.assertEqual((b"bbbb", 3, 1), (watcher.data, watcher.events, watcher.lost))

    def test_where_nothing_may_be_missed_viewers_are_told_of_each_drop(self) -> None:
        feed = new_feed(mailbox_events=1, close=True)
        [watcher] = joined(feed)
        feed.post(frames(b"a"))
        self.assertEqual(0, watcher.overtakings)
        feed.post(frames(b"b"))
        self.assertEqual(1, watcher.overtakings)

    def test_what_follows_a_position_is_told_in_the_order_of_all_feeds(self) -> None:
        numbers = count(1).__next__
        settings = Viewers(mailbox_bytes=ENDLESS, mailbox_events=ENDLESS, send_bytes=ENDLESS)
        feeds: list[Feed[Watcher]] = [Feed(RED, settings, numbers) for _ in range(2)]
        for feed in feeds:
            joined(feed)
        for place, data, at in ((0, b"a", 7), (1, b"b", 8), (0, b"c", 9)):
            feeds[place].post(frames(data, events=2, at=at))
        self.assertEqual([(1, b"a", 2, 7), (3, b"c", 4, 9)], ats(feeds[0].since(0)))
        self.assertEqual([(3, b"c", 4, 9)], ats(feeds[0].since(2)))
        self.assertEqual([(2, b"b", 2, 8)], ats(feeds[1].since(0)))
        self.assertEqual(
            [(1, b"a", 2, 7), (0, b"b", 2, 8), (1, b"c", 4, 9)],
            ats(in_order([(feeds[1], 0), (feeds[0], 0)])),
        )
        self.assertEqual([(1, b"c", 4, 9)], ats(in_order([(feeds[1], 2), (feeds[0], 2)])))

    def test_what_follows_a_position_is_looked_up_only_as_far_as_it_is_read(self) -> None:
        feed = new_feed()
        joined(feed)
        for number in range(1000):
            feed.post(frames(b"%d" % number))
        following = feed.since(500)
        self.assertIs(following, iter(following))
        self.assertEqual((501, b"500", 501), next(following)[:3])

    def test_how_much_waits_is_told_without_a_look_at_each_event(self) -> None:
        feed = new_feed()
        joined(feed)
        for _ in range(1000):
            feed.post(frames(CountedBytes(b"abc")))
        CountedBytes.looks = 0
        self.assertEqual([3000, 1500, 3, 0], [feed.bytes_since(at) for at in (0, 500, 999, 1000)])
        self.assertEqual(0, CountedBytes.looks)

    @settings(deadline=None)
    @given(st.lists(st.integers(1, 9), max_size=40), st.integers(1, 30))
    def test_how_much_waits_is_the_sum_of_what_is_kept_after_a_position(
        self, sizes: list[int], mailbox_bytes: int
    ) -> None:
        feed = new_feed(mailbox_bytes=mailbox_bytes)
        [watcher] = joined(feed)
        for number, size in enumerate(sizes):
            feed.post(frames(b"x" * size))
            for position in range(feed.end + 1):
                kept = [len(data) for _, data, _, _ in feed.since(position)]
                self.assertEqual(sum(kept), feed.bytes_since(position))
            if number % 7 == 6:
                watcher.take_all()

    @settings(deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("post"), st.integers(1, 3)),
                st.tuples(st.sampled_from(["join", "leave", "take"]), st.integers(0, 3)),
            ),
            max_size=60,
        ),
        st.integers(1, 10),
        st.integers(1, 30),
    )
    def test_each_viewer_gets_what_came_while_it_watched_in_order_or_knows_of_its_loss(
        self, steps: list[tuple[str, int]], mailbox_events: int, send_bytes: int
    ) -> None:
        feed = new_feed(mailbox_events=mailbox_events, send_bytes=send_bytes)
        watchers = [Watcher() for _ in range(4)]
        posted: dict[Watcher, list[bytes]] = {}
        for number, (step, amount) in enumerate(steps):
            watcher = watchers[amount % len(watchers)]
            if step == "post":
                data = b"".join(b"<%d.%d>" % (number, event) for event in range(amount))
                feed.post(frames(data, events=amount))
                for events in posted.values():
                    events.extend(b"<%d.%d>" % (number, event) for event in range(amount))
            elif step == "join" and watcher not in posted:
                posted[watcher] = []
                feed.join(watcher)
                watcher.data, watcher.events, watcher.lost = b"", 0, 0
            elif step == "leave" and watcher in posted:
                del posted[watcher]
                feed.leave(watcher)
            elif step == "take":
                watcher.take()
        for watcher, events in posted.items():
            watcher.take_all()
            self.assertEqual(len(events), watcher.events + watcher.lost)
            self.assertTrue(b"".join(events).endswith(watcher.data) or watcher.lost)
            rest = iter(events)
            got = [event + b">" for event in watcher.data.split(b">")[:-1]]
            self.assertEqual(watcher.events, len(got))
            self.assertTrue(all(event in rest for event in got), "in order")
        self.assertEqual(0, feed.bytes_since(0))
        self.assertEqual(set(posted), set(feed))
