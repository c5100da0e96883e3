"""How Deferreds and coroutines are combined."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.deferreds import all_of, as_deferred, flush, shield
from rtdeliver.errors import UnknownConnection


class ToTheEndTests(SynchronousTestCase):
    """Work that is done whether or not its client waits."""

    def setUp(self) -> None:
        self.step: Deferred[int] = Deferred()
        self.done: list[int] = []

    async def work(self) -> int:
        self.done.append(await self.step)
        return 7

    def test_it_fires_with_the_result(self) -> None:
        answer = shield(self.work())
        self.step.callback(1)
        self.assertEqual(self.successResultOf(answer), 7)

    def test_a_failure_is_passed_on(self) -> None:
        answer = shield(self.work())
        self.step.errback(UnknownConnection("gone"))
        self.failureResultOf(answer, UnknownConnection)

    def test_the_work_goes_on_when_the_client_has_left(self) -> None:
        for work in (self.work(), self.step):
            answer = shield(work)
            answer.cancel()
            self.failureResultOf(answer, CancelledError)
        self.step.callback(1)
        self.assertEqual(self.done, [1])


class AsDeferredTests(SynchronousTestCase):
    def test_a_call_starts_the_coroutine(self) -> None:
        step: Deferred[int] = Deferred()

        @as_deferred
        async def doubled(of: int, *, more: int) -> int:
            """Return twice as much."""
            return 2 * (of + more + await step)

        answer = doubled(1, more=2)
        step.callback(3)
        self.assertEqual(self.successResultOf(answer), 12)
        self.assertEqual(doubled.__doc__, "Return twice as much.")


class AllOfTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.first: Deferred[str] = Deferred()
        self.second: Deferred[str] = Deferred()
        self.all = Deferred.fromCoroutine(all_of([self.first, self.second]))

    def test_results_come_in_the_order_of_asking(self) -> None:
        self.second.callback("b")
        self.assertNoResult(self.all)
        self.first.callback("a")
        self.assertEqual(self.successResultOf(self.all), ["a", "b"])

    def test_the_first_error_is_raised_when_all_are_there(self) -> None:
        self.first.errback(UnknownConnection("gone"))
        self.assertNoResult(self.all)
        self.second.errback(ValueError("gone too"))
        self.failureResultOf(self.all, UnknownConnection)


class FlushTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.left = 2
        self.flushed = Deferred.fromCoroutine(
            flush(lambda: self.left, at_most_seconds=10, clock=self.clock)
        )

    def test_it_waits_until_nothing_is_left(self) -> None:
        self.clock.advance(1)
        self.assertNoResult(self.flushed)
        self.left = 0
        self.clock.advance(1)
        self.successResultOf(self.flushed)

    def test_it_waits_no_longer_than_it_may(self) -> None:
        self.clock.advance(10)
        self.successResultOf(self.flushed)
        self.assertEqual(self.left, 2)
