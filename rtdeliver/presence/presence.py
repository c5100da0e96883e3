"""Takes heartbeats, and publishes who comes and who is gone."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rtdeliver.config.sections import Presence as PresenceSettings
from rtdeliver.errors import Unavailable
from rtdeliver.interfaces import IPresenceStore
from rtdeliver.messages import Presence, PresenceChange, PresenceHeartbeat
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import Member, presence_topic
from rtdeliver.wire import Draft, encode

log = Logger()

_TYPE = "presence"


class PresenceTracker:
    """Publishes each change of presence; it keeps nothing that another dispatcher would miss.

    :param publish: accepts events, or fails with `Unavailable`.
    """

    def __init__(
        self,
        *,
        store: IPresenceStore,
        publish: Callable[[Sequence[Draft]], Coroutine[Any, Any, object]],
        settings: PresenceSettings,
        clock: IReactorTime,
    ) -> None:
        self._store = store
        self._publish = publish
        self._settings = settings
        self._clock = clock
        self._next: IDelayedCall | None = None
        self._runs = False
        self._held_until = 0.0
        self._heartbeats = 0
        self._told = {True: 0, False: 0}
        self._failed = 0

    def start(self) -> None:
        """Begin to look for members who are gone."""
        self._runs = True
        self._hold()
        self._schedule(self._settings.sweep_seconds)

    def stop(self) -> None:
        """Leave that to others."""
        self._runs = False
        if self._next is not None:
            self._next.cancel()
            self._next = None

    async def heartbeat(self, heartbeat: PresenceHeartbeat) -> None:
        """Note that members are there, and publish who has just come.

        :raises Unavailable: if the store cannot be reached.
        """
        try:
            changes = await self._store.heartbeat(heartbeat)
        except Unavailable:
            self._hold()
            raise
        self._heartbeats += len(heartbeat.members)
        await self._tell(changes)

    def presence(self, members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        """Fires with whether each of ``members`` is there; fails with `Unavailable`."""
        return self._store.presence(members)

    def samples(self) -> list[Sample]:
        return [
            counter(
                "presence_heartbeats",
                "Heartbeats of members that were noted.",
                self._heartbeats,
            ),
            *(
                counter(
                    "presence_changes",
                    "Members who came or went, and of whom that was published.",
                    count,
                    status="online" if online else "offline",
                )
                for online, count in self._told.items()
            ),
            counter(
                "presence_changes_failed",
                "Changes of presence that could not be published, and are tried again.",
                self._failed,
            ),
        ]

    def _schedule(self, seconds: float) -> None:
        if self._runs:
            self._next = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._next = None
        Deferred.fromCoroutine(self._sweep()).addErrback(self._fail).addCallback(self._schedule)

    def _fail(self, failure: Failure) -> float:
        log.failure("members were not looked after", failure)
        return self._settings.sweep_seconds

    async def _sweep(self) -> float:
        """Publish who is gone, and return in how many seconds to look again."""
        held = self._clock.seconds() < self._held_until
        try:
            # While nobody is declared gone, this finds out whether the store can be reached.
            swept = await self._store.sweep(0 if held else self._settings.batch_members)
        except Unavailable:
            self._hold()
            return self._settings.sweep_seconds
        await self._tell(swept.changes)
        if held or swept.next_seconds is None:
            return self._settings.sweep_seconds
        return min(swept.next_seconds, self._settings.sweep_seconds)

    async def _tell(self, changes: Sequence[PresenceChange]) -> None:
        """Publish changes; those that cannot be are published after their claim by somebody."""
        if not changes:
            return
        try:
            await self._publish([_draft(change) for change in changes])
            for change in changes:
                self._told[change.online] += 1
            await self._store.mark_published(changes)
        except Unavailable as error:
            self._failed += len(changes)
            log.warn("{n} changes of presence wait: {e}", n=len(changes), e=error)

    def _hold(self) -> None:
        """Declare nobody gone before heartbeats that got lost could come again."""
        settings = self._settings
        hold_seconds = settings.heartbeat_seconds + settings.grace_seconds
        self._held_until = self._clock.seconds() + hold_seconds


def _draft(change: PresenceChange) -> Draft:
    return Draft(
        topic=presence_topic(change.member),
        type=_TYPE,
        data=encode({"member": change.member, "status": change.status}),
        id=change.id,
    )
