"""How several processes listen together: on one socket, or each on a port of its own."""

import errno
import select
import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IReadDescriptor,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from rtdeliver.errors import ConfigError
from rtdeliver.process.listeners import Listener, listen

log = Logger()

# How many clients a process accepts in one iteration of the reactor: few, so that other processes
# get their share, but more than one, because an iteration of a busy reactor takes long.
_ACCEPTS = 8
# How long a process leaves all clients to the others after it had no descriptors left.
_REST_SECONDS = 1.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def share(key: str, description: str, port: IListeningPort) -> int:
    """Stop accepting on ``port``, which was bound in this iteration of the reactor.

    :return: the descriptor of the port's socket; the port still owns it.
    :raises ConfigError: if the port has no descriptor.
    """
    held: Any = port
    try:
        held.stopReading()
        descriptor: int = held.fileno()
    except AttributeError:
        raise ConfigError(f"{key}: workers cannot share {description}") from None
    return descriptor


def listen_shared(reactor: Any, listener: Listener, *, sock: socket.socket) -> IListeningPort:
    """Listen as an endpoint string says, with TLS if it says so, but on a socket bound before.

    :raises ConfigError: as `rtdeliver.process.listeners.listen` does.
    """
    # This only names a socket that the service manager has bound.
    adopting = AdoptingReactor(reactor, sock)
    if listener.description.startswith("systemd:"):
        return adopting.listenTCP(0, listener.factory)
    return listen(adopting, listener, backlog=0)


def listen_beside(reactor: Any, listener: Listener, *, number: int, backlog: int) -> IListeningPort:
    """Listen as an endpoint string says, but on a port or path shifted by ``number``.

    ``number`` is added to the port, or appended to the path of a UNIX socket.

    :raises ConfigError: as `rtdeliver.process.listeners.listen` does.
    """
    return listen(ShiftedReactor(reactor, number), listener, backlog=backlog)


class AdoptingReactor:
    """Listens on a socket that is bound already, whichever address an endpoint asks for."""

    def __init__(self, reactor: Any, sock: socket.socket) -> None:
        self._reactor = reactor
        self._socket = sock

    def listenTCP(self, _port: object, factory: IProtocolFactory, **_: Any) -> IListeningPort:
        shared = SharedPort(self._reactor, self._socket, factory)
        shared.startListening()
        return shared

    def listenSSL(
        self, port: object, factory: IProtocolFactory, contextFactory: Any, **_: Any
    ) -> IListeningPort:
        return self.listenTCP(
            port, TLSMemoryBIOFactory(contextFactory, False, factory, clock=self._reactor)
        )

    def listenUNIX(self, path: object, factory: IProtocolFactory, **_: Any) -> IListeningPort:
        return self.listenTCP(path, factory)


class ShiftedReactor:
    """Listens on a port or path shifted by a number.

    The number is added to the port, or appended to the path of a UNIX socket. Port 0, which means
    any free port, stays 0.
    """

    def __init__(self, reactor: Any, number: int) -> None:
        self._reactor = reactor
        self._number = number

    def listenTCP(self, port: int, *args: Any, **options: Any) -> IListeningPort:
        bound: IListeningPort = self._reactor.listenTCP(self._shifted(port), *args, **options)
        return bound

    def listenSSL(self, port: int, *args: Any, **options: Any) -> IListeningPort:
        bound: IListeningPort = self._reactor.listenSSL(self._shifted(port), *args, **options)
        return bound

    def listenUNIX(self, address: str, *args: Any, **options: Any) -> IListeningPort:
        path = f"{address}.{self._number}"
        bound: IListeningPort = self._reactor.listenUNIX(path, *args, **options)
        return bound

    def _shifted(self, port: int) -> int:
        return port + self._number if port else 0


@implementer(IListeningPort, IReadDescriptor)
class SharedPort:
    """Accepts from a socket on which other processes accept too.

    The kernel keeps a queue of the processes that wait on a socket, and tells them of a client in
    the order of the queue. With a plain wait, the same process would be the first each time. Here a
    process that has accepted clients leaves the queue and joins it again at the end, for which it
    uses EPOLLEXCLUSIVE (epoll_ctl(2)). So clients spread evenly even if they come one by one. All
    processes are told of each client, so that no client waits for a process that hangs.

    :param sock: a listening socket; this port owns it from now on. The process that has bound it
        cleans up its path in the file system, if it has one.
    """

    def __init__(self, reactor: Any, sock: socket.socket, factory: IProtocolFactory) -> None:
        sock.setblocking(False)
        self._reactor = reactor
        self._socket = sock
        self._factory = factory
        self._queue = select.epoll()

    def startListening(self) -> None:
        self._factory.doStart()
        self._queue_up()
        self._reactor.addReader(self)

    def stopListening(self) -> None:
        """Accept no more clients, and leave them to the other processes; idempotent."""
        if not self._queue.closed:
            self._reactor.removeReader(self)
            self._queue.close()
            self._socket.close()
            self._factory.doStop()

    def getHost(self) -> IAddress:
        address = self._socket.getsockname()
        if self._socket.family == socket.AF_INET:
            return IPv4Address("TCP", *address)
        if self._socket.family == socket.AF_INET6:
            return IPv6Address("TCP", *address)
        return UNIXAddress(address)

    def fileno(self) -> int:
        return self._queue.fileno()

    def doRead(self) -> None:
        taken = 0
        while taken < _ACCEPTS and self._accept():
            taken += 1
        if taken and not self._queue.closed:
            self._queue.unregister(self._socket)
            self._queue_up()

    def logPrefix(self) -> str:
        return "shared"

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002
        self.stopListening()

    def _queue_up(self) -> None:
        self._queue.register(self._socket, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _accept(self) -> bool:
        """Accept one client, if there is one; return whether one was there."""
        try:
            client, _ = self._socket.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _EXHAUSTED:
                log.warn("clients cannot be accepted for now: {why}", why=error.strerror)
                self._rest()
            # Any other error means that the client has left; see accept(2).
            return False
        with client:
            try:
                self._reactor.adoptStreamConnection(client.fileno(), client.family, self._factory)
            except OSError:
                log.debug("a client left before it was accepted")
            except Exception:
                log.failure("a client could not be accepted")
        return True

    def _rest(self) -> None:
        self._reactor.removeReader(self)
        self._reactor.callLater(_REST_SECONDS, self._resume)

    def _resume(self) -> None:
        if not self._queue.closed:
            self._reactor.addReader(self)
