"""Which members are online, in the memory of one dispatcher."""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rtdeliver.config.sections import Presence as PresenceSettings
from rtdeliver.interfaces import IPresenceStore
from rtdeliver.messages import Presence, PresenceChange, PresenceHeartbeat, PresenceSweep
from rtdeliver.model import Member


class _Entry(msgspec.Struct):
    """The state of a member.

    All times are in milliseconds: the first three since the epoch, and the others by the clock that
    measures durations.

    :param heartbeat_at: when its last heartbeat came.
    :param changed_at: when it last came online or went offline.
    :param before_at: when the change before that happened; 0 if there was none, or if that change
        is marked as published.
    :param ends_at: when it goes offline, unless another heartbeat comes before.
    :param claimed_until: when another caller may publish the change; 0 once it is published.
    :param queued_at: the time under which the sweep's queue has it.
    """

    online: bool
    heartbeat_at: int
    changed_at: int
    before_at: int
    ends_at: int
    claimed_until: int
    queued_at: float = math.inf

    @property
    def due_at(self) -> int:
        if not self.online:
            return self.claimed_until
        return min(self.ends_at, self.claimed_until or self.ends_at)


@implementer(IPresenceStore)
class MemoryPresenceStore:
    """Serves a single dispatcher.

    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self, *, settings: PresenceSettings, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        self._twice_grace_milliseconds = round(2000 * settings.grace_seconds)
        self._claim_milliseconds = round(1000 * settings.claim_seconds)
        self._clock = clock
        self._now = now
        self._entries: dict[Member, _Entry] = {}
        # Times and members. Each entry is queued here for the time when it is due, or earlier.
        self._queue: list[tuple[float, Member]] = []

    def heartbeat(self, heartbeat: PresenceHeartbeat) -> Deferred[Sequence[PresenceChange]]:
        at, now = _milliseconds(self._now()), _milliseconds(self._clock.seconds())
        ends_at = now + round(1000 * heartbeat.heartbeat_seconds) + self._twice_grace_milliseconds
        changes: list[PresenceChange] = []
        for member in heartbeat.members:
            entry = self._entries.get(member)
            if entry is None:
                entry = _Entry(True, at, at, 0, ends_at, now + self._claim_milliseconds)
                self._entries[member] = entry
                changes.extend(_changes(member, entry))
            elif not entry.online:
                self._flip(entry, at, now)
                changes.extend(_changes(member, entry))
            entry.heartbeat_at, entry.ends_at = at, ends_at
            self._put(member, entry)
        return succeed(changes)

    def sweep(self, limit: int) -> Deferred[PresenceSweep]:
        at, now = _milliseconds(self._now()), _milliseconds(self._clock.seconds())
        changes: list[PresenceChange] = []
        while limit and self._queue and self._queue[0][0] <= now:
            queued_at, member = heapq.heappop(self._queue)
            entry = self._entries.get(member)
            if entry is None or entry.queued_at != queued_at:
                continue
            entry.queued_at = math.inf
            if entry.due_at <= now:
                limit -= 1
                if entry.online and entry.ends_at <= now:
                    self._flip(entry, at, now)
                else:
                    entry.claimed_until = now + self._claim_milliseconds
                changes.extend(_changes(member, entry))
            self._put(member, entry)
        next_seconds = max(0.0, self._queue[0][0] - now) / 1000 if self._queue else None
        return succeed(PresenceSweep(changes=changes, next_seconds=next_seconds))

    def mark_published(self, changes: Sequence[PresenceChange]) -> Deferred[None]:
        for change in changes:
            entry = self._entries.get(change.member)
            if entry is None:
                continue
            if change.at == entry.before_at:
                entry.before_at = 0
            elif change.at == entry.changed_at and entry.online:
                entry.before_at = entry.claimed_until = 0
            elif change.at == entry.changed_at:
                del self._entries[change.member]
        return succeed(None)

    def presence(self, members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        entries = [(member, self._entries.get(member)) for member in members]
        return succeed(
            [
                Presence(member=member, online=True, heartbeat_at=entry.heartbeat_at)
                if entry is not None and entry.online
                else Presence(member=member, online=False)
                for member, entry in entries
            ]
        )

    def _flip(self, entry: _Entry, at: int, now: int) -> None:
        entry.online = not entry.online
        entry.before_at = entry.changed_at if entry.claimed_until else 0
        entry.changed_at = max(at, entry.changed_at + 1)
        entry.claimed_until = now + self._claim_milliseconds

    def _put(self, member: Member, entry: _Entry) -> None:
        if entry.due_at < entry.queued_at:
            entry.queued_at = entry.due_at
            heapq.heappush(self._queue, (entry.queued_at, member))


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _changes(member: Member, entry: _Entry) -> Iterator[PresenceChange]:
    if entry.before_at:
        yield PresenceChange(member=member, online=not entry.online, at=entry.before_at)
    yield PresenceChange(member=member, online=entry.online, at=entry.changed_at)
