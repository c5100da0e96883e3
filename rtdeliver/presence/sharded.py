"""Which members are online, over several stores that each have a part of the members."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from rtdeliver.deferreds import all_of, as_deferred
from rtdeliver.interfaces import IPresenceStore
from rtdeliver.messages import Presence, PresenceChange, PresenceHeartbeat, PresenceSweep
from rtdeliver.model import Member
from rtdeliver.redis.sharding import shard_of


@implementer(IPresenceStore)
class ShardedPresenceStore:
    """Spreads members over shards as the routing table spreads topics.

    :param shards: the stores by name, at least one. Every dispatcher must have the same names.
    """

    def __init__(self, shards: Mapping[str, IPresenceStore]) -> None:
        self._shards = dict(shards)

    @as_deferred
    async def heartbeat(self, heartbeat: PresenceHeartbeat) -> Sequence[PresenceChange]:
        return await _join(
            self._shards[name].heartbeat(msgspec.structs.replace(heartbeat, members=members))
            for name, members in self._spread(heartbeat.members).items()
        )

    @as_deferred
    async def sweep(self, limit: int) -> PresenceSweep:
        sweeps = await all_of(shard.sweep(limit) for shard in self._shards.values())
        return PresenceSweep(
            changes=[change for sweep in sweeps for change in sweep.changes],
            next_seconds=min(
                (sweep.next_seconds for sweep in sweeps if sweep.next_seconds is not None),
                default=None,
            ),
        )

    @as_deferred
    async def mark_published(self, changes: Sequence[PresenceChange]) -> None:
        by_shard: dict[str, list[PresenceChange]] = {}
        for change in changes:
            by_shard.setdefault(shard_of(self._shards, change.member), []).append(change)
        await all_of(self._shards[name].mark_published(part) for name, part in by_shard.items())

    @as_deferred
    async def presence(self, members: Sequence[Member]) -> Sequence[Presence]:
        answers = await _join(
            self._shards[name].presence(part) for name, part in self._spread(members).items()
        )
        found = {presence.member: presence for presence in answers}
        return [found[member] for member in members]

    def _spread(self, members: Iterable[Member]) -> dict[str, list[Member]]:
        by_shard: dict[str, list[Member]] = {}
        for member in members:
            by_shard.setdefault(shard_of(self._shards, member), []).append(member)
        return by_shard


async def _join(answers: Iterable[Deferred[Sequence[Any]]]) -> list[Any]:
    return [item for answer in await all_of(answers) for item in answer]
