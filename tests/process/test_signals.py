"""Tests of rtdeliver.process.signals."""

import signal
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.process.signals import stop_once


class StartingReactor:
    """Calls what is to be called when it runs."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def callWhenRunning(self, call: Callable[[], object]) -> None:
        self.calls.append(call)


class StopOnceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 100.0
        self.stops: list[int] = []
        self.again: list[int] = []
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
            signal.signal(number, self.stop)
        self.install(lambda: self.now)

    def stop(self, number: int, _: Any) -> None:
        self.stops.append(number)

    def install(self, now: Callable[[], float]) -> None:
        reactor = StartingReactor()
        stop_once(reactor, [signal.SIGUSR1, signal.SIGUSR2], again=self.again.append, now=now)
        for call in reactor.calls:
            call()

    def test_the_first_signal_does_what_the_reactor_has_for_it(self) -> None:
        signal.raise_signal(signal.SIGUSR2)
        self.assertEqual(([signal.SIGUSR2], []), (self.stops, self.again))

    def test_what_comes_right_after_it_is_the_same(self) -> None:
        for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR2):
            signal.raise_signal(number)
            self.now += 0.2
        self.assertEqual(([signal.SIGUSR1], []), (self.stops, self.again))

    def test_what_comes_later_is_another(self) -> None:
        signal.raise_signal(signal.SIGUSR1)
        self.now += 0.5
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGUSR1)
        self.assertEqual([signal.SIGUSR1], self.stops)
        self.assertEqual([signal.SIGUSR2, signal.SIGUSR1], self.again)

    def test_one_that_interrupts_the_first_is_the_same(self) -> None:
        interruptions = [signal.SIGUSR2, signal.SIGUSR1]

        def now() -> float:
            if interruptions:
                signal.raise_signal(interruptions.pop())
            return self.now

        self.install(now)
        signal.raise_signal(signal.SIGUSR1)
        self.assertEqual(([signal.SIGUSR1], []), (self.stops, self.again))

    def test_a_signal_that_is_ignored_stays_so(self) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        self.install(lambda: self.now)
        self.assertIs(signal.SIG_IGN, signal.getsignal(signal.SIGUSR1))
