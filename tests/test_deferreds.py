"""How Deferreds and coroutines are combined."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.deferreds import shield
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
