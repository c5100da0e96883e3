"""The log sums up what was lost."""

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.process.losses import LossLog


@implementer(ILogObserver)
class Noting:
    """Notes what the module logs."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def __call__(self, event: dict[str, Any]) -> None:
        if event["log_namespace"] == "rtdeliver.process.losses":
            self._lines.append(formatEvent(event))


class LossLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.counts = {"events (mailbox_full)": 100, "streams (stalled)": 1}
        self.lines: list[str] = []
        noting = Noting(self.lines)
        globalLogPublisher.addObserver(noting)
        self.addCleanup(globalLogPublisher.removeObserver, noting)
        self.log = LossLog(lambda: self.counts, self.clock)
        self.log.start()
        self.addCleanup(self.log.stop)

    def lose(self, what: str, count: int = 1) -> None:
        self.counts = {**self.counts, what: self.counts.get(what, 0) + count}

    def wait(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)

    def test_without_losses_nothing_is_logged(self) -> None:
        self.wait(200)
        self.assertEqual(self.lines, [])

    def test_the_first_loss_is_told_at_once_and_further_ones_once_a_minute(self) -> None:
        self.lose("events (mailbox_full)", 5)
        self.wait(1)
        self.assertEqual(
            self.lines,
            [
                "lost since the last such line: 5 events (mailbox_full); the first 0 s ago, the"
                " last 0 s ago"
            ],
        )
        for _ in range(30):
            self.lose("events (mailbox_full)", 10)
            self.lose("streams (stalled)")
            self.wait(1)
        self.assertEqual(len(self.lines), 1)
        self.wait(30)
        self.assertEqual(
            self.lines[1:],
            [
                "lost since the last such line: 300 events (mailbox_full), 30 streams (stalled);"
                " the first 59 s ago, the last 30 s ago"
            ],
        )

    def test_a_reason_that_is_new_counts_too(self) -> None:
        self.lose("events (peer_full dc2)", 3)
        self.wait(1)
        self.assertIn("3 events (peer_full dc2)", self.lines[0])

    def test_what_was_not_told_is_told_at_the_end(self) -> None:
        self.lose("events (mailbox_full)")
        self.wait(1)
        self.lose("events (mailbox_full)", 7)
        self.log.stop()
        self.assertIn("7 events (mailbox_full)", self.lines[1])
        self.assertEqual(self.clock.getDelayedCalls(), [])
