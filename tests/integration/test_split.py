"""One dispatcher and three frontends: events go where they have viewers, through every failure."""

import itertools
import json
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from tests.integration.conftest import WriteConfig
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    RoleProcess,
    dispatcher,
    eventually,
    frontend,
    metrics,
    publish,
    publish_lines,
    running,
)
from tests.integration.streams import Stream, Viewers

NODES = ("n1", "n2", "n3")
_names = (f"live:{number}" for number in itertools.count())


class Cluster(msgspec.Struct, frozen=True):
    """The processes of one datacenter."""

    dispatcher: RoleProcess
    frontends: list[RoleProcess]

    def told(self, topic: str) -> object:
        """What the dispatcher tells of a topic."""
        url = self.dispatcher.url("listen")
        return HTTP.get(f"{url}/topics", params={"topic": topic}).json()

    def nodes(self) -> dict[str, dict[str, Any]]:
        """The frontends that the dispatcher lists, by name."""
        listed = HTTP.get(self.dispatcher.url("listen") + "/frontends").json()
        return {node["node"]: node for node in listed}

    def wait_routed(self, topic: str, *nodes: str) -> None:
        """Wait until a topic has one viewer on each of ``nodes``."""
        expected = {"topic": topic, "viewers": len(nodes), "frontends": list(nodes)}
        eventually(lambda: self.told(topic) == expected, f"{topic} is routed to {nodes}")


@contextmanager
def running_cluster(
    dispatcher_options: list[str], *frontends_options: list[str]
) -> Iterator[Cluster]:
    with ExitStack() as stack:
        role = stack.enter_context(dispatcher(*dispatcher_options))
        frontends = [
            stack.enter_context(frontend(role.url("listen"), node, *options))
            for node, options in zip(NODES, frontends_options, strict=True)
        ]
        yield Cluster(role, frontends)
    for process in (role, *frontends):
        assert "Traceback" not in process.output


@pytest.fixture(scope="module")
def cluster(write_config: WriteConfig) -> Iterator[Cluster]:
    # A frontend that is paused for a while answers late, not too late.
    patient = write_config({"http.request_seconds": DEADLINE_SECONDS})
    lively = write_config({"routing.announce_seconds": 0.5})
    with running_cluster(patient, lively, lively, lively) as cluster:
        yield cluster


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return next(_names)


class Producer:
    """Publishes numbered events one after the other, in a thread of its own.

    ``begun`` is the number of the last event that it began to publish; every later one is
    published after ``begun`` was read. ``accepted`` is the number of the last one answered by 202.
    """

    def __init__(self, role: RoleProcess, topic: str) -> None:
        self.begun = 0
        self.accepted = 0
        self._url = role.url("listen") + "/publish"
        self._topic = topic
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Producer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Publish no more; the last event is answered when this returns."""
        self._stopping.set()
        self._thread.join(DEADLINE_SECONDS)

    def wait_further(self, count: int) -> None:
        """Wait until ``count`` more events are published, from begin to end."""
        goal = self.begun + count
        eventually(lambda: self.accepted >= goal, f"event {goal} is published")

    def _run(self) -> None:
        with httpx.Client(timeout=DEADLINE_SECONDS) as client:
            # A short pause after each leaves the machine to those who are to receive it.
            while not self._stopping.wait(0.002):
                self.begun += 1
                event = {"topic": self._topic, "data": self.begun}
                assert client.post(self._url, json=event).status_code == 202
                self.accepted = self.begun


def numbers(stream: Stream, topic: str, start: int = 0) -> list[int]:
    """The numbers of the events of ``topic`` among the frames from ``start`` on."""
    events = [frame.data for frame in stream.frames[start:] if frame.event == "message"]
    return [event["data"] for event in events if event["topic"] == topic]


def newest(stream: Stream, topic: str) -> int:
    """The number of the last event of ``topic``; 0 before the first one."""
    for frame in reversed(stream.frames):
        if frame.event == "message" and frame.data["topic"] == topic:
            number: int = frame.data["data"]
            return number
    return 0


def test_only_the_frontends_that_have_viewers_receive_deliveries(
    cluster: Cluster, viewers: Viewers, topic: str
) -> None:
    delivered = 'rtdeliver_delivered_total{at="frontend"}'
    first, second, _ = cluster.frontends
    streams = [
        *viewers.connect_many(2, first.url("public"), topic),
        viewers.connect(second.url("public"), topic),
    ]
    before = [metrics(role)[delivered] for role in cluster.frontends]

    lines = [json.dumps({"topic": topic, "data": number}).encode() for number in range(100)]
    answer = publish_lines(cluster.dispatcher, b"\n".join(lines), "listen")
    assert answer.json() == {"accepted": 100}

    viewers.wait(lambda: all(len(s.events) >= 100 for s in streams), "all events came")
    for stream in streams:
        assert numbers(stream, topic) == list(range(100))
    after = [metrics(role)[delivered] for role in cluster.frontends]
    assert [b - a for a, b in zip(before, after, strict=True)] == [100, 100, 0]


def test_the_dispatcher_tells_who_watches_where(
    cluster: Cluster, viewers: Viewers, topic: str
) -> None:
    first, second, third = cluster.frontends
    streams = viewers.connect_many(3, first.url("public"), topic)
    viewers.connect(third.url("public"), topic)

    eventually(
        lambda: cluster.told(topic) == {"topic": topic, "viewers": 4, "frontends": ["n1", "n3"]},
        "four are counted",
    )
    nodes = cluster.nodes()
    assert list(nodes) == list(NODES)
    for node, role in zip(NODES, (first, second, third), strict=True):
        assert nodes[node]["url"] == role.url("internal")
        assert 0 < nodes[node]["lease_seconds_left"] <= 30
    assert len({nodes[node]["incarnation"] for node in NODES}) == 3
    assert nodes["n1"]["viewers"] >= 3
    assert nodes["n1"]["topics"] >= 1
    for stream in streams:
        viewers.close(stream)
    eventually(
        lambda: cluster.told(topic) == {"topic": topic, "viewers": 1, "frontends": ["n3"]},
        "one is counted",
    )


def test_what_is_published_after_the_answer_to_a_change_heeds_it(
    cluster: Cluster, viewers: Viewers, topic: str
) -> None:
    marks = next(_names)
    # Two on each frontend, so that a topic gains and loses first, further and last viewers.
    streams = [
        stream
        for role in cluster.frontends
        for stream in viewers.connect_many(2, role.url("public"), marks)
    ]

    def come_and_go(stream: Stream) -> None:
        for turn in range(8):
            start = len(stream.frames)
            added = stream.subscribe(add=[topic])
            due = producer.begun + 1
            assert (added.status_code, added.json()["topics"]) == (200, sorted([topic, marks]))
            viewers.wait(
                lambda due=due: newest(stream, topic) >= due + 20,  # type: ignore[misc]
                "events come after the subscribe",
            )
            removed = stream.subscribe(remove=[topic])
            last = producer.begun
            assert (removed.status_code, removed.json()["topics"]) == (200, [marks])
            producer.wait_further(20)
            mark = f"{stream.connection[:8]}-{stream.connection[-8:]}-{turn}"
            publish(cluster.dispatcher, {"topic": marks, "id": mark, "data": 0}, "listen")
            viewers.wait(
                lambda mark=mark: any(frame.id == mark for frame in stream.frames),  # type: ignore[misc]
                "the mark came",
            )
            received = numbers(stream, topic, start)
            # What was published while the subscribe was on its way may come, and may not.
            promised = [number for number in received if number >= due]
            assert promised == list(range(due, promised[-1] + 1))
            assert received == sorted(set(received))
            assert received[-1] <= last

    with Producer(cluster.dispatcher, topic) as producer, ThreadPoolExecutor(6) as threads:
        for _ in threads.map(come_and_go, streams):
            pass


def test_the_largest_subscription_is_changed_and_told_through_another_frontend(
    cluster: Cluster, viewers: Viewers, topic: str
) -> None:
    owner, asked, _ = cluster.frontends
    topics = sorted(f"{topic}-{number:03}-".ljust(1024, "x") for number in range(100))
    stream = viewers.connect(owner.url("public"))
    url = f"{asked.url('public')}/connections/{stream.connection}/topics"

    changed = HTTP.post(url, json={"add": topics})
    told = HTTP.get(url)

    assert (changed.status_code, told.status_code) == (200, 200)
    assert changed.json()["topics"] == told.json()["topics"] == topics
    assert publish(cluster.dispatcher, {"topic": topics[-1], "data": 1}, "listen").is_success
    viewers.wait(lambda: numbers(stream, topics[-1]) == [1], "the event came")


def test_a_frontend_finds_others_among_hundreds(
    cluster: Cluster, viewers: Viewers, topic: str
) -> None:
    # The third has not yet asked for any, so that it remembers none.
    owner, _, asked = cluster.frontends
    for number in range(450):
        ref = {
            "node": f"{topic.replace(':', '-')}-{number}-".ljust(64, "x"),
            "url": f"http://{'x' * 60}.example:9",
            "incarnation": "x",
        }
        announcement = {"frontend": ref, "counts": {}, "full": True, "lease_seconds": 10}
        url = cluster.dispatcher.url("listen") + "/subscriptions"
        assert HTTP.post(url, json=announcement).status_code == 200
    assert len(HTTP.get(cluster.dispatcher.url("listen") + "/frontends").content) > 65536
    stream = viewers.connect(owner.url("public"), topic)

    # It asks the dispatcher, since it does not know this node: 503 if it cannot read the answer.
    unknown = HTTP.get(asked.url("public") + "/connections/nowhere-x/topics")
    told = HTTP.get(f"{asked.url('public')}/connections/{stream.connection}/topics")

    assert (unknown.status_code, told.status_code) == (404, 200)
    assert told.json()["topics"] == [topic]
    eventually(lambda: sorted(cluster.nodes()) == list(NODES), "the leases of the others end")


def test_a_client_that_leaves_while_another_frontend_is_asked_leaves_no_traceback(
    cluster: Cluster, viewers: Viewers, topic: str
) -> None:
    owner, asked, _ = cluster.frontends
    stream = viewers.connect(owner.url("public"), topic)
    path = f"/connections/{stream.connection}/topics"
    assert HTTP.get(asked.url("public") + path).status_code == 200

    owner.signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            parts = urlsplit(asked.url("public"))
            with socket.create_connection((parts.hostname, parts.port)) as leaving:
                leaving.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        # It accepts in order, so it has seen the three come and go.
        for _ in range(3):
            assert HTTP.get(asked.url("public") + "/connections/nowhere-x/topics").is_error
    finally:
        owner.signal(signal.SIGCONT)

    assert HTTP.get(asked.url("public") + path).json()["topics"] == [topic]
    assert "Traceback" not in asked.output


def test_a_paused_frontend_catches_up_in_order_and_holds_nobody_up(
    cluster: Cluster, viewers: Viewers, topic: str
) -> None:
    paused = cluster.frontends[2]
    streams = [viewers.connect(role.url("public"), topic) for role in cluster.frontends]
    with Producer(cluster.dispatcher, topic) as producer:
        producer.wait_further(20)
        paused.signal(signal.SIGSTOP)
        try:
            before = len(streams[2].frames)
            goal = producer.begun + 300
            viewers.wait(
                lambda: all(newest(stream, topic) >= goal for stream in streams[:2]),
                "the others receive on",
            )
            # One batch may have been on its way when it was paused.
            assert len(streams[2].frames) - before < 300
        finally:
            paused.signal(signal.SIGCONT)
        producer.wait_further(20)

    viewers.wait(
        lambda: all(len(stream.frames) > producer.accepted for stream in streams),
        "all have received all",
    )
    for stream in streams:
        assert numbers(stream, topic) == list(range(1, producer.accepted + 1))
        assert stream.control("gap") == []


def test_a_change_that_waits_in_a_paused_frontend_does_not_undo_a_later_one(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    # The frontend that is asked gives up before the paused one goes on.
    hasty = write_config({"routing.announce_seconds": 0.5, "http.request_seconds": 0.5})
    with running_cluster([], hasty, hasty, hasty) as cluster:
        owner, asked, _ = cluster.frontends
        stream = viewers.connect(owner.url("public"), "live:kept")
        path = f"/connections/{stream.connection}/topics"
        sequences = itertools.count(1)

        def change(at: RoleProcess, **topics: list[str]) -> httpx.Response:
            return HTTP.post(at.url("public") + path, json={**topics, "sequence": next(sequences)})

        assert "live:first" in change(owner, add=["live:first"]).json()["topics"]
        for _ in range(8):
            owner.signal(signal.SIGSTOP)
            try:
                abandoned = [change(asked, add=["live:red"]), change(asked, remove=["live:kept"])]
                asked_for = HTTP.get(asked.url("public") + path)
            finally:
                owner.signal(signal.SIGCONT)
            later = change(owner, add=["live:kept"], remove=["live:red"])

            for answer in (*abandoned, asked_for):
                assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
            assert later.json()["topics"] == ["live:first", "live:kept"]
        # By now the owner has read all that waited in it.
        for _ in range(20):
            told = HTTP.get(owner.url("public") + path).json()
            assert told["topics"] == ["live:first", "live:kept"]
        nobody = {"topic": "live:red", "viewers": 0, "frontends": []}
        eventually(lambda: cluster.told("live:red") == nobody, "nobody watches it")


def test_a_stream_of_a_frontend_that_is_gone_is_unknown_before_its_lease_ends(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    lasting = write_config({"routing.announce_seconds": 0.5, "routing.lease_seconds": 600})
    with running_cluster([], lasting, lasting, lasting) as cluster:
        gone, asked, _ = cluster.frontends
        stream = viewers.connect(gone.url("public"), "live:red")
        path = f"/connections/{stream.connection}/topics"
        assert HTTP.get(asked.url("public") + path).status_code == 200

        gone.signal(signal.SIGKILL)
        gone.wait()

        # A connection that was kept open may take the first request with it.
        eventually(lambda: HTTP.get(asked.url("public") + path).status_code == 404, "it is unknown")
        assert "n1" in cluster.nodes()


def test_routing_becomes_whole_again_after_the_dispatcher_was_killed(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    lively = write_config({"routing.announce_seconds": 0.5, "retry.max_seconds": 1})
    with running_cluster([], lively, lively, lively) as cluster, ExitStack() as stack:
        watchers = [viewers.connect(role.url("public"), "a") for role in cluster.frontends]
        cluster.wait_routed("a", *NODES)
        port = urlsplit(cluster.dispatcher.url("listen")).port
        cluster.dispatcher.signal(signal.SIGKILL)
        cluster.dispatcher.wait()

        # Meanwhile viewers come, and are told that what they ask for is not routed yet.
        answer = watchers[0].subscribe(add=["b"])
        assert answer.status_code == 202
        told = answer.json()
        assert told["connection"] == watchers[0].connection
        assert told["topics"] == ["a", "b"]
        assert "b" in told["pending"]
        newcomer = viewers.connect(cluster.frontends[1].url("public"), "c")
        assert newcomer.frames[0].data["topics"] == ["c"]
        for role in cluster.frontends:
            ready = HTTP.get(role.url("internal") + "/health/ready")
            assert ready.status_code == 503
            assert ready.json()["missing"]

        restarted = stack.enter_context(
            running("rtdispatcher", "--listen", f"tcp:{port}:interface=127.0.0.1")
        )
        again = Cluster(restarted, cluster.frontends)
        again.wait_routed("a", *NODES)
        again.wait_routed("b", "n1")
        again.wait_routed("c", "n2")
        url = f"{watchers[0].url}/connections/{watchers[0].connection}/topics"
        eventually(lambda: not HTTP.get(url).json().get("pending"), "nothing is pending")
        for role in cluster.frontends:
            ready_url = role.url("internal") + "/health/ready"
            eventually(
                lambda url=ready_url: HTTP.get(url).status_code == 200,  # type: ignore[misc]
                "it is ready again",
            )
        assert watchers[0].subscribe(add=["d"]).status_code == 200
        for topic in ("a", "b", "c", "d"):
            assert publish(restarted, {"topic": topic, "data": 0}, "listen").status_code == 202
        viewers.wait(
            lambda: (
                [event["topic"] for event in watchers[0].events] == ["a", "b", "d"]
                and all(
                    [event["topic"] for event in stream.events] == watched
                    for stream, watched in [
                        (watchers[1], ["a"]),
                        (watchers[2], ["a"]),
                        (newcomer, ["c"]),
                    ]
                )
            ),
            "each event came to its viewers",
        )
        assert "Traceback" not in restarted.output


def test_a_killed_frontend_is_forgotten_with_its_lease_and_others_miss_nothing(
    viewers: Viewers, topic: str, write_config: WriteConfig
) -> None:
    lively = write_config({"routing.announce_seconds": 0.5})
    mortal = write_config({"routing.announce_seconds": 0.5, "routing.lease_seconds": 2})
    with running_cluster([], lively, lively, mortal) as cluster:
        first, second, third = (
            viewers.connect(role.url("public"), topic) for role in cluster.frontends
        )
        cluster.wait_routed(topic, *NODES)
        with Producer(cluster.dispatcher, topic) as producer:
            viewers.wait(lambda: len(third.frames) > 20, "events come")
            cluster.frontends[2].signal(signal.SIGKILL)
            cluster.frontends[2].wait()
            left = cluster.nodes().get("n3", {}).get("lease_seconds_left", 0)
            assert left <= 2

            eventually(lambda: list(cluster.nodes()) == ["n1", "n2"], "n3 is not listed")
            assert cluster.told(topic) == {
                "topic": topic,
                "viewers": 2,
                "frontends": ["n1", "n2"],
            }
            producer.wait_further(50)
        viewers.wait(
            lambda: all(len(stream.frames) > producer.accepted for stream in (first, second)),
            "the others have received all",
        )
        for stream in (first, second):
            assert numbers(stream, topic) == list(range(1, producer.accepted + 1))
        viewers.wait(lambda: third.ended, "the viewer of the killed one sees its stream end")


def test_a_frontend_that_comes_back_takes_the_place_of_its_former_process(
    viewers: Viewers, topic: str, write_config: WriteConfig
) -> None:
    # Its lease outlasts the test, so it is not the lease's end that makes place.
    lasting = write_config({"routing.announce_seconds": 0.5, "routing.lease_seconds": 600})
    with running_cluster([], lasting, lasting, lasting) as cluster, ExitStack() as stack:
        killed = cluster.frontends[2]
        streams = [viewers.connect(role.url("public"), topic) for role in cluster.frontends]
        cluster.wait_routed(topic, *NODES)
        former = cluster.nodes()["n3"]
        killed.signal(signal.SIGKILL)
        killed.wait()
        port = urlsplit(killed.url("internal")).port

        back = stack.enter_context(
            running(
                "rtfrontend",
                "--dispatcher", cluster.dispatcher.url("listen"),
                "--node", "n3",
                "--public", "tcp:0:interface=127.0.0.1",
                "--internal", f"tcp:{port}:interface=127.0.0.1",
                *lasting,
            )
        )  # fmt: skip

        eventually(
            lambda: cluster.nodes()["n3"]["incarnation"] != former["incarnation"],
            "n3 is listed as another process",
        )
        assert cluster.told(topic) == {"topic": topic, "viewers": 2, "frontends": ["n1", "n2"]}
        newcomer = viewers.connect(back.url("public"), topic)
        cluster.wait_routed(topic, *NODES)
        for number in range(10):
            publish(cluster.dispatcher, {"topic": topic, "data": number}, "listen")
        watching = [*streams[:2], newcomer]
        viewers.wait(lambda: all(len(s.events) >= 10 for s in watching), "all events came")
        for stream in watching:
            assert numbers(stream, topic) == list(range(10))
        assert "Traceback" not in back.output
