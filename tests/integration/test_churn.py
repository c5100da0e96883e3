"""Viewers come, change what they watch, and go: what the dispatchers know is exact in the end."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import pytest

from tests.integration.clusters import PREFIX, QUICK, Cluster, running_cluster
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer, text
from tests.integration.roles import DEADLINE_SECONDS, eventually
from tests.integration.streams import Stream, Viewers

TOPICS = [f"live:{number}" for number in range(200)]
NODES = ("n1", "n2")
VIEWERS = 500
THREADS = 8
STEPS = 1000


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def cluster(server: RedisServer, write_config: WriteConfig) -> Iterator[Cluster]:
    # Nothing fails here, so a busy machine may take its time.
    config = write_config({**QUICK, "redis.command_seconds": 10, "http.request_seconds": 20})
    with running_cluster([["--redis", server.url, *config]] * 2, [config] * 2) as cluster:
        yield cluster


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


class Visitor(msgspec.Struct):
    """A viewer, and what it has been told that it watches."""

    node: str
    stream: Stream
    topics: set[str]


class Crowd:
    """Visitors of one thread, which do one thing after the other.

    :param begun: how many visitors there are at first, and about how many later.
    """

    def __init__(self, cluster: Cluster, viewers: Viewers, *, begun: int, seed: int) -> None:
        self.visitors: list[Visitor] = []
        self.done: Counter[str] = Counter()
        self._begun = begun
        self._cluster = cluster
        self._viewers = viewers
        self._random = random.Random(seed)
        self._client = httpx.Client(timeout=DEADLINE_SECONDS)
        for _ in range(begun):
            self.connect()

    def churn(self, count: int) -> None:
        """Come, change and go at random, ``count`` times."""
        steps = [self.connect, self.leave, self.add, self.add, self.remove, self.exchange]
        for _ in range(count):
            step = self._random.choice(steps)
            if step == self.leave and len(self.visitors) < self._begun:
                step = self.connect
            step()
            self.done[step.__name__] += 1

    def connect(self) -> None:
        number = self._random.randrange(len(NODES))
        topics = self._some(self._random.randrange(4))
        stream = self._viewers.connect(self._cluster.frontends[number].url("public"), *topics)
        assert stream.frames[0].data["topics"] == sorted(topics)
        self.visitors.append(Visitor(NODES[number], stream, set(topics)))

    def leave(self) -> None:
        routing_table = self._random.randrange(len(self.visitors))
        self.visitors[routing_table], visitor = self.visitors[-1], self.visitors[routing_table]
        self.visitors.pop()
        self._viewers.close(visitor.stream)

    def add(self) -> None:
        """Watch more, and receive what is published from then on, wherever."""
        visitor = self._random.choice(self.visitors)
        topics = self._some(1 + self._random.randrange(3))
        self._change(visitor, add=topics)
        number = self._random.randrange(2)
        answer = self._client.post(
            self._cluster.url(number) + "/publish", json={"topic": topics[0], "data": "at once"}
        )
        assert answer.status_code == 202
        id = answer.json()["id"]
        self._viewers.wait(
            lambda: any(frame.id == id for frame in reversed(visitor.stream.frames)),
            f"{id} of dispatcher {number} came",
        )

    def remove(self) -> None:
        visitor = self._random.choice(self.visitors)
        self._change(visitor, remove=sorted(visitor.topics)[:2])

    def exchange(self) -> None:
        visitor = self._random.choice(self.visitors)
        self._change(visitor, add=self._some(2), remove=self._some(5))

    def close(self) -> None:
        """All leave."""
        while self.visitors:
            self.leave()
        self._client.close()

    def _change(self, visitor: Visitor, *, add: list[str] = [], remove: list[str] = []) -> None:  # noqa: B006
        answer = self._client.post(
            f"{visitor.stream.url}/connections/{visitor.stream.connection}/topics",
            json={"add": add, "remove": remove},
        )
        visitor.topics = (visitor.topics - set(remove)) | set(add)
        assert answer.status_code == 200, answer.text
        assert answer.json()["topics"] == sorted(visitor.topics)

    def _some(self, count: int) -> list[str]:
        return self._random.sample(TOPICS, count)


def tables(visitors: list[Visitor]) -> dict[str, dict[str, int]]:
    """The sum of what the visitors watch: viewers by topic and node."""
    counts = Counter((topic, visitor.node) for visitor in visitors for topic in visitor.topics)
    rows: dict[str, dict[str, int]] = {}
    for (topic, node), count in counts.items():
        rows.setdefault(topic, {})[node] = count
    return rows


def rows_in(server: RedisServer) -> dict[str, dict[str, int]]:
    """The rows as Redis has them."""
    client = server.client
    begin = f"{PREFIX}row:"
    return {
        key.removeprefix(begin): {text(node): int(n) for node, n in client.hgetall(key).items()}
        for key in client.scan_iter(f"{begin}*")
    }


def topics_in(server: RedisServer) -> dict[str, set[str]]:
    """The topics of each node as Redis has them."""
    client = server.client
    begin = f"{PREFIX}topics:"
    return {
        key.removeprefix(begin): set(map(text, client.smembers(key)))
        for key in client.scan_iter(f"{begin}*")
    }


def assert_told(cluster: Cluster, rows: dict[str, dict[str, int]]) -> None:
    """Assert that both dispatchers tell just what is in ``rows``."""
    for number in (0, 1):
        for topic in TOPICS:
            row = rows.get(topic, {})
            assert cluster.told(number, topic) == {
                "topic": topic,
                "viewers": sum(row.values()),
                "frontends": sorted(row),
            }
        listed = cluster.nodes(number)
        assert list(listed) == list(NODES)
        for node in NODES:
            counts = [row[node] for row in rows.values() if node in row]
            told = (listed[node]["topics"], listed[node]["viewers"])
            assert told == (len(counts), sum(counts))


def test_after_much_coming_and_going_the_routing_table_is_the_sum_of_the_tables(
    server: RedisServer, cluster: Cluster, viewers: Viewers
) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        crowds = list(
            threads.map(
                lambda seed: Crowd(cluster, viewers, begun=VIEWERS // THREADS, seed=seed),
                range(THREADS),
            )
        )
        for _ in threads.map(lambda crowd: crowd.churn(STEPS), crowds):
            pass
    done = sum((crowd.done for crowd in crowds), Counter[str]())
    assert min(done[step] for step in ("connect", "leave", "add", "remove", "exchange")) > 50

    visitors = [visitor for crowd in crowds for visitor in crowd.visitors]
    expected = tables(visitors)
    eventually(lambda: rows_in(server) == expected, "the rows are the sum of the tables")
    assert topics_in(server) == {
        node: {topic for topic, row in expected.items() if node in row} for node in NODES
    }
    assert_told(cluster, expected)

    starts = [len(visitor.stream.frames) for visitor in visitors]
    for number, topic in enumerate(TOPICS):
        assert cluster.publish(number % 2, topic, "last").status_code == 202
    for visitor, start in zip(visitors, starts, strict=True):
        viewers.wait(
            lambda v=visitor, start=start: len(v.stream.frames) - start >= len(v.topics),  # type: ignore[misc]
            "all that it watches came",
        )
    for visitor, start in zip(visitors, starts, strict=True):
        received = [frame.data["topic"] for frame in visitor.stream.frames[start:]]
        assert sorted(received) == sorted(visitor.topics)
    for number in (0, 1):
        assert cluster.dropped(number) == {}
        # What waited for a viewer who left, or watched it no more.
        assert cluster.dropped_at_frontend(number).keys() <= {"closed", "unsubscribed"}

    for crowd in crowds:
        crowd.close()
    eventually(lambda: rows_in(server) == {}, "there are no rows")
    assert topics_in(server) == {}
    assert_told(cluster, {})
    # What a dispatcher has tried to write goes by itself.
    assert {key.removeprefix(PREFIX) for key in server.client.scan_iter("*")} - {"probe"} == {
        "nodes",
        "revocations:store",
        "table",
        "node:n1",
        "node:n2",
    }
    for role in cluster.frontends:
        role.stop()
    eventually(lambda: not list(server.client.scan_iter(f"{PREFIX}node:*")), "the leases are over")
