"""Who is there, in a Redis that any number of dispatchers share."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rtdeliver.interfaces import IPresenceStore
from rtdeliver.messages import Presence, PresenceChange, PresenceHeartbeat, PresenceSweep
from rtdeliver.model import Member
from rtdeliver.presence import lua
from rtdeliver.presence.memory import PresenceTimes
from rtdeliver.redis.connection import RedisConnection


@implementer(IPresenceStore)
class RedisPresenceStore:
    """Keeps nothing here, and goes by the clock of Redis.

    :param redis: a connection that somebody else begins and ends.
    """

    def __init__(self, *, redis: RedisConnection, times: PresenceTimes) -> None:
        self._redis = redis
        self._grace = round(2000 * times.grace_seconds)
        self._claim = round(1000 * times.claim_seconds)

    def heartbeat(self, heartbeat: PresenceHeartbeat) -> Deferred[Sequence[PresenceChange]]:
        return Deferred.fromCoroutine(self._heartbeat(heartbeat))

    def sweep(self, limit: int) -> Deferred[PresenceSweep]:
        return Deferred.fromCoroutine(self._sweep(limit))

    def mark_published(self, changes: Sequence[PresenceChange]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._told(changes))

    def presence(self, members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        return Deferred.fromCoroutine(self._presence(members))

    async def _heartbeat(self, heartbeat: PresenceHeartbeat) -> Sequence[PresenceChange]:
        ends = round(1000 * heartbeat.heartbeat_seconds) + self._grace
        return _changes(await self._redis.run(lua.HEARTBEAT, ends, self._claim, *heartbeat.members))

    async def _sweep(self, limit: int) -> PresenceSweep:
        changes, milliseconds = await self._redis.run(lua.SWEEP, limit, self._claim)
        next_seconds = max(0.0, int(milliseconds) / 1000) if milliseconds else None
        return PresenceSweep(changes=_changes(changes), next_seconds=next_seconds)

    async def _told(self, changes: Sequence[PresenceChange]) -> None:
        await self._redis.run(
            lua.MARK_PUBLISHED, *(part for change in changes for part in (change.member, change.at))
        )

    async def _presence(self, members: Sequence[Member]) -> Sequence[Presence]:
        return [
            Presence(member=member, online=True, heartbeat_at=int(heartbeat_at))
            if heartbeat_at
            else Presence(member=member, online=False)
            for member, heartbeat_at in zip(
                members, await self._redis.run(lua.PRESENCE, *members), strict=True
            )
        ]


def _changes(rows: Sequence[Sequence[Any]]) -> list[PresenceChange]:
    changes = []
    for name, online, changed_at, before_at in rows:
        member = Member(name.decode())
        if int(before_at):
            changes.append(PresenceChange(member=member, online=not online, at=int(before_at)))
        changes.append(PresenceChange(member=member, online=bool(online), at=int(changed_at)))
    return changes
