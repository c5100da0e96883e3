"""The manners of every HTTP listener: bounded bodies, and JSON for whatever goes wrong."""

from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site
from werkzeug.exceptions import HTTPException

from rtdeliver.errors import (
    BadRequest,
    InternalError,
    TooLarge,
)
from rtdeliver.http.replies import refusal_reply, refuse

log = Logger()


# A body over its limit is read on and dropped, so that the client comes to see the answer, unless
# it is larger than this many times the limit.
_PATIENCE = 8


class BoundedRequest(Request):
    """A request whose body does not grow beyond its site's limit."""

    _body_bytes = 0
    _is_cut_off = False

    @property
    def body_limit_bytes(self) -> int:
        """How large a body may be."""
        channel: Any = self.channel
        limit: int = channel.site.body_bytes
        return limit

    @property
    def has_whole_body(self) -> bool:
        """Whether the body was within the limit, and so was kept."""
        return self._body_bytes <= self.body_limit_bytes

    def gotLength(self, length: int | None) -> None:
        self.content: BytesIO = BytesIO()
        if length is not None and length > self.body_limit_bytes * _PATIENCE:
            self._cut_off()

    def handleContentChunk(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self.has_whole_body:
            self.content.write(data)
        elif self._body_bytes > self.body_limit_bytes * _PATIENCE:
            self._cut_off()

    def process(self) -> None:
        if not self._is_cut_off:
            super().process()

    def processingFailed(self, reason: Failure) -> Failure:
        """Tell the log what happened, and the client only that something did."""
        log.failure("a request failed", reason)
        self.write(refuse(self, InternalError("this is a fault of the server; its log says more")))
        self.finish()
        return reason

    def _cut_off(self) -> None:
        if self._is_cut_off:
            return
        self._is_cut_off = True
        # It is not to be told to go on, either.
        self.requestHeaders.removeHeader(b"Expect")
        body = refusal_reply(_too_large(self.body_limit_bytes)).body
        channel: Any = self.channel
        channel.transport.write(
            b"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        )
        channel.loseConnection()


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"a body has at most {limit_bytes} bytes here")


def _is_utf8(quoted: bytes) -> bool:
    try:
        unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        return False
    return True


class BoundedSite(Site):
    """Serves one resource for all paths.

    :param body_bytes: the largest body it takes.
    :param idle_seconds: how long a client may keep a connection open without a request.
    """

    noisy = False
    requestFactory = BoundedRequest

    def __init__(
        self, resource: IResource, *, body_bytes: int, idle_seconds: float, reactor: IReactorTime
    ) -> None:
        super().__init__(
            resource, timeout=idle_seconds, reactor=reactor, parsePOSTFormSubmission=False
        )
        self.body_bytes = body_bytes

    def log(self, request: http.Request) -> None:
        """No line per request."""

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 only: a stream takes its whole transport over."""
        return [b"http/1.1"]


class ValidatingResource(Resource):
    """Refuses what no route should have to look at."""

    isLeaf = True

    def __init__(self, inner: IResource) -> None:
        super().__init__()
        self._inner = inner

    def render(self, request: BoundedRequest) -> Any:
        if not request.has_whole_body:
            return refuse(request, _too_large(request.body_limit_bytes))
        if not request.requestHeaders.hasHeader(b"Host"):
            # Klein would ask the socket for a name, which a UNIX socket has none of.
            request.requestHeaders.setRawHeaders(b"Host", [b"localhost"])
        if not (_is_utf8(request.path) and _is_utf8(request.getRequestHostname())):
            return refuse(request, BadRequest("the path and the host are in UTF-8"))
        try:
            return self._inner.render(request)
        except HTTPException as error:
            return refuse(request, BadRequest(f"this host cannot be asked for: {error.name}"))
