"""Dispatchers, frontends and Redis die, hang and come back: every event is accounted for.

Each is received, or counted as dropped with a reason; and routing becomes whole by itself.
"""

import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.integration.clusters import (
    PREFIX,
    QUICK,
    Cluster,
    Producer,
    lost_in_gaps,
    numbers,
    running_cluster,
    tries,
)
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer, text
from tests.integration.roles import HTTP, eventually, metrics
from tests.integration.streams import Browser, Stream, Viewers

_names = (f"live:{number}" for number in itertools.count())
_LINK_EVENTS = 100
# With a pause of redis_reconnect_seconds before each, they take longer than lease_seconds.
_TRIES = 13


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return next(_names)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def lasting(server: RedisServer, write_config: WriteConfig) -> Iterator[Cluster]:
    """Three dispatchers and two frontends, for tests that leave all of them running."""
    options = ["--redis", server.url, *write_config(QUICK)]
    with running_cluster([options] * 3, [write_config(QUICK)] * 2) as cluster:
        yield cluster


@pytest.fixture
def cluster(lasting: Cluster) -> Cluster:
    lasting.wait_ready()
    return lasting


def wait_all(viewers: Viewers, producers: list[Producer], streams: list[Stream]) -> None:
    """Wait until each of ``streams`` has the newest event of each producer."""
    for producer in producers:
        for stream in streams:
            viewers.wait(
                lambda producer=producer, stream=stream: (  # type: ignore[misc]
                    producer.accepted in numbers(stream.frames, producer.topic)
                ),
                f"the last of {producer.accepted} events came",
            )


def assert_all_once(producer: Producer, *streams: Stream) -> None:
    """Assert that each stream has each accepted event once; one dispatcher's in their order."""
    for stream in streams:
        received = numbers(stream.frames, producer.topic)
        assert sorted(received) == list(range(1, producer.accepted + 1))
        for place in set(producer.accepted_by.values()):
            of_one = [n for n in received if producer.accepted_by[n] == place]
            assert of_one == sorted(of_one)


def assert_unavailable(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")


def test_of_two_dispatchers_one_hangs_and_is_killed_and_the_others_events_are_all_received(
    server: RedisServer, viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config(QUICK)
    options = ["--redis", server.url, "--config", config[1]]
    with running_cluster([options] * 2, [config] * 2) as cluster, ExitStack() as stack:
        topics = [next(_names) for _ in range(3)]
        streams = [viewers.connect(role.url("public"), *topics) for role in cluster.frontends]
        urls = [cluster.url(0), cluster.url(1)]
        producers = [
            stack.enter_context(Producer(topic, urls, patience_seconds=0.5)) for topic in topics
        ]
        for producer in producers:
            producer.wait_further(50)

        # What was sent to the one that hangs is published by the other, with the same id, and
        # then by it too.
        cluster.dispatchers[0].signal(signal.SIGSTOP)
        for producer in producers:
            eventually(lambda p=producer: p.refusals[0] > 0, "no answer came")  # type: ignore[misc]
        cluster.dispatchers[0].signal(signal.SIGCONT)
        for producer in producers:
            eventually(
                lambda p=producer: p.accepted_by.get(p.accepted) == 0,  # type: ignore[misc]
                "it accepts again",
            )
            producer.wait_further(20)

        cluster.dispatchers[0].signal(signal.SIGKILL)
        cluster.dispatchers[0].wait()
        last_of_killed = [max(n for n, p in pr.accepted_by.items() if p == 0) for pr in producers]
        for producer in producers:
            producer.wait_further(50)
        newcomer = next(_names)
        for stream in streams:
            eventually(
                lambda stream=stream: stream.subscribe(add=[newcomer]).status_code == 200,  # type: ignore[misc]
                "a dispatcher confirms",
            )
        assert cluster.publish(1, newcomer, 0).status_code == 202
        for producer in producers:
            producer.stop()

        wait_all(viewers, producers, streams)
        for producer, last in zip(producers, last_of_killed, strict=True):
            for stream in streams:
                received = numbers(stream.frames, producer.topic)
                assert len(received) == len(set(received))
                lost = set(producer.accepted_by) - set(received)
                # Of what the killed one had accepted, the last may have died with it.
                assert {producer.accepted_by[number] for number in lost} <= {0}
                of_killed = [n for n, place in producer.accepted_by.items() if place == 0]
                assert of_killed[-1] == last
                assert sorted(lost) == of_killed[len(of_killed) - len(lost) :]
        viewers.wait(
            lambda: all(numbers(stream.frames, newcomer) == [0] for stream in streams),
            "what was subscribed to since is received",
        )
        assert cluster.dropped(1) == {}
        assert [cluster.dropped_at_frontend(number) for number in (0, 1)] == [{}, {}]


def test_the_viewers_of_a_killed_frontend_go_on_elsewhere_and_the_others_miss_nothing(
    server: RedisServer, viewers: Viewers, topic: str, write_config: WriteConfig
) -> None:
    config = write_config(QUICK)
    options = ["--redis", server.url, "--config", config[1]]
    with running_cluster([options] * 2, [config] * 3) as cluster, ExitStack() as stack:
        publics = [role.url("public") for role in cluster.frontends]
        others = [viewers.connect(url, topic) for url in publics[:2]]
        urls = [cluster.url(0), cluster.url(1)]
        producer = stack.enter_context(Producer(topic, urls))
        browsers = [
            stack.enter_context(
                Browser(viewers, [publics[2], *publics[:2]], topic, note=lambda: producer.begun)
            )
            for _ in range(5)
        ]
        eventually(lambda: all(browser.lives for browser in browsers), "all are subscribed")
        cluster.wait_routed(topic, n1=1, n2=1, n3=5)
        producer.wait_further(50)

        cluster.frontends[2].signal(signal.SIGKILL)
        cluster.frontends[2].wait()
        eventually(lambda: all(len(b.lives) == 2 for b in browsers), "all are subscribed again")
        cluster.wait_routed(topic, n1=6, n2=1)
        rows = server.client
        eventually(
            lambda: rows.hgetall(f"{PREFIX}row:{topic}") == {"n1": "6", "n2": "1"},
            "the row of n3 is taken out",
        )
        eventually(lambda: not rows.exists(f"{PREFIX}topics:n3", f"{PREFIX}node:n3"), "n3 is gone")
        for number in (0, 1):
            eventually(
                lambda number=number: list(cluster.nodes(number)) == ["n1", "n2"],  # type: ignore[misc]
                "n3 is not listed",
            )
            role = cluster.dispatchers[number]
            eventually(
                lambda role=role: metrics(role, "listen")["rtdeliver_links"] == 2,  # type: ignore[misc]
                "the link to n3 is closed",
            )
        producer.wait_further(50)
        producer.stop()

        seconds = [browser.lives[1][0] for browser in browsers]
        wait_all(viewers, [producer], [*others, *seconds])
        assert_all_once(producer, *others)
        for browser in browsers:
            (first, due_first), (second, due_second) = browser.lives
            before, after = (numbers(stream.frames, topic) for stream in (first, second))
            assert len(before) == len(set(before))
            assert set(before) >= set(range(due_first + 1, max(before) - len(urls)))
            # What it has missed was published before it was told that it is subscribed again.
            missed = set(range(due_first + 1, producer.accepted + 1)) - {*before, *after}
            assert all(number <= due_second for number in missed)
            assert len(after) == len(set(after))
        for number in (0, 1):
            # A batch is lost with its answer where n3 ends after it has accepted the connection.
            assert cluster.dropped(number).keys() <= {"lease_ended", "answer_lost"}
            assert cluster.dropped_at_frontend(number) == {}
        assert sum(cluster.dropped(number).get("lease_ended", 0) for number in (0, 1)) > 0


def test_a_frontend_that_was_paused_past_its_lease_announces_all_anew(
    server: RedisServer, viewers: Viewers, topic: str, write_config: WriteConfig
) -> None:
    # Its lease is long enough to fill its mailboxes before it ends.
    quick = {**QUICK, "routing.lease_seconds": 25}
    config = write_config(quick)
    # Links are looked after late, so that what was lost is still known when it is back.
    bounded = write_config(
        {
            **quick,
            "deliveries.mailbox_events": _LINK_EVENTS,
            "deliveries.sweep_seconds": 600,
            "http.request_seconds": 1,
        }
    )
    options = ["--redis", server.url, *bounded]
    with running_cluster([options] * 2, [config] * 2) as cluster:
        first, paused = (viewers.connect(r.url("public"), topic) for r in cluster.frontends)
        alone = next(_names)
        assert paused.subscribe(add=[alone]).status_code == 200
        cluster.wait_routed(topic, n1=1, n2=1)
        rows = server.client
        with Producer(topic, [cluster.url(0), cluster.url(1)], pause_seconds=0.002) as producer:
            producer.wait_further(50)
            cluster.frontends[1].signal(signal.SIGSTOP)
            try:
                viewers.wait(
                    lambda: all(
                        cluster.dropped(number).get("link_full", 0) > 0 for number in (0, 1)
                    ),
                    "both links' mailboxes are full",
                )
                for number in (0, 1):
                    waiting = metrics(cluster.dispatchers[number], "listen")
                    events = waiting['rtdeliver_mailbox_events{actor="link"}']
                    # Besides what waits, one batch is on its way, and what is for n1.
                    assert events <= 3 * _LINK_EVENTS
                routed = 0
                while accepted_with_lease := producer.accepted * rows.exists(f"{PREFIX}node:n2"):
                    routed = accepted_with_lease
                cluster.wait_routed(topic, n1=1)
                goal = producer.begun + 100
                viewers.wait(
                    lambda: goal in numbers(first.frames[-500:], topic), "the other receives on"
                )
            finally:
                cluster.frontends[1].signal(signal.SIGCONT)
            cluster.wait_routed(topic, n1=1, n2=1)
            cluster.wait_routed(alone, n2=1)
            due = producer.begun
            producer.wait_further(50)
        for number in (0, 1):
            assert cluster.publish(number, alone, number).status_code == 202

        wait_all(viewers, [producer], [first, paused])
        viewers.wait(lambda: len(numbers(paused.frames, alone)) == 2, "the new events came")
        assert_all_once(producer, first)
        received = numbers(paused.frames, topic)
        assert len(received) == len(set(received))
        assert set(received) >= set(range(due + 1, producer.accepted + 1))
        dropped = [cluster.dropped(number) for number in (0, 1)]
        assert {reason for counts in dropped for reason in counts} <= {"link_full", "answer_lost"}
        counted = sum(sum(counts.values()) for counts in dropped)
        # All else that it has missed was published when it had no row.
        assert len(set(range(1, routed + 1)) - set(received)) <= counted
        # A batch is sent again when its answer is lost, and what it tells of gaps with it.
        viewers.wait(
            lambda: lost_in_gaps(paused.frames) >= counted, f"gap frames tell of {counted}"
        )
        assert lost_in_gaps(first.frames) == 0
        # Of what was published meanwhile, nobody knows how much it is.
        [unknown] = [gap for gap in paused.control("gap") if gap.data["lost"] is None]
        assert set(unknown.data["topics"]) == {topic, alone}
        assert first.control("gap") == []
        assert [cluster.dropped_at_frontend(number) for number in (0, 1)] == [{}, {}]


def test_redis_comes_back_empty_and_cached_topics_flow_all_the_while(
    server: RedisServer, cluster: Cluster, viewers: Viewers, topic: str
) -> None:
    before = [cluster.dropped(number) for number in range(3)]
    streams = [viewers.connect(role.url("public"), topic) for role in cluster.frontends]
    with Producer(topic, [cluster.url(0), cluster.url(1)]) as producer:
        producer.wait_further(20)
        for _ in range(3):
            server.kill()
            producer.wait_further(20)
            eventually(lambda: not cluster.is_ready(), "they are not ready")
            # The third dispatcher has never published to this topic.
            assert_unavailable(cluster.publish(2, topic, 0))
            health = HTTP.get(cluster.url(2) + "/health/ready")
            assert health.status_code == 503
            assert health.json()["missing"]
            server.start()
            cluster.wait_ready()
            producer.wait_further(20)
            cluster.wait_routed(topic, n1=1, n2=1)
    assert_rows(server, cluster)
    producer.stop()
    wait_all(viewers, [producer], streams)
    assert_all_once(producer, *streams)
    assert not producer.refusals
    assert [cluster.dropped(number) for number in range(3)] == before


def assert_rows(server: RedisServer, cluster: Cluster) -> None:
    """Assert that Redis and the dispatchers agree on the number of topics and viewers."""
    rows = server.client
    for number in range(len(cluster.dispatchers)):
        for node, listed in cluster.nodes(number).items():
            topics = [text(topic) for topic in rows.smembers(f"{PREFIX}topics:{node}")]
            viewers = [int(rows.hget(f"{PREFIX}row:{topic}", node) or 0) for topic in topics]
            assert (listed["topics"], listed["viewers"]) == (len(topics), sum(viewers))
            assert all(viewers)


def hang(server: RedisServer, until: Callable[[], None]) -> None:
    """Redis does nothing, with its connections open."""
    server.pause()
    try:
        until()
    finally:
        server.resume()


def cut(server: RedisServer, until: Callable[[], None]) -> None:
    """Redis ends all connections, and lets no one else in."""
    client = server.client
    most = text(client.config_get("maxclients")["maxclients"])
    client.config_set("maxclients", 1)
    for kind in ("normal", "pubsub"):
        client.client_kill_filter(_type=kind, skipme=True)
    try:
        until()
    finally:
        client.config_set("maxclients", most)


@pytest.mark.parametrize("away", [hang, cut])
def test_redis_is_cut_off_past_all_leases_and_new_subscriptions_hold_later(
    away: Callable[[RedisServer, Callable[[], None]], None],
    server: RedisServer,
    cluster: Cluster,
    viewers: Viewers,
    topic: str,
) -> None:
    before = [cluster.dropped(number) for number in range(3)]
    new = next(_names)
    streams = [viewers.connect(role.url("public"), topic) for role in cluster.frontends]
    with Producer(topic, [cluster.url(0), cluster.url(1)]) as producer:
        producer.wait_further(20)

        def meanwhile() -> None:
            tried = [tries(role) for role in cluster.dispatchers]
            eventually(
                lambda: HTTP.get(cluster.url(2) + "/health/ready").status_code == 503,
                "the loss is noticed",
            )
            answer = streams[0].subscribe(add=[new])
            assert (answer.status_code, new in answer.json()["pending"]) == (202, True)
            producer.wait_further(50)
            assert_unavailable(cluster.publish(2, topic, 0))
            eventually(
                lambda: all(
                    tries(role) >= before + _TRIES
                    for role, before in zip(cluster.dispatchers, tried, strict=True)
                ),
                "all have tried to connect for longer than a lease",
            )
            producer.wait_further(50)

        away(server, meanwhile)
        cluster.wait_ready()
        url = f"{streams[0].url}/connections/{streams[0].connection}/topics"
        eventually(lambda: not HTTP.get(url).json().get("pending"), "nothing is pending")
        for number in range(3):
            assert cluster.publish(number, new, number).status_code == 202
        producer.wait_further(50)
        cluster.wait_routed(topic, n1=1, n2=1)
    viewers.wait(lambda: len(numbers(streams[0].frames, new)) == 3, "the new events came")
    wait_all(viewers, [producer], streams)
    assert_all_once(producer, *streams)
    assert not producer.refusals
    assert [cluster.dropped(number) for number in range(3)] == before
