"""A lasting connection to one Redis: scripts with a time limit, and channels of messages."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
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
from rtdeliver.metrics import Sample, counter, gauge
from rtdeliver.redis.faults import Faults, explain
from rtdeliver.redis.scripts import read_script
from rtdeliver.redis.url import RedisAddress

log = Logger()


_PROBE = read_script("rtdeliver.redis", "probe")


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
        self.retries = 0

    def retryDelay(self, attempt: int) -> float:
        self.retries += 1
        delay: float = super().retryDelay(attempt)
        return delay

    def stopTrying(self) -> Deferred[Any]:
        # When it cannot log in, txredisapi would give up for good, even if Redis only hangs.
        return succeed(None)

    def connectionError(self, why: str) -> None:
        self.refused(why)

    def delConnection(self, connection: Any) -> None:
        super().delConnection(connection)
        self.lost()


class _Subscriber(txredisapi.SubscriberProtocol):
    """Subscribes to the factory's channels, and passes their messages to it."""

    async def _subscribe(self) -> None:
        for channel in self.factory.channels:
            try:
                # Unlike `subscribe`, this has the time limit of any command. One channel at a time,
                # because txredisapi would take a second answer for that to the next command.
                await self.execute_command("SUBSCRIBE", channel)
            except txredisapi.RedisError as error:
                self.factory.refused(f"cannot subscribe to {channel}: {error}")
                self.transport.abortConnection()
                return
        self.factory.subscribed()

    def connectionMade(self) -> Any:
        made = super().connectionMade()
        self.whenConnected().addCallback(lambda _: Deferred.fromCoroutine(self._subscribe()))
        return made

    def messageReceived(self, _pattern: object, channel: bytes, message: bytes) -> None:
        self.factory.channels[channel.decode()](message.decode())


class _SubscriberFactory(_Factory):
    """Keeps subscriptions to some channels.

    :param channels: what is called with each message, by channel.
    :param subscribed: called whenever all subscriptions have begun.
    """

    protocol = _Subscriber

    def __init__(
        self,
        channels: Mapping[str, Callable[[str], None]],
        *args: Any,
        subscribed: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.channels = channels
        self.subscribed = subscribed


class RedisConnection:
    """Runs scripts on one Redis, and subscribes to channels of messages.

    :param channels: what is called with each message, by the name of the channel without the
        prefix.
    :param lost: called when the connection for commands is lost, before another one is used. The
        next connection may lead to an empty Redis.
    :param unsubscribed: called when messages may be missed from now on.
    :param subscribed: called whenever the subscriptions begin; messages may have been missed.
    """

    def __init__(
        self,
        *,
        endpoint: IStreamClientEndpoint,
        address: RedisAddress,
        settings: Redis,
        clock: IReactorTime,
        channels: Mapping[str, Callable[[str], None]],
        lost: Callable[[], None],
        unsubscribed: Callable[[], None],
        subscribed: Callable[[], None],
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._clock = clock
        self._lost = lost
        self._on_unsubscribed = unsubscribed
        self._on_subscribed = subscribed
        self._refusals: dict[str, None] = {}
        self._place = address.place
        self._faults = Faults(address.place)
        self._hangs = False
        self.is_subscribed = False
        # Whether this Redis has taken no write since the connection was made.
        self._is_unproven = False
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
        self._subscriber = _SubscriberFactory(
            {settings.prefix + name: heard for name, heard in channels.items()},
            subscribed=self._subscribed,
            lost=self._unsubscribed,
            **shared,
        )
        self._ping_numbers = count(1)
        self._heard_at = -math.inf
        self._hearers: list[Deferred[None]] = []
        self._asked_at = -math.inf
        # Without a ping, a cut cable looks like a channel without messages.
        self._slow_pings = LoopingCall(self._look)
        self._slow_pings.clock = clock
        self._fast_pings = LoopingCall(self._keep_hearing)
        self._fast_pings.clock = clock

    @property
    def reachable(self) -> bool:
        """Whether to send a command to Redis at all.

        After a command that took too long, no further command is sent until the subscription, which
        is tried all the time, works again. Otherwise each event would wait for the time limit.
        """
        return bool(self._commands.size) and (self.is_subscribed or not self._hangs)

    def missing(self) -> list[str]:
        """Return the reasons why Redis cannot be used; empty when it can be."""
        if self._faults.reason:
            return [f"Redis refuses commands: {self._faults.reason}"]
        if self.reachable and self.is_subscribed:
            return []
        sentinels = getattr(self._endpoint, "trouble", "")
        why = next(reversed(self._refusals), "") or sentinels
        return [f"Redis cannot be reached: {why}" if why else "Redis cannot be reached"]

    def samples(self) -> list[Sample]:
        return [
            gauge(
                "redis_connected",
                "Whether Redis can be reached, and its messages are heard.",
                int(self.reachable and self.is_subscribed),
                redis=self._place,
            ),
            counter(
                "redis_retries",
                "Attempts to connect to Redis again.",
                self._commands.retries + self._subscriber.retries,
                redis=self._place,
            ),
            *self._faults.samples(),
        ]

    def start(self) -> None:
        """Connect, and reconnect whenever a connection is lost."""
        for factory in (self._commands, self._subscriber):
            factory.initialDelay = min(0.1, self._settings.reconnect_seconds)
            factory.maxDelay = self._settings.reconnect_seconds
            factory.startConnecting(self._endpoint)
        self._slow_pings.start(self._settings.command_seconds, now=False)

    async def stop(self) -> None:
        """Disconnect."""
        for pings in (self._slow_pings, self._fast_pings):
            if pings.running:
                pings.stop()
        await self._commands.disconnect()
        await self._subscriber.disconnect()

    def hears_since(self, seconds: float) -> bool:
        """Whether all messages that Redis sent until so many seconds ago have been heard.

        Whoever asks this often finds it true, because each question keeps pings going for a while.
        """
        self._asked_at = now = self._clock.seconds()
        if not self._fast_pings.running and self.is_subscribed:
            self._fast_pings.start(self._settings.fresh_seconds / 2)
        return now - self._heard_at < seconds

    def hear_all(self) -> Deferred[None]:
        """Ping Redis on the subscription; fires when all messages that it sent before are heard.

        It fires too when the subscription is lost. Calls during one ping share it.
        """
        if not self.is_subscribed:
            return succeed(None)
        heard: Deferred[None] = Deferred()
        self._hearers.append(heard)
        if len(self._hearers) == 1:
            Deferred.fromCoroutine(self._ping()).addBoth(lambda _: self._end_ping())
        return heard

    def publish(self, channel: str, message: str) -> None:
        """Publish a message, if Redis can be reached.

        :param channel: the name of the channel without the prefix.
        """
        if self.reachable:
            published: Deferred[Any] = self._commands.handler.publish(
                self._settings.prefix + channel, message
            )
            published.addErrback(lambda failure: failure.trap(txredisapi.RedisError))

    async def run(self, script: str, *arguments: str | bytes | int) -> Any:
        """Run a script with the prefix and ``arguments``, and return its result.

        :raises Unavailable: if Redis cannot be reached, does not answer in time, or answers with an
            error. After an error, `missing` returns it until Redis has run the script.
        """
        return await self._run(self._faults.note, script, arguments)

    async def run_minor(self, script: str, *arguments: str | bytes | int) -> Any:
        """Run a script as `run` does; this process can do without it, so no error is missing."""
        return await self._run(self._faults.note_minor, script, arguments)

    async def _run(
        self,
        note: Callable[[str, str], None],
        script: str,
        arguments: Sequence[str | bytes | int],
    ) -> Any:
        if not self.reachable:
            raise Unavailable("Redis cannot be reached")
        try:
            # txredisapi sends the text of a script once for each connection, and after that only
            # its SHA1, until Redis answers that it does not know the script.
            running: Deferred[Any] = self._commands.handler.eval(
                script, [], [self._settings.prefix, *arguments]
            )
            answer = await running.addTimeout(self._settings.command_seconds, self._clock)
        except txredisapi.ResponseError as error:
            note(script, str(error))
            if "READONLY" in str(error):
                # This Redis is no longer the master; the sentinels know the new one.
                self._reconnect()
            raise Unavailable(f"Redis refuses commands: {explain(str(error))}") from None
        except (txredisapi.RedisError, defer.TimeoutError, CancelledError) as error:
            if isinstance(error, defer.TimeoutError | txredisapi.TimeoutError):
                self._hangs = True
            raise Unavailable(
                f"Redis does not answer: {str(error) or type(error).__name__}"
            ) from None
        self._faults.clear(script)
        return answer

    def _reconnect(self) -> None:
        for connection in (*self._commands.pool, *self._subscriber.pool):
            connection.transport.abortConnection()

    def _refused(self, why: str) -> None:
        if why not in self._refusals:
            self._refusals[why] = None
            log.warn("Redis refuses this client: {why}", why=why)

    def _lose_commands(self) -> None:
        # The next commands may go to another Redis than the one that this subscription is at.
        for connection in self._subscriber.pool:
            connection.transport.abortConnection()
        self._unsubscribed()
        self._lost()

    def _subscribed(self) -> None:
        self.is_subscribed = True
        self._hangs = False
        self._refusals.clear()
        self._is_unproven = True
        log.info("subscribed to messages of Redis at {place}", place=self._place)
        self._on_subscribed()
        Deferred.fromCoroutine(self._read_settings())
        self._look()

    def _unsubscribed(self) -> None:
        self._heard_at = -math.inf
        if self.is_subscribed:
            self.is_subscribed = False
            log.warn("Redis at {place} is lost; it is tried again", place=self._place)
        self._on_unsubscribed()

    def _look(self) -> None:
        """Find out whether Redis can be used, also while there is nothing to do."""
        self.hear_all()
        if self.reachable:
            Deferred.fromCoroutine(self._probe()).addErrback(
                lambda failure: failure.trap(Unavailable)
            )

    async def _probe(self) -> None:
        await self.run(_PROBE)
        if self._is_unproven:
            # Scripts that were refused before, and run rarely, must not count for ever.
            self._is_unproven = False
            self._faults.clear_all()

    async def information(self) -> bytes:
        """Return what Redis tells of itself; nothing if this user may not ask."""
        try:
            told: bytes = await self._commands.handler.execute_command("INFO")
        except txredisapi.RedisError:
            return b""
        return told

    async def _read_settings(self) -> None:
        """Warn of settings of Redis with which rows would be lost."""
        found = re.search(rb"maxmemory_policy:([a-z-]+)", await self.information())
        if found and found[1] != b"noeviction":
            log.warn(
                "Redis at {place} may evict rows: set its maxmemory-policy to noeviction, not to"
                " {policy}",
                place=self._place,
                policy=found[1].decode(),
            )

    async def _ping(self) -> None:
        sent_at, number = self._clock.seconds(), str(next(self._ping_numbers)).encode()
        try:
            answer = await self._subscriber.handler.execute_command("PING", number)
        except txredisapi.RedisError:
            self._unsubscribed()
        else:
            if self.is_subscribed and answer == [b"pong", number]:
                self._heard_at = sent_at

    def _end_ping(self) -> None:
        hearers, self._hearers = self._hearers, []
        for heard in hearers:
            heard.callback(None)

    def _keep_hearing(self) -> None:
        if self._clock.seconds() - self._asked_at > self._settings.command_seconds:
            self._fast_pings.stop()
        elif not self._hearers:
            self.hear_all()
