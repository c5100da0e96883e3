"""The events that are published to measure with."""

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.events import Schedule
from rtdeliver.frontend.sse import event_frame
from rtdeliver.model import Event
from rtdeliver.wire import decode_batch

SCHEDULE = Schedule(topics=["a", "b"], rate=4, data_bytes=80, seconds=2.25, start_ns=10)


class ScheduleTests(SynchronousTestCase):
    def test_events_are_due_at_the_rate(self) -> None:
        self.assertEqual(SCHEDULE.events, 9)
        self.assertEqual(
            [SCHEDULE.due_ns(event) for event in (0, 1, 8)], [10, 250000010, 2000000010]
        )

    def test_topics_are_published_to_in_turns_each_from_zero(self) -> None:
        self.assertEqual(SCHEDULE.published(), {0: 5, 1: 4})
        events = [
            (SCHEDULE.topic(event), msgspec.json.decode(SCHEDULE.data(event))["n"])
            for event in range(5)
        ]
        self.assertEqual(events, [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)])

    def test_there_is_one_event_at_least(self) -> None:
        self.assertEqual(Schedule(topics=["a"], rate=1, data_bytes=1, seconds=0.1).events, 1)

    def test_data_has_its_size_unless_its_numbers_are_longer(self) -> None:
        self.assertEqual(len(SCHEDULE.data(3)), 80)
        bare = Schedule(topics=["a"], rate=1, data_bytes=1, seconds=1).data(0)
        self.assertEqual(bare, b'{"n":0,"t":0,"pad":""}')

    def test_a_publish_has_topic_and_data(self) -> None:
        body = msgspec.json.decode(SCHEDULE.body(3))
        self.assertEqual(body["topic"], "b")
        self.assertEqual(body["data"]["t"], SCHEDULE.due_ns(3))

    def test_a_frame_has_the_bytes_of_a_frontends(self) -> None:
        (event,) = decode_batch(SCHEDULE.line(3))
        assert isinstance(event, Event)
        self.assertEqual(SCHEDULE.frame(3), event_frame(event))
