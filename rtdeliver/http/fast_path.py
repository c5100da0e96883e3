"""A shorter way for the POSTs that come most often.

It takes only what is beyond doubt: a request whose head has the plainest form, for one of a few
paths, with a body of a known length within the limit. Everything else goes to Twisted's channel
as it came, and so does all that follows on that connection; what a malformed request gets is
therefore decided in one place.
"""

import hmac
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import version
from zope.interface import implementer

from rtdeliver.actor import RunQueue
from rtdeliver.errors import InternalError, Refusal
from rtdeliver.http.replies import PostHandler, Reply, refusal_reply
from rtdeliver.http.requests import Post
from rtdeliver.http.site import BoundedSite
from rtdeliver.interfaces import IActor

log = Logger()

_HEAD_BYTES = 4096
# Heads come again and again, the same but for the length of the body.
_HEADS = 1024
_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"POST (/[a-z]+) HTTP/1\.1")
_FIELD = re.compile(rb"([A-Za-z][A-Za-z0-9-]*): ?([\x21-\x7e]+(?: [\x21-\x7e]+)*)?")
_HOST = re.compile(rb"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,9}")
# With one of these, a request is more than its head and a body of that length.
_NOT_PLAIN = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te"})


class Head(msgspec.Struct, frozen=True):
    """The head of a plain POST; a missing field is empty."""

    path: bytes
    body_bytes: int
    content_type: str
    incarnation: str
    authorization: bytes


def read_head(head: bytes) -> Head | None:
    """Return what the head of a request says, without its last blank line.

    :return: ``None`` if the request is not plain, whatever it is.
    """
    line, *lines = head.split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    found = [_FIELD.fullmatch(line) for line in lines]
    fields = {match[1].lower(): match[2] or b"" for match in found if match}
    if request is None or len(fields) < len(lines) or not _NOT_PLAIN.isdisjoint(fields):
        return None
    length = fields.get(b"content-length", b"")
    plain = (
        _HOST.fullmatch(fields.get(b"host", b""))
        and _LENGTH.fullmatch(length)
        and fields.get(b"connection", b"keep-alive").lower() == b"keep-alive"
    )
    if not plain:
        return None
    return Head(
        path=request[1],
        body_bytes=int(length),
        content_type=fields.get(b"content-type", b"").decode(),
        incarnation=fields.get(b"rt-incarnation", b"").decode(),
        authorization=fields.get(b"authorization", b""),
    )


class FastPathSite(BoundedSite):
    """A site on which some paths have the shorter way.

    :param resource: serves all requests, those for these paths too where they are not plain.
    :param posts: what serves a plain POST, by path.
    :param run_queue: gives the connections their turns.
    :param secret: what a request carries as a bearer token; empty for nothing.
    """

    def __init__(
        self,
        resource: IResource,
        *,
        posts: Mapping[str, PostHandler],
        run_queue: RunQueue,
        secret: str,
        body_bytes: int,
        idle_seconds: float,
        reactor: IReactorTime,
    ) -> None:
        super().__init__(
            resource, body_bytes=body_bytes, idle_seconds=idle_seconds, reactor=reactor
        )
        self.run_queue = run_queue
        self._posts = {path.encode(): handler for path, handler in posts.items()}
        self._expected = f"Bearer {secret}".encode() if secret else b""
        self._clock = reactor
        self._heads: dict[bytes, Head | None] = {}
        self._date = (-1, b"")

    def buildProtocol(self, addr: IAddress | None) -> "FastPathChannel":  # type: ignore[override]
        return FastPathChannel(self, addr, clock=self._clock)

    def ordinary(self, addr: IAddress | None) -> IProtocol:
        """Return a channel of Twisted's."""
        channel: IProtocol = super().buildProtocol(addr)
        return channel

    def head(self, head: bytes) -> Head | None:
        """Return what the head of a request says if the request is for here."""
        try:
            return self._heads[head]
        except KeyError:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            read = self._heads[head] = self._read(head)
            return read

    def handle(self, head: Head, body: bytes) -> Coroutine[Any, Any, Reply]:
        """Begin to serve a request."""
        return self._posts[head.path](Post(head.content_type, head.incarnation, body))

    def response(self, reply: Reply) -> bytes:
        """Return what goes to the client."""
        body = reply.body
        fields = [b"%b: %b\r\n" % (k.encode(), v.encode()) for k, v in reply.headers.items()]
        return (
            b"HTTP/1.1 %d %b\r\nServer: %b\r\nDate: %b\r\n%b"
            b"Content-Type: application/json\r\nCache-Control: no-store\r\n"
            b"Content-Length: %d\r\n\r\n%b"
        ) % (
            reply.status,
            RESPONSES[reply.status],
            version,
            self._now(),
            b"".join(fields),
            len(body),
            body,
        )

    def _read(self, head: bytes) -> Head | None:
        read = read_head(head)
        if read is None or read.path not in self._posts or read.body_bytes > self.body_bytes:
            return None
        if self._expected and not hmac.compare_digest(read.authorization, self._expected):
            return None
        return read

    def _now(self) -> bytes:
        second = int(self._clock.seconds())
        if second != self._date[0]:
            self._date = (second, datetimeToString(second))
        return self._date[1]


@implementer(IActor, IPushProducer)
class FastPathChannel(Protocol, TimeoutMixin):
    """Serves one connection, one request a turn, until one is not plain.

    It takes turns so that many who publish at once leave time between them to deliver.
    """

    transport: Any

    def __init__(self, site: FastPathSite, addr: IAddress | None, *, clock: IReactorTime) -> None:
        self._site = site
        self._clock = clock
        self._addr = addr
        self._buffer = b""
        self._needed_bytes = 0
        self._head: Head | None = None
        self._ordinary: IProtocol | None = None
        self._answering = False
        self._client_lags = False
        self._reading = True
        self.queued = False
        self._writes_at_once = False

    def connectionMade(self) -> None:
        self.setTimeout(self._site.timeOut)
        # Below TLS it would carry plaintext.
        self._writes_at_once = isinstance(self.transport, tcp.Server) and not self.transport.TLS
        # The transport's buffer has no bound of its own.
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        if self._ordinary is not None:
            self._ordinary.dataReceived(data)
            return
        self.resetTimeout()
        self._buffer += data
        self._site.run_queue.hurry(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)
        self._buffer = b""
        if self._ordinary is not None:
            self._ordinary.connectionLost(reason)

    def callLater(self, period: float, func: Callable[[], object]) -> IDelayedCall:
        return self._clock.callLater(period, func)

    def timeoutConnection(self) -> None:
        if self._answering:
            self.setTimeout(self._site.timeOut)
        elif self._client_lags:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    def pauseProducing(self) -> None:
        self._client_lags = True
        self._read(False)

    def resumeProducing(self) -> None:
        self._client_lags = False
        self._site.run_queue.add(self)

    def stopProducing(self) -> None:
        """The connection is lost, which `connectionLost` tells."""

    def turn(self) -> None:
        """Serve one request, if there is a whole one and the one before it was answered."""
        if self._ordinary is None and not (self._answering or self._client_lags):
            self._take_request()
        if self._ordinary is None:
            # While there is no use for more, none is read, so that the buffer has a bound.
            too_much = len(self._buffer) > self._site.body_bytes + _HEAD_BYTES
            self._read(not (self._answering or self._client_lags or too_much))

    def failed(self) -> None:
        self.transport.abortConnection()

    def _take_request(self) -> None:
        if not self._buffer or len(self._buffer) < self._needed_bytes:
            return
        head = self._head
        if head is None:
            end = self._buffer.find(_END, 0, _HEAD_BYTES)
            if end < 0:
                if len(self._buffer) >= _HEAD_BYTES or not _may_become_plain(self._buffer):
                    self._hand_over()
                return
            head = self._head = self._site.head(self._buffer[:end])
            if head is None:
                self._hand_over()
                return
            self._needed_bytes = end + len(_END) + head.body_bytes
            if len(self._buffer) < self._needed_bytes:
                return
        body = self._buffer[self._needed_bytes - head.body_bytes : self._needed_bytes]
        self._buffer = self._buffer[self._needed_bytes :]
        self._needed_bytes, self._head = 0, None
        self._answering = True
        handled = Deferred.fromCoroutine(self._site.handle(head, body))
        handled.addErrback(_refuse).addCallback(self._answer)

    def _answer(self, reply: Reply) -> None:
        self._answering = False
        if self.transport.connected:
            self._write(self._site.response(reply))
            if self._buffer or not self._reading:
                self._site.run_queue.add(self)

    def _write(self, data: bytes) -> None:
        # What is written otherwise goes out in the next iteration, after the turns of all streams.
        taken = self.transport.writeSomeData(data) if self._writes_at_once else 0
        if isinstance(taken, Exception):
            self.transport.abortConnection()
        elif taken < len(data):
            # From now on there may be something in the transport's buffer, to be sent first.
            self._writes_at_once = False
            self.transport.write(data[taken:])

    def _hand_over(self) -> None:
        self._read(True)
        self.setTimeout(None)
        self.transport.unregisterProducer()
        self._ordinary = self._site.ordinary(self._addr)
        self._ordinary.makeConnection(self.transport)
        buffer, self._buffer = self._buffer, b""
        self._ordinary.dataReceived(buffer)

    def _read(self, reading: bool) -> None:
        if reading != self._reading:
            self._reading = reading
            (self.transport.resumeProducing if reading else self.transport.pauseProducing)()


def _may_become_plain(begin: bytes) -> bool:
    line, ended, _ = begin.partition(b"\r\n")
    return _REQUEST_LINE.fullmatch(line) is not None if ended else b"POST /".startswith(line[:6])


def _refuse(failure: Failure) -> Reply:
    if isinstance(failure.value, Refusal):
        return refusal_reply(failure.value)
    log.failure("a request failed", failure)
    return refusal_reply(InternalError("this is a fault of the server; its log says more"))
