"""What visitors do with a video: look at it, like it, comment on it."""

from collections.abc import Iterable, Sequence

import msgspec
from twisted.internet.interfaces import IReactorTime

from rtdeliver.errors import NotFound
from rtdeliver.likes.limits import RateLimit
from rtdeliver.likes.model import Comment, Minute, Video, Visitor
from rtdeliver.likes.publisher import Publisher, PublishOutcome
from rtdeliver.likes.store import Store
from rtdeliver.likes.viewers import ViewerCounts
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import Member

_COMMENTS = 50
_MINUTES = 30


class VideoSummary(msgspec.Struct, frozen=True):
    """A video in the list.

    :param viewers: ``None`` while nobody knows.
    """

    video: str
    title: str
    likes: int
    viewers: int | None


class VideoPage(msgspec.Struct, frozen=True):
    """What a page shows of a video when it is loaded."""

    video: str
    title: str
    likes: int
    reactions: dict[str, int]
    minutes: Sequence[Minute]
    comments: Sequence[Comment]
    viewers: int | None


class Liked(msgspec.Struct, frozen=True):
    """A like that is stored; ``likes`` are all that the video has."""

    likes: int
    reaction: str
    delivery: PublishOutcome


class Commented(msgspec.Struct, frozen=True):
    """A comment that is stored."""

    comment: Comment
    delivery: PublishOutcome


class Videos:
    """Stores, and then tells.

    :param likes: limits the likes of a visitor, and what it tells of its typing.
    :param comments: limits the comments of a visitor.
    """

    def __init__(
        self,
        *,
        videos: Iterable[Video],
        store: Store,
        publisher: Publisher,
        viewers: ViewerCounts,
        likes: RateLimit,
        comments: RateLimit,
        clock: IReactorTime,
    ) -> None:
        self._videos = {video.name: video for video in videos}
        self._store = store
        self._publisher = publisher
        self._viewers = viewers
        self._likes = likes
        self._comments = comments
        self._clock = clock
        self._liked = 0
        self._commented = 0

    def video(self, name: str) -> Video:
        """Return the video of this name.

        :raises NotFound: if there is none.
        """
        try:
            return self._videos[name]
        except KeyError:
            raise NotFound(f"the videos are {', '.join(self._videos)}") from None

    async def summaries(self) -> Sequence[VideoSummary]:
        """Return all videos."""
        return [
            VideoSummary(
                video.name,
                video.title,
                await self._store.likes(video.name),
                self._viewers.of(video),
            )
            for video in self._videos.values()
        ]

    async def look(self, video: Video) -> VideoPage:
        """Return what there is of a video."""
        applause = await self._store.applause(video.name, minutes=_MINUTES)
        return VideoPage(
            video=video.name,
            title=video.title,
            likes=applause.likes,
            reactions=dict(applause.reactions),
            minutes=applause.minutes,
            comments=await self._store.comments(video.name, _COMMENTS),
            viewers=self._viewers.of(video),
        )

    async def like(self, video: Video, visitor: Visitor, reaction: str) -> Liked:
        """Take a visitor's like.

        :raises TooManyRequests: if it likes too much.
        """
        self._likes.take(visitor.key)
        return await self.count_like(video, visitor.member, reaction)

    async def count_like(self, video: Video, member: Member | None, reaction: str) -> Liked:
        """Take a like of whoever may have liked as much as they want."""
        likes = await self._store.like(video.name, reaction, at=self._now())
        self._liked += 1
        told = {"member": member, "reaction": reaction, "likes": likes}
        return Liked(likes, reaction, await self._publisher.publish(video.live, "like", told))

    async def comment(self, video: Video, member: Member, text: str) -> Commented:
        """Take a member's comment.

        :raises TooManyRequests: if it comments too much.
        """
        self._comments.take(member)
        comment = await self._store.comment(video.name, member, text, at=self._now())
        self._commented += 1
        return Commented(comment, await self._publisher.publish(video.comments, "comment", comment))

    async def typing(self, video: Video, member: Member) -> PublishOutcome:
        """Tell that a member types a comment; nothing of it is stored.

        :raises TooManyRequests: if it tells so too often.
        """
        self._likes.take(member)
        return await self._publisher.publish(video.comments, "typing", {"member": member})

    def samples(self) -> list[Sample]:
        return [
            counter("app_likes", "Likes stored.", self._liked),
            counter("app_comments", "Comments stored.", self._commented),
        ]

    def _now(self) -> int:
        return int(self._clock.seconds() * 1000)
