"""HTTP paths of the live-video app."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from klein import Klein
from twisted.web.server import Request

from rtdeliver.config.sections import Likes, LikesCrowd
from rtdeliver.deferreds import shield
from rtdeliver.errors import Forbidden, NotFound, Unauthorized
from rtdeliver.http.replies import answer
from rtdeliver.http.requests import (
    JSON,
    TOKEN_COOKIE,
    bearer_token,
    client_address,
    header,
    media_type,
    post_of,
    token_cookie,
)
from rtdeliver.likes.bodies import (
    decode_like,
    decode_nothing,
    decode_seen,
    decode_session,
    decode_text,
)
from rtdeliver.likes.conversations import Conversations
from rtdeliver.likes.crowd import Crowd
from rtdeliver.likes.limits import one_client
from rtdeliver.likes.model import NAME_CHARACTERS, REACTIONS, Visitor, check_name
from rtdeliver.likes.moderation import Moderation
from rtdeliver.likes.page import PageFile
from rtdeliver.likes.people import People, Session
from rtdeliver.likes.videos import Videos
from rtdeliver.model import Member

# A browser takes gzip if it names that, with no quality or another one than 0.
_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)


def add_page_routes(
    app: Klein, page: Mapping[str, PageFile], frontend: Callable[[Request], str]
) -> None:
    """Add the paths of the page and its files."""

    @app.route("/", methods=["GET"])
    def index(request: Request) -> bytes:
        return file(request, "index.html")

    @app.route("/<name>", methods=["GET"])
    def file(request: Request, name: str) -> bytes:
        if name not in page:
            raise NotFound("nothing is served at this path")
        return _send_file(request, page[name], frontend(request))


def add_session_routes(
    app: Klein,
    people: People,
    *,
    settings: Likes,
    crowd: LikesCrowd,
    frontend: Callable[[Request], str],
    now: Callable[[], float],
) -> None:
    """Add what a page asks first: the settings, who the visitor is, and the members.

    :param frontend: returns the URL at which the browser of a request reaches the frontends.
    :param now: the wall clock, in seconds since the epoch.
    """

    @app.route("/settings", methods=["GET"])
    def page_settings(request: Request) -> bytes:
        value = {
            "frontend": frontend(request),
            "reactions": REACTIONS,
            "name_characters": NAME_CHARACTERS,
            "comment_characters": settings.comment_characters,
            "crowd_likes_per_second": crowd.likes_per_second,
            "crowd_seconds": crowd.seconds,
            "now": int(now() * 1000),
        }
        return answer(request, 200, value)

    @app.route("/session", methods=["POST"])
    async def enter(request: Request) -> bytes:
        member, password = decode_session(_body(request))
        address = _address(request, settings)
        session = await shield(people.enter(member, password=password, address=address))
        _set_cookie(request, session.token, session.expires_at / 1000 - now())
        return answer(request, 201, session)

    @app.route("/session", methods=["GET"])
    async def resume(request: Request) -> bytes:
        try:
            session = await shield(people.resume(bearer_token(request) or token_cookie(request)))
        except (Unauthorized, Forbidden):
            _set_cookie(request, "", 0)
            return answer(request, 200, {"member": None})
        return answer(request, 200, session)

    @app.route("/session", methods=["DELETE"])
    def leave(request: Request) -> bytes:
        _set_cookie(request, "", 0)
        return answer(request, 200, {"member": None})

    @app.route("/members", methods=["GET"])
    async def members(request: Request) -> bytes:
        return answer(request, 200, {"members": await people.last_seen()})


def add_video_routes(
    app: Klein, videos: Videos, crowd: Crowd, people: People, settings: Likes
) -> None:
    """Add the paths of videos: likes, comments, typing and crowds."""

    @app.route("/videos", methods=["GET"])
    async def summaries(request: Request) -> bytes:
        return answer(request, 200, {"videos": await videos.summaries()})

    @app.route("/videos/<video>", methods=["GET"])
    async def look(request: Request, video: str) -> bytes:
        return answer(request, 200, await videos.look(videos.video(video)))

    @app.route("/videos/<video>/likes", methods=["POST"])
    async def like(request: Request, video: str) -> bytes:
        liked = videos.video(video)
        visitor = _visitor(request, people, settings)
        return answer(
            request, 201, await shield(videos.like(liked, visitor, decode_like(_body(request))))
        )

    @app.route("/videos/<video>/comments", methods=["POST"])
    async def comment(request: Request, video: str) -> bytes:
        commented = videos.video(video)
        member = _member(request, people)
        text = decode_text(_body(request), max_characters=settings.comment_characters)
        address = _address(request, settings)
        return answer(
            request, 201, await shield(videos.comment(commented, member, text, address=address))
        )

    @app.route("/videos/<video>/typing", methods=["POST"])
    async def typing(request: Request, video: str) -> bytes:
        commented = videos.video(video)
        member = _member(request, people)
        decode_nothing(_body(request))
        delivery = await shield(
            videos.typing(commented, member, address=_address(request, settings))
        )
        return answer(request, 202, {"delivery": delivery})

    @app.route("/videos/<video>/crowd", methods=["POST"])
    def come(request: Request, video: str) -> bytes:
        decode_nothing(_body(request))
        crowd.come(videos.video(video))
        return answer(
            request,
            202,
            {
                "likes_per_second": crowd.settings.likes_per_second,
                "seconds": crowd.settings.seconds,
            },
        )


def add_moderation_routes(
    app: Klein, moderation: Moderation, videos: Videos, people: People
) -> None:
    """Add the paths of moderators. Only requests of the page's own origin may be a DELETE."""

    @app.route("/videos/<video>/comments/<int:comment>", methods=["DELETE"])
    async def remove(request: Request, video: str, comment: int) -> bytes:
        session = _member_session(request, people)
        removed = await shield(moderation.remove(session, videos.video(video), comment))
        return answer(request, 200, removed)

    @app.route("/members/<member>/ban", methods=["POST"])
    async def ban(request: Request, member: str) -> bytes:
        session = _member_session(request, people)
        decode_nothing(_body(request))
        return answer(request, 200, await shield(moderation.ban(session, check_name(member))))

    @app.route("/members/<member>/ban", methods=["DELETE"])
    async def lift(request: Request, member: str) -> bytes:
        session = _member_session(request, people)
        await shield(moderation.lift(session, check_name(member)))
        return answer(request, 200, {"member": member})


def add_conversation_routes(
    app: Klein, conversations: Conversations, people: People, settings: Likes
) -> None:
    """Add the paths of messages between members."""

    @app.route("/conversations", methods=["GET"])
    async def all_conversations(request: Request) -> bytes:
        member = _member(request, people)
        return answer(request, 200, {"conversations": await conversations.all_of(member)})

    @app.route("/conversations/<other>", methods=["GET"])
    async def conversation(request: Request, other: str) -> bytes:
        member = _member(request, people)
        return answer(request, 200, await conversations.look(member, check_name(other)))

    @app.route("/conversations/<other>/messages", methods=["POST"])
    async def send(request: Request, other: str) -> bytes:
        member = _member(request, people)
        text = decode_text(_body(request), max_characters=settings.comment_characters)
        address = _address(request, settings)
        sent = await shield(conversations.send(member, check_name(other), text, address=address))
        return answer(request, 201, sent)

    @app.route("/conversations/<other>/seen", methods=["POST"])
    async def see(request: Request, other: str) -> bytes:
        member = _member(request, people)
        message = decode_seen(_body(request))
        address = _address(request, settings)
        seen = await shield(conversations.see(member, check_name(other), message, address=address))
        return answer(request, 201, seen)


def _body(request: Request) -> bytes:
    post = post_of(request)
    # A form on another site cannot send this type, so it cannot misuse the visitor's cookie.
    media_type(post.content_type, JSON)
    return post.body


def _session(request: Request, people: People) -> Session | None:
    token = bearer_token(request)
    if token:
        return people.identify(token)
    try:
        return people.identify(token_cookie(request))
    except Unauthorized:
        # An invalid cookie is ignored, since browsers send cookies automatically.
        return None


def _member(request: Request, people: People) -> Member:
    return _member_session(request, people).member


def _member_session(request: Request, people: People) -> Session:
    session = _session(request, people)
    if session is None:
        raise Unauthorized(
            "take a name first: POST /session, then send the token",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return session


def _visitor(request: Request, people: People, settings: Likes) -> Visitor:
    session = _session(request, people)
    return Visitor(None if session is None else session.member, _address(request, settings))


def _address(request: Request, settings: Likes) -> str:
    return one_client(client_address(request, behind_proxy=settings.behind_proxy))


def _set_cookie(request: Request, token: str, seconds: float) -> None:
    request.addCookie(
        TOKEN_COOKIE,
        token,
        path="/",
        max_age=str(int(seconds)),
        httpOnly=True,
        secure=request.isSecure(),
        sameSite="lax",
    )


def _send_file(request: Request, file: PageFile, frontend: str) -> bytes:
    request.setHeader("Content-Type", file.content_type)
    # Browsers ask again each time, and mostly get a 304.
    request.setHeader("Cache-Control", "no-cache")
    request.setHeader("X-Content-Type-Options", "nosniff")
    request.setHeader("Referrer-Policy", "no-referrer")
    # Pages of other origins may import rtdeliver.js, and nothing here is secret.
    request.setHeader("Access-Control-Allow-Origin", "*")
    request.setHeader(
        "Content-Security-Policy",
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        f" connect-src 'self' {frontend}; base-uri 'none'; form-action 'none';"
        f" frame-ancestors 'none'",
    )
    request.setHeader("Vary", "Accept-Encoding")
    content, etag = file.content, f'"{file.digest}"'
    if _GZIP.search(header(request, "Accept-Encoding")):
        request.setHeader("Content-Encoding", "gzip")
        content, etag = file.compressed, f'"{file.digest}-gzip"'
    # Each form has a name of its own (RFC 9110, 8.8.3).
    cached: Any = request.setETag(etag.encode())
    if cached:
        return b""
    request.setHeader("Content-Length", str(len(content)))
    return b"" if request.method == b"HEAD" else content
