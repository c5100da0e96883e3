"""How the most frequent POSTs are served at little cost.

The fast path serves plain requests: the head has the simplest form, the path is one of a few, and
the body has a known length within the limit. All other requests go unchanged to Twisted's channel,
with everything that follows on the same connection. So only Twisted's channel decides what is
malformed, and how it is answered.
"""

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource
from zope.interface import implementer

from rtdeliver.actor import RunQueue
from rtdeliver.errors import Refusal
from rtdeliver.http.access import Gate
from rtdeliver.http.channel import BoundedChannel
from rtdeliver.http.intake import Intake, Part
from rtdeliver.http.replies import (
    COMMON_LINES,
    PostHandler,
    Reply,
    internal_error,
    reason_phrase,
    refusal_reply,
)
from rtdeliver.http.requests import Post
from rtdeliver.http.site import BoundedSite
from rtdeliver.interfaces import IActor

log = Logger()

_HEAD_BYTES = 4096
# How many heads are remembered: a client repeats the same head, with other lengths of the body.
_HEADS = 1024
_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"POST (/[a-z]+) HTTP/1\.1")
_FIELD = re.compile(rb"([A-Za-z][A-Za-z0-9-]*): ?([\x21-\x7e]+(?: [\x21-\x7e]+)*)?")
_HOST = re.compile(rb"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,9}")
# With one of these fields, a request is more than its head and a body of the given length.
_NOT_PLAIN = frozenset(
    {b"content-encoding", b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te"}
)


class Head(msgspec.Struct, frozen=True):
    """The head of a plain POST; a missing field is empty.

    :param token: see `rtdeliver.http.requests.Post.token`.
    """

    path: bytes
    body_bytes: int
    content_type: str
    incarnation: str
    authorization: bytes
    host: bytes
    token: str = ""


def read_head(head: bytes) -> Head | None:
    """Read the head of a request.

    :param head: the bytes before the blank line.
    :return: ``None`` if the request is not plain.
    """
    line, *lines = head.split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    found = [_FIELD.fullmatch(line) for line in lines]
    fields = {match[1].lower(): match[2] or b"" for match in found if match}
    if request is None or len(fields) < len(lines) or not _NOT_PLAIN.isdisjoint(fields):
        return None
    length, host = fields.get(b"content-length", b""), fields.get(b"host", b"")
    plain = (
        _HOST.fullmatch(host)
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
        host=host,
    )


class FastPathSite(BoundedSite):
    """A site with a fast path for some paths.

    :param resource: serves all other requests, and requests for these paths that are not plain.
    :param posts: the handlers of plain POSTs, by path.
    :param run_queue: gives the connections their turns.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        resource: IResource,
        *,
        posts: Mapping[str, PostHandler],
        run_queue: RunQueue,
        body_bytes: int,
        idle_seconds: float,
        intake: Intake,
        gate: Gate,
        reactor: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        super().__init__(
            resource,
            body_bytes=body_bytes,
            idle_seconds=idle_seconds,
            intake=intake,
            gate=gate,
            reactor=reactor,
        )
        self.run_queue = run_queue
        self._posts = {path.encode(): handler for path, handler in posts.items()}
        self._gate = gate
        self._clock = reactor
        self._now = now
        self._heads: dict[bytes, Head | None] = {}
        self._date = (-1, b"")

    def use_secrets(self, secrets: Sequence[str]) -> None:
        """Require one of these secrets from now on; none for an open listener."""
        self._gate.use_secrets(secrets)
        # What they were read as depends on the secret.
        self._heads.clear()

    def buildProtocol(self, addr: IAddress | None) -> "FastPathChannel":  # type: ignore[override]
        return FastPathChannel(self, addr, clock=self._clock)

    def ordinary(self, addr: IAddress | None) -> BoundedChannel:
        """Return a channel of Twisted, for requests that are not plain."""
        channel: BoundedChannel = super().buildProtocol(addr)
        return channel

    def head(self, head: bytes) -> Head | None:
        """Return what the head of a request says; ``None`` if Twisted's channel has to serve it."""
        try:
            return self._heads[head]
        except KeyError:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            read = self._heads[head] = self._read(head)
            return read

    def handle(self, head: Head, body: bytes) -> Coroutine[Any, Any, Reply]:
        """Start to serve a request."""
        post = Post(head.content_type, head.incarnation, body, head.token)
        return self._posts[head.path](post)

    def response(self, reply: Reply) -> bytes:
        """Return the bytes of the response."""
        body = reply.body
        fields = [b"%b: %b\r\n" % (k.encode(), v.encode()) for k, v in reply.headers.items()]
        return (
            b"HTTP/1.1 %d %b\r\n%bDate: %b\r\n%b"
            b"Content-Type: application/json\r\nCache-Control: no-store\r\n"
            b"Content-Length: %d\r\n\r\n%b"
        ) % (
            reply.status,
            reason_phrase(reply.status),
            COMMON_LINES,
            self._date_now(),
            b"".join(fields),
            len(body),
            body,
        )

    def _read(self, head: bytes) -> Head | None:
        read = read_head(head)
        if read is None or read.path not in self._posts or read.body_bytes > self.body_bytes:
            return None
        refusal = self._gate.refusal(
            target=read.path, hosts=[read.host], authorization=read.authorization
        )
        if refusal:
            return None
        token = self._gate.token(target=read.path, authorization=read.authorization)
        return replace(read, token=token) if token else read

    def _date_now(self) -> bytes:
        second = int(self._now())
        if second != self._date[0]:
            self._date = (second, datetimeToString(second))
        return self._date[1]


@implementer(IActor, IPushProducer, IHalfCloseableProtocol)
class FastPathChannel(Protocol, TimeoutMixin):
    """Serves one connection, one request in each turn, until a request is not plain.

    It takes turns so that many clients that publish at once leave time for deliveries.

    What goes wrong is left to Twisted's channel, too: a client that is late, and a body for which
    there is no room.
    """

    transport: Any

    def __init__(self, site: FastPathSite, addr: IAddress | None, *, clock: IReactorTime) -> None:
        self._site = site
        self._clock = clock
        self._addr = addr
        # What came in one piece stays as it is, which costs least.
        self._buffer: bytes | bytearray = b""
        self._needed_bytes = 0
        self._held_bytes = 0
        self._head: Head | None = None
        self._awaited: Part | None = None
        self._awaited_since = 0.0
        self._ordinary: BoundedChannel | None = None
        self._answering = False
        self._client_lags = False
        self._reading = True
        self.queued = False
        self._writes_at_once = False

    def connectionMade(self) -> None:
        self.setTimeout(self._site.timeOut)
        # Writing below TLS would send plaintext.
        self._writes_at_once = isinstance(self.transport, tcp.Server) and not self.transport.TLS
        # The transport's buffer has no bound, so nothing is read while the client lags.
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        if self._ordinary is not None:
            self._ordinary.dataReceived(data)
            return
        if self._awaited is None:
            self.resetTimeout()
        if not self._buffer:
            self._buffer = data
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data
        self._site.run_queue.hurry(self)

    def readConnectionLost(self) -> None:
        """The client sends no more; what was answered already is sent to it."""
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: this side closes the connection as a whole only."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)
        self._buffer = b""
        self._release()
        if self._ordinary is not None:
            self._ordinary.connectionLost(reason)

    def callLater(self, period: float, func: Callable[[], object]) -> IDelayedCall:
        return self._clock.callLater(period, func)

    def timeoutConnection(self) -> None:
        if self._answering:
            self.setTimeout(self._site.timeOut)
        elif self._client_lags:
            self.transport.abortConnection()
        elif self._awaited is not None:
            self._hand_over()
        else:
            self._hand_over().loseConnection()

    def pauseProducing(self) -> None:
        self._client_lags = True
        self._read(False)

    def resumeProducing(self) -> None:
        self._client_lags = False
        self._site.run_queue.add(self)

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` is called too."""

    def turn(self) -> None:
        """Serve one request, if it is complete and the one before it is answered."""
        if self._ordinary is None and not (self._answering or self._client_lags):
            self._take_request()
        if self._ordinary is None:
            # While no request can be taken, nothing is read, so that the buffer has a bound.
            has_next = len(self._buffer) > (self._needed_bytes or _HEAD_BYTES)
            self._read(not (self._answering or self._client_lags or has_next))

    def failed(self) -> None:
        self.transport.abortConnection()

    def _take_request(self) -> None:
        if not self._buffer:
            return
        if self._head is None:
            end = self._buffer.find(_END, 0, _HEAD_BYTES)
            if end < 0:
                if len(self._buffer) >= _HEAD_BYTES or not _may_become_plain(self._buffer):
                    self._hand_over()
                else:
                    self._wait_for(Part.HEAD)
                return
            self._head = self._site.head(bytes(self._buffer[:end]))
            if self._head is None:
                self._hand_over()
                return
            self._needed_bytes = end + len(_END) + self._head.body_bytes
        if len(self._buffer) >= self._needed_bytes:
            self._serve(self._head)
        elif self._has_room():
            self._wait_for(Part.BODY)
        else:
            self._hand_over()

    def _serve(self, head: Head) -> None:
        body = bytes(self._buffer[self._needed_bytes - head.body_bytes : self._needed_bytes])
        if isinstance(self._buffer, bytes):
            self._buffer = self._buffer[self._needed_bytes :]
        else:
            del self._buffer[: self._needed_bytes]
        self._needed_bytes, self._head = 0, None
        if self._awaited is not None:
            self._release()
            self._awaited = None
            self.setTimeout(self._site.timeOut)
        self._answering = True
        handled = Deferred.fromCoroutine(self._site.handle(head, body))
        handled.addErrback(_refuse).addCallback(self._answer)

    def _wait_for(self, part: Part) -> None:
        if self._awaited is not part:
            self._awaited = part
            self._awaited_since = self._clock.seconds()
            self.setTimeout(self._site.intake.seconds(part))

    def _has_room(self) -> bool:
        """Take room for what came of the body by now."""
        more = len(self._buffer) - self._held_bytes
        if not self._site.intake.hold(more):
            return False
        self._held_bytes += more
        return True

    def _release(self) -> None:
        self._site.intake.release(self._held_bytes)
        self._held_bytes = 0

    def _answer(self, reply: Reply) -> None:
        self._answering = False
        if reply.status >= 400:
            self._site.intake.count_refused(reply.status, self.transport.getPeer())
        if self.transport.connected:
            self._write(self._site.response(reply))
            if self._buffer or not self._reading:
                self._site.run_queue.add(self)

    def _write(self, data: bytes) -> None:
        # `transport.write` would send only in the next iteration, after the turns of all streams.
        taken = self.transport.writeSomeData(data) if self._writes_at_once else 0
        if isinstance(taken, Exception):
            self.transport.abortConnection()
        elif taken < len(data):
            # From now on, bytes in the transport's buffer may have to be sent first.
            self._writes_at_once = False
            self.transport.write(data[taken:])

    def _hand_over(self) -> BoundedChannel:
        self._read(True)
        self.setTimeout(None)
        self._release()
        self.transport.unregisterProducer()
        self._ordinary = self._site.ordinary(self._addr)
        self._ordinary.makeConnection(self.transport)
        buffer, self._buffer = bytes(self._buffer), b""
        # Twisted copies all that comes with a head for each line of it.
        head_bytes = self._needed_bytes - self._head.body_bytes if self._head else len(buffer)
        self._ordinary.resume(
            [piece for piece in (buffer[:head_bytes], buffer[head_bytes:]) if piece], self._waited()
        )
        return self._ordinary

    def _waited(self) -> dict[Part, float]:
        if self._awaited is None:
            return {}
        return {self._awaited: self._clock.seconds() - self._awaited_since}

    def _read(self, reading: bool) -> None:
        if reading != self._reading:
            self._reading = reading
            (self.transport.resumeProducing if reading else self.transport.pauseProducing)()


def _may_become_plain(begin: bytes | bytearray) -> bool:
    line, ended, _ = begin.partition(b"\r\n")
    return _REQUEST_LINE.fullmatch(line) is not None if ended else b"POST /".startswith(line[:6])


def _refuse(failure: Failure) -> Reply:
    if isinstance(failure.value, Refusal):
        return refusal_reply(failure.value)
    log.failure("a request failed", failure)
    return refusal_reply(internal_error())
