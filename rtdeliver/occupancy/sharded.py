"""Which topics have viewers, over several stores that each have a part of the topics."""

from collections.abc import Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rtdeliver.deferreds import all_of, as_deferred
from rtdeliver.interfaces import IOccupancyStore
from rtdeliver.messages import OccupancyChange, OccupancyCheck
from rtdeliver.model import Topic
from rtdeliver.redis.sharding import shard_of


@implementer(IOccupancyStore)
class ShardedOccupancyStore:
    """Spreads topics over shards as the routing table does.

    :param shards: the stores by name, at least one. Every dispatcher must have the same names.
    """

    def __init__(self, shards: Mapping[str, IOccupancyStore]) -> None:
        self._shards = dict(shards)

    @as_deferred
    async def check(self, topics: Sequence[Topic], *, may_vacate: bool) -> OccupancyCheck:
        shares: dict[str, list[Topic]] = {name: [] for name in self._shards}
        for topic in topics:
            shares[shard_of(self._shards, topic)].append(topic)
        return await _joined(
            self._shards[name].check(share, may_vacate=may_vacate) for name, share in shares.items()
        )

    @as_deferred
    async def sweep(self, limit: int, *, may_vacate: bool) -> OccupancyCheck:
        return await _joined(
            shard.sweep(limit, may_vacate=may_vacate) for shard in self._shards.values()
        )

    @as_deferred
    async def mark_published(self, changes: Sequence[OccupancyChange]) -> None:
        shares: dict[str, list[OccupancyChange]] = {}
        for change in changes:
            shares.setdefault(shard_of(self._shards, change.topic), []).append(change)
        await all_of(self._shards[name].mark_published(share) for name, share in shares.items())


async def _joined(checks: Iterable[Deferred[OccupancyCheck]]) -> OccupancyCheck:
    parts: list[OccupancyCheck] = await all_of(checks)
    return OccupancyCheck(
        [change for part in parts for change in part.changes],
        min((p.next_seconds for p in parts if p.next_seconds is not None), default=None),
    )
