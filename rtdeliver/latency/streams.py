"""The records of tracked events in Redis: streams, each joined by one process at a time."""

from binascii import crc32
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from rtdeliver.config.sections import Latency
from rtdeliver.deferreds import all_of, as_deferred
from rtdeliver.errors import Refusal
from rtdeliver.interfaces import IRecords
from rtdeliver.messages import HopRecord
from rtdeliver.redis.scripts import read_script
from rtdeliver.redis.sharding import shard_of
from rtdeliver.wire import decode_record, encode

_APPEND = read_script("rtdeliver.latency", "append")
_CLAIM = read_script("rtdeliver.latency", "claim")
_RELEASE = read_script("rtdeliver.latency", "release")
_READ = read_script("rtdeliver.latency", "read")
_TAKE_OVER = read_script("rtdeliver.latency", "take_over")
_COMMIT = read_script("rtdeliver.latency", "commit")
_ACKNOWLEDGE = read_script("rtdeliver.latency", "acknowledge")
_JOINED = read_script("rtdeliver.latency", "joined")

# Redis does nothing else while a script runs.
_AT_A_TIME = 500

_BEGINNING = "0-0"

# For how long records are kept that nobody reads, and written after the last joiner has read some.
_UNREAD_MILLISECONDS = 600_000


Run = Callable[..., Coroutine[Any, Any, Any]]
"""Runs a script with arguments; see `RedisConnection.run` and `RedisConnection.run_minor`."""


@implementer(IRecords)
class RedisRecords:
    """Appends records to the streams of their partitions, which are spread over several Redis.

    Where no joiner has read any for ten minutes, records are dropped.

    :param shards: run scripts, by the names of their Redis, which all dispatchers give alike.
    """

    def __init__(self, *, shards: Mapping[str, Run], settings: Latency) -> None:
        self._shards = dict(shards)
        self._settings = settings

    @as_deferred
    async def write(self, records: Sequence[HopRecord]) -> None:
        by_shard: dict[str, list[bytes | str | int]] = {}
        for record in records:
            partition = crc32(record.id.encode()) % self._settings.partitions
            arguments = by_shard.setdefault(shard_of(self._shards, str(partition)), [])
            arguments += [partition, encode(record)]
        await all_of(
            Deferred.fromCoroutine(
                self._shards[name](
                    _APPEND, self._settings.partition_records, _UNREAD_MILLISECONDS, *arguments
                )
            )
            for name, arguments in by_shard.items()
        )


class Shares(msgspec.Struct, frozen=True):
    """Which partitions a joiner owns.

    :param give: those that it should give up, since there are other joiners.
    """

    keep: Sequence[int]
    give: Sequence[int]


class Entry(msgspec.Struct, frozen=True):
    """A record in a stream; ``None`` instead of the record if it cannot be read."""

    id: str
    record: HopRecord | None


class RecordStreams:
    """The streams of records in one Redis, as a joiner uses them.

    Every call raises `Unavailable` if Redis cannot be reached.

    :param run: runs scripts in it.
    :param joiner: the joiner's name, which no other has.
    """

    def __init__(self, *, run: Run, joiner: str, settings: Latency) -> None:
        self._run = run
        self._joiner = joiner
        self._partitions = settings.partitions
        self._lease_milliseconds = round(settings.lease_seconds * 1000)

    async def claim(self) -> Shares:
        """Renew the lease of the partitions that this joiner owns, and take free ones."""
        keep, give = await self._run(
            _CLAIM, self._joiner, self._lease_milliseconds, self._partitions
        )
        return Shares(keep, give)

    async def release(self, partitions: Sequence[int], *, goes: bool = False) -> None:
        """Give up partitions.

        :param goes: whether this joiner takes none again.
        """
        await self._run(_RELEASE, self._joiner, int(goes), *partitions)

    async def read(self, partitions: Sequence[int]) -> list[tuple[int, Entry]]:
        """Return new records with their partitions, of each a bounded number.

        It also lets others know that records are wanted here.
        """
        answer = await self._run(_READ, self._joiner, _AT_A_TIME, _UNREAD_MILLISECONDS, *partitions)
        return [(partition, _entry(name, record)) for partition, name, record in answer]

    async def take_over(self, partition: int) -> list[Entry]:
        """Return the records that others have read and not acknowledged."""
        taken: list[Entry] = []
        cursor = _BEGINNING
        while True:
            go_on, *entries = await self._run(
                _TAKE_OVER, self._joiner, partition, cursor, _AT_A_TIME
            )
            taken += [_entry(name, record) for name, record in entries]
            cursor = go_on.decode()
            if cursor == _BEGINNING:
                return taken

    async def commit(self, partition: int, joined: bytes, seconds: float) -> bool:
        """Keep what was joined for so many seconds; return whether this joiner may do so."""
        return bool(
            await self._run(_COMMIT, self._joiner, partition, round(seconds * 1000), joined)
        )

    async def acknowledge(self, partition: int, ids: Sequence[str]) -> None:
        """Remove records that are needed no longer."""
        for start in range(0, len(ids), _AT_A_TIME):
            await self._run(_ACKNOWLEDGE, partition, *ids[start : start + _AT_A_TIME])

    async def joined(self, partitions: Sequence[int]) -> list[bytes]:
        """Return what was kept of each partition; empty if nothing was."""
        if not partitions:
            return []
        answer: list[bytes] = await self._run(_JOINED, *partitions)
        return answer


def _entry(id: bytes, record: bytes) -> Entry:
    try:
        return Entry(id.decode(), decode_record(record))
    except Refusal:
        # Of another version.
        return Entry(id.decode(), None)
