"""Which topics a producer may publish to, by its token."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from rtdeliver.errors import Forbidden, Unauthorized
from rtdeliver.grants import Patterns, named, not_covered
from rtdeliver.interfaces import IRevocationStore
from rtdeliver.revoked import refuses
from rtdeliver.tokens import Identify
from rtdeliver.wire import Draft, numbers_of_lines


class Producers:
    """Checks the tokens of producers.

    :param identify: returns what a token proves; ``None`` if there is no key.
    :param revocations: which tokens are refused although they are valid.
    """

    def __init__(self, *, identify: Identify | None, revocations: IRevocationStore) -> None:
        self._identify = identify
        self._revocations = revocations

    async def allowed(self, token: str) -> Patterns:
        """Return the topics that the holder of ``token`` may publish to.

        :raises Unauthorized: if the token is refused.
        :raises Unavailable: if it cannot be found out whether the token is revoked.
        """
        if self._identify is None:
            raise Unauthorized("this dispatcher has no key for tokens (access.keys)")
        identity = self._identify(token)
        if isinstance(identity, Deferred):
            identity = await identity
        for revocation in await self._revocations.find(identity.member, identity.token_id):
            if refuses(revocation, identity):
                raise Unauthorized("the token is refused: its holder was disconnected")
        return identity.grants.publish


def check_topics(drafts: Sequence[Draft], allowed: Patterns, *, batch: bytes = b"") -> None:
    """Check that all of ``drafts`` may be published.

    :param batch: the body that they came in, if they came in lines.
    :raises Forbidden: if one may not; names the topics, and the lines.
    """
    forbidden = not_covered(dict.fromkeys(draft.topic for draft in drafts), allowed)
    if not forbidden:
        return
    lines: list[int] = []
    if batch:
        found = zip(numbers_of_lines(batch), drafts, strict=True)
        lines = [number for number, draft in found if draft.topic in forbidden]
    raise Forbidden(
        f"the token does not let publish to {named(forbidden)}", topics=forbidden, lines=lines
    )
