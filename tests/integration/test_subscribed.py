"""What a confirmed subscription promises, while dispatchers and Redis do their worst."""

import itertools
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.campaign.network import Mode, Network
from tests.integration.clusters import (
    PREFIX,
    QUICK,
    Cluster,
    Producer,
    lost_in_gaps,
    numbers,
    running_cluster,
)
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import HTTP, LOOPBACK, RoleProcess, eventually
from tests.integration.streams import Viewers

ROUNDS = 100
_topics = (f"live:s{number}" for number in itertools.count())


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


@pytest.fixture
def cluster(server: RedisServer, write_config: WriteConfig) -> Iterator[Cluster]:
    """Two dispatchers and two frontends; n1 announces to the first, n2 to the second."""
    config = write_config({**QUICK, "routing.compare_seconds": 2})
    with running_cluster([["--redis", server.url, *config]] * 2, [config] * 2) as cluster:
        yield cluster


def test_what_another_dispatcher_publishes_right_after_the_answer_is_received(
    cluster: Cluster, viewers: Viewers, server: RedisServer
) -> None:
    stream = viewers.connect(cluster.frontends[0].url("public"))
    topics = [next(_topics) for _ in range(ROUNDS)]
    for number, topic in enumerate(topics):
        # Now the other dispatcher knows that nobody watches the topic.
        assert cluster.publish(1, topic, 0).status_code == 202
        if number % 10 == 0:
            server.client.client_kill_filter(_type="pubsub")
        eventually(
            lambda topic=topic: stream.subscribe(add=[topic], remove=topics).status_code == 200,  # type: ignore[misc]
            "a dispatcher confirms",
        )
        assert cluster.publish(1, topic, 1).status_code == 202
        viewers.wait(
            lambda topic=topic: 1 in numbers(stream.frames, topic),  # type: ignore[misc]
            f"the event of {topic} came",
        )


def test_a_dispatcher_that_stood_still_meanwhile_delivers_too(
    cluster: Cluster, viewers: Viewers
) -> None:
    stream = viewers.connect(cluster.frontends[0].url("public"))
    for _ in range(5):
        topic = next(_topics)
        assert cluster.publish(1, topic, 0).status_code == 202
        cluster.dispatchers[1].signal(signal.SIGSTOP)
        try:
            # The frontend may have to find the other one first.
            eventually(
                lambda topic=topic: stream.subscribe(add=[topic]).status_code == 200,  # type: ignore[misc]
                "the other one confirms",
            )
            with ExitStack() as stack:
                producer = stack.enter_context(Producer(topic, [cluster.url(1)]))
                eventually(lambda p=producer: p.begun > 0, "it publishes")  # type: ignore[misc]
                cluster.dispatchers[1].signal(signal.SIGCONT)
                producer.wait_further(5)
        finally:
            cluster.dispatchers[1].signal(signal.SIGCONT)
        viewers.wait(
            lambda topic=topic, producer=producer: (  # type: ignore[misc]
                numbers(stream.frames, topic) == list(range(1, producer.accepted + 1))
            ),
            "all events came",
        )


def test_rows_that_somebody_deletes_come_back_and_viewers_are_told(
    cluster: Cluster, viewers: Viewers, server: RedisServer
) -> None:
    topic = next(_topics)
    stream = viewers.connect(cluster.frontends[0].url("public"), topic)
    cluster.wait_routed(topic, n1=1)

    assert server.client.delete(f"{PREFIX}row:{topic}") == 1

    cluster.wait_routed(topic, n1=1)
    viewers.wait(lambda: bool(stream.control("gap")), "the viewer is told")
    [gap] = stream.control("gap")
    assert gap.data == {"lost": None, "topics": [topic]}
    for dispatcher in (0, 1):
        assert cluster.publish(dispatcher, topic, dispatcher).status_code == 202
    viewers.wait(lambda: sorted(numbers(stream.frames, topic)) == [0, 1], "both events came")


def test_what_a_dispatcher_without_redis_cannot_route_is_told(
    server: RedisServer, viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config(QUICK)
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        port = network.add("redis", server.port)
        dispatchers = [
            ["--redis", server.url, *config],
            ["--redis", f"redis://127.0.0.1:{port}", *config],
        ]
        cluster = stack.enter_context(running_cluster(dispatchers, [config] * 2))
        topic = next(_topics)
        first = viewers.connect(cluster.frontends[0].url("public"), topic)
        cluster.wait_routed(topic, n1=1)
        assert cluster.publish(1, topic, 0).status_code == 202

        network.become("redis", Mode.STALL)
        # It announces to the second dispatcher, which cannot do anything, and then to the first.
        late = viewers.connect(cluster.frontends[1].url("public"))
        eventually(lambda: late.subscribe(add=[topic]).status_code == 200, "it is confirmed")
        for number in range(1, 11):
            assert cluster.publish(1, topic, number).status_code == 202
        viewers.wait(lambda: numbers(first.frames, topic) == list(range(11)), "the first gets all")
        network.become("redis", Mode.PASS)

        received = set(numbers(late.frames, topic))
        viewers.wait(
            lambda: lost_in_gaps(late.frames) >= 10 - len(received),
            "the second is told",
        )
        assert cluster.dropped(1)["unrouted"] >= 10 - len(received)
        assert first.control("gap") == []
        eventually(
            lambda: (
                cluster.publish(1, topic, 11).status_code == 202
                and 11 in numbers(late.frames, topic)
            ),
            "the second gets what follows",
        )


def test_a_redis_that_came_back_empty_is_not_taken_for_one_without_viewers(
    cluster: Cluster, viewers: Viewers, server: RedisServer
) -> None:
    topics = [next(_topics) for _ in range(2)]
    stream = viewers.connect(cluster.frontends[0].url("public"), *topics)
    cluster.wait_routed(topics[0], n1=1)
    # Each dispatcher has read a row, but not this one.
    for number in (0, 1):
        assert cluster.publish(number, next(_topics), 0).status_code == 202
    for frontend in cluster.frontends:
        frontend.signal(signal.SIGSTOP)
    try:
        server.client.flushall()
        for number in (0, 1):
            server.client.client_kill_filter(_type="normal")
            answer = cluster.publish(number, topics[number], 1)
            assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    finally:
        for frontend in cluster.frontends:
            frontend.signal(signal.SIGCONT)
    for number in (0, 1):
        eventually(
            lambda n=number: cluster.publish(n, topics[n], 2).status_code == 202,  # type: ignore[misc]
            "it is accepted",
        )
        viewers.wait(
            lambda n=number: numbers(stream.frames, topics[n]) == [2],  # type: ignore[misc]
            "and received",
        )


def test_two_frontends_of_one_name_are_noticed(
    cluster: Cluster, viewers: Viewers, write_config: WriteConfig
) -> None:
    topic = next(_topics)
    first = cluster.frontends[0]
    stream = viewers.connect(first.url("public"), topic)
    second = RoleProcess(
        "rtfrontend",
        *("--dispatcher", cluster.url(0), "--node", "n1"),
        *("--public", LOOPBACK, "--internal", LOOPBACK, *write_config(QUICK)),
    )
    try:
        second.wait_ready()
        eventually(lambda: bool(missing(first)), "the first one knows that it has no place")
        assert ["another process announces itself as this node" in m for m in missing(first)] == [
            True
        ]
        eventually(lambda: not missing(second), "the second one has its place")
        # On a busy machine either may lose its place and get it back, and says so each time.
        told = [line for line in first.log if "gets no events" in line or "only one" in line]
        assert ["gets no events" in line for line in told] == [n % 2 == 0 for n in range(len(told))]
    finally:
        second.stop()
    eventually(lambda: not missing(first), "the first one has its place again")
    assert cluster.publish(0, topic, 1).status_code == 202
    viewers.wait(lambda: numbers(stream.frames, topic) == [1], "it gets events again")
    assert stream.control("gap")[0].data["lost"] is None


def missing(role: RoleProcess) -> list[str]:
    answer = HTTP.get(role.url("internal") + "/health/ready").json()
    reasons: list[str] = answer.get("missing", [])
    return reasons


def test_very_many_topics_that_come_and_go_do_not_keep_others_from_being_announced(
    server: RedisServer, viewers: Viewers, write_config: WriteConfig
) -> None:
    # All their topics do not fit into one request.
    config = write_config({**QUICK, "http.internal_body_bytes": 1_048_576 + 8_192})
    with running_cluster([["--redis", server.url, *config]], [config]) as cluster:
        public = cluster.frontends[0].url("public")
        topic = next(_topics)
        honest = viewers.connect(public, topic)
        with Producer(topic, [cluster.url(0)]) as producer:
            producer.wait_further(10)
            for _ in range(2):
                crowd = [viewers.connect(public) for _ in range(40)]
                for visitor in crowd:
                    topics = [f"{next(_topics)}{'x' * 1000}" for _ in range(100)]
                    assert visitor.subscribe(add=topics).status_code in (200, 202)
                for visitor in crowd:
                    viewers.close(visitor)
            newcomer = next(_topics)
            eventually(
                lambda: honest.subscribe(add=[newcomer]).status_code == 200, "it is confirmed"
            )
            assert cluster.publish(0, newcomer, 1).status_code == 202
            eventually(
                lambda: cluster.nodes(0)["n1"]["topics"] == 2, "the topics of the others are gone"
            )
            producer.wait_further(10)
        viewers.wait(
            lambda: numbers(honest.frames, topic) == list(range(1, producer.accepted + 1)),
            "all events came",
        )
        viewers.wait(lambda: numbers(honest.frames, newcomer) == [1], "the other's too")
        assert cluster.dropped(0) == {}


def test_numbers_that_no_script_can_add_are_refused_before_anything_is_written(
    cluster: Cluster, server: RedisServer
) -> None:
    keys = set(server.client.scan_iter("*"))
    for counts in ({"live:big": 2**63 - 1}, {"live:one": 1, "live:big": 2**31}):
        answer = HTTP.post(
            f"{cluster.url(0)}/subscriptions",
            json={
                "frontend": {"node": "n9", "url": "http://127.0.0.1:9", "incarnation": "i"},
                "counts": counts,
            },
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert set(server.client.scan_iter("*")) == keys
    assert cluster.publish(0, "live:big", 1).status_code == 202
