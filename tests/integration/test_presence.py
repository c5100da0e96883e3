"""Presence on a real Redis, and with several dispatchers, one of which is killed."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rtdeliver.config.sections import Redis
from rtdeliver.interfaces import IPresenceStore
from rtdeliver.model import Member
from rtdeliver.presence.redis import RedisPresenceStore
from rtdeliver.presence.sharded import ShardedPresenceStore
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import parse_redis_url
from tests.contracts.presence_store import ANN, BOB, CYD, GONE_SECONDS, TIMES, PresenceStoreContract
from tests.integration.clusters import QUICK, running_cluster
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer, text
from tests.integration.roles import HTTP, RoleProcess, combined, eventually, metrics
from tests.integration.streams import Viewers

PREFIX = "test:"
# A heartbeat each second would be due; none for five seconds, and a member is gone.
PRESENCE = {
    "presence.heartbeat_seconds": 1,
    "presence.grace_seconds": 2,
    "presence.sweep_seconds": 0.3,
    "presence.claim_seconds": 1,
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def connection(server: RedisServer, prefix: str) -> RedisConnection:
    address = parse_redis_url(server.url)
    return RedisConnection(
        endpoint=redis_endpoint(reactor, address, Redis()),
        address=address,
        settings=Redis(prefix=prefix, reconnect_seconds=0.2),
        clock=reactor,
        channels={},
        lost=lambda: None,
        unsubscribed=lambda: None,
        subscribed=lambda: None,
    )


class _OnRedis(PresenceStoreContract):
    prefixes: tuple[str, ...]

    @pytest.fixture(autouse=True)
    def _store(self, server: RedisServer) -> Iterator[None]:
        server.client.flushall()
        self.server = server
        connections = {prefix: connection(server, prefix) for prefix in self.prefixes}
        for each in connections.values():
            each.start()
        for _ in range(3000):
            if all(each.reachable for each in connections.values()):
                break
            pytest_twisted.blockon(deferLater(reactor, 0.02))
        self.store = self.new_store(
            {
                prefix: RedisPresenceStore(redis=each, settings=TIMES)
                for prefix, each in connections.items()
            }
        )
        yield
        for each in connections.values():
            pytest_twisted.blockon(Deferred.fromCoroutine(each.stop()))

    def setUp(self) -> None:
        """Left to the fixture."""

    def new_store(self, stores: dict[str, RedisPresenceStore]) -> IPresenceStore:
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Move what is awaited towards now, since the clock of Redis cannot be set."""
        milliseconds = round(seconds * 1000)
        client = self.server.client
        for key in client.scan_iter("*member:*"):
            for field in ("heartbeat", "ends", "claimed"):
                if float(text(client.hget(key, field))):
                    client.hincrby(key, field, -milliseconds)
        for prefix in self.prefixes:
            for member in client.zrange(f"{prefix}members", 0, -1):
                assert isinstance(member, str)
                client.zincrby(f"{prefix}members", -milliseconds, member)

    def get(self, deferred: Deferred[Any]) -> Any:
        return pytest_twisted.blockon(deferred)


@pytest.mark.waits
class TestRedisPresenceStore(_OnRedis):
    """The contract, on one Redis."""

    implementation = RedisPresenceStore
    prefixes = (PREFIX,)

    def new_store(self, stores: dict[str, RedisPresenceStore]) -> IPresenceStore:
        return stores[PREFIX]

    def test_nothing_is_left_of_who_is_gone(self) -> None:
        self.come(ANN, BOB, CYD)
        self.advance(GONE_SECONDS + 1)
        gone = self.sweep()
        assert len(gone) == 3
        for key in self.server.client.scan_iter("*"):
            assert self.server.client.pttl(key) > 0, f"{key} would stay for ever"
        self.tell(gone)
        assert set(self.server.client.keys()) <= {f"{PREFIX}probe"}


@pytest.mark.waits
class TestShardedPresenceStore(_OnRedis):
    """The contract, on three, which are three prefixes of the same server."""

    implementation = ShardedPresenceStore
    prefixes = ("a:", "b:", "c:")

    def new_store(self, stores: dict[str, RedisPresenceStore]) -> IPresenceStore:
        return ShardedPresenceStore(stores)

    def test_a_sweep_is_bounded_and_says_when_to_come_again(self) -> None:
        """Each shard has the bound for itself."""
        members = tuple(Member(f"m{number}") for number in range(30))
        self.come(*members)
        self.advance(GONE_SECONDS + 1)
        swept = self.get(self.store.sweep(2))
        assert len(swept.changes) == 6
        assert swept.next_seconds == 0


def beat(role: RoleProcess, *members: str, listener: str = "listen") -> httpx.Response:
    return HTTP.post(f"{role.url(listener)}/presence", json={"members": members})


def online(role: RoleProcess, member: str, listener: str = "listen") -> bool:
    [answer] = HTTP.get(f"{role.url(listener)}/presence", params={"member": member}).json()
    assert answer["member"] == member
    return bool(answer["online"])


def test_one_of_two_dispatchers_tells_that_a_member_is_gone_though_the_other_was_killed(
    server: RedisServer, write_config: WriteConfig
) -> None:
    server.client.flushall()
    options = [*write_config({**QUICK, **PRESENCE}), "--redis", server.url]
    with (
        Viewers() as viewers,
        running_cluster([options, options], [options[:2], options[:2]]) as cluster,
    ):
        first, second = cluster.dispatchers
        streams = [
            viewers.connect(node.url("public"), "presence:ann", "presence:bob")
            for node in cluster.frontends
        ]
        cluster.wait_routed("presence:ann", n1=1, n2=1)
        assert beat(first, "ann", "bob").status_code == 200
        for role in (first, second, first, second):
            assert online(role, "ann")
            assert not online(role, "cyd")
            # Whichever dispatcher is_subscribed it.
            assert beat(role, "ann", "bob").status_code == 200
        viewers.wait(lambda: all(len(stream.events) == 2 for stream in streams), "both came")
        first.stop()
        viewers.wait(lambda: all(len(stream.events) == 4 for stream in streams), "both went")
        assert not online(second, "ann")
        # Neither comes back, and nobody tells it again.
        assert beat(second, "ann").status_code == 200
        viewers.wait(lambda: all(len(stream.events) == 6 for stream in streams), "ann again")
        for stream in streams:
            for member, times in (("ann", 2), ("bob", 1)):
                told = [
                    event["data"]["status"]
                    for event in stream.events
                    if event["data"]["member"] == member
                ]
                assert told == ["online", "offline"] * times


def test_two_dispatchers_tell_each_change_once(
    server: RedisServer, write_config: WriteConfig
) -> None:
    server.client.flushall()
    options = [*write_config({**QUICK, **PRESENCE}), "--redis", server.url]
    members = [f"m{number}" for number in range(50)]
    with Viewers() as viewers, running_cluster([options, options], [options[:2]]) as cluster:
        stream = viewers.connect(
            cluster.frontends[0].url("public"), *(f"presence:{member}" for member in members)
        )
        cluster.wait_routed("presence:m0", n1=1)
        for role in cluster.dispatchers:
            assert beat(role, *members).status_code == 200
        viewers.wait(lambda: len(stream.events) == 100, "all came and went")
        for member in members:
            told = [
                event["data"]["status"]
                for event in stream.events
                if event["topic"] == f"presence:{member}"
            ]
            assert told == ["online", "offline"]
        published = sum(
            metrics(role, "listen")[f'rtdeliver_presence_changes_total{{status="{status}"}}']
            for role in cluster.dispatchers
            for status in ("online", "offline")
        )
        assert published == 100


def test_a_heartbeat_that_says_its_interval_is_waited_for_so_long(
    write_config: WriteConfig,
) -> None:
    with combined(*write_config(PRESENCE)) as role:
        answer = HTTP.post(
            f"{role.url('internal')}/presence", json={"members": ["ann"], "heartbeat_seconds": 3600}
        )
        assert answer.json() == {"heartbeat_seconds": 3600}
        assert beat(role, "bob", listener="internal").json() == {"heartbeat_seconds": 1}
        eventually(lambda: not online(role, "bob", "internal"), "bob is gone")
        assert online(role, "ann", "internal")


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"{", 400, "bad_json"),
        (b"{}", 400, "bad_request"),
        (b'{"members":"ann"}', 400, "bad_request"),
        (b'{"members":[""]}', 400, "bad_request"),
        (b'{"members":["a\\u0000"]}', 400, "bad_request"),
        (b'{"members":["ann"],"heartbeat_seconds":0}', 400, "bad_request"),
        (b'{"members":["ann"],"heartbeat_seconds":1e9}', 400, "bad_request"),
        (b'{"members":[%b]}' % b",".join([b'"a"'] * 1001), 413, "too_large"),
    ],
)
def test_bad_heartbeats_are_refused(
    role: RoleProcess, body: bytes, status: int, error: str
) -> None:
    answer = HTTP.post(
        f"{role.url('internal')}/presence",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["error"]) == (status, error)


@pytest.mark.parametrize("query", ["", "?member=", "?member=a%00", "?" + "member=a&" * 1001])
def test_bad_questions_are_refused(role: RoleProcess, query: str) -> None:
    answer = HTTP.get(f"{role.url('internal')}/presence{query}")
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")


def test_presence_without_redis_is_unavailable() -> None:
    with (
        RedisServer() as own,
        combined("--redis", own.url) as role,
    ):
        eventually(
            lambda: beat(role, "ann", listener="internal").status_code == 200, "Redis is reached"
        )
        own.kill()
        answer = beat(role, "ann", listener="internal")
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
        answer = HTTP.get(f"{role.url('internal')}/presence?member=ann")
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")


@pytest.fixture(scope="module")
def role() -> Iterator[RoleProcess]:
    with combined() as role:
        yield role
