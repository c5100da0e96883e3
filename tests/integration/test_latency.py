"""Tracked events over several processes and datacenters, joined by whoever is there."""

import http.server
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rtdeliver.config.sections import Latency, Redis
from rtdeliver.interfaces import IRecords
from rtdeliver.latency.streams import RedisRecords
from rtdeliver.messages import HopRecord
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import parse_redis_url
from tests.contracts.records import RecordsContract
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import (
    HTTP,
    LOOPBACK,
    RoleProcess,
    combined,
    dispatcher,
    eventually,
    fixed_port,
    metrics,
    running,
)
from tests.integration.streams import Frame, Stream, Viewers

TOPIC = "live:red"
EVENTS = 100
# The wall clock when the clock that measures durations was at 0.
MONOTONIC_AT = time.time() - time.monotonic()
# Everything is tracked, and what dies is noticed soon.
ALL: dict[str, object] = {
    "latency.track_one_in": 1,
    "latency.receipts_one_in": 1,
    "latency.write_seconds": 0.2,
    "latency.read_seconds": 0.2,
    "latency.lease_seconds": 1.5,
    "latency.settle_seconds": 3,
    "latency.window_seconds": 60,
    "redis.reconnect_seconds": 0.3,
    "redis.command_seconds": 0.5,
    "redis.grace_seconds": 5,
    "routing.announce_seconds": 0.5,
    "retry.max_seconds": 0.5,
}


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def connection(port: int, prefix: str) -> RedisConnection:
    address = parse_redis_url(f"redis://127.0.0.1:{port}")
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


@pytest.mark.waits
@pytest.mark.parametrize("prefixes", [("a:",), ("a:", "b:", "c:")], ids=["one", "three"])
class TestRedisRecords(RecordsContract):
    """The contract, on one Redis and on three, which are three prefixes of the same server."""

    implementation = RedisRecords

    @pytest.fixture(autouse=True)
    def _records(self, server: RedisServer, prefixes: Sequence[str]) -> Iterator[None]:
        server.client.flushall()
        for prefix in prefixes:
            server.client.set(f"{prefix}latency:wanted", "1")
        self.server = server
        shards = {prefix: connection(server.port, prefix) for prefix in prefixes}
        for each in shards.values():
            each.start()
        for _ in range(3000):
            if all(each.reachable for each in shards.values()):
                break
            pytest_twisted.blockon(deferLater(reactor, 0.02))
        runs = {name: each.run for name, each in shards.items()}
        self.records = RedisRecords(shards=runs, settings=Latency())
        yield
        for each in shards.values():
            pytest_twisted.blockon(Deferred.fromCoroutine(each.stop()))

    def setUp(self) -> None:
        """Left to the fixture."""

    def make_away(self) -> IRecords:
        away = connection(fixed_port(), "a:")
        return RedisRecords(shards={"a": away.run}, settings=Latency())

    def written(self) -> Sequence[HopRecord]:
        client = self.server.client
        entries: list[Any] = []
        for key in client.scan_iter("*records:*"):
            entries += client.xrange(key) or []
        return [msgspec.json.decode(entry["record"], type=HopRecord) for _, entry in entries]

    def test_where_nobody_reads_them_records_are_dropped(self) -> None:
        for key in self.server.client.scan_iter("*latency:wanted"):
            self.server.client.delete(key)
        self.successResultOf(self.write(self.records))
        assert self.written() == []

    def test_records_that_nobody_reads_are_dropped_some_time(self) -> None:
        self.successResultOf(self.write(self.records))
        for key in self.server.client.scan_iter("*records:*"):
            assert 0 < self.server.client.pttl(key) <= 600_000

    def successResultOf(self, deferred: Deferred[Any]) -> Any:  # type: ignore[override]
        return pytest_twisted.blockon(deferred)

    def failureResultOf(self, deferred: Deferred[Any], *expected: type[Exception]) -> Any:
        with pytest.raises(expected):
            pytest_twisted.blockon(deferred)

    def assertEqual(self, first: object, second: object, msg: object = None) -> None:
        assert first == second, msg


class Datacenter:
    """A dispatcher and a frontend with their Redis.

    :param peer: another datacenter as the dispatcher is told of it; empty for none.
    """

    def __init__(
        self, name: str, port: int, peer: str, config: Sequence[str], *frontend: str
    ) -> None:
        self.name = name
        self._stack = ExitStack()
        self.redis = self._stack.enter_context(RedisServer())
        peers = [f"--peer={peer}"] if peer else []
        self.dispatcher = self._start(
            "rtdispatcher", "--listen", f"tcp:{port}:interface=127.0.0.1", *config,
            "--redis", self.redis.url, "--datacenter", name, *peers,
        )  # fmt: skip
        self.frontend = self._start(
            "rtfrontend", "--dispatcher", f"http://127.0.0.1:{port}", "--node", f"{name}-n1",
            "--public", LOOPBACK, "--internal", LOOPBACK, *config, *frontend,
        )  # fmt: skip

    def __enter__(self) -> "Datacenter":
        for role in (self.dispatcher, self.frontend):
            role.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def publish(self, number: object, kind: str = "like") -> None:
        body = {"topic": TOPIC, "type": kind, "data": number}
        assert HTTP.post(self.dispatcher.url("listen") + "/publish", json=body).status_code == 202

    def watch(self, viewers: Viewers) -> Stream:
        stream = viewers.connect(self.frontend.url("public"), TOPIC)
        eventually(lambda: self._is_routed(1), "it is routed")
        return stream

    def _is_routed(self, count: int) -> bool:
        url = self.dispatcher.url("listen") + "/topics"
        return bool(HTTP.get(url, params={"topic": TOPIC}).json().get("viewers", 0) >= count)

    def _start(self, role: str, *options: str) -> RoleProcess:
        process = RoleProcess(role, *options)
        self._stack.callback(process.stop)
        return process


@contextmanager
def datacenters(config: Sequence[str]) -> Iterator[tuple[Datacenter, Datacenter]]:
    """Run two that peer with each other."""
    ports = [fixed_port(), fixed_port()]
    with (
        Datacenter("dc1", ports[0], f"dc2=http://127.0.0.1:{ports[1]}", config) as first,
        Datacenter("dc2", ports[1], f"dc1=http://127.0.0.1:{ports[0]}", config) as second,
    ):
        yield first, second


def wait_wanted(server: RedisServer) -> None:
    """Wait until records are written to a Redis, since they are read there."""
    eventually(lambda: bool(server.client.exists("rtdeliver:latency:wanted")), "they are read")


@contextmanager
def rtlatency(config: Sequence[str], *places: Datacenter) -> Iterator[RoleProcess]:
    """Run ``rtlatency`` with the Redis of some datacenters."""
    named = [f"--redis={place.name}={place.redis.url}" for place in places]
    with running("rtlatency", "--listen", LOOPBACK, *named, *config) as role:
        ready = role.url("listen") + "/health/ready"
        eventually(lambda: HTTP.get(ready).status_code == 200, "it is ready")
        for place in places:
            wait_wanted(place.redis)
        yield role
        if role.is_running():
            assert "Traceback" not in role.output, role.output
            assert "Unhandled" not in role.output, role.output


def told(role: RoleProcess, listener: str = "listen") -> dict[str, Any]:
    answer = HTTP.get(role.url(listener) + "/latency")
    assert answer.status_code == 200, answer.text
    latency: dict[str, Any] = answer.json()
    return latency


def completeness(latency: dict[str, Any], kind: str = "like") -> dict[str, int]:
    """What is told of the last five minutes; nothing as long as nothing is settled."""
    [*found] = (
        row for row in latency["completeness"] if row["type"] == kind and row["seconds"] == 300
    )
    return {key: value for row in found for key, value in row.items() if isinstance(value, int)}


def ways(latency: dict[str, Any], kind: str = "like") -> dict[tuple[str, str, str, str], int]:
    """How many ages are told of the last five minutes, by stages and datacenters."""
    return {
        (row["from"], row["to"], row["origin"], row["target"]): row["count"]
        for row in latency["stages"]
        if row["type"] == kind and row["seconds"] == 300
    }


class Page:
    """Tells a frontend what its stream receives, as a page does."""

    def __init__(self, place: Datacenter, stream: Stream) -> None:
        self._url = place.frontend.url("public") + "/received"
        self._stream = stream
        self._told = 0

    def tell(self) -> None:
        while self._told < len(self._stream.events):
            ids = [e["id"] for e in self._stream.events[self._told : self._told + 100]]
            [connected] = self._stream.control("connected")
            body = {"connection": connected.data["connection"], "round_trip_ms": 1, "events": ids}
            answer = HTTP.post(self._url, json=body)
            if answer.status_code != 429:
                assert answer.status_code == 202, answer.text
                self._told += len(ids)


def test_every_event_is_joined_once_over_two_datacenters_although_a_joiner_is_killed(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config(ALL)
    with (
        datacenters(config) as (dc1, dc2),
        rtlatency(config, dc1, dc2) as killed,
        rtlatency(config, dc1, dc2) as left,
    ):
        partitions = "rtdeliver_joined_partitions"
        eventually(
            lambda: metrics(killed, "listen")[partitions] == metrics(left, "listen")[partitions],
            "each has half of the partitions",
        )
        streams = {place.name: place.watch(viewers) for place in (dc1, dc2)}
        pages = [Page(dc1, streams["dc1"]), Page(dc2, streams["dc2"])]
        for number in range(EVENTS):
            dc1.publish(number)
            if number == EVENTS // 2:
                for page in pages:
                    page.tell()
                eventually(lambda: bool(ways(told(left))), "some are joined")
                killed.signal(signal.SIGKILL)
        for stream in streams.values():
            viewers.wait(lambda s=stream: len(s.events) == EVENTS, "all came")  # type: ignore[misc]
        for page in pages:
            page.tell()

        everything = {
            ("published", "forwarded", "dc1", "dc2"): EVENTS,
            ("forwarded", "delivered", "dc1", "dc2"): EVENTS,
            **{
                (start, end, "dc1", target): EVENTS
                for target in ("dc1", "dc2")
                for start, end in (
                    ("published", "delivered"),
                    ("published", "sent"),
                    ("published", "received"),
                    ("delivered", "sent"),
                )
            },
        }
        eventually(lambda: sum(ways(told(left)).values()) >= sum(everything.values()), "all joined")
        eventually(lambda: completeness(told(left)).get("sent") == EVENTS, "all is complete")
        latency = told(left)
        assert ways(latency) == everything
        complete = dict.fromkeys(("published", "watched", "delivered", "sent", "received"), EVENTS)
        assert completeness(latency) == {**complete, "missing": 0, "seconds": 300}
        assert metrics(left, "listen")[partitions] == 16
        assert len(latency["slowest"]) == 10
        assert latency["objective"]["count"] == 2 * EVENTS


def test_what_was_joined_outlives_the_joiners(viewers: Viewers, write_config: WriteConfig) -> None:
    config = write_config({**ALL, "latency.window_seconds": 4})
    with Datacenter("dc1", fixed_port(), "", config) as place:
        place.watch(viewers)
        with rtlatency(config, place) as first:
            for number in range(10):
                place.publish(number)
            eventually(lambda: completeness(told(first)).get("sent") == 10, "all is complete")
            joined = "rtdeliver_joined_events_total"
            eventually(lambda: metrics(first, "listen")[joined] == 10, "all are closed")
            for number in range(5):
                place.publish(number)
            eventually(lambda: ways(told(first))["published", "sent", "dc1", "dc1"] == 15, "15")
        with rtlatency(config, place) as second:
            eventually(lambda: completeness(told(second)).get("sent") == 15, "all is there")
            assert ways(told(second))["published", "sent", "dc1", "dc1"] == 15
            eventually(lambda: not pending(place.redis), "no record is left in Redis")


def pending(server: RedisServer) -> int:
    """How many records the streams have."""
    return sum(int(server.client.xlen(key)) for key in server.client.scan_iter("*records:*"))


class Swallowing:
    """Stands before a frontend, and says of some deliveries that they arrived when they did not.

    :param word: what these have in their body.
    """

    def __init__(self, word: bytes) -> None:
        self.target = ""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                lines = body.split(b"\n")
                kept = b"\n".join(line for line in lines if word not in line)
                answer = HTTP.post(
                    outer.target + self.path,
                    content=kept,
                    headers={k: self.headers[k] for k in ("Content-Type", "Rt-Incarnation")},
                )
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Swallowing":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_loss_that_no_counter_knows_is_seen(viewers: Viewers, write_config: WriteConfig) -> None:
    config = write_config(ALL)
    with (
        Swallowing(b"swallow me") as between,
        Datacenter("dc1", fixed_port(), "", config, "--advertise", between.url) as place,
        rtlatency(config, place) as joiner,
    ):
        between.target = place.frontend.url("internal")
        stream = place.watch(viewers)
        for data in ("one", "swallow me", "two"):
            place.publish(data)
        viewers.wait(lambda: len(stream.events) == 2, "the others came")

        def counts() -> tuple[int | None, int | None]:
            found = completeness(told(joiner))
            return found.get("missing"), found.get("sent")

        # On a busy machine, what was sent may be joined later than what is missing is known.
        eventually(lambda: counts() == (1, 2), "one is missing, and the others were sent")
        latency = told(joiner)
        [incomplete] = latency["incomplete"]
        assert incomplete["missing"] == ["delivered at dc1-n1 (dc1)"]
        assert [hop["stage"] for hop in incomplete["hops"]] == ["published"]
        counted = metrics(place.dispatcher, "listen")
        assert not any(v for n, v in counted.items() if n.startswith("rtdeliver_dropped_total"))


def test_joining_goes_on_after_redis_was_away_and_empty(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config(ALL)
    with Datacenter("dc1", fixed_port(), "", config) as place, rtlatency(config, place) as joiner:
        place.watch(viewers)
        place.redis.kill()
        ready = joiner.url("listen") + "/health/ready"
        eventually(lambda: HTTP.get(ready).status_code == 503, "it says that Redis is away")
        answer = HTTP.get(joiner.url("listen") + "/latency")
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
        place.redis.start()
        eventually(lambda: HTTP.get(ready).status_code == 200, "it is ready again")
        eventually(lambda: place._is_routed(1), "all is announced again")
        wait_wanted(place.redis)
        for number in range(5):
            place.publish(number)
        eventually(lambda: completeness(told(joiner)).get("sent") == 5, "these are joined")


def test_a_dispatcher_whose_records_are_refused_goes_on_and_says_so_once(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config(ALL)
    with Datacenter("dc1", fixed_port(), "", config) as place:
        stream = place.watch(viewers)
        place.redis.client.set("rtdeliver:latency:wanted", 1)
        for number in range(16):
            place.redis.client.set(f"rtdeliver:latency:records:{number}", "of another kind")
        for number in range(5):
            place.publish(number)
        refused = "refuses commands: WRONGTYPE"
        eventually(lambda: refused in place.dispatcher.output, "it says so")
        viewers.wait(lambda: len(stream.events) == 5, "all came")
        ready = place.dispatcher.url("listen") + "/health/ready"
        assert HTTP.get(ready).status_code == 200
        for number in range(16):
            place.redis.client.delete(f"rtdeliver:latency:records:{number}")
        counted = "rtdeliver_records_waiting"
        eventually(lambda: metrics(place.dispatcher, "listen")[counted] == 0, "it writes again")
        told = [line for line in place.dispatcher.log if refused in line]
        assert sum("rtdeliver.redis.faults" in line for line in told) == 1, told
        assert len(told) <= 2, told


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with Redis"])
def test_in_one_process_all_is_joined_there(
    shared: bool, viewers: Viewers, write_config: WriteConfig
) -> None:
    with RedisServer() as server:
        redis = ["--redis", server.url] if shared else []
        with combined(*write_config(ALL), *redis) as role:
            stream = viewers.connect(role.url("public"), TOPIC)
            assert stream.control("connected")
            if shared:
                wait_wanted(server)
            publish = role.url("internal") + "/publish"
            for number in range(5):
                HTTP.post(publish, json={"topic": TOPIC, "type": "like", "data": number})
            eventually(lambda: completeness(told(role, "internal")).get("sent") == 5, "all came")
            assert ways(told(role, "internal"))["published", "sent", "", ""] == 5
            assert metrics(role)["rtdeliver_latency_objective_met"] == 1


def test_a_dispatcher_without_redis_joins_what_its_frontends_tell(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config(ALL)
    with dispatcher("--datacenter", "dc1", *config) as role:
        url = role.url("listen")
        options = ("--dispatcher", url, "--public", LOOPBACK, "--internal", LOOPBACK, *config)
        with running("rtfrontend", *options) as frontend:
            viewers.connect(frontend.url("public"), TOPIC)
            HTTP.post(url + "/publish", json={"topic": TOPIC, "type": "like", "data": 1})
            eventually(lambda: completeness(told(role)).get("sent") == 1, "it came")
            assert ways(told(role))["delivered", "sent", "dc1", "dc1"] == 1


def test_percentiles_agree_with_a_reader_outside(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    """On a machine that is busy now and then, in one of several rounds."""
    with combined(*write_config(ALL)) as role:
        streams = [viewers.connect(role.url("public"), TOPIC) for _ in range(10)]
        rounds = [agree(role, viewers, streams, f"round{number}") for number in range(3)]
        for number in range(3, 10):
            if any(told == pytest.approx(read, rel=0.1, abs=2) for told, read in rounds):
                return
            rounds.append(agree(role, viewers, streams, f"round{number}"))
        raise AssertionError(rounds)


def agree(
    role: RoleProcess, viewers: Viewers, streams: Sequence[Stream], kind: str
) -> tuple[list[float], list[float]]:
    """Publish some events; return two percentiles as they are told, and as a reader sees them."""
    for _ in range(20):
        body = {"topic": TOPIC, "type": kind, "data": 1}
        assert HTTP.post(role.url("internal") + "/publish", json=body).status_code == 202
    read: list[float] = []
    for stream in streams:
        viewers.wait(lambda s=stream: len(of_type(s, kind)) == 20, "all came")  # type: ignore[misc]
        read += [(f.at + MONOTONIC_AT) * 1000 - f.data["at"] for f in of_type(stream, kind)]
    way = ("published", "sent")
    eventually(lambda: ages(told(role, "internal"), kind, *way)["count"] == 200, "all joined")
    row = ages(told(role, "internal"), kind, *way)
    return [row["p50_ms"], row["p90_ms"]], [percentile(read, 50), percentile(read, 90)]


def of_type(stream: Stream, kind: str) -> list[Frame]:
    return [f for f in list(stream.frames) if f.event == "message" and f.data["type"] == kind]


def ages(latency: dict[str, Any], kind: str, start: str, end: str) -> dict[str, Any]:
    """What is told of the last five minutes from one stage to another."""
    for row in latency["stages"]:
        if (row["type"], row["from"], row["to"], row["seconds"]) == (kind, start, end, 300):
            found: dict[str, Any] = row
            return found
    return {"count": 0}


def percentile(values: Sequence[float], share: int) -> float:
    return sorted(values)[math.ceil(len(values) * share / 100) - 1]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"stage":"nonsense","id":"a","type":"like","at":1,"ages":[]}', 400),
        (b"nonsense", 400),
        (b"\n".join([b"{}"] * 501), 413),
    ],
)
def test_wrong_records_are_refused(body: bytes, status: int, write_config: WriteConfig) -> None:
    with combined(*write_config(ALL)) as role:
        answer = HTTP.post(
            role.url("internal") + "/records",
            content=body,
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert answer.status_code == status, answer.text
        assert answer.json()["message"]


def test_rtlatency_needs_a_redis() -> None:
    process = RoleProcess("rtlatency", "--listen", LOOPBACK)
    try:
        eventually(lambda: not process.is_running(), "it ends")
        assert "redis.urls" in process.output
    finally:
        process.stop()
