"""The revocations in a Redis that any number of dispatchers share."""

import secrets
from collections.abc import Sequence

from zope.interface import implementer

from rtdeliver.deferreds import as_deferred
from rtdeliver.errors import Unavailable
from rtdeliver.interfaces import IRevocationStore
from rtdeliver.messages import Bookmark, Revocations
from rtdeliver.model import Member, Revocation
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.scripts import read_script
from rtdeliver.revocations.memory import FULL
from rtdeliver.wire import decode_kept, encode

_ADD = read_script("rtdeliver.revocations", "common", "add")
_FIND = read_script("rtdeliver.revocations", "common", "find")
_AFTER = read_script("rtdeliver.revocations", "common", "after")


@implementer(IRevocationStore)
class RedisRevocationStore:
    """Keeps no state in this process. Times are by the clock of Redis.

    :param redis: a connection that its owner starts and stops.
    :param max_revocations: how many are kept.
    :param page: how many a page has.
    """

    def __init__(self, *, redis: RedisConnection, max_revocations: int, page: int = 500) -> None:
        self._redis = redis
        self._max_revocations = max_revocations
        self._page = page

    @as_deferred
    async def add(self, revocations: Sequence[Revocation]) -> None:
        # No script handles very many, since Redis does nothing else meanwhile.
        for start in range(0, len(revocations), self._page):
            part = revocations[start : start + self._page]
            kept_all = await self._redis.run(
                _ADD,
                secrets.token_hex(8),
                self._max_revocations,
                *(
                    argument
                    for r in part
                    for argument in (f"{r.kind}:{r.name}", r.at, r.until, encode(r))
                ),
            )
            if not kept_all:
                raise Unavailable(FULL)

    @as_deferred
    async def after(self, bookmark: Bookmark) -> Revocations:
        store, last, more, *texts = await self._redis.run(
            _AFTER, secrets.token_hex(8), bookmark.store, bookmark.entry, self._page
        )
        return Revocations(
            revocations=decode_kept(texts),
            bookmark=Bookmark(store.decode(), int(last)),
            more=bool(more),
        )

    @as_deferred
    async def find(self, member: Member | None, token_id: str) -> Sequence[Revocation]:
        texts = await self._redis.run(
            _FIND, secrets.token_hex(8), f"member:{member or ''}", f"token:{token_id}"
        )
        return decode_kept(texts)
