"""What a request says."""

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.http.requests import (
    client_address,
    host_of,
)
from tests.http.peers import Peer, Telling


class ClientAddressTests(SynchronousTestCase):
    """Where a request comes from."""

    SOCKET = IPv4Address("TCP", "192.0.2.1", 5000)

    def address(
        self, *forwarded: str, client: IAddress = SOCKET, behind_proxy: bool = False
    ) -> str:
        """The address of a request with these X-Forwarded-For fields, as it is told."""
        resource = Telling(lambda request: client_address(request, behind_proxy=behind_proxy))
        fields = [f"X-Forwarded-For: {value}" for value in forwarded]
        return Peer(resource, client=client).send("GET / HTTP/1.1", *fields).answer().body.decode()

    def test_it_is_that_of_the_socket(self) -> None:
        self.assertEqual(self.address(), "192.0.2.1")
        self.assertEqual(self.address(client=IPv6Address("TCP", "2001:db8::1", 1)), "2001:db8::1")

    def test_one_of_a_unix_socket_is_not_known(self) -> None:
        for path in ("/run/client", None):
            self.assertEqual(self.address(client=UNIXAddress(path)), "")

    def test_what_a_client_says_of_itself_is_not_believed(self) -> None:
        self.assertEqual(self.address("203.0.113.9"), "192.0.2.1")

    def test_behind_a_proxy_it_is_what_the_nearest_one_says(self) -> None:
        for value, expected in {
            "203.0.113.9": "203.0.113.9",
            "10.9.9.9, 203.0.113.9": "203.0.113.9",
            "spoofed,unknown , 2001:db8::9 ": "2001:db8::9",
        }.items():
            self.assertEqual(self.address(value, behind_proxy=True), expected)

    def test_a_proxy_may_add_a_field_to_that_of_the_client(self) -> None:
        """Fields of one name are one list, in their order (RFC 9110, 5.3)."""
        fields = ["10.9.9.9", "10.8.8.8, 203.0.113.9"]
        self.assertEqual(self.address(*fields, behind_proxy=True), "203.0.113.9")

    def test_behind_a_proxy_that_says_nothing_it_is_that_of_the_socket(self) -> None:
        for fields in ([], [""], [" "]):
            self.assertEqual(self.address(*fields, behind_proxy=True), "192.0.2.1")

    def test_behind_a_proxy_at_a_unix_socket_it_is_what_that_says(self) -> None:
        unix = UNIXAddress(None)
        self.assertEqual(self.address("203.0.113.9", client=unix, behind_proxy=True), "203.0.113.9")
        self.assertEqual(self.address(client=unix, behind_proxy=True), "")


class HostTests(SynchronousTestCase):
    """Which host a browser has asked for."""

    def host(self, *fields: str) -> str:
        lines = ["GET / HTTP/1.0", *(f"Host: {field}" for field in fields), "", ""]
        return Peer(Telling(host_of)).send_bytes("\r\n".join(lines).encode()).answer().body.decode()

    def test_it_is_told_without_its_port(self) -> None:
        for field, host in {
            "localhost": "localhost",
            "localhost:8000": "localhost",
            "Example.com:80": "Example.com",
            "a_b-c.example": "a_b-c.example",
            "10.0.0.5:8080": "10.0.0.5",
            "[::1]:8080": "[::1]",
            "[2001:DB8::1]": "[2001:DB8::1]",
            "[::ffff:10.0.0.5]": "[::ffff:10.0.0.5]",
        }.items():
            self.assertEqual(self.host(field), host)

    def test_where_it_is_odd_or_missing_it_is_this_machine(self) -> None:
        for fields in ([], [""], [":8080"], ["example.com;x"], ["example.com'*"], ["*"], ["%41"]):
            self.assertEqual(self.host(*fields), "localhost", fields)
