"""The HTTP paths of a dispatcher."""

import re
from collections.abc import Callable, Mapping

import msgspec
from klein import Klein
from msgspec.structs import replace
from twisted.web.server import Request

from rtdeliver.config.sections import Access, Publishing
from rtdeliver.deferreds import shield
from rtdeliver.dispatcher.dispatcher import Dispatcher, Published
from rtdeliver.dispatcher.producers import Producers, check_topics
from rtdeliver.dispatcher.watchers import Watchers
from rtdeliver.errors import BadRequest
from rtdeliver.http.history import answer_page, history_query
from rtdeliver.http.replies import PostHandler, Reply, answer
from rtdeliver.http.requests import (
    JSON,
    NDJSON,
    Post,
    limit_of,
    media_type,
    post_of,
    query_values,
    single_value,
)
from rtdeliver.messages import Bookmark
from rtdeliver.model import Revocation, check_topic
from rtdeliver.wire import (
    decode_announcement,
    decode_batch,
    decode_disconnect,
    decode_member_topics,
    decode_publish,
    decode_publish_batch,
    decode_queries,
    encode_pages,
)


def dispatcher_posts(
    dispatcher: Dispatcher, producers: Producers, limits: Publishing
) -> dict[str, PostHandler]:
    """Return the handlers for producers (``/publish``) and for peers (``/forward``)."""

    async def publish(post: Post) -> Reply:
        allowed = await producers.allowed(post.token) if post.token else None
        if media_type(post.content_type, JSON, NDJSON) == JSON:
            draft = decode_publish(post.body, limits)
            if allowed is not None:
                check_topics([draft], allowed)
            [published] = await dispatcher.publish([draft])
            event = published.event
            return Reply(202, _stored(published) if event.position else {"id": event.id})
        drafts = decode_publish_batch(post.body, limits)
        if allowed is not None:
            check_topics(drafts, allowed, batch=post.body)
        accepted = await dispatcher.publish(drafts)
        repeated = [each for each in accepted if each.repeated]
        value = {"accepted": len(accepted)}
        return Reply(202, {**value, "repeated": len(repeated)} if repeated else value)

    async def forward(post: Post) -> Reply:
        media_type(post.content_type, NDJSON)
        batch = decode_batch(post.body)
        await dispatcher.deliver_local(batch)
        return Reply(202, {"delivered": len(batch)})

    return {"/publish": publish, "/forward": forward}


def _stored(published: Published) -> Mapping[str, object]:
    event = published.event
    value = {"id": event.id, "position": event.position}
    return {**value, "repeated": True} if published.repeated else value


def add_control_routes(
    app: Klein, dispatcher: Dispatcher, access: Access, now: Callable[[], float]
) -> None:
    """Add the paths with which backends change what viewers may do now.

    :param now: the wall clock, by which revocations hold.
    """

    @app.route("/disconnect", methods=["POST"])
    async def disconnect(request: Request) -> bytes:
        post = post_of(request)
        media_type(post.content_type, JSON)
        revocation = decode_disconnect(
            post.body, at=now(), keep_seconds=access.longest_token_seconds
        )
        await shield(dispatcher.control(revocation))
        return answer(request, 202, {"at": revocation.at, "until": revocation.until})

    @app.route("/members/<path:member>/topics", methods=["POST"])
    async def member_topics(request: Request, member: str) -> bytes:
        post = post_of(request)
        media_type(post.content_type, JSON)
        change = decode_member_topics(member, post.body)
        await shield(dispatcher.control(change))
        return answer(request, 202, {"member": member})

    @app.route("/revocations", methods=["GET"])
    async def revocations(request: Request) -> bytes:
        bookmark = Bookmark(single_value(request, "store"), _entry(single_value(request, "entry")))
        return answer(request, 200, await shield(dispatcher.revocations(bookmark)))

    @app.route("/revocations", methods=["POST"])
    async def restore(request: Request) -> bytes:
        post = post_of(request)
        media_type(post.content_type, NDJSON)
        kept = [item for item in decode_batch(post.body) if isinstance(item, Revocation)]
        await shield(dispatcher.restore(kept))
        return answer(request, 202, {"kept": len(kept)})


def _entry(text: str) -> int:
    if text and not re.fullmatch("[0-9]{1,15}", text):
        raise BadRequest(f"entry must be the number of an entry, not {text[:40]}")
    return int(text or 0)


def add_history_routes(app: Klein, dispatcher: Dispatcher) -> None:
    """Add the paths on which histories are read and cleared."""

    @app.route("/history", methods=["GET"])
    async def history(request: Request) -> bytes:
        query = history_query(request)
        [page] = await shield(dispatcher.read_history([query]))
        return answer_page(request, query, page)

    @app.route("/history", methods=["DELETE"])
    async def clear(request: Request) -> bytes:
        topic = check_topic(single_value(request, "topic"))
        removed = await shield(dispatcher.clear_history(topic))
        return answer(request, 200, {"removed": removed})

    @app.route("/history/read", methods=["POST"])
    async def read(request: Request) -> bytes:
        post = post_of(request)
        media_type(post.content_type, JSON)
        pages = await shield(dispatcher.read_history(decode_queries(post.body)))
        return answer(request, 200, msgspec.Raw(encode_pages(pages)))


def add_watchers_routes(app: Klein, dispatcher: Dispatcher, watchers: Watchers) -> None:
    """Add the paths that tell who watches what."""

    @app.route("/topics", methods=["GET"])
    # Klein identifies a route by its function's name, and rtcombined has another one named topics.
    async def topic(request: Request) -> bytes:
        topics, prefixes = query_values(request, "topic"), query_values(request, "prefix")
        if len(topics) + len(prefixes) != 1:
            raise BadRequest(
                "ask for one topic, /topics?topic=live:red, or for those that begin with something,"
                " /topics?prefix=live:"
            )
        if topics:
            return answer(request, 200, await shield(dispatcher.topic(check_topic(topics[0]))))
        after, limit = single_value(request, "after"), limit_of(request)
        return answer(request, 200, await shield(watchers.topics(prefixes[0], after, limit)))

    @app.route("/topics/members", methods=["GET"])
    async def members(request: Request) -> bytes:
        topic = check_topic(single_value(request, "topic"))
        after, limit = single_value(request, "after"), limit_of(request)
        return answer(request, 200, await shield(watchers.members(topic, after, limit)))


def add_dispatcher_routes(app: Klein, dispatcher: Dispatcher, now: Callable[[], float]) -> None:
    """Add the paths that frontends and operators use.

    :param now: the wall clock, which frontends are told.
    """

    @app.route("/subscriptions", methods=["POST"])
    async def subscriptions(request: Request) -> bytes:
        received_at = now()
        post = post_of(request)
        media_type(post.content_type, JSON)
        announcement = decode_announcement(post.body)
        acknowledged = await shield(dispatcher.announce(announcement))
        if announcement.sequence:
            # A frontend of rtdeliver, which compares the clocks.
            acknowledged = replace(acknowledged, received_at=received_at, answered_at=now())
        return answer(request, 200, acknowledged)

    @app.route("/frontends", methods=["GET"])
    async def frontends(request: Request) -> bytes:
        nodes = await shield(dispatcher.nodes())
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
