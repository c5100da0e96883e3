"""Histories in a real Redis."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rtdeliver.config.sections import Redis
from rtdeliver.history.classes import HistoryClasses
from rtdeliver.history.redis import RedisHistory
from rtdeliver.interfaces import IHistory
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import parse_redis_url
from rtdeliver.routing.redis import RedisRoutingTable
from tests.contracts.history import LONG_AGO, RED, SETTINGS, HistoryContract
from tests.integration.redis_server import RedisServer

PREFIX = "test:"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.waits
class TestRedisHistory(HistoryContract):
    implementation = RedisHistory

    @pytest.fixture(autouse=True)
    def _history(self, server: RedisServer) -> Iterator[None]:
        server.client.flushall()
        self.server = server
        address = parse_redis_url(server.url)
        table = RedisRoutingTable(
            endpoint=redis_endpoint(reactor, address, Redis()),
            address=address,
            settings=Redis(prefix=PREFIX, reconnect_seconds=0.2),
            clock=reactor,
        )
        table.start()
        for _ in range(3000):
            if not table.missing():
                break
            pytest_twisted.blockon(deferLater(reactor, 0.02))
        self.history: IHistory = RedisHistory(
            redis=table.redis, classes=HistoryClasses(SETTINGS.topics), settings=SETTINGS
        )
        self.get(self.history.heads([RED]))
        self.advance(LONG_AGO)
        yield
        pytest_twisted.blockon(table.stop())

    def setUp(self) -> None:
        """Left to the fixture."""

    def advance(self, seconds: float) -> None:
        """Move what is stored into the past, since the clock of Redis cannot be set."""
        client: Any = self.server.client
        milliseconds = round(seconds * 1000)
        for key in client.keys(f"{PREFIX}history*"):
            left = client.pttl(key)
            move(client, key, milliseconds)
            if left > 0:
                client.pexpire(key, max(0, left - milliseconds))

    def now(self) -> int:
        return round(1000 * time.time())

    def get(self, deferred: Deferred[Any]) -> Any:
        return pytest_twisted.blockon(deferred)


def move(client: Any, key: str, milliseconds: int) -> None:
    """Let all that a key tells of have happened so much earlier."""
    match key.removeprefix(PREFIX).split(":")[0]:
        case "history":
            events = client.xrange(key)
            client.delete(key)
            for place, fields in events:
                client.xadd(key, fields, id=moved(place, milliseconds))
        case "history-ids":
            for id, place in client.hgetall(key).items():
                client.hset(key, id, moved(place, milliseconds))
        case "history-claims":
            for claim in client.zrange(key, 0, -1):
                client.zincrby(key, -milliseconds, claim)
        case _:
            for field in {"at", "begun", "lost"}.intersection(client.hkeys(key)):
                if client.hget(key, field) != "0":
                    client.hincrby(key, field, -milliseconds)


def moved(place: str, milliseconds: int) -> str:
    """Return the id of an entry that was stored so much earlier."""
    number, at = place.split("-")
    return f"{number}-{int(at) - milliseconds}"
