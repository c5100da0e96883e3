"""Tests of rtdeliver.frontend.recent."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Viewers
from rtdeliver.frontend.recent import RecentEvents
from rtdeliver.model import Event, Topic

EVENTS = 3
SECONDS = 10.0
SETTINGS = Viewers(recent_events=EVENTS, recent_seconds=SECONDS)


def event(id: str, topic: str = "live:red") -> Event:
    return Event(topic=Topic(topic), id=id, line=b"{}")


class RecentEventsTests(SynchronousTestCase):
    """What is remembered, and how long."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.recent = RecentEvents(settings=SETTINGS, clock=self.clock)

    def test_an_event_is_seen_the_second_time(self) -> None:
        self.assertFalse(self.recent.seen(event("1")))
        self.assertTrue(self.recent.seen(event("1")))
        self.assertTrue(self.recent.seen(event("1")))

    def test_the_same_id_of_another_topic_is_another_event(self) -> None:
        self.recent.seen(event("1"))
        self.assertFalse(self.recent.seen(event("1", "live:green")))

    def test_the_last_events_are_remembered_and_twice_as_many_are_not(self) -> None:
        for number in range(EVENTS * 2):
            self.recent.seen(event(str(number)))
        for number in range(EVENTS, EVENTS * 2):
            self.assertTrue(self.recent.seen(event(str(number))))
        self.recent.seen(event("one more"))
        self.assertFalse(self.recent.seen(event("0")))

    def test_time_alone_makes_it_forget(self) -> None:
        self.recent.seen(event("1"))
        self.clock.advance(SECONDS)
        self.assertTrue(self.recent.seen(event("1")))
        self.clock.advance(SECONDS)
        self.assertFalse(self.recent.seen(event("1")))

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from([0.0, 1.0, 4.0, 11.0]))))
    def test_nothing_recent_is_forgotten_and_nothing_new_is_taken_for_old(
        self, steps: list[tuple[int, float]]
    ) -> None:
        clock = Clock()
        recent = RecentEvents(settings=SETTINGS, clock=clock)
        first_sightings: list[tuple[int, float]] = []
        for number, pause in steps:
            clock.advance(pause)
            since = [n for n, _ in reversed(first_sightings)]
            seen = recent.seen(event(str(number)))
            if number not in since:
                self.assertFalse(seen)
            else:
                events_ago = since.index(number)
                seconds_ago = clock.seconds() - first_sightings[-1 - events_ago][1]
                if events_ago < EVENTS and seconds_ago < SECONDS:
                    self.assertTrue(seen)
                if events_ago > 2 * EVENTS:
                    self.assertFalse(seen)
            if not seen:
                first_sightings.append((number, clock.seconds()))
