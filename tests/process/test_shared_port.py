"""How several processes listen side by side; tests/integration/test_workers.py has real ones."""

from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import ConfigError
from rtdeliver.process.listeners import Listener
from rtdeliver.process.shared_port import listen_beside


class ListenBesideTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.factory = Factory()

    def listen(self, description: str, number: int) -> None:
        listener = Listener(key="internal", description=description, factory=self.factory)
        listen_beside(self.reactor, listener, number=number, backlog=7)

    def test_ports_follow_the_first_one(self) -> None:
        for number in range(3):
            self.listen("tcp:8081:interface=127.0.0.1", number)
        self.listen("tcp6:port=8081", 3)
        self.assertEqual(
            self.reactor.tcpServers,
            [
                (8081, self.factory, 7, "127.0.0.1"),
                (8082, self.factory, 7, "127.0.0.1"),
                (8083, self.factory, 7, "127.0.0.1"),
                (8084, self.factory, 7, "::"),
            ],
        )

    def test_any_free_port_is_any_free_port_for_each(self) -> None:
        self.listen("tcp:0", 3)
        self.assertEqual([server[0] for server in self.reactor.tcpServers], [0])

    def test_paths_end_in_the_number(self) -> None:
        self.listen("unix:/run/rtdeliver:mode=600", 0)
        self.listen("unix:/run/rtdeliver:mode=600", 3)
        self.assertEqual(
            [server[0] for server in self.reactor.unixServers],
            ["/run/rtdeliver.0", "/run/rtdeliver.3"],
        )
        self.assertEqual([server[3] for server in self.reactor.unixServers], [0o600, 0o600])

    def test_what_is_no_endpoint_is_told_with_its_key(self) -> None:
        error = self.assertRaises(ConfigError, self.listen, "8081", 1)
        self.assertTrue(str(error).startswith("internal: 8081 is not a server endpoint"))
