"""Which topics have viewers, in a Redis that any number of dispatchers share."""

from collections.abc import Sequence

from zope.interface import implementer

from rtdeliver.config.sections import Topics
from rtdeliver.deferreds import as_deferred
from rtdeliver.interfaces import IOccupancyStore
from rtdeliver.messages import OccupancyChange, OccupancyCheck
from rtdeliver.model import Topic
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.scripts import read_script

_CHECK = read_script("rtdeliver.occupancy", "common", "check")
_MARK_PUBLISHED = read_script("rtdeliver.occupancy", "common", "mark_published")

# No script handles more topics, since Redis does nothing else meanwhile.
_SLICE = 500


@implementer(IOccupancyStore)
class RedisOccupancyStore:
    """Keeps no state in this process. All times are by the clock of Redis.

    :param redis: the connection of the routing table whose rows are compared.
    """

    def __init__(self, *, redis: RedisConnection, settings: Topics) -> None:
        self._redis = redis
        self._claim_milliseconds = round(1000 * settings.claim_seconds)
        self._recheck_milliseconds = round(1000 * settings.recheck_seconds)

    @as_deferred
    async def check(self, topics: Sequence[Topic], *, may_vacate: bool) -> OccupancyCheck:
        changes: list[OccupancyChange] = []
        next_seconds = None
        for start in range(0, max(1, len(topics)), _SLICE):
            part = await self._run(0, topics[start : start + _SLICE], may_vacate=may_vacate)
            changes.extend(part.changes)
            next_seconds = part.next_seconds
        return OccupancyCheck(changes, next_seconds)

    @as_deferred
    async def sweep(self, limit: int, *, may_vacate: bool) -> OccupancyCheck:
        return await self._run(min(limit, _SLICE), (), may_vacate=may_vacate)

    @as_deferred
    async def mark_published(self, changes: Sequence[OccupancyChange]) -> None:
        for start in range(0, len(changes), _SLICE):
            await self._redis.run(
                _MARK_PUBLISHED,
                self._recheck_milliseconds,
                *(
                    argument
                    for change in changes[start : start + _SLICE]
                    for argument in (change.topic, change.at)
                ),
            )

    async def _run(
        self, limit: int, topics: Sequence[Topic], *, may_vacate: bool
    ) -> OccupancyCheck:
        milliseconds, *found = await self._redis.run(
            _CHECK,
            self._recheck_milliseconds,
            self._claim_milliseconds,
            int(may_vacate),
            limit,
            *topics,
        )
        return OccupancyCheck(
            [
                OccupancyChange(Topic(topic.decode()), bool(occupied), int(at))
                for topic, occupied, at in found
            ],
            max(0.0, int(milliseconds) / 1000) if milliseconds else None,
        )
