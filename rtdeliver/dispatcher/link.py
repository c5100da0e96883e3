"""How events reach one destination in batches: a frontend or a peer datacenter."""

import enum
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rtdeliver.actor import Mailbox, RunQueue
from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import LinkSettings
from rtdeliver.errors import AnsweredNo, AnswerLost, Unreachable
from rtdeliver.interfaces import IActor
from rtdeliver.model import Control, Event, Gap, Item, Topic

log = Logger()


class _State(enum.Enum):
    IDLE = "the next turn may send a batch"
    IN_FLIGHT = "a batch was sent and is not answered yet"
    PAUSED = "the last batch failed, and the link waits before it sends again"
    CLOSED = "nothing more is sent"


# Looking up a member of an enum is slow, and every post needs this one.
_CLOSED = _State.CLOSED


class LinkCounts:
    """Counts over one or several links.

    ``dropped`` counts lost events by reason: ``full``, ``answer_lost``, ``refused``, ``failed``,
    and the reasons for which links were closed.
    """

    def __init__(self) -> None:
        self.delivered = 0
        self.deliveries = 0
        self.repeats = 0
        self.controls_dropped = 0
        self.dropped: Counter[str] = Counter()


@implementer(IActor)
class Link:
    """Sends events to one destination, in order, with one batch in flight.

    Events that are posted while a batch is in flight form the next batch. A batch that did not
    arrive is sent again after a pause. A batch whose answer was lost is sent again once, since
    frontends drop events that they have seen. The next batch reports lost events as gaps, so that
    viewers learn of them.

    :param name: the name of the destination, for the log.
    :param send: sends a batch to the destination. Its Deferred fails with `Unreachable` (nothing
        arrived), `AnswerLost` (the batch may have arrived) or `AnsweredNo`. Any other failure ends
        the link.
    :param broken: called with the link when an unexpected error ends it; must close the link.
    :param left: called with the gaps that a closed link cannot report any more.
    """

    def __init__(
        self,
        *,
        name: str,
        send: Callable[[Sequence[Item]], Deferred[None]],
        settings: LinkSettings,
        clock: IReactorTime,
        run_queue: RunQueue,
        backoff: Backoff,
        counts: LinkCounts,
        broken: Callable[["Link"], None],
        left: Callable[[Sequence[Gap]], None],
    ) -> None:
        self.queued = False
        self._name = name
        self._send = send
        self._settings = settings
        self._clock = clock
        self._run_queue = run_queue
        self._backoff = backoff
        self._counts = counts
        self._broken = broken
        self._left = left
        self._mailbox: Mailbox[Event | Control] = Mailbox(settings)
        # By topic, and whether the topic has a history.
        self._gaps: Counter[tuple[Topic, bool]] = Counter()
        self._batch: list[Item] = []
        self._state = _State.IDLE
        self._close_reason = ""
        self._repeat_until: float | None = None
        self._pause_timer: IDelayedCall | None = None
        self._failing_since = 0.0
        self.posted = 0
        """How many events and controls were ever posted."""

    @property
    def mailbox_bytes(self) -> int:
        """How many bytes wait, including those of the batch in flight."""
        return self._mailbox.size + self._mailbox.held_bytes

    @property
    def mailbox_events(self) -> int:
        """How many events wait, including those of the batch in flight."""
        return len(self._mailbox) + _events_in(self._batch)

    def has_settled(self, posted: int) -> bool:
        """Return whether nothing more is to be expected of what was posted until then.

        :param posted: the number that were `posted` then.
        """
        if self._state is _CLOSED or self._backoff.failures:
            return True
        in_flight = sum(not isinstance(item, Gap) for item in self._batch)
        return self.posted - len(self._mailbox) - in_flight >= posted

    def status(self) -> Mapping[str, Any]:
        """Return its state, and how much waits."""
        return {
            "state": self._state.name.lower(),
            "waiting_events": self.mailbox_events,
            "waiting_bytes": self.mailbox_bytes,
            "failures": self._backoff.failures,
        }

    def post(self, *items: Item) -> None:
        """Send events and controls soon, after those that wait already.

        A full mailbox drops its oldest ones.

        A gap goes ahead of the waiting events, since it stands for earlier ones.
        """
        put = self._mailbox.put
        self.posted += len(items)
        for item in items:
            if isinstance(item, Gap):
                self.posted -= 1
                self._note_gap(item)
            elif self._state is _CLOSED:
                self._drop([item], self._close_reason)
            else:
                dropped = put(item)
                if dropped:
                    self._drop(dropped, "full")
        if self._state is _State.IDLE:
            self._run_queue.add(self)
        elif self._state is _CLOSED:
            self._leave_gaps()

    def close(self, reason: str) -> None:
        """Send nothing more. Drop the waiting events, and count them under ``reason``."""
        in_flight = self._state is _State.IN_FLIGHT
        self._state = _State.CLOSED
        self._close_reason = reason
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None
        self._drop(self._mailbox.clear(), reason)
        if not in_flight:
            self._drop_batch(reason)
        self._leave_gaps()

    def turn(self) -> None:
        if self._state is not _State.IDLE:
            return
        if self._repeat_until is not None and self._clock.seconds() > self._repeat_until:
            self._drop_batch("answer_lost")
        if not self._batch:
            self._batch = self._next_batch()
        if self._batch:
            self._state = _State.IN_FLIGHT
            self._counts.deliveries += 1
            self._send(self._batch).addCallbacks(self._delivered, self._not_delivered).addErrback(
                self._end_unexpectedly
            )

    def failed(self) -> None:
        # If a batch is in flight, the link no longer waits for its answer.
        self._state = _State.IDLE
        self._broken(self)

    def _next_batch(self) -> list[Item]:
        gaps = self._take_gaps()
        events = self._mailbox.take(
            at_most_bytes=self._settings.batch_bytes, at_most_events=self._settings.batch_events
        )
        self._mailbox.held_bytes = sum(item.size for item in events)
        return [*gaps, *events]

    def _delivered(self, _: None) -> None:
        self._counts.delivered += _events_in(self._batch)
        self._end_batch()
        failures = self._backoff.failures
        if self._backoff.succeed():
            log.info(
                "{name} accepts events again, after {failures} failed attempts in {seconds:.1f} s",
                name=self._name,
                failures=failures,
                seconds=self._clock.seconds() - self._failing_since,
            )
        self._resume()

    def _not_delivered(self, failure: Failure) -> None:
        error = failure.value
        if self._state is _State.CLOSED:
            self._drop_batch(self._close_reason)
            self._leave_gaps()
        elif isinstance(error, Unreachable):
            self._pause_after(error)
        elif isinstance(error, AnswerLost) and self._repeat_until is None:
            self._repeat_until = self._clock.seconds() + self._settings.repeat_seconds
            self._counts.repeats += 1
            self._resume()
        elif isinstance(error, AnswerLost | AnsweredNo):
            self._drop_batch("refused" if isinstance(error, AnsweredNo) else "answer_lost")
            self._pause_after(error)
        else:
            failure.raiseException()

    def _end_unexpectedly(self, failure: Failure) -> None:
        log.failure(
            "the link to {name} failed with an unexpected error and ends", failure, name=self._name
        )
        self.failed()

    def _pause_after(self, error: Exception) -> None:
        if not self._backoff.failures:
            self._failing_since = self._clock.seconds()
            log.warn("{name} does not accept events: {e}", name=self._name, e=error)
        self._state = _State.PAUSED
        self._pause_timer = self._clock.callLater(self._backoff.fail(), self._end_pause)

    def _end_pause(self) -> None:
        self._pause_timer = None
        self._resume()

    def _resume(self) -> None:
        if self._state is not _State.CLOSED:
            self._state = _State.IDLE
            if self._batch or self._gaps or len(self._mailbox):
                self._run_queue.add(self)

    def _end_batch(self) -> list[Item]:
        batch, self._batch = self._batch, []
        self._mailbox.held_bytes = 0
        self._repeat_until = None
        return batch

    def _drop_batch(self, reason: str) -> None:
        self._drop(self._end_batch(), reason)

    def _drop(self, lost: Sequence[Item], reason: str) -> None:
        self._counts.dropped[reason] += _events_in(lost)
        for item in lost:
            if isinstance(item, Event):
                self._note_gap(Gap(topic=item.topic, lost=1, stored=bool(item.position)))
            elif isinstance(item, Gap):
                self._note_gap(item)
            else:
                self._counts.controls_dropped += 1

    def _leave_gaps(self) -> None:
        gaps = self._take_gaps()
        if gaps:
            self._left(gaps)

    def _take_gaps(self) -> list[Gap]:
        gaps = [
            Gap(topic=topic, lost=lost, stored=stored)
            for (topic, stored), lost in self._gaps.items()
        ]
        self._gaps.clear()
        return gaps

    def _note_gap(self, gap: Gap) -> None:
        # The number of topics is bounded. The losses of further topics are only counted.
        key = gap.topic, gap.stored
        if key in self._gaps or len(self._gaps) < self._settings.batch_events:
            self._gaps[key] += gap.lost


def _events_in(batch: Sequence[Item]) -> int:
    return sum(isinstance(item, Event) for item in batch)
