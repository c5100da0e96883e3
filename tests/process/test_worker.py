"""One of several workers: what it is told, and what it tells."""

import os
import socket
from typing import Any

from twisted.internet.error import ConnectionLost, ReactorNotRunning
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Node
from rtdeliver.errors import ConfigError
from rtdeliver.process.host import IHost
from rtdeliver.process.listeners import Listener
from rtdeliver.process.worker import (
    STOP_ALL,
    VARIABLE,
    Assignment,
    WorkerHost,
    shift_url,
    take_assignment,
    worker_settings,
)
from tests.contracts.host import HostContract
from tests.sockets import SocketReactor


def assignment(**changed: Any) -> Assignment:
    told = {
        "parent": os.getppid(),
        "number": 2,
        "node": "n1-w2",
        "sockets": {"public": 5},
        "reports": 3,
        "orders": 4,
    }
    return Assignment(**{**told, **changed})


class AssignmentTests(SynchronousTestCase):
    def test_what_the_parent_tells_is_taken_out_of_the_environment(self) -> None:
        environ = {"PATH": "/bin", VARIABLE: assignment().encode()}
        self.assertEqual(take_assignment(environ), assignment())
        self.assertEqual(environ, {"PATH": "/bin"})

    def test_a_process_that_is_told_nothing_is_no_worker(self) -> None:
        self.assertIsNone(take_assignment({"PATH": "/bin"}))

    def test_what_comes_from_anyone_but_the_parent_is_refused(self) -> None:
        for text in ("", "1", "{}", assignment(parent=os.getpid()).encode()):
            environ = {VARIABLE: text}
            error = self.assertRaises(ConfigError, take_assignment, environ)
            self.assertIn(VARIABLE, str(error))

    def test_a_worker_has_a_name_and_a_url_of_its_own_and_else_the_same_settings(self) -> None:
        node = Node(name="n1", advertise="http://10.0.0.5:8081", dispatchers=("http://d",))
        self.assertEqual(
            worker_settings(node, assignment()),
            Node(name="n1-w2", advertise="http://10.0.0.5:8083", dispatchers=("http://d",)),
        )
        self.assertEqual(worker_settings(Node(), assignment()), Node(name="n1-w2"))

    def test_urls_follow_the_first_ones_port(self) -> None:
        for url, shifted in (
            ("", ""),
            ("http://h:1", "http://h:4"),
            ("https://h:8089/", "https://h:8092/"),
            ("http://[::1]:8081", "http://[::1]:8084"),
        ):
            self.assertEqual(shift_url(url, 3), shifted)

    def test_a_url_without_a_port_cannot_be_followed(self) -> None:
        for url in ("http://h", "https://h/", "http://[::1]"):
            self.assertRaises(ConfigError, shift_url, url, 1)


class Reactor(MemoryReactorClock):
    """Notes whether it was stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning


class WorkerHostContractTests(HostContract, SynchronousTestCase):
    """The contract, with one listener that the parent has bound and one of its own."""

    implementation = WorkerHost

    def make_host(self, reactor: SocketReactor) -> IHost:
        self.reports, reports = self.pipe()
        orders, _ = self.pipe()
        # The host takes it over.
        shared = socket.create_server(("127.0.0.1", 0)).detach()
        told = assignment(number=0, sockets={"shared": shared}, reports=reports, orders=orders)
        return WorkerHost(assignment=told, reactor=reactor)

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        for end in ends:
            self.addCleanup(os.close, end)
        return ends

    def told(self) -> str:
        return os.read(self.reports, 100).decode()


class HostTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.reports, reports = self.pipe()
        orders, self.orders = self.pipe()
        self.host = WorkerHost(
            assignment=assignment(reports=reports, orders=orders), reactor=self.reactor
        )
        self.exits: list[int] = []
        self.patch(os, "_exit", self.exits.append)

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        for end in ends:
            self.addCleanup(self.close, end)
        return ends

    def close(self, end: int) -> None:
        if end not in self.closed:
            os.close(end)

    closed: frozenset[int] = frozenset()

    def lose_parent(self) -> None:
        os.close(self.orders)
        self.closed = frozenset({self.orders})
        # As the reactor does at the end of a pipe.
        self.reactor.removeReader(self.host)
        self.host.connectionLost(Failure(ConnectionLost()))

    def test_it_reports_that_it_is_ready_or_why_not(self) -> None:
        self.host.listening("rtfrontend", {})
        self.host.failed("rtfrontend: the port is taken")
        self.assertEqual(
            os.read(self.reports, 100), b"ready\nfailed rtfrontend: the port is taken\n"
        )

    def test_a_report_that_nobody_reads_is_dropped(self) -> None:
        os.close(self.reports)
        self.closed = frozenset({self.reports})
        self.host.listening("rtfrontend", {})

    def test_listeners_that_are_not_shared_are_its_own(self) -> None:
        listener = Listener(key="internal", description="tcp:8081", factory=Factory())
        self.host.listen(listener, backlog=7)
        self.assertEqual([server[0] for server in self.reactor.tcpServers], [8083])

    def test_a_socket_that_is_not_there_is_told_in_one_line(self) -> None:
        listener = Listener(key="public", description="tcp:8080", factory=Factory())
        host = WorkerHost(
            assignment=assignment(
                sockets={"public": self.reports}, reports=self.reports, orders=self.reports
            ),
            reactor=self.reactor,
        )
        error = self.assertRaises(ConfigError, host.listen, listener, backlog=7)
        self.assertIn("public: the parent's socket: ", str(error))

    def test_one_that_ends_alone_leaves_the_shared_socket_to_the_others(self) -> None:
        self.assertEqual(list(self.host.stopping()), ["public"])

    def test_where_all_end_it_goes_on_answering_there(self) -> None:
        os.write(self.orders, STOP_ALL)
        self.assertEqual(list(self.host.stopping()), [])

    def test_the_order_may_be_read_before_the_signal_comes(self) -> None:
        os.write(self.orders, STOP_ALL)
        self.host.doRead()
        self.assertEqual(list(self.host.stopping()), [])
        self.assertEqual(self.reactor.stops, 0)

    def test_the_parents_end_is_its_own_and_that_of_all(self) -> None:
        self.lose_parent()
        self.assertEqual(self.reactor.stops, 1)
        self.assertEqual(list(self.host.stopping()), [])
        self.assertEqual(self.exits, [])

    def test_a_parent_that_is_lost_meanwhile_ends_it_at_once(self) -> None:
        os.write(self.orders, STOP_ALL)
        self.host.stopping()
        self.lose_parent()
        self.assertEqual(self.exits, [1])

    def test_the_end_of_the_reactor_is_not_the_parents(self) -> None:
        self.host.stopping()
        self.host.connectionLost(Failure(ConnectionLost()))
        self.assertEqual((self.exits, self.reactor.stops), ([], 0))
