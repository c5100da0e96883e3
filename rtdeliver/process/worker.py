"""One of several processes of a role: it listens beside the others and obeys their parent.

The parent gives it, besides the options of the role:

- in the environment, under `VARIABLE`, an `Assignment` as JSON;
- the sockets that all workers share, by the descriptors that the assignment names;
- a pipe for reports, into which it writes lines: ``ready``, or ``failed`` and why;
- a pipe for orders. A byte in it says that a SIGTERM, which comes next, is for all workers; its
  end says that the parent is gone.
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
    """What a parent tells one of its workers.

    :param parent: the parent's process id.
    :param number: of this worker, from 0; it outlives the process.
    :param node: the name of the node that this worker is.
    :param sockets: the descriptor of each listener that is shared, by its key.
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
    """Return what this process was told, and take it out of the environment.

    :return: ``None`` if this process is no worker.
    :raises ConfigError: if the variable comes from anyone but the parent.
    """
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        assignment = msgspec.json.decode(text, type=Assignment)
    except msgspec.MsgspecError:
        assignment = None
    if assignment is None or assignment.parent != os.getppid():
        raise ConfigError(f"{VARIABLE} in the environment is for workers, whose parent sets it")
    return assignment


def worker_settings(node: Node, assignment: Assignment) -> Node:
    """Return the settings of one worker: its own name, and its own place for deliveries."""
    return msgspec.structs.replace(
        node, name=assignment.node, advertise=shift_url(node.advertise, assignment.number)
    )


def shift_url(url: str, number: int) -> str:
    """Return the URL of worker ``number``, where ``url`` is worker 0's; an empty one stays so.

    :raises ConfigError: if it names no port.
    """
    if url and not _PORT.search(url):
        raise ConfigError(
            "node.advertise: with workers, name the port of the first; the others' ports follow it"
        )
    return _PORT.sub(lambda match: f":{int(match[1]) + number}{match[2]}", url)


@implementer(IHost, IReadDescriptor)
class WorkerHost:
    """Runs a role as one of several workers, and keeps in touch with their parent."""

    def __init__(self, *, assignment: Assignment, reactor: Any) -> None:
        os.set_blocking(assignment.orders, False)
        self._assignment = assignment
        self._reactor = reactor
        self._stops_all = False
        self._stopping = False
        reactor.addReader(self)

    def listen(self, listener: Listener, *, backlog: int) -> IListeningPort:
        key, description, factory = listener.key, listener.description, listener.factory
        descriptor = self._assignment.sockets.get(key)
        if descriptor is None:
            return listen_beside(
                self._reactor,
                key,
                description,
                factory,
                number=self._assignment.number,
                backlog=backlog,
            )
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            raise ConfigError(f"{key}: the parent's socket: {error.strerror}") from None
        return listen_shared(self._reactor, key, description, factory, sock=sock)

    def failed(self, line: str) -> None:
        self._report(FAILED + line)

    def ready(self, role: str, ports: Mapping[str, IListeningPort]) -> None:
        log.info(
            "{role} worker {number} is ready: {places}",
            role=role,
            number=self._assignment.number,
            places=places(ports),
        )
        self._report(READY)

    def stopping(self) -> Collection[str]:
        self._stopping = True
        # The order was written before the signal was sent, but may not have been read.
        self._stops_all = self._stops_all or self._order() is not None
        # Otherwise its siblings go on, who shall have the clients that come now.
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
        """The pipe has ended, which the reactor finds out by itself, or this process ends."""
        self.doRead()

    def _order(self) -> bytes | None:
        """Return what is in the pipe: ``None`` for nothing, an empty value for its end."""
        with suppress(BlockingIOError):
            return os.read(self._assignment.orders, 1)
        return None

    def _lose_parent(self) -> None:
        self._reactor.removeReader(self)
        if self._stopping:
            # The parent was told a second time, or killed: there is nobody to end this process.
            os._exit(1)
        log.warn("the parent of worker {number} is gone", number=self._assignment.number)
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _report(self, line: str) -> None:
        with suppress(BrokenPipeError):
            os.write(self._assignment.reports, line.encode() + b"\n")


def leave_signals_to_parent(reactor: Any) -> None:
    """Leave the terminal's SIGINT to the parent, and drain once only.

    A service manager may signal every process of a service, and the parent passes that on.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop_once(reactor, [signal.SIGTERM], again=lambda _: None)
