"""Which topics have viewers, in the memory of one dispatcher."""

from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rtdeliver.config.sections import Topics
from rtdeliver.deferreds import as_deferred
from rtdeliver.interfaces import IOccupancyStore, IRoutingTable
from rtdeliver.messages import OccupancyChange, OccupancyCheck
from rtdeliver.model import Topic


class _Entry(msgspec.Struct):
    """What was last told of a topic.

    :param changed_at: when it changed, in milliseconds since the epoch.
    :param claimed_until: when another caller may publish the change, by the clock that measures
        durations; 0 once it is published.
    :param due_at: when a sweep must look at the topic, by the same clock.
    :param forget_at: until when it is remembered after it was vacated.
    """

    occupied: bool = False
    changed_at: int = 0
    claimed_until: float = 0.0
    due_at: float = 0.0
    forget_at: float = 0.0


@implementer(IOccupancyStore)
class MemoryOccupancyStore:
    """Serves a single dispatcher.

    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        routing_table: IRoutingTable,
        settings: Topics,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self._routing_table = routing_table
        self._settings = settings
        self._clock = clock
        self._now = now
        self._entries: dict[Topic, _Entry] = {}

    @as_deferred
    async def check(self, topics: Sequence[Topic], *, may_vacate: bool) -> OccupancyCheck:
        now = self._clock.seconds()
        found = [await self._look_at(topic, now, may_vacate=may_vacate) for topic in topics]
        due_at = min((entry.due_at for entry in self._entries.values()), default=None)
        return OccupancyCheck(
            [change for change in found if change is not None],
            None if due_at is None else max(0.0, due_at - now),
        )

    @as_deferred
    async def sweep(self, limit: int, *, may_vacate: bool) -> OccupancyCheck:
        now = self._clock.seconds()
        due = [topic for topic, entry in self._entries.items() if entry.due_at <= now][:limit]
        checked = await self.check(due, may_vacate=may_vacate)
        for topic in due:
            entry = self._entries[topic]
            # One that is vacated stays for a while after that was told, so that the next change is
            # later.
            is_over = not entry.occupied and not entry.claimed_until
            if is_over and now >= entry.forget_at:
                del self._entries[topic]
            elif is_over:
                entry.due_at = entry.forget_at
        return checked

    @as_deferred
    async def mark_published(self, changes: Sequence[OccupancyChange]) -> None:
        for change in changes:
            entry = self._entries.get(change.topic)
            if entry is None or entry.changed_at != change.at:
                continue
            entry.claimed_until = 0.0
            entry.forget_at = self._clock.seconds() + self._settings.recheck_seconds
            # It may have changed again meanwhile.
            entry.due_at = self._clock.seconds()

    async def _look_at(
        self, topic: Topic, now: float, *, may_vacate: bool
    ) -> OccupancyChange | None:
        occupied = bool(await self._routing_table.viewers(topic))
        entry = self._entries.get(topic, _Entry())
        # While somebody publishes a change, the opposite one has to wait: else it might come first.
        is_claimed = now < entry.claimed_until
        if occupied != entry.occupied and (occupied or may_vacate) and not is_claimed:
            entry.occupied = occupied
            entry.changed_at = max(int(self._now() * 1000), entry.changed_at + 1)
        elif not entry.claimed_until or now < entry.claimed_until:
            if entry.occupied:
                entry.due_at = entry.claimed_until or now + self._settings.recheck_seconds
            return None
        entry.claimed_until = entry.due_at = now + self._settings.claim_seconds
        self._entries[topic] = entry
        return OccupancyChange(topic, entry.occupied, entry.changed_at)
