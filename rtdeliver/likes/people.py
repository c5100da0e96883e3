"""Who is a member: names, the tokens of those who took them, and who is online."""

import hmac
from collections.abc import Callable, Collection, Sequence

import msgspec

from rtdeliver.errors import BadRequest, RemoteFailure, Unauthorized, Unavailable
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.limits import RateLimit
from rtdeliver.likes.model import COMMENTS, MEMBERS_TOPIC, check_name, grants_of
from rtdeliver.likes.publisher import Publisher
from rtdeliver.likes.store import Store
from rtdeliver.model import Member
from rtdeliver.tokens import Identity, TokenKey

_MEMBERS = 30
# That a member is back is published only after a longer absence than this.
_AWAY_MILLISECONDS = 60_000


class Session(msgspec.Struct, frozen=True):
    """A member's session.

    :param expires_at: when the token expires, in milliseconds since the epoch.
    :param moderator: whether it may remove comments and ban members.
    """

    member: Member
    token: str
    expires_at: int
    moderator: bool = False


class MemberStatus(msgspec.Struct, frozen=True):
    """A member in the list.

    :param online: ``None`` if no dispatcher answers.
    """

    member: Member
    online: bool | None


class People:
    """Gives visitors tokens for names, checks the tokens, and lists the members.

    :param sessions: limits how many names each address takes.
    :param moderators: the names that need the password.
    :param password: of the moderators; empty if there are none.
    :param token_seconds: how long a token is valid.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        store: Store,
        publisher: Publisher,
        platform: IPlatform,
        key: TokenKey,
        sessions: RateLimit,
        moderators: Collection[Member],
        password: str,
        token_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._platform = platform
        self._key = key
        self._sessions = sessions
        self._moderators = frozenset(moderators)
        self._password = password
        self._token_seconds = token_seconds
        self._now = now

    async def enter(self, member: Member, *, password: str = "", address: str) -> Session:
        """Give a member a token, and publish that it has come.

        The token lets it watch its own conversations and who is online, and lets a moderator
        publish to the comments.

        :raises TooManyRequests: if too many names are taken from this address.
        :raises Unauthorized: if it is the name of a moderator, and the password is wrong.
        :raises Forbidden: if the member is banned.
        """
        self._sessions.take(address)
        is_moderator = member in self._moderators
        if is_moderator and not hmac.compare_digest(password.encode(), self._password.encode()):
            raise Unauthorized(f"{member} is a moderator: the password is missing or wrong")
        await self._note(member, away_milliseconds=0)
        expires_at = int(self._now() + self._token_seconds)
        identity = Identity(
            member,
            expires_at,
            grants=grants_of(member, moderates=is_moderator),
            issued_at=self._now(),
        )
        return Session(member, self._key.sign(identity), expires_at * 1000, is_moderator)

    async def resume(self, token: str) -> Session:
        """Return the session of a token; publish that its member is back, if it was away.

        :raises Unauthorized: if the token is invalid or has expired.
        """
        session = self.identify(token)
        await self._note(session.member, away_milliseconds=_AWAY_MILLISECONDS)
        return session

    def identify(self, token: str) -> Session:
        """Return whose token this is, and until when it is valid.

        :raises Unauthorized: if the token is invalid, has expired, or is for a name that nobody can
            take here: another application may sign with the same key.
        """
        identity = self._key.check(token, now=self._now())
        member = identity.member
        try:
            is_a_name = member is not None and check_name(member) == member
        except BadRequest:
            is_a_name = False
        if member is None or not is_a_name:
            raise Unauthorized("the token is for a name that nobody can take here")
        # A token of before the member became a moderator does not say so.
        moderates = identity.grants.publish.cover(COMMENTS) and member in self._moderators
        return Session(member, token, int(identity.expires_at * 1000), moderates)

    def is_moderator(self, member: Member) -> bool:
        """Return whether this is the name of a moderator."""
        return member in self._moderators

    async def last_seen(self) -> Sequence[MemberStatus]:
        """Return the members who were seen last, and which of them are online."""
        members = await self._store.members(_MEMBERS)
        if not members:
            return []
        try:
            there = await self._platform.presence(members)
        except (RemoteFailure, Unavailable):
            return [MemberStatus(member, None) for member in members]
        return [MemberStatus(presence.member, presence.online) for presence in there]

    async def _note(self, member: Member, *, away_milliseconds: int) -> None:
        at = int(self._now() * 1000)
        if await self._store.come(member, at=at, away_milliseconds=away_milliseconds):
            await self._publisher.publish(MEMBERS_TOPIC, "joined", {"member": member})
