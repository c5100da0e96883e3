"""The routing table in a real Redis, and what it does when that is away."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from rtdeliver.config.sections import Redis
from rtdeliver.errors import Unavailable
from rtdeliver.interfaces import IRoutingTable
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import parse_redis_url
from rtdeliver.routing.redis import RedisRoutingTable
from rtdeliver.routing.sharded import ShardedRoutingTable
from tests.contracts.routing_table import (
    GREEN,
    N1,
    N1_AGAIN,
    N2,
    RED,
    RoutingTableContract,
    announcement,
)
from tests.integration.redis_server import RedisServer

pytestmark = pytest.mark.waits

PREFIX = "test:"
GRACE_SECONDS = 5.0


@implementer(IReactorTime)
class LeapingClock:
    """The reactor's clock, which can be set forward."""

    def __init__(self) -> None:
        self._ahead_seconds = 0.0

    def seconds(self) -> float:
        return float(reactor.seconds()) + self._ahead_seconds

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall:
        return reactor.callLater(delay, callable, *args, **kwargs)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        return reactor.getDelayedCalls()

    def advance(self, seconds: float) -> None:
        self._ahead_seconds += seconds


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Let the reactor run until ``condition()`` is true, or fail."""
    for _ in range(3000):
        if condition():
            return
        pytest_twisted.blockon(deferLater(reactor, 0.02))
    raise AssertionError(f"waited 60 s in vain until {what}")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def clock() -> LeapingClock:
    return LeapingClock()


MakeTable = Callable[..., RedisRoutingTable]


@pytest.fixture
def make_table(server: RedisServer, clock: LeapingClock) -> Iterator[MakeTable]:
    started: list[IRoutingTable] = []

    def make(of: RedisServer = server, prefix: str = PREFIX, **settings: Any) -> RedisRoutingTable:
        address = parse_redis_url(of.url)
        routing_table = RedisRoutingTable(
            endpoint=redis_endpoint(reactor, address, Redis()),
            address=address,
            settings=Redis(
                **{
                    "prefix": prefix,
                    "reconnect_seconds": 0.2,
                    "grace_seconds": GRACE_SECONDS,
                    "cached_topics": 1000,
                    **settings,
                },
            ),
            clock=clock,
        )
        routing_table.start()
        started.append(routing_table)
        wait_until(lambda: not routing_table.missing(), "Redis is reached")
        return routing_table

    yield make
    for routing_table in started:
        pytest_twisted.blockon(routing_table.stop())


def get(deferred: Deferred[Any]) -> Any:
    return pytest_twisted.blockon(deferred)


def routed(table: IRoutingTable, topic: Topic) -> set[FrontendRef]:
    """Where the events of ``topic`` go."""
    return set(get(table.route(topic)).frontends)


class _OnRedis(RoutingTableContract):
    servers: list[RedisServer]
    clock: LeapingClock

    def setUp(self) -> None:
        """Left to the fixtures."""

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for server in self.servers:
            leases = {key: server.client.pttl(key) for key in server.client.scan_iter("*node:*")}
            for key, milliseconds in leases.items():
                left = milliseconds - round(seconds * 1000)
                if left > 0:
                    server.client.pexpire(key, left)
                else:
                    server.client.delete(key)

    def get(self, deferred: Deferred[Any]) -> Any:
        return get(deferred)

    def settle(self, condition: Callable[[], object]) -> None:
        wait_until(condition, "it is as expected")


class TestRedisRoutingTable(_OnRedis):
    """The contract, on one Redis."""

    implementation = RedisRoutingTable

    @pytest.fixture(autouse=True)
    def _routing_table(
        self, server: RedisServer, clock: LeapingClock, make_table: MakeTable
    ) -> None:
        server.client.flushall()
        self.servers, self.clock, self.routing_table = [server], clock, make_table()


class TestShardedRoutingTable(_OnRedis):
    """The contract, on three, which are three prefixes of the same server."""

    implementation = ShardedRoutingTable

    @pytest.fixture(autouse=True)
    def _routing_table(
        self, server: RedisServer, clock: LeapingClock, make_table: MakeTable
    ) -> None:
        server.client.flushall()
        self.servers, self.clock = [server], clock
        self.routing_table = ShardedRoutingTable(
            {name: make_table(prefix=f"{PREFIX}{name}:") for name in ("a", "b", "c")}
        )


class TestCache:
    @pytest.fixture(autouse=True)
    def _empty(self, server: RedisServer) -> None:
        server.client.flushall()

    def test_a_row_is_read_once(self, server: RedisServer, make_table: MakeTable) -> None:
        routing_table = make_table()
        get(routing_table.apply(announcement(N1, {RED: 1}, full=True)))
        get(routing_table.route(RED))
        before = server.client.info("stats")["total_commands_processed"]
        for _ in range(100):
            assert routed(routing_table, RED) == {N1}
        assert server.client.info("stats")["total_commands_processed"] - before < 50

    def test_another_dispatcher_hears_of_a_change(self, make_table: MakeTable) -> None:
        writing, reading = make_table(), make_table()
        assert routed(reading, RED) == set()
        get(writing.apply(announcement(N1, {RED: 1}, full=True)))
        wait_until(lambda: routed(reading, RED) == {N1}, "it is subscribed of")
        get(writing.apply(announcement(N1, {RED: 0})))
        wait_until(lambda: routed(reading, RED) == set(), "it is subscribed of")

    def test_another_dispatcher_hears_of_another_incarnation(self, make_table: MakeTable) -> None:
        writing, reading = make_table(), make_table()
        get(writing.apply(announcement(N1, {RED: 1}, full=True)))
        assert routed(reading, RED) == {N1}
        get(writing.apply(announcement(N1_AGAIN, {RED: 1}, full=True)))
        wait_until(lambda: routed(reading, RED) == {N1_AGAIN}, "it is subscribed of")

    def test_the_cache_is_bounded(self, make_table: MakeTable) -> None:
        routing_table = make_table(cached_topics=2)
        get(routing_table.apply(announcement(N1, {RED: 1, GREEN: 1}, full=True)))
        for number in range(10):
            get(routing_table.route(Topic(f"topic:{number}")))
        assert routed(routing_table, RED) == {N1}
        assert len(routing_table._rows) == 2

    def test_dead_rows_are_cleaned_up_on_sight(
        self, server: RedisServer, make_table: MakeTable
    ) -> None:
        routing_table = make_table()
        get(routing_table.apply(announcement(N1, {RED: 1, GREEN: 1}, full=True)))
        get(routing_table.apply(announcement(N2, {RED: 1}, full=True)))
        server.client.delete(f"{PREFIX}node:n1")
        reading = make_table()
        assert routed(reading, RED) == {N2}
        wait_until(lambda: not server.client.exists(f"{PREFIX}row:{GREEN}"), "all are taken out")
        assert server.client.smembers(f"{PREFIX}nodes") == {"n2"}

    def test_who_ask_while_a_row_is_read_go_on_in_their_order(self, make_table: MakeTable) -> None:
        routing_table = make_table()
        order: list[int] = []

        def note(_: object, number: int) -> None:
            order.append(number)

        asked = [routing_table.route(RED).addCallback(note, n) for n in range(5)]
        for answer in asked:
            get(answer)
        assert order == [0, 1, 2, 3, 4]


class TestLoss:
    """Redis dies, hangs, and comes back."""

    @pytest.fixture
    def own(self) -> Iterator[RedisServer]:
        with RedisServer(password="s3cret") as own:
            yield own

    def test_without_redis_what_is_not_cached_is_unavailable(
        self, own: RedisServer, make_table: MakeTable
    ) -> None:
        routing_table = make_table(own)
        get(routing_table.apply(announcement(N1, {RED: 1}, full=True)))
        get(routing_table.route(RED))
        own.kill()
        wait_until(routing_table.missing, "the loss is noticed")
        for asked in (
            routing_table.route(GREEN),
            routing_table.viewers(RED),
            routing_table.nodes(),
            routing_table.apply(announcement(N1, {})),
            routing_table.forget(N1),
        ):
            with pytest.raises(Unavailable):
                get(asked)

    def test_cached_rows_are_served_all_the_while(
        self, own: RedisServer, make_table: MakeTable
    ) -> None:
        routing_table = make_table(own)
        get(routing_table.apply(announcement(N1, {RED: 1}, full=True)))
        get(routing_table.route(RED))
        own.kill()
        wait_until(routing_table.missing, "the loss is noticed")
        assert routed(routing_table, RED) == {N1}
        own.start()
        wait_until(lambda: not routing_table.missing(), "Redis is back")
        # It is empty, and the frontend has not announced anew.
        assert routed(routing_table, RED) == {N1}

    def test_after_a_loss_a_frontend_that_announces_all_anew_is_believed(
        self, own: RedisServer, make_table: MakeTable
    ) -> None:
        routing_table = make_table(own)
        get(routing_table.apply(announcement(N1, {RED: 1, GREEN: 1}, full=True, sequence=1)))
        get(routing_table.route(RED))
        get(routing_table.route(GREEN))
        own.kill()
        wait_until(routing_table.missing, "the loss is noticed")
        own.start()
        wait_until(lambda: not routing_table.missing(), "Redis is back")
        assert not get(routing_table.apply(announcement(N1, {}, sequence=2))).known
        assert routed(routing_table, RED) == {N1}
        assert get(routing_table.apply(announcement(N1, {GREEN: 1}, full=True, sequence=3))).known
        assert routed(routing_table, RED) == set()
        assert routed(routing_table, GREEN) == {N1}

    def test_after_a_loss_a_frontend_that_stays_away_is_given_up(
        self, own: RedisServer, clock: LeapingClock, make_table: MakeTable
    ) -> None:
        routing_table = make_table(own)
        get(routing_table.apply(announcement(N1, {RED: 1}, full=True)))
        get(routing_table.route(RED))
        own.kill()
        wait_until(routing_table.missing, "the loss is noticed")
        own.start()
        wait_until(lambda: not routing_table.missing(), "Redis is back")
        clock.advance(GRACE_SECONDS)
        assert routed(routing_table, RED) == set()

    def test_changes_while_it_did_not_hear_are_seen_afterwards(
        self, own: RedisServer, make_table: MakeTable
    ) -> None:
        routing_table, other = make_table(own), make_table(own)
        get(other.apply(announcement(N1, {RED: 1}, full=True)))
        get(routing_table.route(RED))
        own.client.client_kill_filter(_type="pubsub")
        get(other.apply(announcement(N1, {RED: 0})))
        wait_until(lambda: not routing_table.missing(), "it is_subscribed again")
        wait_until(lambda: routed(routing_table, RED) == set(), "the change is seen")

    def test_a_redis_that_hangs_is_unavailable_in_time(
        self, own: RedisServer, make_table: MakeTable
    ) -> None:
        routing_table = make_table(own, command_seconds=1.0)
        get(routing_table.apply(announcement(N1, {RED: 1}, full=True)))
        get(routing_table.route(RED))
        own.pause()
        with pytest.raises(Unavailable):
            get(routing_table.route(GREEN))
        wait_until(routing_table.missing, "the loss is noticed")
        assert routed(routing_table, RED) == {N1}
        own.resume()
        wait_until(lambda: not routing_table.missing(), "Redis is back")
        assert routed(routing_table, RED) == {N1}

    def test_a_wrong_password_is_unavailable(self, own: RedisServer, clock: LeapingClock) -> None:
        address = parse_redis_url(own.url)
        routing_table = RedisRoutingTable(
            endpoint=redis_endpoint(reactor, address, Redis()),
            address=msgspec.structs.replace(address, password="wrong"),
            settings=Redis(
                prefix=PREFIX,
                command_seconds=1.0,
                reconnect_seconds=0.2,
                grace_seconds=GRACE_SECONDS,
            ),
            clock=clock,
        )
        routing_table.start()
        with pytest.raises(Unavailable):
            get(routing_table.route(RED))
        assert routing_table.missing()
        get(routing_table.stop())


def test_the_text_of_a_script_is_sent_once_and_again_when_redis_has_forgotten_it(
    server: RedisServer, make_table: MakeTable
) -> None:
    server.client.flushall()
    routing_table = make_table()
    texts = []
    for forget in (server.client.config_resetstat, server.client.script_flush):
        forget()
        for count in (1, 2, 3):
            get(routing_table.apply(announcement(N1, {RED: count})))
            assert get(routing_table.viewers(RED)) == {N1.node: count}
        texts.append(server.client.info("commandstats")["cmdstat_eval"]["calls"])
    # There are two scripts: one changes rows, the other reads one.
    assert texts == [2, 4]


def test_a_node_of_one_shard_alone_is_not_listed(
    server: RedisServer, make_table: MakeTable
) -> None:
    server.client.flushall()
    shards = {name: make_table(prefix=f"{PREFIX}{name}:") for name in ("a", "b")}
    routing_table = ShardedRoutingTable(shards)
    get(routing_table.apply(announcement(N1, {RED: 1}, full=True)))
    get(shards["a"].apply(announcement(N2, {RED: 1}, full=True)))
    assert [status.frontend for status in get(routing_table.nodes())] == [N1]


def test_a_frontends_topics_are_spread_and_added_up(
    server: RedisServer, make_table: MakeTable
) -> None:
    server.client.flushall()
    shards = {name: make_table(prefix=f"{PREFIX}{name}:") for name in ("a", "b", "c")}
    routing_table = ShardedRoutingTable(shards)
    counts = {Topic(f"topic:{number}"): number for number in range(1, 301)}
    get(routing_table.apply(announcement(N1, counts, full=True)))
    shares = [get(shard.nodes())[0].topics for shard in shards.values()]
    assert sum(shares) == 300
    assert min(shares) > 50
    [status] = get(routing_table.nodes())
    assert (status.topics, status.viewers) == (300, sum(range(1, 301)))
    assert FrontendRef(node="n1", url=N1.url, incarnation="first") == status.frontend
