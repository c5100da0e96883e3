"""The HTTP paths of a frontend."""

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
from rtdeliver.frontend.permissions import Permissions
from rtdeliver.frontend.resume import Resume, resume_of
from rtdeliver.frontend.takeover import response_head, take_over
from rtdeliver.http.history import answer_page, history_query
from rtdeliver.http.replies import PostHandler, Reply, answer, close_after
from rtdeliver.http.requests import (
    JSON,
    NDJSON,
    Post,
    bearer_token,
    header,
    limit_of,
    media_type,
    post_of,
    query_values,
    single_value,
    token_cookie,
)
from rtdeliver.http.routes import add_public_health
from rtdeliver.interfaces import IConnections
from rtdeliver.messages import Subscriptions
from rtdeliver.model import ConnectionId, Topic, check_topic
from rtdeliver.tokens import Identity, TokenRevoked
from rtdeliver.wire import decode_batch, decode_receipt, decode_token, decode_topics_change


def add_connect_route(app: Klein, frontend: Frontend, sockets: Sockets) -> None:
    """Add ``/connect``, where browsers open streams, and ``/health``."""

    @app.route("/connect", methods=["GET"])
    def connect(request: Request) -> bytes | Resource | Deferred[bytes | Resource]:
        try:
            identity = _identity(request, frontend.permissions)
        except TokenRevoked as refusal:
            return _stay_away(request, refusal)
        if isinstance(identity, Deferred):
            # A key or the revocations have to be fetched first.
            return identity.addCallbacks(
                lambda found: open_stream(request, found),
                lambda failure: _not_identified(frontend, request, failure),
            )
        return open_stream(request, identity)

    def open_stream(request: Request, identity: Identity | None) -> bytes | Resource:
        if query_values(request, "topics"):
            raise BadRequest("give each topic as topic=TOPIC, not as topics=")
        topics = [check_topic(text) for text in query_values(request, "topic")]
        viewer = _Viewer(
            topics=topics,
            identity=identity,
            resume=resume_of(
                last_event_id=header(request, "Last-Event-ID"),
                since=query_values(request, "since"),
                rewind=single_value(request, "rewind"),
                topics=len(topics),
            ),
            heartbeat=_heartbeat(request),
        )
        _set_stream_fields(request)
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


def add_history_route(app: Klein, frontend: Frontend) -> None:
    """Add ``/history``, where viewers page through what they may watch."""

    @app.route("/history", methods=["GET"])
    async def history(request: Request) -> bytes:
        query = history_query(request)
        identity = _identity(request, frontend.permissions)
        if isinstance(identity, Deferred):
            identity = await identity
        page = await shield(frontend.read_history(query, identity))
        return answer_page(request, query, page)


def _not_identified(frontend: Frontend, request: Request, failure: Failure) -> bytes:
    """Answer a client for whom a key or the revocations could not be fetched, or were of no use."""
    error = failure.value
    if isinstance(error, TokenRevoked):
        return _stay_away(request, error)
    busy = frontend.busy(starting=True) if isinstance(error, Unavailable) else None
    if busy is None or request.method == b"HEAD":
        failure.raiseException()
    _set_stream_fields(request)
    close_after(request)
    return busy


def _set_stream_fields(request: Request) -> None:
    request.setHeader("Content-Type", sse.CONTENT_TYPE)
    request.setHeader("Cache-Control", "no-store, no-transform")
    request.setHeader("X-Accel-Buffering", "no")


def _stay_away(request: Request, refusal: TokenRevoked) -> bytes:
    """Answer a client that was disconnected. At 204 an EventSource never comes back."""
    if refusal.reconnect:
        raise refusal
    request.setResponseCode(204)
    request.setHeader("Cache-Control", "no-store")
    return b""


def add_connection_routes(app: Klein, connections: IConnections) -> None:
    """Add what clients do with their streams.

    ``/connections/{id}/topics`` changes the topics, ``/connections/{id}/token`` takes a new token,
    and at ``/received`` pages tell which events they have received.
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

    @app.route("/connections/<id>/token", methods=["POST"])
    async def refresh(request: Request, id: str) -> bytes:
        post = post_of(request)
        media_type(post.content_type, JSON)
        token = decode_token(post.body)
        refreshed = await shield(connections.refresh(ConnectionId(id), token))
        return answer(request, 202 if refreshed.pending else 200, refreshed)

    @app.route("/received", methods=["POST"])
    async def receive(request: Request) -> bytes:
        post = post_of(request)
        media_type(post.content_type, JSON)
        await shield(connections.receive(decode_receipt(post.body)))
        return answer(request, 202, {})


def add_viewers_route(app: Klein, frontend: Frontend) -> None:
    """Add ``/viewers``, where dispatchers ask who watches a topic here."""

    @app.route("/viewers", methods=["GET"])
    def viewers(request: Request) -> bytes:
        topic = check_topic(single_value(request, "topic"))
        limit = limit_of(request)
        return answer(request, 200, frontend.members(topic, single_value(request, "after"), limit))


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
    resume: Resume
    heartbeat: bytes


def _heartbeat(request: Request) -> bytes:
    values = query_values(request, "heartbeat")
    if values not in ([], ["event"]):
        raise BadRequest("heartbeat must be event, or be left out for comments")
    return sse.HEARTBEAT_EVENT if values else sse.HEARTBEAT


def _identity(
    request: Request, permissions: Permissions
) -> Identity | Deferred[Identity | None] | None:
    """Return whom the token in a request's query, header or cookie is for, if there is one.

    :raises BadRequest: if there are two tokens in the query.
    :raises Unauthorized: if the token in the query or the header is invalid. Browsers send cookies
        unasked, perhaps old ones or those of another application, so an invalid cookie is ignored.
    :raises TokenRevoked: also for a cookie, if its holder may not come back.
    """
    if not permissions.has_keys:
        return None
    tokens = query_values(request, "token")
    if len(tokens) > 1:
        raise BadRequest(f"give one token at most, not {len(tokens)}")
    token = (tokens and tokens[0]) or bearer_token(request)
    if token:
        found = permissions.identify(token)
        return found.addCallback(_found) if isinstance(found, Deferred) else found
    cookie = token_cookie(request)
    if not cookie:
        return None
    try:
        found = permissions.identify(cookie)
    except Unauthorized as refusal:
        _ignore(refusal)
        return None
    return found.addCallbacks(_found, _no_token) if isinstance(found, Deferred) else found


def _found(identity: Identity) -> Identity | None:
    return identity


def _no_token(failure: Failure) -> None:
    failure.trap(Unauthorized)
    _ignore(failure.value)


def _ignore(refusal: BaseException | None) -> None:
    """Take the token in a cookie for none, unless its holder may not come back."""
    if isinstance(refusal, TokenRevoked) and not refusal.reconnect:
        raise refusal


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
            resume=self._viewer.resume,
            heartbeat=self._viewer.heartbeat,
            head=lambda: response_head(request),
            attach=lambda connection: take_over(request, connection, self._sockets),
        )
        return NOT_DONE_YET
