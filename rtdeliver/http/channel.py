"""How Twisted's HTTP channel keeps its clients to deadlines and to the rules of HTTP."""

import enum
from collections.abc import Mapping
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from zope.interface import implementer

from rtdeliver.errors import BadRequest, Refusal, RequestTimeout
from rtdeliver.http.head import list_of, read_head, read_request_line, too_large
from rtdeliver.http.intake import Part
from rtdeliver.http.replies import last_response


class _State(enum.Enum):
    """What a channel does while it waits for no part of a request."""

    IDLE = enum.auto()
    ANSWERING = enum.auto()
    CLOSING = enum.auto()


@implementer(IHalfCloseableProtocol)
class BoundedChannel(HTTPChannel):
    """A channel that checks heads, and waits for the head and the body of a request for some time.

    Twisted's own timer begins again with each byte. Here it begins with each part of a request.
    While a request is answered there is no limit. A connection that is being closed is cut off
    when it is still there after ``idle_seconds``.

    :ivar has_answered: whether the request that is being received has got its answer already, so
        that the client gets no other one.
    """

    site: Any
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.has_answered = False
        self.target = b""
        """The path, perhaps with a query, of the request that is being received."""
        self._head: list[bytes] = []
        self._head_bytes = 0
        self._doing: _State | Part = _State.IDLE
        self._waited: dict[Part, float] = {}

    def connectionMade(self) -> None:
        # Twisted's own bounds. It answers nothing where they are exceeded.
        self.MAX_LENGTH = self.site.intake.head_bytes
        self.totalHeadersSize = self.site.intake.head_bytes
        super().connectionMade()
        self._note_idle()

    def resume(self, pieces: list[bytes], waited: Mapping[Part, float]) -> None:
        """Go on with a request whose beginning another protocol has received.

        :param pieces: what came of it.
        :param waited: for how many seconds each part was waited for already.
        """
        self._waited = dict(waited)
        for piece in pieces:
            self.dataReceived(piece)
        self._waited.clear()

    def resetTimeout(self) -> None:
        """Do nothing: bytes do not postpone a deadline."""

    def dataReceived(self, data: bytes) -> None:
        if self._doing is _State.CLOSING:
            return
        if self._doing is _State.IDLE:
            self._wait_for(Part.HEAD)
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        if self._doing is _State.CLOSING:
            return
        if self._doing is _State.IDLE:
            # The request came in one piece with the one before it.
            self._wait_for(Part.HEAD)
        self._head_bytes += len(line) + len(self.delimiter)
        if self._head_bytes > self.site.intake.head_bytes:
            self.lineLengthExceeded(line)
            return
        try:
            if line:
                self._receive_head_line(line)
            elif self._head:
                self._receive_head()
        except Refusal as refusal:
            self._refuse(refusal)

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002
        self._refuse(too_large(self._head, self.site.intake.head_bytes))

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        manners = list_of(request.requestHeaders.getRawHeaders(b"Connection", []))
        if version == b"HTTP/1.1" and b"close" not in manners:
            return True
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def allHeadersReceived(self) -> None:
        if self.length != 0:
            self._wait_for(Part.BODY)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        if self._doing is _State.CLOSING:
            return
        self._doing = _State.ANSWERING
        # Twisted takes this as the time to wait for the next request.
        self.timeOut = self.site.timeOut
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        self._doing = _State.IDLE
        self._note_idle()
        super().requestDone(request)

    def loseConnection(self) -> None:
        if self._doing is _State.CLOSING:
            return
        self._doing = _State.CLOSING
        self.setTimeout(self.site.timeOut)
        super().loseConnection()

    def timeoutConnection(self) -> None:
        if self._doing is _State.CLOSING:
            self.transport.abortConnection()
            return
        if isinstance(self._doing, Part):
            self._give_up(self._doing)
        self.loseConnection()

    def answer_last(self, refusal: Refusal) -> None:
        """Answer a request that has not come completely; the connection is to end with that."""
        self.site.intake.count_refused(refusal.status, self.transport.getPeer())
        self.transport.write(last_response(refusal))

    def readConnectionLost(self) -> None:
        """The client sends no more; what was answered already is sent to it."""
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: `_linger` has asked for it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.let_go()

    def let_go(self) -> None:
        """The connection has ended, or is no longer this channel's."""
        self.setTimeout(None)
        if self.site.waiting is not None:
            self.site.waiting.gone(self)

    def drop(self) -> None:
        """End the connection at once, since there are too many."""
        self.transport.abortConnection()

    def _receive_head_line(self, line: bytes) -> None:
        if not self._head:
            # At once, for people who type, and for clients of other protocols.
            read_request_line(line)
        self._head.append(line)

    def _receive_head(self) -> None:
        head = read_head(self._head)
        self._head, self._head_bytes = [], 0
        self.target = head.target
        for line in (*head.lines, b""):
            super().lineReceived(line)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a request that cannot be read on."""
        if not self.has_answered:
            self.answer_last(refusal)
        self._linger()

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Heads that Twisted would refuse are refused before, so this is for chunks of a body.
        self._refuse(BadRequest("the chunks of the body are malformed"))

    def _linger(self) -> None:
        """Close the connection once the client has seen the answer.

        Data that came and was not read would make the kernel reset the connection, and the client
        lose the answer (RFC 9112, section 9.6).
        """
        self._doing = _State.CLOSING
        self.setTimeout(self.site.intake.seconds(Part.HEAD))
        if isinstance(self.transport, tcp.Server) and not self.transport.TLS:
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()
        else:
            super().loseConnection()

    def _note_idle(self) -> None:
        if self.site.waiting is not None:
            self.site.waiting.idle(self)

    def _wait_for(self, part: Part) -> None:
        self._doing = part
        if self.site.waiting is not None:
            self.site.waiting.busy(self)
        seconds = self.site.intake.seconds(part) - self._waited.pop(part, 0)
        self.setTimeout(max(0, seconds))

    def _give_up(self, part: Part) -> None:
        if self.has_answered:
            return
        intake = self.site.intake
        intake.count_late(part)
        late = RequestTimeout(
            f"the {part.value} of a request must come within {intake.seconds(part):.15g} s"
        )
        self.answer_last(late)
