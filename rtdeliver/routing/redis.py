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


class _Member(msgspec.Struct, frozen=True):
    """A node, as it stands in a row that was read."""

    node: str
    viewers: int
    frontend: FrontendRef | None
    known: bool
    lease_ends_at: float


class _Row(msgspec.Struct):
    """A row in memory.

    :param fresh: whether it is what Redis has, as far as its channel has told.
    :param suspect: whether it stems from before a loss of Redis.
    """

    frontends: tuple[FrontendRef, ...]
    fresh: bool
    suspect: bool


@implementer(IRoutingTable)
class RedisRoutingTable:
    """Rows are cached, and read again when Redis tells that they have changed.

    While Redis cannot be reached, cached rows go on being served. After it has come back,
    perhaps empty, they stand until their frontends have announced all anew.

    Its connection, ``redis``, is for others too who keep something there.
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
            changed=self._outdate,
        )
        self._rows: dict[Topic, _Row] = {}
        self._leases: dict[FrontendRef, float] = {}
        self._suspect_until = 0.0
        self._reading: dict[Topic, list[Deferred[Sequence[FrontendRef]]]] = {}
        self._overtaken: set[Topic] = set()

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
        # Redis tells it too, but this dispatcher need not wait to hear of what it did itself.
        self._outdate(
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
            member.node: member.viewers
            for member in await self._members(topic)
            if member.frontend is not None
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

    async def _members(self, topic: Topic, further: Iterable[str] = ()) -> list[_Member]:
        now = self._clock.seconds()
        answer = await self.redis.run(_ROW, topic, *further)
        return [
            _Member(
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
        """Read the row, for all who ask while it is read, who go on in the order of asking."""
        waiting = self._reading.get(topic)
        result: Deferred[Sequence[FrontendRef]] = Deferred()
        if waiting is not None:
            waiting.append(result)
            return result
        self._reading[topic] = [result]
        Deferred.fromCoroutine(self._read(topic)).addBoth(self._hand_out, topic)
        return result

    def _hand_out(self, row: Sequence[FrontendRef] | Failure, topic: Topic) -> None:
        self._overtaken.discard(topic)
        for waiting in self._reading.pop(topic):
            waiting.callback(row)

    async def _read(self, topic: Topic) -> Sequence[FrontendRef]:
        old = self._rows.get(topic)
        suspect = old.frontends if old is not None and self._is_suspect(old) else ()
        try:
            members = await self._members(topic, (frontend.node for frontend in suspect))
        except Unavailable:
            if old is None:
                raise
            # What was right a short while ago is better than nothing.
            return old.frontends
        for member in members:
            if member.frontend is not None:
                self._leases[member.frontend] = member.lease_ends_at
            elif member.viewers:
                self._clean_up(member.node)
        found = [member.frontend for member in members if member.frontend and member.viewers]
        unsettled = _unsettled(suspect, members)
        row = _Row(
            frontends=tuple(dict.fromkeys([*found, *unsettled])),
            fresh=not unsettled and topic not in self._overtaken,
            suspect=bool(unsettled),
        )
        self._keep(topic, row)
        return row.frontends

    def _clean_up(self, node: str) -> None:
        """Take out a dead node, soon; whoever reads its rows passes over it anyway."""
        Deferred.fromCoroutine(self._forget(node, "")).addErrback(
            lambda failure: log.warn(
                "{node} is dead and was not taken out: {e}", node=node, e=failure.value
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

    def _outdate(self, topics: Iterable[str]) -> None:
        for topic in map(Topic, topics):
            if topic in self._rows:
                self._rows[topic].fresh = False
            if topic in self._reading:
                self._overtaken.add(topic)

    def _suspect_all(self, seconds: float) -> None:
        """Changes may have been missed, and Redis may have lost everything."""
        self._suspect_until = self._clock.seconds() + seconds
        for row in self._rows.values():
            row.fresh, row.suspect = False, True
        self._overtaken.update(self._reading)


def _unsettled(suspect: Sequence[FrontendRef], members: Sequence[_Member]) -> list[FrontendRef]:
    """Those of ``suspect`` of which Redis does not know all yet, or not any more."""
    alive = {member.node: member for member in members if member.frontend is not None}
    return [
        frontend
        for frontend in suspect
        if frontend.node not in alive
        or (alive[frontend.node].frontend == frontend and not alive[frontend.node].known)
    ]
