"""What visitors do with videos: look at them, like them, comment on them."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from rtdeliver.errors import NotFound
from rtdeliver.likes.limits import VisitorLimit
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

    :param viewers: ``None`` while no dispatcher says how many there are.
    """

    video: str
    title: str
    likes: int
    viewers: int | None


class VideoPage(msgspec.Struct, frozen=True):
    """What the page shows of a video when it loads; see `VideoSummary`."""

    video: str
    title: str
    likes: int
    reactions: dict[str, int]
    minutes: Sequence[Minute]
    comments: Sequence[Comment]
    viewers: int | None


class Liked(msgspec.Struct, frozen=True):
    """A stored like, how many the video has with it, and the outcome of publishing it."""

    likes: int
    reaction: str
    delivery: PublishOutcome


class Commented(msgspec.Struct, frozen=True):
    """A stored comment, and the outcome of publishing it."""

    comment: Comment
    delivery: PublishOutcome


class Videos:
    """Stores likes and comments, and then publishes them.

    :param likes: limits how often each visitor likes, or publishes that it is typing.
    :param comments: limits how often each visitor comments.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        videos: Iterable[Video],
        store: Store,
        publisher: Publisher,
        viewers: ViewerCounts,
        likes: VisitorLimit,
        comments: VisitorLimit,
        now: Callable[[], float],
    ) -> None:
        self._videos = {video.name: video for video in videos}
        self._store = store
        self._publisher = publisher
        self._viewers = viewers
        self._likes = likes
        self._comments = comments
        self._now = now
        self._liked = 0
        self._commented = 0

    def video(self, name: str) -> Video:
        """Return the video of this name.

        :raises NotFound: if there is none.
        """
        try:
            return self._videos[name]
        except KeyError:
            names = ", ".join(self._videos)
            raise NotFound(f"there is no such video; the videos are {names}") from None

    async def summaries(self) -> Sequence[VideoSummary]:
        """Return all videos, in the order of ``likes.videos``."""
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
        """Return what the page shows of a video."""
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
        """Store and publish a visitor's like.

        :raises TooManyRequests: if the visitor or its address exceeds the limit.
        """
        self._likes.take(visitor)
        return await self.count_like(video, visitor.member, reaction)

    async def count_like(self, video: Video, member: Member | None, reaction: str) -> Liked:
        """Store and publish a like without a limit."""
        likes = await self._store.like(video.name, reaction, at=self._milliseconds())
        self._liked += 1
        data = {"member": member, "reaction": reaction, "likes": likes}
        return Liked(likes, reaction, await self._publisher.publish(video.live, "like", data))

    async def comment(self, video: Video, member: Member, text: str, *, address: str) -> Commented:
        """Store and publish a member's comment.

        :param address: where it comes from.
        :raises TooManyRequests: if the member or the address exceeds the limit.
        """
        self._comments.take(Visitor(member, address))
        comment = await self._store.comment(video.name, member, text, at=self._milliseconds())
        self._commented += 1
        return Commented(comment, await self._publisher.publish(video.comments, "comment", comment))

    async def typing(self, video: Video, member: Member, *, address: str) -> PublishOutcome:
        """Publish that a member is typing a comment; nothing is stored.

        :param address: where it types.
        :raises TooManyRequests: if the member or the address exceeds the limit for likes.
        """
        self._likes.take(Visitor(member, address))
        await self._store.check_not_banned(member)
        return await self._publisher.publish(video.comments, "typing", {"member": member})

    def samples(self) -> list[Sample]:
        return [
            counter("app_likes", "Likes stored.", self._liked),
            counter("app_comments", "Comments stored.", self._commented),
        ]

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)
