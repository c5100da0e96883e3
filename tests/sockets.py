"""Real sockets without a running reactor: the test drives one, and clients read when it says so.

Nothing here waits for time to pass: what is waited for is a socket that is ready.
"""

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

PATIENCE_SECONDS = 30.0
"""How long a socket may take to become ready before a test fails."""

_READ_BYTES = 4096


class SocketReactor(MemoryReactorClock):
    """Serves real sockets when the test says so, on a clock that the test advances."""

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        return self._listen(tcp.Port(port, factory, backlog, interface, self))

    def listenUNIX(
        self,
        address: str,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: int = 0,
    ) -> IListeningPort:
        path = address.encode()
        return self._listen(unix.Port(path, factory, backlog, mode, self, wantPID))

    def serve_until(self, condition: Callable[[], object], what: str) -> None:
        """Serve what is ready, and wait for more, until ``condition()`` is true."""
        self.advance(0)
        while not condition():
            if not self._serve_ready(PATIENCE_SECONDS):
                raise AssertionError(f"waited in vain until {what}")

    def settle(self) -> None:
        """Serve what is ready until nothing is."""
        self.advance(0)
        while self._serve_ready(0):
            pass

    def _listen(self, port: Any) -> IListeningPort:
        port.startListening()
        listening: IListeningPort = port
        return listening

    def _serve_ready(self, seconds: float) -> bool:
        readable, writable, _ = select.select(self.readers, self.writers, [], seconds)
        for descriptor in readable:
            if descriptor in self.readers:
                self._serve(descriptor, descriptor.doRead, is_read=True)
        for descriptor in writable:
            if descriptor in self.writers:
                self._serve(descriptor, descriptor.doWrite, is_read=False)
        self.advance(0)
        return bool(readable or writable)

    def _serve(self, descriptor: Any, act: Callable[[], Any], *, is_read: bool) -> None:
        """Act, and take leave of a descriptor that has ended, as Twisted's reactors do."""
        why = act()
        if why:
            self.removeReader(descriptor)
            self.removeWriter(descriptor)
            if is_read and isinstance(why, ConnectionDone):
                descriptor.readConnectionLost(Failure(why))
            else:
                descriptor.connectionLost(Failure(why))


class Client:
    """The other end of a connection: it reads when it is told to, and never more than that.

    ``received`` is what it has read; ``wire`` is that as it came from the socket.
    """

    def __init__(self, reactor: SocketReactor, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.received = b""
        self.wire = b""
        self.has_ended = False
        self._reactor = reactor
        self._socket = sock
        self._wanted = 0

    def send(self, data: bytes) -> None:
        """Send ``data``, for which there must be room."""
        sent = self._socket.send(data)
        assert sent == len(data), sent

    def peek(self) -> bytes:
        """Return what has come by now and was not read."""
        return self._socket.recv(_READ_BYTES, socket.MSG_PEEK)

    def read(self, size: int) -> None:
        """Read until it has had ``size`` bytes in all, or the connection has ended."""
        self._wanted = size
        self._take(b"")
        self._reactor.addReader(self)
        self._reactor.serve_until(lambda: self._has_enough, f"{size} bytes came")
        self._reactor.removeReader(self)

    def read_to_the_end(self) -> None:
        """Read all that comes until the connection has ended."""
        self.read(1 << 60)

    def close(self) -> None:
        """Leave, with whatever was not read; idempotent."""
        self._reactor.removeReader(self)
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def doRead(self) -> None:
        try:
            data = self._socket.recv(self._limit())
        except ConnectionError:
            data = b""
        if not data:
            self.has_ended = True
        self.wire += data
        self._take(data)

    @property
    def _has_enough(self) -> bool:
        return self.has_ended or len(self.received) >= self._wanted

    def _limit(self) -> int:
        """How much may be read from the socket at once."""
        return min(_READ_BYTES, self._wanted - len(self.received))

    def _take(self, data: bytes) -> None:
        self.received += data


class TlsClient(Client):
    """A client that speaks TLS, and trusts everybody.

    It answers the server's last word only where ``is_polite``.
    """

    def __init__(self, reactor: SocketReactor, sock: socket.socket) -> None:
        super().__init__(reactor, sock)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.is_polite = True
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._is_ready = False

    def shake_hands(self) -> None:
        """Begin to speak TLS."""
        self._wanted = 1
        self._take(b"")
        self._reactor.addReader(self)
        self._reactor.serve_until(lambda: self._is_ready, "the handshake is over")
        self._reactor.removeReader(self)

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def _limit(self) -> int:
        # What makes a byte of a record readable is the whole record.
        return _READ_BYTES

    def _take(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if not self._is_ready:
                self._tls.do_handshake()
                self._is_ready = True
            while len(self.received) < self._wanted and not self.has_ended:
                got = self._tls.read(super()._limit())
                self.received += got
                if not got:
                    self.has_ended = True
                    self._say_goodbye()
        except ssl.SSLWantReadError:
            pass
        self._flush()

    def _say_goodbye(self) -> None:
        if self.is_polite:
            with suppress(ssl.SSLWantReadError):
                self._tls.unwrap()

    def _flush(self) -> None:
        if self._outgoing.pending:
            super().send(self._outgoing.read())
