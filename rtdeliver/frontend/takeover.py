"""How a connection takes over its transport from the HTTP server that accepted it.

This is the only module that uses private parts of Twisted. It releases the request, its channel
and Klein's objects; a stream then needs about a tenth of the memory. It sends data in one system
call; a transport's ``write`` needs three: a send and two changes of the epoll set.
"""

import errno
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet import tcp
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.web.server import Request
from zope.interface import implementer

from rtdeliver.config.sections import Sockets
from rtdeliver.errors import StreamLost
from rtdeliver.frontend.chunked import PlainStream
from rtdeliver.interfaces import IStream, IStreamOwner


def response_head(request: Request) -> bytes:
    """Return the head of a 200 response with the header fields that were set on ``request``.

    The body comes in chunks, or to an HTTP/1.0 client until the connection is closed.
    """
    request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
    if _takes_chunks(request):
        request.responseHeaders.setRawHeaders(b"Transfer-Encoding", [b"chunked"])
    lines = [b"HTTP/1.1 200 OK"]
    for name, values in request.responseHeaders.getAllRawHeaders():
        lines.extend(b"%b: %b" % (name, value) for value in values)
    return b"\r\n".join([*lines, b"", b""])


def take_over(request: Request, owner: IStreamOwner, settings: Sockets) -> None:
    """Give the transport of a ``request`` to ``owner``, which then writes the response, in chunks.

    ``owner`` becomes the transport's protocol, and its ``attached`` is called with the stream.
    Afterwards nothing refers to the request or its channel.
    """
    untyped: Any = request
    channel: Any = request.channel
    transport = channel.transport
    channel.let_go()
    transport.unregisterProducer()
    if hasattr(transport, "wrappedProtocol"):
        transport.wrappedProtocol = owner
    else:
        transport.protocol = owner
    untyped.notifications = []
    channel.requests = []
    channel.transport = None
    untyped.channel = None
    # The channel may have paused the transport, if the client sent more than the request.
    transport.resumeProducing()
    with suppress(OSError):  # The client may be gone; the next read notices that.
        _set_socket_options(_connection_below(transport).socket, settings)
    if _takes_chunks(request):
        owner.attached(_stream(transport, owner))
    else:
        plain = PlainStream(owner)
        plain.attached(_stream(transport, plain))


def _takes_chunks(request: Request) -> bool:
    return bool(request.clientproto != b"HTTP/1.0")


class _Writer(Protocol):
    """Who sends to a stream."""

    def writable(self) -> None:
        """See `IStreamOwner`."""


def _stream(transport: Any, owner: _Writer) -> IStream:
    # With TLS, data that is written to the socket directly would be plaintext.
    if isinstance(transport, tcp.Server) and not transport.TLS:
        return SocketStream(transport, owner)
    return TransportStream(transport, owner)


@implementer(IStream, IPullProducer)
class SocketStream:
    """Sends to the socket directly; it needs the reactor only when the kernel's buffer is full."""

    __slots__ = ("_owner", "_send", "_transport", "_waiting")

    def __init__(self, transport: tcp.Server, owner: _Writer) -> None:
        self._transport = transport
        self._owner = owner
        # Answers to earlier requests on the same connection may wait in the transport.
        self._send: Callable[[bytes], int] = (
            _take_nothing if _holds(transport) else transport.socket.send
        )
        self._waiting = False

    def send(self, data: bytes) -> int:
        try:
            accepted = self._send(data)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.ENOBUFS):
                raise StreamLost(str(error)) from None
            accepted = 0
        if accepted < len(data):
            self._wait()
        return accepted

    def unsent_bytes(self) -> int:
        return _unsent_bytes(self._transport.socket)

    def close(self) -> None:
        self._transport.loseConnection()

    def abort(self) -> None:
        self._transport.abortConnection()

    def _wait(self) -> None:
        # The transport's own buffer is always empty here, so the transport asks a pull producer for
        # more as soon as the socket is writable. It also asks once during the registration.
        self._transport.registerProducer(self, False)
        self._waiting = True
        self._transport.startWriting()

    def resumeProducing(self) -> None:
        if self._waiting:
            self._waiting = False
            self._transport.unregisterProducer()
            self._send = self._transport.socket.send
            self._owner.writable()

    def stopProducing(self) -> None:
        """Do nothing: the transport is lost, and calls the owner's ``connectionLost``."""


@implementer(IStream, IPushProducer)
class TransportStream:
    """Sends through the transport, as TLS requires, and keeps the transport's buffer bounded."""

    __slots__ = ("_full", "_owner", "_transport", "_waiting")

    def __init__(self, transport: Any, owner: _Writer) -> None:
        self._transport = transport
        self._owner = owner
        self._full = False
        self._waiting = False
        transport.registerProducer(self, True)

    def send(self, data: bytes) -> int:
        if self._full:
            self._waiting = True
            return 0
        self._transport.write(data)
        return len(data)

    def unsent_bytes(self) -> int:
        # The transport's own buffer refills the kernel's while the client reads, so the kernel's
        # share alone could stand still.
        below = _connection_below(self._transport)
        return _unsent_bytes(below.socket) + _holds(below)

    def close(self) -> None:
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def abort(self) -> None:
        self._transport.abortConnection()

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False
        if self._waiting:
            self._waiting = False
            self._owner.writable()

    def stopProducing(self) -> None:
        """Do nothing: the transport is lost, and calls the owner's ``connectionLost``."""


def _holds(connection: tcp.Connection) -> int:
    """Return how many bytes wait in the buffer of a transport."""
    held: int = len(connection.dataBuffer) - connection.offset + connection._tempDataLen
    return held


def _take_nothing(_: bytes) -> int:
    return 0


def _connection_below(transport: Any) -> tcp.Connection:
    while not isinstance(transport, tcp.Connection):
        transport = transport.transport
    return transport


def _set_socket_options(sock: socket.socket, settings: Sockets) -> None:
    if settings.send_buffer_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.send_buffer_bytes)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, settings.tcp_keepalive_seconds)
    sock.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.tcp_user_timeout_seconds * 1000
    )


def _unsent_bytes(sock: socket.socket) -> int:
    """Return how many bytes the kernel holds for the peer: unsent, or sent and not acknowledged.

    See tcp(7), SIOCOUTQ.
    """
    answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    held: int = struct.unpack("i", answer)[0]
    return held
