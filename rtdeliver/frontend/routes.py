"""The HTTP paths of a frontend."""

from collections.abc import Callable

import msgspec
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from rtdeliver.config.sections import Sockets
from rtdeliver.deferreds import shield
from rtdeliver.errors import BadRequest, Unauthorized, Unavailable
from rtdeliver.frontend import sse
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.frontend.takeover import response_head, take_over
from rtdeliver.http.replies import PostHandler, Reply, answer, close_after
from rtdeliver.http.requests import (
    JSON,
    NDJSON,
    Post,
    bearer_token,
    header,
    media_type,
    post_of,
    query_values,
    token_cookie,
)
from rtdeliver.http.routes import add_public_health
from rtdeliver.interfaces import IConnections
from rtdeliver.messages import Subscriptions
from rtdeliver.model import ConnectionId, Topic, check_topic
from rtdeliver.tokens import Identity
from rtdeliver.wire import decode_batch, decode_receipt, decode_topics_change

Identify = Callable[[str], Identity | Deferred[Identity]]
"""Returns what a token proves, or raises `Unauthorized`."""


def add_connect_route(
    app: Klein,
    frontend: Frontend,
    sockets: Sockets,
    identify: Identify | None = None,
) -> None:
    """Add ``/connect``, where browsers open streams, and ``/health``.

    :param identify: returns the identity that a token proves, now or later, or raises
        `Unauthorized`. Without it, tokens are ignored.
    """

    @app.route("/connect", methods=["GET"])
    def connect(request: Request) -> bytes | Resource | Deferred[bytes | Resource]:
        identity = _identity(request, identify) if identify else None
        if isinstance(identity, Deferred):
            # A key has to be fetched first.
            return identity.addCallback(lambda found: open_stream(request, found))
        return open_stream(request, identity)

    def open_stream(request: Request, identity: Identity | None) -> bytes | Resource:
        if query_values(request, "topics"):
            raise BadRequest("give each topic as topic=TOPIC, not as topics=")
        topics = [check_topic(text) for text in query_values(request, "topic")]
        viewer = _Viewer(
            topics=topics,
            identity=identity,
            comes_back=bool(header(request, "Last-Event-ID")),
            heartbeat=_heartbeat(request),
        )
        request.setHeader(b"Content-Type", sse.CONTENT_TYPE)
        request.setHeader("Cache-Control", "no-store, no-transform")
        request.setHeader("X-Accel-Buffering", "no")
        busy = frontend.busy(topics)
        if busy is not None and (request.method == b"HEAD" or header(request, "Rt-Elsewhere")):
            raise Unavailable("this frontend takes no viewers now; another one may")
        if request.method == b"HEAD":
            return b""
        # An EventSource never reconnects after an error status, so a viewer that is refused gets a
        # stream that ends.
        if busy is not None:
            close_after(request)
            return busy
        return _StreamResource(frontend, viewer, sockets)

    add_public_health(app, frontend.missing)


def add_topics_routes(app: Klein, connections: IConnections) -> None:
    """Add ``/connections/{id}/topics``, where the topics of a stream are changed.

    Add ``/received``, too, where pages tell which events they have received.
    """

    @app.route("/connections/<id>/topics", methods=["GET"])
    async def topics(request: Request, id: str) -> bytes:
        subscriptions = await shield(connections.subscriptions(ConnectionId(id)))
        return answer(request, 200, subscriptions)

    @app.route("/connections/<id>/topics", methods=["POST"])
    async def subscribe(request: Request, id: str) -> bytes:
        post = post_of(request)
        media_type(post.content_type, JSON)
        # First, since a large body takes long to decode.
        await shield(connections.look_for(ConnectionId(id)))
        change = decode_topics_change(post.body)
        subscriptions = await shield(connections.subscribe(ConnectionId(id), change))
        return answer(request, _status(subscriptions), subscriptions)

    @app.route("/received", methods=["POST"])
    async def receive(request: Request) -> bytes:
        post = post_of(request)
        media_type(post.content_type, JSON)
        await shield(connections.receive(decode_receipt(post.body)))
        return answer(request, 202, {})


def frontend_posts(frontend: Frontend) -> dict[str, PostHandler]:
    """Return the handler for dispatchers: ``/deliver``."""

    async def deliver(post: Post) -> Reply:
        media_type(post.content_type, NDJSON)
        frontend.check_incarnation(post.incarnation)
        batch = decode_batch(post.body)
        frontend.deliver(batch)
        return Reply(202, {"delivered": len(batch)})

    return {"/deliver": deliver}


class _Viewer(msgspec.Struct, frozen=True):
    """What a request for a stream asks for; see `Frontend.connect`."""

    topics: list[Topic]
    identity: Identity | None
    comes_back: bool
    heartbeat: bytes


def _heartbeat(request: Request) -> bytes:
    values = query_values(request, "heartbeat")
    if values not in ([], ["event"]):
        raise BadRequest("heartbeat must be event, or be left out for comments")
    return sse.HEARTBEAT_EVENT if values else sse.HEARTBEAT


def _identity(request: Request, identify: Identify) -> Identity | Deferred[Identity | None] | None:
    """Return whom the token in a request's query, header or cookie is for, if there is one.

    :raises BadRequest: if there are two tokens in the query.
    :raises Unauthorized: if the token in the query or the header is invalid. Browsers send cookies
        unasked, perhaps old ones or those of another application, so an invalid cookie is ignored.
    """
    tokens = query_values(request, "token")
    if len(tokens) > 1:
        raise BadRequest(f"give one token at most, not {len(tokens)}")
    token = (tokens and tokens[0]) or bearer_token(request)
    if token:
        found = identify(token)
        return found.addCallback(_found) if isinstance(found, Deferred) else found
    cookie = token_cookie(request)
    if not cookie:
        return None
    try:
        found = identify(cookie)
    except Unauthorized:
        return None
    return found.addCallbacks(_found, _no_token) if isinstance(found, Deferred) else found


def _found(identity: Identity) -> Identity | None:
    return identity


def _no_token(failure: Failure) -> None:
    failure.trap(Unauthorized)


def _status(subscriptions: Subscriptions) -> int:
    return 202 if subscriptions.pending else 200


class _StreamResource(Resource):
    """Turns a request into a connection.

    It is rendered after Klein has finished with the request, so that no object of Klein lives on.
    """

    isLeaf = True

    def __init__(self, frontend: Frontend, viewer: _Viewer, sockets: Sockets) -> None:
        super().__init__()
        self._frontend = frontend
        self._viewer = viewer
        self._sockets = sockets

    def render(self, request: Request) -> int:
        self._frontend.connect(
            self._viewer.topics,
            identity=self._viewer.identity,
            comes_back=self._viewer.comes_back,
            heartbeat=self._viewer.heartbeat,
            head=lambda: response_head(request),
            attach=lambda connection: take_over(request, connection, self._sockets),
        )
        return NOT_DONE_YET
