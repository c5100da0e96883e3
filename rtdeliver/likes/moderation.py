"""What moderators do: they remove comments, and ban members."""

from collections.abc import Callable

import msgspec

from rtdeliver.errors import BadRequest, Forbidden, RemoteFailure, Unavailable
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.model import Video
from rtdeliver.likes.people import People, Session
from rtdeliver.likes.publisher import Publisher, PublishOutcome
from rtdeliver.likes.store import Store
from rtdeliver.model import Member


class Removed(msgspec.Struct, frozen=True):
    """A removed comment, and the outcome of publishing that."""

    comment: int
    delivery: PublishOutcome


class Banned(msgspec.Struct, frozen=True):
    """A banned member, and whether a dispatcher ends its streams."""

    member: Member
    delivery: PublishOutcome


class Moderation:
    """Stores what a moderator decides, and then publishes it.

    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        store: Store,
        publisher: Publisher,
        platform: IPlatform,
        people: People,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._platform = platform
        self._people = people
        self._now = now

    async def remove(self, session: Session, video: Video, comment: int) -> Removed:
        """Remove a comment.

        :raises Forbidden: if the session is not of a moderator.
        :raises NotFound: if there is no such comment.
        """
        _check_moderator(session)
        await self._store.remove_comment(video.name, comment)
        data = {"comment": comment}
        return Removed(comment, await self._publisher.publish(video.comments, "removed", data))

    async def ban(self, session: Session, member: Member) -> Banned:
        """Ban a member: end its streams, and refuse its tokens and its name.

        If no dispatcher answers, its streams go on until its token expires, and the ban may be
        repeated.

        :raises Forbidden: if the session is not of a moderator.
        :raises BadRequest: if the member is a moderator.
        :raises NotFound: if there is no such member.
        """
        _check_moderator(session)
        if self._people.is_moderator(member):
            raise BadRequest(f"{member} is a moderator")
        await self._store.ban(member, session.member, at=int(self._now() * 1000))
        try:
            await self._platform.disconnect(member, "banned")
        except (RemoteFailure, Unavailable):
            # The platform has logged why.
            return Banned(member, PublishOutcome.FAILED)
        return Banned(member, PublishOutcome.ACCEPTED)

    async def lift(self, session: Session, member: Member) -> None:
        """Let a banned member come back, by taking its name again.

        :raises Forbidden: if the session is not of a moderator.
        :raises NotFound: if the member is not banned.
        """
        _check_moderator(session)
        await self._store.lift_ban(member)


def _check_moderator(session: Session) -> None:
    if not session.moderator:
        raise Forbidden("only moderators may do this (likes.moderators)")
