"""Accepts presence heartbeats, and publishes which members come online and go offline."""

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
    """Publishes each change of presence. It keeps nothing that another dispatcher would miss.

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
        self._timer: IDelayedCall | None = None
        self._running = False
        self._offline_suspended_until = 0.0
        self._heartbeats = 0
        self._published = {True: 0, False: 0}
        self._failed = 0

    def start(self) -> None:
        """Begin to sweep for members that have gone offline."""
        self._running = True
        self._suspend_offline()
        self._schedule(self._settings.sweep_seconds)

    def stop(self) -> None:
        """Stop the sweeps. Other dispatchers go on with theirs."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def heartbeat(self, heartbeat: PresenceHeartbeat) -> None:
        """Note that members are online, and publish which of them have just come online.

        :raises Unavailable: if the store cannot be reached.
        """
        try:
            changes = await self._store.heartbeat(heartbeat)
        except Unavailable:
            self._suspend_offline()
            raise
        self._heartbeats += len(heartbeat.members)
        await self._publish_changes(changes)

    def presence(self, members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        """Fires with whether each of ``members`` is online; fails with `Unavailable`."""
        return self._store.presence(members)

    def samples(self) -> list[Sample]:
        return [
            counter(
                "presence_heartbeats",
                "Presence heartbeats that were accepted, one for each member.",
                self._heartbeats,
            ),
            *(
                counter(
                    "presence_changes",
                    "Changes of presence that were published.",
                    count,
                    status="online" if online else "offline",
                )
                for online, count in self._published.items()
            ),
            counter(
                "presence_changes_failed",
                "Changes of presence that could not be published and are tried again.",
                self._failed,
            ),
        ]

    def _schedule(self, seconds: float) -> None:
        if self._running:
            self._timer = self._clock.callLater(seconds, self._start_sweep)

    def _start_sweep(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._sweep()).addErrback(self._sweep_failed).addCallback(
            self._schedule
        )

    def _sweep_failed(self, failure: Failure) -> float:
        log.failure("the sweep for offline members failed", failure)
        return self._settings.sweep_seconds

    async def _sweep(self) -> float:
        """Publish which members went offline, and return the seconds until the next sweep."""
        suspended = self._clock.seconds() < self._offline_suspended_until
        try:
            # While no member may go offline, the sweep only checks that the store can be reached.
            swept = await self._store.sweep(0 if suspended else self._settings.batch_members)
        except Unavailable:
            self._suspend_offline()
            return self._settings.sweep_seconds
        await self._publish_changes(swept.changes)
        if suspended or swept.next_seconds is None:
            return self._settings.sweep_seconds
        return min(swept.next_seconds, self._settings.sweep_seconds)

    async def _publish_changes(self, changes: Sequence[PresenceChange]) -> None:
        """Publish changes. If that fails, a sweep does it after their claims have run out."""
        if not changes:
            return
        try:
            await self._publish([_draft(change) for change in changes])
            for change in changes:
                self._published[change.online] += 1
            await self._store.mark_published(changes)
        except Unavailable as error:
            self._failed += len(changes)
            log.warn(
                "publishing {n} changes of presence failed, and is tried again: {e}",
                n=len(changes),
                e=error,
            )

    def _suspend_offline(self) -> None:
        """Let no member go offline until all have had time to send a lost heartbeat again."""
        settings = self._settings
        suspend_seconds = settings.heartbeat_seconds + settings.grace_seconds
        self._offline_suspended_until = self._clock.seconds() + suspend_seconds


def _draft(change: PresenceChange) -> Draft:
    return Draft(
        topic=presence_topic(change.member),
        type=_TYPE,
        data=encode({"member": change.member, "status": change.status}),
        id=change.id,
    )
