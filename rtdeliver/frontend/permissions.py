"""What viewers may watch, and whose tokens are accepted."""

from collections.abc import Callable, Collection, Iterable, Sequence

from twisted.internet.defer import Deferred

from rtdeliver.errors import Forbidden, Unauthorized
from rtdeliver.grants import Patterns, named, not_covered
from rtdeliver.model import Topic
from rtdeliver.revoked import Revoked
from rtdeliver.tokens import Identify, Identity, TokenRevoked


class Permissions:
    """Decides by what is public, by what a token grants, and by what was revoked.

    :param public_topics: the topics that anybody may watch.
    :param identify: returns what a token proves, now or later; ``None`` if there is no key.
    :param revoked: what is known of revocations.
    :param known: returns a Deferred that fires once it is known what is revoked, or that fails with
        `Unavailable`; ``None`` if that is known already.
    """

    def __init__(
        self,
        *,
        public_topics: Patterns,
        identify: Identify | None,
        revoked: Revoked,
        known: Callable[[], Deferred[None] | None],
    ) -> None:
        self._public_topics = public_topics
        self._identify = identify
        self._revoked = revoked
        self._known = known

    def use_public_topics(self, public_topics: Patterns) -> None:
        """Let anybody watch these from now on; nobody loses the topics of an open stream."""
        self._public_topics = public_topics

    @property
    def has_keys(self) -> bool:
        """Whether tokens are checked; otherwise they are ignored."""
        return self._identify is not None

    def identify(self, token: str) -> Identity | Deferred[Identity]:
        """Return what ``token`` proves, later if something has to be fetched for that.

        :raises Unauthorized: if the token is refused; `TokenRevoked` if it was revoked.
        """
        if self._identify is None:
            raise Unauthorized("this frontend has no key for tokens (access.keys)")
        found = self._identify(token)
        if isinstance(found, Deferred):
            return found.addCallback(self._admit)
        return self._admit(found)

    def check(
        self, topics: Iterable[Topic], identity: Identity | None, given: Collection[Topic] = ()
    ) -> None:
        """Check that a viewer may watch ``topics``.

        :param identity: what its token proves; ``None`` without one.
        :param given: the topics that a backend has added to its stream.
        :raises Forbidden: if it may not; names those that it may not watch.
        """
        forbidden = self.not_allowed(topics, identity, given)
        if forbidden:
            names = named(forbidden)
            raise Forbidden(
                f"the token does not grant {names}"
                if identity
                else f"without a token, nobody may watch {names} (access.public_topics)",
                topics=forbidden,
            )

    def not_allowed(
        self, topics: Iterable[Topic], identity: Identity | None, given: Collection[Topic] = ()
    ) -> Sequence[Topic]:
        """Return those of ``topics`` that a viewer may not watch; parameters as for `check`."""
        allowed = [self._public_topics]
        if given:
            topics = (topic for topic in topics if topic not in given)
        if identity is not None:
            own = identity.topics
            topics = (topic for topic in topics if topic not in own)
            allowed.append(identity.grants.subscribe)
        return not_covered(topics, *allowed)

    def _admit(self, identity: Identity) -> Identity | Deferred[Identity]:
        known = self._known()
        if known is not None:
            return known.addCallback(lambda _: self._check_revoked(identity))
        return self._check_revoked(identity)

    def _check_revoked(self, identity: Identity) -> Identity:
        revocation = self._revoked.refusing(identity)
        if revocation is not None:
            raise TokenRevoked(
                "the token is refused: its holder was disconnected after it was issued; get a new"
                " one",
                reconnect=revocation.reconnect,
            )
        return identity
