"""The contract of IVisited, for every implementation."""

from twisted.internet.task import Clock

from rtdeliver.interfaces import IVisited
from rtdeliver.wheel import TimingWheel
from tests.contracts.contract import SynchronousContract


class VisitedContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that says how something to be visited is made."""

    interface = IVisited

    def make_visited(self, clock: Clock) -> IVisited:
        """Return something that wants visits from now on."""
        raise NotImplementedError

    def end(self) -> None:
        """Let it want no further visit."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.visited = self.make_visited(self.clock)

    def subject(self) -> IVisited:
        return self.visited

    def test_each_visit_is_followed_by_another_some_time_later(self) -> None:
        for _ in range(3):
            seconds = self.visited.visit(self.clock.seconds())
            assert seconds is not None
            self.assertGreater(seconds, 0)
            self.clock.advance(seconds)

    def test_none_follows_its_end(self) -> None:
        self.end()
        self.assertIsNone(self.visited.visit(self.clock.seconds()))

    def test_a_wheel_lets_go_of_it_after_its_end(self) -> None:
        wheel = TimingWheel(clock=self.clock, tick_seconds=1)
        wheel.add(self.visited, 1)
        self.clock.pump([1] * 5)
        self.end()
        self.clock.pump([1] * 600)
        self.assertEqual([], self.clock.getDelayedCalls())
