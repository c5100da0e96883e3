"""Publishes which topics get their first viewer, and which lose their last one."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rtdeliver.config.sections import Topics
from rtdeliver.errors import BadTopic, Unavailable
from rtdeliver.grants import patterns
from rtdeliver.interfaces import IOccupancyStore
from rtdeliver.messages import OccupancyChange, OccupancyCheck
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import Topic, check_topic
from rtdeliver.wire import Draft, encode

log = Logger()

_PREFIX = "occupancy:"
# How many topics one sweep looks at.
_SWEPT = 500
# By how much a sweep may be late before the process counts as one that stood still.
_LATE_SECONDS = 5.0


class OccupancyTracker:
    """Watches the topics of some patterns. It keeps nothing that another dispatcher would miss.

    :param publish: publishes events in this datacenter, or fails with `Unavailable`.
    :param lease_seconds: within this time after an outage, all frontends have renewed their leases.
    """

    def __init__(
        self,
        *,
        store: IOccupancyStore,
        publish: Callable[[Sequence[Draft]], Coroutine[Any, Any, object]],
        settings: Topics,
        lease_seconds: float,
        clock: IReactorTime,
    ) -> None:
        self._store = store
        self._publish = publish
        self._settings = settings
        self._patterns = patterns(settings.occupancy)
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._running = False
        self._vacating_from = 0.0
        self._swept_at = 0.0
        self._changed: dict[Topic, None] = {}
        self._checking = False
        self._published = {True: 0, False: 0}
        self._too_long = 0

    def start(self) -> None:
        """Begin to watch, if there are patterns."""
        if self._settings.occupancy:
            self._running = True
            self._wait_for_leases()
            self._swept_at = self._clock.seconds()
            self._sweep_in(self._settings.sweep_seconds)

    def stop(self) -> None:
        """Watch no more. Other dispatchers go on."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def note(self, topics: Iterable[Topic]) -> None:
        """Note that the numbers of viewers of these topics have changed."""
        if not self._running:
            return
        for topic in topics:
            if self._patterns.cover(topic) and not topic.startswith(_PREFIX):
                self._changed[topic] = None
        if self._changed and not self._checking:
            self._checking = True
            Deferred.fromCoroutine(self._check_changed()).addErrback(self._failed)

    def samples(self) -> list[Sample]:
        return [
            *(
                counter(
                    "occupancy_changes",
                    "Topics that got their first viewer or lost their last one, and were told of.",
                    count,
                    status="occupied" if occupied else "vacated",
                )
                for occupied, count in self._published.items()
            ),
            counter(
                "occupancy_too_long",
                "Such topics that could not be told of, since their names are too long.",
                self._too_long,
            ),
        ]

    async def _check_changed(self) -> None:
        try:
            while self._changed:
                topics, self._changed = self._changed, {}
                try:
                    may_vacate = self._may_vacate()
                    check = await self._store.check(list(topics), may_vacate=may_vacate)
                except Unavailable:
                    # The next sweep that succeeds looks at them again.
                    self._changed = topics | self._changed
                    raise
                await self._tell(check)
        except Unavailable:
            self._wait_for_leases()
        finally:
            self._checking = False

    def _sweep_in(self, seconds: float) -> None:
        if self._running:
            self._timer = self._clock.callLater(seconds, self._start_sweep)

    def _start_sweep(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._sweep()).addErrback(self._failed).addCallback(
            lambda seconds: self._sweep_in(
                self._settings.sweep_seconds if seconds is None else seconds
            )
        )

    def _failed(self, failure: Failure) -> None:
        log.failure("the occupancy of topics could not be told", failure)

    async def _sweep(self) -> float:
        """Tell what is due, and return the seconds until the next sweep."""
        longest = self._settings.sweep_seconds
        try:
            may_vacate = self._may_vacate()
            self._swept_at = self._clock.seconds()
            swept = await self._store.sweep(_SWEPT, may_vacate=may_vacate)
            await self._tell(swept)
        except Unavailable:
            self._wait_for_leases()
            return longest
        self.note(())
        return longest if swept.next_seconds is None else min(swept.next_seconds, longest)

    async def _tell(self, check: OccupancyCheck) -> None:
        """Publish changes. If that fails, a sweep does it after their claims have run out."""
        if not check.changes:
            return
        drafts = [draft for change in check.changes if (draft := self._draft(change)) is not None]
        if drafts:
            await self._publish(drafts)
        for change in check.changes:
            self._published[change.occupied] += 1
        await self._store.mark_published(check.changes)

    def _draft(self, change: OccupancyChange) -> Draft | None:
        try:
            topic = check_topic(_PREFIX + change.topic)
        except BadTopic:
            self._too_long += 1
            return None
        data = encode({"topic": change.topic})
        return Draft(topic=topic, type=change.status, data=data, id=change.id)

    def _may_vacate(self) -> bool:
        # A process that stood still has taken no announcements, as if there had been an outage.
        if (
            self._clock.seconds() - self._swept_at
            > 3 * self._settings.sweep_seconds + _LATE_SECONDS
        ):
            self._wait_for_leases()
        return self._clock.seconds() >= self._vacating_from

    def _wait_for_leases(self) -> None:
        """Let no topic be vacated until all frontends have had time to renew their leases."""
        self._vacating_from = self._clock.seconds() + self._lease_seconds
