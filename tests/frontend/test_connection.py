"""Tests of rtdeliver.frontend.connection."""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.actor import RunQueue
from rtdeliver.config.sections import Viewers
from rtdeliver.frontend.ages import Passage
from rtdeliver.frontend.chunked import chunk
from rtdeliver.frontend.connection import Connection, ConnectionCounts
from rtdeliver.frontend.feed import Feed, Frames
from rtdeliver.frontend.sse import gap_frame
from rtdeliver.interfaces import IActor, IStreamOwner, IVisited
from rtdeliver.model import CloseReason, ConnectionId, Member, Topic
from rtdeliver.tokens import Identity
from rtdeliver.wheel import TimingWheel
from tests.contracts.actor import ActorContract
from tests.contracts.stream_owner import StreamOwnerContract
from tests.contracts.visited import VisitedContract
from tests.fakes import RecordingStream

RED, GREEN = Topic("live:red"), Topic("live:green")
ENDLESS = 1 << 30
HEARTBEAT_SECONDS = 25.0
STALL_SECONDS = 30.0
TICK_SECONDS = 1.0
_HEAD, _FRAME = b"HTTP/1.1 200 OK\r\n\r\n", b"event: connected\ndata: {}\n\n"
FIRST = _HEAD + chunk(_FRAME)
FIRST_CONTENT = _HEAD + _FRAME
UNSENT = chunk(b"!")

_GAP_FRAME_BYTES = len(gap_frame(10**6, [RED]))
_GAP = re.compile(rb"event: gap\ndata: (.*)\n\n")


def frames(data: bytes, events: int = 1, topic: Topic = RED) -> Frames:
    return Frames(data=data, events=events, topic=topic)


def numbered(number: int, size: int = 8, topic: Topic = RED) -> Frames:
    """Frames of one event that can be told from all others."""
    return frames(b"<%d>" % number + b"." * max(0, size - len(str(number)) - 2), topic=topic)


class BreakableStream(RecordingStream):
    """Fails, once it is broken, in a way that no stream should."""

    broken = False

    def send(self, data: bytes) -> int:
        if self.broken:
            raise RuntimeError("this stream is broken")
        return super().send(data)


class WeighingStream(RecordingStream):
    """Notes how much it was offered at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.offered_bytes: list[int] = []

    def send(self, data: bytes) -> int:
        self.offered_bytes.append(len(data))
        return super().send(data)


class CountingFeed(Feed[Connection]):
    """Counts how many of its events are looked at one by one."""

    looks = 0

    def since(self, position: int) -> Iterator[tuple[int, bytes, int, Passage]]:
        for item in super().since(position):
            CountingFeed.looks += 1
            yield item


class Subject:
    """A connection with its surroundings, and what came of it."""

    def __init__(
        self,
        stream: RecordingStream | None = None,
        *,
        mailbox_bytes: int = ENDLESS,
        mailbox_events: int = ENDLESS,
        send_bytes: int = ENDLESS,
        overflow: Any = "drop_oldest",
        expires_at: float = math.inf,
        topics: Sequence[Topic] = (RED, GREEN),
    ) -> None:
        self.clock = Clock()
        self.run_queue = RunQueue(clock=self.clock, slice_seconds=1)
        self.counts = ConnectionCounts(defaultdict(int))
        self.ended: list[CloseReason] = []
        self.stream = stream or RecordingStream()
        settings = Viewers(
            heartbeat_seconds=HEARTBEAT_SECONDS,
            stall_seconds=STALL_SECONDS,
            mailbox_bytes=mailbox_bytes,
            mailbox_events=mailbox_events,
            overflow=overflow,
            send_bytes=send_bytes,
        )
        self.connection = Connection(
            id=ConnectionId("n1-x"),
            identity=None if expires_at == math.inf else Identity(Member("ann"), expires_at),
            expires_at=expires_at,
            settings=settings,
            run_queue=self.run_queue,
            wheel=TimingWheel(clock=self.clock, tick_seconds=TICK_SECONDS),
            counts=self.counts,
            lost=lambda _, reason: self.ended.append(reason),
        )
        self.stream.owner = self.connection
        self.connection.attached(self.stream)
        number = count(1).__next__
        self.feeds: dict[Topic, Feed[Connection]] = {}
        for topic in topics:
            self.feeds[topic] = CountingFeed(topic, settings, number)
            self.feeds[topic].join(self.connection)

    def opened(self) -> "Subject":
        self.connection.open(FIRST)
        self.turns()
        self.stream.sends.clear()
        return self

    def blocked(self) -> "Subject":
        """Opened, with a chunk that the stream did not take."""
        self.stream.room = len(FIRST)
        self.connection.open(FIRST + UNSENT)
        self.stream.sends.clear()
        return self

    def post(self, *items: Frames) -> None:
        for item in items:
            self.feeds[item.topic].post(item)

    def leave(self) -> None:
        """End as a connection ends: its supervisor takes it out of its topics."""
        self.connection.connectionLost()
        for feed in self.feeds.values():
            if self.connection in list(feed):
                feed.leave(self.connection)

    def turns(self) -> None:
        self.clock.advance(0)

    def make_room(self, room: int) -> None:
        """Let the client read, so that the stream takes ``room`` bytes more."""
        self.stream.read(room)
        self.turns()

    def pass_seconds(self, seconds: float) -> None:
        self.clock.pump([TICK_SECONDS] * round(seconds / TICK_SECONDS))

    def gaps(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data in _GAP.findall(self.stream.content)]


class ContractTestCase(SynchronousTestCase):
    """Has a connection that watches `RED`, and no stream yet."""

    implementation: type = Connection

    def new_connection(self, run_queue: RunQueue, clock: Clock) -> Connection:
        self.feed: Feed[Connection] = Feed(RED, Viewers(), count(1).__next__)
        self.numbers = count()
        connection = Connection(
            id=ConnectionId("n1-x"),
            settings=Viewers(),
            run_queue=run_queue,
            wheel=TimingWheel(clock=clock, tick_seconds=TICK_SECONDS),
            counts=ConnectionCounts(defaultdict(int)),
            lost=lambda connection, _: self.feed.leave(connection),
        )
        self.feed.join(connection)
        return connection

    def post(self) -> bytes:
        data = b"<%d>" % next(self.numbers)
        self.feed.post(frames(data))
        return data


class OwnerContractTests(StreamOwnerContract, ContractTestCase):
    def make_owner(self) -> IStreamOwner:
        self.clock = Clock()
        self.is_open = False
        run_queue = RunQueue(clock=self.clock, slice_seconds=1)
        self.connection = self.new_connection(run_queue, self.clock)
        return self.connection

    def offer(self) -> bytes:
        first = b"" if self.is_open else FIRST_CONTENT
        self.is_open = True
        self.connection.open(FIRST)
        data = self.post()
        self.clock.advance(0)
        return first + data

    def received(self) -> bytes:
        return self.stream.content


class ActorContractTests(ActorContract, ContractTestCase):
    def make_actor(self, run_queue: RunQueue, clock: Clock) -> IActor:
        connection = self.new_connection(run_queue, clock)
        self.stream = RecordingStream(connection)
        connection.attached(self.stream)
        connection.open(FIRST)
        clock.advance(0)
        self.stream.sends.clear()
        return connection

    def give_work(self) -> None:
        self.post()

    def work_done(self) -> int:
        return len(self.stream.contents)


class VisitedContractTests(VisitedContract, ContractTestCase):
    def make_visited(self, clock: Clock) -> IVisited:
        connection = self.new_connection(RunQueue(clock=clock, slice_seconds=1), clock)
        self.stream = RecordingStream(connection)
        connection.attached(self.stream)
        connection.open(FIRST)
        return connection

    def end(self) -> None:
        self.stream.lose()


class OpeningTests(SynchronousTestCase):
    """Before and at the first frame."""

    def test_nothing_is_sent_before_it_is_opened(self) -> None:
        subject = Subject()
        subject.post(frames(b"early"))
        subject.connection.miss(RED, 1)
        subject.pass_seconds(HEARTBEAT_SECONDS * 3)
        self.assertEqual([], subject.stream.contents)

    def test_the_first_frame_goes_first_even_if_events_were_posted_before(self) -> None:
        subject = Subject()
        subject.post(frames(b"early"))
        subject.connection.open(FIRST)
        subject.post(frames(b"late"))
        subject.turns()
        self.assertEqual(FIRST_CONTENT + b"earlylate", subject.stream.content)

    def test_the_first_frame_goes_out_at_once(self) -> None:
        subject = Subject()
        subject.connection.open(FIRST)
        self.assertEqual([FIRST_CONTENT], subject.stream.contents)

    def test_a_gap_that_was_told_before_comes_after_the_first_frame(self) -> None:
        subject = Subject()
        subject.connection.miss(RED, 3)
        subject.connection.open(FIRST)
        subject.turns()
        self.assertTrue(subject.stream.content.startswith(FIRST_CONTENT), subject.stream.content)
        self.assertEqual([{"lost": 3, "topics": [RED]}], subject.gaps())

    def test_a_mailbox_that_overflows_before_opening_does_not_get_ahead_of_the_first_frame(
        self,
    ) -> None:
        subject = Subject(mailbox_events=2)
        subject.post(*(numbered(number) for number in range(5)))
        subject.connection.open(FIRST)
        subject.turns()
        self.assertTrue(subject.stream.content.startswith(FIRST_CONTENT), subject.stream.content)
        self.assertEqual([{"lost": 3, "topics": [RED]}], subject.gaps())

    def test_opening_again_changes_nothing(self) -> None:
        subject = Subject().opened()
        subject.connection.open(FIRST)
        subject.turns()
        self.assertEqual([], subject.stream.contents)

    def test_one_that_was_aborted_before_is_not_opened(self) -> None:
        subject = Subject()
        subject.connection.abort(CloseReason.DRAINED)
        subject.connection.open(FIRST)
        subject.turns()
        self.assertTrue(subject.stream.aborted)
        self.assertEqual([], subject.stream.contents)


class SendingTests(SynchronousTestCase):
    """An open stream, and one that is blocked."""

    def test_all_that_piled_up_leaves_in_one_send(self) -> None:
        subject = Subject().opened()
        subject.post(frames(b"a"), frames(b"b", events=2), frames(b"c"))
        subject.turns()
        self.assertEqual([b"abc"], subject.stream.contents)
        self.assertEqual((4, 2), (subject.counts.sent, subject.counts.sends))

    def test_a_send_is_noted_with_the_time_of_its_first_event(self) -> None:
        for topics in ((RED,), (RED, GREEN)):
            subject = Subject().opened()
            subject.counts.sent_passages.clear()
            for at, topic in zip((8, 9), topics * 2, strict=False):
                subject.post(Frames(data=b"x", events=1, topic=topic, passage=Passage(at)))
            subject.turns()
            [(passage, sends)] = subject.counts.sent_passages.items()
            self.assertEqual((passage.at, sends), (8, 1))

    def test_a_turn_without_work_sends_nothing(self) -> None:
        subject = Subject().opened()
        subject.connection.turn()
        self.assertEqual([], subject.stream.contents)

    def test_a_turn_hands_over_what_send_bytes_allow(self) -> None:
        subject = Subject(send_bytes=20).opened()
        subject.post(*(numbered(number) for number in range(5)))
        subject.turns()
        self.assertEqual([16, 16, 8], [len(sent) for sent in subject.stream.contents])

    def test_what_did_not_fit_goes_first_once_the_stream_takes_data_again(self) -> None:
        subject = Subject().opened()
        subject.stream.room = len(b"4\r\nab")
        subject.post(frames(b"abcd"))
        subject.turns()
        subject.post(frames(b"efgh"))
        subject.turns()
        self.assertEqual(b"ab", subject.stream.content)
        subject.make_room(ENDLESS)
        self.assertEqual(b"abcdefgh", subject.stream.content)

    def test_nothing_is_sent_while_the_stream_takes_nothing(self) -> None:
        subject = Subject().blocked()
        subject.post(frames(b"a"))
        subject.connection.miss(RED, 1)
        subject.turns()
        self.assertEqual([], subject.stream.contents)

    def test_a_slow_reader_makes_it_hold_no_more_of_its_own_than_send_bytes(self) -> None:
        stream = WeighingStream()
        subject = Subject(stream, send_bytes=80).blocked()
        stream.offered_bytes.clear()
        subject.post(*(numbered(number) for number in range(100)))
        for _ in range(100):
            subject.make_room(1)
        self.assertLessEqual(max(stream.offered_bytes), len(chunk(b" " * 80)))

    def test_a_writable_that_nobody_waited_for_changes_nothing(self) -> None:
        subject = Subject().opened()
        subject.connection.writable()
        subject.turns()
        self.assertEqual([], subject.stream.contents)

    def test_the_mailbox_is_told_in_bytes_and_events(self) -> None:
        subject = Subject().blocked()
        subject.post(frames(b"abc", events=2))
        self.assertEqual(len(UNSENT) + 3, subject.connection.mailbox_bytes)
        self.assertEqual(2, subject.connection.mailbox_events)

    @settings(deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("post"), st.integers(1, 40)),
                st.tuples(st.just("room"), st.integers(0, 60)),
                st.tuples(st.just("turns"), st.just(0)),
            ),
            max_size=60,
        ),
        st.integers(1, 100),
    )
    def test_the_stream_takes_just_what_was_posted_in_order(
        self, steps: list[tuple[str, int]], send_bytes: int
    ) -> None:
        subject = Subject(RecordingStream(room=0), send_bytes=send_bytes)
        subject.connection.open(FIRST)
        posted = FIRST_CONTENT
        for number, (step, amount) in enumerate(steps):
            if step == "post":
                item = numbered(number, amount)
                posted += item.data
                subject.post(item)
            elif step == "room":
                subject.make_room(amount)
            else:
                subject.turns()
            self.assertTrue(posted.startswith(subject.stream.content))
        subject.make_room(ENDLESS)
        self.assertEqual(posted, subject.stream.content)
        self.assertEqual(0, subject.connection.mailbox_bytes)
        self.assertEqual({}, +subject.counts.dropped)


class SeveralTopicsTests(SynchronousTestCase):
    """A viewer that is behind in several topics."""

    topics = tuple(Topic(f"live:{number}") for number in range(100))

    def test_a_turn_looks_at_what_it_sends_and_at_the_next_of_each_topic(self) -> None:
        subject = Subject(send_bytes=400, topics=self.topics).opened()
        for number in range(3000):
            subject.post(numbered(number, topic=self.topics[number % 100]))
        CountingFeed.looks = 0
        subject.connection.turn()
        self.assertEqual(400, len(subject.stream.contents[-1]))
        self.assertLessEqual(CountingFeed.looks, 100 + 400 // 8 + 1)

    def test_what_waits_is_sent_in_the_order_in_which_it_was_delivered(self) -> None:
        subject = Subject(send_bytes=100, topics=self.topics).blocked()
        posted = [numbered(number, topic=self.topics[number * 37 % 100]) for number in range(2000)]
        subject.post(*posted)
        subject.make_room(ENDLESS)
        self.assertEqual(b"!" + b"".join(item.data for item in posted), subject.stream.content)
        self.assertEqual(2000, subject.counts.sent)
        self.assertEqual(0, subject.connection.mailbox_bytes)

    @settings(deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("post"), st.integers(0, 4), st.integers(3, 40)),
                st.tuples(st.just("room"), st.just(0), st.integers(0, 60)),
                st.tuples(st.just("turns"), st.just(0), st.just(0)),
            ),
            max_size=60,
        ),
        st.integers(1, 100),
    )
    def test_the_order_holds_whatever_a_turn_may_send_and_the_stream_takes(
        self, steps: list[tuple[str, int, int]], send_bytes: int
    ) -> None:
        subject = Subject(RecordingStream(room=0), send_bytes=send_bytes, topics=self.topics[:5])
        subject.connection.open(FIRST)
        posted = FIRST_CONTENT
        for number, (step, topic, amount) in enumerate(steps):
            if step == "post":
                item = numbered(number, amount, self.topics[topic])
                posted += item.data
                subject.post(item)
            elif step == "room":
                subject.make_room(amount)
            else:
                subject.turns()
        subject.make_room(ENDLESS)
        self.assertEqual(posted, subject.stream.content)
        self.assertEqual(0, subject.connection.mailbox_bytes)


class OverflowTests(SynchronousTestCase):
    """A mailbox that is full."""

    def test_the_oldest_of_a_topic_is_dropped_and_told_before_the_rest(self) -> None:
        subject = Subject(mailbox_events=2).blocked()
        subject.post(numbered(1), numbered(2, topic=GREEN), numbered(3), numbered(4))
        subject.make_room(ENDLESS)
        gap = b'event: gap\ndata: {"lost":1,"topics":["live:red"]}\n\n'
        self.assertEqual(
            b"!" + gap + numbered(2, topic=GREEN).data + numbered(3).data + numbered(4).data,
            subject.stream.content,
        )
        self.assertEqual({"mailbox_full": 1}, +subject.counts.dropped)

    def test_a_gap_is_told_once(self) -> None:
        subject = Subject(mailbox_events=1).blocked()
        subject.post(numbered(1), numbered(2))
        subject.make_room(ENDLESS)
        subject.post(numbered(3))
        subject.turns()
        self.assertEqual([{"lost": 1, "topics": [RED]}], subject.gaps())

    def test_a_gap_comes_after_the_rest_of_the_frame_that_was_cut(self) -> None:
        subject = Subject(mailbox_events=1).opened()
        subject.stream.room = len(b"4\r\nab")
        subject.post(frames(b"abcd"))
        subject.turns()
        subject.post(numbered(1), numbered(2))
        subject.make_room(ENDLESS)
        self.assertTrue(
            subject.stream.content.startswith(b"abcdevent: gap\n"), subject.stream.content
        )

    def test_frames_of_several_events_count_as_so_many(self) -> None:
        subject = Subject(mailbox_events=5).blocked()
        subject.post(frames(b"a", events=4), frames(b"b", events=3))
        subject.make_room(ENDLESS)
        self.assertEqual([{"lost": 4, "topics": [RED]}], subject.gaps())

    def test_what_was_missed_elsewhere_is_told_at_once(self) -> None:
        subject = Subject().opened()
        subject.connection.miss(RED, 2)
        subject.connection.miss(GREEN, 3)
        subject.turns()
        self.assertEqual([{"lost": 5, "topics": [GREEN, RED]}], subject.gaps())

    def test_where_one_number_is_unknown_the_sum_is_unknown(self) -> None:
        for losses in ([0, 3], [3, 0], [3, 0, 2]):
            for topics in ([RED, RED, RED], [RED, GREEN, RED]):
                subject = Subject().opened()
                for lost, topic in zip(losses, topics, strict=False):
                    subject.connection.miss(topic, lost)
                subject.turns()
                [gap] = subject.gaps()
                self.assertEqual((None, sorted(set(topics[: len(losses)]))), tuple(gap.values()))

    def test_an_unknown_number_makes_no_later_gap_unknown(self) -> None:
        subject = Subject().opened()
        subject.connection.miss(RED, 0)
        subject.turns()
        subject.connection.miss(RED, 3)
        subject.turns()
        self.assertEqual([None, 3], [gap["lost"] for gap in subject.gaps()])

    def test_a_full_mailbox_beside_an_unknown_gap_is_unknown_too(self) -> None:
        subject = Subject(mailbox_events=1).blocked()
        subject.connection.miss(RED, 0)
        subject.post(numbered(1), numbered(2))
        subject.make_room(ENDLESS)
        self.assertEqual([{"lost": None, "topics": [RED]}], subject.gaps())
        self.assertEqual({"mailbox_full": 1}, +subject.counts.dropped)

    def test_an_item_larger_than_the_mailbox_passes_alone(self) -> None:
        subject = Subject(mailbox_bytes=10).opened()
        subject.post(frames(b"x" * 50))
        subject.turns()
        self.assertEqual([b"x" * 50], subject.stream.contents)

    def test_an_overflow_closes_where_that_is_the_policy(self) -> None:
        subject = Subject(mailbox_events=1, overflow="close").blocked()
        subject.post(numbered(1), numbered(2))
        self.assertTrue(subject.stream.aborted)
        subject.connection.connectionLost()
        self.assertEqual([CloseReason.OVERFLOW], subject.ended)
        self.assertEqual({"mailbox_full": 1, "closed": 1}, +subject.counts.dropped)

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.integers(3, 500), st.one_of(st.none(), st.integers(0, 800)))),
        st.integers(500, 1200),
        st.integers(1, 500),
    )
    @example([(500, None), (500, 0), (500, 0), (500, 0), (500, 0)], 500, 500)
    def test_what_waits_never_exceeds_the_limit_by_more_than_an_item(
        self, steps: list[tuple[int, int | None]], mailbox_bytes: int, send_bytes: int
    ) -> None:
        subject = Subject(mailbox_bytes=mailbox_bytes, send_bytes=send_bytes).opened()
        subject.stream.room = 0
        largest = 0
        for number, (size, room) in enumerate(steps):
            item = numbered(number, size)
            largest = max(largest, size)
            subject.post(item)
            subject.turns()
            self.assertLessEqual(
                subject.connection.mailbox_bytes,
                mailbox_bytes + max(largest, send_bytes) + largest + _GAP_FRAME_BYTES,
            )
            if room is not None:
                subject.make_room(room)

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.integers(1, 30),
                st.sampled_from([RED, GREEN]),
                st.one_of(st.none(), st.integers(0, 200)),
            ),
            max_size=80,
        ),
        st.integers(1, 8),
        st.integers(20, 120),
    )
    def test_nothing_is_lost_without_a_gap_before_what_follows_it(
        self, steps: list[tuple[int, Topic, int | None]], mailbox_events: int, mailbox_bytes: int
    ) -> None:
        subject = Subject(mailbox_events=mailbox_events, mailbox_bytes=mailbox_bytes).opened()
        subject.stream.room = 0
        for number, (size, topic, room) in enumerate(steps):
            subject.post(numbered(number, size, topic))
            if room is not None:
                subject.make_room(room)
        subject.make_room(ENDLESS)
        posted = [[n for n, step in enumerate(steps) if step[1] is topic] for topic in (RED, GREEN)]
        place = {number: at for row in posted for at, number in enumerate(row)}
        received: Counter[Topic] = Counter()
        told = 0
        for match in re.finditer(rb"<(\d+)>|" + _GAP.pattern, subject.stream.content):
            if match[1] is None:
                told += json.loads(match[2])["lost"]
            else:
                # Every event of the topic before this one was received or is known to be lost.
                number = int(match[1])
                topic = steps[number][1]
                self.assertLessEqual(place[number], received[topic] + told)
                received[topic] += 1
        self.assertEqual(len(steps), received.total() + told)
        self.assertEqual(told, subject.counts.dropped["mailbox_full"])


class HeartbeatTests(SynchronousTestCase):
    """What tells both ends that the stream lives."""

    def test_a_heartbeat_is_sent_after_silence_and_again(self) -> None:
        subject = Subject().opened()
        subject.pass_seconds(HEARTBEAT_SECONDS - TICK_SECONDS)
        self.assertEqual([], subject.stream.contents)
        subject.pass_seconds(2 * TICK_SECONDS)
        self.assertEqual([b":\n"], subject.stream.contents)
        subject.pass_seconds(HEARTBEAT_SECONDS + TICK_SECONDS)
        self.assertEqual([b":\n", b":\n"], subject.stream.contents)

    def test_a_stream_with_events_gets_no_heartbeat(self) -> None:
        subject = Subject().opened()
        for _ in range(10):
            subject.pass_seconds(HEARTBEAT_SECONDS - 2 * TICK_SECONDS)
            subject.post(frames(b"a"))
            subject.turns()
        self.assertEqual(b"a" * 10, subject.stream.content)

    def test_silence_counts_from_the_last_event(self) -> None:
        subject = Subject().opened()
        subject.pass_seconds(10)
        subject.post(frames(b"a"))
        subject.pass_seconds(HEARTBEAT_SECONDS - TICK_SECONDS)
        self.assertEqual([b"a"], subject.stream.contents)
        subject.pass_seconds(2 * TICK_SECONDS)
        self.assertEqual([b"a", b":\n"], subject.stream.contents)

    def test_a_blocked_stream_gets_no_heartbeat(self) -> None:
        subject = Subject().blocked()
        for _ in range(10):
            subject.stream.read_little(1)
            subject.pass_seconds(HEARTBEAT_SECONDS)
        self.assertEqual(len(UNSENT), subject.connection.mailbox_bytes)
        subject.make_room(ENDLESS)
        self.assertEqual(b"!", subject.stream.content)


class StallTests(SynchronousTestCase):
    """A client that stays connected and reads nothing."""

    def test_a_client_that_reads_nothing_is_cut_off(self) -> None:
        subject = Subject().blocked()
        subject.pass_seconds(STALL_SECONDS - TICK_SECONDS)
        self.assertFalse(subject.stream.aborted)
        # The first look may come as late as the last one that found it well.
        subject.pass_seconds(STALL_SECONDS + 2 * TICK_SECONDS)
        self.assertTrue(subject.stream.aborted)
        subject.connection.connectionLost()
        self.assertEqual([CloseReason.STALLED], subject.ended)

    def test_a_client_that_reads_slowly_is_not(self) -> None:
        subject = Subject().blocked()
        for _ in range(20):
            subject.stream.read_little(1)
            subject.pass_seconds(STALL_SECONDS - TICK_SECONDS)
        self.assertFalse(subject.stream.aborted)

    def test_a_client_that_reads_no_more_is_cut_off_after_all(self) -> None:
        subject = Subject().blocked()
        for _ in range(5):
            subject.stream.read_little(1)
            subject.pass_seconds(STALL_SECONDS - TICK_SECONDS)
        subject.pass_seconds(2 * STALL_SECONDS + 2 * TICK_SECONDS)
        self.assertTrue(subject.stream.aborted)

    def test_a_client_is_given_the_whole_time_each_time(self) -> None:
        subject = Subject().blocked()
        for _ in range(5):
            subject.pass_seconds(STALL_SECONDS - 2 * TICK_SECONDS)
            subject.make_room(ENDLESS)
            subject.stream.room = 0
            subject.post(numbered(1))
            subject.turns()
        self.assertFalse(subject.stream.aborted)


class EndingTests(SynchronousTestCase):
    """All the ways in which a stream ends."""

    def test_end_sends_what_waits_and_the_last_frame_before_it_closes(self) -> None:
        subject = Subject(send_bytes=10).opened()
        subject.post(numbered(1), numbered(2), numbered(3))
        subject.connection.end(b"bye", CloseReason.DRAINED)
        self.assertEqual(
            numbered(1).data + numbered(2).data + numbered(3).data + b"bye", subject.stream.content
        )
        self.assertTrue(subject.stream.closed)
        self.assertFalse(subject.stream.aborted)
        subject.connection.connectionLost()
        self.assertEqual([CloseReason.DRAINED], subject.ended)
        self.assertEqual({}, +subject.counts.dropped)

    def test_end_lets_a_blocked_stream_be_read_to_the_last_frame(self) -> None:
        subject = Subject(send_bytes=10).blocked()
        subject.post(numbered(1), numbered(2, topic=GREEN), numbered(3))
        subject.connection.end(b"bye", CloseReason.DRAINED)
        self.assertEqual((False, False), (subject.stream.closed, subject.stream.aborted))
        for _ in range(40):
            subject.make_room(2)
        self.assertEqual(
            b"!" + numbered(1).data + numbered(2).data + numbered(3).data + b"bye",
            subject.stream.content,
        )
        self.assertEqual((True, False), (subject.stream.closed, subject.stream.aborted))
        subject.connection.connectionLost()
        self.assertEqual([CloseReason.DRAINED], subject.ended)
        self.assertEqual({}, +subject.counts.dropped)

    def test_end_waits_for_a_stream_that_blocks_in_the_last_frame(self) -> None:
        subject = Subject().opened()
        subject.stream.room = 1
        subject.connection.end(b"bye", CloseReason.DRAINED)
        self.assertEqual((False, False), (subject.stream.closed, subject.stream.aborted))
        subject.make_room(ENDLESS)
        self.assertEqual(b"bye", subject.stream.content)
        self.assertTrue(subject.stream.closed)

    def test_end_waits_for_the_first_frame(self) -> None:
        subject = Subject()
        subject.post(frames(b"early"))
        subject.connection.end(b"bye", CloseReason.DRAINED)
        self.assertEqual([], subject.stream.contents)
        subject.connection.open(FIRST)
        subject.turns()
        self.assertEqual(FIRST_CONTENT + b"earlybye", subject.stream.content)
        self.assertTrue(subject.stream.closed)

    def test_what_comes_after_the_end_was_asked_for_does_not_delay_it(self) -> None:
        subject = Subject(send_bytes=8).blocked()
        subject.post(numbered(1))
        subject.connection.end(b"bye", CloseReason.DRAINED)
        subject.post(numbered(2), numbered(3), numbered(4, topic=GREEN))
        subject.make_room(ENDLESS)
        self.assertEqual(b"!" + numbered(1).data + b"bye", subject.stream.content)
        subject.leave()
        self.assertEqual({"closed": 3}, +subject.counts.dropped)

    def test_a_gap_is_told_before_the_end(self) -> None:
        subject = Subject(mailbox_events=1).blocked()
        subject.post(numbered(1), numbered(2))
        subject.connection.end(b"bye", CloseReason.DRAINED)
        subject.make_room(ENDLESS)
        self.assertEqual([{"lost": 1, "topics": [RED]}], subject.gaps())
        self.assertTrue(subject.stream.content.endswith(numbered(2).data + b"bye"))

    def test_the_first_end_stays(self) -> None:
        subject = Subject().blocked()
        subject.connection.end(b"bye", CloseReason.DRAINED)
        subject.connection.end(b"farewell", CloseReason.EXPIRED)
        subject.make_room(ENDLESS)
        self.assertEqual(b"!bye", subject.stream.content)
        subject.connection.connectionLost()
        self.assertEqual([CloseReason.DRAINED], subject.ended)

    def test_an_ending_stream_that_is_not_read_is_cut_off(self) -> None:
        subject = Subject().blocked()
        subject.connection.end(b"bye", CloseReason.DRAINED)
        subject.pass_seconds(2 * STALL_SECONDS)
        self.assertTrue(subject.stream.aborted)

    def test_an_ending_stream_that_is_read_slowly_is_not(self) -> None:
        subject = Subject().blocked()
        subject.connection.end(b"bye", CloseReason.DRAINED)
        for _ in range(20):
            subject.stream.read_little(1)
            subject.pass_seconds(STALL_SECONDS - TICK_SECONDS)
        self.assertFalse(subject.stream.aborted)

    def test_an_expired_stream_that_is_read_slowly_is_cut_off_all_the_same(self) -> None:
        subject = Subject(expires_at=10).blocked()
        subject.post(numbered(1))
        for _ in range(10 + int(STALL_SECONDS) - 1):
            subject.stream.read_little(1)
            subject.pass_seconds(TICK_SECONDS)
        self.assertFalse(subject.stream.aborted)
        subject.stream.read_little(1)
        subject.pass_seconds(2 * TICK_SECONDS)
        self.assertTrue(subject.stream.aborted)
        subject.connection.connectionLost()
        self.assertEqual([CloseReason.EXPIRED], subject.ended)

    def test_a_stream_that_does_not_close_is_cut_off(self) -> None:
        subject = Subject().opened()
        subject.connection.end(b"bye", CloseReason.DRAINED)
        subject.pass_seconds(HEARTBEAT_SECONDS + STALL_SECONDS)
        self.assertTrue(subject.stream.aborted)

    def test_a_stream_that_closes_is_given_time_for_it(self) -> None:
        subject = Subject().opened()
        subject.pass_seconds(HEARTBEAT_SECONDS - TICK_SECONDS)
        subject.connection.end(b"bye", CloseReason.DRAINED)
        subject.pass_seconds(3 * TICK_SECONDS)
        self.assertFalse(subject.stream.aborted)

    def test_nothing_is_sent_after_the_end(self) -> None:
        subject = Subject().opened()
        subject.connection.end(b"bye", CloseReason.DRAINED)
        subject.post(frames(b"late"))
        subject.connection.miss(RED, 1)
        subject.turns()
        self.assertEqual(b"bye", subject.stream.content)

    def test_a_client_that_is_found_gone_is_cut_off(self) -> None:
        subject = Subject().opened()
        subject.stream.lost = True
        subject.post(frames(b"a"))
        subject.turns()
        self.assertTrue(subject.stream.aborted)
        subject.connection.connectionLost()
        self.assertEqual([CloseReason.CLIENT_LEFT], subject.ended)

    def test_a_turn_that_fails_ends_it(self) -> None:
        stream = BreakableStream()
        subject = Subject(stream).opened()
        stream.broken = True
        subject.post(frames(b"a"))
        subject.turns()
        self.check_failed(subject)

    def test_an_opening_that_fails_ends_it(self) -> None:
        stream = BreakableStream()
        stream.broken = True
        subject = Subject(stream)
        subject.connection.open(FIRST)
        subject.turns()
        self.check_failed(subject)

    def test_an_end_that_fails_ends_it_all_the_same(self) -> None:
        stream = BreakableStream()
        subject = Subject(stream).opened()
        stream.broken = True
        subject.connection.end(b"bye", CloseReason.DRAINED)
        self.check_failed(subject)

    def check_failed(self, subject: Subject) -> None:
        self.assertTrue(subject.stream.aborted)
        subject.connection.connectionLost()
        self.assertEqual([CloseReason.FAILED], subject.ended)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_the_first_reason_stays(self) -> None:
        subject = Subject().opened()
        subject.connection.abort(CloseReason.OVERFLOW)
        subject.connection.abort(CloseReason.DRAINED)
        subject.connection.connectionLost()
        self.assertEqual([CloseReason.OVERFLOW], subject.ended)

    def test_a_client_may_leave(self) -> None:
        subject = Subject().opened()
        subject.connection.connectionLost()
        self.assertEqual([CloseReason.CLIENT_LEFT], subject.ended)

    def test_a_lost_connection_counts_once_what_it_drops(self) -> None:
        subject = Subject().blocked()
        subject.post(frames(b"abc", events=2), frames(b"d"))
        subject.connection.connectionLost()
        subject.connection.connectionLost()
        self.assertEqual([CloseReason.CLIENT_LEFT], subject.ended)
        self.assertEqual({"closed": 3}, +subject.counts.dropped)

    def test_a_lost_connection_leaves_no_work_behind(self) -> None:
        subject = Subject().opened()
        subject.post(frames(b"abc"))
        subject.connection.connectionLost()
        subject.connection.writable()
        subject.pass_seconds(HEARTBEAT_SECONDS + STALL_SECONDS)
        self.assertEqual([], subject.stream.contents)
        self.assertEqual([], subject.clock.getDelayedCalls())

    def test_what_the_client_sends_is_passed_over(self) -> None:
        subject = Subject().opened()
        subject.connection.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        subject.turns()
        self.assertEqual([], subject.stream.contents)


class DiscardTests(SynchronousTestCase):
    """What a viewer does not want any more."""

    def test_what_waits_of_these_topics_is_dropped(self) -> None:
        subject = Subject().blocked()
        subject.post(numbered(1), numbered(2, topic=GREEN), frames(b"<3>", events=2))
        subject.feeds[RED].leave(subject.connection)
        subject.make_room(ENDLESS)
        self.assertEqual(b"!" + numbered(2).data, subject.stream.content)
        self.assertEqual({"unsubscribed": 3}, +subject.counts.dropped)

    def test_no_gap_is_told_of_what_is_not_wanted_any_more(self) -> None:
        subject = Subject().blocked()
        subject.connection.miss(RED, 1)
        subject.connection.miss(GREEN, 2)
        subject.feeds[RED].leave(subject.connection)
        subject.make_room(ENDLESS)
        self.assertEqual([{"lost": 2, "topics": [GREEN]}], subject.gaps())

    def test_the_rest_of_a_frame_that_was_cut_is_not(self) -> None:
        subject = Subject().opened()
        subject.stream.room = len(b"4\r\nab")
        subject.post(frames(b"abcd"))
        subject.turns()
        subject.feeds[RED].leave(subject.connection)
        subject.make_room(ENDLESS)
        self.assertEqual(b"abcd", subject.stream.content)

    def test_a_last_frame_that_waits_is_not(self) -> None:
        subject = Subject()
        subject.connection.open(FIRST)
        subject.feeds[RED].leave(subject.connection)
        subject.turns()
        self.assertEqual(FIRST_CONTENT, subject.stream.content)


class ExpiryTests(SynchronousTestCase):
    """A member's stream lasts as long as the token."""

    EXPIRED = b'event: expired\ndata: {"expired":true}\n\n'

    def test_it_ends_with_a_frame_that_says_so_after_all_that_waits(self) -> None:
        subject = Subject(expires_at=100).opened()
        subject.pass_seconds(99)
        self.assertNotIn(self.EXPIRED, subject.stream.content)
        self.assertFalse(subject.stream.closed)
        subject.post(frames(b"news"))
        subject.pass_seconds(2)
        self.assertTrue(
            subject.stream.content.endswith(b"news" + self.EXPIRED), subject.stream.content
        )
        self.assertTrue(subject.stream.closed)
        subject.leave()
        self.assertEqual([CloseReason.EXPIRED], subject.ended)

    def test_heartbeats_go_on_until_then(self) -> None:
        subject = Subject(expires_at=1000).opened()
        subject.pass_seconds(HEARTBEAT_SECONDS * 3 + 3)
        self.assertEqual(b":\n" * 3, subject.stream.content)

    def test_one_that_does_not_read_is_cut_off(self) -> None:
        subject = Subject(expires_at=10).blocked()
        subject.pass_seconds(10 + STALL_SECONDS + 2)
        self.assertTrue(subject.stream.aborted)
        subject.leave()
        self.assertEqual([CloseReason.EXPIRED], subject.ended)

    def test_one_that_expired_while_it_was_opening_ends_soon(self) -> None:
        subject = Subject(expires_at=1)
        subject.pass_seconds(2)
        subject.connection.open(FIRST)
        subject.pass_seconds(1)
        self.assertEqual(FIRST_CONTENT + self.EXPIRED, subject.stream.content)

    def test_an_anonymous_viewer_may_stay(self) -> None:
        subject = Subject().opened()
        self.assertIsNone(subject.connection.member)
        subject.pass_seconds(3600)
        self.assertFalse(subject.stream.closed)
