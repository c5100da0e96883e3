"""Tells the dispatchers which members are there, again and again."""

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

# A member who is due within this part of the interval goes with those who are due now.
_SOON = 0.25


class PresenceHeartbeats:
    """Tells of a member's first stream at once, and anew as long as the member has any.

    That somebody is gone is told by nothing. One request is in flight at a time; who is due soon
    goes with those who are due now, so that there are few.

    :param members: who has streams.
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
        # Who has to be told of at once, and of all others when, the next one first.
        self._urgent: dict[Member, None] = {}
        self._due: dict[Member, float] = {}
        self._runs = False
        self._sending = False
        self._retry_seconds = 0.0
        self._timer: IDelayedCall | None = None
        self._sent = 0
        self._failed = 0

    def start(self) -> None:
        """Tell from now on."""
        self._runs = True
        self._schedule()

    def stop(self) -> None:
        """Tell no more."""
        self._runs = False
        self._cancel()

    def came(self, member: Member) -> None:
        """``member`` has its first stream."""
        self._urgent[member] = None
        self._schedule()

    def left(self, member: Member) -> None:
        """``member`` has no stream any more."""
        self._urgent.pop(member, None)
        self._due.pop(member, None)

    def samples(self) -> list[Sample]:
        return [
            counter(
                "heartbeats_sent", "Heartbeats of members that a dispatcher has noted.", self._sent
            ),
            counter(
                "heartbeats_failed", "Requests with heartbeats that nobody took.", self._failed
            ),
        ]

    def _schedule(self) -> None:
        if not self._runs or self._sending or (self._backoff.failures and self._timer is not None):
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
            self._noted, self._lost, callbackArgs=(members,), errbackArgs=(members,)
        ).addErrback(lambda failure: log.failure("heartbeats came to a halt", failure))

    def _batch(self) -> list[Member]:
        """Take who is to be told of now."""
        soon = self._clock.seconds() + self._settings.heartbeat_seconds * _SOON
        due = (member for member, due_at in self._due.items() if due_at <= soon)
        members = list(islice(chain(self._urgent, due), self._settings.batch_members))
        for member in members:
            self._urgent.pop(member, None)
            self._due.pop(member, None)
        return members

    def _noted(self, _: None, members: Sequence[Member]) -> None:
        self._sending = False
        self._backoff.succeed()
        self._sent += len(members)
        due_at = self._clock.seconds() + self._settings.heartbeat_seconds
        for member in members:
            # Who left and came again meanwhile is urgent.
            if member in self._members and member not in self._urgent:
                self._due[member] = due_at
        self._schedule()

    def _lost(self, failure: Failure, members: Sequence[Member]) -> None:
        self._sending = False
        self._retry_seconds = self._backoff.fail()
        self._failed += 1
        if failure.check(RemoteFailure) is None:
            log.failure("a heartbeat failed", failure)
        elif self._backoff.failures == 1:
            log.warn("no dispatcher hears who is there: {e}", e=failure.value)
        self._urgent.update(dict.fromkeys(member for member in members if member in self._members))
        self._schedule()
