"""How the live-video app is put together."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource
from twisted.web.server import Request

from rtdeliver.config.sections import Likes, LikesCrowd, LikesDatabase, LikesLimits
from rtdeliver.deferreds import flush
from rtdeliver.errors import BadRequest, ConfigError
from rtdeliver.http.requests import host_of
from rtdeliver.http.routes import add_public_health, new_app
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.conversations import Conversations
from rtdeliver.likes.crowd import Crowd
from rtdeliver.likes.database import Database
from rtdeliver.likes.limits import Allowance, RateLimit, VisitorLimit, refused
from rtdeliver.likes.model import Video, check_name, parse_video
from rtdeliver.likes.moderation import Moderation
from rtdeliver.likes.page import read_page
from rtdeliver.likes.people import People
from rtdeliver.likes.publisher import Publisher
from rtdeliver.likes.routes import (
    add_conversation_routes,
    add_moderation_routes,
    add_page_routes,
    add_session_routes,
    add_video_routes,
)
from rtdeliver.likes.store import Store
from rtdeliver.likes.videos import Videos
from rtdeliver.likes.viewers import ViewerCounts
from rtdeliver.metrics import Sample
from rtdeliver.model import Member
from rtdeliver.tokens import ApplicationKey

_PASSWORD_CHARACTERS = 8


class LikesApp:
    """The app's backend and its page.

    :param platform: where the app publishes, and all that it knows of the platform.
    :param key: signs the members' tokens.
    :param now: the wall clock, in seconds since the epoch.
    :raises ConfigError: if ``likes.videos`` is empty, repeats a name, or has an invalid one, or if
        a moderator's name or the password is wrong.
    """

    def __init__(
        self,
        *,
        settings: Likes,
        database: LikesDatabase,
        limits: LikesLimits,
        crowd: LikesCrowd,
        platform: IPlatform,
        key: ApplicationKey,
        reactor: Any,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._now = now
        self._key = key
        videos = _videos(settings.videos)
        self._database = Database(settings=database, reactor=reactor)
        store = Store(self._database.run)
        self._publisher = Publisher(platform=platform, waiting=settings.publish_waiting)
        self._viewers = ViewerCounts(
            videos=videos,
            platform=platform,
            every_seconds=settings.viewers_seconds,
            clock=reactor,
        )
        likes = Allowance(limits.likes_per_second, limits.likes_burst)
        comments = Allowance(limits.comments_per_second, limits.comments_burst)
        self._limits = {
            what: _visitor_limit(what, allowance, limits, reactor)
            for what, allowance in {
                "likes": likes,
                "comments": comments,
                "messages": comments,
                "seen": likes,
            }.items()
        }
        self._sessions = RateLimit(
            what="names from your address",
            allowance=Allowance(limits.sessions_per_second, limits.sessions_burst),
            visitors=limits.visitors,
            clock=reactor,
        )
        self._videos = Videos(
            videos=videos,
            store=store,
            publisher=self._publisher,
            viewers=self._viewers,
            likes=self._limits["likes"],
            comments=self._limits["comments"],
            now=now,
        )
        self._conversations = Conversations(
            store=store,
            publisher=self._publisher,
            messages=self._limits["messages"],
            seen=self._limits["seen"],
            now=now,
        )
        self._people = People(
            store=store,
            publisher=self._publisher,
            platform=platform,
            key=key.key,
            sessions=self._sessions,
            moderators=_moderators(settings.moderators),
            password=_password(settings),
            token_seconds=settings.token_seconds,
            now=now,
        )
        self._moderation = Moderation(
            store=store,
            publisher=self._publisher,
            platform=platform,
            people=self._people,
            now=now,
        )
        self._crowd = Crowd(videos=self._videos, settings=crowd, clock=reactor)
        self._frontend: Callable[[str], str] = str

    def resource(self) -> IResource:
        """Return the resource that serves all paths of the app."""
        app = new_app()
        add_public_health(app, self.missing)
        settings = self._settings
        add_session_routes(
            app,
            self._people,
            settings=settings,
            crowd=self._crowd.settings,
            frontend=self._frontend_of,
            now=self._now,
        )
        add_video_routes(app, self._videos, self._crowd, self._people, settings)
        add_moderation_routes(app, self._moderation, self._videos, self._people)
        add_conversation_routes(app, self._conversations, self._people, settings)
        add_page_routes(app, read_page(), self._frontend_of)
        resource: IResource = app.resource()
        return resource

    def start(self, *, frontend: Callable[[str], str]) -> None:
        """Keep the key, open the database, and begin to poll the numbers of viewers.

        :param frontend: returns the URL at which browsers reach the frontends, for the host at
            which they reach the app.
        :raises ConfigError: if a new key cannot be written, there is no database and none can be
            made, or it has a schema that this program does not know.
        """
        self._frontend = frontend
        self._key.keep()
        self._database.open()
        self._viewers.start()

    async def stop(self, flush_seconds: float) -> None:
        """Close the app.

        Pending writes and publishes have ``flush_seconds`` to complete.
        """
        self._viewers.stop()
        self._crowd.leave()
        await flush(
            lambda: self._database.waiting + self._publisher.waiting,
            at_most_seconds=flush_seconds,
            clock=self._reactor,
        )
        self._database.close()

    def _frontend_of(self, request: Request) -> str:
        return self._frontend(host_of(request))

    def missing(self) -> list[str]:
        """What keeps the app from serving visitors; empty when it is ready."""
        return self._database.missing()

    def samples(self) -> list[Sample]:
        return [
            *self._videos.samples(),
            *self._conversations.samples(),
            *self._publisher.samples(),
            *self._crowd.samples(),
            *(sample for of, limit in self._limits.items() for sample in limit.samples(of)),
            refused(self._sessions, "sessions", by="address"),
        ]


def _visitor_limit(
    what: str, allowance: Allowance, limits: LikesLimits, clock: IReactorTime
) -> VisitorLimit:
    return VisitorLimit(
        visitors=RateLimit(what=what, allowance=allowance, visitors=limits.visitors, clock=clock),
        addresses=RateLimit(
            what=f"{what} from your address",
            allowance=allowance.times(limits.address_members),
            visitors=limits.visitors,
            clock=clock,
        ),
    )


def _videos(texts: Sequence[str]) -> Sequence[Video]:
    try:
        videos = [parse_video(text) for text in texts]
    except BadRequest as refusal:
        raise ConfigError(f"likes.videos: {refusal.message}") from None
    if not videos:
        raise ConfigError("likes.videos: name at least one video, such as red")
    names = [video.name for video in videos]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"likes.videos: {name} is named twice")
    return videos


def _moderators(texts: Sequence[str]) -> Sequence[Member]:
    try:
        return [check_name(text) for text in texts]
    except BadRequest as refusal:
        raise ConfigError(f"likes.moderators: {refusal.message}") from None


def _password(settings: Likes) -> str:
    path = settings.moderator_password_file
    if not path:
        if settings.moderators:
            raise ConfigError("likes.moderator_password_file: give the moderators a password")
        return ""
    try:
        with open(path, encoding="utf-8") as file:
            password = file.read().strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"likes.moderator_password_file {path}: {error}") from None
    if len(password) < _PASSWORD_CHARACTERS or "\n" in password:
        raise ConfigError(
            f"likes.moderator_password_file {path}: the password must be one line of at least"
            f" {_PASSWORD_CHARACTERS} characters"
        )
    return password
