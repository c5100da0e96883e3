"""The manners of every HTTP listener: bounded bodies, JSON refusals, secrets, origins."""

import hmac
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from werkzeug.exceptions import HTTPException

from rtdeliver.config import SAME_HOST
from rtdeliver.errors import (
    BadRequest,
    InternalError,
    Refusal,
    TooLarge,
    Unauthorized,
    UnsupportedMediaType,
)
from rtdeliver.wire import as_json

T = TypeVar("T")

log = Logger()

JSON = "application/json"
NDJSON = "application/x-ndjson"

TOKEN_COOKIE = "rtdeliver_token"  # noqa: S105
"""The cookie in which a browser may carry a member's token."""

# A body over its limit is read on and dropped, so that the client comes to see the answer, unless
# it is larger than this many times the limit.
_PATIENCE = 8

_HOST = re.compile(r"[A-Za-z0-9._-]+(?=:|$)|\[[0-9A-Fa-f:.]+\](?=:|$)")


class Post(msgspec.Struct, frozen=True):
    """A POST, with the whole of its body.

    :param content_type: the field of that name; empty if it is missing.
    :param incarnation: likewise ``Rt-Incarnation``.
    """

    content_type: str
    incarnation: str
    body: bytes


class Reply(msgspec.Struct, frozen=True):
    """What a client is told, as JSON."""

    status: int
    value: object
    headers: Mapping[str, str] = {}

    @property
    def body(self) -> bytes:
        return as_json(self.value)


PostHandler = Callable[[Post], Coroutine[Any, Any, Reply]]
"""Serves a POST, or raises a `Refusal`."""


def refusal_reply(refusal: Refusal) -> Reply:
    """What a client is told whose request is refused."""
    value: dict[str, object] = {"error": refusal.name, "message": refusal.message}
    if refusal.lines:
        value["lines"] = refusal.lines
    return Reply(refusal.status, value, refusal.headers)


def answer(request: Request, status: int, value: object) -> bytes:
    """Set up a JSON response and return its body."""
    return reply_to(request, Reply(status, value))


def reply_to(request: Request, reply: Reply) -> bytes:
    """Set up the response to a request and return its body."""
    body = reply.body
    for name, value in reply.headers.items():
        request.setHeader(name, value)
    request.setResponseCode(reply.status)
    request.setHeader("Content-Type", JSON)
    request.setHeader("Cache-Control", "no-store")
    request.setHeader("Content-Length", str(len(body)))
    return b"" if request.method == b"HEAD" else body


def refuse(request: Request, refusal: Refusal) -> bytes:
    """Set up the response to a request that is refused and return its body."""
    return reply_to(request, refusal_reply(refusal))


def header(request: Request, name: str) -> str:
    """Return a header field, whatever its bytes; empty if it is missing."""
    return request.requestHeaders.getRawHeaders(name.encode(), [b""])[0].decode("latin-1")


def media_type(content_type: str, *accepted: str) -> str:
    """Return the media type that a field names, without its parameters.

    :raises UnsupportedMediaType: if it is none of ``accepted``.
    """
    given = content_type.split(";")[0].strip().lower()
    if given not in accepted:
        raise UnsupportedMediaType(
            f"send Content-Type: {' or '.join(accepted)}", headers={"Accept": ", ".join(accepted)}
        )
    return given


def post_of(request: Request) -> Post:
    """Return what a POST has brought."""
    content: Any = request.content
    return Post(
        content_type=header(request, "Content-Type"),
        incarnation=header(request, "Rt-Incarnation"),
        body=content.read(),
    )


def query_values(request: Request, name: str) -> list[str]:
    """Return the values of a query parameter, in order.

    :raises BadRequest: if one is not UTF-8.
    """
    try:
        return [value.decode() for value in request.args.get(name.encode(), [])]
    except UnicodeDecodeError:
        raise BadRequest(f"the value of {name} is not UTF-8") from None


def bearer_token(request: Request) -> str:
    """Return the token that the Authorization field carries; empty if there is none."""
    scheme, _, token = header(request, "Authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def token_cookie(request: Request) -> str:
    """Return the token that the cookie carries; empty if there is none."""
    value = request.getCookie(TOKEN_COOKIE.encode())
    return value.decode("latin-1") if value else ""


def client_address(request: Request, *, behind_proxy: bool) -> str:
    """Return the address that a request comes from; empty for a UNIX socket.

    :param behind_proxy: whether to believe the last entry of ``X-Forwarded-For``, which the nearest
        proxy has set.
    """
    if behind_proxy:
        # A proxy may add a field of its own to the one that the client sent.
        fields = request.requestHeaders.getRawHeaders(b"X-Forwarded-For", [b""])
        forwarded = fields[-1].decode("latin-1").rpartition(",")[2].strip()
        if forwarded:
            return forwarded
    return str(getattr(request.getClientAddress(), "host", ""))


def host_of(request: Request) -> str:
    """Return the host that is asked, as in a URL without its port; ``localhost`` if it is odd."""
    match = _HOST.match(header(request, "Host"))
    return match[0] if match else "localhost"


def to_the_end(work: Coroutine[Any, Any, T] | Deferred[T]) -> Deferred[T]:
    """Fires with the result of ``work``, which goes on when the client does not wait for that.

    Klein cancels what serves a request when its client leaves.
    """
    answer: Deferred[T] = Deferred()
    ensureDeferred(work).addCallbacks(answer.callback, answer.errback)
    return answer


def close_after(request: Request) -> None:
    """Close the client's connection after the response."""
    channel: Any = request.channel
    channel.persistent = False
    request.setHeader("Connection", "close")


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


class ProperResource(Resource):
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


class SecretResource(Resource):
    """Lets through what carries ``Authorization: Bearer SECRET``, and health checks."""

    isLeaf = True

    def __init__(self, secret: str, inner: IResource) -> None:
        super().__init__()
        self._expected = f"Bearer {secret}".encode()
        self._inner = inner

    def render(self, request: Request) -> Any:
        given = request.requestHeaders.getRawHeaders(b"Authorization", [b""])[0]
        if request.path.startswith(b"/health/") or hmac.compare_digest(given, self._expected):
            return self._inner.render(request)
        return refuse(
            request,
            Unauthorized(
                "send Authorization: Bearer and the secret of this listener",
                headers={"WWW-Authenticate": "Bearer"},
            ),
        )


class CorsResource(Resource):
    """Tells browsers which other origins may read the answers, and answers their preflights.

    :param origins: as browsers send them, such as ``https://example.com``; ``*`` stands for any,
        to which browsers then send no credentials, and ``same-host`` for those of the host that is
        asked, at any port.
    """

    isLeaf = True

    def __init__(self, origins: Sequence[str], inner: IResource) -> None:
        super().__init__()
        self._any = "*" in origins
        self._same_host = SAME_HOST in origins
        self._origins = frozenset(origin.encode() for origin in origins if origin != "*")
        self._inner = inner

    def render(self, request: Request) -> Any:
        listed = self._allow(request)
        if request.method != b"OPTIONS":
            return self._inner.render(request)
        if listed:
            request.setHeader("Access-Control-Allow-Methods", "GET, POST")
            request.setHeader(
                "Access-Control-Allow-Headers", "Content-Type, Authorization, Last-Event-ID"
            )
            request.setHeader("Access-Control-Max-Age", "600")
        request.setHeader("Allow", "GET, POST, OPTIONS")
        request.setResponseCode(204)
        request.finish()
        return NOT_DONE_YET

    def _allow(self, request: Request) -> bool:
        origin = request.requestHeaders.getRawHeaders(b"Origin", [b""])[0]
        if origin in self._origins or (self._same_host and _is_same_host(request, origin)):
            request.setHeader(b"Access-Control-Allow-Origin", origin)
            request.setHeader("Vary", "Origin")
            request.setHeader("Access-Control-Allow-Credentials", "true")
            return True
        if self._any and origin:
            request.setHeader("Access-Control-Allow-Origin", "*")
        return self._any


def _is_same_host(request: Request, origin: bytes) -> bool:
    """Whether a page of ``origin`` comes from the host that is asked."""
    try:
        host = urlsplit(f"//{header(request, 'Host')}").hostname
        return bool(host) and urlsplit(origin.decode()).hostname == host
    except ValueError:
        return False
