"""The contract of IHost, for every implementation."""

import socket
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol

from rtdeliver.errors import ConfigError
from rtdeliver.process.host import IHost
from rtdeliver.process.listeners import Listener
from tests.contracts.contract import SynchronousContract
from tests.sockets import SocketReactor


class HostContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that says how a host is made, and watches it."""

    interface = IHost

    def make_host(self, reactor: SocketReactor) -> IHost:
        raise NotImplementedError

    def told(self) -> str:
        """Return what whoever watches the role was told so far, as text."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.reactor = SocketReactor()
        self.host = self.make_host(self.reactor)

    def subject(self) -> IHost:
        return self.host

    def listen(self, key: str, description: str = "tcp:0:interface=127.0.0.1") -> IListeningPort:
        listener = Listener(key=key, description=description, factory=Factory.forProtocol(Protocol))
        port = self.host.listen(listener, backlog=7)
        self.addCleanup(self.close, port)
        return port

    def close(self, port: IListeningPort) -> None:
        port.stopListening()
        self.reactor.settle()

    def test_clients_can_connect_where_it_listens(self) -> None:
        for key in ("shared", "own"):
            address: Any = self.listen(key).getHost()
            with socket.create_connection((address.host, address.port)) as client:
                self.assertEqual((address.host, address.port), client.getpeername())

    def test_where_it_cannot_listen_it_says_so_with_the_key(self) -> None:
        for description in ("nonsense", "tcp:nonsense", "unix:/" + "x" * 200):
            error = self.assertRaises(ConfigError, self.listen, "own", description)
            self.assertIn("own: ", str(error))

    def test_why_the_role_cannot_start_is_told(self) -> None:
        self.host.failed("rtfrontend: the port is taken")
        self.assertIn("rtfrontend: the port is taken", self.told())

    def test_a_role_begins_and_may_close_some_of_its_listeners_when_it_ends(self) -> None:
        ports = {key: self.listen(key) for key in ("shared", "own")}
        self.host.listening("rtfrontend", ports)
        self.assertLessEqual(set(self.host.stopping()), set(ports))
