"""The rows that a dispatcher has read from Redis, and whether they still hold."""

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rtdeliver.config.sections import Redis
from rtdeliver.errors import Unavailable
from rtdeliver.messages import NodeStatus, Route
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.routing.scripts import RoutingScripts, Row, RowEntry

log = Logger()


class _CachedRow(msgspec.Struct):
    """A row as it was last read.

    :param fresh: whether nothing was heard that might have changed it.
    """

    route: Route
    fresh: bool


class Rows:
    """Reads rows, and keeps them until they change.

    A cached row is served without a question to Redis if nothing was heard of a change, and if
    everything has been heard that Redis published until a short while ago. So a row is at most
    ``fresh_seconds`` behind, whatever happens to this process or to its connections.

    Whoever asks for a row that is being read, waits for a read that begins after the question.

    While Redis cannot be reached, old rows are served, as uncertain. After Redis has come back,
    perhaps without its data, a row keeps its frontends for ``grace_seconds``, unless they live and
    have announced that they left it; all rows are uncertain meanwhile. Leases count for nothing in
    that time: they may have run out while no frontend could renew them. If Redis has lost its data,
    an empty row that was never read is unavailable meanwhile.

    :param dead: called with a node that is dead, and is still in a row.
    """

    def __init__(
        self,
        *,
        redis: RedisConnection,
        scripts: RoutingScripts,
        settings: Redis,
        clock: IReactorTime,
        dead: Callable[[str], None],
    ) -> None:
        self._redis = redis
        self._scripts = scripts
        self._settings = settings
        self._clock = clock
        self._dead = dead
        self._rows: dict[Topic, _CachedRow] = {}
        self._leases: dict[FrontendRef, float] = {}
        self._suspect_until = -math.inf
        self._followers: dict[Topic, list[Deferred[Route]]] = {}
        self._changed_while_read: set[Topic] = set()
        self._table = b""
        self._lost = False
        self._may_be_new = False

    def __len__(self) -> int:
        return len(self._rows)

    def route(self, topic: Topic) -> Deferred[Route]:
        """Fires with the route of ``topic``; fails with `Unavailable`."""
        row = self._rows.get(topic)
        if row is None or not self._holds(row):
            return self._read_once(topic)
        if self._redis.hears_since(self._settings.fresh_seconds):
            return succeed(self._certain_or_not(row))
        return Deferred.fromCoroutine(self._route_once_heard(topic))

    def has_lease(self, frontend: FrontendRef) -> bool:
        ends_at = self._leases.get(frontend)
        return ends_at is not None and self._may_run(ends_at)

    def note_lease(self, frontend: FrontendRef, seconds: float) -> None:
        """Note that the lease of ``frontend`` ends in so many seconds."""
        self._leases[frontend] = self._clock.seconds() + seconds

    def note_leases(self, nodes: Iterable[NodeStatus]) -> None:
        """Note the leases of all nodes that are alive, and forget those that have ended."""
        for node in nodes:
            self.note_lease(node.frontend, node.lease_seconds_left)
        self._leases = {
            frontend: ends_at
            for frontend, ends_at in self._leases.items()
            if self._may_run(ends_at)
        }

    def mark_changed(self, topics: Iterable[str]) -> None:
        """Read these rows again before they are used."""
        for topic in map(Topic, topics):
            if topic in self._rows:
                self._rows[topic].fresh = False
            if topic in self._followers:
                self._changed_while_read.add(topic)

    def mark_all_changed(self) -> None:
        """Changes may have been missed: read every row again before it is used."""
        for row in self._rows.values():
            row.fresh = False
        self._changed_while_read.update(self._followers)

    def suspect_all(self) -> None:
        """Redis may have lost everything."""
        self._lost, self._may_be_new = False, True
        self._suspect(math.inf)

    def expect_again(self) -> None:
        """Redis is back; if it has lost anything, the frontends announce it again by and by."""
        self.mark_all_changed()
        if self._suspect_until == math.inf:
            self._suspect(self._settings.grace_seconds)

    def _suspect(self, seconds: float) -> None:
        self._suspect_until = self._clock.seconds() + seconds
        self.mark_all_changed()

    def _may_run(self, lease_ends_at: float) -> bool:
        """Whether a lease still runs, or its frontend could not renew it lately."""
        now = self._clock.seconds()
        return lease_ends_at > now or now < self._suspect_until

    def _holds(self, row: _CachedRow) -> bool:
        now = self._clock.seconds()
        return row.fresh and all(self._leases.get(f, 0) > now for f in row.route.frontends)

    def _certain_or_not(self, row: _CachedRow) -> Route:
        if self._clock.seconds() >= self._suspect_until:
            return row.route
        return Route(row.route.frontends, certain=False)

    async def _route_once_heard(self, topic: Topic) -> Route:
        await self._redis.hear_all()
        row = self._rows.get(topic)
        if row is not None and self._is_current(row):
            return self._certain_or_not(row)
        return await self._read_once(topic)

    def _is_current(self, row: _CachedRow) -> bool:
        return self._holds(row) and self._redis.hears_since(self._settings.fresh_seconds)

    def _read_once(self, topic: Topic) -> Deferred[Route]:
        result: Deferred[Route] = Deferred()
        if topic in self._followers:
            self._followers[topic].append(result)
        else:
            self._begin_read(topic, [result])
        return result

    def _begin_read(self, topic: Topic, waiting: Sequence[Deferred[Route]]) -> None:
        self._followers[topic] = []
        Deferred.fromCoroutine(self._read(topic)).addBoth(self._hand_out, topic, waiting)

    def _hand_out(
        self, route: Route | Failure, topic: Topic, waiting: Sequence[Deferred[Route]]
    ) -> None:
        self._changed_while_read.discard(topic)
        followers = self._followers.pop(topic)
        row = self._rows.get(topic)
        if isinstance(route, Route) and followers:
            if row is not None and self._is_current(row):
                waiting = [*waiting, *followers]
            else:
                self._begin_read(topic, followers)
        else:
            waiting = [*waiting, *followers]
        for asked in waiting:
            asked.callback(route)

    async def _read(self, topic: Topic) -> Route:
        old = self._rows.get(topic)
        before = old.route.frontends if old is not None else ()
        try:
            row = await self._scripts.row(topic, [frontend.node for frontend in before])
        except Unavailable:
            if old is None:
                raise
            # A row that was right a short while ago is better than none.
            return Route(before, certain=False)
        lost = self._is_lost(row)
        for entry in row.entries:
            if entry.frontend is not None:
                self.note_lease(entry.frontend, entry.lease_seconds)
            elif entry.viewers:
                self._dead(entry.node)
        found = [entry.frontend for entry in row.entries if entry.frontend and entry.viewers]
        if lost and old is None and not found:
            raise Unavailable("Redis has lost the routing table, and frontends announce it again")
        suspects = before if self._clock.seconds() < self._suspect_until else ()
        unconfirmed = _unconfirmed(suspects, row.entries)
        cached = _CachedRow(
            route=Route(tuple(dict.fromkeys([*found, *unconfirmed]))),
            fresh=not unconfirmed and topic not in self._changed_while_read,
        )
        self._keep(topic, cached)
        return self._certain_or_not(cached)

    def _is_lost(self, row: Row) -> bool:
        """Whether the table was begun a short while ago, after another one was lost."""
        now = self._clock.seconds()
        if self._table and row.table != self._table:
            self._lost = True
            if not self._may_be_new:
                # Somebody has emptied this Redis.
                self._suspect(self._settings.grace_seconds)
        self._table, self._may_be_new = row.table, False
        if row.lost and row.young_seconds:
            # A frontend has told that there was another one.
            self._lost = True
            self._suspect_until = max(self._suspect_until, now + row.young_seconds)
        return self._lost and now < self._suspect_until

    def _keep(self, topic: Topic, row: _CachedRow) -> None:
        self._rows.pop(topic, None)
        self._rows[topic] = row
        if len(self._rows) > self._settings.cached_topics:
            del self._rows[next(iter(self._rows))]


def _unconfirmed(suspects: Sequence[FrontendRef], entries: Sequence[RowEntry]) -> list[FrontendRef]:
    """Return those of ``suspects`` that have not announced everything again."""
    alive = {entry.node: entry for entry in entries if entry.frontend is not None}
    return [
        frontend
        for frontend in suspects
        if frontend.node not in alive
        or (alive[frontend.node].frontend == frontend and not alive[frontend.node].known)
    ]
