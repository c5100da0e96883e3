"""What all HTTP listeners have in common: bounded bodies, and errors in JSON."""

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

from rtdeliver.errors import BadRequest, TooLarge
from rtdeliver.http.replies import internal_error, refusal_reply, refuse

log = Logger()

# The rest of a body over the limit is read and dropped, so that the client gets to see the answer.
# A body that is larger than this many times the limit is cut off.
_READ_LIMITS = 8


class BoundedRequest(Request):
    """A request that keeps no body over its site's limit."""

    _body_bytes = 0
    _is_cut_off = False

    @property
    def body_limit_bytes(self) -> int:
        """The largest body."""
        channel: Any = self.channel
        limit: int = channel.site.body_bytes
        return limit

    @property
    def has_whole_body(self) -> bool:
        """Whether the body was within the limit, so that it was kept."""
        return self._body_bytes <= self.body_limit_bytes

    def gotLength(self, length: int | None) -> None:
        self.content: BytesIO = BytesIO()
        if length is not None and length > self.body_limit_bytes * _READ_LIMITS:
            self._cut_off()

    def handleContentChunk(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self.has_whole_body:
            self.content.write(data)
        elif self._body_bytes > self.body_limit_bytes * _READ_LIMITS:
            self._cut_off()

    def process(self) -> None:
        if not self._is_cut_off:
            super().process()

    def processingFailed(self, reason: Failure) -> Failure:
        """Log the error, and tell the client only that there was one."""
        log.failure("a request failed", reason)
        self.write(refuse(self, internal_error()))
        self.finish()
        return reason

    def _cut_off(self) -> None:
        if self._is_cut_off:
            return
        self._is_cut_off = True
        # The client must not be told to continue, either.
        self.requestHeaders.removeHeader(b"Expect")
        body = refusal_reply(_too_large(self.body_limit_bytes)).body
        channel: Any = self.channel
        channel.transport.write(
            b"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        )
        channel.loseConnection()


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"a body may have at most {limit_bytes} bytes here")


def _is_utf8(quoted: bytes) -> bool:
    try:
        unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        return False
    return True


class BoundedSite(Site):
    """Serves one resource at all paths.

    :param body_bytes: the largest body that it takes.
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
        """HTTP/1.1 only, because a stream takes over its whole transport."""
        return [b"http/1.1"]


class ValidatingResource(Resource):
    """Refuses requests that no route can handle: bodies over the limit, odd paths and hosts."""

    isLeaf = True

    def __init__(self, inner: IResource) -> None:
        super().__init__()
        self._inner = inner

    def render(self, request: BoundedRequest) -> Any:
        if not request.has_whole_body:
            return refuse(request, _too_large(request.body_limit_bytes))
        if not request.requestHeaders.hasHeader(b"Host"):
            # Without the field, Klein asks the socket for its host, and a UNIX socket has none.
            request.requestHeaders.setRawHeaders(b"Host", [b"localhost"])
        if not (_is_utf8(request.path) and _is_utf8(request.getRequestHostname())):
            return refuse(request, BadRequest("the path and the Host field must be in UTF-8"))
        try:
            return self._inner.render(request)
        except HTTPException as error:
            return refuse(request, BadRequest(f"the Host field is invalid: {error.name}"))
