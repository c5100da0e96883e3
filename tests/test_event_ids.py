"""Tests of rtdeliver.event_ids."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.event_ids import EventIds, time_of
from rtdeliver.model import check_event_id


class EventIdsTests(SynchronousTestCase):
    """Ids are unique and grow."""

    def test_ids_are_valid_and_begin_with_the_time(self) -> None:
        clock = Clock()
        clock.advance(1_795_417_956.553)
        made = EventIds(now=clock.seconds).next()
        self.assertEqual(made, check_event_id(made))
        self.assertTrue(made.startswith("1795417956553-0-"), made)

    def test_two_processes_make_different_ids(self) -> None:
        clock = Clock()
        self.assertNotEqual(EventIds(now=clock.seconds).next(), EventIds(now=clock.seconds).next())

    @settings(deadline=None)
    @given(st.lists(st.sampled_from([-3600.0, -1.0, -0.001, 0.0, 0.0, 0.0004, 0.001, 5.0])))
    def test_ids_grow_even_when_the_clock_is_set_back(self, changes: list[float]) -> None:
        clock = Clock()
        clock.rightNow = 1_795_417_956.0
        made = EventIds(now=clock.seconds)
        ids = [made.next()]
        for change in changes:
            clock.rightNow += change
            ids.append(made.next())
        places = [tuple(map(int, id.split("-")[:2])) for id in ids]
        self.assertEqual(sorted(set(places)), places)


class TimeOfTests(SynchronousTestCase):
    def test_an_id_that_was_made_here_tells_when(self) -> None:
        ids = EventIds(now=lambda: 1_795_417_956.553)
        self.assertEqual(1_795_417_956_553, time_of(ids.next()))

    def test_others_tell_nothing(self) -> None:
        for text in ("", "mine", "1795417956553-0", "1795417956553-0-ABCDEF", "x-0-abcdef"):
            self.assertIsNone(time_of(text))
