"""Keeps the dispatchers' routing table equal to this frontend's subscriptions."""

from collections.abc import Callable, Iterable, Mapping

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import Routing
from rtdeliver.errors import RemoteFailure
from rtdeliver.frontend.difference import Difference
from rtdeliver.interfaces import IDispatcherClient
from rtdeliver.messages import Acknowledgement, Announcement
from rtdeliver.model import FrontendRef, Topic

log = Logger()


class Interest:
    """Announces how the subscriptions differ from what was last acknowledged.

    One announcement is in flight at a time, and has a bound; what does not fit follows at once. A
    topic's first viewer, and the end of its last one, are announced at once; other changes with the
    next renewal of the lease. If the answer to an announcement is lost, its topics are uncertain,
    and a later announcement contains them again. A dispatcher that does not know this frontend is
    sent all topics. Renewals also repeat some acknowledged topics, all of them by and by, so that
    rows that the routing table has lost come back.

    A frontend whose place another process has taken announces nothing but that it is still there,
    until the other one's lease has ended.

    :param wanted: returns the current number of viewers of a topic.
    :param all_wanted: returns the current number of viewers of every topic that has any.
    :param acknowledged: called with the topics that dispatchers deliver here from now on, and the
        positions of the last events of those that have a history; ``None`` if none is kept.
    :param lapsed: called with the topics that the dispatchers had forgotten and know again. What
        was published in between was not delivered here.
    """

    def __init__(
        self,
        *,
        wanted: Callable[[Topic], int],
        all_wanted: Callable[[], Mapping[Topic, int]],
        acknowledged: Callable[[Iterable[Topic], Mapping[Topic, str] | None], None],
        lapsed: Callable[[Iterable[Topic]], None],
        client: IDispatcherClient,
        clock: IReactorTime,
        settings: Routing,
        backoff: Backoff,
    ) -> None:
        self._difference = Difference(wanted=wanted, all_wanted=all_wanted, settings=settings)
        self._all_wanted = all_wanted
        self._acknowledged = acknowledged
        self._lapsed = lapsed
        self._client = client
        self._clock = clock
        self._settings = settings
        self._backoff = backoff
        self._frontend: FrontendRef | None = None
        self._forgotten = False
        self._replaced = False
        self._renewal_at = 0.0
        self._acknowledged_at: float | None = None
        self._round: Deferred[None] = succeed(None)
        self._timer: IDelayedCall | None = None
        self._waiters: dict[Callable[[], None], list[Topic]] = {}

    @property
    def answered(self) -> bool:
        """Whether the last announcement was answered by a dispatcher that knows this frontend."""
        return not (self._difference.everything or self._replaced or self._backoff.failures)

    @property
    def lease_seconds_left(self) -> float:
        """For how long the dispatchers deliver here without a further announcement."""
        if self._acknowledged_at is None:
            return 0.0
        ends_at = self._acknowledged_at + self._settings.lease_seconds
        return max(0.0, ends_at - self._clock.seconds())

    def missing(self) -> list[str]:
        """Why the dispatchers do not deliver here; empty if they do."""
        if self._replaced:
            return ["another process announces itself as this node; give each a name of its own"]
        return [] if self.answered else ["no dispatcher answers"]

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
        if frontend is None or not self._difference.acknowledged_sequence:
            return
        try:
            await self._client.announce(
                self._difference.announcement(frontend, {}, full=True, lease_seconds=0)
            )
        except RemoteFailure as failure:
            log.warn(
                "this frontend stays in the routing table until its lease ends: {e}", e=failure
            )

    def changed(self, topic: Topic) -> None:
        """Note that the number of viewers of ``topic`` has changed."""
        was_urgent = self._difference.is_urgent
        self._difference.changed(topic)
        if (
            self._difference.is_urgent
            and not was_urgent
            and self._round.called
            and not self._backoff.failures
            and not self._replaced
        ):
            self._announce_in(0)

    def unconfirmed(self, topics: Iterable[Topic]) -> list[Topic]:
        """Return those of ``topics`` for which no dispatcher has confirmed its deliveries."""
        if not self.answered:
            return list(topics)
        return [topic for topic in topics if not self._difference.is_confirmed(topic)]

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

    def _announce_in(self, seconds: float) -> None:
        if self._frontend is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._clock.callLater(seconds, self._start_round, self._frontend)

    def _start_round(self, frontend: FrontendRef) -> None:
        self._timer = None
        self._round = Deferred.fromCoroutine(self._announce(frontend))
        self._round.addErrback(self._failed_unexpectedly)

    async def _announce(self, frontend: FrontendRef) -> None:
        announcement = self._next(frontend)
        try:
            answer = await self._client.announce(announcement)
        except Exception as error:
            self._difference.fail(announcement)
            if not isinstance(error, RemoteFailure):
                raise
            self._fail(error)
        else:
            self._take_answer(answer, announcement)

    def _next(self, frontend: FrontendRef) -> Announcement:
        if self._replaced:
            return self._difference.announcement(frontend, {})
        # Topics are repeated with the renewals, not with what is announced between them.
        is_renewal = self._clock.seconds() >= self._renewal_at
        if is_renewal:
            self._renewal_at = self._clock.seconds() + self._settings.announce_seconds
        return self._difference.next(frontend, repeats=is_renewal)

    def _failed_unexpectedly(self, failure: Failure) -> None:
        log.failure("an announcement failed with an unexpected error", failure)
        self._fail(RemoteFailure("an unexpected error in this process"))

    def _take_answer(self, answer: Acknowledgement, announcement: Announcement) -> None:
        if self._backoff.succeed():
            log.info("a dispatcher answers again")
        self._note_replaced(answer.replaced)
        if answer.replaced:
            self._difference.fail(announcement)
            self._announce_in(self._settings.announce_seconds)
            return
        if answer.full and not (announcement.full and not announcement.more):
            log.info("the dispatchers do not know this frontend; it announces all its topics")
            self._forgotten = self._forgotten or self._difference.acknowledged_sequence > 0
            self._difference.fail(announcement)
            self._difference.begin_anew()
            self._announce_in(0)
            return
        self._difference.acknowledge(announcement)
        self._acknowledged_at = self._clock.seconds()
        self._acknowledged(announcement.watched, answer.heads)
        self._announce_in(0 if self._difference.is_urgent else self._settings.announce_seconds)
        if self._difference.everything:
            return
        for settle, topics in list(self._waiters.items()):
            if not self.unconfirmed(topics):
                settle()
        if self._forgotten:
            self._forgotten = False
            self._lapsed(self._all_wanted())
        elif answer.restored:
            log.warn(
                "the routing table had lost {count} topics of this frontend, and has them again",
                count=len(answer.restored),
            )
            self._lapsed(answer.restored)

    def _note_replaced(self, replaced: bool) -> None:
        if replaced and not self._replaced:
            log.warn(
                "another process announces itself as this node, so this one gets no events; give"
                " each frontend a name of its own"
            )
        elif self._replaced and not replaced:
            log.info("this process is the only one of its node again")
        self._replaced = replaced

    def _fail(self, failure: RemoteFailure) -> None:
        if not self._backoff.failures:
            log.warn("no dispatcher answers: {e}", e=failure)
        self._announce_in(self._backoff.fail())
