"""The parent of a role's workers: it binds their sockets, and keeps them running."""

import atexit
import enum
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import Node
from rtdeliver.errors import BadRequest, ConfigError
from rtdeliver.model import check_node
from rtdeliver.process.host import IHost, OwnProcess, node_name, report_ready
from rtdeliver.process.listeners import Listener, places
from rtdeliver.process.service import RoleService
from rtdeliver.process.shared_port import share
from rtdeliver.process.worker import FAILED, READY, STOP_ALL, VARIABLE, Assignment, shift_url

log = Logger()

# A worker's descriptors, after standard input, output and error, which it shares with the parent.
_REPORTS = 3
_ORDERS = 4
_SOCKETS = 5

# The service manager sets these for the process that it has started, not for the workers.
_FOR_THE_PARENT = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
)


@implementer(IHost)
class ParentProcess:
    """Binds the sockets that workers share, and accepts no connection itself.

    :param workers: how many workers there will be.
    """

    def __init__(self, *, reactor: Any, workers: int) -> None:
        self._own = OwnProcess(reactor)
        self._reactor = reactor
        self._workers = workers
        self.sockets: dict[str, int] = {}

    def listen(self, listener: Listener, *, backlog: int) -> IListeningPort:
        port = self._own.listen(listener, backlog=backlog)
        self.sockets[listener.key] = share(listener.key, listener.description, port)
        return port

    def failed(self, line: str) -> None:
        self._own.failed(line)

    def listening(self, role: str, ports: Mapping[str, IListeningPort]) -> None:
        log.info(
            "{role} listens: {places}, workers {workers}",
            role=role,
            places=places(ports),
            workers=self._workers,
        )
        report_ready(self._reactor)

    def stopping(self) -> Collection[str]:
        return self._own.stopping()


class ParentService(Service):
    """Runs a role in several processes.

    :param role: the role that the workers run; it does not run in this process.
    :param shared: the key of the listener that the workers share.
    :param host: the host of ``role``.
    :param node: the beginning of the node names of all workers.
    :param end_seconds: how long after the signal to end a worker that still runs is killed.
    :param new_backoff: makes a back-off, for the pauses before a worker is started again.
    :param steady_seconds: after a worker has run for this long, its pauses begin again with the
        shortest.
    :param command: the command that starts a worker.
    :param environ: the environment of the workers.
    :param fail: ends this process with an error status.
    """

    def __init__(
        self,
        *,
        role: RoleService,
        shared: str,
        host: ParentProcess,
        node: str,
        count: int,
        end_seconds: float,
        new_backoff: Callable[[], Backoff],
        steady_seconds: float,
        command: Sequence[str],
        environ: Mapping[str, str],
        reactor: Any,
        fail: Callable[[], None],
    ) -> None:
        self.name = role.role
        self._role = role
        self._shared = shared
        self._host = host
        self._node = node
        self._end_seconds = end_seconds
        self._command = list(command)
        self._environ = {key: value for key, value in environ.items() if key not in _FOR_THE_PARENT}
        self._reactor = reactor
        self._fail = fail
        self._ports: Mapping[str, IListeningPort] = {}
        self._starting = True
        self._ended: Deferred[None] | None = None
        self._workers = [
            Worker(
                name=f"{role.role} worker {number}",
                spawn=partial(self._spawn, number),
                clock=reactor,
                backoff=new_backoff(),
                steady_seconds=steady_seconds,
                changed=self._changed,
            )
            for number in range(count)
        ]

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._ports = self._role.bind(self._shared)

    def startService(self) -> None:
        super().startService()
        # Before the reactor runs, nothing would notice the end of a worker.
        self._reactor.callWhenRunning(self._start)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._host.stopping()
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> None:
        """Let all workers reload their settings."""
        log.info("{role} lets its workers reload", role=self._role.role)
        for worker in self._workers:
            worker.reload()

    def _start(self) -> None:
        for worker in self._workers:
            worker.start()

    async def _stop(self) -> None:
        log.info("{role} drains", role=self._role.role)
        self._ended = Deferred()
        deadline = self._reactor.callLater(self._end_seconds, self._kill)
        for worker in self._workers:
            worker.stop()
        self._changed()
        await self._ended
        if deadline.active():
            deadline.cancel()
        for port in self._ports.values():
            await maybeDeferred(port.stopListening)
        log.info("{role} has ended", role=self._role.role)

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    def _changed(self) -> None:
        states = {worker.state for worker in self._workers}
        if self._ended is not None:
            if states == {WorkerState.ENDED} and not self._ended.called:
                self._ended.callback(None)
        elif self._starting and states == {WorkerState.READY}:
            self._starting = False
            self._host.listening(self._role.role, self._ports)
        elif self._starting and all(worker.is_hopeless for worker in self._workers):
            self._starting = False
            why = self._workers[0].complaint.removeprefix(f"{self._role.role}: ")
            self._host.failed(f"{self._role.role}: no worker can start: {why}")
            self._fail()

    def _spawn(self, number: int, process: "WorkerProcess") -> None:
        sockets = dict(enumerate(self._host.sockets.values(), _SOCKETS))
        assignment = Assignment(
            parent=os.getpid(),
            number=number,
            node=worker_node(self._node, number),
            sockets=dict(zip(self._host.sockets, sockets, strict=True)),
            reports=_REPORTS,
            orders=_ORDERS,
        )
        # This is not a pipe of Twisted, which would send the order only after the next signal.
        their_end, orders = os.pipe()
        process.orders = orders
        try:
            self._reactor.spawnProcess(
                process,
                self._command[0],
                self._command,
                env={**self._environ, VARIABLE: assignment.encode()},
                childFDs={0: 0, 1: 1, 2: 2, _REPORTS: "r", _ORDERS: their_end, **sockets},
            )
        finally:
            os.close(their_end)


class WorkerState(enum.Enum):
    """The life of a worker."""

    STARTING = "starting"
    READY = "ready"
    RESTING = "resting"
    STOPPING = "stopping"
    ENDED = "ended"


class Worker:
    """Keeps one worker running: whenever its process ends, starts another one.

    :param spawn: starts a process; raises `OSError` if it cannot.
    :param changed: called after each change of ``state``.
    """

    def __init__(
        self,
        *,
        name: str,
        spawn: Callable[["WorkerProcess"], None],
        clock: IReactorTime,
        backoff: Backoff,
        steady_seconds: float,
        changed: Callable[[], None],
    ) -> None:
        self.state = WorkerState.RESTING
        self.complaint = ""
        self._name = name
        self._spawn = spawn
        self._clock = clock
        self._backoff = backoff
        self._steady_seconds = steady_seconds
        self._changed = changed
        self._was_ready = False
        self._started_at = 0.0
        self._process: WorkerProcess | None = None
        self._timer: IDelayedCall | None = None

    @property
    def is_hopeless(self) -> bool:
        """Whether a process has ended and none was ever ready; ``complaint`` says why."""
        return bool(self.complaint) and not self._was_ready

    def start(self) -> None:
        if self.state is not WorkerState.RESTING:
            return
        self.state = WorkerState.STARTING
        self._timer = None
        self._started_at = self._clock.seconds()
        self._process = WorkerProcess(ready=self._ready, ended=self._process_ended)
        try:
            self._spawn(self._process)
        except OSError as error:
            self._process.close_orders()
            self._process_ended(f"cannot be started: {error.strerror}")

    def stop(self) -> None:
        """Let the worker drain and end, together with all others."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.state is WorkerState.RESTING:
            self.state = WorkerState.ENDED
        elif self._process is not None:
            self.state = WorkerState.STOPPING
            self._process.stop()

    def reload(self) -> None:
        """Let the worker reload its settings, if it runs."""
        if self._process is not None and self.state is WorkerState.READY:
            self._process.reload()

    def kill(self) -> None:
        """Kill the worker, if it still runs after `stop`."""
        if self._process is not None and self.state is WorkerState.STOPPING:
            log.warn("{name} did not end in time and is killed", name=self._name)
            self._process.kill()

    def _ready(self) -> None:
        if self.state is WorkerState.STARTING:
            self.state = WorkerState.READY
            self._was_ready = True
            self._changed()

    def _process_ended(self, how: str) -> None:
        self._process = None
        if self.state is WorkerState.STOPPING:
            self.state = WorkerState.ENDED
        else:
            self._rest(how)
        self._changed()

    def _rest(self, how: str) -> None:
        now = self._clock.seconds()
        if self.state is WorkerState.READY and now - self._started_at >= self._steady_seconds:
            self._backoff.succeed()
        pause = self._backoff.fail()
        if self.state is WorkerState.STARTING:
            self.complaint = how
        self.state = WorkerState.RESTING
        log.warn(
            "{name}: {how}; it is started again in {pause:.1f} s",
            name=self._name,
            how=how,
            pause=pause,
        )
        self._timer = self._clock.callLater(pause, self.start)


class WorkerProcess(ProcessProtocol):
    """One process of a worker.

    :param ready: called when the process reports that it is ready.
    :param ended: called once, with the reason that the process reported, or how it ended.
    """

    def __init__(self, *, ready: Callable[[], None], ended: Callable[[str], None]) -> None:
        self.orders: int | None = None
        self._ready = ready
        self._ended = ended
        self._failure = ""
        self._rest = b""

    def stop(self) -> None:
        if self.orders is not None:
            with suppress(BrokenPipeError):
                os.write(self.orders, STOP_ALL)
        self._signal("TERM")

    def reload(self) -> None:
        self._signal("HUP")

    def kill(self) -> None:
        self._signal("KILL")

    def close_orders(self) -> None:
        """Close the pipe to the process, which then takes this process for ended."""
        if self.orders is not None:
            os.close(self.orders)
            self.orders = None

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: ARG002
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._report(line.decode(errors="replace"))

    def processEnded(self, reason: Failure) -> None:
        self.close_orders()
        self._ended(self._failure or _how_it_ended(reason.value))

    def _report(self, line: str) -> None:
        if line == READY:
            self._ready()
        elif line.startswith(FAILED):
            self._failure = line.removeprefix(FAILED)

    def _signal(self, name: str) -> None:
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(name)


def worker_node(node: str, number: int) -> str:
    """Return the node name of a worker, which all its processes have."""
    return f"{node}-w{number}"


def check_workers(node: Node, count: int) -> None:
    """Check that several workers can each have a node name and a URL.

    :raises ConfigError: if they cannot.
    """
    shift_url(node.advertise, count - 1)
    try:
        check_node(worker_node(node_name(node.name), count - 1))
    except BadRequest as refusal:
        raise ConfigError(f"node.name, with the number of a worker: {refusal.message}") from None


def end_in_failure(reactor: Any) -> None:
    """Stop the reactor, and let the process end with status 1, which twistd does not support."""
    atexit.register(os._exit, 1)
    reactor.stop()


def _how_it_ended(error: Any) -> str:
    if error.signal is not None:
        return f"killed by signal {error.signal}"
    return f"ended with status {error.exitCode}"
