"""Tests of rtdeliver.client."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.client import read_client


class ClientTests(SynchronousTestCase):
    def test_the_module_that_pages_import_is_given_as_text_in_utf8(self) -> None:
        self.assertIn("export function connect(", read_client().decode())
