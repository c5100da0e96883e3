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
from rtdeliver.errors import Unavailable
from rtdeliver.history.classes import HistoryClasses
from rtdeliver.history.redis import RedisHistory
from rtdeliver.interfaces import IHistory
from rtdeliver.messages import LOST_UNKNOWN
from rtdeliver.model import Place
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import parse_redis_url
from rtdeliver.routing.redis import RedisRoutingTable
from tests.contracts.history import LONG_AGO, RED, SETTINGS, HistoryContract, entries, ids
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

    # What Redis loses.

    def restart(self, *, keeps: int | None = None) -> None:
        """Let another process of Redis have what there is of red, or the first events only."""
        client: Any = self.server.client
        meta = f"{PREFIX}history-meta:{RED}"
        client.hset(meta, "run", "of-another-process")
        if keeps is not None:
            client.hset(meta, "number", keeps)
            events = client.xrange(f"{PREFIX}history:{RED}")[:keeps]
            client.delete(f"{PREFIX}history:{RED}")
            for place, fields in events:
                client.xadd(f"{PREFIX}history:{RED}", fields, id=place)
            client.hset(f"{PREFIX}history-store", "count", keeps)

    def test_all_keys_of_a_topic_expire(self) -> None:
        self.append(1, may_repeat=True)
        for name in ("history", "history-meta", "history-ids"):
            assert self.server.client.pttl(f"{PREFIX}{name}:{RED}") > 0, name

    def test_in_another_process_with_all_events_it_goes_on_exactly(self) -> None:
        stored = self.append(*range(1, 6))
        for count in range(3):
            self.restart()
            page = self.read(since=stored[1])
            assert (page.lost, page.start.number) == (0, 2)
            [place] = self.append(6 + count)
            assert place.number == 6 + count
            assert place.tag != stored[0].tag, "something may be lost"
            page = self.read(since=stored[1])
            assert (page.lost, ids(page.events)) == (0, list(range(3, 7 + count)))

    def test_of_an_epoch_that_is_long_gone_only_the_time_is_known(self) -> None:
        [place, _] = self.append(1, 2)
        for number in range(3, 8):
            self.restart()
            self.append(number)
        page = self.read(since=place)
        assert (page.lost, ids(page.events)) == (0, list(range(1, 8))), "with the overlap"
        before = Place(self.now() - 60_000, 1, place.tag)
        assert self.read(since=before).lost == LOST_UNKNOWN

    def test_a_redis_with_fewer_events_than_are_known_has_lost_some(self) -> None:
        stored = self.append(*range(1, 6))
        self.restart(keeps=3)
        assert self.read(since=stored[0]).lost == LOST_UNKNOWN
        [place] = self.append(9)
        assert place.number == 4
        assert self.read(since=stored[4]).lost == LOST_UNKNOWN
        assert self.read(since=place).lost == 0

    def test_events_that_redis_has_evicted_are_told(self) -> None:
        stored = self.append(*range(1, 6))
        self.server.client.delete(f"{PREFIX}history:{RED}")
        page = self.read(since=stored[1])
        assert (page.lost, page.events) == (3, ())
        assert self.append(6)[0].number == 6

    def test_a_topic_of_which_redis_has_evicted_a_part_is_told(self) -> None:
        stored = self.append(*range(1, 6))
        self.server.client.delete(f"{PREFIX}history-meta:{RED}")
        assert self.read(since=stored[1]).lost == LOST_UNKNOWN
        [place] = self.append(6)
        assert place.tag != stored[0].tag
        assert self.read(since=stored[1]).lost == LOST_UNKNOWN
        assert self.lost_since(stored[1].at)[0] == LOST_UNKNOWN
        assert ids(self.read().events) == [6]

    def test_more_events_than_may_wait_are_refused(self) -> None:
        too_many = entries(*range(SETTINGS.waiting_events + 1))
        with pytest.raises(Unavailable):
            self.get(self.history.append(too_many))
        assert self.append(1)[0].number == 1


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
