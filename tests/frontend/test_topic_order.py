"""Tests of rtdeliver.frontend.topic_order."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.frontend.topic_order import TopicOrder
from rtdeliver.messages import LOST_UNKNOWN, HistoryPage
from rtdeliver.model import BEGINNING, Event, Place, Topic, topic_tag

CONV = Topic("conv:1")
OLD, NEW = (topic_tag(CONV) + epoch * 8 for epoch in "ab")


def place(number: int, tag: str = OLD) -> Place:
    """Return a place; the new epoch begins after all events of the old one."""
    return Place((1000 if tag == OLD else 2000) + number, number, tag)


def event(number: int, tag: str = OLD) -> Event:
    position = str(place(number, tag))
    return Event(topic=CONV, id=f"e{number}", line=b"{}", position=position)


def page(start: int, last: int, head: int, tag: str = OLD, lost: int = 0) -> HistoryPage:
    return HistoryPage(
        events=tuple(event(number, tag) for number in range(start + 1, last + 1)),
        start=place(start, tag),
        head=place(head, tag),
        lost=lost,
    )


def ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


class TopicOrderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.order = TopicOrder(place(5), 100)

    def admit(self, *numbers: int, tag: str = OLD) -> list[str]:
        return ids([e for number in numbers for e in self.order.admit(event(number, tag))])

    def test_each_comes_once_and_after_the_one_before_it(self) -> None:
        self.assertEqual([], self.admit(3, 5))
        self.assertEqual(["e6"], self.admit(6, 6))
        self.assertEqual([], self.admit(9, 8))
        self.assertTrue(self.order.is_behind)
        self.assertEqual(["e7", "e8", "e9"], self.admit(7))
        self.assertFalse(self.order.is_behind)
        self.assertEqual((104, place(9)), (self.order.position, self.order.last))

    def test_a_page_fills_the_hole(self) -> None:
        self.admit(9)
        self.assertEqual(["e6", "e7", "e8", "e9"], ids(self.order.take(page(5, 8, 9))))
        self.assertEqual(104, self.order.position)
        self.assertFalse(self.order.is_behind)

    def test_a_page_that_was_read_earlier_changes_nothing(self) -> None:
        self.admit(6, 7)
        self.assertEqual([], ids(self.order.take(page(5, 6, 6))))
        self.assertEqual(102, self.order.position)

    def test_a_page_may_not_be_the_last_one(self) -> None:
        self.order.note_head(place(20))
        self.assertEqual(["e6", "e7"], ids(self.order.take(page(5, 7, 20))))
        self.assertTrue(self.order.is_behind)

    def test_what_is_not_kept_is_left_out(self) -> None:
        self.admit(20)
        self.assertEqual(["e11", "e12"], ids(self.order.take(page(10, 12, 20, lost=5))))
        self.assertEqual(107, self.order.position)
        self.assertEqual(place(5), self.order.place_at(100))
        self.assertEqual(107, self.order.position_of(place(12)))

    def test_nothing_is_known_of_a_topic_before_its_first_event(self) -> None:
        self.order = TopicOrder(BEGINNING, 0)
        self.assertEqual([], self.admit(3))
        self.assertTrue(self.order.is_behind)
        self.assertEqual(["e1"], self.admit(1))
        self.assertEqual(["e2", "e3"], self.admit(2))
        self.assertFalse(self.order.is_behind)

    def test_what_was_dropped_since_the_beginning_is_counted(self) -> None:
        self.order = TopicOrder(BEGINNING, 0)
        self.admit(9)
        self.assertEqual(["e8", "e9"], ids(self.order.take(page(7, 9, 9))))
        self.assertEqual(9, self.order.position)

    def test_another_epoch_goes_on_if_nothing_is_lost(self) -> None:
        self.assertEqual([], self.admit(7, tag=NEW))
        self.assertTrue(self.order.is_behind)
        self.assertEqual(["e6", "e7"], ids(self.order.take(page(5, 7, 7, NEW))))
        self.assertEqual(102, self.order.position)
        self.assertEqual([], self.admit(5, 6), "the old ones may come late")
        self.assertFalse(self.order.is_behind)
        self.assertEqual(place(5, NEW), self.order.place_at(100))
        self.assertEqual(101, self.order.position_of(place(6, NEW)))

    def test_another_epoch_may_begin_with_a_loss(self) -> None:
        self.admit(1, tag=NEW)
        events = self.order.take(page(0, 2, 2, NEW, LOST_UNKNOWN))
        self.assertEqual(["e1", "e2"], ids(events))
        self.assertEqual(103, self.order.position, "the unknown number counts as one")
        self.assertEqual(101, self.order.position_of(place(0, NEW)))

    def test_a_store_that_has_nothing_any_more_is_waited_for(self) -> None:
        self.order.note_lost()
        self.assertTrue(self.order.is_behind)
        empty = HistoryPage(events=(), start=BEGINNING, head=BEGINNING, lost=LOST_UNKNOWN)
        self.assertEqual([], self.order.take(empty))
        self.assertFalse(self.order.is_behind)

    def test_what_cannot_be_read_is_given_up(self) -> None:
        self.admit(9, 10)
        self.assertEqual(["e9", "e10"], ids(self.order.give_up()))
        self.assertEqual((105, 103), (self.order.position, self.order.unreadable_until))

    def test_another_epoch_that_cannot_be_read_is_entered_all_the_same(self) -> None:
        self.admit(4, tag=NEW)
        self.assertEqual(["e4"], ids(self.order.give_up()))
        self.assertEqual((102, 101), (self.order.position, self.order.unreadable_until))
        self.assertEqual(["e5"], self.admit(5, tag=NEW))

    def test_an_event_of_an_epoch_that_is_over_is_late(self) -> None:
        self.order = TopicOrder(place(2, NEW), 50)
        self.assertEqual([], self.admit(9))
        self.assertFalse(self.order.is_behind)
        self.assertEqual([], self.order.give_up())
        self.assertEqual(["e3"], self.admit(3, tag=NEW))

    def test_it_comes_back_to_an_epoch_that_goes_on(self) -> None:
        self.admit(4, tag=NEW)
        self.order.give_up()
        late = Event(topic=CONV, id="e9", line=b"{}", position=str(Place(3000, 9, OLD)))
        self.assertEqual([], self.order.admit(late))
        self.assertTrue(self.order.is_behind)
        back = HistoryPage(
            events=(late,), start=Place(2999, 8, OLD), head=Place(3000, 9, OLD), lost=LOST_UNKNOWN
        )
        self.assertEqual(["e9"], ids(self.order.take(back)))
        self.assertEqual(104, self.order.position)
        self.assertEqual(103, self.order.position_of(Place(2999, 8, OLD)))

    def test_events_that_are_not_stored_move_positions(self) -> None:
        self.admit(6)
        self.order.insert(2)
        self.admit(7)
        self.assertEqual(104, self.order.position)
        found = self.order.place_at(104)
        assert found is not None
        self.assertEqual(7, found.number)

    def test_no_more_than_a_thousand_wait(self) -> None:
        self.assertEqual([], self.admit(*range(7, 2007)))
        self.assertEqual(1001, len(self.admit(6)))
        self.assertTrue(self.order.is_behind)

    @settings(max_examples=200)
    @given(st.data())
    def test_whatever_is_lost_and_overtaken_all_come_in_order(self, data: st.DataObject) -> None:
        order = TopicOrder(place(0), 0)
        stored = data.draw(st.integers(1, 30))
        numbers = list(range(1, stored + 1))
        came: list[Event] = []
        for number in data.draw(st.lists(st.sampled_from(numbers), max_size=60)):
            came += order.admit(event(number))
        order.note_head(place(stored))
        while order.is_behind:
            last = order.last.number
            size = data.draw(st.integers(1, 7))
            came += order.take(page(last, min(last + size, stored), stored))
        self.assertEqual([f"e{number}" for number in numbers], ids(came))
        self.assertEqual(stored, order.position)
