"""A routing table that is spread over several tables; each has a part of the topics."""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from rtdeliver.deferreds import all_of, as_deferred
from rtdeliver.interfaces import IRoutingTable
from rtdeliver.messages import Announcement, Applied, NodeStatus, Route, TopicViewers
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.redis.sharding import shard_of
from rtdeliver.routing.most_viewed import MostViewed


@implementer(IRoutingTable)
class ShardedRoutingTable:
    """Spreads topics over shards by rendezvous hashing.

    Every frontend is announced to every shard, and has a lease in each.

    :param shards: the tables by name, at least one. Every dispatcher must have the same names.
    """

    def __init__(self, shards: Mapping[str, IRoutingTable]) -> None:
        self._shards = dict(shards)

    def start(self) -> None:
        for shard in self._shards.values():
            shard.start()

    @as_deferred
    async def stop(self) -> None:
        await all_of(shard.stop() for shard in self._shards.values())

    def missing(self) -> list[str]:
        return [what for shard in self._shards.values() for what in shard.missing()]

    @as_deferred
    async def apply(self, announcement: Announcement) -> Applied:
        counts, held = self._share(announcement.counts), self._share(announcement.held)
        applied: list[Applied] = await all_of(
            shard.apply(msgspec.structs.replace(announcement, counts=counts[name], held=held[name]))
            for name, shard in self._shards.items()
        )
        return Applied(
            known=all(of_shard.known for of_shard in applied),
            replaced=any(of_shard.replaced for of_shard in applied),
            restored=tuple(topic for of_shard in applied for topic in of_shard.restored),
        )

    def route(self, topic: Topic) -> Deferred[Route]:
        return self._shards[self._shard_of(topic)].route(topic)

    def has_lease(self, frontend: FrontendRef) -> bool:
        return any(shard.has_lease(frontend) for shard in self._shards.values())

    def viewers(self, topic: Topic) -> Deferred[Mapping[str, int]]:
        return self._shards[self._shard_of(topic)].viewers(topic)

    @as_deferred
    async def topics(
        self, prefix: str, after: TopicViewers | None, limit: int
    ) -> Sequence[TopicViewers]:
        best = MostViewed(after, limit)
        for part in await all_of(s.topics(prefix, after, limit) for s in self._shards.values()):
            for topic in part:
                best.add(topic)
        return best.found()

    @as_deferred
    async def nodes(self) -> Sequence[NodeStatus]:
        return _merge(await all_of(shard.nodes() for shard in self._shards.values()))

    @as_deferred
    async def forget(self, frontend: FrontendRef) -> None:
        await all_of(shard.forget(frontend) for shard in self._shards.values())

    def overdue_changes(self) -> int:
        return sum(shard.overdue_changes() for shard in self._shards.values())

    def _share(self, counts: Mapping[Topic, int]) -> dict[str, dict[Topic, int]]:
        """Return the part of ``counts`` that each shard has."""
        shares: dict[str, dict[Topic, int]] = {name: {} for name in self._shards}
        for topic, count in counts.items():
            shares[self._shard_of(topic)][topic] = count
        return shares

    def _shard_of(self, topic: Topic) -> str:
        return shard_of(self._shards, topic)


def _merge(parts: Sequence[Sequence[NodeStatus]]) -> list[NodeStatus]:
    """Combine what the shards know of each frontend.

    A frontend whose lease has ended in any shard is left out.
    """
    seen = Counter(status.frontend for part in parts for status in part)
    merged: dict[FrontendRef, NodeStatus] = {}
    for status in (status for part in parts for status in part):
        before = merged.get(status.frontend)
        merged[status.frontend] = status if before is None else _sum(before, status)
    whole = [status for status in merged.values() if seen[status.frontend] == len(parts)]
    return sorted(whole, key=lambda status: status.frontend.node)


def _sum(one: NodeStatus, other: NodeStatus) -> NodeStatus:
    return NodeStatus(
        frontend=one.frontend,
        topics=one.topics + other.topics,
        viewers=one.viewers + other.viewers,
        lease_seconds_left=min(one.lease_seconds_left, other.lease_seconds_left),
    )
