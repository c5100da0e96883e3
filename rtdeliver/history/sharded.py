"""The histories of topics, over several stores that each have a part of the topics."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rtdeliver.deferreds import all_of, as_deferred
from rtdeliver.interfaces import IHistory
from rtdeliver.messages import Entry, HistoryPage, HistoryQuery, Stored
from rtdeliver.model import Place, Topic
from rtdeliver.redis.sharding import shard_of

T = TypeVar("T")


@implementer(IHistory)
class ShardedHistory:
    """Spreads topics over shards as the routing table does.

    :param shards: the stores by name, at least one. Every dispatcher must have the same names.
    """

    def __init__(self, shards: Mapping[str, IHistory]) -> None:
        self._shards = dict(shards)

    def keeps(self, topic: Topic) -> bool:
        return self._shards[shard_of(self._shards, topic)].keeps(topic)

    @as_deferred
    async def append(self, entries: Sequence[Entry]) -> Sequence[Stored]:
        shares = self._shares(entries, lambda entry: entry.event.topic)
        answers = await all_of(
            self._shards[name].append([entry for _, entry in share])
            for name, share in shares.items()
        )
        return _in_order(shares.values(), answers)

    @as_deferred
    async def read(self, queries: Sequence[HistoryQuery]) -> Sequence[HistoryPage | None]:
        shares = self._shares(queries, lambda query: query.topic)
        answers = await all_of(
            self._shards[name].read([query for _, query in share]) for name, share in shares.items()
        )
        return _in_order(shares.values(), answers)

    @as_deferred
    async def heads(self, topics: Sequence[Topic]) -> Mapping[Topic, Place]:
        shares = self._shares(topics, lambda topic: topic)
        answers = await all_of(
            self._shards[name].heads([topic for _, topic in share])
            for name, share in shares.items()
        )
        return {topic: place for heads in answers for topic, place in heads.items()}

    @as_deferred
    async def overdue(self, limit: int) -> Sequence[Stored]:
        answers = await all_of(shard.overdue(limit) for shard in self._shards.values())
        return [stored for answer in answers for stored in answer]

    @as_deferred
    async def mark_delivered(self, stored: Sequence[Stored]) -> None:
        shares = self._shares(stored, lambda each: each.event.topic)
        await all_of(
            self._shards[name].mark_delivered([each for _, each in share])
            for name, share in shares.items()
        )

    def clear(self, topic: Topic) -> Deferred[int]:
        return self._shards[shard_of(self._shards, topic)].clear(topic)

    def _shares(
        self, values: Sequence[T], topic_of: Callable[[T], Topic]
    ) -> dict[str, list[tuple[int, T]]]:
        """Return what each shard has of ``values``, with their indices."""
        shares: dict[str, list[tuple[int, T]]] = {}
        for index, value in enumerate(values):
            name = shard_of(self._shards, topic_of(value))
            shares.setdefault(name, []).append((index, value))
        return shares


def _in_order(
    shares: Iterable[Sequence[tuple[int, object]]], answers: Iterable[Sequence[T]]
) -> list[T]:
    """Return the answers for the shares in the order of the values."""
    found = [
        (index, value)
        for share, answer in zip(shares, answers, strict=True)
        for (index, _), value in zip(share, answer, strict=True)
    ]
    return [value for _, value in sorted(found, key=lambda each: each[0])]
