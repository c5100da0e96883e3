"""How a frontend reads histories: what many viewers want once, and not too much at a time."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import History
from rtdeliver.errors import RemoteFailure, Unreachable
from rtdeliver.frontend.timed_cache import TimedCache
from rtdeliver.interfaces import IDispatcherClient
from rtdeliver.messages import HistoryPage, HistoryQuery
from rtdeliver.metrics import Sample, counter, gauge

log = Logger()

# How many events one request is answered with at most, so that no answer holds the process up.
_MOST_EVENTS = 1000
# What a query and its answer count for beside the events.
_QUERY_BYTES = 1000

Page = HistoryPage | None
"""A page; ``None`` for a topic without history."""


class _Reading(msgspec.Struct, eq=False):
    """A query that is not answered yet.

    :param waiters: fire with the answer.
    :param until: when they fail.
    """

    query: HistoryQuery
    waiters: list[Deferred[Page]]
    until: float


class HistoryReader:
    """Asks the dispatchers, again and again until one answers.

    Who asks while the same is read gets the same answer. Answers are kept for a while.
    """

    def __init__(
        self,
        *,
        client: IDispatcherClient,
        settings: History,
        clock: IReactorTime,
        new_backoff: Callable[[], Backoff],
    ) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._backoff = new_backoff()
        self._waiting: OrderedDict[HistoryQuery, _Reading] = OrderedDict()
        self._reading: dict[HistoryQuery, _Reading] = {}
        self._in_flight = 0
        self._timer: IDelayedCall | None = None
        # The pages are in tuples, since ``None`` stands for what is not kept.
        self._kept: TimedCache[HistoryQuery, tuple[Page]] = TimedCache(
            seconds=settings.cache_seconds, most_bytes=settings.cache_bytes // 2, clock=clock
        )
        self._asked = 0
        self._requests = 0
        self._failed = 0

    def read(self, query: HistoryQuery, *, fresh: bool = False) -> Deferred[Page]:
        """Read a part of a history.

        :param query: its ``limit`` is not used.
        :param fresh: whether an answer that was read a moment ago will not do.
        :return: fires with a page. Fails with `RemoteFailure` if no dispatcher has answered after
            ``give_up_seconds``.
        """
        query = msgspec.structs.replace(query, limit=0)
        if not fresh:
            kept = self._kept.get(query)
            if kept is not None:
                return succeed(kept[0])
        answer: Deferred[Page] = Deferred()
        reading = self._waiting.get(query) or self._reading.get(query)
        if reading is None:
            until = self._clock.seconds() + self._settings.give_up_seconds
            reading = self._waiting[query] = _Reading(query, [], until)
            self._asked += 1
            # A moment later, so that one request asks for all that is wanted at this moment.
            if self._timer is None:
                self._timer = self._clock.callLater(0, self._ask_timed)
        reading.waiters.append(answer)
        return answer

    def samples(self) -> list[Sample]:
        return [
            counter("history_reads", "Parts of histories read from dispatchers.", self._asked),
            counter("history_requests", "Requests for them.", self._requests),
            counter("history_reads_failed", "Such parts that could not be read.", self._failed),
            gauge("history_reads_waiting", "Such parts that wait.", len(self._waiting)),
            gauge("history_cache_bytes", "Bytes of what was read.", self._kept.size),
        ]

    def _ask_timed(self) -> None:
        self._timer = None
        self._ask()

    def _ask(self) -> None:
        """Send as many requests as may be in flight."""
        # A timer is set while a request has just failed.
        while self._timer is None and self._waiting and self._in_flight < self._settings.reads:
            batch: list[_Reading] = []
            while self._waiting and len(batch) < self._settings.read_queries:
                query, reading = self._waiting.popitem(last=False)
                self._reading[query] = reading
                batch.append(reading)
            self._in_flight += 1
            self._requests += 1
            Deferred.fromCoroutine(self._request(batch)).addErrback(
                lambda failure: log.failure("a history could not be read", failure)
            )

    async def _request(self, batch: Sequence[_Reading]) -> None:
        limit = max(1, _MOST_EVENTS // len(batch))
        queries = [msgspec.structs.replace(each.query, limit=limit) for each in batch]
        try:
            pages = await self._client.history(queries)
            if len(pages) != len(batch):
                raise Unreachable("a dispatcher answered with too few pages")
        except Exception as error:
            self._in_flight -= 1
            for reading in batch:
                del self._reading[reading.query]
            if not isinstance(error, RemoteFailure):
                self._fail(batch, RemoteFailure("an unexpected error in this process"))
                raise
            self._try_again(batch, error)
        else:
            self._in_flight -= 1
            self._backoff.succeed()
            for reading, page in zip(batch, pages, strict=True):
                del self._reading[reading.query]
                size = 0 if page is None else sum(event.size for event in page.events)
                self._kept.put(reading.query, (page,), size + _QUERY_BYTES)
            for reading, page in zip(batch, pages, strict=True):
                for waiter in reading.waiters:
                    waiter.callback(page)
            self._ask()

    def _try_again(self, batch: Sequence[_Reading], error: RemoteFailure) -> None:
        seconds = self._backoff.fail()
        now = self._clock.seconds()
        over = [reading for reading in batch if reading.until <= now + seconds]
        for reading in reversed(batch):
            if reading not in over:
                self._waiting[reading.query] = reading
                self._waiting.move_to_end(reading.query, last=False)
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._ask_timed)
        self._fail(over, error)

    def _fail(self, batch: Sequence[_Reading], error: RemoteFailure) -> None:
        for reading in batch:
            self._failed += 1
            for waiter in reading.waiters:
                waiter.errback(error)
