"""Measures, with real processes, the figures that are given for one small machine.

Run from the project's root: ``python -m tests.figures [NAME]...``. Each prints a line of JSON. All
take about six minutes, and need 10,100 file descriptors a process.
"""

import itertools
import json
import math
import multiprocessing
import os
import re
import secrets
import select
import selectors
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
import timeit
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rtdeliver.config.sections import Redis
from rtdeliver.grants import patterns
from rtdeliver.keys import read_key_file
from rtdeliver.model import check_topic
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import parse_redis_url
from rtdeliver.routing.redis import RedisRoutingTable
from rtdeliver.tokens import TokenChecker, VerifyingKey
from tests.attacks import (
    attacked,
    busy_topics,
    colliding_topics,
    long_topics,
    slow_readers,
    unfinished_bodies,
)
from tests.e2e.conftest import self_signed_in
from tests.e2e.proxies import nginx
from tests.e2e.tabs import Tabs, chromium
from tests.e2e.test_app import DESKTOP, app, site_of, visit
from tests.integration.clusters import running_cluster
from tests.integration.pages import Page, Pages
from tests.integration.redis_server import RedisServer
from tests.integration.roles import (
    HTTP,
    LOOPBACK,
    RoleProcess,
    combined,
    dispatcher,
    eventually,
    fixed_port,
    frontend,
    likes,
    metrics,
    publish,
    publish_lines,
    running,
)
from tests.integration.sentinel import Sentinel
from tests.integration.streams import Frame, Stream, Viewers
from tests.integration.test_netns import measure_delays
from tests.integration.test_revocations import KEY as REVOKING_KEY
from tests.integration.test_revocations import World
from tests.integration.test_revocations import token as revoked_token
from tests.integration.test_rolling_restart import SETTINGS, restarted_one_by_one
from tests.integration.test_workers import running_frontends, worker_of
from tests.integration.wide_area import why_not

STREAMS = 10_000
_READ, _TELL = 0, 1
_WAITING = 'rtdeliver_mailbox_bytes{actor="connection"}'


def main(wanted: Sequence[str]) -> None:
    for name in wanted or _FIGURES:
        print(json.dumps({name: _FIGURES[name]()}), flush=True)  # noqa: T201


def memory() -> dict[str, float]:
    """RSS of a frontend process for each idle stream, over what it has without streams."""
    with dispatcher() as hub, frontend(hub.url("listen"), "n1") as node:
        warm = _Crowd(node, 200, "warm")
        warm.close()
        base = _rss_bytes(node)
        crowd = _Crowd(node, STREAMS, "live:red")
        rss = _rss_bytes(node)
        crowd.close()
    return {
        "streams": STREAMS,
        "base_megabytes": round(base / 1e6, 1),
        "bytes_per_stream": round((rss - base) / STREAMS),
    }


def tokens() -> dict[str, Any]:
    """What access control costs.

    ``grants``: microseconds of a check against 20 patterns that do not match, and of one that does.
    For each algorithm: microseconds to check a token, and for streams with a token of their own, a
    member and 20 grants each, the seconds until all are open, and what each holds more than one
    without a token.
    """
    allowed = patterns([f"conv:*.{number}.*" for number in range(20)])
    found: dict[str, Any] = {
        "grants": {
            "no_match_us": _microseconds(lambda: allowed.cover("conv:ann.bob.cyd")),
            "match_us": _microseconds(lambda: allowed.cover("conv:ann.19.cyd")),
        }
    }
    plain = _connects("", None)
    found["none"] = plain
    for algorithm, (private, public) in _signing_keys().items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "key")
            file.write_bytes(public)
            kind = "hs256" if algorithm == "HS256" else "pem"
            key = f"{kind}:{file}"
            check = TokenChecker([_Fixed((read_key_file(key),))]).check
            token = _token(private, algorithm, 0)
            measured = _connects(key, partial(_token, private, algorithm))
            more = measured["bytes_per_stream"] - plain["bytes_per_stream"]
            found[algorithm] = {
                "check_us": _microseconds(partial(check, token, now=time.time())),
                **measured,
                "bytes_more": round(more),
            }
    return found


class _Fixed(NamedTuple):
    """Keys that stay as they are."""

    keys: tuple[VerifyingKey, ...]

    def verifying_keys(self) -> tuple[VerifyingKey, ...]:
        return self.keys


def _signing_keys() -> dict[str, tuple[Any, bytes]]:
    """Return for each algorithm a key to sign with, and what a frontend is given."""
    shared = secrets.token_bytes(32).hex()
    private: dict[str, Any] = {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {"HS256": (shared, shared.encode())} | {
        name: (key, key.public_key().public_bytes(*form)) for name, key in private.items()
    }


def _token(key: Any, algorithm: str, number: int) -> str:
    claims = {
        "sub": f"member{number}",
        "exp": time.time() + 3600,
        "iat": time.time(),
        "subscribe": [f"conv:{each}.*" for each in range(20)],
    }
    return jwt.encode(claims, key, algorithm=algorithm)


def _connects(key: str, token: Callable[[int], str] | None) -> dict[str, float]:
    """Open `STREAMS` streams, each with a token; a frontend of its own checks them with ``key``."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "rtdeliver.toml")
        config.write_text(f'access.keys = ["{key}"]\naccess.public_topics = ["*"]\n' if key else "")
        with (
            dispatcher() as hub,
            frontend(hub.url("listen"), "n1", "--config", str(config)) as node,
        ):
            warm = _Crowd(node, 200, "warm")
            warm.close()
            fields = [
                f"Authorization: Bearer {token(number)}\r\n" if token else ""
                for number in range(STREAMS)
            ]
            base, cpu, began = _rss_bytes(node), _cpu_seconds(node), time.monotonic()
            crowd = _Crowd(node, STREAMS, "live:red", fields)
            seconds = time.monotonic() - began
            used = _cpu_seconds(node) - cpu
            rss = _rss_bytes(node)
            crowd.close()
    return {
        "streams": STREAMS,
        "connect_seconds": round(seconds, 1),
        "cpu_ms_per_connect": round(1000 * used / STREAMS, 3),
        "bytes_per_stream": round((rss - base) / STREAMS),
    }


def _cpu_seconds(role: RoleProcess) -> float:
    return metrics(role)["process_cpu_seconds_total"]


def _microseconds(call: Callable[[], object]) -> float:
    """Return the shortest mean time of a call, of five rounds."""
    timer = timeit.Timer(call)
    rounds, _ = timer.autorange()
    return round(min(timer.repeat(5, rounds)) / rounds * 1e6, 2)


def revoked() -> dict[str, float]:
    """How long after the answer of /disconnect the streams of a member end, in seconds.

    There are 25 streams at each of three frontends, with two dispatchers and Redis, and at one of a
    second datacenter.
    """
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server, ExitStack() as stack:
        key, config = Path(folder, "key"), Path(folder, "rtdeliver.toml")
        key.write_text(REVOKING_KEY)
        config.write_text(f'access.keys = ["hs256:{key}"]\naccess.public_topics = ["*"]\n')
        world = World(stack, server, ["--config", str(config)])
        viewers = stack.enter_context(Viewers())
        query = {"token": revoked_token("ann")}
        streams = [
            viewers.connect(role.url("public"), query=query)
            for role in world.frontends
            for _ in range(25)
        ]
        url = world.near.url(0)
        HTTP.post(f"{url}/disconnect", json={"member": "ann"}).raise_for_status()
        answered_at = time.monotonic()
        viewers.wait(lambda: all(s.control("disconnected") for s in streams), "all have ended")
        ended = [s.control("disconnected")[0].at - answered_at for s in streams]
    return {"first": round(min(ended), 3), "last": round(max(ended), 3)}


def arenas() -> dict[str, dict[str, float]]:
    """Megabytes of a frontend with different settings of malloc, as streams come and go."""
    found = {}
    for name, settings in (
        ("as it is", {}),
        ("MALLOC_ARENA_MAX=2", {"MALLOC_ARENA_MAX": "2"}),
        ("MALLOC_TRIM_THRESHOLD_=131072", {"MALLOC_TRIM_THRESHOLD_": "131072"}),
        ("PYTHONMALLOC=malloc", {"PYTHONMALLOC": "malloc"}),
    ):
        os.environ.update(settings)
        try:
            found[name] = _memory_of_a_day()
        finally:
            for variable in settings:
                del os.environ[variable]
    return found


def _memory_of_a_day() -> dict[str, float]:
    with dispatcher() as hub, frontend(hub.url("listen"), "n1") as node:
        found = {"no streams": _rss_bytes(node)}
        for time_of_day in ("10,000 streams", "10,000 streams again"):
            crowd = _Crowd(node, STREAMS, "live:red")
            found[time_of_day] = _rss_bytes(node)
            for _ in range(20):
                frames = crowd.received_frames
                publish(hub, {"topic": "live:red", "data": "x" * 1000}, "listen")
                while crowd.received_frames < frames + STREAMS:
                    crowd.read()
            found[f"{time_of_day}, after 200,000 deliveries"] = _rss_bytes(node)
            crowd.close()
            eventually(lambda: metrics(node)["rtdeliver_connections"] == 0, "all have left")
            found[f"after {time_of_day}"] = _rss_bytes(node)
        return {name: round(size / 1e6, 1) for name, size in found.items()}


def backlog() -> dict[str, dict[str, float]]:
    """Seconds until 500 viewers, who come while the process is busy, have their first frames."""
    found = {}
    for waiting in (50, 128, 4096):
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "rtdeliver.toml")
            config.write_text(f"listeners.backlog = {waiting}\n")
            with combined("--config", str(config)) as role:
                overflows = _listen_overflows()
                seconds = _first_frames(role, 500)
                found[f"listeners.backlog = {waiting}"] = {
                    **_percentiles(seconds),
                    "refused_by_the_kernel": _listen_overflows() - overflows,
                }
    return found


def _first_frames(role: RoleProcess, viewers: int) -> list[float]:
    """Connect all at once while nothing is accepted; return how long each waited for a frame."""
    host, port = role.ports["public"].split(":")
    request = b"GET /connect?topic=live:red HTTP/1.1\r\nHost: x\r\n\r\n"
    selector = selectors.EpollSelector()
    began = time.monotonic()
    role.signal(signal.SIGSTOP)
    for _ in range(viewers):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((host, int(port)))
        selector.register(client, selectors.EVENT_WRITE)
    time.sleep(0.2)
    role.signal(signal.SIGCONT)
    seconds: list[float] = []
    received: dict[Any, bytes] = defaultdict(bytes)
    while len(seconds) < viewers:
        for key, mask in selector.select(1):
            assert isinstance(key.fileobj, socket.socket)
            client = key.fileobj
            if mask & selectors.EVENT_WRITE:
                client.sendall(request)
                selector.modify(client, selectors.EVENT_READ)
                continue
            received[client] += client.recv(65536)
            if b"connected" in received[client]:
                seconds.append(time.monotonic() - began)
                selector.unregister(client)
    for client in received:
        client.close()
    return seconds


def _listen_overflows() -> int:
    """How many connections the kernel has not taken since a backlog was full."""
    lines = Path("/proc/net/netstat").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(values[names.index("ListenOverflows")])


def joined() -> dict[str, dict[str, float]]:
    """What the joiner tells of the way from publish to send, beside what viewers measure."""
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        config = Path(folder, "rtdeliver.toml")
        config.write_text("latency.track_one_in = 1\n")
        options = ("--config", str(config))
        with (
            dispatcher("--redis", server.url, *options) as hub,
            frontend(hub.url("listen"), "n1", *options) as node,
            running("rtlatency", "--listen", LOOPBACK, "--redis", server.url, *options) as joiner,
            _Readers(node) as readers,
        ):
            measured = _delays(hub, readers, "x", events=300)
            eventually(lambda: _joined_sends(joiner).get("count") == 300_000, "all are joined")
            return {"viewers": measured, "joined": _joined_sends(joiner)}


def _joined_sends(joiner: RoleProcess) -> dict[str, float]:
    answer = HTTP.get(joiner.url("listen") + "/latency").json()
    for row in answer.get("stages", []):
        if (row["from"], row["to"], row["seconds"]) == ("published", "sent", 300):
            return {key: row[key] for key in ("count", "p50_ms", "p90_ms", "p99_ms")}
    return {}


def resume() -> dict[str, Any]:
    """`STREAMS` viewers of 100 topics come back to a frontend that has just begun, 20 events late.

    ``caught_up_seconds``: until all have all. ``others``: what it takes meanwhile from the call of
    publish until one of 1000 viewers of another topic has an event, and ``before`` what it took.
    """
    topics = [f"conv:{number}" for number in range(100)]
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        config = Path(folder, "rtdeliver.toml")
        config.write_text('history.topics = {"conv:*" = {events = 1000, seconds = 3600}}\n')
        options = ("--config", str(config))
        with (
            dispatcher("--redis", server.url, *options) as hub,
            frontend(hub.url("listen"), "n1", *options) as node,
            _Readers(node) as readers,
        ):
            last_ids = [_publish_some(hub, topic, 50)[29] for topic in topics]
            before = _delays(hub, readers, "x", events=50)
            readers.forget()
            seconds: multiprocessing.Queue[float] = multiprocessing.Queue()
            returning = multiprocessing.Process(
                target=_return, args=(node, topics, last_ids, 20, seconds), daemon=True
            )
            returning.start()
            delays: list[float] = []
            while seconds.empty():
                delays += _one_delay(hub, readers)
            caught_up_seconds = seconds.get()
            found = metrics(node)
    return {
        "streams": STREAMS,
        "caught_up_seconds": round(caught_up_seconds, 2),
        "before": before,
        "others": {"deliveries": len(delays), **_percentiles(delays)},
        "reads": found["rtdeliver_history_reads_total"],
        "resumed": found["rtdeliver_resumed_total"],
    }


def _publish_some(hub: RoleProcess, topic: str, count: int) -> list[str]:
    """Publish events, and return their positions."""
    line = f'{{"topic":"{topic}","data":"{"x" * 100}"}}\n'.encode()
    assert publish_lines(hub, line * count, "listen").status_code == 202
    page = HTTP.get(hub.url("listen") + "/history", params={"topic": topic, "limit": count}).json()
    return [event["position"] for event in page["events"]]


def _return(
    role: RoleProcess,
    topics: Sequence[str],
    last_ids: Sequence[str],
    missed: int,
    seconds: "multiprocessing.Queue[float]",
) -> None:
    """Connect `STREAMS` viewers with last ids, and tell how long it takes until they have all."""
    began = time.monotonic()
    selector = selectors.EpollSelector()
    frames = 0

    def read() -> int:
        received = 0
        for key, _ in selector.select(0.001):
            client = key.fileobj
            assert isinstance(client, socket.socket)
            received += client.recv(65536).count(b"\n\n")
        return received

    for number in range(STREAMS):
        place = number % len(topics)
        field = f"Last-Event-ID: {last_ids[place]}\r\n"
        client = _connect(role, topics[place], fields=field)
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ)
        if number % 20 == 0:
            frames += read()
    while frames < STREAMS * (missed + 1):
        frames += read()
    seconds.put(time.monotonic() - began)
    time.sleep(1)


def _one_delay(hub: RoleProcess, readers: "_Readers") -> list[float]:
    readers.expect(time.monotonic())
    publish(hub, {"topic": "live:red", "data": "x"}, "listen")
    readers.wait_for(_Readers.COUNT)
    return readers.delays()


def stored() -> dict[str, float]:
    """What an event of 100 bytes of data takes up in Redis, and in a process without Redis."""
    events, topics = 100_000, 100
    settings = 'history.topics = {"conv:*" = {events = 10000, seconds = 3600}}\n'
    found: dict[str, float] = {"events": events}
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        config = Path(folder, "rtdeliver.toml")
        config.write_text(settings)
        with dispatcher("--redis", server.url, "--config", str(config)) as hub:
            before: Any = server.client.info("memory")
            line_bytes = _publish_many(hub, topics, events)
            after: Any = server.client.info("memory")
            found["line_bytes"] = line_bytes
            used = after["used_memory"] - before["used_memory"]
            found["bytes_in_redis"] = round(used / events)
        with dispatcher("--config", str(config)) as hub:
            base = metrics(hub, "listen")["process_resident_memory_bytes"]
            _publish_many(hub, topics, events)
            rss = metrics(hub, "listen")["process_resident_memory_bytes"]
            found["bytes_in_memory"] = round((rss - base) / events)
    return found


def _publish_many(hub: RoleProcess, topics: int, events: int) -> int:
    """Publish events to some topics, and return how long the line of one is."""
    for number in range(events // 1000):
        topic = f"conv:{number % topics}"
        _publish_some(hub, topic, 500)
        _publish_some(hub, topic, 500)
    page = HTTP.get(hub.url("listen") + "/history", params={"topic": "conv:0", "limit": 1})
    return len(json.dumps(page.json()["events"][0], separators=(",", ":")))


def fanout() -> dict[str, float]:
    """Sends for one publish to all, and how long a connect takes meanwhile."""
    with combined() as role:
        crowd = _Crowd(role, STREAMS, "live:red")
        before = metrics(role)
        waits = _connects_during(crowd, lambda: publish(role, {"topic": "live:red", "data": "x"}))
        after = metrics(role)
        crowd.close()
    return {
        "viewers": STREAMS,
        "received": crowd.received_frames - STREAMS,
        # Each connect during the fan-out has one send of its own.
        "sends": after["rtdeliver_sends_total"] - before["rtdeliver_sends_total"] - len(waits),
        "connects_meanwhile": len(waits),
        "slowest_connect_milliseconds": round(max(waits) * 1000, 1),
    }


def latency() -> dict[str, float]:
    """From the call of publish by HTTP to a viewer's receipt, 1000 viewers, 10 events/s."""
    with dispatcher() as hub, frontend(hub.url("listen"), "n1") as node, _Readers(node) as readers:
        return _delays(hub, readers, "x")


def ages() -> dict[str, dict[str, float]]:
    """What a frontend tells of the ages of events, beside what its viewers measure themselves."""
    with dispatcher() as hub, frontend(hub.url("listen"), "n1") as node, _Readers(node) as readers:
        measured = _delays(hub, readers, "x", events=300)
        return {"viewers": measured, "sent": _ages_sent(node)}


def _ages_sent(node: RoleProcess) -> dict[str, float]:
    """Percentiles of a histogram, where its buckets end."""
    bucket = re.compile(r'rtdeliver_event_age_seconds_bucket{le="(.*)",stage="sent"}')
    counts = [
        (float(match[1]), count)
        for name, count in metrics(node).items()
        if (match := bucket.fullmatch(name))
    ]
    total = counts[-1][1]
    return {
        f"p{percent}_milliseconds": next(
            round(end * 1000, 1) for end, count in counts if count >= total * percent / 100
        )
        for percent in (50, 90, 99)
    }


def stall() -> dict[str, dict[str, float]]:
    """The same with events of 4 KB, before and after another viewer has ceased to read."""
    with dispatcher() as hub, frontend(hub.url("listen"), "n1") as node, _Readers(node) as readers:
        before = _delays(hub, readers, "x" * 4096)
        with _connect(node, "live:red", receive_buffer_bytes=4096):
            while not metrics(node)[_WAITING]:
                _delays(hub, readers, "x" * 4096, events=10)
            after = _delays(hub, readers, "x" * 4096)
            waiting = metrics(node)[_WAITING]
    return {"before": before, "after": after, "stalled": {"mailbox_bytes": waiting}}


def attacks() -> dict[str, dict[str, float]]:
    """From publish to receipt of 1000 honest viewers at 10 events/s, while others attack."""
    with (
        RedisServer() as server,
        dispatcher("--redis", server.url) as hub,
        frontend(hub.url("listen"), "n1") as node,
        _Readers(node) as readers,
    ):
        found = {"none": _delays(hub, readers, "x")}
        for attack in (unfinished_bodies, slow_readers, long_topics, colliding_topics):
            with attacked(attack, node), _flooded(hub, busy_topics()):
                found[attack.__name__] = _delays(hub, readers, "x")
    return found


@contextmanager
def _flooded(hub: RoleProcess, topics: Sequence[str]) -> Iterator[None]:
    """Publish 3,000 events a second to these topics until the block ends."""
    batch = "\n".join(json.dumps({"topic": topic, "data": "x" * 100}) for topic in [*topics] * 3)
    ended = threading.Event()
    answers: list[int] = []

    def publish_batches() -> None:
        while not ended.wait(0.1):
            answers.append(publish_lines(hub, batch.encode(), "listen").status_code)

    producer = threading.Thread(target=publish_batches)
    producer.start()
    try:
        yield
    finally:
        ended.set()
        producer.join()
    assert set(answers) == {202}


def routing_table() -> dict[str, float]:
    """What 100,000 topics of one frontend cost: look-ups, Redis at rest, an emptied Redis."""
    with (
        RedisServer() as server,
        dispatcher("--redis", server.url) as hub,
        frontend(hub.url("listen"), "n1") as node,
    ):
        clients = [
            _connect(node, "&topic=".join(f"t:{viewer}:{number}" for number in range(100)))
            for viewer in range(1000)
        ]
        _wait_for_topics(server, 100_000)
        lookups = _in_reactor(_lookups, server.url)
        before = server.client.info("stats")["total_commands_processed"]
        time.sleep(20)
        commands = server.client.info("stats")["total_commands_processed"] - before
        server.kill()
        server.start()
        started_at = time.monotonic()
        _wait_for_topics(server, 100_000)
        whole = time.monotonic() - started_at
        for client in clients:
            client.close()
    return {
        **lookups,
        "redis_commands_per_second_at_rest": round(commands / 20, 2),
        "seconds_to_whole_after_an_empty_restart": round(whole, 2),
    }


def rolling() -> dict[str, list[int]]:
    """Pages that reconnect in each second while three frontends are restarted one by one."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write("".join(f"{key} = {value}\n" for key, value in SETTINGS.items()))
        file.flush()
        with restarted_one_by_one(["--config", file.name]) as pages:
            return {"reconnects_by_second": pages.reconnects_by_second()}


def rolling_behind_nginx() -> dict[str, Any]:
    """What 1000 viewers at 10 events/s miss while two frontends are restarted one by one.

    The frontends have the default settings, and nginx the configuration of etc/.
    """
    with tempfile.TemporaryDirectory() as folder, dispatcher() as hub:
        ports = [fixed_port(), fixed_port()]
        roles = [_frontend_at(hub, number, ports[number]) for number in (0, 1)]
        signed = self_signed_in(Path(folder))
        with (
            nginx(Path(folder), signed, *roles, scheme="http") as site,
            Viewers() as viewers,
            Pages(viewers, [site.url], "live:red", 1000, at_once=["live:red"]) as pages,
        ):
            viewers.wait(lambda: pages.all_subscribed, "all pages watch")
            with _numbered(hub, "live:red", per_second=10) as published:
                for number in (0, 1):
                    time.sleep(3)
                    roles[number].signal(signal.SIGTERM)
                    roles[number].wait()
                    roles[number] = _frontend_at(hub, number, ports[number])
                time.sleep(3)
                viewers.wait(lambda: pages.all_subscribed, "all pages watch again")
            last = published[-1]
            viewers.wait(
                lambda: all(_numbers(page)[-1:] == [last] for page in pages.pages), "all have all"
            )
            missed = [len(published) - len(set(_numbers(page))) for page in pages.pages]
            for role in roles:
                role.stop()
            return {
                "published": len(published),
                "most_missed_seconds": max(missed) / 10,
                "median_missed_seconds": statistics.median(missed) / 10,
                "reconnects_by_second": pages.reconnects_by_second(),
            }


def sentinel() -> dict[str, float]:
    """How long two dispatchers take to be ready again once a sentinel has failed over."""
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer() as master,
        RedisServer("--replicaof", "127.0.0.1", str(master.port)) as replica,
        Sentinel(master, Path(folder)) as watcher,
    ):
        options = ["--redis", f"sentinel://127.0.0.1:{watcher.port}/main"]
        with running_cluster([options] * 2, [[]] * 2) as cluster, Viewers() as viewers:
            viewers.connect(cluster.frontends[0].url("public"), "live:red")
            killed = time.perf_counter()
            master.kill()
            eventually(
                lambda: replica.client.info("replication")["role"] == "master", "it is the master"
            )
            known = time.perf_counter()
            cluster.wait_ready()
            cluster.wait_routed("live:red", n1=1)
            ready = time.perf_counter()
            assert cluster.publish(0, "live:red", 1).status_code == 202
    return {
        "until_the_sentinel_knew_seconds": round(known - killed, 2),
        "from_then_until_all_is_whole_seconds": round(ready - known, 2),
    }


def _frontend_at(hub: RoleProcess, number: int, port: int) -> RoleProcess:
    return RoleProcess(
        "rtfrontend",
        *("--dispatcher", hub.url("listen"), "--node", f"n{number}"),
        *("--public", f"tcp:{port}:interface=127.0.0.1", "--internal", LOOPBACK),
    ).wait_ready()


@contextmanager
def _numbered(hub: RoleProcess, topic: str, *, per_second: float) -> Iterator[list[int]]:
    """Publish the numbers from 0 on until the block ends; yields what was published."""
    published: list[int] = []
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(1 / per_second):
            number = len(published)
            publish(hub, {"topic": topic, "data": number}, "listen").raise_for_status()
            published.append(number)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield published
    finally:
        ended.set()
        thread.join()


def _numbers(page: Page) -> list[int]:
    return [event["data"] for stream in page.streams for event in stream.events]


def _wait_for_topics(server: RedisServer, topics: int) -> None:
    redis = server.client
    eventually(lambda: redis.scard("rtdeliver:topics:n1") == topics, "all topics are announced")


async def _lookups(url: str) -> dict[str, float]:
    address = parse_redis_url(url)
    table = RedisRoutingTable(
        endpoint=redis_endpoint(reactor, address, Redis()),
        address=address,
        settings=Redis(command_seconds=5),
        clock=reactor,
    )
    table.start()
    while table.missing():
        await deferLater(reactor, 0.05)
    topics = [check_topic(f"t:{number}:7") for number in range(1000)]
    microseconds = {}
    for temperature in ("cold", "warm"):
        started_at = time.perf_counter()
        for topic in topics:
            assert (await table.route(topic)).frontends
        passed = time.perf_counter() - started_at
        microseconds[f"{temperature}_lookup_microseconds"] = round(passed * 1e6 / len(topics), 1)
    await table.stop()
    return microseconds


def _in_reactor(main: Callable[[str], Coroutine[Any, Any, Any]], argument: str) -> Any:
    """Return what ``main(argument)`` returns, run in a process with a reactor of its own."""
    answers: multiprocessing.Queue[Any] = multiprocessing.Queue()

    def start() -> None:
        done = Deferred.fromCoroutine(main(argument)).addCallback(answers.put)
        done.addErrback(lambda failure: failure.printTraceback())
        done.addBoth(lambda _: reactor.stop())

    def run() -> None:
        reactor.callWhenRunning(start)
        reactor.run()

    process = multiprocessing.Process(target=run, daemon=True)
    process.start()
    answer = answers.get(timeout=60)
    process.join()
    return answer


def datacenters() -> dict[str, object]:
    """From publish to receipt in three datacenters with 40 ms from each to each."""
    reason = why_not()
    return {**measure_delays()} if reason is None else {"skipped": reason}


def one_like() -> dict[str, Any]:
    """A like by HTTP, one after the other: until it is answered, and until a viewer has it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        dispatcher() as hub,
        frontend(hub.url("listen"), "n1") as node,
        likes(
            [hub.url("listen")], node.url("public"), Path(folder) / "db", *_settings(folder)
        ) as live,
        Viewers() as viewers,
        httpx.Client(base_url=live.url("listen")) as browser,
    ):
        stream = viewers.connect(node.url("public"), "live:red")
        begun, answered = [], []
        for _ in range(500):
            begun.append(time.monotonic())
            browser.post("/videos/red/likes", json={"reaction": "heart"})
            answered.append(time.monotonic())
        viewers.wait(lambda: len(_of_type(stream, "like")) == len(begun), "all likes came")
        came = [frame.at for frame in _of_type(stream, "like")]
    return {
        "answered": _percentiles(
            [after - before for before, after in zip(begun, answered, strict=True)]
        ),
        "received": _percentiles(
            [after - before for before, after in zip(begun, came, strict=True)]
        ),
        "likes_per_second_one_by_one": round(len(begun) / (answered[-1] - begun[0])),
    }


def presence() -> dict[str, Any]:
    """From the decision that a member came, or is gone, to a viewer's receipt, on Redis."""
    members = [f"m{number}" for number in range(30)]
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer() as server,
        dispatcher("--redis", server.url, *_settings(folder)) as hub,
        frontend(hub.url("listen"), "n1", *_settings(folder)) as node,
        Viewers() as viewers,
    ):
        stream = viewers.connect(node.url("public"), *(f"presence:{name}" for name in members))
        for name in members:
            HTTP.post(hub.url("listen") + "/presence", json={"members": [name]})
        viewers.wait(lambda: len(stream.events) == 2 * len(members), "all came, and went")
        # The id begins with the moment of the decision.
        wall_clock = time.time() - time.monotonic()
        delays: dict[str, list[float]] = {"online": [], "offline": []}
        for frame in stream.frames:
            if frame.event == "message":
                decided_at = int(frame.data["id"].split("-")[0]) / 1000
                delays[frame.data["data"]["status"]].append(frame.at + wall_clock - decided_at)
    return {status: _percentiles(seconds) for status, seconds in delays.items()}


def _settings(folder: str) -> list[str]:
    path = Path(folder) / "rtdeliver.toml"
    path.write_text(
        "likes_limits.likes_per_second = 100000\nlikes_limits.likes_burst = 100000\n"
        "presence.heartbeat_seconds = 2\npresence.grace_seconds = 0.5\n"
    )
    return ["--config", str(path)]


def _of_type(stream: Stream, type: str) -> list[Frame]:
    return [
        frame for frame in stream.frames if frame.event == "message" and frame.data["type"] == type
    ]


def _delays(
    hub: RoleProcess, readers: "_Readers", data: str, events: int = 200
) -> dict[str, float]:
    readers.forget()
    with httpx.Client(base_url=hub.url("listen")) as producer:
        started_at = time.monotonic()
        for number in range(events):
            time.sleep(max(0.0, started_at + number / 10 - time.monotonic()))
            readers.expect(time.monotonic())
            producer.post("/publish", json={"topic": "live:red", "data": data})
            readers.wait_for((number + 1) * _Readers.COUNT)
    delays = readers.delays()
    return {"deliveries": len(delays), **_percentiles(delays)}


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        f"p{percent}_milliseconds": round(
            ordered[math.ceil(len(ordered) * percent / 100) - 1] * 1000, 1
        )
        for percent in (50, 90, 99, 100)
    }


def _connect(
    role: RoleProcess, topic: str, receive_buffer_bytes: int = 0, *, fields: str = ""
) -> socket.socket:
    host, port = role.ports["public"].split(":")
    client = socket.socket()
    if receive_buffer_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    client.connect((host, int(port)))
    client.sendall(f"GET /connect?topic={topic} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
    return client


class _Readers:
    """1000 viewers in a process of their own, which does nothing but read and look at the clock."""

    COUNT = 1000

    def __init__(self, role: RoleProcess) -> None:
        self._role = role
        self._published_at = multiprocessing.Value("d", 0.0)
        self._received = multiprocessing.Value("q", 0)
        self._delays: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
        self._order = multiprocessing.Value("i", _READ)
        self._process = multiprocessing.Process(target=self._read, daemon=True)

    def __enter__(self) -> "_Readers":
        self._process.start()
        self.wait_for(self.COUNT)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def expect(self, published_at: float) -> None:
        self._published_at.value = published_at

    def wait_for(self, frames: int) -> None:
        end = time.monotonic() + 60
        while self._received.value < frames:
            assert time.monotonic() < end, f"{self._received.value} of {frames} frames came"
            time.sleep(0.002)

    def forget(self) -> None:
        self.delays()

    def delays(self) -> list[float]:
        """Seconds from publish to receipt of each frame since the last call."""
        self._order.value = _TELL
        return self._delays.get(timeout=60)

    def _read(self) -> None:
        poller = select.epoll()
        clients = [_connect(self._role, "live:red") for _ in range(self.COUNT)]
        by_descriptor = {client.fileno(): client for client in clients}
        for client in clients:
            poller.register(client, select.EPOLLIN)
        buffer = bytearray(65536)
        delays: list[float] = []
        received = 0
        while True:
            for descriptor, _ in poller.poll(0.01):
                size = by_descriptor[descriptor].recv_into(buffer)
                frames = buffer.count(b"\n\n", 0, size)
                delays.extend([time.monotonic() - self._published_at.value] * frames)
                received += frames
            self._received.value = received
            if self._order.value == _TELL:
                self._order.value = _READ
                self._delays.put(delays)
                delays, received = [], 0
                self._received.value = 0


class _Crowd:
    """Many streams of one topic, read without a look at what they say."""

    def __init__(
        self, role: RoleProcess, count: int, topic: str, fields: Sequence[str] = ()
    ) -> None:
        self._role = role
        self._topic = topic
        self._fields = iter(fields)
        self._selector = selectors.EpollSelector()
        self._sockets: list[socket.socket] = []
        self.received_frames = 0
        for _ in range(count):
            client = self.connect()
            client.setblocking(False)
            self._sockets.append(client)
            self._selector.register(client, selectors.EVENT_READ)
            if len(self._sockets) - self.received_frames > 100:
                self.read()
        while self.received_frames < count:
            self.read()

    def connect(self) -> socket.socket:
        return _connect(self._role, self._topic, fields=next(self._fields, ""))

    def read(self) -> None:
        for key, _ in self._selector.select(0.001):
            client = key.fileobj
            assert isinstance(client, socket.socket)
            self.received_frames += client.recv(65536).count(b"\n\n")

    def close(self) -> None:
        for client in self._sockets:
            client.close()


def _connects_during(crowd: _Crowd, publish_one: Callable[[], object]) -> list[float]:
    """Publish once, and connect again and again until all viewers have the event."""
    publishing = threading.Thread(target=publish_one)
    frames = crowd.received_frames
    waits = []
    publishing.start()
    while crowd.received_frames < frames + STREAMS:
        started_at = time.monotonic()
        client = crowd.connect()
        while b"\n\n" not in client.recv(65536):
            pass
        waits.append(time.monotonic() - started_at)
        client.close()
        for _ in range(20):
            crowd.read()
    publishing.join()
    return waits


def _rss_bytes(role: RoleProcess) -> float:
    return metrics(role)["process_resident_memory_bytes"]


def frames() -> dict[str, Any]:
    """How two pages of the app move while a crowd likes 100 times a second for 10 s."""
    with (
        tempfile.TemporaryDirectory() as folder,
        app(Path(folder)) as server,
        chromium() as browser,
        Tabs(browser) as tabs,
    ):
        pages = [visit(tabs, site_of(server), motion=True, viewport=DESKTOP) for _ in range(2)]
        for page in pages:
            page.evaluate(_NOTE_FRAMES)
        pages[0].get_by_role("button", name="Crowd").click()
        pages[0].wait_for_selector("#crowd:disabled")
        pages[0].wait_for_selector("#crowd:enabled")
        milliseconds = [page.evaluate("frameTimes") for page in pages]
    return {
        "frames_per_second": [_median_by_second(times) for times in milliseconds],
        "longest_milliseconds": [
            round(max(after - at for at, after in itertools.pairwise(times)))
            for times in milliseconds
        ],
    }


_NOTE_FRAMES = """() => {
    window.frameTimes = [];
    const note = () => {
        // Not when the frame was due, which is the argument.
        frameTimes.push(performance.now());
        requestAnimationFrame(note);
    };
    requestAnimationFrame(note);
}"""


def _median_by_second(milliseconds: Sequence[float]) -> float:
    seconds = [int((at - milliseconds[0]) / 1000) for at in milliseconds]
    return statistics.median(seconds.count(second) for second in range(seconds[-1]))


def shares() -> dict[str, int]:
    """How many of 200 viewers, who connect one by one, come to each of four workers."""
    with dispatcher() as hub, running_frontends(hub) as crew, Viewers() as viewers:
        url = crew.parent.url("public")
        counts = Counter(worker_of(viewers.connect(url)) for _ in range(200))
    return {f"worker_{number}": counts[number] for number in sorted(counts)}


_FIGURES = {
    "memory": memory,
    "tokens": tokens,
    "revoked": revoked,
    "arenas": arenas,
    "backlog": backlog,
    "joined": joined,
    "resume": resume,
    "stored": stored,
    "fanout": fanout,
    "latency": latency,
    "ages": ages,
    "stall": stall,
    "attacks": attacks,
    "routing_table": routing_table,
    "rolling": rolling,
    "rolling_behind_nginx": rolling_behind_nginx,
    "sentinel": sentinel,
    "datacenters": datacenters,
    "likes": one_like,
    "presence": presence,
    "frames": frames,
    "shares": shares,
}

if __name__ == "__main__":
    main(sys.argv[1:])
