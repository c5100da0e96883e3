"""Clients without sockets, and an app to ask."""

import json
from collections.abc import Callable
from http.client import HTTPMessage, HTTPResponse
from io import BytesIO
from typing import Any

from klein import Klein
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from rtdeliver.config.sections import Http
from rtdeliver.http.access import Gate
from rtdeliver.http.intake import Intake
from rtdeliver.http.replies import answer, close_after
from rtdeliver.http.requests import (
    JSON,
    NDJSON,
    media_type,
    post_of,
    query_values,
)
from rtdeliver.http.routes import new_app
from rtdeliver.http.site import BoundedSite, ValidatingResource
from rtdeliver.http.waiting import WaitingConnections

CORS_FIELDS = {
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Max-Age",
    "Vary",
}
BODY_BYTES = 100
SETTINGS = Http(idle_seconds=60, head_seconds=20, body_seconds=30)

HUGE = 8 * BODY_BYTES + 1


class Answer:
    """One response, as a client reads it."""

    def __init__(self, status: int, headers: HTTPMessage, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and name of a refusal, which must have the form that all have."""
        assert self.headers["Content-Type"] == "application/json"
        assert self.json.keys() - {"lines"} == {"error", "message"}
        return self.status, self.json["error"]

    def cors(self) -> dict[str, str]:
        """The header fields that concern other origins."""
        return {name: value for name, value in self.headers.items() if name in CORS_FIELDS}


class _Received(BytesIO):
    """What came from a server, for the standard library's client, which closes what it read."""

    def makefile(self, _mode: str) -> "_Received":
        return self

    def close(self) -> None: ...


class Peer:
    """A client of a site."""

    def __init__(
        self,
        resource: IResource,
        *,
        host: IAddress | None = None,
        client: IAddress | None = None,
        gate: Gate | None = None,
        settings: Http = SETTINGS,
        waiting: WaitingConnections | None = None,
    ) -> None:
        self.clock = Clock()
        self.intake = Intake(settings, listeners="public")
        site = BoundedSite(
            resource,
            body_bytes=BODY_BYTES,
            idle_seconds=settings.idle_seconds,
            intake=self.intake,
            gate=gate,
            waiting=waiting,
            reactor=self.clock,
        )
        self._transport = StringTransport(hostAddress=host, peerAddress=client)
        self._protocol = site.buildProtocol(None)
        self._protocol.makeConnection(self._transport)

    @property
    def received(self) -> bytes:
        data: bytes = self._transport.value()
        return data

    @property
    def cut_off(self) -> bool:
        """Whether the server has closed the connection."""
        return self._transport.disconnecting

    @property
    def is_aborted(self) -> bool:
        """Whether the server has ended the connection without waiting for anything."""
        return self._transport.disconnected

    def send(self, *lines: str, body: bytes = b"") -> "Peer":
        """Send a head of these lines with a Host field, and ``body`` as it is."""
        return self.send_bytes("\r\n".join([*lines, "Host: h", "", ""]).encode() + body)

    def send_bytes(self, data: bytes) -> "Peer":
        self._protocol.dataReceived(data)
        return self

    def leave(self) -> None:
        self._protocol.connectionLost(Failure(ConnectionDone()))

    def answers(self, *methods: str) -> list[Answer]:
        """Return all that was answered, to requests of these methods; then GET is assumed."""
        received = _Received(self.received)
        answers: list[Answer] = []
        while received.tell() < len(self.received):
            method = methods[len(answers)] if len(answers) < len(methods) else "GET"
            # It asks of a socket nothing but `makefile`, and is typed as if it asked for more.
            response = HTTPResponse(received, method=method)  # type: ignore[arg-type]
            response.begin()
            answers.append(Answer(response.status, response.msg, response.read()))
        return answers

    def answer(self, method: str = "GET") -> Answer:
        """Return the only answer."""
        [answer] = self.answers(method)
        return answer


def app() -> Klein:
    """Return an app that shows how it was called."""
    app = new_app()

    @app.route("/hello", methods=["GET"])
    def hello(request: Request) -> bytes:
        return answer(request, 200, {"names": query_values(request, "name")})

    @app.route("/length", methods=["POST"])
    def length(request: Request) -> bytes:
        return answer(request, 200, {"bytes": len(post_of(request).body)})

    @app.route("/lines", methods=["POST"])
    def lines(request: Request) -> bytes:
        return answer(
            request, 200, {"media_type": media_type(post_of(request).content_type, JSON, NDJSON)}
        )

    @app.route("/last", methods=["GET"])
    def last(request: Request) -> bytes:
        close_after(request)
        return b"the end"

    @app.route("/health/live", methods=["GET"])
    def live(request: Request) -> bytes:
        return answer(request, 200, {"live": True})

    return app


def served(app: Klein) -> IResource:
    return ValidatingResource(app.resource())


def peer(app: Klein) -> Peer:
    return Peer(served(app))


def raising(error: Exception) -> Callable[[Request], Any]:
    def route(_: Request) -> Any:
        raise error

    return route


class Telling(Resource):
    """Answers with what a function says of the request."""

    isLeaf = True

    def __init__(self, tell: Callable[[Request], str]) -> None:
        super().__init__()
        self._tell = tell

    def render(self, request: Request) -> bytes:
        return self._tell(request).encode()
