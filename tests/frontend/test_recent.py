"""Tests of rtdeliver.frontend.recent."""

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Viewers
from rtdeliver.frontend.recent import RecentEvents
from rtdeliver.model import Event, Topic

SECONDS = 10.0
ROOM = 8
MANY = 101_000


def event(id: str, topic: str = "live:red") -> Event:
    return Event(topic=Topic(topic), id=id, line=b"{}")


def new_recent(clock: Clock, events: int = 1_000_000) -> RecentEvents:
    return RecentEvents(settings=Viewers(recent_events=events, recent_seconds=SECONDS), clock=clock)


class RecentEventsTests(SynchronousTestCase):
    """What is remembered, and how long."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.recent = new_recent(self.clock)

    def test_an_event_is_seen_the_second_time(self) -> None:
        self.assertFalse(self.recent.seen(event("1")))
        self.assertTrue(self.recent.seen(event("1")))
        self.assertTrue(self.recent.seen(event("1")))

    def test_the_same_id_of_another_topic_is_another_event(self) -> None:
        self.recent.seen(event("1"))
        self.assertFalse(self.recent.seen(event("1", "live:green")))

    def test_topic_and_id_are_not_run_together(self) -> None:
        self.recent.seen(event("1", "a1"))
        self.assertFalse(self.recent.seen(event("11", "a")))

    def test_many_other_events_make_it_forget_nothing(self) -> None:
        self.recent.seen(event("first"))
        for number in range(MANY):
            self.recent.seen(event(str(number)))
        self.clock.advance(SECONDS - 1)
        self.assertTrue(self.recent.seen(event("first")))
        self.assertEqual((MANY + 1, 0), (len(self.recent), self.recent.forgotten))

    def test_it_forgets_after_twice_the_time(self) -> None:
        self.recent.seen(event("1"))
        self.clock.advance(SECONDS)
        self.assertTrue(self.recent.seen(event("1")))
        self.clock.advance(SECONDS)
        self.assertFalse(self.recent.seen(event("1")))

    def test_it_forgets_also_while_nothing_comes(self) -> None:
        self.recent.seen(event("1"))
        self.clock.advance(2 * SECONDS)
        self.assertFalse(self.recent.seen(event("1")))
        self.assertEqual(0, self.recent.forgotten)

    def test_an_event_takes_little_memory_however_long_its_topic_is(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for number in range(50_000):
            self.recent.seen(event(f"1795417956553-{number}-k2x9qa", "t" * 1000))
        self.assertLess(tracemalloc.get_traced_memory()[0] / 50_000, 110)

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 12), st.sampled_from([0.0, 1.0, 4.0, 11.0]))),
        st.integers(2, 30),
    )
    def test_nothing_recent_is_forgotten_unless_told_and_nothing_old_is_remembered(
        self, steps: list[tuple[int, float]], room: int
    ) -> None:
        clock = Clock()
        recent = new_recent(clock, room)
        seen_at: dict[int, float] = {}
        for number, pause in steps:
            clock.advance(pause)
            seen = recent.seen(event(str(number)))
            age = clock.seconds() - seen_at.get(number, -1000)
            if age < SECONDS and not recent.forgotten:
                self.assertTrue(seen)
            if age >= 2 * SECONDS:
                self.assertFalse(seen)
            if not seen:
                seen_at[number] = clock.seconds()
            self.assertLessEqual(len(recent), room)


class RoomTests(SynchronousTestCase):
    """More events than there is memory for."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.recent = new_recent(self.clock, ROOM)

    def test_half_of_the_room_is_filled_without_loss_in_the_time(self) -> None:
        for _ in range(5):
            for number in range(ROOM // 2):
                self.recent.seen(event(f"{self.clock.seconds()}-{number}"))
            self.clock.advance(SECONDS)
        self.assertEqual(0, self.recent.forgotten)

    def test_what_is_forgotten_early_is_counted(self) -> None:
        for number in range(ROOM + 1):
            self.recent.seen(event(str(number)))
        self.assertFalse(self.recent.seen(event("0")))
        self.assertTrue(self.recent.seen(event(str(ROOM))))
        self.assertEqual(ROOM // 2, self.recent.forgotten)
        self.assertEqual(
            {"recent_events": len(self.recent), "recent_forgotten": ROOM // 2},
            {sample.name: sample.value for sample in self.recent.samples()},
        )

    def test_it_is_logged_once(self) -> None:
        with capturedLogs() as logged:
            for number in range(20 * ROOM):
                self.recent.seen(event(str(number)))
        [entry] = logged
        self.assertIn("viewers.recent_events", formatEvent(entry))

    def test_time_that_passes_is_no_early_loss(self) -> None:
        for number in range(3 * ROOM):
            self.recent.seen(event(str(number)))
            self.clock.advance(SECONDS)
        self.assertEqual(0, self.recent.forgotten)
