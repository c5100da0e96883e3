"""How old events are when they pass a frontend."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.frontend.ages import EventAges, Passage, Stage
from rtdeliver.metrics import HistogramSample, Sample

AT = 1_795_417_956_553


class AgesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(AT / 1000)
        self.ages = EventAges(self.clock.seconds)

    def counts(self) -> dict[str, int]:
        """How many ages there are of each stage, and how many were negative."""
        found: dict[str, int] = {}
        for sample in self.ages.samples():
            stage = sample.labels["stage"]
            if isinstance(sample, HistogramSample):
                found[stage] = len(sample.durations)
            elif isinstance(sample, Sample) and sample.value:
                found[f"-{stage}"] = int(sample.value)
        return found

    def test_an_age_is_the_time_since_the_event_was_accepted(self) -> None:
        self.clock.advance(0.25)
        self.ages.observe(Stage.DELIVERED, {AT: 99, AT - 1000: 1})
        self.assertTrue(0.25 <= self.ages.quantile(Stage.DELIVERED, 0.5) < 0.275)
        self.assertTrue(1.25 <= self.ages.quantile(Stage.DELIVERED, 1) < 1.375)
        self.assertEqual(self.counts(), {"delivered": 100, "sent": 0, "received": 0})

    def test_sends_are_taken_together_soon_after_them(self) -> None:
        self.clock.advance(0.1)
        passage = Passage(AT)
        for _ in range(3):
            self.ages.sent[passage] += 1
        self.ages.flush()
        self.clock.advance(60)
        self.ages.flush()
        self.assertEqual(self.counts(), {"delivered": 0, "sent": 3, "received": 0})
        self.assertTrue(0.1 <= self.ages.quantile(Stage.SENT, 1) < 0.11)

    def test_a_negative_age_is_counted_apart(self) -> None:
        self.ages.observe(Stage.DELIVERED, {AT + 20: 2, AT: 1})
        self.assertEqual(self.counts(), {"delivered": 1, "sent": 0, "received": 0, "-delivered": 2})

    def test_what_does_not_say_when_it_was_accepted_has_no_age(self) -> None:
        self.ages.observe(Stage.SENT, {0: 5})
        self.assertEqual(self.counts(), {"delivered": 0, "sent": 0, "received": 0})
