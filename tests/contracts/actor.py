"""The contract of IActor, for every implementation."""

from twisted.internet.task import Clock

from rtdeliver.actor import RunQueue
from rtdeliver.interfaces import IActor
from tests.contracts.contract import SynchronousContract


class ActorContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that says how an actor is made, and gives it work."""

    interface = IActor
    actor: IActor

    def make_actor(self, run_queue: RunQueue, clock: Clock) -> IActor:
        """Return an actor that asks ``run_queue`` for its turns, and has no work yet."""
        raise NotImplementedError

    def give_work(self) -> None:
        """Give it work for one turn or more."""
        raise NotImplementedError

    def work_done(self) -> int:
        """Return how much it has done so far."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.run_queue = RunQueue(clock=self.clock, slice_seconds=1)
        self.actor = self.make_actor(self.run_queue, self.clock)

    def subject(self) -> IActor:
        return self.actor

    def turns(self) -> float:
        """How many turns were taken so far."""
        return next(s.value for s in self.run_queue.samples() if s.name == "turns")

    def settle(self) -> None:
        """Let turns be taken until nobody asks for one."""
        for _ in range(10):
            self.clock.advance(0)
        self.assertEqual((0, False), (len(self.run_queue), self.actor.queued))

    def test_it_waits_for_one_turn_however_much_work_it_has(self) -> None:
        for _ in range(3):
            self.give_work()
            self.assertLessEqual(len(self.run_queue), 1)
            self.assertEqual(bool(len(self.run_queue)), self.actor.queued)

    def test_work_is_done_in_turns_and_then_no_more_are_asked_for(self) -> None:
        self.give_work()
        self.settle()
        self.assertGreater(self.work_done(), 0)
        self.assertGreater(self.turns(), 0)

    def test_a_turn_without_work_asks_for_no_other(self) -> None:
        for _ in range(2):
            self.actor.turn()
        self.assertEqual((0, False), (len(self.run_queue), self.actor.queued))

    def test_one_that_has_failed_asks_for_no_further_turn(self) -> None:
        self.give_work()
        self.settle()
        self.actor.failed()
        turns = self.turns()
        self.clock.pump([1] * 600)
        self.assertEqual(turns, self.turns())
