"""Reports to the dispatchers, again and again, which members have streams here."""

from collections.abc import Container, Sequence
from itertools import chain, islice

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import Presence
from rtdeliver.errors import RemoteFailure
from rtdeliver.interfaces import IPresenceClient
from rtdeliver.messages import PresenceHeartbeat
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import Member

log = Logger()

# A request also reports members that are due within this part of the interval.
_EARLY = 0.25


class PresenceHeartbeats:
    """Reports a member at once when its first stream opens, and again as long as it has streams.

    It does not report that a member is gone; the reports end. One request is in flight at a time.
    A request reports members that are due now together with those that are due soon, so that there
    are fewer requests.

    :param members: the members that have streams.
    """

    def __init__(
        self,
        *,
        members: Container[Member],
        client: IPresenceClient,
        clock: IReactorTime,
        settings: Presence,
        backoff: Backoff,
    ) -> None:
        self._members = members
        self._client = client
        self._clock = clock
        self._settings = settings
        self._backoff = backoff
        # The members to report at once; and when the others are due, the next one first.
        self._urgent: dict[Member, None] = {}
        self._due: dict[Member, float] = {}
        self._running = False
        self._sending = False
        self._retry_seconds = 0.0
        self._timer: IDelayedCall | None = None
        self._sent = 0
        self._failed = 0

    def start(self) -> None:
        """Report from now on."""
        self._running = True
        self._schedule()

    def stop(self) -> None:
        """Report nothing more."""
        self._running = False
        self._cancel()

    def came(self, member: Member) -> None:
        """Report ``member``, whose first stream has opened."""
        self._urgent[member] = None
        self._schedule()

    def left(self, member: Member) -> None:
        """Stop reporting ``member``, whose last stream has ended."""
        self._urgent.pop(member, None)
        self._due.pop(member, None)

    def samples(self) -> list[Sample]:
        return [
            counter(
                "heartbeats_sent",
                "Presence heartbeats that a dispatcher accepted, one for each member.",
                self._sent,
            ),
            counter(
                "heartbeats_failed",
                "Requests with presence heartbeats that no dispatcher accepted.",
                self._failed,
            ),
        ]

    def _schedule(self) -> None:
        if (
            not self._running
            or self._sending
            or (self._backoff.failures and self._timer is not None)
        ):
            return
        self._cancel()
        seconds = self._wait_seconds()
        if seconds is not None:
            self._timer = self._clock.callLater(seconds, self._send)

    def _wait_seconds(self) -> float | None:
        if not self._urgent and not self._due:
            return None
        if self._backoff.failures:
            return self._retry_seconds
        if self._urgent:
            return 0.0
        return max(0.0, next(iter(self._due.values())) - self._clock.seconds())

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self) -> None:
        self._timer = None
        members = self._batch()
        if not members:
            self._schedule()
            return
        self._sending = True
        heartbeat = PresenceHeartbeat(
            members=members, heartbeat_seconds=self._settings.heartbeat_seconds
        )
        self._client.heartbeat(heartbeat).addCallbacks(
            self._accepted, self._request_failed, callbackArgs=(members,), errbackArgs=(members,)
        ).addErrback(
            lambda failure: log.failure(
                "the presence heartbeats have stopped after an unexpected error", failure
            )
        )

    def _batch(self) -> list[Member]:
        """Take the members to report now."""
        until = self._clock.seconds() + self._settings.heartbeat_seconds * _EARLY
        due = (member for member, due_at in self._due.items() if due_at <= until)
        members = list(islice(chain(self._urgent, due), self._settings.batch_members))
        for member in members:
            self._urgent.pop(member, None)
            self._due.pop(member, None)
        return members

    def _accepted(self, _: None, members: Sequence[Member]) -> None:
        self._sending = False
        self._backoff.succeed()
        self._sent += len(members)
        due_at = self._clock.seconds() + self._settings.heartbeat_seconds
        for member in members:
            # A member that left and came back meanwhile is urgent.
            if member in self._members and member not in self._urgent:
                self._due[member] = due_at
        self._schedule()

    def _request_failed(self, failure: Failure, members: Sequence[Member]) -> None:
        self._sending = False
        self._retry_seconds = self._backoff.fail()
        self._failed += 1
        if failure.check(RemoteFailure) is None:
            log.failure("a presence heartbeat failed with an unexpected error", failure)
        elif self._backoff.failures == 1:
            log.warn("no dispatcher accepts presence heartbeats: {e}", e=failure.value)
        self._urgent.update(dict.fromkeys(member for member in members if member in self._members))
        self._schedule()
