"""The contract of IHistory, for every implementation."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from rtdeliver.config.sections import History, HistoryClass
from rtdeliver.interfaces import IHistory
from rtdeliver.messages import END, LOST_UNKNOWN, Entry, HistoryPage, HistoryQuery, Stored
from rtdeliver.model import BEGINNING, Event, Place, Topic, check_position, topic_tag
from rtdeliver.wire import Draft, encode_event, kept_event, without_position
from tests.contracts.contract import Contract

RED, GREEN = Topic("conv:red \u2603"), Topic("conv:green")
BRIEF = Topic("brief:blue")
LIKES = Topic("live:red")
SETTINGS = History(
    topics={
        "conv:*": HistoryClass(events=20, seconds=1000),
        "brief:*": HistoryClass(events=5, seconds=10),
    },
    overlap_seconds=3,
    claim_seconds=4,
    page_events=10,
    page_bytes=2000,
)
LONG_AGO = 100_000


def event(number: int | str, topic: Topic = RED, data: bytes = b"null") -> Event:
    """Return an event as a dispatcher would store it."""
    draft = Draft(topic=topic, type="comment", data=data, id=None)
    return encode_event(draft, id=f"e{number}", at=1_795_417_000_000)


def entries(*numbers: int, topic: Topic = RED, may_repeat: bool = False) -> list[Entry]:
    """Return what is stored of events with these numbers."""
    return [Entry(event=event(number, topic), may_repeat=may_repeat) for number in numbers]


def ids(events: Sequence[Event]) -> list[int]:
    """Return the numbers that the events were made with."""
    return [int(each.id[1:]) for each in events]


class HistoryContract(Contract):
    """To be mixed into a test case, which says how a history is made and how time passes."""

    interface = IHistory
    history: IHistory
    stores = 1
    """How many there are that each have a bound for themselves."""

    def make_history(self) -> IHistory:
        """Return an empty history with `SETTINGS`, which began more than `LONG_AGO` ago."""
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Let so much time pass. Places that were read before must not be used any more."""
        raise NotImplementedError

    def now(self) -> int:
        """Return the time by the clock of the store, in milliseconds since the epoch."""
        raise NotImplementedError

    def get(self, deferred: Deferred[Any]) -> Any:
        """Return what ``deferred`` fires with, or raise what it fails with."""
        raise NotImplementedError

    def subject(self) -> IHistory:
        return self.history

    def setUp(self) -> None:
        self.history = self.make_history()

    def append(self, *numbers: int, topic: Topic = RED, may_repeat: bool = False) -> list[Place]:
        return places(self.store(*entries(*numbers, topic=topic, may_repeat=may_repeat)))

    def store(self, *entries: Entry) -> list[Stored]:
        return list(self.get(self.history.append(entries)))

    def read(self, topic: Topic = RED, limit: int = 100, **asked: Any) -> HistoryPage:
        page = self.get(self.history.read([HistoryQuery(topic=topic, limit=limit, **asked)]))[0]
        assert isinstance(page, HistoryPage)
        return page

    def lost_since(self, at: int, topic: Topic = RED) -> tuple[int, list[int]]:
        page = self.read(topic, at=at)
        return page.lost, ids(page.events)

    # What is stored.

    def test_events_are_numbered_and_read_in_the_order_in_which_they_were_stored(self) -> None:
        first = self.append(1, 2)
        second = self.append(3)
        assert [place.number for place in first + second] == [1, 2, 3]
        assert {place.tag for place in first + second} == {first[0].tag}
        assert all(place.is_of(RED) and not place.is_of(GREEN) for place in first + second)
        assert first[0].at <= first[1].at <= second[0].at <= self.now()
        page = self.read()
        assert [str(place) for place in first + second] == [e.position for e in page.events]
        assert page.start.number == 0
        assert page.head == second[0]
        assert page.last == 3
        assert page.lost == 0

    def test_an_event_is_read_as_it_was_stored_but_for_its_position(self) -> None:
        data = '{"text":"\u2603 \\u0000 \\" 1.0"}'.encode()
        [stored] = self.store(Entry(event=event(1, data=data), may_repeat=False))
        [read] = self.read().events
        assert read == stored.event
        assert read.line.endswith(b',"position":"%b"}' % read.position.encode())
        assert without_position(read) == event(1, data=data)
        assert kept_event(RED, event(1).line) == event(1)

    def test_topics_have_orders_of_their_own_in_one_call(self) -> None:
        mixed = [*entries(1), *entries(2, topic=GREEN), *entries(3), *entries(4, topic=GREEN)]
        stored = self.store(*mixed)
        assert [each.event.id for each in stored] == ["e1", "e2", "e3", "e4"]
        assert [place.number for place in places(stored)] == [1, 1, 2, 2]
        assert ids(self.read(RED).events) == [1, 3]
        assert ids(self.read(GREEN).events) == [2, 4]

    def test_many_events_at_once(self) -> None:
        stored = self.append(*range(1200))
        assert [place.number for place in stored] == list(range(1, 1201))
        assert ids(self.read(rewind=3).events) == [1197, 1198, 1199]

    def test_what_is_stored_is_bounded_by_count(self) -> None:
        self.append(*range(1, 31))
        page = self.read()
        assert ids(page.events) == list(range(11, 21))
        assert (page.start.number, page.head.number) == (10, 30)

    def test_what_is_stored_is_bounded_by_age(self) -> None:
        self.append(1, 2, topic=BRIEF)
        self.advance(6)
        self.append(3, topic=BRIEF)
        self.advance(6)
        assert ids(self.read(BRIEF).events) == [3]
        self.append(4, topic=BRIEF)
        assert ids(self.read(BRIEF).events) == [3, 4]
        self.advance(11)
        page = self.read(BRIEF)
        assert page.events == ()
        assert page.head.number == page.start.number == 4
        assert self.append(5, topic=BRIEF)[0].number == 5

    def test_an_id_that_may_repeat_is_stored_once(self) -> None:
        first = self.store(*entries(1, may_repeat=True))
        again = self.store(*entries(2, may_repeat=True), *entries(1, may_repeat=True))
        assert [each.repeated for each in first + again] == [False, False, True]
        assert again[1].event == first[0].event
        assert ids(self.read().events) == [1, 2]

    def test_an_id_is_repeated_in_its_own_topic_only(self) -> None:
        self.append(1, may_repeat=True)
        assert not self.store(*entries(1, topic=GREEN, may_repeat=True))[0].repeated

    def test_an_id_is_repeated_within_one_call_too(self) -> None:
        stored = self.store(*entries(1, 1, 1, may_repeat=True))
        assert [each.repeated for each in stored] == [False, True, True]
        assert len({each.event.position for each in stored}) == 1

    def test_the_id_of_an_event_that_is_not_kept_any_more_is_stored_again(self) -> None:
        self.append(1, may_repeat=True)
        self.append(*range(2, 22))
        assert not self.store(*entries(1, may_repeat=True))[0].repeated
        assert ids(self.read(rewind=2).events) == [21, 1]

    def test_the_repeated_event_is_the_one_that_was_stored(self) -> None:
        self.store(Entry(event=event(1, data=b'"first"'), may_repeat=True))
        [again] = self.store(Entry(event=event(1, data=b'"second"'), may_repeat=True))
        assert b'"first"' in again.event.line

    # What is read.

    def test_a_topic_without_history_has_no_page(self) -> None:
        queries = [HistoryQuery(topic=topic, limit=5) for topic in (LIKES, RED, LIKES)]
        none, page, none_either = self.get(self.history.read(queries))
        assert none is None
        assert none_either is None
        assert page == HistoryPage(events=(), start=BEGINNING, head=BEGINNING)

    def test_pages_follow_each_other_both_ways(self) -> None:
        self.append(*range(1, 21))
        forward = self.read(limit=6)
        assert ids(forward.events) == [1, 2, 3, 4, 5, 6]
        last = check_position(forward.events[-1].position)
        following = self.read(since=last, limit=6)
        assert ids(following.events) == [7, 8, 9, 10, 11, 12]
        assert following.start == last
        first = check_position(following.events[0].position)
        assert ids(self.read(before=first, limit=4).events) == [3, 4, 5, 6]
        assert ids(self.read(before=last, limit=100).events) == [1, 2, 3, 4, 5]
        newest = self.read(before=END, limit=3)
        assert ids(newest.events) == [18, 19, 20]
        assert newest.start.number == 17
        oldest = check_position(forward.events[0].position)
        assert self.read(before=oldest, limit=4).events == ()

    def test_a_page_is_bounded_by_events_and_by_bytes(self) -> None:
        self.append(*range(1, 21))
        assert ids(self.read().events) == list(range(1, 11))
        large = b'"%b"' % (b"x" * 900)
        self.store(
            *(Entry(event=event(n, GREEN, large), may_repeat=False) for n in range(1, 4)),
            Entry(event=event(4, GREEN, b'"%b"' % (b"x" * 5000)), may_repeat=False),
        )
        page = self.read(GREEN)
        assert ids(page.events) == [1, 2]
        assert page.last == 2
        assert page.head.number == 4
        assert ids(self.read(GREEN, since=place_of(page.events[-1])).events) == [3]
        assert ids(self.read(GREEN, rewind=1).events) == [4], "a single event always fits"
        assert ids(self.read(GREEN, before=END).events) == [4]
        last = place_of(self.read(GREEN, rewind=1).events[0])
        assert ids(self.read(GREEN, before=last).events) == [2, 3]

    def test_the_last_events(self) -> None:
        assert self.read(rewind=5).events == ()
        self.append(*range(1, 8))
        assert ids(self.read(rewind=3).events) == [5, 6, 7]
        assert ids(self.read(rewind=100).events) == [1, 2, 3, 4, 5, 6, 7]
        assert self.read(rewind=0).events == ()

    def test_after_a_place_of_the_topic_it_goes_on_exactly(self) -> None:
        stored = self.append(*range(1, 8))
        page = self.read(since=stored[4])
        assert (page.lost, ids(page.events), page.start) == (0, [6, 7], stored[4])
        page = self.read(since=stored[6])
        assert (page.lost, page.events, page.start) == (0, (), stored[6])

    def test_what_is_not_kept_any_more_is_told_exactly(self) -> None:
        stored = self.append(*range(1, 4))
        self.append(*range(4, 31))
        page = self.read(since=stored[1])
        assert (page.lost, page.start.number, ids(page.events)[0]) == (8, 10, 11)

    def test_a_place_that_was_never_reached_is_told(self) -> None:
        [place] = self.append(1)
        page = self.read(since=Place(place.at, 7, place.tag))
        assert (page.lost, page.events, page.start) == (LOST_UNKNOWN, (), place)

    def test_a_place_of_another_history_of_the_topic_is_told_if_that_was_before(self) -> None:
        self.append(1, 2)
        other = Place(self.now() - 60_000, 40, topic_tag(RED) + "0" * 8)
        page = self.read(since=other)
        assert (page.lost, ids(page.events)) == (LOST_UNKNOWN, [1, 2])

    def test_a_place_of_a_topic_of_which_nothing_is_known_is_told(self) -> None:
        [place] = self.append(1)
        gone = Place(place.at, 4, topic_tag(GREEN) + "0" * 8)
        page = self.read(GREEN, since=gone)
        assert (page.lost, page.events) == (LOST_UNKNOWN, ())

    def test_after_a_place_of_another_topic_it_goes_on_with_an_overlap(self) -> None:
        self.append(1)
        self.advance(10)
        self.append(2)
        self.advance(2)
        self.append(3)
        self.advance(2)
        [elsewhere] = self.append(4, topic=GREEN)
        page = self.read(since=elsewhere)
        assert (page.lost, ids(page.events)) == (0, [3])
        assert page.start.number == 2

    def test_since_a_time_it_goes_on_with_an_overlap(self) -> None:
        self.append(1)
        self.advance(10)
        self.append(2)
        self.advance(10)
        assert self.lost_since(self.now()) == (0, [])
        assert self.lost_since(self.now() - 8_000) == (0, [2])
        assert self.lost_since(self.now() - 18_000) == (0, [1, 2])
        assert self.lost_since(self.now() - 5_000_000) == (0, [1, 2])

    def test_a_time_before_the_store_began_is_told(self) -> None:
        self.append(1)
        assert self.lost_since(1) == (LOST_UNKNOWN, [1])
        assert self.lost_since(1, GREEN) == (LOST_UNKNOWN, [])

    def test_a_time_since_which_events_were_dropped_is_told(self) -> None:
        self.append(*range(1, 6), topic=BRIEF)
        self.advance(4)
        self.append(*range(6, 10), topic=BRIEF)
        self.advance(4)
        assert self.lost_since(self.now(), BRIEF) == (0, [])
        assert self.lost_since(self.now() - 1_500, BRIEF) == (0, [6, 7, 8, 9])
        assert self.lost_since(self.now() - 6_000, BRIEF) == (LOST_UNKNOWN, [5, 6, 7, 8, 9])
        self.advance(20)
        assert self.lost_since(self.now() - 2_000, BRIEF) == (0, [])
        assert self.lost_since(self.now() - 30_000, BRIEF) == (LOST_UNKNOWN, [])

    def test_nothing_is_lost_of_a_quiet_topic(self) -> None:
        """Its events are too old, but it is known that there were none after them."""
        self.append(1, 2, topic=BRIEF)
        self.advance(600)
        page = self.read(BRIEF, since=self.read(BRIEF).head)
        assert (page.lost, page.events, page.start.number) == (0, (), 2)
        assert self.lost_since(self.now() - 300_000, BRIEF) == (0, [])
        assert self.lost_since(self.now() - 300_000, Topic("brief:none")) == (0, [])

    def test_a_topic_that_begins_later_has_lost_nothing_before(self) -> None:
        self.advance(50)
        self.append(1, topic=BRIEF)
        assert self.lost_since(self.now() - 20_000, BRIEF) == (0, [1])
        assert self.lost_since(self.now() - 60_000, BRIEF) == (0, [1])

    def test_heads_are_told_of_topics_with_history(self) -> None:
        [_, last] = self.append(1, 2)
        heads = self.get(self.history.heads([RED, LIKES, GREEN]))
        assert heads == {RED: last, GREEN: BEGINNING}
        assert self.get(self.history.heads([])) == {}

    # Claims.

    def overdue(self, limit: int = 100) -> list[int]:
        return ids([each.event for each in self.get(self.history.overdue(limit))])

    def test_an_event_is_given_to_another_caller_if_the_first_one_dies(self) -> None:
        self.append(1, 2)
        assert self.overdue() == []
        self.advance(4.1)
        assert self.overdue() == [1, 2]
        assert self.overdue() == [], "they have been given to somebody"
        self.advance(4.1)
        assert self.overdue() == [1, 2]

    def test_what_is_delivered_is_not_given_to_anybody(self) -> None:
        stored = self.store(*entries(1, 2, 3))
        self.get(self.history.mark_delivered(stored[:2]))
        self.get(self.history.mark_delivered(stored[:2]))
        self.get(self.history.mark_delivered([]))
        self.advance(4.1)
        overdue = self.get(self.history.overdue(100))
        assert ids([each.event for each in overdue]) == [3]
        self.get(self.history.mark_delivered(overdue))
        self.advance(4.1)
        assert self.overdue() == []

    def test_who_is_sent_an_event_is_remembered(self) -> None:
        self.store(
            Entry(event=event(1), may_repeat=False, is_own=True),
            Entry(event=event(2), may_repeat=True, is_own=False),
        )
        self.advance(4.1)
        overdue = self.get(self.history.overdue(100))
        assert {each.event.id: each.is_own for each in overdue} == {"e1": True, "e2": False}

    def test_overdue_events_come_in_order_and_not_too_many(self) -> None:
        self.append(*range(1, 16))
        self.append(*range(1, 6), topic=GREEN)
        self.advance(4.1)
        found: list[tuple[Topic, int]] = []
        for _ in range(3):
            some = self.get(self.history.overdue(8))
            assert len(some) <= 8 * self.stores
            found += [(each.event.topic, int(each.event.id[1:])) for each in some]
        assert sorted(n for topic, n in found if topic == RED) == list(range(1, 16))
        assert sorted(n for topic, n in found if topic == GREEN) == list(range(1, 6))
        assert self.overdue() == []

    def test_what_is_not_kept_any_more_is_not_given_to_anybody(self) -> None:
        self.append(*range(1, 26))
        self.advance(4.1)
        found = sorted(self.overdue() + self.overdue())
        assert found == list(range(6, 26))

    # Clearing.

    def test_a_topic_can_be_cleared(self) -> None:
        stored = self.append(1, 2, 3, may_repeat=True)
        self.append(4, topic=GREEN)
        assert self.get(self.history.clear(RED)) == 3
        assert self.get(self.history.clear(RED)) == 0
        assert self.read().events == ()
        assert ids(self.read(GREEN).events) == [4]
        page = self.read(since=stored[0])
        assert (page.lost, page.start.number) == (2, 3)
        again = self.store(*entries(1, may_repeat=True))
        assert not again[0].repeated
        assert places(again)[0].number == 4

    def test_a_topic_of_which_nothing_is_stored_can_be_cleared(self) -> None:
        assert self.get(self.history.clear(RED)) == 0
        assert self.get(self.history.clear(LIKES)) == 0


def places(stored: Sequence[Stored]) -> list[Place]:
    """Return the places of stored events."""
    return [place_of(each.event) for each in stored]


def place_of(event: Event) -> Place:
    """Return the place of an event that is stored."""
    return check_position(event.position)
