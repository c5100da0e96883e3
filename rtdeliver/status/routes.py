"""The HTTP paths of the status page."""

from collections.abc import Callable
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.server import Request
from zope.interface import implementer

from rtdeliver.errors import Unavailable
from rtdeliver.http.login import Login
from rtdeliver.http.replies import answer
from rtdeliver.http.requests import JSON, header
from rtdeliver.status.page import read_page
from rtdeliver.status.status import Status
from rtdeliver.wire import encode

log = Logger()

# Each costs some kilobytes a second.
_MOST_STREAMS = 20


def add_status_routes(app: Klein, status: Status, login: Login, clock: IReactorTime) -> None:
    """Add ``/status``, the stream that its page reads, and the login with the secret.

    The page itself is shown to everybody, since it has nothing in it but a login field.
    """
    page = read_page()
    streams = StatusStreams(status.tell, clock)

    @app.route("/status", methods=["GET"])
    def show(request: Request) -> bytes:
        request.setHeader("Vary", "Accept")
        if JSON in header(request, "Accept"):
            login.check(request)
            return answer(request, 200, status.tell())
        request.setHeader("Content-Type", "text/html; charset=utf-8")
        request.setHeader("Content-Security-Policy", page.policy)
        request.setHeader("Referrer-Policy", "no-referrer")
        request.setHeader("Cache-Control", "no-cache")
        return page.content

    @app.route("/status/stream", methods=["GET"])
    def stream(request: Request) -> bytes | Deferred[bytes]:
        login.check(request)
        request.setHeader("Content-Type", "text/event-stream")
        request.setHeader("Cache-Control", "no-store, no-transform")
        request.setHeader("X-Accel-Buffering", "no")
        if request.method == b"HEAD":
            return b""
        return streams.add(request)

    @app.route("/status/login", methods=["POST"])
    def log_in(request: Request) -> bytes:
        login.check(request)
        request.setHeader("Set-Cookie", login.new_cookie())
        return answer(request, 200, {})


class StatusStreams:
    """Sends the status to all pages that are open, each second.

    A page that reads too slowly is left out until it has read what it was sent.
    """

    def __init__(self, tell: Callable[[], dict[str, Any]], clock: IReactorTime) -> None:
        self._tell = tell
        self._streams: set[_Stream] = set()
        self._loop = LoopingCall(self._send)
        self._loop.clock = clock

    def add(self, request: Request) -> Deferred[bytes]:
        """Send the status to ``request``; fires never, and is cancelled when the client leaves.

        :raises Unavailable: if too many pages are open.
        """
        if len(self._streams) >= _MOST_STREAMS:
            raise Unavailable(f"{_MOST_STREAMS} status pages are open already; close one")
        stream = _Stream(request)
        ended: Deferred[bytes] = Deferred(lambda _: self._remove(stream))
        self._streams.add(stream)
        stream.send(self._frame())
        if not self._loop.running:
            self._loop.start(1, now=False).addErrback(
                lambda failure: log.failure("status pages are told nothing more", failure)
            )
        return ended

    def _remove(self, stream: "_Stream") -> None:
        self._streams.discard(stream)
        if not self._streams and self._loop.running:
            self._loop.stop()

    def _send(self) -> None:
        frame = self._frame()
        for stream in list(self._streams):
            stream.send(frame)

    def _frame(self) -> bytes:
        return b"retry: 2000\ndata: %b\n\n" % encode(self._tell())


@implementer(IPushProducer)
class _Stream:
    """One page."""

    def __init__(self, request: Request) -> None:
        self._request: Any = request
        self._lags = False
        self._request.registerProducer(self, True)

    def send(self, frame: bytes) -> None:
        if not self._lags:
            self._request.write(frame)

    def pauseProducing(self) -> None:
        self._lags = True

    def resumeProducing(self) -> None:
        self._lags = False

    def stopProducing(self) -> None:
        """The client has left; the request's Deferred is cancelled too."""
