"""How much unfinished requests may take up."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Http
from rtdeliver.http.intake import Intake, Part


class IntakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.intake = Intake(
            Http(head_seconds=2, body_seconds=3, bodies_bytes=200), listeners="public"
        )

    def values(self) -> dict[str, float]:
        return {
            ".".join([sample.name, *sorted(set(sample.labels.values()) - {"public"})]): sample.value
            for sample in self.intake.samples()
        }

    def test_each_part_has_its_time(self) -> None:
        self.assertEqual([self.intake.seconds(part) for part in Part], [2, 3])

    def test_half_of_the_bytes_can_be_held(self) -> None:
        self.assertTrue(self.intake.hold(60))
        self.assertTrue(self.intake.hold(40))
        self.assertFalse(self.intake.hold(1))
        self.intake.release(40)
        self.assertFalse(self.intake.hold(41))
        self.assertTrue(self.intake.hold(40))

    def test_everything_is_counted(self) -> None:
        self.intake.hold(60)
        self.intake.release(20)
        self.intake.count_late(Part.HEAD)
        self.intake.count_without_room()
        self.intake.count_without_room()
        self.intake.count_refused(404, None)
        self.assertEqual(
            self.values(),
            {
                "late_requests.head": 1,
                "late_requests.body": 0,
                "bodies_without_room": 2,
                "refused.401": 0,
                "refused.404": 1,
                "unfinished_bodies_bytes": 40,
            },
        )
        self.assertEqual({s.labels["listeners"] for s in self.intake.samples()}, {"public"})
