"""URLs that may be measured."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.http import address_of, check_is_local
from rtdeliver.bench.machine import BenchError


class UrlTests(SynchronousTestCase):
    def test_host_and_port_are_found(self) -> None:
        self.assertEqual(address_of("http://127.0.0.1:8080/connect?topic="), ("127.0.0.1", 8080))
        self.assertEqual(address_of("http://example.com"), ("example.com", 80))

    def test_what_is_no_http_url_is_refused(self) -> None:
        for url in ("127.0.0.1:8080", "https://127.0.0.1:8080", "http://", "http://a:b", ""):
            with self.assertRaises(BenchError):
                address_of(url)

    def test_other_machines_are_measured_only_where_that_is_allowed(self) -> None:
        for url in ("http://127.0.0.9:1", "http://localhost:1", "http://[::1]:1"):
            check_is_local(url, allow_remote=False)
        for url in ("http://10.0.0.5:8080", "http://example.com", "http://localhost.evil:1"):
            with self.assertRaisesRegex(BenchError, "--allow-remote"):
                check_is_local(url, allow_remote=False)
            check_is_local(url, allow_remote=True)
