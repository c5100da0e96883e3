"""The routing table in Redis, which any number of dispatchers share."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import txredisapi
from OpenSSL import crypto
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rtdeliver.errors import ConfigError, Unavailable
from rtdeliver.index import lua
from rtdeliver.interfaces import Announcement, ITopicIndex, NodeStatus
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.redis_url import RedisAddress
from rtdeliver.wire import encode

log = Logger()


def redis_endpoint(reactor: Any, address: RedisAddress, *, ca_file: str) -> IStreamClientEndpoint:
    """Return the way to a Redis.

    :param ca_file: for TLS, the certificates of the authorities to trust; empty for the system's.
    :raises ConfigError: if they cannot be read.
    """
    if address.path:
        return UNIXClientEndpoint(reactor, address.path)
    if address.service:
        return _SentinelEndpoint(reactor, address)
    [(host, port)] = address.hosts
    endpoint = HostnameEndpoint(reactor, host, port)
    if not address.tls:
        return endpoint
    return wrapClientTLS(optionsForClientTLS(host, trustRoot=_trusted(ca_file)), endpoint)


def _trusted(ca_file: str) -> Any:
    if not ca_file:
        return None
    try:
        with open(ca_file, "rb") as file:
            pems = re.findall(
                rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", file.read(), re.DOTALL
            )
        return trustRootFromCertificates([Certificate.loadPEM(pem) for pem in pems])
    except (OSError, crypto.Error) as error:
        raise ConfigError(f"redis_ca_file: {error}") from None


@implementer(IStreamClientEndpoint)
class _SentinelEndpoint:
    """Asks the sentinels for the master before each attempt to connect."""

    def __init__(self, reactor: Any, address: RedisAddress) -> None:
        self._reactor = reactor
        self._service = address.service
        self._sentinels = txredisapi.Sentinel(address.hosts, charset="utf-8")

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        host, port = await self._sentinels.discover_master(self._service)
        return await HostnameEndpoint(self._reactor, host, port).connect(factory)


class RedisSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one Redis is used.

    :param prefix: of all keys and of the channel.
    :param command_seconds: how long one command may take.
    :param reconnect_seconds: the longest pause between attempts to connect.
    :param grace_seconds: how long rows from before a loss of Redis stand beside the fresh ones,
        for frontends that have not announced anew.
    :param cached_topics: how many rows are kept in memory.
    """

    username: str | None = None
    password: str | None = None
    database: int = 0
    prefix: str
    command_seconds: float
    reconnect_seconds: float
    grace_seconds: float
    cached_topics: int


class _Factory(txredisapi.RedisFactory):
    """Keeps a connection.

    :param refused: called with what Redis said when it did not let this client in.
    :param lost: called when the connection is gone, before its commands fail.
    """

    def __init__(
        self,
        *args: Any,
        refused: Callable[[str], None],
        lost: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.refused = refused
        self.lost = lost

    def stopTrying(self) -> Deferred[Any]:
        # txredisapi would give up for good when it is not let in, be it that Redis hangs.
        return succeed(None)

    def connectionError(self, why: str) -> None:
        self.refused(why)

    def delConnection(self, connection: Any) -> None:
        super().delConnection(connection)
        self.lost()


class _Changes(txredisapi.SubscriberProtocol):
    """Hears which rows have changed, and tells the factory."""

    async def _subscribe(self) -> None:
        try:
            # Unlike `subscribe`, this waits for the answer no longer than for any other.
            await self.execute_command("SUBSCRIBE", self.factory.channel)
        except txredisapi.RedisError as error:
            self.factory.refused(f"Redis error: could not subscribe: {error}")
            self.transport.abortConnection()
        else:
            self.factory.heard()

    def connectionMade(self) -> Any:
        made = super().connectionMade()
        self.whenConnected().addCallback(lambda _: Deferred.fromCoroutine(self._subscribe()))
        return made

    def messageReceived(self, _pattern: object, _channel: bytes, message: bytes) -> None:
        self.factory.changed(message)


class _ChangesFactory(_Factory):
    """Keeps a connection to the channel of changes.

    :param heard: called when the channel is heard from then on.
    :param changed: called with each message.
    """

    protocol = _Changes

    def __init__(
        self,
        channel: str,
        *args: Any,
        heard: Callable[[], None],
        changed: Callable[[bytes], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.channel = channel
        self.heard = heard
        self.changed = changed


class RedisConnection:
    """Runs scripts on one Redis, and hears its channel of changes.

    :param lost: called when Redis cannot be relied on any more, before another connection to it is
        used: the next one may be to an empty one.
    :param heard: called when changes are told from then on: what is cached may be outdated.
    :param changed: called with the topics whose rows have changed.
    """

    def __init__(
        self,
        *,
        endpoint: IStreamClientEndpoint,
        settings: RedisSettings,
        clock: IReactorTime,
        lost: Callable[[], None],
        heard: Callable[[], None],
        changed: Callable[[Sequence[Topic]], None],
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._clock = clock
        self._changed = changed
        self._lost = lost
        self._heard = heard
        self._refusals: set[str] = set()
        self._hangs = False
        self.hears = False
        shared: dict[str, Any] = {
            "uuid": None,
            "dbid": settings.database or None,
            "poolsize": 1,
            "charset": None,
            "username": settings.username,
            "password": settings.password,
            "replyTimeout": settings.command_seconds,
            "convertNumbers": False,
            "refused": self._refused,
        }
        self._commands = _Factory(lost=self._lose_commands, **shared)
        self._changes = _ChangesFactory(
            settings.prefix + "changes",
            heard=self._begin_to_hear,
            lost=self._cease_to_hear,
            changed=self._hear,
            **shared,
        )
        self._ping = LoopingCall(self._ping_changes)
        self._ping.clock = clock

    @property
    def reachable(self) -> bool:
        """Whether a command can be tried.

        After one that took too long, none is until Redis tells of changes again, which it is
        asked to all the while: else each event would wait as long.
        """
        return bool(self._commands.size) and (self.hears or not self._hangs)

    def start(self) -> None:
        """Connect, and stay connected."""
        for factory in (self._commands, self._changes):
            factory.initialDelay = min(0.1, self._settings.reconnect_seconds)
            factory.maxDelay = self._settings.reconnect_seconds
            factory.startConnecting(self._endpoint)
        self._ping.start(self._settings.command_seconds, now=False)

    async def stop(self) -> None:
        """Disconnect."""
        if self._ping.running:
            self._ping.stop()
        await self._commands.disconnect()
        await self._changes.disconnect()

    async def run(self, script: str, *arguments: str | int) -> Any:
        """Run a script with the prefix and ``arguments``, and return its answer.

        :raises Unavailable: if Redis does not answer, or with an error.
        """
        if not self.reachable:
            raise Unavailable("Redis cannot be reached")
        try:
            running: Deferred[Any] = self._commands.handler.eval(
                script, [], [self._settings.prefix, *arguments]
            )
            return await running.addTimeout(self._settings.command_seconds, self._clock)
        except (txredisapi.RedisError, defer.TimeoutError, CancelledError) as error:
            if isinstance(error, defer.TimeoutError | txredisapi.TimeoutError):
                self._hangs = True
            if "READONLY" in str(error):
                # It was the master once; the sentinels know who is now.
                self._reconnect()
            raise Unavailable(f"Redis does not answer: {error or type(error).__name__}") from None

    def _reconnect(self) -> None:
        for connection in (*self._commands.pool, *self._changes.pool):
            connection.transport.abortConnection()

    def _refused(self, why: str) -> None:
        if why not in self._refusals:
            self._refusals.add(why)
            log.warn("Redis lets no one in: {why}", why=why)

    def _lose_commands(self) -> None:
        # Changes may have been told meanwhile by a Redis that is not the one of the next commands.
        for connection in self._changes.pool:
            connection.transport.abortConnection()
        self._cease_to_hear()

    def _begin_to_hear(self) -> None:
        self.hears = True
        self._hangs = False
        self._refusals.clear()
        log.info("Redis tells of changes")
        self._heard()

    def _cease_to_hear(self) -> None:
        if self.hears:
            self.hears = False
            log.warn("Redis tells of no changes: the connection is lost")
        self._lost()

    def _hear(self, message: bytes) -> None:
        self._changed([Topic(line) for line in message.decode().split("\n")])

    async def _ping_changes(self) -> None:
        # A cut cable is silent, and a subscriber hears nothing most of the time.
        if self.hears:
            try:
                await self._changes.handler.ping()
            except txredisapi.RedisError:
                self._cease_to_hear()


class _Member(msgspec.Struct, frozen=True):
    """A node, as it stands in a row that was read."""

    node: str
    viewers: int
    frontend: FrontendRef | None
    known: bool
    lease_ends_at: float


class _Row(msgspec.Struct):
    """A row in memory.

    :param fresh: whether it is what Redis has, as far as was heard.
    :param suspect: whether it stems from before a loss of Redis.
    """

    frontends: tuple[FrontendRef, ...]
    fresh: bool
    suspect: bool


@implementer(ITopicIndex)
class RedisTopicIndex:
    """Rows are cached, and read again when Redis tells that they have changed.

    While Redis cannot be reached, cached rows go on being served. After it has come back,
    perhaps empty, they stand until their frontends have announced all anew.
    """

    def __init__(
        self, *, endpoint: IStreamClientEndpoint, settings: RedisSettings, clock: IReactorTime
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._redis = RedisConnection(
            endpoint=endpoint,
            settings=settings,
            clock=clock,
            lost=lambda: self._suspect_all(math.inf),
            heard=lambda: self._suspect_all(settings.grace_seconds),
            changed=self._outdate,
        )
        self._rows: dict[Topic, _Row] = {}
        self._leases: dict[FrontendRef, float] = {}
        self._suspect_until = 0.0
        self._reading: dict[Topic, list[Deferred[Sequence[FrontendRef]]]] = {}
        self._overtaken: set[Topic] = set()

    def start(self) -> None:
        self._redis.start()

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._redis.stop())

    def missing(self) -> list[str]:
        return [] if self._redis.reachable and self._redis.hears else ["Redis cannot be reached"]

    def apply(self, announcement: Announcement) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._apply(announcement))

    def frontends(self, topic: Topic) -> Deferred[Sequence[FrontendRef]]:
        row = self._rows.get(topic)
        if row is not None and row.fresh and self._redis.hears and self._leases_hold(row):
            return succeed(row.frontends)
        return self._read_once(topic)

    def viewers(self, topic: Topic) -> Deferred[Mapping[str, int]]:
        return Deferred.fromCoroutine(self._viewers(topic))

    def nodes(self) -> Deferred[Sequence[NodeStatus]]:
        return Deferred.fromCoroutine(self._nodes())

    def forget(self, frontend: FrontendRef) -> Deferred[None]:
        return Deferred.fromCoroutine(self._forget(frontend.node, frontend.incarnation))

    async def _apply(self, announcement: Announcement) -> bool:
        frontend = announcement.frontend
        known = await self._redis.run(
            lua.APPLY,
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

    async def _viewers(self, topic: Topic) -> Mapping[str, int]:
        return {
            member.node: member.viewers
            for member in await self._members(topic)
            if member.frontend is not None
        }

    async def _nodes(self) -> Sequence[NodeStatus]:
        now = self._clock.seconds()
        nodes = []
        for name, viewers, url, incarnation, topics, milliseconds in await self._redis.run(
            lua.NODES
        ):
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

    async def _forget(self, node: str, incarnation: str) -> None:
        await self._redis.run(lua.FORGET, node, incarnation)

    async def _members(self, topic: Topic, further: Iterable[str] = ()) -> list[_Member]:
        now = self._clock.seconds()
        answer = await self._redis.run(lua.ROW, topic, *further)
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

    def _outdate(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
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
