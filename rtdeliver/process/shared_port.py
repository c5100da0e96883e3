"""How several processes listen side by side: on one socket, or each on a port of its own."""

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
from rtdeliver.process.listeners import listen

log = Logger()

# So few at once that others get their share of a crowd, so many that one iteration of a busy
# reactor takes more than one.
_ACCEPTS = 8
# How long a process leaves the clients to the others when it has no descriptors left.
_REST_SECONDS = 1.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def share(key: str, description: str, port: IListeningPort) -> int:
    """Accept nothing on ``port``, which was bound in this iteration of the reactor.

    :return: the descriptor of its socket, which stays the port's.
    :raises ConfigError: if it has none.
    """
    held: Any = port
    try:
        held.stopReading()
        descriptor: int = held.fileno()
    except AttributeError:
        raise ConfigError(f"{key}: workers cannot share {description}") from None
    return descriptor


def listen_shared(
    reactor: Any, key: str, description: str, factory: IProtocolFactory, *, sock: socket.socket
) -> IListeningPort:
    """Listen as an endpoint string says, TLS and all, but on a socket that is bound already.

    :raises ConfigError: as `rtdeliver.process.listeners.listen` does.
    """
    # It names a socket that the service manager has bound, and means nothing but that.
    if description.startswith("systemd:"):
        return AdoptingReactor(reactor, sock).listenTCP(0, factory)
    return listen(AdoptingReactor(reactor, sock), key, description, factory, backlog=0)


def listen_beside(
    reactor: Any,
    key: str,
    description: str,
    factory: IProtocolFactory,
    *,
    number: int,
    backlog: int,
) -> IListeningPort:
    """Listen as an endpoint string says, but ``number`` ports further, or at a path that ends so.

    :raises ConfigError: as `rtdeliver.process.listeners.listen` does.
    """
    return listen(ShiftedReactor(reactor, number), key, description, factory, backlog=backlog)


class AdoptingReactor:
    """Listens on one socket, which is bound already, whatever address an endpoint asks for."""

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
    """Listens so many ports further than it is asked to, or at a path that ends in the number.

    Port 0, which stands for any free one, stays as it is.
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

    Each process waits in the socket's own queue of those to be told of a client. A process that
    has taken some leaves the queue and joins it again at the end, which EPOLLEXCLUSIVE is for
    (epoll_ctl(2)); so clients spread evenly also when they come one by one, where a plain wait
    would tell the same process first each time. All are told all the same, so that none has to
    wait for one that hangs.

    :param sock: listens, and belongs to this port from now on. What it is bound to, such as a
        path in the file system, is its binder's to clean up.
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
        """Accept no more, and leave what comes to the other processes; idempotent."""
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
        """Take one client, if there is one."""
        try:
            client, _ = self._socket.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _EXHAUSTED:
                log.warn("no client can be accepted for now: {why}", why=error.strerror)
                self._rest()
            # Any other error is the client's, who has left; see accept(2).
            return False
        with client:
            try:
                self._reactor.adoptStreamConnection(client.fileno(), client.family, self._factory)
            except OSError:
                log.debug("a client left before it was taken")
            except Exception:
                log.failure("a client was not taken")
        return True

    def _rest(self) -> None:
        self._reactor.removeReader(self)
        self._reactor.callLater(_REST_SECONDS, self._resume)

    def _resume(self) -> None:
        if not self._queue.closed:
            self._reactor.addReader(self)
