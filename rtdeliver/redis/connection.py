"""A lasting connection to one Redis: scripts with a time limit, and a channel of changes."""

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
    """Keeps a connection open.

    :param refused: called with the error of a Redis that does not let this client in.
    :param lost: called when the connection is lost, before its commands fail.
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
        # When it cannot log in, txredisapi would give up for good, even if Redis only hangs.
        return succeed(None)

    def connectionError(self, why: str) -> None:
        self.refused(why)

    def delConnection(self, connection: Any) -> None:
        super().delConnection(connection)
        self.lost()


class _Changes(txredisapi.SubscriberProtocol):
    """Subscribes to the channel of changes, and passes its messages to the factory."""

    async def _subscribe(self) -> None:
        try:
            # Unlike `subscribe`, this has the time limit of any command.
            await self.execute_command("SUBSCRIBE", self.factory.channel)
        except txredisapi.RedisError as error:
            self.factory.refused(f"cannot subscribe to {self.factory.channel}: {error}")
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
    """Keeps a subscription to the channel of changes.

    :param subscribed: called whenever a subscription begins.
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
    """Runs scripts on one Redis, and subscribes to its channel of changes.

    :param lost: called when a connection to Redis is lost, before another one is used. The next
        connection may lead to an empty Redis.
    :param subscribed: called whenever a subscription begins; cached data may be outdated then.
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
        """Whether to send a command to Redis at all.

        After a command that took too long, no further command is sent until the subscription, which
        is tried all the time, works again. Otherwise each event would wait for the time limit.
        """
        return bool(self._commands.size) and (self.is_subscribed or not self._hangs)

    def start(self) -> None:
        """Connect, and reconnect whenever a connection is lost."""
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
        """Run a script with the prefix and ``arguments``, and return its result.

        :raises Unavailable: if Redis cannot be reached, does not answer in time, or answers with an
            error.
        """
        if not self.reachable:
            raise Unavailable("Redis cannot be reached")
        try:
            # txredisapi sends the text of a script once for each connection, and after that only
            # its SHA1, until Redis answers that it does not know the script.
            running: Deferred[Any] = self._commands.handler.eval(
                script, [], [self._settings.prefix, *arguments]
            )
            return await running.addTimeout(self._settings.command_seconds, self._clock)
        except (txredisapi.RedisError, defer.TimeoutError, CancelledError) as error:
            if isinstance(error, defer.TimeoutError | txredisapi.TimeoutError):
                self._hangs = True
            if "READONLY" in str(error):
                # This Redis is no longer the master; the sentinels know the new one.
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
            log.warn("Redis refuses this client: {why}", why=why)

    def _lose_commands(self) -> None:
        # The next commands may go to another Redis than the one that this subscription is at.
        for connection in self._changes.pool:
            connection.transport.abortConnection()
        self._unsubscribed()

    def _subscribed(self) -> None:
        self.is_subscribed = True
        self._hangs = False
        self._refusals.clear()
        log.info("subscribed to changes in Redis")
        self._on_subscribed()

    def _unsubscribed(self) -> None:
        if self.is_subscribed:
            self.is_subscribed = False
            log.warn("the subscription to changes in Redis is lost")
        self._lost()

    def _message_received(self, message: bytes) -> None:
        self._changed(message.decode().split("\n"))

    async def _ping_changes(self) -> None:
        # Without a ping, a cut cable looks like a channel without messages.
        if self.is_subscribed:
            try:
                await self._changes.handler.ping()
            except txredisapi.RedisError:
                self._unsubscribed()
