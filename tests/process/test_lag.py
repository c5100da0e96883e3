"""How late the reactor is said to be."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.process.lag import ReactorLag


class ReactorLagTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.lag = ReactorLag(self.clock)

    def told(self) -> float:
        [sample] = self.lag.samples()
        return sample.value

    def test_a_reactor_in_time_has_none(self) -> None:
        self.lag.start()
        self.clock.pump([0.25] * 100)
        self.assertEqual(0, self.told())

    def test_the_longest_of_late_is_told_and_forgotten_after_a_while(self) -> None:
        self.lag.start()
        self.clock.pump([0.25] * 4 + [2.25, 0.5] + [0.25] * 40)
        self.assertEqual(2, self.told())
        self.clock.pump([0.25] * 60)
        self.assertEqual(0, self.told())

    def test_it_ends(self) -> None:
        self.lag.start()
        self.clock.advance(1)
        self.lag.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
