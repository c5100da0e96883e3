"""Which tokens are refused although they are valid: whose holders were disconnected."""

from collections.abc import Iterator

from rtdeliver.model import Revocation
from rtdeliver.tokens import Identity


class Revoked:
    """The revocations that hold, the last one for each kind and name."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Revocation] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Revocation]:
        return iter(self._kept.values())

    def add(self, revocation: Revocation) -> bool:
        """Keep a revocation; return whether it is later than what was kept for its name."""
        key = (revocation.kind, revocation.name)
        before = self._kept.get(key)
        if before is not None and before.at >= revocation.at:
            return False
        self._kept[key] = revocation
        return True

    def drop_ended(self, now: float) -> None:
        """Forget those that do not hold any more.

        :param now: seconds since the epoch.
        """
        self._kept = {key: r for key, r in self._kept.items() if r.until > now * 1000}

    def refusing(self, identity: Identity) -> Revocation | None:
        """Return what the token of ``identity`` is refused for; ``None`` if it is not refused."""
        by_member = self._kept.get(("member", identity.member or ""))
        by_token = self._kept.get(("token", identity.token_id))
        found = [r for r in (by_token, by_member) if r is not None and refuses(r, identity)]
        return min(found, key=lambda r: r.reconnect, default=None)


def refuses(revocation: Revocation, identity: Identity) -> bool:
    """Return whether a revocation is for the token of ``identity``.

    A token of a member that does not say when it was issued was perhaps issued before.
    """
    if revocation.kind == "token":
        return bool(identity.token_id) and identity.token_id == revocation.name
    if revocation.kind == "member":
        issued_at = identity.issued_at
        return identity.member == revocation.name and (
            issued_at is None or issued_at * 1000 <= revocation.at
        )
    return False
