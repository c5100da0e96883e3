"""How the service manager learns that the reactor runs."""

import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.process.watchdog import feed_watchdog


class WatchdogTests(SynchronousTestCase):
    def fed_in_a_minute(self, **environ: str) -> int:
        clock = Clock()
        states: list[str] = []
        feed_watchdog(clock, environ, states.append)
        clock.pump([1] * 60)
        self.assertLessEqual(set(states), {"WATCHDOG=1"})
        return len(states)

    def test_it_is_fed_twice_within_the_time_that_is_allowed(self) -> None:
        self.assertEqual(self.fed_in_a_minute(WATCHDOG_USEC="30000000"), 5)
        pid = str(os.getpid())
        self.assertEqual(self.fed_in_a_minute(WATCHDOG_USEC="30000000", WATCHDOG_PID=pid), 5)

    def test_without_one_nothing_is_told(self) -> None:
        self.assertEqual(self.fed_in_a_minute(), 0)
        self.assertEqual(self.fed_in_a_minute(WATCHDOG_USEC="", WATCHDOG_PID="1"), 0)

    def test_that_of_another_process_is_left_to_it(self) -> None:
        self.assertEqual(self.fed_in_a_minute(WATCHDOG_USEC="30000000", WATCHDOG_PID="1"), 0)
