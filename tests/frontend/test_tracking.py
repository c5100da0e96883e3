"""What becomes of tracked events at a frontend."""

from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Latency
from rtdeliver.frontend.tracking import TrackedEvent, Tracking
from rtdeliver.messages import HopRecord
from rtdeliver.model import Event, Topic

AT = 1_795_417_956_553


def event(id: str, type: str = "like") -> Event:
    return Event(topic=Topic("live:red"), id=id, line=b'{"type":"%b"}' % type.encode(), at=AT)


class TrackingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(AT / 1000)
        self.records: list[HopRecord] = []
        self.tracking = self.new_tracking()

    def new_tracking(self, **settings: object) -> Tracking:
        return Tracking(
            settings=Latency(**{"track_one_in": 1, "settle_seconds": 10, **settings}),  # type: ignore[arg-type]
            node="n1",
            incarnation="first",
            record=self.records.append,
            clock=self.clock,
            now=self.clock.seconds,
        )

    def deliver(self, name: str, viewers: int = 1) -> TrackedEvent:
        tracked = self.tracking.deliver(event(name), viewers)
        assert tracked is not None
        return tracked

    def told(self) -> Sequence[tuple[str, str, tuple[tuple[float, int], ...], int]]:
        """Return what was recorded since the last time: stage, id, ages and part."""
        told = [(record.stage, record.id, record.ages, record.part) for record in self.records]
        self.records.clear()
        return told

    def test_a_delivery_is_recorded_with_its_age_and_viewers(self) -> None:
        self.clock.advance(0.0123)
        self.deliver("a", 3)
        [record] = self.records
        self.assertEqual(
            record,
            HopRecord(
                stage="delivered",
                id="a",
                type="like",
                at=AT,
                ages=((12.3, 1),),
                node="n1",
                incarnation="first",
                viewers=3,
            ),
        )

    def test_an_event_without_viewers_is_recorded_and_not_followed(self) -> None:
        self.assertIsNone(self.tracking.deliver(event("a"), 0))
        self.assertEqual([stage for stage, *_ in self.told()], ["delivered"])
        self.tracking.receive("a", 5)
        self.tracking.flush()
        self.assertEqual(self.told(), [])

    def test_what_viewers_have_had_is_recorded_bit_by_bit(self) -> None:
        tracked = self.deliver("a", 3)
        self.told()
        tracked.sent.add(7.0, 2)
        self.tracking.flush()
        self.assertEqual(self.told(), [("sent", "a", ((7.0, 2),), 1)])
        tracked.sent.add(9.0)
        self.tracking.receive("a", 20)
        self.tracking.receive("a", 30)
        self.tracking.flush()
        self.assertEqual(
            self.told(),
            [("sent", "a", ((9.0, 1),), 2), ("received", "a", ((20.0, 1), (30.0, 1)), 3)],
        )
        self.tracking.flush()
        self.assertEqual(self.told(), [])

    def test_viewers_that_left_are_recorded_without_a_send(self) -> None:
        self.deliver("a", 2).left += 2
        self.records.clear()
        self.tracking.flush()
        [record] = self.records
        self.assertEqual((record.stage, record.ages, record.left), ("sent", (), 2))

    def test_an_event_is_followed_for_its_time_only(self) -> None:
        self.deliver("a").sent.add(1.0)
        self.told()
        self.clock.advance(10)
        self.tracking.flush()
        self.assertEqual([stage for stage, *_ in self.told()], ["sent"])
        self.tracking.receive("a", 5)
        self.tracking.flush()
        self.assertEqual(self.told(), [])

    def test_only_so_many_events_are_followed(self) -> None:
        self.tracking = self.new_tracking(waiting_records=2)
        for name in "abc":
            self.deliver(name).sent.add(1.0)
        self.assertEqual([(stage, id) for stage, id, *_ in self.told()][-1], ("sent", "a"))
        samples = {sample.name: sample.value for sample in self.tracking.samples()}
        self.assertEqual(samples, {"tracked_events": 2, "tracked_forgotten": 1})

    def test_each_type_has_its_own_sample(self) -> None:
        self.tracking = self.new_tracking(track_one_in=0, track_types={"comment": 1})
        self.assertIsNone(self.tracking.deliver(event("a"), 1))
        self.assertIsNotNone(self.tracking.deliver(event("a", "comment"), 1))

    def test_an_event_that_does_not_say_when_it_was_accepted_is_not_tracked(self) -> None:
        untimed = Event(topic=Topic("live:red"), id="a", line=b"{}")
        self.assertIsNone(self.tracking.deliver(untimed, 1))
