"""Tests of rtdeliver.frontend.supervisor."""

import json
from collections import defaultdict
from collections.abc import Iterable
from itertools import count

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.actor import RunQueue
from rtdeliver.config.sections import Viewers
from rtdeliver.errors import UnknownConnection
from rtdeliver.frontend.chunked import chunk
from rtdeliver.frontend.connection import Connection
from rtdeliver.frontend.feed import Feed, Frames
from rtdeliver.frontend.supervisor import Supervisor
from rtdeliver.interfaces import IStreamOwner
from rtdeliver.metrics import Sample
from rtdeliver.model import CloseReason, ConnectionId, Member, Topic, node_of
from rtdeliver.tokens import Identity
from rtdeliver.wheel import TimingWheel
from tests.fakes import PromptStream

RED = Topic("live:red")
STEP_SECONDS = 0.05


def watch(connection: Connection) -> Feed[Connection]:
    """Let a connection watch a topic that keeps ten events."""
    feed: Feed[Connection] = Feed(
        RED,
        Viewers(mailbox_bytes=1000, mailbox_events=10, send_bytes=1000),
        count(1).__next__,
    )
    feed.join(connection)
    return feed


def values(samples: Iterable[Sample]) -> dict[str, float]:
    """The samples' values by name, with the values of their labels."""
    return {".".join([s.name, *s.labels.values()]): s.value for s in samples}


class LateStream(PromptStream):
    """Closes only when the test says so, unless it is aborted."""

    def close(self) -> None:
        self.closed = True


class BreakableStream(PromptStream):
    """Fails, once it is broken, in a way that no stream should."""

    broken = False

    def send(self, data: bytes) -> int:
        if self.broken:
            raise RuntimeError("this stream is broken")
        return super().send(data)


class SupervisorTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = Clock()
        self.wall.advance(1_795_417_956)
        self.ended: list[Connection] = []
        self.supervisor = self.new_supervisor(max_connections=1000)

    def new_supervisor(self, *, max_connections: int) -> Supervisor:
        return Supervisor(
            node="n1",
            max_connections=max_connections,
            settings=Viewers(send_bytes=1000),
            clock=self.clock,
            now=self.wall.seconds,
            run_queue=RunQueue(clock=self.clock, slice_seconds=1),
            wheel=TimingWheel(clock=self.clock, tick_seconds=0.25),
            sent_passages=defaultdict(int),
            ended=self.ended.append,
        )

    def start(self, count: int = 1) -> list[BreakableStream]:
        """Start and open so many connections; they send at once."""
        streams: list[BreakableStream] = []

        def attach(owner: IStreamOwner) -> None:
            streams.append(BreakableStream(owner, self.clock))
            owner.attached(streams[-1])

        for _ in range(count):
            self.supervisor.start(attach).open(chunk(b"first\n\n"))
        self.clock.advance(0)
        for stream in streams:
            stream.sends.clear()
        return streams

    def pass_seconds(self, seconds: float) -> None:
        self.clock.pump([STEP_SECONDS] * round(seconds / STEP_SECONDS))


class StartTests(SupervisorTestCase):
    """Whom it takes, and how they are known."""

    def test_a_members_stream_lasts_as_long_as_the_token_had_left(self) -> None:
        """The wall clock may be set meanwhile, by as much as one likes."""
        ann = Identity(Member("ann"), self.wall.seconds() + 100)
        for change_seconds in (0, -3600, 3600):
            with self.subTest(change_seconds=change_seconds):
                self.wall.rightNow = ann.expires_at - 100
                streams: list[PromptStream] = []

                def attach(owner: IStreamOwner, streams: list[PromptStream] = streams) -> None:
                    streams.append(PromptStream(owner, self.clock))
                    owner.attached(streams[-1])

                self.supervisor.start(attach, ann).open(chunk(b"first\n\n"))
                self.wall.advance(change_seconds)
                self.pass_seconds(99)
                self.assertNotIn(b"expired", streams[0].content)
                self.pass_seconds(2)
                self.assertIn(b"expired", streams[0].content)

    def test_ids_are_unique_and_name_the_node(self) -> None:
        self.start(200)
        ids = {connection.id for connection in self.supervisor}
        self.assertEqual(200, len(ids))
        self.assertEqual({"n1"}, {node_of(id) for id in ids})

    def test_a_connection_is_known_by_its_id(self) -> None:
        self.start(2)
        for connection in self.supervisor:
            self.assertIs(connection, self.supervisor.connection(connection.id))

    def test_an_unknown_id_is_refused(self) -> None:
        self.start()
        self.assertRaises(UnknownConnection, self.supervisor.connection, ConnectionId("n1-x"))

    def test_a_lost_connection_is_not_known_any_more(self) -> None:
        [stream] = self.start()
        [connection] = self.supervisor
        stream.lose()
        self.assertRaises(UnknownConnection, self.supervisor.connection, connection.id)
        self.assertEqual([connection], self.ended)
        self.assertEqual(0, len(self.supervisor))

    def test_what_cannot_be_given_a_stream_leaves_nothing(self) -> None:
        def attach(_: IStreamOwner) -> None:
            raise OSError("the socket is gone")

        self.assertRaises(OSError, self.supervisor.start, attach)
        self.assertEqual(0, len(self.supervisor))

    def test_it_is_full_until_one_leaves(self) -> None:
        self.supervisor = self.new_supervisor(max_connections=2)
        [first] = self.start()
        self.assertIsNone(self.supervisor.busy)
        self.start()
        self.assertEqual("full", self.supervisor.busy)
        first.lose()
        self.assertIsNone(self.supervisor.busy)

    def test_clients_are_sent_away_for_different_times_within_bounds(self) -> None:
        retries = set()
        for _ in range(50):
            retry, event, data = self.supervisor.busy_frame("full").decode().split("\n")[:3]
            self.assertEqual("event: busy", event)
            self.assertEqual({"reason": "full"}, json.loads(data.removeprefix("data: ")))
            retries.add(int(retry.removeprefix("retry: ")))
        self.assertGreater(len(retries), 10)
        self.assertTrue(all(5000 <= retry <= 30000 for retry in retries), retries)


class DrainTests(SupervisorTestCase):
    """How all streams end in good order."""

    def test_draining_takes_no_more(self) -> None:
        self.start()
        self.supervisor.drain(5)
        self.assertEqual("draining", self.supervisor.busy)

    def test_an_empty_one_is_drained_at_once(self) -> None:
        self.successResultOf(self.supervisor.drain(5))

    def test_every_client_is_told_when_to_come_back(self) -> None:
        streams = self.start(10)
        self.supervisor.drain(5)
        self.pass_seconds(5)
        for stream in streams:
            self.assertRegex(stream.content, rb"^retry: \d+\nevent: busy\n")
            self.assertTrue(stream.closed)
            self.assertFalse(stream.aborted)

    def test_every_client_comes_back_soon_and_at_a_time_of_its_own(self) -> None:
        streams = self.start(100)
        self.supervisor.drain(5)
        self.pass_seconds(5)
        retries = [int(stream.content.split(b"\n")[0][7:]) for stream in streams]
        self.assertTrue(all(100 <= retry <= 1000 for retry in retries), retries)
        self.assertGreater(len(set(retries)), 50)

    def test_who_comes_while_it_drains_is_to_come_back_when_the_next_process_is_there(self) -> None:
        self.start()
        self.supervisor.drain(5)
        for left_seconds in (5, 4, 3, 2, 1, 0):
            frames = [self.supervisor.busy_frame("draining") for _ in range(100)]
            retries = [int(frame.split(b"\n")[0][7:]) / 1000 - left_seconds for frame in frames]
            self.assertTrue(all(0.4 <= retry <= 2.1 for retry in retries), retries)
            self.assertGreater(len(set(retries)), 50)
            self.pass_seconds(1)

    def test_the_ends_are_spread_over_the_time_there_is(self) -> None:
        streams = self.start(160)
        self.supervisor.drain(5)
        # The last fifth is for those that still read.
        for eighth in range(1, 8):
            self.pass_seconds(0.5)
            closed = sum(stream.closed for stream in streams)
            self.assertLessEqual(abs(eighth * 20 - closed), 5)
        self.pass_seconds(0.5)
        self.assertTrue(all(stream.closed for stream in streams))

    def test_those_that_are_behind_are_ended_first(self) -> None:
        streams = self.start(100)
        behind = [streams[number] for number in (3, 50, 99)]
        for stream in behind:
            stream.room = 0
            connection = stream.owner
            assert isinstance(connection, Connection)
            watch(connection).post(Frames(data=b"abc", events=1, topic=RED))
        self.clock.advance(0)
        self.supervisor.drain(5)
        self.pass_seconds(0.5)
        for stream in behind:
            stream.read(1 << 20)
        self.pass_seconds(0.1)
        for stream in behind:
            self.assertRegex(stream.content, rb"abcretry: \d+\nevent: busy\n")
            self.assertEqual((True, False), (stream.closed, stream.aborted))

    def test_a_stream_that_is_read_again_gets_what_waits_and_its_busy_frame(self) -> None:
        [stream] = self.start()
        [connection] = self.supervisor
        stream.room = 0
        watch(connection).post(Frames(data=b"abc", events=1, topic=RED))
        self.clock.advance(0)
        drained = self.supervisor.drain(5)
        self.pass_seconds(4.8)
        self.assertNoResult(drained)
        stream.read(1 << 20)
        self.pass_seconds(0.1)
        self.successResultOf(drained)
        self.assertRegex(stream.content, rb"abcretry: \d+\nevent: busy\n")
        self.assertFalse(stream.aborted)

    def test_a_stream_that_is_not_read_is_cut_off_when_the_time_is_over(self) -> None:
        [stream] = self.start()
        stream.room = 0
        drained = self.supervisor.drain(5)
        self.pass_seconds(4.8)
        self.assertFalse(stream.aborted)
        self.pass_seconds(0.4)
        self.assertTrue(stream.aborted)
        self.successResultOf(drained)

    def test_a_process_that_is_late_catches_up(self) -> None:
        streams = self.start(500)
        self.supervisor.drain(1)
        self.clock.pump([0.2] * 5)
        self.assertTrue(all(stream.closed for stream in streams))

    def test_few_are_ended_without_delay(self) -> None:
        self.start(3)
        drained = self.supervisor.drain(5)
        self.pass_seconds(0.5)
        self.successResultOf(drained)

    def test_it_ends_all_at_once_where_there_is_no_time(self) -> None:
        streams = self.start(10)
        drained = self.supervisor.drain(0)
        self.clock.advance(0)
        self.assertTrue(all(stream.closed for stream in streams))
        self.successResultOf(drained)

    def test_it_is_drained_when_the_last_is_gone_and_not_before(self) -> None:
        streams = self.start(2)
        drained = self.supervisor.drain(5)
        streams[0].lose()
        self.assertNoResult(drained)
        streams[1].lose()
        self.successResultOf(drained)
        self.pass_seconds(6)

    def test_asking_again_waits_for_the_same(self) -> None:
        self.start(2)
        first, second = self.supervisor.drain(5), self.supervisor.drain(5)
        self.pass_seconds(1)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_a_stream_that_does_not_close_is_cut_off_when_the_time_is_over(self) -> None:
        stream = self.start_late()
        drained = self.supervisor.drain(2)
        self.pass_seconds(2 + 2 * STEP_SECONDS)
        self.assertTrue(stream.aborted)
        self.successResultOf(drained)

    def test_a_stream_that_closes_late_is_given_the_time_there_is(self) -> None:
        stream = self.start_late()
        drained = self.supervisor.drain(2)
        self.pass_seconds(1.5)
        self.assertTrue(stream.closed)
        self.assertFalse(stream.aborted)
        stream.lose()
        self.successResultOf(drained)

    def test_a_stream_that_fails_at_its_end_does_not_keep_the_others(self) -> None:
        streams = self.start(7)
        streams[3].broken = True
        drained = self.supervisor.drain(1)
        self.pass_seconds(1.5)
        self.assertTrue(streams.pop(3).aborted)
        self.assertTrue(all(stream.closed for stream in streams))
        self.successResultOf(drained)
        self.flushLoggedErrors(RuntimeError)

    def start_late(self) -> LateStream:
        streams: list[LateStream] = []

        def attach(owner: IStreamOwner) -> None:
            streams.append(LateStream(owner, self.clock))
            owner.attached(streams[-1])

        self.supervisor.start(attach).open(chunk(b"first\n\n"))
        self.clock.advance(0)
        return streams[0]


class SamplesTests(SupervisorTestCase):
    """What operators see."""

    def test_all_is_counted(self) -> None:
        streams = self.start(5)
        connections = list(self.supervisor)
        streams[0].lose()
        watch(connections[1]).post(Frames(data=b"abc", events=2, topic=RED))
        self.clock.advance(0)
        streams[2].room = 0
        feed = watch(connections[2])
        for _ in range(12):
            feed.post(Frames(data=b"a", events=1, topic=RED))
        feed = watch(connections[3])
        feed.post(Frames(data=b"abcd", events=3, topic=RED))
        feed.leave(connections[3])
        watch(connections[4]).post(Frames(data=b"abcde", events=4, topic=RED))
        connections[4].abort(CloseReason.FAILED)
        self.clock.advance(0)
        seen = values(self.supervisor.samples())
        expected = {
            "connections": 3,
            "connections_started": 5,
            "connections_closed.client_left": 1,
            "connections_closed.failed": 1,
            "connections_closed.stalled": 0,
            "connections_closed.overflow": 0,
            "connections_closed.drained": 0,
            "dropped.frontend.mailbox_full": 2,
            "dropped.frontend.unsubscribed": 3,
            "dropped.frontend.closed": 4,
        }
        self.assertEqual(expected, {name: seen[name] for name in expected})

    def test_waiting_events_are_told(self) -> None:
        [stream] = self.start()
        [connection] = self.supervisor
        stream.room = 0
        feed = watch(connection)
        feed.post(Frames(data=b"!", events=1, topic=RED))
        self.clock.advance(0)
        feed.post(Frames(data=b"abc", events=2, topic=RED))
        seen = values(self.supervisor.samples())
        self.assertEqual(len(chunk(b"!") + b"abc"), seen["mailbox_bytes.connection"])
        self.assertEqual(2, seen["mailbox_events.connection"])

    def test_what_a_stalled_viewer_has_missed_is_told_at_once_and_counted_once(self) -> None:
        [stream] = self.start()
        [connection] = self.supervisor
        stream.room = 0
        feed = watch(connection)
        for _ in range(3):
            feed.post(Frames(data=b"a", events=5, topic=RED))
            self.clock.advance(0)
        feed.post(Frames(data=b"a", events=4, topic=RED))
        name = "dropped.frontend.mailbox_full"
        self.assertEqual(5, values(self.supervisor.samples())[name])
        stream.read(100)
        self.clock.advance(0)
        self.assertEqual(5, values(self.supervisor.samples())[name])

    def test_sent_events_and_sends_are_told(self) -> None:
        self.start()
        [connection] = self.supervisor
        before = values(self.supervisor.samples())
        feed = watch(connection)
        feed.post(Frames(data=b"abc", events=2, topic=RED))
        feed.post(Frames(data=b"abc", events=3, topic=RED))
        self.clock.advance(0)
        after = values(self.supervisor.samples())
        self.assertEqual(5, after["sent"] - before["sent"])
        self.assertEqual(1, after["sends"] - before["sends"])
