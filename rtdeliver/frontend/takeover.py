"""How a connection takes its transport over from the HTTP server that accepted it.

The only module that knows private parts of Twisted: the request, its channel and Klein's objects
are let go, which leaves about a tenth of their memory, and data goes to the socket in one system
call, where a transport's ``write`` takes a send and two changes of epoll's set.
"""

import errno
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.web.server import Request
from zope.interface import implementer

from rtdeliver.config.sections import Sockets
from rtdeliver.errors import StreamLost
from rtdeliver.interfaces import IStream, IStreamOwner


def response_head(request: Request) -> bytes:
    """Return a 200 with the header fields of ``request``, for a body that the close ends."""
    request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
    lines = [b"HTTP/1.1 200 OK"]
    for name, values in request.responseHeaders.getAllRawHeaders():
        lines.extend(b"%b: %b" % (name, value) for value in values)
    return b"\r\n".join([*lines, b"", b""])


def take_over(request: Request, owner: IStreamOwner, settings: Sockets) -> None:
    """Give the transport of an HTTP/1.1 ``request`` to ``owner``, who then writes the response.

    ``owner`` becomes the transport's protocol and is told of the stream by its ``attached``.
    Afterwards nothing refers to the request or its channel any more.
    """
    taken: Any = request
    channel: Any = request.channel
    transport = channel.transport
    channel.setTimeout(None)
    transport.unregisterProducer()
    if hasattr(transport, "wrappedProtocol"):
        transport.wrappedProtocol = owner
    else:
        transport.protocol = owner
    taken.notifications = []
    channel.requests = []
    channel.transport = None
    taken.channel = None
    # The channel may have paused it, for a client that sent more than it asked.
    transport.resumeProducing()
    with suppress(OSError):  # The client may be gone already, which reading will tell.
        _set_socket_options(_socket_below(transport), settings)
    owner.attached(_stream(transport, owner))


def _stream(transport: Any, owner: IStreamOwner) -> IStream:
    # Below TLS the socket must not be written to directly: it would carry plaintext.
    if isinstance(transport, tcp.Server) and not transport.TLS:
        return SocketStream(transport, owner)
    return TransportStream(transport, owner)


@implementer(IStream, IPullProducer)
class SocketStream:
    """Sends straight to the socket, and asks the reactor for help only when the kernel is full."""

    __slots__ = ("_owner", "_send", "_transport", "_waiting")

    def __init__(self, transport: tcp.Server, owner: IStreamOwner) -> None:
        self._transport = transport
        self._owner = owner
        self._send: Callable[[bytes], int] = transport.socket.send
        self._waiting = False

    def send(self, data: bytes) -> int:
        try:
            taken = self._send(data)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.ENOBUFS):
                raise StreamLost(str(error)) from None
            taken = 0
        if taken < len(data):
            self._wait()
        return taken

    def unsent_bytes(self) -> int:
        return _unsent_bytes(self._transport.socket)

    def close(self) -> None:
        self._transport.loseConnection()

    def abort(self) -> None:
        self._transport.abortConnection()

    def _wait(self) -> None:
        # A pull producer is asked for more once the transport, whose own buffer is always empty
        # here, finds that it can write. It is also asked at its registration.
        self._transport.registerProducer(self, False)
        self._waiting = True
        self._transport.startWriting()

    def resumeProducing(self) -> None:
        if self._waiting:
            self._waiting = False
            self._transport.unregisterProducer()
            self._owner.writable()

    def stopProducing(self) -> None:
        """The transport is lost; the owner is told by its ``connectionLost``."""


@implementer(IStream, IPushProducer)
class TransportStream:
    """Sends through a transport that must see the data, as TLS does; its buffer is bounded here."""

    __slots__ = ("_full", "_owner", "_transport", "_waiting")

    def __init__(self, transport: Any, owner: IStreamOwner) -> None:
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
        return _unsent_bytes(_socket_below(self._transport))

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
        """The transport is lost; the owner is told by its ``connectionLost``."""


def _socket_below(transport: Any) -> socket.socket:
    while not isinstance(transport, tcp.Connection):
        transport = transport.transport
    sock: socket.socket = transport.socket
    return sock


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
    """What the kernel holds for the peer, sent or not, until it is acknowledged (SIOCOUTQ)."""
    answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    held: int = struct.unpack("i", answer)[0]
    return held
