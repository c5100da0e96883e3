"""HTTP paths of a frontend."""

from klein import Klein
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from rtdeliver.frontend import sse
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.frontend.takeover import SocketSettings, response_head, take_over
from rtdeliver.interfaces import IConnections, Subscriptions
from rtdeliver.model import ConnectionId, Topic, check_topic
from rtdeliver.web import (
    JSON,
    NDJSON,
    Post,
    PostHandler,
    Reply,
    answer,
    close_after,
    media_type,
    post_of,
    query_values,
)
from rtdeliver.wire import decode_batch, decode_topics_change


def add_connect_route(app: Klein, frontend: Frontend, sockets: SocketSettings) -> None:
    """Add where browsers open streams: ``/connect``."""

    @app.route("/connect", methods=["GET"])
    def connect(request: Request) -> bytes | Resource:
        topics = [check_topic(text) for text in query_values(request, "topic")]
        request.setHeader(b"Content-Type", sse.CONTENT_TYPE)
        request.setHeader("Cache-Control", "no-store")
        request.setHeader("X-Accel-Buffering", "no")
        if request.method == b"HEAD":
            return b""
        # A browser's EventSource gives up for good on an error status, so a viewer who cannot be
        # taken gets a stream that ends.
        busy = frontend.busy()
        if busy is not None:
            close_after(request)
            return busy
        return _Stream(frontend, topics, sockets)


def add_topics_routes(app: Klein, connections: IConnections) -> None:
    """Add where the topics of a stream are changed: ``/connections/{id}/topics``."""

    @app.route("/connections/<id>/topics", methods=["GET"])
    async def topics(request: Request, id: str) -> bytes:
        return answer(request, 200, await connections.subscriptions(ConnectionId(id)))

    @app.route("/connections/<id>/topics", methods=["POST"])
    async def subscribe(request: Request, id: str) -> bytes:
        post = post_of(request)
        media_type(post.content_type, JSON)
        change = decode_topics_change(post.body)
        subscriptions = await connections.subscribe(ConnectionId(id), change)
        return answer(request, _status(subscriptions), subscriptions)


def frontend_posts(frontend: Frontend) -> dict[str, PostHandler]:
    """What dispatchers use: ``/deliver``."""

    async def deliver(post: Post) -> Reply:
        media_type(post.content_type, NDJSON)
        frontend.check_incarnation(post.incarnation)
        batch = decode_batch(post.body)
        frontend.deliver(batch)
        return Reply(202, {"delivered": len(batch)})

    return {"/deliver": deliver}


def _status(subscriptions: Subscriptions) -> int:
    return 202 if subscriptions.pending else 200


class _Stream(Resource):
    """Where a request ends and a connection begins.

    Rendered after Klein is done with the request, so that nothing of Klein's outlives it.
    """

    isLeaf = True

    def __init__(self, frontend: Frontend, topics: list[Topic], sockets: SocketSettings) -> None:
        super().__init__()
        self._frontend = frontend
        self._topics = topics
        self._sockets = sockets

    def render(self, request: Request) -> int:
        self._frontend.connect(
            self._topics,
            head=response_head(request),
            attach=lambda connection: take_over(request, connection, self._sockets),
        )
        return NOT_DONE_YET
