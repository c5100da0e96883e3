"""The revocations in the memory of one dispatcher."""

import secrets
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, execute, succeed
from zope.interface import implementer

from rtdeliver.errors import Unavailable
from rtdeliver.interfaces import IRevocationStore
from rtdeliver.messages import Bookmark, Revocations
from rtdeliver.model import Member, Revocation

FULL = "too many revocations are kept (access.max_revocations); try again when some have ended"
"""Why a store keeps no more."""


@implementer(IRevocationStore)
class MemoryRevocationStore:
    """Serves a single dispatcher.

    :param max_revocations: how many it keeps.
    :param page: how many a page has.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(self, *, max_revocations: int, now: Callable[[], float], page: int = 500) -> None:
        self._max_revocations = max_revocations
        self._now = now
        self._page = page
        self._name = secrets.token_hex(8)
        self._last = 0
        # In the order of their numbers.
        self._kept: dict[tuple[str, str], tuple[int, Revocation]] = {}

    def add(self, revocations: Sequence[Revocation]) -> Deferred[None]:
        return execute(self._add, revocations)

    def after(self, bookmark: Bookmark) -> Deferred[Revocations]:
        self._drop_ended()
        is_known = bookmark.store == self._name and bookmark.entry <= self._last
        begin = bookmark.entry if is_known else 0
        found = [(n, r) for n, r in self._kept.values() if n > begin]
        page, more = found[: self._page], len(found) > self._page
        return succeed(
            Revocations(
                revocations=tuple(r for _, r in page),
                bookmark=Bookmark(self._name, page[-1][0] if more else self._last),
                more=more,
            )
        )

    def find(self, member: Member | None, token_id: str) -> Deferred[Sequence[Revocation]]:
        self._drop_ended()
        found = [self._kept.get(("member", member or "")), self._kept.get(("token", token_id))]
        return succeed([kept[1] for kept in found if kept is not None])

    def _add(self, revocations: Sequence[Revocation]) -> None:
        self._drop_ended()
        for revocation in revocations:
            key = (revocation.kind, revocation.name)
            _, before = self._kept.get(key, (0, None))
            if revocation.until <= self._now() * 1000:
                continue
            if before is not None and before.at >= revocation.at:
                continue
            if before is None and len(self._kept) >= self._max_revocations:
                raise Unavailable(FULL)
            self._kept.pop(key, None)
            self._last += 1
            self._kept[key] = (self._last, revocation)

    def _drop_ended(self) -> None:
        now = self._now() * 1000
        self._kept = {key: kept for key, kept in self._kept.items() if kept[1].until > now}
