"""When the log says that a role is ready, and when that it is not."""

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.process.readiness import Readiness


@implementer(ILogObserver)
class Noting:
    """Notes what the module logs."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def __call__(self, event: dict[str, Any]) -> None:
        if event["log_namespace"] == "rtdeliver.process.readiness":
            self._lines.append(formatEvent(event))


class ReadinessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.missing: list[str] = []
        self.lines: list[str] = []

        noting = Noting(self.lines)
        globalLogPublisher.addObserver(noting)
        self.addCleanup(globalLogPublisher.removeObserver, noting)
        self.readiness = Readiness("rtdispatcher", lambda: self.missing, self.clock)

    def start(self, *missing: str) -> None:
        self.missing[:] = missing
        self.readiness.start("listen 127.0.0.1:8090")
        self.addCleanup(self.readiness.stop)

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.1] * round(seconds * 10))

    def test_what_is_ready_is_told_once(self) -> None:
        self.start()
        self.wait(5)
        self.assertEqual(self.lines, ["rtdispatcher is ready: listen 127.0.0.1:8090"])

    def test_what_is_not_ready_yet_is_told_once_after_a_second(self) -> None:
        self.start("Redis cannot be reached")
        self.wait(0.5)
        self.assertEqual(self.lines, [])
        self.wait(5)
        self.assertEqual(self.lines, ["rtdispatcher is not ready: Redis cannot be reached"])

    def test_what_is_no_longer_ready_is_told_once_also_in_the_first_second(self) -> None:
        self.start()
        self.wait(0.5)
        self.missing.append("Redis cannot be reached")
        self.wait(5)
        self.assertEqual(
            self.lines,
            [
                "rtdispatcher is ready: listen 127.0.0.1:8090",
                "rtdispatcher is not ready: Redis cannot be reached",
            ],
        )
