"""The HTTP path of presence."""

from klein import Klein
from twisted.web.server import Request

from rtdeliver.config.sections import Presence as PresenceSettings
from rtdeliver.deferreds import shield
from rtdeliver.errors import BadRequest
from rtdeliver.http.replies import answer
from rtdeliver.http.requests import JSON, media_type, post_of, query_values
from rtdeliver.model import check_member
from rtdeliver.presence.presence import PresenceTracker
from rtdeliver.wire import decode_heartbeat


def add_presence_routes(app: Klein, presence: PresenceTracker, settings: PresenceSettings) -> None:
    """Add ``/presence``. Frontends POST heartbeats to it; applications GET it."""
    max_members = settings.batch_members

    @app.route("/presence", methods=["POST"])
    async def heartbeat(request: Request) -> bytes:
        post = post_of(request)
        media_type(post.content_type, JSON)
        heartbeat = decode_heartbeat(
            post.body, max_members=max_members, default_heartbeat_seconds=settings.heartbeat_seconds
        )
        await shield(presence.heartbeat(heartbeat))
        return answer(request, 200, {"heartbeat_seconds": heartbeat.heartbeat_seconds})

    @app.route("/presence", methods=["GET"])
    async def statuses(request: Request) -> bytes:
        members = [check_member(text) for text in query_values(request, "member")]
        if not 1 <= len(members) <= max_members:
            raise BadRequest(
                f"ask for 1 to {max_members} members, not {len(members)}: "
                "/presence?member=ann&member=bob"
            )
        found = await shield(presence.presence(members))
        return answer(request, 200, found)
