"""What all HTTP listeners have in common: bounded requests, and errors in JSON."""

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

from rtdeliver.errors import BadRequest, Refusal, TooLarge, Unavailable
from rtdeliver.http.access import Gate
from rtdeliver.http.channel import BoundedChannel
from rtdeliver.http.intake import Intake
from rtdeliver.http.replies import COMMON_FIELDS, internal_error, refuse
from rtdeliver.http.waiting import WaitingConnections

log = Logger()

# The rest of a body that is refused is read and dropped, so that the client gets to see the answer.
# A body that is larger than this many times the limit is cut off.
_READ_LIMITS = 8
_RETRY_SECONDS = 1


class BoundedRequest(Request):
    """A request that keeps no body over its site's limit, and none of a request that is refused.

    :ivar refusal: what the head alone is refused for.
    :ivar publish_token: see `rtdeliver.http.requests.Post.token`.
    """

    refusal: Refusal | None = None
    publish_token = ""
    channel: Any
    _length: int | None = None
    _body_bytes = 0
    _held_bytes = 0

    @property
    def body_limit_bytes(self) -> int:
        """The largest body."""
        limit: int = self.channel.site.body_bytes
        return limit

    @property
    def has_whole_body(self) -> bool:
        """Whether the body was within the limit, so that it was kept."""
        return self._body_bytes <= self.body_limit_bytes

    def gotLength(self, length: int | None) -> None:
        self.content: BytesIO = BytesIO()
        self._length = length
        gate = self.channel.site.gate
        if gate is not None:
            target = self.channel.target
            authorization = self.requestHeaders.getRawHeaders(b"Authorization", [b""])[0]
            hosts = self.requestHeaders.getRawHeaders(b"Host", [])
            self.refusal = gate.refusal(target=target, hosts=hosts, authorization=authorization)
            self.publish_token = gate.token(target=target, authorization=authorization)
        if self.refusal and length != 0:
            self._answer_early(self.refusal)
        elif length is not None and length > self.body_limit_bytes * _READ_LIMITS:
            self._answer_early(_too_large(self.body_limit_bytes))
            self.channel.loseConnection()

    def handleContentChunk(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > self.body_limit_bytes * _READ_LIMITS:
            self._answer_early(_too_large(self.body_limit_bytes))
            self.channel.loseConnection()
        elif not self.has_whole_body:
            self._drop_body()
        elif not self.channel.has_answered:
            self._keep(data)

    def process(self) -> None:
        self._release()
        if self.channel.has_answered:
            self.channel.loseConnection()
        else:
            super().process()

    def render(self, resrc: IResource) -> None:
        for name, value in COMMON_FIELDS.items():
            self.setHeader(name, value)
        super().render(resrc)

    def connectionLost(self, reason: Failure) -> None:
        self._release()
        super().connectionLost(reason)

    def processingFailed(self, reason: Failure) -> Failure:
        """Log the error, and tell the client only that there was one."""
        log.failure("a request failed", reason)
        self.write(refuse(self, internal_error()))
        self.finish()
        return reason

    def _keep(self, data: bytes) -> None:
        # A body that is complete now is held for no client.
        is_complete = self._body_bytes == self._length
        if is_complete or self._hold(len(data)):
            self.content.write(data)
            return
        self._drop_body()
        self.channel.site.intake.count_without_room()
        self._answer_early(
            Unavailable(
                "there is no room for this body now: too many others have not come completely",
                headers={"Retry-After": str(_RETRY_SECONDS)},
            )
        )

    def _hold(self, size: int) -> bool:
        has_room: bool = self.channel.site.intake.hold(size)
        if has_room:
            self._held_bytes += size
        return has_room

    def _release(self) -> None:
        if self._held_bytes:
            self.channel.site.intake.release(self._held_bytes)
            self._held_bytes = 0

    def _drop_body(self) -> None:
        self._release()
        self.content = BytesIO()

    def _answer_early(self, refusal: Refusal) -> None:
        """Answer before the body has come; the connection ends with it."""
        if self.channel.has_answered:
            return
        self.channel.has_answered = True
        self.channel.answer_last(refusal)
        if self.requestHeaders.hasHeader(b"Expect"):
            # The client sends no body now, and must not be told to continue.
            self.requestHeaders.removeHeader(b"Expect")
            self.channel.loseConnection()


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
    :param intake: bounds the requests that have not come completely.
    :param gate: refuses requests by their heads, before their bodies have come.
    :param waiting: bounds the connections without a stream, if that is wanted.
    """

    noisy = False
    # Twisted would put a proxy before the channel, to change over to HTTP/2.
    protocol = BoundedChannel  # type: ignore[assignment]
    requestFactory = BoundedRequest

    def __init__(
        self,
        resource: IResource,
        *,
        body_bytes: int,
        idle_seconds: float,
        intake: Intake,
        reactor: IReactorTime,
        gate: Gate | None = None,
        waiting: WaitingConnections | None = None,
    ) -> None:
        super().__init__(
            resource, timeout=idle_seconds, reactor=reactor, parsePOSTFormSubmission=False
        )
        self.body_bytes = body_bytes
        self.intake = intake
        self.gate = gate
        self.waiting = waiting

    def getResourceFor(self, request: BoundedRequest) -> IResource:
        if request.refusal is not None:
            return _Refusing(request.refusal)
        resource: IResource = super().getResourceFor(request)
        return resource

    def log(self, request: http.Request) -> None:
        """Count a request that was refused; there is no line per request."""
        if request.code >= 400:
            self.intake.count_refused(request.code, request.getClientAddress())

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 only, because a stream takes over its whole transport."""
        return [b"http/1.1"]


class _Refusing(Resource):
    """Refuses all requests."""

    isLeaf = True

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self._refusal = refusal

    def render(self, request: Request) -> bytes:
        return refuse(request, self._refusal)


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
        if not request.method.isupper():
            # Werkzeug compares methods without regard to case, but `get` is not GET.
            request.method = b"-" + request.method
        try:
            return self._inner.render(request)
        except HTTPException as error:
            return refuse(request, BadRequest(f"the Host field is invalid: {error.name}"))
