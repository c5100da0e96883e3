"""Joins the records in Redis, of one datacenter or of several, together with other processes."""

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

import msgspec
from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rtdeliver.config.sections import Latency
from rtdeliver.deferreds import as_deferred
from rtdeliver.errors import BadRequest, Unavailable
from rtdeliver.latency.joiner import Joiner, JoinerCounts
from rtdeliver.latency.results import KEPT_SECONDS, Results
from rtdeliver.latency.streams import Entry, RecordStreams
from rtdeliver.metrics import Sample, gauge

log = Logger()

# What was joined is kept in Redis about that often.
_COMMIT_SECONDS = 1.0
# A lease is renewed that often while it runs.
_RENEWALS = 3


class Source(msgspec.Struct, frozen=True):
    """Where records come from.

    :param name: names this Redis among all; the same in each process.
    :param datacenter: whose records these are; empty if the records say so themselves.
    """

    name: str
    datacenter: str
    streams: RecordStreams


class _Joined(msgspec.Struct, array_like=True):
    """What is kept in Redis of a partition.

    :param results: of all events.
    :param closed: of those whose records are needed no longer.
    :param acknowledging: the records that are needed no longer, by source. If the joiner ends
        before they are removed, the next one removes them instead of joining them again.
    """

    results: bytes
    closed: bytes
    acknowledging: dict[str, list[str]]


_decoder = msgspec.msgpack.Decoder(_Joined)


class _Partition:
    """A partition that this process joins.

    :ivar ready: the sources of which everything was taken over.
    :ivar acknowledging: the records that are needed no longer, by source.
    """

    def __init__(self, joiner: Joiner[tuple[str, str]]) -> None:
        self.joiner = joiner
        self.ready: set[str] = set()
        self.acknowledging: defaultdict[str, list[str]] = defaultdict(list)


class RecordsConsumer:
    """Joins a share of the partitions of records.

    Each partition is joined by one process, which owns it as long as it renews its lease. A process
    that takes a partition goes on where the one before it was: with what that one has joined of
    events that it had closed, and with the records of all others, which Redis still has. So each
    event counts once, whenever a process ends.

    :param sources: at least one. The first keeps who owns which partition, and what was joined.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        sources: Sequence[Source],
        settings: Latency,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self._sources = {source.name: source for source in sources}
        self._first = sources[0].streams
        self._settings = settings
        self._clock = clock
        self._now = now
        self._datacenters = {source.datacenter for source in sources if source.datacenter}
        self._partitions: dict[int, _Partition] = {}
        self._counts = JoinerCounts()
        self._claimed_at = self._committed_at = -math.inf
        self._loop = LoopingCall(self._step)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to join."""
        self._loop.start(self._settings.read_seconds).addErrback(
            lambda failure: log.failure("records are joined no longer", failure)
        )

    @as_deferred
    async def stop(self) -> None:
        """Keep what was joined, and leave the partitions to others."""
        if self._loop.running:
            self._loop.stop()
        await _unless_away(self._commit(self._partitions))
        await _unless_away(self._first.release(list(self._partitions), goes=True))
        self._partitions.clear()

    def own_results(self, since: float = 0) -> Results:
        """Return what this process has joined of the events that were accepted since then.

        :param since: in milliseconds since the epoch.
        """
        results = Results()
        for partition in self._partitions.values():
            results.merge(partition.joiner.results.since(since))
        return results

    @as_deferred
    async def results(self) -> Results:
        """Fires with what all processes together have joined.

        Fails with `Unavailable` if Redis cannot be reached.
        """
        others = [n for n in range(self._settings.partitions) if n not in self._partitions]
        kept = [_decode(data) for data in await self._first.joined(others)]
        results = self.own_results()
        for joined in kept:
            if joined is not None:
                results.merge(_results(joined.results))
        return results

    def samples(self) -> list[Sample]:
        joiners = [partition.joiner for partition in self._partitions.values()]
        return [
            gauge("joined_partitions", "Partitions that this process joins.", len(joiners)),
            gauge("joining_events", "Events that are being joined.", sum(map(len, joiners))),
            *self._counts.samples(),
        ]

    async def _step(self) -> None:
        now = self._clock.seconds()
        if now >= self._claimed_at + self._settings.lease_seconds / _RENEWALS:
            self._claimed_at = now
            await _unless_away(self._claim())
        for source in self._sources.values():
            await _unless_away(self._read(source))
        for partition in self._partitions.values():
            released = partition.joiner.advance(self._clock.seconds(), self._now() * 1000)
            for name, entry in released:
                partition.acknowledging[name].append(entry)
        if now >= self._committed_at + _COMMIT_SECONDS:
            self._committed_at = now
            await _unless_away(self._commit(self._partitions))

    async def _claim(self) -> None:
        shares = await self._first.claim()
        owned = {*shares.keep, *shares.give}
        for lost in self._partitions.keys() - owned:
            # Another process has it, and everything that this one has joined since its last commit.
            del self._partitions[lost]
        if shares.give:
            await self._commit(shares.give)
            for number in shares.give:
                self._partitions.pop(number, None)
            await self._first.release(shares.give)
        for number in shares.keep:
            if number not in self._partitions:
                self._partitions[number] = await self._take(number)

    async def _take(self, number: int) -> _Partition:
        """Return a partition, with what others have joined of it."""
        joiner: Joiner[tuple[str, str]] = Joiner(
            settings=self._settings,
            datacenters=self._datacenters,
            events=max(1, self._settings.events // self._settings.partitions),
            now=self._clock.seconds(),
            counts=self._counts,
        )
        partition = _Partition(joiner)
        [data] = await self._first.joined([number])
        joined = _decode(data)
        if joined is not None:
            joiner.restore(_results(joined.closed))
            for name, ids in joined.acknowledging.items():
                partition.acknowledging[name] += ids
        return partition

    async def _read(self, source: Source) -> None:
        for number, partition in list(self._partitions.items()):
            if source.name not in partition.ready:
                await self._take_over(source, number, partition)
        ready = [n for n, partition in self._partitions.items() if source.name in partition.ready]
        for number, entry in await source.streams.read(ready):
            if number in self._partitions:
                self._add(source, self._partitions[number], entry)

    async def _take_over(self, source: Source, number: int, partition: _Partition) -> None:
        done = partition.acknowledging[source.name]
        await source.streams.acknowledge(number, done)
        del partition.acknowledging[source.name]
        for entry in await source.streams.take_over(number):
            self._add(source, partition, entry)
        partition.ready.add(source.name)

    def _add(self, source: Source, partition: _Partition, entry: Entry) -> None:
        record = entry.record
        if record is None:
            self._counts.unreadable += 1
            partition.acknowledging[source.name].append(entry.id)
            return
        if source.datacenter:
            record = replace(record, datacenter=source.datacenter)
        partition.joiner.add(record, (source.name, entry.id))

    async def _commit(self, numbers: Iterable[int]) -> None:
        """Keep what was joined of some partitions, then remove the records that it covers."""
        for number in list(numbers):
            partition = self._partitions.get(number)
            if partition is None:
                continue
            acknowledging = {name: list(ids) for name, ids in partition.acknowledging.items()}
            joined = _Joined(
                results=partition.joiner.results.encode(),
                closed=partition.joiner.closed.encode(),
                acknowledging=acknowledging,
            )
            seconds = KEPT_SECONDS + self._settings.window_seconds
            if not await self._first.commit(number, msgspec.msgpack.encode(joined), seconds):
                self._partitions.pop(number, None)
                continue
            for name, ids in acknowledging.items():
                source = self._sources.get(name)
                if source is not None and ids:
                    await source.streams.acknowledge(number, ids)
                    del partition.acknowledging[name][: len(ids)]


async def _unless_away(work: Awaitable[None]) -> None:
    """Do ``work``; if Redis does not, leave it for the next time. Its connection tells the log."""
    with suppress(Unavailable):
        await work


def _decode(data: bytes) -> _Joined | None:
    """Return what was kept of a partition; ``None`` if nothing was, or by another version."""
    try:
        return _decoder.decode(data) if data else None
    except msgspec.MsgspecError:
        return None


def _results(data: bytes) -> Results:
    try:
        return Results.decode(data)
    except BadRequest:
        return Results()
