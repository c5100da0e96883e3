"""Joins the records of a process, and of the frontends that tell it, without Redis."""

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rtdeliver.config.sections import Latency
from rtdeliver.interfaces import IRecords
from rtdeliver.latency.joiner import Joiner, JoinerCounts
from rtdeliver.latency.results import Results
from rtdeliver.messages import HopRecord
from rtdeliver.metrics import Sample

log = Logger()


@implementer(IRecords)
class LocalJoiner:
    """Joins all records that are written.

    :param datacenter: the name of this one.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self, *, datacenter: str, settings: Latency, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._now = now
        self._joiner: Joiner[None] = Joiner(
            settings=settings,
            datacenters={datacenter},
            events=settings.events,
            now=clock.seconds(),
            counts=JoinerCounts(),
        )
        self._loop = LoopingCall(self._advance)
        self._loop.clock = clock
        self._advance_seconds = settings.read_seconds

    def start(self) -> None:
        """Begin to settle and close events when they are due."""
        self._loop.start(self._advance_seconds).addErrback(
            lambda failure: log.failure("records are joined no longer", failure)
        )

    def stop(self) -> Deferred[None]:
        """Settle and close no more events."""
        if self._loop.running:
            self._loop.stop()
        return succeed(None)

    def write(self, records: Sequence[HopRecord]) -> Deferred[None]:
        for record in records:
            self._joiner.add(record, None)
        return succeed(None)

    def own_results(self, since: float = 0) -> Results:
        """Return what was joined of the events that were accepted since then.

        :param since: in milliseconds since the epoch.
        """
        return self._joiner.results.since(since)

    def results(self) -> Deferred[Results]:
        """Fires with what was joined."""
        return succeed(self._joiner.results)

    def samples(self) -> Sequence[Sample]:
        return self._joiner.counts.samples()

    def _advance(self) -> None:
        self._joiner.advance(self._clock.seconds(), self._now() * 1000)
