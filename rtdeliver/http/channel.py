"""How Twisted's HTTP channel keeps its clients to deadlines."""

import enum
from collections.abc import Mapping
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from rtdeliver.errors import RequestTimeout
from rtdeliver.http.intake import Part
from rtdeliver.http.replies import last_response


class _State(enum.Enum):
    """What a channel does while it waits for no part of a request."""

    IDLE = enum.auto()
    ANSWERING = enum.auto()
    CLOSING = enum.auto()


class BoundedChannel(HTTPChannel):
    """A channel that waits for the head and the body of a request until a deadline.

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
        self._request_line = b""
        self._doing: _State | Part = _State.IDLE
        self._waited: dict[Part, float] = {}

    @property
    def target(self) -> bytes:
        """The target of the request that is being received; its line has three words."""
        return self._request_line.split(b" ")[1]

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
        if self._doing is _State.IDLE:
            # The request came in one piece with the one before it.
            self._wait_for(Part.HEAD)
        self._request_line = self._request_line or line
        super().lineReceived(line)

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
        self._request_line = b""
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

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.setTimeout(None)

    def _wait_for(self, part: Part) -> None:
        self._doing = part
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
        self.transport.write(last_response(late))
