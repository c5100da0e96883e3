"""Which members are online, in a Redis that any number of dispatchers share."""

from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from rtdeliver.config.sections import Presence as PresenceSettings
from rtdeliver.deferreds import as_deferred
from rtdeliver.interfaces import IPresenceStore
from rtdeliver.messages import Presence, PresenceChange, PresenceHeartbeat, PresenceSweep
from rtdeliver.model import Member
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.scripts import read_script

_HEARTBEAT = read_script("rtdeliver.presence", "common", "heartbeat")
_SWEEP = read_script("rtdeliver.presence", "common", "sweep")
_MARK_PUBLISHED = read_script("rtdeliver.presence", "common", "mark_published")
_PRESENCE = read_script("rtdeliver.presence", "presence")


@implementer(IPresenceStore)
class RedisPresenceStore:
    """Keeps no state in this process. All times are by the clock of Redis.

    :param redis: a connection that its owner starts and stops.
    """

    def __init__(self, *, redis: RedisConnection, settings: PresenceSettings) -> None:
        self._redis = redis
        self._twice_grace_milliseconds = round(2000 * settings.grace_seconds)
        self._claim_milliseconds = round(1000 * settings.claim_seconds)

    @as_deferred
    async def heartbeat(self, heartbeat: PresenceHeartbeat) -> Sequence[PresenceChange]:
        milliseconds = round(1000 * heartbeat.heartbeat_seconds) + self._twice_grace_milliseconds
        changes = await self._redis.run(
            _HEARTBEAT, milliseconds, self._claim_milliseconds, *heartbeat.members
        )
        return _changes(changes)

    @as_deferred
    async def sweep(self, limit: int) -> PresenceSweep:
        changes, milliseconds = await self._redis.run(_SWEEP, limit, self._claim_milliseconds)
        next_seconds = max(0.0, int(milliseconds) / 1000) if milliseconds else None
        return PresenceSweep(changes=_changes(changes), next_seconds=next_seconds)

    @as_deferred
    async def mark_published(self, changes: Sequence[PresenceChange]) -> None:
        await self._redis.run(
            _MARK_PUBLISHED, *(part for change in changes for part in (change.member, change.at))
        )

    @as_deferred
    async def presence(self, members: Sequence[Member]) -> Sequence[Presence]:
        return [
            Presence(member=member, online=True, heartbeat_at=int(heartbeat_at))
            if heartbeat_at
            else Presence(member=member, online=False)
            for member, heartbeat_at in zip(
                members, await self._redis.run(_PRESENCE, *members), strict=True
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
