"""Occupancy of topics on a real Redis, with two dispatchers, and frontends that die."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rtdeliver.config.sections import Redis
from rtdeliver.interfaces import IOccupancyStore
from rtdeliver.occupancy.redis import RedisOccupancyStore
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import parse_redis_url
from rtdeliver.routing.redis import RedisRoutingTable
from tests.contracts.occupancy_store import TIMES, OccupancyStoreContract
from tests.integration.clusters import QUICK, Cluster, running_cluster
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import combined, eventually
from tests.integration.streams import Stream, Viewers
from tests.occupancy.test_stores import announcement

PREFIX = "test:"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.waits
class TestRedisOccupancyStore(OccupancyStoreContract):
    implementation = RedisOccupancyStore

    @pytest.fixture(autouse=True)
    def _store(self, server: RedisServer) -> Iterator[None]:
        server.client.flushall()
        self.server = server
        address = parse_redis_url(server.url)
        self.table = RedisRoutingTable(
            endpoint=redis_endpoint(reactor, address, Redis()),
            address=address,
            settings=Redis(prefix=PREFIX, reconnect_seconds=0.2),
            clock=reactor,
        )
        self.table.start()
        for _ in range(3000):
            if not self.table.missing():
                break
            pytest_twisted.blockon(deferLater(reactor, 0.02))
        self.store: IOccupancyStore = RedisOccupancyStore(redis=self.table.redis, settings=TIMES)
        yield
        pytest_twisted.blockon(self.table.stop())

    def setUp(self) -> None:
        """Left to the fixture."""

    def announce(self, node: str, **viewers: int) -> None:
        self.get(self.table.apply(announcement(node, viewers)))

    def advance(self, seconds: float) -> None:
        """Move what is awaited towards now, since the clock of Redis cannot be set."""
        milliseconds = round(seconds * 1000)
        client = self.server.client
        for key in client.scan_iter(f"{PREFIX}occupancy:*"):
            if int(client.hget(key, "claimed") or 0):
                client.hincrby(key, "claimed", -milliseconds)
        for topic in client.zrange(f"{PREFIX}occupied", 0, -1):
            assert isinstance(topic, str)
            client.zincrby(f"{PREFIX}occupied", -milliseconds, topic)
        for key in client.scan_iter(f"{PREFIX}node:*"):
            client.pexpire(key, max(0, client.pttl(key) - milliseconds))

    def get(self, deferred: Deferred[Any]) -> Any:
        return pytest_twisted.blockon(deferred)

    def test_nothing_is_left_of_what_is_vacated(self) -> None:
        self.occupy()
        for key in self.server.client.scan_iter(f"{PREFIX}occup*"):
            assert self.server.client.pttl(key) > 0, f"{key} would stay for ever"
        self.announce("n1", red=0)
        self.tell(self.check(*self.server_topics()))
        self.advance(TIMES.recheck_seconds + 0.1)
        assert self.sweep() == []
        assert list(self.server.client.scan_iter(f"{PREFIX}occup*")) == []

    def server_topics(self) -> list[Any]:
        return list(self.server.client.zrange(f"{PREFIX}occupied", 0, -1))


@pytest.fixture(scope="module")
def config(write_config: WriteConfig) -> list[str]:
    settings = {
        "topics.occupancy": ["live:*"],
        "topics.recheck_seconds": 0.5,
        "topics.sweep_seconds": 0.2,
        "topics.claim_seconds": 1,
    }
    return list(write_config({**QUICK, **settings}))


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


def told(stream: Stream) -> list[str]:
    return [event["type"] for event in stream.events]


def test_each_change_is_told_once_whichever_dispatchers_hear_of_it(
    server: RedisServer, config: list[str], viewers: Viewers
) -> None:
    server.client.flushall()
    options = ["--redis", server.url, *config]
    with running_cluster([options] * 2, [config] * 2) as cluster:
        watchers = [
            viewers.connect(role.url("public"), "occupancy:live:red") for role in cluster.frontends
        ]
        cluster.wait_routed("occupancy:live:red", n1=1, n2=1)
        wait_for_leases(cluster, viewers)
        streams = [viewers.connect(role.url("public"), "live:red") for role in cluster.frontends]
        viewers.wait(lambda: told(watchers[0]) == ["occupied"], "it is occupied")
        for stream in streams:
            viewers.close(stream)
        viewers.wait(lambda: told(watchers[0]) == ["occupied", "vacated"], "it is vacated")
        assert watchers[0].events[0]["data"] == {"topic": "live:red"}
        viewers.connect(cluster.frontends[1].url("public"), "live:red")
        viewers.wait(lambda: len(told(watchers[0])) == 3, "it is occupied again")
        cluster.frontends[1].signal(signal.SIGKILL)
        cluster.frontends[1].wait()
        viewers.wait(lambda: len(told(watchers[0])) == 4, "its frontend has died")
        assert told(watchers[0]) == ["occupied", "vacated", "occupied", "vacated"]
        assert told(watchers[1])[:3] == ["occupied", "vacated", "occupied"]


def wait_for_leases(cluster: Cluster, viewers: Viewers) -> None:
    """Wait until dispatchers that have just started tell that a topic is vacated."""
    url = cluster.frontends[0].url("public")
    watcher = viewers.connect(url, "occupancy:live:first")
    cluster.wait_routed("occupancy:live:first", n1=1)
    viewers.close(viewers.connect(url, "live:first"))
    viewers.wait(lambda: told(watcher)[-1:] == ["vacated"], "topics are vacated")


def test_in_one_process_it_is_told_too(config: list[str], viewers: Viewers) -> None:
    with combined(*config) as role:
        watcher = viewers.connect(role.url("public"), "occupancy:live:x", "occupancy:chat")
        viewers.connect(role.url("public"), "chat")
        stream = viewers.connect(role.url("public"), "live:x")
        viewers.wait(lambda: told(watcher) == ["occupied"], "it is occupied")
        viewers.close(stream)
        viewers.wait(lambda: told(watcher) == ["occupied", "vacated"], "it is vacated")
        eventually(lambda: role.output.count("Traceback") == 0, "all is well")
