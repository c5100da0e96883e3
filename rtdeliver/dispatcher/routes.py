"""HTTP paths of a dispatcher."""

from klein import Klein
from twisted.web.server import Request

from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.errors import BadRequest
from rtdeliver.model import check_topic
from rtdeliver.web import JSON, NDJSON, answer, body_of, media_type, query_values
from rtdeliver.wire import (
    PublishLimits,
    decode_announcement,
    decode_batch,
    decode_publish,
    decode_publish_batch,
)


def add_dispatcher_routes(app: Klein, dispatcher: Dispatcher, limits: PublishLimits) -> None:
    """Add what producers use (``/publish``), peers (``/forward``), frontends and operators."""

    @app.route("/publish", methods=["POST"])
    async def publish(request: Request) -> bytes:
        if media_type(request, JSON, NDJSON) == JSON:
            [event] = await dispatcher.publish([decode_publish(body_of(request), limits)])
            return answer(request, 202, {"id": event.id})
        events = await dispatcher.publish(decode_publish_batch(body_of(request), limits))
        return answer(request, 202, {"accepted": len(events)})

    @app.route("/forward", methods=["POST"])
    async def forward(request: Request) -> bytes:
        media_type(request, NDJSON)
        batch = decode_batch(body_of(request))
        await dispatcher.deliver_local(batch)
        return answer(request, 202, {"delivered": len(batch)})

    @app.route("/subscriptions", methods=["POST"])
    async def subscriptions(request: Request) -> bytes:
        media_type(request, JSON)
        announcement = decode_announcement(body_of(request))
        return answer(request, 200, await dispatcher.announce(announcement))

    @app.route("/topics", methods=["GET"])
    # Klein knows a route by its function's name, and rtcombined has another one named topics.
    async def topic(request: Request) -> bytes:
        named = query_values(request, "topic")
        if len(named) != 1:
            raise BadRequest("ask for one topic: /topics?topic=live:red")
        return answer(request, 200, await dispatcher.topic(check_topic(named[0])))

    @app.route("/frontends", methods=["GET"])
    async def frontends(request: Request) -> bytes:
        nodes = await dispatcher.nodes()
        return answer(
            request,
            200,
            [
                {
                    "node": node.frontend.node,
                    "url": node.frontend.url,
                    "incarnation": node.frontend.incarnation,
                    "topics": node.topics,
                    "viewers": node.viewers,
                    "lease_seconds_left": node.lease_seconds_left,
                }
                for node in nodes
            ],
        )
