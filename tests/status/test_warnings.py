"""The last warnings and errors of the log."""

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.status.warnings import RecentWarnings

log = Logger()


class RecentWarningsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.warnings = RecentWarnings()
        self.warnings.start()
        self.addCleanup(self.warnings.stop)

    def told(self) -> list[tuple[str, str]]:
        return [(warning["level"], warning["text"]) for warning in self.warnings.tell()]

    def test_warnings_are_told_the_latest_one_first(self) -> None:
        log.info("all is well")
        log.warn("{node} is late", node="n1")
        log.error("{node} is gone", node="n2")
        self.assertEqual(self.told(), [("error", "n2 is gone"), ("warn", "n1 is late")])
        [latest, _] = self.warnings.tell()
        self.assertEqual(latest["from"], "tests.status.test_warnings")
        self.assertGreater(latest["at"], 1_700_000_000)

    def test_a_failure_is_told_by_its_name_and_words(self) -> None:
        try:
            raise RuntimeError("out of luck")
        except RuntimeError:
            log.failure("it ended")
        self.flushLoggedErrors(RuntimeError)
        self.assertEqual(self.told(), [("critical", "it ended: RuntimeError: out of luck")])

    def test_only_the_last_ones_are_kept_and_none_is_long(self) -> None:
        for number in range(100):
            log.warn("{number} {long}", number=number, long="x" * 10_000)
        told = self.told()
        self.assertEqual(len(told), 50)
        self.assertTrue(told[0][1].startswith("99 "))
        self.assertEqual(len(told[0][1]), 500)
