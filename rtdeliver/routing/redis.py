"""The routing table in Redis, which any number of dispatchers share."""

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from rtdeliver.config.sections import Redis
from rtdeliver.deferreds import as_deferred
from rtdeliver.errors import Unavailable
from rtdeliver.interfaces import IRoutingTable
from rtdeliver.messages import Announcement, Applied, NodeStatus, Route, TopicViewers
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.url import RedisAddress
from rtdeliver.routing.acknowledgements import Acknowledgements, owner_of
from rtdeliver.routing.most_viewed import MostViewed
from rtdeliver.routing.rows import Rows
from rtdeliver.routing.scripts import RoutingScripts

log = Logger()


@implementer(IRoutingTable)
class RedisRoutingTable:
    """Changes rows by scripts, and serves them from `Rows`.

    Redis publishes which rows a change concerns, with a token. Each dispatcher that hears this
    acknowledges the token to the one that made the change, which waits for as many as Redis has
    published it to. A dispatcher that does not acknowledge in time cannot serve the row from its
    cache any more: see `Rows`.

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
        self._acknowledgements = Acknowledgements(clock=clock, wait_seconds=settings.fresh_seconds)
        self.redis = RedisConnection(
            endpoint=endpoint,
            address=address,
            settings=settings,
            clock=clock,
            channels={
                "changes": self._note_changes,
                f"acknowledgements:{self._acknowledgements.name}": self._acknowledgements.note,
            },
            lost=lambda: self._rows.suspect_all(),
            unsubscribed=lambda: self._rows.mark_all_changed(),
            subscribed=lambda: self._rows.expect_again(),
        )
        self._scripts = RoutingScripts(self.redis, young_seconds=settings.grace_seconds)
        self._rows = Rows(
            redis=self.redis,
            scripts=self._scripts,
            settings=settings,
            clock=clock,
            dead=self._remove_dead,
        )
        self._taking_out = False

    def start(self) -> None:
        self.redis.start()

    @as_deferred
    async def stop(self) -> None:
        await self.redis.stop()

    def missing(self) -> list[str]:
        return self.redis.missing()

    @as_deferred
    async def apply(self, announcement: Announcement) -> Applied:
        token = self._acknowledgements.new_token()
        try:
            applied, listeners = await self._scripts.apply(announcement, token)
        except BaseException:
            self._acknowledgements.forget(token)
            raise
        if not applied.replaced:
            self._rows.note_lease(announcement.frontend, announcement.lease_seconds)
        await self._acknowledgements.wait(token, listeners)
        if announcement.full or announcement.part:
            self._take_out_rest()
        return applied

    def route(self, topic: Topic) -> Deferred[Route]:
        return self._rows.route(topic)

    def has_lease(self, frontend: FrontendRef) -> bool:
        return self._rows.has_lease(frontend)

    @as_deferred
    async def viewers(self, topic: Topic) -> Mapping[str, int]:
        row = await self._scripts.row(topic)
        return {entry.node: entry.viewers for entry in row.entries if entry.frontend is not None}

    @as_deferred
    async def topics(
        self, prefix: str, after: TopicViewers | None, limit: int
    ) -> Sequence[TopicViewers]:
        best = MostViewed(after, limit)
        alive, _ = await self._scripts.nodes()
        for status in alive:
            cursor = ""
            while cursor != "0":
                cursor, found = await self._scripts.topics(
                    status.frontend.node, cursor or "0", prefix
                )
                for topic in found:
                    best.add(topic)
        return best.found()

    @as_deferred
    async def nodes(self) -> Sequence[NodeStatus]:
        alive, dead = await self._scripts.nodes()
        self._rows.note_leases(alive)
        for node in dead:
            await self._scripts.forget(node, "")
        self._take_out_rest()
        return alive

    @as_deferred
    async def forget(self, frontend: FrontendRef) -> None:
        await self._scripts.forget(frontend.node, frontend.incarnation)
        self._take_out_rest()

    def overdue_changes(self) -> int:
        return self._acknowledgements.overdue

    def _note_changes(self, message: str) -> None:
        token, *topics = message.split("\n")
        self._rows.mark_changed(topics)
        if not token:
            return
        if owner_of(token) == self._acknowledgements.name:
            self._acknowledgements.note(token)
        else:
            self.redis.publish(f"acknowledgements:{owner_of(token)}", token)

    def _remove_dead(self, node: str) -> None:
        """Remove a dead node soon. Until then, reads of its rows ignore it."""
        Deferred.fromCoroutine(self._scripts.forget(node, "")).addErrback(
            lambda failure: log.warn(
                "{node} is dead and could not be removed: {e}", node=node, e=failure.value
            )
        )

    def _take_out_rest(self) -> None:
        """Take nodes out of the rows that they have left, bit by bit."""
        if not self._taking_out:
            self._taking_out = True
            Deferred.fromCoroutine(self._take_out_all()).addErrback(
                lambda failure: log.failure("rows could not be cleaned up", failure)
            )

    async def _take_out_all(self) -> None:
        try:
            while await self._scripts.take_out():
                pass
        except Unavailable:
            # The next sweep goes on.
            return
        finally:
            self._taking_out = False
