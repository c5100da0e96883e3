"""Topics with history at a frontend: what a viewer is sent that was away, or that fell behind."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import History, HistoryClass
from rtdeliver.errors import BadRequest, Forbidden, Unavailable, Unreachable
from rtdeliver.frontend.connection import Connection
from rtdeliver.frontend.resume import FRESH, Resume, resume_of
from rtdeliver.grants import patterns
from rtdeliver.history.classes import HistoryClasses
from rtdeliver.history.memory import MemoryHistory
from rtdeliver.messages import END, Entry, HistoryPage, HistoryQuery, TopicsChange
from rtdeliver.metrics import Sample
from rtdeliver.model import Event, Gap, Topic, check_position
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.wire import Draft, encode_event
from tests.fakes import TableDispatcherClient, Viewer, new_event, new_frontend

CONV, OTHER = Topic("conv:1"), Topic("conv:2")
LIKES = Topic("live:red")
NOW = 1_795_417_956
SETTINGS = History(
    topics={"conv:*": HistoryClass(events=20, seconds=100_000)},
    page_events=6,
    overlap_seconds=5,
    repair_seconds=0.02,
    give_up_seconds=4,
)


class Dispatchers(TableDispatcherClient):
    """Dispatchers whose histories can be away, and that note what they are asked."""

    def __init__(self, clock: Clock) -> None:
        history = MemoryHistory(
            classes=HistoryClasses(SETTINGS.topics),
            settings=SETTINGS,
            clock=clock,
            now=lambda: NOW + clock.seconds(),
        )
        super().__init__(MemoryRoutingTable(clock=clock), history=history)
        self.away = False
        self.queries: list[HistoryQuery] = []

    def history(self, queries: Sequence[HistoryQuery]) -> Deferred[Sequence[HistoryPage | None]]:
        self.queries += queries
        return fail(Unreachable("no way")) if self.away else super().history(queries)


class HistoriesTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.dispatchers = Dispatchers(self.clock)
        self.use()
        self.clock.advance(100)
        self.published = 0

    def use(self, **limits: Any) -> None:
        self.frontend = new_frontend(self.clock, self.dispatchers, history=SETTINGS, **limits)
        self.frontend.start("http://127.0.0.1:8081")
        self.turns()

    def turns(self, seconds: float = 0) -> None:
        self.clock.pump([seconds, 0, 0, 0, 0, 0])

    def store(self, topic: Topic, count: int = 1) -> list[Event]:
        """Store events that are not delivered here."""
        entries = []
        for _ in range(count):
            self.published += 1
            draft = Draft(topic=topic, type="m", data=b"%d" % self.published, id=None)
            event = encode_event(draft, id=f"e{self.published}", at=1000 * NOW)
            entries.append(Entry(event=event, may_repeat=False))
        stored = self.successResultOf(self.dispatchers.histories.append(entries))
        return [each.event for each in stored]

    def deliver(self, *items: Event | Gap) -> None:
        self.frontend.deliver(items)
        self.turns()

    def publish(self, topic: Topic, count: int = 1) -> list[Event]:
        events = self.store(topic, count)
        self.deliver(*events)
        return events

    def connect(self, *topics: Topic, resume: Resume = FRESH, room: int | None = None) -> Viewer:
        viewer = Viewer(self.frontend, self.clock, *topics, resume=resume)
        if room is not None:
            viewer.stream.room = room
        self.turns()
        return viewer

    def come_back(self, after: Event, *topics: Topic) -> Viewer:
        resume = resume_of(
            last_event_id=after.position or after.id, since=[], rewind="", topics=len(topics)
        )
        return self.connect(*topics, resume=resume)

    def numbers(self, viewer: Viewer, topic: Topic = CONV) -> list[int]:
        """The numbers of the events of a topic that a viewer was sent."""
        return [
            check_position(data["position"]).number
            for name, data in viewer.frames
            if name == "message" and data["topic"] == topic
        ]

    def kinds(self, viewer: Viewer) -> list[str]:
        return [name for name, _ in viewer.frames]

    def gaps(self, viewer: Viewer) -> list[Any]:
        return [gap["lost"] for gap in viewer.control("gap")]

    def sample(self, name: str) -> float:
        return sum(
            sample.value
            for sample in self.frontend.samples()
            if isinstance(sample, Sample) and sample.name == name
        )


class ResumeTests(HistoriesTestCase):
    """A viewer comes back."""

    def test_it_goes_on_exactly_after_the_event_that_it_had_last(self) -> None:
        events = self.store(CONV, 15)
        viewer = self.come_back(events[4], CONV)
        [connected] = viewer.control("connected")
        self.assertEqual(([CONV], []), (connected["resumed"], connected["lost"]))
        self.assertEqual({CONV: events[-1].position}, connected["heads"])
        self.assertEqual(list(range(6, 16)), self.numbers(viewer))
        self.publish(CONV, 2)
        self.assertEqual(list(range(6, 18)), self.numbers(viewer))
        self.assertEqual([], self.gaps(viewer))

    def test_the_id_of_a_frame_is_the_position(self) -> None:
        viewer = self.connect(CONV)
        [event] = self.publish(CONV)
        self.assertIn(f"id: {event.position}\n".encode(), viewer.stream.content)

    def test_one_that_has_missed_nothing_is_resumed_and_is_sent_nothing(self) -> None:
        events = self.store(CONV, 3)
        viewer = self.come_back(events[-1], CONV)
        [connected] = viewer.control("connected")
        self.assertEqual(([CONV], []), (connected["resumed"], connected["lost"]))
        self.assertEqual({CONV: events[-1].position}, connected["heads"])
        self.assertEqual(["connected"], self.kinds(viewer))

    def test_what_the_store_has_no_more_is_told_and_the_rest_is_sent(self) -> None:
        events = self.store(CONV, 30)
        viewer = self.come_back(events[0], CONV)
        [connected] = viewer.control("connected")
        self.assertEqual(([], [CONV]), (connected["resumed"], connected["lost"]))
        self.assertEqual(["connected", "gap"], self.kinds(viewer)[:2])
        self.assertEqual([None], self.gaps(viewer))
        self.assertEqual(list(range(11, 31)), self.numbers(viewer))

    def test_others_with_history_go_on_with_an_overlap_and_those_without_are_lost(self) -> None:
        self.store(OTHER)
        self.clock.advance(20)
        self.store(OTHER)
        self.clock.advance(3)
        [last] = self.store(CONV)
        self.clock.advance(3)
        self.store(OTHER)
        viewer = self.come_back(last, CONV, OTHER, LIKES)
        [connected] = viewer.control("connected")
        self.assertEqual([CONV, OTHER], connected["resumed"])
        self.assertEqual([LIKES], connected["lost"])
        self.assertEqual([2, 3], self.numbers(viewer, OTHER))
        self.assertEqual([{"lost": None, "topics": [LIKES]}], viewer.control("gap"))

    def test_each_position_that_a_page_tells_is_resumed_exactly(self) -> None:
        events, others = self.store(CONV, 4), self.store(OTHER, 4)
        resume = resume_of(
            last_event_id="",
            since=[events[1].position, others[2].position],
            rewind="",
            topics=2,
        )
        viewer = self.connect(CONV, OTHER, resume=resume)
        self.assertEqual([3, 4], self.numbers(viewer))
        self.assertEqual([4], self.numbers(viewer, OTHER))
        self.assertEqual([CONV, OTHER], viewer.control("connected")[0]["resumed"])

    def test_the_id_of_an_event_without_position_tells_the_time(self) -> None:
        self.store(CONV)
        self.clock.advance(20)
        self.store(CONV)
        at = round(1000 * (NOW + self.clock.seconds()))
        resume = resume_of(last_event_id=f"{at}-0-abcdef", since=[], rewind="", topics=1)
        viewer = self.connect(CONV, resume=resume)
        self.assertEqual([CONV], viewer.control("connected")[0]["resumed"])
        self.assertEqual([2], self.numbers(viewer))

    def test_an_id_that_tells_nothing_resumes_nothing(self) -> None:
        self.store(CONV)
        resume = resume_of(last_event_id="mine", since=[], rewind="", topics=1)
        viewer = self.connect(CONV, resume=resume)
        self.assertEqual([CONV], viewer.control("connected")[0]["lost"])
        self.assertEqual([], self.numbers(viewer))
        self.publish(CONV)
        self.assertEqual([2], self.numbers(viewer))

    def test_a_new_viewer_gets_the_last_events_if_it_asks_for_them(self) -> None:
        self.store(CONV, 9)
        self.store(OTHER, 2)
        resume = resume_of(last_event_id="", since=[], rewind="3", topics=3)
        viewer = self.connect(CONV, OTHER, LIKES, resume=resume)
        [connected] = viewer.control("connected")
        self.assertNotIn("lost", connected)
        self.assertNotIn("resumed", connected)
        self.assertEqual([7, 8, 9], self.numbers(viewer))
        self.assertEqual([1, 2], self.numbers(viewer, OTHER))
        self.assertEqual([], self.gaps(viewer))

    def test_many_that_come_back_to_one_place_are_served_by_one_reading(self) -> None:
        events = self.store(CONV, 5)
        self.connect(CONV)
        viewers = [self.come_back(events[1], CONV) for _ in range(50)]
        self.assertEqual(1, len(self.dispatchers.queries))
        for viewer in viewers:
            self.assertEqual([3, 4, 5], self.numbers(viewer))

    def test_what_comes_while_it_is_read_comes_once_and_in_order(self) -> None:
        events = self.store(CONV, 3)
        self.connect(CONV)
        waiting: list[Deferred[Any]] = []
        queries: list[Any] = []

        def later(asked: Sequence[HistoryQuery]) -> Deferred[Any]:
            queries.extend(asked)
            waiting.append(Deferred())
            return waiting[-1]

        self.patch(self.dispatchers, "history", later)
        viewer = self.come_back(events[0], CONV)
        self.assertEqual([], viewer.frames)
        self.publish(CONV, 2)
        self.dispatchers.histories.read(queries).chainDeferred(waiting[0])
        self.publish(CONV, 1)
        self.assertEqual([2, 3, 4, 5, 6], self.numbers(viewer))

    def test_within_events_that_were_posted_together_it_goes_on_exactly(self) -> None:
        slow = self.connect(CONV, room=10_000)
        slow.stream.room = 0
        self.publish(CONV)
        events = self.publish(CONV, 4)
        viewer = self.come_back(events[1], CONV)
        self.assertEqual([4, 5], self.numbers(viewer))

    def test_one_that_has_more_than_came_here_waits_for_it(self) -> None:
        """Its last frontend was faster than this one."""
        self.connect(CONV)
        events = self.store(CONV, 3)
        viewer = self.come_back(events[1], CONV)
        self.deliver(*events)
        self.publish(CONV)
        self.assertEqual([3, 4], self.numbers(viewer))

    def test_dispatchers_that_are_away_are_told_as_a_loss_after_a_while(self) -> None:
        events = self.store(CONV, 3)
        self.connect(CONV)
        self.dispatchers.away = True
        viewer = self.come_back(events[0], CONV)
        self.assertEqual([], viewer.frames)
        self.clock.pump([0.5] * 10)
        self.assertEqual([CONV], viewer.control("connected")[0]["lost"])
        self.assertEqual([None], self.gaps(viewer))
        self.publish(CONV)
        self.assertEqual([4], self.numbers(viewer))

    def test_one_that_leaves_meanwhile_harms_nobody(self) -> None:
        events = self.store(CONV, 3)
        self.connect(CONV)
        self.dispatchers.away = True
        viewer = self.come_back(events[0], CONV)
        viewer.stream.lose()
        self.dispatchers.away = False
        self.clock.pump([0.5] * 10)
        self.assertEqual([2, 3], self.numbers(self.come_back(events[0], CONV)))

    def test_without_histories_nothing_is_asked(self) -> None:
        self.frontend = new_frontend(self.clock, self.dispatchers, history=SETTINGS)
        announce = self.dispatchers.announce

        def without_heads(announcement: Any) -> Any:
            from msgspec.structs import replace

            return announce(announcement).addCallback(replace, heads=None)

        self.patch(self.dispatchers, "announce", without_heads)
        self.frontend.start("http://127.0.0.1:8081")
        self.turns()
        viewer = self.come_back(self.store(CONV)[0], CONV)
        self.assertEqual([CONV], viewer.control("connected")[0]["lost"])
        self.assertEqual([], self.dispatchers.queries)


class AskTests(SynchronousTestCase):
    """What a request says of where a viewer was."""

    def test_a_wrong_place_or_number_is_refused(self) -> None:
        for since, rewind in ((["x"], ""), ([""], ""), ([], "-1"), ([], "1001"), ([], "x")):
            with self.assertRaises(BadRequest):
                resume_of(last_event_id="", since=since, rewind=rewind, topics=1)

    def test_no_more_than_1000_are_sent_again_in_all(self) -> None:
        def rewind(text: str, topics: int) -> int:
            return resume_of(last_event_id="", since=[], rewind=text, topics=topics).rewind

        self.assertEqual(1000, rewind("1000", 1))
        self.assertEqual(100, rewind("1000", 10))
        self.assertEqual(7, rewind("7", 10))

    def test_the_header_wins(self) -> None:
        place, other = f"5-1-{'a' * 16}", f"6-1-{'b' * 16}"
        resume = resume_of(last_event_id=place, since=[other], rewind="3", topics=1)
        self.assertEqual((check_position(place),), resume.places)
        at = "1795417956000-3-abcdef"
        resume = resume_of(last_event_id=at, since=[other], rewind="", topics=1)
        self.assertEqual(((), 1795417956000), (resume.places, resume.at))

    def test_an_id_that_tells_nothing_does_not_win(self) -> None:
        other = f"6-1-{'b' * 16}"
        resume = resume_of(last_event_id="mine", since=[other], rewind="", topics=1)
        self.assertEqual((check_position(other),), resume.places)


class OrderTests(HistoriesTestCase):
    """Events get lost, or overtake each other."""

    def test_one_that_comes_too_early_waits_for_the_one_before_it(self) -> None:
        viewer = self.connect(CONV)
        first, second, third = self.store(CONV, 3)
        self.deliver(first, third)
        self.assertEqual([1], self.numbers(viewer))
        self.deliver(second)
        self.assertEqual([1, 2, 3], self.numbers(viewer))
        self.turns(1)
        self.assertEqual([], self.dispatchers.queries)

    def test_one_that_does_not_come_is_read(self) -> None:
        viewer = self.connect(CONV)
        first, _, _, fourth = self.store(CONV, 4)
        self.deliver(first, fourth)
        self.turns(0.01)
        self.assertEqual([1], self.numbers(viewer))
        self.turns(0.01)
        self.assertEqual([1, 2, 3, 4], self.numbers(viewer))
        self.assertEqual(1, len(self.dispatchers.queries))
        self.assertEqual(3, self.sample("history_repaired"))
        self.assertEqual([], self.gaps(viewer))

    def test_the_first_ones_are_read_too(self) -> None:
        viewer = self.connect(CONV)
        events = self.store(CONV, 2)
        self.deliver(events[1])
        self.turns(0.03)
        self.assertEqual([1, 2], self.numbers(viewer))

    def test_repeats_are_not_sent_again(self) -> None:
        viewer = self.connect(CONV)
        events = self.publish(CONV, 3)
        self.deliver(*events, events[0])
        self.assertEqual([1, 2, 3], self.numbers(viewer))

    def test_what_a_dispatcher_lost_on_the_way_is_read_and_no_gap_is_told(self) -> None:
        viewer = self.connect(CONV)
        self.publish(CONV)
        self.store(CONV, 2)
        self.deliver(Gap(topic=CONV, lost=2, stored=True))
        self.turns(0.03)
        self.assertEqual([1, 2, 3], self.numbers(viewer))
        self.assertEqual([], self.gaps(viewer))

    def test_what_never_came_to_this_datacenter_is_told(self) -> None:
        viewer = self.connect(CONV)
        self.publish(CONV)
        self.deliver(Gap(topic=CONV, lost=2))
        self.assertEqual([2], self.gaps(viewer))

    def test_a_renewal_tells_of_an_event_after_which_none_came(self) -> None:
        viewer = self.connect(CONV)
        self.publish(CONV)
        self.store(CONV)
        self.clock.pump([1] * 320)
        self.assertEqual([1, 2], self.numbers(viewer))

    def test_what_cannot_be_read_is_told_exactly_after_a_while(self) -> None:
        viewer = self.connect(CONV)
        self.publish(CONV)
        lost_and_next = self.store(CONV, 4)
        self.dispatchers.away = True
        self.deliver(lost_and_next[-1])
        self.clock.pump([0.5] * 4)
        self.assertEqual([1], self.numbers(viewer))
        self.clock.pump([0.5] * 6)
        self.assertEqual([1, 5], self.numbers(viewer))
        self.assertEqual([3], self.gaps(viewer))
        self.assertEqual(1, self.sample("history_given_up"))
        self.publish(CONV)
        self.assertEqual([1, 5, 6], self.numbers(viewer))

    def test_what_was_dropped_before_it_could_be_read_is_told_exactly(self) -> None:
        viewer = self.connect(CONV)
        self.publish(CONV)
        self.deliver(self.store(CONV, 29)[-1])
        self.turns(0.03)
        self.clock.pump([0.01] * 20)
        self.assertEqual([1, *range(11, 31)], self.numbers(viewer))
        self.assertEqual([9], self.gaps(viewer))

    def test_a_store_that_begins_anew_is_told_as_a_loss(self) -> None:
        viewer = self.connect(CONV)
        self.publish(CONV, 3)
        self.clock.advance(1)
        other = Dispatchers(self.clock)
        self.dispatchers.histories = other.histories
        self.deliver(*self.store(CONV, 2))
        self.clock.pump([0.01] * 20)
        self.assertEqual([1, 2, 3, 1, 2], self.numbers(viewer))
        self.assertEqual([None], self.gaps(viewer))
        self.publish(CONV)
        self.assertEqual([1, 2, 3, 1, 2, 3], self.numbers(viewer))

    def test_events_of_dispatchers_that_do_not_store_them_yet_are_sent_too(self) -> None:
        viewer = self.connect(CONV)
        self.publish(CONV)
        self.deliver(new_event("unstored", CONV))
        self.publish(CONV, 2)
        ids = [data["id"] for name, data in viewer.frames if name == "message"]
        self.assertEqual(["e1", "unstored", "e2", "e3"], ids)
        self.assertEqual([], self.gaps(viewer))

    def test_a_topic_whose_viewers_came_and_went_is_known_again(self) -> None:
        first = self.connect(CONV)
        self.publish(CONV, 2)
        second = Viewer(self.frontend, self.clock, LIKES)
        self.turns()
        change = TopicsChange(add=(CONV,), remove=())
        first.stream.lose()
        subscribed = self.frontend.subscribe(second.id, change)
        self.turns()
        self.successResultOf(subscribed)
        self.store(CONV)
        self.deliver(*self.store(CONV))
        self.turns(0.03)
        self.assertEqual([3, 4], self.numbers(second))


class OverflowTests(HistoriesTestCase):
    """A viewer reads too slowly."""

    def setUp(self) -> None:
        super().setUp()
        self.use(mailbox_events=4)

    def read(self, viewer: Viewer) -> None:
        for _ in range(20):
            viewer.stream.read(1 << 20)
            self.turns(0.01)

    def blocked(self, *topics: Topic) -> Viewer:
        viewer = self.connect(*topics)
        viewer.stream.room = 0
        return viewer

    def test_it_is_sent_from_the_history_what_its_feed_has_dropped(self) -> None:
        viewer, other = self.blocked(CONV), self.connect(CONV)
        for _ in range(15):
            self.publish(CONV)
        self.read(viewer)
        self.publish(CONV)
        self.assertEqual(list(range(1, 17)), self.numbers(viewer))
        self.assertEqual(list(range(1, 17)), self.numbers(other))
        self.assertEqual([], self.gaps(viewer))
        self.assertEqual(0, self.frontend.losses()["events (mailbox_full)"])

    def test_what_the_history_has_no_more_is_told_exactly(self) -> None:
        viewer = self.blocked(CONV)
        for _ in range(30):
            self.publish(CONV)
        self.read(viewer)
        self.assertEqual([1, *range(11, 31)], self.numbers(viewer))
        self.assertEqual([9], self.gaps(viewer))
        self.assertEqual(9, self.frontend.losses()["events (not_kept)"])

    def test_other_topics_of_its_stream_go_on(self) -> None:
        viewer = self.blocked(CONV, LIKES)
        for number in range(12):
            self.publish(CONV)
            self.deliver(new_event(f"l{number}", LIKES))
        self.read(viewer)
        self.assertEqual(list(range(1, 13)), self.numbers(viewer))
        [gap] = viewer.control("gap")
        self.assertEqual([LIKES], gap["topics"])

    def test_one_that_cannot_be_caught_up_is_told(self) -> None:
        viewer = self.blocked(CONV)
        for _ in range(12):
            self.publish(CONV)
        self.dispatchers.away = True
        self.read(viewer)
        self.clock.pump([0.5] * 12)
        self.assertEqual([1, 9, 10, 11, 12], self.numbers(viewer))
        self.assertEqual([None], self.gaps(viewer))

    def test_one_that_leaves_the_topic_while_it_is_read_gets_no_more_of_it(self) -> None:
        viewer = self.blocked(CONV, LIKES)
        for _ in range(12):
            self.publish(CONV)
        self.dispatchers.away = True
        viewer.stream.read(1 << 20)
        self.turns(0.01)
        for change in (TopicsChange(add=(), remove=(CONV,)), TopicsChange(add=(CONV,), remove=())):
            subscribed = self.frontend.subscribe(viewer.id, change)
        self.assertNoResult(subscribed)
        self.clock.pump([0.5] * 5)
        self.assertEqual((CONV,), self.successResultOf(subscribed).pending)
        self.dispatchers.away = False
        self.clock.pump([0.5] * 12)
        self.publish(CONV)
        self.assertEqual([1, 13], self.numbers(viewer))

    def test_it_is_not_closed_for_that(self) -> None:
        viewer = self.blocked(CONV)
        for _ in range(12):
            self.publish(CONV)
        owner = viewer.stream.owner
        assert isinstance(owner, Connection)
        self.assertFalse(owner.is_ending)

    def test_one_that_is_asked_to_end_ends_with_what_the_feed_has(self) -> None:
        viewer = self.blocked(CONV)
        for _ in range(12):
            self.publish(CONV)
        drained = self.frontend.drain(5)
        self.read(viewer)
        self.clock.pump([0.5] * 12)
        self.successResultOf(drained)
        self.assertEqual("busy", self.kinds(viewer)[-1])
        self.assertEqual(self.numbers(viewer), sorted(set(self.numbers(viewer))))


class ReadHistoryTests(HistoriesTestCase):
    def test_a_viewer_reads_what_it_may_watch(self) -> None:
        self.store(CONV, 3)
        query = HistoryQuery(topic=CONV, before=END, limit=2)
        reading = Deferred.fromCoroutine(self.frontend.read_history(query, None))
        page = self.successResultOf(reading)
        assert page is not None
        self.assertEqual(["e2", "e3"], [event.id for event in page.events])

    def test_a_topic_that_it_may_not_watch_is_refused(self) -> None:
        self.use(public_topics=patterns(["live:*"]))
        query = HistoryQuery(topic=CONV, before=END, limit=2)
        reading = Deferred.fromCoroutine(self.frontend.read_history(query, None))
        self.failureResultOf(reading, Forbidden)
        self.assertEqual([], self.dispatchers.queries)

    def test_dispatchers_that_are_away_are_told(self) -> None:
        self.dispatchers.away = True
        query = HistoryQuery(topic=CONV, before=END, limit=2)
        reading = Deferred.fromCoroutine(self.frontend.read_history(query, None))
        self.failureResultOf(reading, Unavailable)
