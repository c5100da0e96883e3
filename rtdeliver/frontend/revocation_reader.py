"""Reads what the dispatchers keep of revocations, so that none is missed."""

import random
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import Routing
from rtdeliver.errors import RemoteFailure, Unavailable
from rtdeliver.interfaces import IDispatcherClient
from rtdeliver.messages import Bookmark
from rtdeliver.model import Revocation
from rtdeliver.revoked import Revoked

log = Logger()

# How many are given back at a time.
_BATCH = 500


class RevocationReader:
    """Reads all revocations at the start, and new ones every ``announce_seconds``.

    Mostly they have been delivered before. Those that were not, since this process stood still or
    could not be reached, come this way. When the dispatchers have lost theirs, it gives them back.

    :param revoked: what is known here.
    :param came: called with those that were read.
    :param now: the wall clock, in seconds since the epoch.
    :param draw: draws the time to the next reading between two numbers.
    """

    def __init__(
        self,
        *,
        client: IDispatcherClient,
        revoked: Revoked,
        came: Callable[[Sequence[Revocation]], None],
        settings: Routing,
        clock: IReactorTime,
        now: Callable[[], float],
        backoff: Backoff,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._client = client
        self._revoked = revoked
        self._came = came
        self._settings = settings
        self._clock = clock
        self._now = now
        self._backoff = backoff
        self._draw = draw
        self._bookmark = Bookmark()
        self._known = False
        self._running = False
        self._timer: IDelayedCall | None = None
        self._waiters: dict[Deferred[None], IDelayedCall] = {}

    def start(self) -> None:
        """Begin to read."""
        self._running = True
        self._read_in(0)

    def stop(self) -> None:
        """Read no more."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def known(self) -> Deferred[None] | None:
        """Return ``None`` once all revocations were read; before that, a Deferred to wait for it.

        It fails with `Unavailable` after ``confirm_seconds``.
        """
        if self._known:
            return None
        done: Deferred[None] = Deferred()
        self._waiters[done] = self._clock.callLater(
            self._settings.confirm_seconds, self._give_up, done
        )
        return done

    def _give_up(self, done: Deferred[None]) -> None:
        del self._waiters[done]
        done.errback(Unavailable("no dispatcher has told yet which tokens are revoked"))

    def _read_in(self, seconds: float) -> None:
        if self._running:
            self._timer = self._clock.callLater(seconds, self._start_reading)

    def _start_reading(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._read()).addErrback(self._failed).addCallback(self._read_in)

    def _failed(self, failure: Failure) -> float:
        if not failure.check(RemoteFailure):
            log.failure("the revocations could not be read", failure)
        elif not self._backoff.failures:
            log.warn("the dispatchers do not tell the revocations: {e}", e=failure.value)
        return self._backoff.fail()

    async def _read(self) -> float:
        """Read a page; return the seconds until the next one."""
        page = await self._client.revocations(self._bookmark)
        if self._has_lost(page.bookmark):
            await self._restore()
        self._bookmark = page.bookmark
        self._came(page.revocations)
        if self._backoff.succeed():
            log.info("the dispatchers tell the revocations again")
        if page.more:
            return 0
        self._revoked.drop_ended(self._now())
        self._note_known()
        most = self._settings.announce_seconds
        return self._draw(most / 2, most)

    def _has_lost(self, bookmark: Bookmark) -> bool:
        """Whether the store has lost what was read before, or a part of it."""
        before = self._bookmark
        is_another = bookmark.store != before.store
        return bool(before.store) and (is_another or bookmark.entry < before.entry)

    async def _restore(self) -> None:
        held = list(self._revoked)
        log.warn("the dispatchers have lost the revocations; {n} are given back", n=len(held))
        for start in range(0, len(held), _BATCH):
            await self._client.restore(held[start : start + _BATCH])

    def _note_known(self) -> None:
        self._known = True
        waiters, self._waiters = self._waiters, {}
        for done, timeout in waiters.items():
            timeout.cancel()
            done.callback(None)
