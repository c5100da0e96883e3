"""The parent of workers: what it starts, starts again, tells and waits for."""

import io
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

from twisted.internet.address import IPv4Address
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Node
from rtdeliver.errors import ConfigError
from rtdeliver.process.host import IHost
from rtdeliver.process.listeners import Listener
from rtdeliver.process.parent import (
    ParentProcess,
    ParentService,
    WorkerProcess,
    check_workers,
)
from rtdeliver.process.service import RoleService, StartError
from rtdeliver.process.worker import STOP_ALL, VARIABLE, Assignment, take_assignment
from tests.contracts.host import HostContract
from tests.fakes import new_backoff
from tests.sockets import SocketReactor

PUBLIC = 40

P = ParamSpec("P")


class BoundPort:
    """A port whose socket has the descriptor ``PUBLIC``."""

    def __init__(self) -> None:
        self.accepts = True
        self.is_open = True

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8080)

    def stopReading(self) -> None:
        self.accepts = False

    def fileno(self) -> int:
        return PUBLIC

    def stopListening(self) -> None:
        self.is_open = False


class OddPort:
    """A port that has no socket."""


class Process:
    """A process as its parent sees it; the test says what becomes of it."""

    def __init__(self, protocol: WorkerProcess, env: Mapping[str, str], fds: Any) -> None:
        self.env = dict(env)
        self.fds = fds
        self.signals: list[str] = []
        self.is_running = True
        self._protocol = protocol
        # As the kernel would give it to the process.
        self._orders = os.dup(fds[4])
        os.set_blocking(self._orders, False)

    @property
    def assignment(self) -> Assignment:
        told = dict(self.env)
        assignment = take_assignment(told)
        assert assignment is not None
        return assignment

    def signalProcess(self, name: str) -> None:
        if not self.is_running:
            raise ProcessExitedAlready
        self.signals.append(name)

    def report(self, data: bytes) -> None:
        self._protocol.childDataReceived(3, data)

    def end(self, status: int = 0, number: int | None = None) -> None:
        self.is_running = False
        os.close(self._orders)
        error = ProcessTerminated(status, number) if status or number else ProcessDone(0)
        self._protocol.processEnded(Failure(error))

    def orders(self) -> bytes | None:
        """What it is told: ``None`` for nothing."""
        try:
            return os.read(self._orders, 100)
        except BlockingIOError:
            return None


class Reactor(MemoryReactorClock):
    """Runs from the start, and starts no real processes."""

    def __init__(self) -> None:
        super().__init__()
        self.port: Any = BoundPort()
        self.processes: list[Process] = []
        self.commands: list[list[str]] = []
        self.is_out_of_processes = False

    def listenTCP(self, *_: Any, **__: Any) -> IListeningPort:
        port: IListeningPort = self.port
        return port

    def callWhenRunning(self, callable: Callable[P, object], *args: P.args, **kw: P.kwargs) -> None:
        callable(*args, **kw)

    def spawnProcess(
        self, protocol: Any, executable: str, args: list[str], env: Any, childFDs: Any
    ) -> None:
        if self.is_out_of_processes:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        process = Process(protocol, env, childFDs)
        protocol.transport = process
        self.processes.append(process)
        self.commands.append([executable, *args])


class ParentProcessContractTests(HostContract, SynchronousTestCase):
    implementation = ParentProcess

    def make_host(self, reactor: SocketReactor) -> IHost:
        self.complaints = io.StringIO()
        self.patch(sys, "__stderr__", self.complaints)
        return ParentProcess(reactor=reactor, workers=2)

    def told(self) -> str:
        return self.complaints.getvalue()


class WorkersTestCase(SynchronousTestCase):
    """Two workers, started again after 1 s, 2 s, 4 s; 10 s is a while, 20 s is all they get."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.failures = 0
        self.complaints = io.StringIO()
        self.patch(sys, "__stderr__", self.complaints)
        # A parent checks who started it, and this process stands for both.
        self.patch(os, "getppid", os.getpid)
        host = ParentProcess(reactor=self.reactor, workers=2)
        role = RoleService(
            role="rtfrontend",
            host=host,
            reactor=self.reactor,
            listeners=[
                Listener(key="internal", description="tcp:8081", factory=Factory()),
                Listener(key="public", description="tcp:8080", factory=Factory(), guarded=False),
            ],
            backlog=100,
            unguarded=False,
            begin=lambda _: self.fail("the parent is no role"),
            drain=lambda: self.fail("the parent is no role"),
            missing=list,
            reloaders={},
        )
        self.service = ParentService(
            role=role,
            shared="public",
            host=host,
            node="n1",
            count=2,
            end_seconds=20,
            new_backoff=lambda: new_backoff(1, 10),
            steady_seconds=10,
            command=["python", "-n"],
            environ={"PATH": "/bin", "NOTIFY_SOCKET": "/run/notify", "LISTEN_FDS": "1"},
            reactor=self.reactor,
            fail=self.note_failure,
        )
        self.addCleanup(self.end_processes)

    def note_failure(self) -> None:
        self.failures += 1

    def end_processes(self) -> None:
        for process in self.running:
            process.end()

    def start(self) -> list[Process]:
        self.service.privilegedStartService()
        self.service.startService()
        return list(self.reactor.processes)

    def start_ready(self) -> list[Process]:
        processes = self.start()
        for process in processes:
            process.report(b"ready\n")
        return processes

    @property
    def running(self) -> list[Process]:
        return [process for process in self.reactor.processes if process.is_running]


class StartTests(WorkersTestCase):
    def test_the_parent_binds_what_is_shared_and_accepts_nothing(self) -> None:
        self.start()
        self.assertFalse(self.reactor.port.accepts)
        self.assertTrue(self.reactor.port.is_open)

    def test_each_worker_is_told_who_it_is_and_where_the_socket_is(self) -> None:
        processes = self.start()
        self.assertEqual(
            [process.assignment for process in processes],
            [
                Assignment(
                    parent=os.getpid(),
                    number=number,
                    node=f"n1-w{number}",
                    sockets={"public": 5},
                    reports=3,
                    orders=4,
                )
                for number in range(2)
            ],
        )
        for process in processes:
            self.assertEqual(process.fds[5], PUBLIC)
            self.assertEqual([process.fds[number] for number in range(4)], [0, 1, 2, "r"])

    def test_workers_run_the_command_in_the_environment_without_the_service_manager(self) -> None:
        processes = self.start()
        self.assertEqual(self.reactor.commands, [["python", "python", "-n"]] * 2)
        for process in processes:
            self.assertEqual(process.env.keys(), {"PATH", VARIABLE})

    def test_a_port_without_a_socket_cannot_be_shared(self) -> None:
        self.reactor.port = OddPort()
        self.assertRaises(StartError, self.start)
        self.assertEqual(
            self.complaints.getvalue(), "rtfrontend: public: workers cannot share tcp:8080\n"
        )
        self.assertEqual(self.reactor.processes, [])

    def test_it_is_ready_once_all_are_for_the_first_time(self) -> None:
        told: list[Mapping[str, Any]] = []
        self.patch(ParentProcess, "listening", lambda _, role, ports: told.append({role: ports}))
        first, second = self.start()
        first.report(b"rea")
        first.report(b"dy\n")
        self.assertEqual(told, [])
        second.report(b"ready\n")
        self.assertEqual(told, [{"rtfrontend": {"public": self.reactor.port}}])
        first.end(number=signal.SIGKILL)
        self.reactor.advance(1)
        self.running[-1].report(b"ready\n")
        self.assertEqual(len(told), 1)


class RestartTests(WorkersTestCase):
    def test_a_worker_that_ended_is_started_again_as_the_same(self) -> None:
        first, second = self.start_ready()
        first.end(number=signal.SIGKILL)
        self.assertEqual(self.running, [second])
        self.reactor.advance(1)
        self.assertEqual(len(self.running), 2)
        self.assertEqual(self.running[1].assignment, first.assignment)

    def test_pauses_double_up_to_the_longest(self) -> None:
        self.start_ready()
        for pause in (1, 2, 4, 8, 10, 10):
            [process] = [p for p in self.running if p.assignment.number == 0]
            process.report(b"ready\n")
            process.end(status=1)
            self.reactor.advance(pause - 0.5)
            self.assertEqual(len(self.running), 1)
            self.reactor.advance(0.5)
            self.assertEqual(len(self.running), 2)

    def test_one_that_ran_for_a_while_is_soon_started_again(self) -> None:
        self.start_ready()
        for _ in range(3):
            self.running[-1].end()
            self.reactor.advance(10)
        process = self.running[-1]
        process.report(b"ready\n")
        self.reactor.advance(10)
        process.end()
        self.reactor.advance(1)
        self.assertEqual(len(self.running), 2)

    def test_a_process_that_is_replaced_leaves_no_descriptor_behind(self) -> None:
        self.start_ready()
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            self.running[-1].end()
            self.reactor.advance(10)
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before))

    def test_where_no_process_can_be_made_it_is_tried_again(self) -> None:
        first, _ = self.start_ready()
        self.reactor.is_out_of_processes = True
        first.end()
        self.reactor.advance(1)
        self.reactor.is_out_of_processes = False
        self.reactor.advance(2)
        self.assertEqual(len(self.running), 2)

    def test_no_worker_is_given_up_after_one_was_ready(self) -> None:
        first, second = self.start()
        first.report(b"ready\n")
        for process in (first, second):
            process.end(status=1)
        self.reactor.advance(1)
        for process in self.running:
            process.end(status=1)
        self.assertEqual(self.failures, 0)


class HopelessTests(WorkersTestCase):
    def test_where_all_failed_to_start_it_ends_with_the_reason_of_the_first(self) -> None:
        first, second = self.start()
        second.report(b"failed rtfrontend: internal: port 8082 is taken\n")
        second.end(status=1)
        self.assertEqual(self.failures, 0)
        first.report(b"failed rtfrontend: internal: port 8081 is taken\n")
        first.end(status=1)
        self.assertEqual(self.failures, 1)
        self.assertEqual(
            self.complaints.getvalue(),
            "rtfrontend: no worker can start: internal: port 8081 is taken\n",
        )

    def test_one_that_is_tried_again_does_not_put_off_the_end(self) -> None:
        first, second = self.start()
        second.end(status=1)
        self.reactor.advance(1)
        self.assertEqual(len(self.running), 2)
        first.end(status=3)
        self.assertEqual(self.failures, 1)
        self.assertIn("no worker can start: ended with status 3\n", self.complaints.getvalue())

    def test_the_end_is_told_once(self) -> None:
        for process in self.start():
            process.end(status=1)
        self.reactor.advance(1)
        self.end_processes()
        self.assertEqual(self.failures, 1)
        self.assertEqual(len(self.complaints.getvalue().splitlines()), 1)

    def test_a_machine_without_room_for_a_process_is_a_reason_too(self) -> None:
        self.reactor.is_out_of_processes = True
        self.start()
        self.assertEqual(self.failures, 1)
        self.assertIn("Resource temporarily unavailable", self.complaints.getvalue())


class StopTests(WorkersTestCase):
    def test_workers_are_told_that_all_end_before_the_signal(self) -> None:
        processes = self.start_ready()
        self.assertEqual([process.orders() for process in processes], [None, None])
        self.service.stopService()
        for process in processes:
            self.assertEqual(process.orders(), STOP_ALL)
            self.assertEqual(process.signals, ["TERM"])

    def test_it_ends_when_all_have_ended_and_starts_none_again(self) -> None:
        first, second = self.start_ready()
        ended = self.service.stopService()
        first.end(number=signal.SIGTERM)
        self.assertNoResult(ended)
        self.assertTrue(self.reactor.port.is_open)
        second.end()
        self.successResultOf(ended)
        self.assertFalse(self.reactor.port.is_open)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_what_does_not_end_in_time_is_killed(self) -> None:
        first, second = self.start_ready()
        ended = self.service.stopService()
        first.end()
        self.reactor.advance(19.9)
        self.assertEqual(second.signals, ["TERM"])
        self.reactor.advance(0.1)
        self.assertEqual(second.signals, ["TERM", "KILL"])
        self.assertNotIn("KILL", first.signals)
        second.end(number=signal.SIGKILL)
        self.successResultOf(ended)

    def test_one_that_waits_to_be_started_is_not(self) -> None:
        first, second = self.start_ready()
        first.end()
        ended = self.service.stopService()
        second.end()
        self.successResultOf(ended)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_one_that_is_just_starting_is_ended_too(self) -> None:
        processes = self.start()
        ended = self.service.stopService()
        for process in processes:
            process.report(b"ready\n")
            self.assertEqual(process.signals, ["TERM"])
            process.end()
        self.successResultOf(ended)

    def test_one_that_ended_unnoticed_may_be_told_all_the_same(self) -> None:
        first, second = self.start_ready()
        first.is_running = False
        ended = self.service.stopService()
        first.end()
        second.end()
        self.successResultOf(ended)

    def test_the_pipe_of_a_process_is_closed_after_its_end_only(self) -> None:
        first, second = self.start_ready()
        first.end()
        self.assertIsNone(second.orders())
        self.service.stopService()
        self.assertEqual(second.orders(), STOP_ALL)
        self.assertIsNone(second.orders())


class CheckTests(SynchronousTestCase):
    def test_the_name_of_the_last_worker_is_one_that_a_node_may_have(self) -> None:
        check_workers(Node(name="n" * 60), 11)
        error = self.assertRaises(ConfigError, check_workers, Node(name="n" * 61), 11)
        self.assertTrue(str(error).startswith("node.name, with the number of a worker: "))

    def test_a_node_without_a_name_of_its_own_has_room_for_the_number(self) -> None:
        check_workers(Node(), 1000)

    def test_an_advertised_url_names_a_port(self) -> None:
        check_workers(Node(advertise="http://10.0.0.5:8081"), 2)
        self.assertRaises(ConfigError, check_workers, Node(advertise="http://10.0.0.5"), 2)
