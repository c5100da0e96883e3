"""Where nginx and nchan are."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.machine import BenchError
from rtdeliver.bench.nchan import installed


class InstalledTests(SynchronousTestCase):
    def test_what_is_not_installed_is_told_with_what_to_do(self) -> None:
        with self.assertRaisesRegex(BenchError, "apt-get install libnginx-mod-nchan"):
            installed("/nowhere")
