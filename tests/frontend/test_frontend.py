"""Tests of rtdeliver.frontend.frontend."""

from collections.abc import Iterable
from typing import TypedDict, Unpack

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rtdeliver.errors import (
    AnswerLost,
    BadRequest,
    StaleIncarnation,
    TooManyTopics,
    Unavailable,
    UnknownConnection,
)
from rtdeliver.frontend.connection import Connection
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.frontend.resume import Resume
from rtdeliver.interfaces import IConnections, IDispatcherClient, IFrontendDeliveries, IStreamOwner
from rtdeliver.messages import Acknowledgement, Subscriptions, TopicsChange
from rtdeliver.metrics import Sample
from rtdeliver.model import ConnectionId, FrontendRef, Gap, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.contracts.connections import FrontendConnectionsContract
from tests.fakes import (
    PromptStream,
    ScriptedDispatcherClient,
    TableDispatcherClient,
    Viewer,
    new_event,
    new_frontend,
)

RED, GREEN, BLUE = (Topic(f"live:{name}") for name in ("red", "green", "blue"))
MANY = tuple(Topic(f"live:{number}") for number in range(6))
URL = "http://127.0.0.1:8081"
N1 = FrontendRef(node="n1", url=URL, incarnation="first")


class Limits(TypedDict, total=False):
    """Which limits of `new_frontend` a test may choose."""

    max_connections: int
    mailbox_bytes: int
    mailbox_events: int
    topics: int


class FrontendTestCase(SynchronousTestCase):
    """A started frontend, known to a routing table."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.routing_table = MemoryRoutingTable(clock=self.clock)
        self.use(TableDispatcherClient(self.routing_table))

    def use(self, dispatchers: IDispatcherClient, **limits: Unpack[Limits]) -> None:
        self.frontend = new_frontend(self.clock, dispatchers, **limits)
        self.frontend.start(URL)
        self.turns()

    def turns(self) -> None:
        self.clock.advance(0)

    def pass_seconds(self, seconds: float) -> None:
        self.clock.pump([0.1] * round(seconds / 0.1))

    def connect(self, *topics: Topic) -> Viewer:
        viewer = Viewer(self.frontend, self.clock, *topics)
        self.turns()
        return viewer

    def subscribe(
        self, viewer: Viewer, *, add: Iterable[Topic] = (), remove: Iterable[Topic] = ()
    ) -> Deferred[Subscriptions]:
        change = TopicsChange(add=tuple(add), remove=tuple(remove))
        return self.frontend.subscribe(viewer.id, change)

    def subscriptions(self, viewer: Viewer) -> Subscriptions:
        return self.successResultOf(self.frontend.subscriptions(viewer.id))

    def deliver(self, topic: Topic, *ids: str) -> None:
        self.frontend.deliver([new_event(id, topic) for id in ids])
        self.turns()

    def counts(self, *topics: Topic) -> list[int]:
        """The viewers that the routing table knows of."""
        return [
            sum(self.successResultOf(self.routing_table.viewers(topic)).values())
            for topic in topics
        ]

    def samples(self) -> dict[str, float]:
        return {
            ".".join([sample.name, *sample.labels.values()]): sample.value
            for sample in self.frontend.samples()
            if isinstance(sample, Sample)
        }


class ConnectionsContractTests(FrontendConnectionsContract, SynchronousTestCase):
    implementation = Frontend

    def make_connections(self, frontend: Frontend) -> IConnections:
        return frontend


class ConnectTests(FrontendTestCase):
    """A viewer comes."""

    def test_it_keeps_its_promise(self) -> None:
        self.assertTrue(verifyObject(IFrontendDeliveries, self.frontend))

    def test_the_first_frame_names_the_connection_and_its_topics(self) -> None:
        viewer = self.connect(RED, GREEN)
        [(name, data)] = viewer.frames
        self.assertEqual("connected", name)
        owner = viewer.stream.owner
        assert isinstance(owner, Connection)
        self.assertEqual(
            {
                "connection": owner.id,
                "topics": [GREEN, RED],
                "heartbeat_seconds": 25,
            },
            data,
        )
        self.assertIn(b"\r\n\r\nretry: 3000\nevent: connected\n", viewer.stream.content)

    def test_a_viewer_that_comes_back_is_told_that_it_may_have_missed_events(self) -> None:
        viewer = Viewer(self.frontend, self.clock, RED, GREEN, resume=Resume(comes_back=True))
        self.turns()
        [connected] = viewer.control("connected")
        self.assertEqual(([], [GREEN, RED]), (connected["resumed"], connected["lost"]))
        self.assertEqual([{"lost": None, "topics": [GREEN, RED]}], viewer.control("gap"))
        self.assertNotIn("lost", self.connect(RED).control("connected")[0])

    def test_a_viewer_of_nothing_that_comes_back_has_missed_nothing(self) -> None:
        viewer = Viewer(self.frontend, self.clock, resume=Resume(comes_back=True))
        self.turns()
        self.assertEqual([], viewer.control("connected")[0]["lost"])
        self.assertEqual([], viewer.control("gap"))

    def test_a_viewer_of_nothing_is_greeted_at_once(self) -> None:
        self.use(ScriptedDispatcherClient())
        self.assertEqual([], self.connect().frames[0][1]["topics"])

    def test_topics_are_in_the_routing_table_when_the_viewer_is_greeted(self) -> None:
        self.connect(RED)
        self.connect(RED, GREEN)
        self.pass_seconds(3)
        self.assertEqual([2, 1], self.counts(RED, GREEN))

    def test_a_viewer_is_greeted_once_its_topics_are_confirmed(self) -> None:
        dispatchers = ScriptedDispatcherClient()
        self.use(dispatchers)
        viewer = self.connect(RED)
        self.assertEqual(b"", viewer.stream.content)
        for _ in range(2):
            dispatchers.answers.pop(0).callback(Acknowledgement(lease_seconds=30))
            self.turns()
        self.assertEqual([RED], viewer.control("connected")[0]["topics"])
        self.assertNotIn("pending", viewer.control("connected")[0])

    def test_a_viewer_is_greeted_in_time_with_what_is_pending(self) -> None:
        self.use(ScriptedDispatcherClient())
        viewer = self.connect(RED, GREEN)
        self.pass_seconds(1.8)
        self.assertEqual(b"", viewer.stream.content)
        self.pass_seconds(0.3)
        [data] = viewer.control("connected")
        self.assertEqual([GREEN, RED], data["topics"])
        self.assertEqual([GREEN, RED], data["pending"])

    def test_a_topic_that_is_named_twice_counts_once(self) -> None:
        self.use(ScriptedDispatcherClient())
        viewer = self.connect(RED, RED)
        self.pass_seconds(2.1)
        self.assertEqual([RED], viewer.control("connected")[0]["topics"])
        self.assertEqual([RED], viewer.control("connected")[0]["pending"])

    def test_a_viewer_of_too_many_topics_does_not_get_as_far_as_a_stream(self) -> None:
        self.assertRaises(TooManyTopics, self.frontend.connect, MANY, head=bytes, attach=self.fail)
        self.assertEqual(0, self.samples()["connections_started"])

    def test_a_viewer_of_new_topics_is_sent_away_while_there_are_too_many(self) -> None:
        self.use(TableDispatcherClient(self.routing_table), topics=2)
        first = self.connect(RED, GREEN)
        self.assertIsNone(self.frontend.busy([RED, RED, GREEN]))
        busy = self.frontend.busy([RED, BLUE])
        assert busy is not None
        self.assertRegex(busy, rb'^retry: \d+\nevent: busy\ndata: {"reason":"full"}\n\n$')
        self.assertEqual(1, self.samples()["topics_refused"])
        self.assertRaises(Unavailable, self.frontend.connect, [BLUE], head=bytes, attach=self.fail)
        self.assertEqual(["connected"], [name for name, _ in self.connect(RED).frames])
        self.assertEqual([], self.frontend.missing())
        first.stream.lose()
        self.turns()
        self.assertIsNone(self.frontend.busy([RED, BLUE]))

    def test_a_viewer_that_cannot_be_given_a_stream_leaves_nothing(self) -> None:
        def attach(_: IStreamOwner) -> None:
            raise OSError("the socket is gone")

        self.assertRaises(OSError, self.frontend.connect, [RED], head=bytes, attach=attach)
        self.pass_seconds(4)
        self.assertEqual(0, self.samples()["connections"])
        self.assertEqual([0], self.counts(RED))

    def test_what_is_delivered_before_the_greeting_comes_after_it(self) -> None:
        self.use(ScriptedDispatcherClient())
        viewer = self.connect(RED)
        self.deliver(RED, "1", "2")
        self.assertEqual(b"", viewer.stream.content)
        self.pass_seconds(2.1)
        self.assertEqual(["connected", "message", "message"], [name for name, _ in viewer.frames])

    def test_a_gap_before_the_greeting_comes_after_it(self) -> None:
        self.use(ScriptedDispatcherClient())
        viewer = self.connect(RED)
        self.frontend.deliver([Gap(topic=RED, lost=2), new_event("1", RED)])
        self.pass_seconds(2.1)
        self.assertEqual(["connected", "gap", "message"], [name for name, _ in viewer.frames])

    def test_a_viewer_may_leave_before_the_greeting(self) -> None:
        self.use(ScriptedDispatcherClient())
        viewer = self.connect(RED)
        viewer.stream.lose()
        self.pass_seconds(2.1)
        self.assertEqual(b"", viewer.stream.content)
        self.assertEqual(0, self.samples()["subscriptions"])

    def test_a_viewer_that_leaves_is_not_in_the_routing_table_any_more(self) -> None:
        viewer = self.connect(RED, GREEN)
        self.connect(GREEN)
        viewer.stream.lose()
        self.pass_seconds(3)
        self.assertEqual([0, 1], self.counts(RED, GREEN))
        self.deliver(RED, "1")
        self.assertEqual([], viewer.ids)

    def test_a_viewer_that_cannot_be_greeted_is_cut_off(self) -> None:
        class BrokenStream(PromptStream):
            def send(self, data: bytes) -> int:
                raise RuntimeError("this stream is broken")

        streams: list[BrokenStream] = []

        def attach(owner: IStreamOwner) -> None:
            streams.append(BrokenStream(owner, self.clock))
            owner.attached(streams[0])

        self.frontend.connect([RED], head=bytes, attach=attach)
        self.pass_seconds(3)
        self.flushLoggedErrors(RuntimeError)
        self.assertTrue(streams[0].aborted)
        self.assertEqual(0, self.samples()["connections"])


class SubscribeTests(FrontendTestCase):
    """A viewer changes its mind."""

    def test_the_answer_names_all_topics_sorted(self) -> None:
        viewer = self.connect(RED)
        answer = self.subscribe(viewer, add=[GREEN, BLUE], remove=[RED])
        self.turns()
        self.assertEqual(
            Subscriptions(connection=viewer.id, topics=[BLUE, GREEN]),
            self.successResultOf(answer),
        )
        self.pass_seconds(3)
        self.assertEqual([0, 1, 1], self.counts(RED, GREEN, BLUE))

    def test_topics_can_be_asked_for(self) -> None:
        viewer = self.connect(RED, GREEN)
        self.assertEqual(
            Subscriptions(connection=viewer.id, topics=[GREEN, RED]),
            self.subscriptions(viewer),
        )

    def test_adding_twice_and_removing_what_is_not_there_are_fine(self) -> None:
        viewer = self.connect(RED)
        answer = self.subscribe(viewer, add=[RED, RED], remove=[GREEN])
        self.assertEqual([RED], list(self.successResultOf(answer).topics))

    def test_the_answer_waits_for_a_dispatcher(self) -> None:
        viewer, dispatchers = self.connect_scripted()
        answer = self.subscribe(viewer, add=[RED])
        self.turns()
        self.assertNoResult(answer)
        dispatchers.answers.pop(0).callback(Acknowledgement(lease_seconds=30))
        self.assertEqual((), self.successResultOf(answer).pending)

    def test_the_answer_names_what_no_dispatcher_confirmed(self) -> None:
        viewer, dispatchers = self.connect_scripted()
        first = self.subscribe(viewer, add=[GREEN])
        self.turns()
        dispatchers.answers.pop(0).callback(Acknowledgement(lease_seconds=30))
        self.successResultOf(first)
        answer = self.subscribe(viewer, add=[RED])
        self.pass_seconds(2.1)
        self.assertEqual(
            Subscriptions(connection=viewer.id, topics=[GREEN, RED], pending=(RED,)),
            self.successResultOf(answer),
        )

    def test_everything_is_pending_while_no_dispatcher_answers(self) -> None:
        viewer, dispatchers = self.connect_scripted()
        answer = self.subscribe(viewer, add=[RED, GREEN])
        self.turns()
        dispatchers.answers.pop(0).errback(AnswerLost("no answer came"))
        self.pass_seconds(2.1)
        self.assertEqual((GREEN, RED), tuple(self.successResultOf(answer).pending))
        self.assertEqual((GREEN, RED), tuple(self.subscriptions(viewer).pending))

    def test_a_topic_that_is_removed_while_it_is_waited_for_is_not_told(self) -> None:
        viewer, _ = self.connect_scripted()
        added = self.subscribe(viewer, add=[RED])
        self.successResultOf(self.subscribe(viewer, remove=[RED]))
        self.pass_seconds(2.1)
        self.assertEqual(
            Subscriptions(connection=viewer.id, topics=[]), self.successResultOf(added)
        )

    def test_an_unknown_connection_is_refused(self) -> None:
        viewer = self.connect(RED)
        self.assertIsNone(self.successResultOf(self.frontend.look_for(viewer.id)))
        viewer.stream.lose()
        self.failureResultOf(self.frontend.look_for(viewer.id), UnknownConnection)
        self.failureResultOf(self.subscribe(viewer, add=[GREEN]), UnknownConnection)
        for id in (viewer.id, ConnectionId("n1-nobody")):
            self.failureResultOf(self.frontend.subscriptions(id), UnknownConnection)
        self.assertEqual(0, self.samples()["subscriptions"])

    def test_a_connection_that_ends_while_it_waits_is_refused(self) -> None:
        viewer, _ = self.connect_scripted()
        answer = self.subscribe(viewer, add=[RED])
        viewer.stream.lose()
        self.pass_seconds(2.1)
        self.failureResultOf(answer, UnknownConnection)
        self.assertEqual(0, self.samples()["subscriptions"])

    def test_too_many_topics_change_nothing(self) -> None:
        viewer = self.connect(RED)
        viewer.stream.room = 0
        self.deliver(RED, "1")
        self.deliver(RED, "2")
        self.failureResultOf(self.subscribe(viewer, add=MANY, remove=[RED]), TooManyTopics)
        self.pass_seconds(3)
        self.assertEqual([RED], list(self.subscriptions(viewer).topics))
        self.assertEqual([1, 0], self.counts(RED, MANY[0]))
        self.let_read(viewer)
        self.assertEqual(["1", "2"], viewer.ids)

    def test_new_topics_are_refused_while_there_are_too_many(self) -> None:
        self.use(TableDispatcherClient(self.routing_table), topics=2)
        viewer, other = self.connect(RED), self.connect(GREEN)
        refusal = self.failureResultOf(self.subscribe(viewer, add=[BLUE]), Unavailable).value
        self.assertIn("viewers.topics", str(refusal))
        self.assertEqual([RED], list(self.subscriptions(viewer).topics))
        self.assertEqual(1, self.samples()["topics_refused"])
        self.successResultOf(self.subscribe(viewer, add=[GREEN]))
        # Another one watches it, too.
        swap = self.subscribe(other, add=[BLUE], remove=[GREEN])
        self.failureResultOf(swap, Unavailable)
        self.successResultOf(self.subscribe(viewer, remove=[GREEN]))
        swap = self.subscribe(other, add=[BLUE], remove=[GREEN])
        self.turns()
        self.assertEqual([BLUE], list(self.successResultOf(swap).topics))
        self.assertEqual(2, self.samples()["topics"])

    def test_what_waits_of_a_removed_topic_is_not_sent(self) -> None:
        viewer = self.connect(RED, GREEN)
        viewer.stream.room = 0
        self.deliver(RED, "first")
        self.deliver(GREEN, "1")
        self.deliver(RED, "2")
        self.subscribe(viewer, remove=[RED])
        self.let_read(viewer)
        # The first was on its way already.
        self.assertEqual(["first", "1"], viewer.ids)
        self.assertEqual(1, self.samples()["dropped.frontend.unsubscribed"])

    def test_what_waits_of_a_topic_that_is_removed_and_added_is_sent(self) -> None:
        viewer = self.connect(RED)
        viewer.stream.room = 0
        self.deliver(RED, "1")
        self.deliver(RED, "2")
        self.subscribe(viewer, remove=[RED], add=[RED])
        self.let_read(viewer)
        self.assertEqual(["1", "2"], viewer.ids)

    def connect_scripted(self) -> tuple[Viewer, ScriptedDispatcherClient]:
        """A viewer of nothing, of a frontend whose dispatchers answered once."""
        dispatchers = ScriptedDispatcherClient()
        self.use(dispatchers)
        dispatchers.answers.pop(0).callback(Acknowledgement(lease_seconds=30))
        return self.connect(), dispatchers

    def let_read(self, viewer: Viewer) -> None:
        viewer.stream.read(1 << 30)
        self.turns()


class DeliverTests(FrontendTestCase):
    """Events come."""

    def test_events_go_to_the_viewers_of_their_topic_in_order(self) -> None:
        reds = [self.connect(RED) for _ in range(3)]
        green, both, none = self.connect(GREEN), self.connect(RED, GREEN), self.connect()
        self.frontend.deliver(
            [
                new_event("1", RED),
                new_event("2", RED),
                new_event("3", GREEN),
                new_event("4", BLUE),
                new_event("5", RED),
            ]
        )
        self.turns()
        for red in reds:
            self.assertEqual(["1", "2", "5"], red.ids)
        self.assertEqual(["3"], green.ids)
        self.assertEqual(["1", "2", "3", "5"], both.ids)
        self.assertEqual([], none.ids)

    def test_an_event_arrives_as_the_line_that_was_delivered(self) -> None:
        viewer = self.connect(RED)
        event = new_event("17-0-d1", RED, b'{"user":"\xc3\xa4nn"}')
        self.frontend.deliver([event])
        self.turns()
        self.assertTrue(
            viewer.stream.content.endswith(b"\n\nid: 17-0-d1\ndata: %b\n\n" % event.line)
        )

    def test_a_batch_leaves_in_one_send(self) -> None:
        viewer = self.connect(RED, GREEN)
        viewer.stream.sends.clear()
        self.frontend.deliver([new_event(str(n), (RED, GREEN)[n % 2]) for n in range(10)])
        self.deliver(RED, "10")
        self.assertEqual(1, len(viewer.stream.sends))

    def test_consecutive_events_of_a_topic_are_one_item_in_the_mailboxes(self) -> None:
        viewer = self.connect_slow(mailbox_events=5)
        self.deliver(RED, "1", "2", "3")
        self.deliver(RED, "4", "5", "6")
        self.let_read(viewer)
        self.assertEqual([{"lost": 3, "topics": [RED]}], viewer.control("gap"))
        self.assertEqual(["0", "4", "5", "6"], viewer.ids)

    def test_a_large_batch_is_several_items_so_a_full_mailbox_keeps_a_part(self) -> None:
        viewer = self.connect_slow(mailbox_bytes=100_000)
        self.frontend.deliver([new_event(str(n), RED, b"1" * 1000) for n in range(1, 201)])
        self.let_read(viewer)
        received = viewer.ids[1:]
        self.assertGreater(len(received), 50)
        self.assertEqual([str(n) for n in range(201 - len(received), 201)], received)
        self.assertEqual([{"lost": 200 - len(received), "topics": [RED]}], viewer.control("gap"))

    def test_an_event_that_comes_again_is_not_sent_again(self) -> None:
        viewer = self.connect(RED, GREEN)
        self.deliver(RED, "1", "2")
        self.deliver(RED, "1", "2", "3")
        self.deliver(GREEN, "1")
        self.assertEqual(["1", "2", "3", "1"], viewer.ids)
        self.assertEqual(2, self.samples()["repeated"])
        self.assertEqual(6, self.samples()["delivered.frontend"])

    def test_an_event_that_is_twice_in_a_batch_is_sent_once(self) -> None:
        viewer = self.connect(RED)
        self.deliver(RED, "1", "1")
        self.assertEqual(["1"], viewer.ids)

    def test_a_gap_reaches_the_viewers_of_its_topic_before_what_follows(self) -> None:
        red, green = self.connect(RED), self.connect(GREEN)
        self.frontend.deliver([Gap(topic=RED, lost=7), new_event("1", RED)])
        self.turns()
        self.assertEqual(["connected", "gap", "message"], [name for name, _ in red.frames])
        self.assertEqual([{"lost": 7, "topics": [RED]}], red.control("gap"))
        self.assertEqual([], green.control("gap"))

    def test_viewers_are_told_when_the_dispatchers_had_forgotten_them_all(self) -> None:
        both, none = self.connect(RED, GREEN), self.connect()
        self.successResultOf(self.routing_table.forget(N1))
        self.pass_seconds(3)
        self.assertEqual([{"lost": None, "topics": [GREEN, RED]}], both.control("gap"))
        self.assertEqual([], none.control("gap"))
        self.pass_seconds(30)
        self.assertEqual(1, len(both.control("gap")))

    def test_one_viewer_that_reads_slowly_does_not_keep_the_others(self) -> None:
        slow = self.connect_slow()
        quick = self.connect(RED)
        self.deliver(RED, "1", "2")
        self.assertEqual(["1", "2"], quick.ids)
        self.let_read(slow)
        self.assertEqual(["0", "1", "2"], slow.ids)

    def connect_slow(self, **limits: Unpack[Limits]) -> Viewer:
        """A viewer that reads nothing, and has been sent an event with the id 0."""
        self.use(TableDispatcherClient(self.routing_table), **limits)
        viewer = self.connect(RED)
        viewer.stream.room = 0
        self.deliver(RED, "0")
        return viewer

    def let_read(self, viewer: Viewer) -> None:
        viewer.stream.read(1 << 30)
        self.turns()


class ReadinessTests(FrontendTestCase):
    """Whether it takes viewers and deliveries."""

    def test_deliveries_name_this_process(self) -> None:
        self.assertRaises(BadRequest, self.frontend.check_incarnation, None)
        self.assertRaises(StaleIncarnation, self.frontend.check_incarnation, "second")
        self.frontend.check_incarnation("first")

    def test_it_is_ready_once_a_dispatcher_has_answered(self) -> None:
        dispatchers = ScriptedDispatcherClient()
        self.use(dispatchers)
        self.assertEqual(["no dispatcher answers"], self.frontend.missing())
        dispatchers.answers.pop(0).callback(Acknowledgement(lease_seconds=30))
        self.assertEqual([], self.frontend.missing())

    def test_it_is_not_ready_while_no_dispatcher_answers(self) -> None:
        dispatchers = ScriptedDispatcherClient()
        self.use(dispatchers)
        dispatchers.answers.pop(0).callback(Acknowledgement(lease_seconds=30))
        self.pass_seconds(3.1)
        dispatchers.answers.pop(0).errback(AnswerLost("no answer came"))
        self.assertEqual(["no dispatcher answers"], self.frontend.missing())

    def test_a_full_one_sends_viewers_away(self) -> None:
        self.use(TableDispatcherClient(self.routing_table), max_connections=1)
        self.assertIsNone(self.frontend.busy())
        self.connect(RED)
        self.assertEqual(["this frontend is full"], self.frontend.missing())
        self.assert_busy("full")

    def test_a_draining_one_sends_viewers_away(self) -> None:
        self.connect(RED)
        self.frontend.drain(5)
        self.assertEqual(["this frontend is draining"], self.frontend.missing())
        self.assert_busy("draining")

    def assert_busy(self, reason: str) -> None:
        frame = self.frontend.busy()
        assert frame is not None
        self.assertRegex(
            frame, rb'^retry: \d+\nevent: busy\ndata: {"reason":"%b"}\n\n$' % reason.encode()
        )


class EndTests(FrontendTestCase):
    """A frontend that stops."""

    def test_it_ends_all_streams_and_leaves_the_routing_table(self) -> None:
        viewers = [self.connect(RED) for _ in range(5)]
        drained = self.frontend.drain(1)
        self.pass_seconds(1)
        self.successResultOf(drained)
        for viewer in viewers:
            self.assertEqual([{"reason": "draining"}], viewer.control("busy"))
            self.assertTrue(viewer.stream.closed)
        self.assertEqual([N1], self.nodes())
        self.successResultOf(Deferred.fromCoroutine(self.frontend.leave()))
        self.assertEqual([], self.nodes())
        self.pass_seconds(60)
        self.assertEqual([], self.nodes())

    def nodes(self) -> list[FrontendRef]:
        return [node.frontend for node in self.successResultOf(self.routing_table.nodes())]


class SamplesTests(FrontendTestCase):
    """What operators see."""

    def test_subscriptions_topics_and_connections_are_told(self) -> None:
        self.connect(RED, GREEN)
        viewer = self.connect(RED)
        self.connect()
        self.assertEqual((3, 2, 3), self.told())
        viewer.stream.lose()
        self.assertEqual((2, 2, 2), self.told())

    def told(self) -> tuple[float, ...]:
        samples = self.samples()
        return tuple(samples[name] for name in ("subscriptions", "topics", "connections"))
