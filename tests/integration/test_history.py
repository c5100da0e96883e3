"""Topics with history, over real sockets and a real Redis, while processes are killed."""

import itertools
import select
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from rtdeliver.model import Place, check_position
from tests.integration.clusters import QUICK, Cluster, Producer, running_cluster
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    combined,
    eventually,
    metrics,
    publish,
    publish_lines,
)
from tests.integration.sentinel import Sentinel, in_step
from tests.integration.streams import Frame, Stream, Viewers

HISTORY: dict[str, object] = {
    **QUICK,
    "history.topics": {"conv:*": {"events": 5000, "seconds": 3600}},
    "history.overlap_seconds": 2,
    "history.claim_seconds": 2,
    "history.sweep_seconds": 0.3,
}
OVERLAP_MS = 2000
_topics = (f"conv:h{number}" for number in itertools.count())


class Returner:
    """A page that tells the last id it has had when it comes back, as an EventSource does.

    A context manager.

    :param urls: of the frontends; whenever its stream ends, it goes to the next one.
    :ivar frames: those of all its streams.
    :ivar streams: how many it has had.
    """

    def __init__(self, urls: Sequence[str], *topics: str) -> None:
        self.streams = 0
        self.last_id = ""
        self._urls = list(urls)
        self._topics = topics
        self._before: list[Frame] = []
        self._stream: Stream | None = None
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Returner":
        self._thread.start()
        eventually(lambda: bool(self.frames), "it is connected")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(DEADLINE_SECONDS)

    @property
    def frames(self) -> list[Frame]:
        stream = self._stream
        return [*self._before, *(stream.frames if stream is not None else ())]

    def leave(self) -> None:
        """End the stream that it has."""
        self._leaving.set()

    def places(self, topic: str) -> list[Place]:
        """The places of the events of a topic, in the order in which they came."""
        return [
            check_position(frame.data["position"])
            for frame in self.frames
            if frame.event == "message" and frame.data["topic"] == topic
        ]

    def data(self, topic: str) -> list[Any]:
        return [
            frame.data["data"]
            for frame in self.frames
            if frame.event == "message" and frame.data["topic"] == topic
        ]

    def gaps(self) -> list[Any]:
        return [frame.data["lost"] for frame in self.frames if frame.event == "gap"]

    def _run(self) -> None:
        for url in itertools.cycle(self._urls):
            headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
            with suppress(OSError):
                stream = Stream(url, self._topics, headers)
                self._stream = stream
                self._read(stream)
                stream.socket.close()
            if self._stopping.wait(0.1):
                return

    def _read(self, stream: Stream) -> None:
        had = 0
        while not (stream.ended or self._leaving.is_set() or self._stopping.is_set()):
            if select.select([stream.socket], [], [], 0.05)[0]:
                stream.on_readable()
            for frame in stream.frames[had:]:
                self.last_id = frame.id or self.last_id
                self.streams += frame.event == "connected"
            had = len(stream.frames)
        self._leaving.clear()
        self._before, self._stream = [*self._before, *stream.frames], None


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


@pytest.fixture
def config(write_config: WriteConfig) -> list[str]:
    return list(write_config(HISTORY))


@pytest.fixture
def cluster(server: RedisServer, config: list[str]) -> Iterator[Cluster]:
    with running_cluster([["--redis", server.url, *config]] * 2, [config] * 2) as cluster:
        yield cluster


def urls(cluster: Cluster) -> list[str]:
    """Those of the dispatchers that run."""
    return [cluster.url(n) for n, role in enumerate(cluster.dispatchers) if role.is_running()]


def publics(cluster: Cluster) -> list[str]:
    return [role.url("public") for role in cluster.frontends]


def is_complete(producer: Producer, returner: Returner) -> bool:
    """Whether what was accepted has come."""
    return set(producer.accepted_by) <= set(returner.data(producer.topic))


def wait_complete(producers: Sequence[Producer], returners: Sequence[Returner]) -> None:
    for producer, returner in itertools.product(producers, returners):
        eventually(
            lambda p=producer, r=returner: is_complete(p, r),  # type: ignore[misc]
            f"all events of {producer.topic} came",
        )


def assert_run(places: Sequence[Place]) -> None:
    """The events are consecutive ones, each once."""
    numbers = [place.number for place in places]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_processes_that_are_killed_cost_no_viewer_an_event(
    server: RedisServer, config: list[str]
) -> None:
    one, two = next(_topics), next(_topics)
    with ExitStack() as stack:
        cluster = stack.enter_context(
            running_cluster([["--redis", server.url, *config]] * 3, [config] * 3)
        )
        single = stack.enter_context(Returner(publics(cluster), one))
        double = stack.enter_context(Returner(publics(cluster), one, two))
        producers = [
            stack.enter_context(Producer(topic, urls(cluster), patience_seconds=1))
            for topic in (one, two)
        ]
        # Before it began, the store cannot tell what there was.
        eventually(lambda: lasted_ms(double, one) > OVERLAP_MS, "the overlap is over")
        for number, roles in enumerate((cluster.frontends, cluster.dispatchers) * 2):
            for producer in producers:
                producer.wait_further(40)
            killed = roles[number // 2]
            killed.signal(signal.SIGKILL)
            killed.wait()
            if killed in cluster.frontends:
                streams = single.streams, double.streams
                for returner, before in zip((single, double), streams, strict=True):
                    eventually(
                        lambda r=returner, b=before: r.streams >= max(b, 2),  # type: ignore[misc]
                        "it is back",
                    )
        for producer in producers:
            producer.wait_further(40)
            producer.stop()
        wait_complete(producers[:1], [single, double])
        wait_complete(producers[1:], [double])
    assert single.gaps() == double.gaps() == []
    assert_run(single.places(one))
    for topic in (one, two):
        assert_at_least_once(double, topic)


def lasted_ms(returner: Returner, topic: str) -> int:
    """The time between the first event and the last one."""
    places = returner.places(topic)
    return places[-1].at - places[0].at if places else 0


def assert_at_least_once(returner: Returner, topic: str) -> None:
    """Every event came; one that came again was stored a moment before the viewer came back."""
    last: Place | None = None
    last_id_at = 0
    for frame in returner.frames:
        if frame.event == "connected":
            allowed_from = last_id_at - OVERLAP_MS
        elif frame.event == "message":
            place = check_position(frame.data["position"])
            last_id_at = place.at
            if frame.data["topic"] == topic:
                if last is not None and place.number <= last.number:
                    assert place.at >= allowed_from, "it is older than the overlap"
                else:
                    assert last is None or place.number == last.number + 1, (last, place)
                    last = place


def test_redis_is_restarted_with_its_data_and_viewers_go_on_exactly(
    config: list[str], tmp_path: Path
) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(tmp_path))
    topic = next(_topics)
    with (
        RedisServer(*options) as server,
        running_cluster([["--redis", server.url, *config]] * 2, [config] * 2) as cluster,
        Returner(publics(cluster), topic) as away,
        Returner(publics(cluster), topic) as here,
        Producer(topic, urls(cluster), patience_seconds=1) as producer,
    ):
        producer.wait_further(50)
        before = here.places(topic)[0]
        server.kill()
        away.leave()
        server.start()
        producer.wait_further(50)
        away.leave()
        producer.wait_further(20)
        producer.stop()
        wait_complete([producer], [here, away])
        assert here.places(topic)[-1].tag != before.tag, "Redis may have lost something"
        for returner in (here, away):
            assert returner.gaps() == []
            assert_run(returner.places(topic))
        page = HTTP.get(f"{cluster.url(0)}/history", params={"topic": topic, "since": str(before)})
        assert page.json()["complete"] is True


def test_redis_is_restarted_empty_and_the_loss_is_told(
    cluster: Cluster, viewers: Viewers, server: RedisServer
) -> None:
    topic = next(_topics)
    with (
        Returner(publics(cluster), topic) as away,
        Returner(publics(cluster), topic) as here,
        Producer(topic, urls(cluster), patience_seconds=1) as producer,
    ):
        producer.wait_further(30)
        eventually(lambda: bool(here.places(topic)), "some came")
        old = here.places(topic)[-1]
        server.kill()
        server.start()
        producer.wait_further(30)
        away.leave()
        producer.wait_further(30)
        producer.stop()
        eventually(lambda: away.streams == 2, "it is back")
        for returner in (here, away):
            eventually(
                lambda r=returner: producer.accepted in r.data(topic),  # type: ignore[misc]
                "the last event came",
            )
            assert None in returner.gaps(), "nobody knows what was lost"
            new = [place for place in returner.places(topic) if place.tag != old.tag]
            assert_run(new)
        stream = viewers.connect(
            cluster.frontends[0].url("public"), topic, headers={"Last-Event-ID": str(old)}
        )
        assert stream.control("connected")[0].data["lost"] == [topic]


def test_sentinel_fails_over_and_what_the_replica_has_goes_on(
    config: list[str], tmp_path: Path
) -> None:
    topic = next(_topics)
    with ExitStack() as stack:
        master = stack.enter_context(RedisServer())
        replica = stack.enter_context(RedisServer("--replicaof", "127.0.0.1", str(master.port)))
        sentinel = stack.enter_context(Sentinel(master, tmp_path))
        url = f"sentinel://127.0.0.1:{sentinel.port}/main"
        cluster = stack.enter_context(
            running_cluster([["--redis", url, *config]] * 2, [config] * 2)
        )
        returners = [stack.enter_context(Returner(publics(cluster), topic)) for _ in range(2)]
        producer = stack.enter_context(Producer(topic, urls(cluster), patience_seconds=1))
        producer.wait_further(50)
        eventually(lambda: in_step(replica), "the replica has what the master has")
        master.kill()
        producer.wait_further(30)
        returners[0].leave()
        producer.wait_further(30)
        producer.stop()
        for returner in returners:
            eventually(
                lambda r=returner: producer.accepted in r.data(topic),  # type: ignore[misc]
                "the last event came",
            )
            assert_told(returner, topic)


def assert_told(returner: Returner, topic: str) -> None:
    """The events are consecutive ones, but for where a gap was told."""
    last: Place | None = None
    is_told = False
    for frame in returner.frames:
        if frame.event == "gap":
            is_told = True
        elif frame.event == "message" and frame.data["topic"] == topic:
            place = check_position(frame.data["position"])
            is_next = last is None or place.number == last.number + 1
            assert is_next or is_told, (last, place)
            last, is_told = place, False


def test_a_viewer_that_did_not_read_is_caught_up(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    settings = {**HISTORY, "viewers.mailbox_events": 50, "viewers.mailbox_bytes": 100_000}
    topic = next(_topics)
    with combined(*write_config(settings)) as role:
        stream = viewers.connect(role.url("public"), topic, receive_buffer_bytes=4096)
        viewers.stall(stream)
        text = "x" * 2000
        lines = b"\n".join(
            b'{"topic":"%b","data":["%b",%d]}' % (topic.encode(), text.encode(), number)
            for number in range(500)
        )
        for _ in range(8):
            assert publish_lines(role, lines).status_code == 202
        viewers.resume(stream)
        viewers.wait(lambda: len(stream.events) == 4000, "all came")
        numbers = [check_position(event["position"]).number for event in stream.events]
        assert numbers == list(range(1, 4001))
        assert stream.control("gap") == []
        assert metrics(role)["rtdeliver_history_reads_total"] > 0
        assert "Traceback" not in role.output


def test_the_paths_of_histories(write_config: WriteConfig, viewers: Viewers) -> None:
    settings = {**HISTORY, "access.public_topics": ["conv:*", "live:*"]}
    topic, likes = next(_topics), "live:red"
    with combined(*write_config(settings)) as role:
        internal, public = role.url("internal"), role.url("public")
        first = publish(role, {"topic": topic, "id": "mine", "data": 1})
        assert first.status_code == 202
        assert sorted(first.json()) == ["id", "position"]
        again = publish(role, {"topic": topic, "id": "mine", "data": 1})
        assert again.json() == {**first.json(), "repeated": True}
        assert "position" not in publish(role, {"topic": likes, "data": 1}).json()
        line = b'{"topic":"%b","id":"%b","data":0}'
        batch = b"\n".join(line % (topic.encode(), id) for id in (b"mine", b"b", b"c"))
        assert publish_lines(role, batch).json() == {"accepted": 3, "repeated": 1}

        newest = HTTP.get(f"{public}/history", params={"topic": topic, "limit": 2}).json()
        assert [event["id"] for event in newest["events"]] == ["b", "c"]
        assert (newest["topic"], newest["complete"]) == (topic, True)
        assert newest["first"] == newest["events"][0]["position"]
        assert newest["last"] == newest["events"][1]["position"]
        older = HTTP.get(f"{internal}/history", params={"topic": topic, "before": newest["first"]})
        assert [event["id"] for event in older.json()["events"]] == ["mine"]
        position = first.json()["position"]
        newer = HTTP.get(f"{public}/history", params={"topic": topic, "since": position})
        assert [event["id"] for event in newer.json()["events"]] == ["b", "c"]

        stream = viewers.connect(public, topic, query={"rewind": "2"})
        viewers.wait(lambda: len(stream.events) == 2, "the last two came")
        assert [event["id"] for event in stream.events] == ["b", "c"]

        for url, params, status in (
            (public, {"topic": likes}, 404),
            (internal, {"topic": likes}, 404),
            (public, {}, 400),
            (public, {"topic": topic, "since": "x"}, 400),
            (public, {"topic": topic, "since": position, "before": position}, 400),
            (public, {"topic": topic, "limit": "0"}, 400),
            (public, {"topic": "secret:1"}, 403),
        ):
            answer = HTTP.get(f"{url}/history", params=params)
            assert answer.status_code == status, (params, answer.text)
            assert answer.json()["message"]
        for query in ({"since": "x"}, {"rewind": "x"}, {"rewind": "1001"}):
            answer = HTTP.get(f"{public}/connect", params={"topic": topic, **query})
            assert answer.status_code == 400, query

        assert HTTP.delete(f"{public}/history", params={"topic": topic}).status_code == 405
        removed = HTTP.delete(f"{internal}/history", params={"topic": topic})
        assert (removed.status_code, removed.json()) == (200, {"removed": 3})
        emptied = HTTP.get(f"{public}/history", params={"topic": topic}).json()
        assert (emptied["events"], emptied["first"], emptied["last"]) == ([], None, None)


def test_another_datacenter_goes_on_with_the_overlap(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    topic = next(_topics)
    config = list(write_config(HISTORY))
    with ExitStack() as stack:
        west = stack.enter_context(combined(*config))
        peer = f"west={west.url('internal')}"
        east = stack.enter_context(combined("--peer", peer, *config))
        for number in range(5):
            assert publish(east, {"topic": topic, "data": number}).status_code == 202
        [here] = [viewers.connect(east.url("public"), topic, query={"rewind": "5"})]
        viewers.wait(lambda: len(here.events) == 5, "they are in the east")
        other = viewers.connect(west.url("public"), topic, query={"rewind": "5"})
        viewers.wait(lambda: len(other.events) == 5, "they are in the west")
        time.sleep(HISTORY["history.overlap_seconds"])  # type: ignore[arg-type]
        last = here.events[-1]["position"]
        for number in range(5, 8):
            assert publish(east, {"topic": topic, "data": number}).status_code == 202
        moved = viewers.connect(west.url("public"), topic, headers={"Last-Event-ID": last})
        viewers.wait(
            lambda: [event["data"] for event in moved.events][-3:] == [5, 6, 7], "it goes on"
        )
        assert check_position(moved.events[-1]["position"]).tag != check_position(last).tag
        ids = [event["id"] for event in moved.events]
        assert len(ids) == len(set(ids))


def test_a_dispatcher_that_cannot_store_publishes_nothing(
    cluster: Cluster, viewers: Viewers, server: RedisServer
) -> None:
    topic = next(_topics)
    stream = viewers.connect(cluster.frontends[0].url("public"), topic)
    assert cluster.publish(0, topic, 0).status_code == 202
    server.kill()
    eventually(lambda: cluster.publish(0, topic, 1).status_code == 503, "it cannot store it")
    server.start()
    cluster.wait_ready()
    eventually(lambda: cluster.publish(0, topic, 2).status_code == 202, "it stores again")
    viewers.wait(lambda: stream.events[-1]["data"] == 2, "it came")
    assert [event["data"] for event in stream.events].count(1) == 0


def test_an_id_that_is_published_at_two_dispatchers_is_stored_once(cluster: Cluster) -> None:
    topic = next(_topics)
    event = {"topic": topic, "id": "same", "data": 1}
    answers = [httpx.post(f"{cluster.url(n % 2)}/publish", json=event) for n in range(6)]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["position"] for answer in answers}) == 1
    assert [answer.json().get("repeated", False) for answer in answers] == [False] + [True] * 5
