"""What a Redis tells of itself."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from rtdeliver.config.sections import Redis
from rtdeliver.errors import Unavailable
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import parse_redis_url

NOT_TOLD = "not told"
"""Stands for what a Redis does not let this user ask."""

_LOOK_SECONDS = 0.02
_ROUND_TRIPS = 20


class RedisState(msgspec.Struct, frozen=True):
    """What one Redis tells.

    :param trouble: why it cannot be used; then the rest is empty.
    :param version: or `NOT_TOLD`, as with ``policy``.
    :param round_trip_seconds: how long a command and its answer take, in the median.
    """

    place: str
    trouble: str = ""
    version: str = ""
    policy: str = ""
    round_trip_seconds: float = 0


def look_at(settings: Redis) -> Sequence[RedisState]:
    """Ask each Redis of the settings, one after the other. Runs the reactor, so call it once."""
    if not settings.urls:
        return []
    from twisted.internet import reactor

    states: list[RedisState] = []

    async def look() -> None:
        for url in settings.urls:
            state = await _look_at(url, settings, reactor)
            states.append(state)

    failures: list[Failure] = []

    def begin() -> None:
        looking = Deferred.fromCoroutine(look()).addErrback(failures.append)
        looking.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if failures:
        failures[0].raiseException()
    return states


async def _look_at(url: str, settings: Redis, reactor: Any) -> RedisState:
    address = parse_redis_url(url)
    connection = RedisConnection(
        endpoint=redis_endpoint(reactor, address, settings),
        address=address,
        settings=settings,
        clock=reactor,
        channels={"changes": lambda _: None},
        lost=lambda: None,
        unsubscribed=lambda: None,
        subscribed=lambda: None,
    )
    connection.start()
    try:
        until = reactor.seconds() + settings.command_seconds
        while connection.missing() and reactor.seconds() < until:
            await deferLater(reactor, _LOOK_SECONDS)
        if connection.missing():
            return RedisState(address.place, trouble=connection.missing()[0])
        told = await connection.information()
        times = []
        for _ in range(_ROUND_TRIPS):
            began = reactor.seconds()
            await connection.run("return 1")
            times.append(reactor.seconds() - began)
    except Unavailable as error:
        return RedisState(address.place, trouble=error.message)
    finally:
        await connection.stop()
    return RedisState(
        address.place,
        version=_field(told, "redis_version"),
        policy=_field(told, "maxmemory_policy"),
        round_trip_seconds=sorted(times)[_ROUND_TRIPS // 2],
    )


def _field(told: bytes, name: str) -> str:
    found = re.search(rf"^{name}:(\S+)", told.decode(), re.MULTILINE)
    return found[1] if found else NOT_TOLD
