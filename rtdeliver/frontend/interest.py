"""Keeps the dispatchers' routing table equal to this frontend's subscriptions."""

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import Routing
from rtdeliver.errors import RemoteFailure
from rtdeliver.interfaces import IDispatcherClient
from rtdeliver.messages import Acknowledgement, Announcement
from rtdeliver.model import FrontendRef, Topic

log = Logger()

# These stand in for the acknowledged count of a topic while an announcement of it is not answered.
# They differ from every count. `_UNCERTAIN`: the routing table may or may not have the topic.
# `_COUNT_UNCERTAIN`: the topic had viewers before and still has some, so the routing table has it
# whether or not the announcement arrived.
_UNCERTAIN = -1
_COUNT_UNCERTAIN = -2


class Interest:
    """Compares the subscriptions with what was last acknowledged, and announces the difference.

    One announcement is in flight at a time. A topic's first viewer, and the end of its last one,
    are announced at once; other changes with the next renewal of the lease. If the answer to an
    announcement is lost, its topics are uncertain, and the next announcement contains them again.
    A dispatcher that does not know this frontend is sent all topics.

    :param wanted: returns the current number of viewers of a topic.
    :param all_wanted: returns the current number of viewers of every topic that has any.
    :param lapsed: called after the dispatchers had forgotten this frontend and know it again. What
        was published in between was not delivered to it.
    """

    def __init__(
        self,
        *,
        wanted: Callable[[Topic], int],
        all_wanted: Callable[[], dict[Topic, int]],
        lapsed: Callable[[], None],
        client: IDispatcherClient,
        clock: IReactorTime,
        settings: Routing,
        backoff: Backoff,
    ) -> None:
        self._wanted = wanted
        self._all_wanted = all_wanted
        self._lapsed = lapsed
        self._client = client
        self._clock = clock
        self._settings = settings
        self._backoff = backoff
        self._frontend: FrontendRef | None = None
        self._acknowledged: dict[Topic, int] = {}
        self._changed: dict[Topic, None] = {}
        self._full = True
        self._forgotten = False
        self._urgent = False
        self._sequence = 0
        self._acknowledged_sequence = 0
        self._round: Deferred[None] = succeed(None)
        self._timer: IDelayedCall | None = None
        self._waiters: dict[Callable[[], None], list[Topic]] = {}

    @property
    def answered(self) -> bool:
        """Whether the last announcement was answered by a dispatcher that knows this frontend."""
        return not self._full and not self._backoff.failures

    def start(self, frontend: FrontendRef) -> None:
        """Announce as ``frontend`` from now on."""
        self._frontend = frontend
        self._announce_in(0)

    async def leave(self) -> None:
        """Announce nothing more, and remove this frontend from the routing table.

        This is tried once. If no dispatcher answers, the end of the lease removes it.
        """
        frontend, self._frontend = self._frontend, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._round
        if frontend is None or self._full:
            return
        try:
            await self._client.announce(
                self._announcement(frontend, {}, full=True, lease_seconds=0)
            )
        except RemoteFailure as failure:
            log.warn(
                "this frontend stays in the routing table until its lease ends: {e}", e=failure
            )

    def changed(self, topic: Topic) -> None:
        """Note that the number of viewers of ``topic`` has changed."""
        wanted, acknowledged = self._wanted(topic), self._acknowledged.get(topic, 0)
        if wanted == acknowledged:
            self._changed.pop(topic, None)
            return
        self._changed[topic] = None
        if acknowledged == _UNCERTAIN or (wanted == 0) != (acknowledged == 0):
            self._announce_soon()

    def unconfirmed(self, topics: Iterable[Topic]) -> list[Topic]:
        """Return those of ``topics`` for which no dispatcher has confirmed its deliveries."""
        if not self.answered:
            return list(topics)
        return [topic for topic in topics if not self._is_confirmed(topic)]

    def confirmed(self, topics: Iterable[Topic]) -> Deferred[list[Topic]]:
        """Wait until a dispatcher confirms that it delivers ``topics`` to this frontend.

        :param topics: topics that have viewers here.
        :return: fires with the topics that are still unconfirmed after ``confirm_seconds``. Mostly
            it fires at once, with none.
        """
        topics = list(topics)
        if not self.unconfirmed(topics):
            return succeed([])
        done: Deferred[list[Topic]] = Deferred()

        def settle() -> None:
            del self._waiters[settle]
            if timeout.active():
                timeout.cancel()
            done.callback(self.unconfirmed(topics))

        self._waiters[settle] = topics
        timeout = self._clock.callLater(self._settings.confirm_seconds, settle)
        return done

    def _is_confirmed(self, topic: Topic) -> bool:
        return self._acknowledged.get(topic, 0) not in (0, _UNCERTAIN)

    def _announce_soon(self) -> None:
        if not self._urgent:
            self._urgent = True
            if self._round.called and not self._backoff.failures:
                self._announce_in(0)

    def _announce_in(self, seconds: float) -> None:
        if self._frontend is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._clock.callLater(seconds, self._start_round, self._frontend)

    def _start_round(self, frontend: FrontendRef) -> None:
        self._timer = None
        self._urgent = False
        self._round = Deferred.fromCoroutine(self._announce(frontend))
        self._round.addErrback(self._failed_unexpectedly)

    async def _announce(self, frontend: FrontendRef) -> None:
        announcement = self._difference(frontend)
        try:
            answer = await self._client.announce(announcement)
        except RemoteFailure as failure:
            self._fail(failure)
        else:
            self._acknowledge(answer, announcement)

    def _failed_unexpectedly(self, failure: Failure) -> None:
        log.failure("an announcement failed with an unexpected error", failure)
        self._fail(RemoteFailure("an unexpected error in this process"))

    def _difference(self, frontend: FrontendRef) -> Announcement:
        if self._full:
            counts = self._all_wanted()
            self._acknowledged = dict.fromkeys([*self._acknowledged, *counts], _UNCERTAIN)
        else:
            counts = {topic: self._wanted(topic) for topic in self._changed}
            for topic, count in counts.items():
                certain = count and self._is_confirmed(topic)
                self._acknowledged[topic] = _COUNT_UNCERTAIN if certain else _UNCERTAIN
        return self._announcement(
            frontend, counts, full=self._full, lease_seconds=self._settings.lease_seconds
        )

    def _announcement(
        self, frontend: FrontendRef, counts: dict[Topic, int], *, full: bool, lease_seconds: float
    ) -> Announcement:
        self._sequence += 1
        return Announcement(
            frontend=frontend,
            counts=counts,
            full=full,
            lease_seconds=lease_seconds,
            sequence=self._sequence,
            after=self._acknowledged_sequence,
        )

    def _acknowledge(self, answer: Acknowledgement, announcement: Announcement) -> None:
        if self._backoff.succeed():
            log.info("a dispatcher answers again")
        self._full = answer.full and not announcement.full
        if self._full:
            log.info("the dispatchers do not know this frontend; it announces all its topics")
            self._forgotten = self._acknowledged_sequence > 0
            self._announce_in(0)
            return
        self._acknowledged_sequence = announcement.sequence
        if announcement.full:
            self._acknowledged.clear()
        for topic, count in announcement.counts.items():
            if count:
                self._acknowledged[topic] = count
            else:
                self._acknowledged.pop(topic, None)
        for topic in {*self._changed, *announcement.counts}:
            self.changed(topic)
        self._announce_in(0 if self._urgent else self._settings.announce_seconds)
        for settle, topics in list(self._waiters.items()):
            if not self.unconfirmed(topics):
                settle()
        if self._forgotten:
            self._forgotten = False
            self._lapsed()

    def _fail(self, failure: RemoteFailure) -> None:
        if not self._backoff.failures:
            log.warn("no dispatcher answers: {e}", e=failure)
        self._announce_in(self._backoff.fail())
