"""One of several worker processes of a role: it listens beside the others and obeys their parent.

The parent gives a worker, besides the options of the role:

- an `Assignment` as JSON, in the environment variable `VARIABLE`;
- the sockets that all workers share, at the descriptors in the assignment;
- a pipe for reports, into which the worker writes lines: ``ready``, or ``failed`` and why;
- a pipe for orders. A byte in it says that the SIGTERM that follows is for all workers. The end of
  the pipe says that the parent is gone.
"""

import os
import re
import signal
import socket
from collections.abc import Collection, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import msgspec
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rtdeliver.config.sections import Node
from rtdeliver.errors import ConfigError
from rtdeliver.process.host import IHost
from rtdeliver.process.listeners import Listener, places
from rtdeliver.process.shared_port import listen_beside, listen_shared
from rtdeliver.process.signals import stop_once

log = Logger()

VARIABLE = "RTDELIVER_WORKER"

READY = "ready"
FAILED = "failed "
STOP_ALL = b"a"

_PORT = re.compile(r":([0-9]+)(/?)$")


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a parent gives to one of its workers.

    :param parent: the parent's process id.
    :param number: the number of this worker, from 0; it outlives the process.
    :param node: the node name of this worker.
    :param sockets: the descriptor of each shared listener, by key.
    :param reports: the descriptor of the pipe to the parent.
    :param orders: the descriptor of the pipe from the parent.
    """

    parent: int
    number: int
    node: str
    sockets: dict[str, int]
    reports: int
    orders: int

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()


def take_assignment(environ: MutableMapping[str, str]) -> Assignment | None:
    """Return the assignment of this process, and remove it from the environment.

    :return: ``None`` if this process is not a worker.
    :raises ConfigError: if the variable was not set by the parent process.
    """
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        assignment = msgspec.json.decode(text, type=Assignment)
    except msgspec.MsgspecError:
        assignment = None
    if assignment is None or assignment.parent != os.getppid():
        raise ConfigError(f"{VARIABLE} is set in the environment, but only the parent may set it")
    return assignment


def worker_settings(node: Node, assignment: Assignment) -> Node:
    """Return the settings of one worker, with its own name and its own URL for deliveries."""
    return msgspec.structs.replace(
        node, name=assignment.node, advertise=shift_url(node.advertise, assignment.number)
    )


def shift_url(url: str, number: int) -> str:
    """Return the URL of worker ``number``, if ``url`` is that of worker 0; empty stays empty.

    :raises ConfigError: if ``url`` has no port.
    """
    if url and not _PORT.search(url):
        raise ConfigError(
            f"node.advertise: with workers, {url} must have a port, that of worker 0; the other"
            " workers have the ports that follow"
        )
    return _PORT.sub(lambda match: f":{int(match[1]) + number}{match[2]}", url)


@implementer(IHost, IReadDescriptor)
class WorkerHost:
    """Runs a role as one of several workers: reports to their parent, and takes its orders."""

    def __init__(self, *, assignment: Assignment, reactor: Any) -> None:
        os.set_blocking(assignment.orders, False)
        self._assignment = assignment
        self._reactor = reactor
        self._stops_all = False
        self._stopping = False
        reactor.addReader(self)

    def listen(self, listener: Listener, *, backlog: int) -> IListeningPort:
        descriptor = self._assignment.sockets.get(listener.key)
        if descriptor is None:
            number = self._assignment.number
            return listen_beside(self._reactor, listener, number=number, backlog=backlog)
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            raise ConfigError(f"{listener.key}: the parent's socket: {error.strerror}") from None
        return listen_shared(self._reactor, listener, sock=sock)

    def failed(self, line: str) -> None:
        self._report(FAILED + line)

    def listening(self, role: str, ports: Mapping[str, IListeningPort]) -> None:
        log.info(
            "{role} worker {number} listens: {places}",
            role=role,
            number=self._assignment.number,
            places=places(ports),
        )
        self._report(READY)

    def stopping(self) -> Collection[str]:
        self._stopping = True
        # The order was written before the signal was sent, but may not have been read.
        self._stops_all = self._stops_all or self._order() is not None
        # If only this worker stops, new clients must go to the other workers.
        return () if self._stops_all else tuple(self._assignment.sockets)

    def fileno(self) -> int:
        return self._assignment.orders

    def doRead(self) -> None:
        order = self._order()
        if order is not None:
            self._stops_all = True
        if order == b"":
            self._lose_parent()

    def logPrefix(self) -> str:
        return "orders"

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002
        """The pipe has ended, as the reactor has noticed, or this process ends."""
        self.doRead()

    def _order(self) -> bytes | None:
        """Read a byte from the pipe: ``None`` if there is none, empty at the end of the pipe."""
        with suppress(BlockingIOError):
            return os.read(self._assignment.orders, 1)
        return None

    def _lose_parent(self) -> None:
        self._reactor.removeReader(self)
        if self._stopping:
            # The parent ended at once or was killed, so nothing else would end this process.
            os._exit(1)
        log.warn("the parent of worker {number} is gone", number=self._assignment.number)
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _report(self, line: str) -> None:
        with suppress(BrokenPipeError):
            os.write(self._assignment.reports, line.encode() + b"\n")


def leave_signals_to_parent(reactor: Any) -> None:
    """Leave the terminal's SIGINT to the parent, and drain only once.

    A service manager may signal every process of a service, and then the parent signals them too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop_once(reactor, [signal.SIGTERM], again=lambda _: None)
