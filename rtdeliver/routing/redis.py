"""The routing table in Redis, which any number of dispatchers share."""

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rtdeliver.config.sections import Redis
from rtdeliver.deferreds import as_deferred
from rtdeliver.errors import Unavailable
from rtdeliver.interfaces import IRoutingTable
from rtdeliver.messages import Announcement, NodeStatus
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.scripts import read_script
from rtdeliver.redis.url import RedisAddress
from rtdeliver.wire import encode

log = Logger()

_APPLY = read_script("rtdeliver.routing", "common", "apply")
_FORGET = read_script("rtdeliver.routing", "common", "forget")
_ROW = read_script("rtdeliver.routing", "row")
_NODES = read_script("rtdeliver.routing", "nodes")


class _RowEntry(msgspec.Struct, frozen=True):
    """A node in a row that was read from Redis.

    :param frontend: ``None`` if the node is dead.
    :param known: whether its incarnation has been announced in full.
    """

    node: str
    viewers: int
    frontend: FrontendRef | None
    known: bool
    lease_ends_at: float


class _Row(msgspec.Struct):
    """A row in the cache.

    :param fresh: whether Redis has published no change of the row since it was read. A suspect row
        is never fresh.
    :param suspect: whether Redis may lack some of these frontends, since it may have lost data
        after the row was read.
    """

    frontends: tuple[FrontendRef, ...]
    fresh: bool
    suspect: bool


@implementer(IRoutingTable)
class RedisRoutingTable:
    """Caches rows, and reads a row again when Redis publishes that it has changed.

    While Redis cannot be reached, cached rows are still served. After Redis has come back, perhaps
    empty, a cached row keeps its frontends until they have announced everything again, for at most
    ``grace_seconds``.

    Other stores may use its connection, ``redis``, too.
    """

    def __init__(
        self,
        *,
        endpoint: IStreamClientEndpoint,
        address: RedisAddress,
        settings: Redis,
        clock: IReactorTime,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.redis = RedisConnection(
            endpoint=endpoint,
            address=address,
            settings=settings,
            clock=clock,
            lost=lambda: self._suspect_all(math.inf),
            subscribed=lambda: self._suspect_all(settings.grace_seconds),
            changed=self._mark_changed,
        )
        self._rows: dict[Topic, _Row] = {}
        self._leases: dict[FrontendRef, float] = {}
        self._suspect_until = 0.0
        self._readers: dict[Topic, list[Deferred[Sequence[FrontendRef]]]] = {}
        self._changed_while_read: set[Topic] = set()

    def start(self) -> None:
        self.redis.start()

    @as_deferred
    async def stop(self) -> None:
        await self.redis.stop()

    def missing(self) -> list[str]:
        usable = self.redis.reachable and self.redis.is_subscribed
        return [] if usable else ["Redis cannot be reached"]

    @as_deferred
    async def apply(self, announcement: Announcement) -> bool:
        frontend = announcement.frontend
        known = await self.redis.run(
            _APPLY,
            frontend.node,
            frontend.url,
            frontend.incarnation,
            announcement.sequence,
            announcement.after,
            round(announcement.lease_seconds * 1000),
            int(announcement.full),
            int(announcement.is_sequel),
            encode(announcement.counts).decode(),
        )
        self._leases[frontend] = self._clock.seconds() + announcement.lease_seconds
        # Redis publishes this change too, but this dispatcher does not wait for that.
        self._mark_changed(
            topic
            for topic, count in announcement.counts.items()
            if topic not in self._rows or (count > 0) != (frontend in self._rows[topic].frontends)
        )
        return bool(known)

    def frontends(self, topic: Topic) -> Deferred[Sequence[FrontendRef]]:
        row = self._rows.get(topic)
        if row is not None and row.fresh and self.redis.is_subscribed and self._leases_hold(row):
            return succeed(row.frontends)
        return self._read_once(topic)

    @as_deferred
    async def viewers(self, topic: Topic) -> Mapping[str, int]:
        return {
            entry.node: entry.viewers
            for entry in await self._read_entries(topic)
            if entry.frontend is not None
        }

    @as_deferred
    async def nodes(self) -> Sequence[NodeStatus]:
        now = self._clock.seconds()
        nodes = []
        for name, viewers, url, incarnation, topics, milliseconds in await self.redis.run(_NODES):
            if not url:
                await self._forget(name.decode(), "")
                continue
            frontend = FrontendRef(
                node=name.decode(), url=url.decode(), incarnation=incarnation.decode()
            )
            self._leases[frontend] = now + milliseconds / 1000
            nodes.append(
                NodeStatus(
                    frontend=frontend,
                    topics=topics,
                    viewers=int(viewers),
                    lease_seconds_left=milliseconds / 1000,
                )
            )
        self._leases = {frontend: ends for frontend, ends in self._leases.items() if ends > now}
        return sorted(nodes, key=lambda status: status.frontend.node)

    @as_deferred
    async def forget(self, frontend: FrontendRef) -> None:
        await self._forget(frontend.node, frontend.incarnation)

    async def _forget(self, node: str, incarnation: str) -> None:
        await self.redis.run(_FORGET, node, incarnation)

    async def _read_entries(self, topic: Topic, further: Iterable[str] = ()) -> list[_RowEntry]:
        now = self._clock.seconds()
        answer = await self.redis.run(_ROW, topic, *further)
        return [
            _RowEntry(
                node=name.decode(),
                viewers=int(viewers),
                frontend=FrontendRef(
                    node=name.decode(), url=url.decode(), incarnation=incarnation.decode()
                )
                if url
                else None,
                known=known == b"1",
                lease_ends_at=now + milliseconds / 1000,
            )
            for name, viewers, url, incarnation, known, milliseconds in answer
        ]

    def _read_once(self, topic: Topic) -> Deferred[Sequence[FrontendRef]]:
        """Read a row once for all calls that come during the read, and answer them in order."""
        readers = self._readers.get(topic)
        result: Deferred[Sequence[FrontendRef]] = Deferred()
        if readers is not None:
            readers.append(result)
            return result
        self._readers[topic] = [result]
        Deferred.fromCoroutine(self._read(topic)).addBoth(self._hand_out, topic)
        return result

    def _hand_out(self, row: Sequence[FrontendRef] | Failure, topic: Topic) -> None:
        self._changed_while_read.discard(topic)
        for reader in self._readers.pop(topic):
            reader.callback(row)

    async def _read(self, topic: Topic) -> Sequence[FrontendRef]:
        old = self._rows.get(topic)
        suspect = old.frontends if old is not None and self._is_suspect(old) else ()
        try:
            entries = await self._read_entries(topic, (frontend.node for frontend in suspect))
        except Unavailable:
            if old is None:
                raise
            # A row that was right a short while ago is better than none.
            return old.frontends
        for entry in entries:
            if entry.frontend is not None:
                self._leases[entry.frontend] = entry.lease_ends_at
            elif entry.viewers:
                self._remove_dead(entry.node)
        found = [entry.frontend for entry in entries if entry.frontend and entry.viewers]
        unconfirmed = _unconfirmed(suspect, entries)
        row = _Row(
            frontends=tuple(dict.fromkeys([*found, *unconfirmed])),
            fresh=not unconfirmed and topic not in self._changed_while_read,
            suspect=bool(unconfirmed),
        )
        self._keep(topic, row)
        return row.frontends

    def _remove_dead(self, node: str) -> None:
        """Remove a dead node soon. Until then, reads of its rows ignore it."""
        Deferred.fromCoroutine(self._forget(node, "")).addErrback(
            lambda failure: log.warn(
                "{node} is dead and could not be removed: {e}", node=node, e=failure.value
            )
        )

    def _is_suspect(self, row: _Row) -> bool:
        return row.suspect and self._clock.seconds() < self._suspect_until

    def _keep(self, topic: Topic, row: _Row) -> None:
        self._rows.pop(topic, None)
        self._rows[topic] = row
        if len(self._rows) > self._settings.cached_topics:
            del self._rows[next(iter(self._rows))]

    def _leases_hold(self, row: _Row) -> bool:
        now = self._clock.seconds()
        return all(self._leases.get(frontend, 0) > now for frontend in row.frontends)

    def _mark_changed(self, topics: Iterable[str]) -> None:
        for topic in map(Topic, topics):
            if topic in self._rows:
                self._rows[topic].fresh = False
            if topic in self._readers:
                self._changed_while_read.add(topic)

    def _suspect_all(self, seconds: float) -> None:
        """Mark all rows: changes may have been missed, and Redis may have lost everything.

        :param seconds: how long the rows keep frontends that Redis does not confirm.
        """
        self._suspect_until = self._clock.seconds() + seconds
        for row in self._rows.values():
            row.fresh, row.suspect = False, True
        self._changed_while_read.update(self._readers)


def _unconfirmed(suspect: Sequence[FrontendRef], entries: Sequence[_RowEntry]) -> list[FrontendRef]:
    """Return those of ``suspect`` that Redis lacks, or that have not announced everything again."""
    alive = {entry.node: entry for entry in entries if entry.frontend is not None}
    return [
        frontend
        for frontend in suspect
        if frontend.node not in alive
        or (alive[frontend.node].frontend == frontend and not alive[frontend.node].known)
    ]
