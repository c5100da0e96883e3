"""A connection to one Redis that stays: commands and scripts, bounded in time."""

from collections.abc import Callable, Sequence
from typing import Any

import txredisapi
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import (
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rtdeliver.config.sections import Redis
from rtdeliver.errors import Unavailable
from rtdeliver.redis.url import RedisAddress

log = Logger()


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
            self.factory.subscribed()

    def connectionMade(self) -> Any:
        made = super().connectionMade()
        self.whenConnected().addCallback(lambda _: Deferred.fromCoroutine(self._subscribe()))
        return made

    def messageReceived(self, _pattern: object, _channel: bytes, message: bytes) -> None:
        self.factory.changed(message)


class _ChangesFactory(_Factory):
    """Keeps a connection to the channel of changes.

    :param subscribed: called whenever the subscription begins.
    :param changed: called with each message.
    """

    protocol = _Changes

    def __init__(
        self,
        channel: str,
        *args: Any,
        subscribed: Callable[[], None],
        changed: Callable[[bytes], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.channel = channel
        self.subscribed = subscribed
        self.changed = changed


class RedisConnection:
    """Runs scripts on one Redis, and is subscribed to its channel of changes.

    :param lost: called when Redis cannot be relied on any more, before another connection to it is
        used: the next one may be to an empty one.
    :param subscribed: called whenever the subscription begins: what is cached may be outdated.
    :param changed: called with the lines of each message on the channel.
    """

    def __init__(
        self,
        *,
        endpoint: IStreamClientEndpoint,
        address: RedisAddress,
        settings: Redis,
        clock: IReactorTime,
        lost: Callable[[], None],
        subscribed: Callable[[], None],
        changed: Callable[[Sequence[str]], None],
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._clock = clock
        self._changed = changed
        self._lost = lost
        self._on_subscribed = subscribed
        self._refusals: set[str] = set()
        self._hangs = False
        self.is_subscribed = False
        shared: dict[str, Any] = {
            "uuid": None,
            "dbid": address.database or None,
            "poolsize": 1,
            "charset": None,
            "username": address.username,
            "password": address.password,
            "replyTimeout": settings.command_seconds,
            "convertNumbers": False,
            "refused": self._refused,
        }
        self._commands = _Factory(lost=self._lose_commands, **shared)
        self._changes = _ChangesFactory(
            settings.prefix + "changes",
            subscribed=self._subscribed,
            lost=self._unsubscribed,
            changed=self._message_received,
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
        return bool(self._commands.size) and (self.is_subscribed or not self._hangs)

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
            # txredisapi sends the text once for each connection, and after that its SHA1 alone,
            # until Redis says that it does not know it.
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
            raise Unavailable(
                f"Redis does not answer: {str(error) or type(error).__name__}"
            ) from None

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
        self._unsubscribed()

    def _subscribed(self) -> None:
        self.is_subscribed = True
        self._hangs = False
        self._refusals.clear()
        log.info("Redis tells of changes")
        self._on_subscribed()

    def _unsubscribed(self) -> None:
        if self.is_subscribed:
            self.is_subscribed = False
            log.warn("Redis tells of no changes: the connection is lost")
        self._lost()

    def _message_received(self, message: bytes) -> None:
        self._changed(message.decode().split("\n"))

    async def _ping_changes(self) -> None:
        # A cut cable is silent, and so is the channel most of the time.
        if self.is_subscribed:
            try:
                await self._changes.handler.ping()
            except txredisapi.RedisError:
                self._unsubscribed()
