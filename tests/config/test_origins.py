"""Which origins of browsers a configured one matches."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.origins import read_origin


class OriginTests(SynchronousTestCase):
    def check(self, configured: str, *, matches: list[str], others: list[str]) -> None:
        origin = read_origin(configured)
        for sent in [*matches, *others]:
            self.assertEqual(sent in matches, origin.matches(sent), (configured, sent))

    def test_an_origin_is_one_scheme_host_and_port(self) -> None:
        self.check(
            "https://example.com",
            matches=["https://example.com"],
            others=[
                "",
                "null",
                "http://example.com",
                "https://example.com:8443",
                "https://www.example.com",
                "https://example.com.evil",
                "https://example.comhttps://example.com",
            ],
        )

    def test_it_is_read_as_browsers_send_it(self) -> None:
        for configured, sent in (
            ("HTTPS://Example.COM", "https://example.com"),
            ("https://example.com:443", "https://example.com"),
            ("http://example.com:80", "http://example.com"),
            ("http://example.com:443", "http://example.com:443"),
            ("https://example.com:08443", "https://example.com:8443"),
            ("http://[2001:DB8::1]:8080", "http://[2001:db8::1]:8080"),
            ("capacitor://localhost", "capacitor://localhost"),
        ):
            self.check(configured, matches=[sent], others=["https://other.example"])

    def test_a_star_stands_for_the_hosts_below(self) -> None:
        self.check(
            "https://*.example.com:8443",
            matches=["https://www.example.com:8443", "https://a.b-c.example.com:8443"],
            others=[
                "https://example.com:8443",
                "https://www.example.com",
                "http://www.example.com:8443",
                "https://evilexample.com:8443",
                "https://.example.com:8443",
                "https://evil/.example.com:8443",
                "https://evil@www.example.com:8443",
            ],
        )
