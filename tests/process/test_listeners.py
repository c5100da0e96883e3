"""How a role listens."""

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.errors import ConfigError
from rtdeliver.process.listeners import Listener, browser_url, describe, is_private, listen, url_of


@implementer(IListeningPort)
class FixedPort:
    """Listens at an address, or so it says."""

    def __init__(self, address: IAddress) -> None:
        self._address = address

    def startListening(self) -> None: ...

    def stopListening(self) -> None: ...

    def getHost(self) -> IAddress:
        return self._address


class BusyReactor(MemoryReactorClock):
    """Someone else listens on all of its ports."""

    def listenTCP(self, port: int, *_: Any, **__: Any) -> IListeningPort:
        raise CannotListenError("", port, OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)))


def ipv4(host: str) -> FixedPort:
    return FixedPort(IPv4Address("TCP", host, 8081))


def ipv6(host: str) -> FixedPort:
    return FixedPort(IPv6Address("TCP", host, 8081))


def unix(path: str | bytes) -> FixedPort:
    return FixedPort(UNIXAddress(path))


class AddressTests(SynchronousTestCase):
    def check(self, tell: Callable[[IListeningPort], Any], table: dict[FixedPort, Any]) -> None:
        rows = [(port.getHost(), expected) for port, expected in table.items()]
        self.assertEqual([(port.getHost(), tell(port)) for port in table], rows)

    def test_a_port_is_described_by_what_one_connects_to(self) -> None:
        self.check(
            describe,
            {
                ipv4("127.0.0.1"): "127.0.0.1:8081",
                ipv4("0.0.0.0"): "0.0.0.0:8081",
                ipv6("::1"): "[::1]:8081",
                ipv6("::"): "[::]:8081",
                unix("/run/rtdeliver"): "unix:/run/rtdeliver",
                unix(b"/run/rtdeliver"): "unix:/run/rtdeliver",
            },
        )

    def test_loopback_and_unix_sockets_are_private(self) -> None:
        self.check(
            is_private,
            {
                ipv4("127.0.0.1"): True,
                ipv4("127.1.2.3"): True,
                ipv6("::1"): True,
                unix("/run/rtdeliver"): True,
                ipv4("0.0.0.0"): False,
                ipv4("10.0.0.5"): False,
                ipv4("192.168.1.1"): False,
                ipv4(""): False,
                ipv6("::"): False,
                ipv6("2001:db8::1"): False,
                ipv6("fe80::1%eth0"): False,
                ipv6("::ffff:10.0.0.5"): False,
                ipv6(""): False,
            },
        )

    def test_a_url_is_known_where_the_address_is_one_that_others_reach(self) -> None:
        self.check(
            url_of,
            {
                ipv4("127.0.0.1"): "http://127.0.0.1:8081",
                ipv4("10.0.0.5"): "http://10.0.0.5:8081",
                ipv6("::1"): "http://[::1]:8081",
                ipv6("2001:db8::1"): "http://[2001:db8::1]:8081",
                ipv4("0.0.0.0"): None,
                ipv4(""): None,
                ipv6("::"): None,
                unix("/run/rtdeliver"): None,
            },
        )

    def test_a_browser_reaches_a_port_at_the_host_that_it_knows(self) -> None:
        for host in ("localhost", "example.com", "10.0.0.5", "[::1]"):
            for port in (ipv4("0.0.0.0"), ipv4("127.0.0.1"), ipv4(""), ipv6("::")):
                self.assertEqual(browser_url("tcp:0", port, host), f"http://{host}:8081")

    def test_a_browser_reaches_a_port_with_a_certificate_over_tls(self) -> None:
        for description, scheme in (
            ("ssl:443:privateKey=key.pem", "https"),
            ("tls:/etc/certificates:tcp:443", "https"),
            ("tcp:443", "http"),
            ("tcp6:443", "http"),
            ("haproxy:tcp:443", "http"),
        ):
            self.assertEqual(browser_url(description, ipv4(""), "h"), f"{scheme}://h:8081")

    def test_no_browser_reaches_a_unix_socket(self) -> None:
        self.assertIsNone(browser_url("unix:/run/rtdeliver", unix("/run/rtdeliver"), "localhost"))


class ListenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.factory = Factory()

    def listen(self, description: str) -> IListeningPort:
        listener = Listener(key="public", description=description, factory=self.factory)
        return listen(self.reactor, listener, backlog=4096)

    def complaint(self, description: str) -> str:
        """Return what is wrong with an endpoint string."""
        return str(self.assertRaises(ConfigError, self.listen, description))

    def test_a_tcp_endpoint_is_listened_on(self) -> None:
        port = self.listen("tcp:8080:interface=127.0.0.1")
        self.assertEqual(self.reactor.tcpServers, [(8080, self.factory, 4096, "127.0.0.1")])
        address = port.getHost()
        assert isinstance(address, IPv4Address)
        self.assertEqual(address.port, 8080)

    def test_few_clients_are_accepted_before_their_requests_are_read(self) -> None:
        taken: list[int] = []

        class Crowded:
            """A port of Twisted's with very many clients."""

            numberAccepts = 100

            def doRead(self) -> None:
                taken.append(self.numberAccepts)
                self.numberAccepts += 20

        class Reactor:
            def listenTCP(self, *_: object, **__: object) -> Crowded:
                return Crowded()

        listener = Listener(key="public", description="tcp:0", factory=self.factory)
        port: Any = listen(Reactor(), listener, backlog=1)
        for _ in range(3):
            port.doRead()
        self.assertEqual([64] * 3, taken)

    def test_the_backlog_of_the_endpoint_string_wins(self) -> None:
        for description in ("tcp:8080:backlog=7", "tcp:8080:backlog=7:interface=127.0.0.1"):
            self.listen(description)
        self.assertEqual([server[2] for server in self.reactor.tcpServers], [7, 7])

    def test_unix_and_ipv6_endpoints_get_the_backlog_too(self) -> None:
        self.listen("unix:/run/rtdeliver")
        self.listen("tcp6:8080")
        [(path, _, unix_backlog, *_)] = self.reactor.unixServers
        [(number, _, tcp_backlog, _)] = self.reactor.tcpServers
        self.assertEqual((path, unix_backlog), ("/run/rtdeliver", 4096))
        self.assertEqual((number, tcp_backlog), (8080, 4096))

    def test_an_endpoint_that_takes_no_backlog_is_left_as_it_is(self) -> None:
        self.listen("haproxy:tcp:8080")
        self.assertEqual([server[0] for server in self.reactor.tcpServers], [8080])

    def test_what_is_no_endpoint_is_told_in_one_line_with_its_key(self) -> None:
        for description in (
            "",
            "8080",
            "tcp",
            "tcp:",
            "tcp:http",
            "tcp:8080:nonsense=1",
            "tcp:8080:backlog=many",
            "tcp:1:2:3:4:5",
            "http://localhost:8080",
            "nope:8080",
            "unix:/x:mode=9",
            "ssl:443:privateKey=/nonexistent",
            "systemd:domain=INET:index=0",
            "\\",
        ):
            complaint = self.complaint(description)
            self.assertTrue(
                complaint.startswith(f"public: {description} is not a server endpoint: "),
                complaint,
            )
            self.assertEqual(len(complaint.splitlines()), 1)
        self.assertEqual(self.reactor.tcpServers, [])

    def test_a_line_break_in_an_endpoint_does_not_break_the_line(self) -> None:
        self.assertEqual(len(self.complaint("tcp:80\n80").splitlines()), 1)

    def test_a_port_that_is_taken_is_told_in_one_line_with_its_key(self) -> None:
        self.reactor = BusyReactor()
        self.assertEqual(
            self.complaint("tcp:8080"), "public: cannot listen on tcp:8080: Address already in use"
        )
