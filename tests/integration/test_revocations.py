"""Streams that a backend ends, over two datacenters, whatever is away meanwhile."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rtdeliver.config.sections import Redis
from rtdeliver.interfaces import IRevocationStore
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import parse_redis_url
from rtdeliver.revocations.redis import RedisRevocationStore
from tests.contracts.revocation_store import MOST, PAGE, RevocationStoreContract
from tests.integration.clusters import QUICK, Cluster, running_cluster
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import (
    HTTP,
    LOOPBACK,
    RoleProcess,
    dispatcher,
    eventually,
    fixed_port,
    frontend,
)
from tests.integration.streams import Stream, Viewers

KEY = "correct-horse-battery-staple-correct-horse"
PREFIX = "test:"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.waits
class TestRedisRevocationStore(RevocationStoreContract):
    implementation = RedisRevocationStore

    @pytest.fixture(autouse=True)
    def _store(self, server: RedisServer) -> Iterator[None]:
        server.client.flushall()
        self.server = server
        address = parse_redis_url(server.url)
        connection = RedisConnection(
            endpoint=redis_endpoint(reactor, address, Redis()),
            address=address,
            settings=Redis(prefix=PREFIX, reconnect_seconds=0.2),
            clock=reactor,
            channels={},
            lost=lambda: None,
            unsubscribed=lambda: None,
            subscribed=lambda: None,
        )
        connection.start()
        for _ in range(3000):
            if connection.reachable:
                break
            pytest_twisted.blockon(deferLater(reactor, 0.02))
        self.store: IRevocationStore = RedisRevocationStore(
            redis=connection, max_revocations=MOST, page=PAGE
        )
        yield
        pytest_twisted.blockon(Deferred.fromCoroutine(connection.stop()))

    def setUp(self) -> None:
        """Left to the fixture."""

    def now(self) -> float:
        seconds, micros = self.server.client.time()
        return float(seconds) + float(micros) / 1e6

    def advance(self, seconds: float) -> None:
        """Move the ends towards now, since the clock of Redis cannot be set."""
        key = f"{PREFIX}revocations:ends"
        for name in self.server.client.zrange(key, 0, -1):
            assert isinstance(name, str)
            self.server.client.zincrby(key, -round(seconds * 1000), name)

    def get(self, deferred: Deferred[Any]) -> Any:
        return pytest_twisted.blockon(deferred)

    def lose(self) -> None:
        self.server.client.flushall()

    def test_nothing_is_left_of_what_has_ended(self) -> None:
        self.add(self.revocation("ann", left=2), self.revocation("bob", left=2))
        self.advance(3)
        self.after()
        left = set(self.server.client.keys()) - {f"{PREFIX}probe"}
        assert left == {f"{PREFIX}revocations:store"}


class World:
    """Two datacenters: dc1 with two dispatchers and three frontends, dc2 with one of each."""

    def __init__(self, stack: ExitStack, server: RedisServer, config: list[str]) -> None:
        self.server = server
        self._config = config
        self._stack = stack
        self._peer_port = fixed_port()
        self._redis = stack.enter_context(RedisServer())
        peer = f"dc2=http://127.0.0.1:{self._peer_port}"
        self.near: Cluster = stack.enter_context(
            running_cluster(
                [["--redis", server.url, "--datacenter", "dc1", "--peer", peer, *config]] * 2,
                [config] * 3,
            )
        )
        self.peer = self.start_peer()
        self.far = self.start_frontend(self.peer, "m1")

    def start_peer(self) -> RoleProcess:
        peers = ",".join(self.near.url(number) for number in (0, 1))
        return self._stack.enter_context(
            dispatcher(
                *("--listen", f"tcp:{self._peer_port}:interface=127.0.0.1"),
                *("--redis", self._redis.url, "--datacenter", "dc2", "--peer", f"dc1={peers}"),
                *self._config,
            )
        )

    def start_frontend(self, hub: RoleProcess, node: str) -> RoleProcess:
        return self._stack.enter_context(frontend(hub.url("listen"), node, *self._config))

    @property
    def frontends(self) -> list[RoleProcess]:
        return [*self.near.frontends, self.far]


@pytest.fixture(scope="module")
def world(
    server: RedisServer, tmp_path_factory: pytest.TempPathFactory, write_config: WriteConfig
) -> Iterator[World]:
    key = tmp_path_factory.mktemp("keys") / "key"
    key.write_text(KEY)
    config = write_config(
        {
            **QUICK,
            "access.keys": [f"hs256:{key}"],
            "access.public_topics": ["live:*"],
            "access.revocation_seconds": 0.5,
        }
    )
    with ExitStack() as stack:
        server.client.flushall()
        world = World(stack, server, list(config))
        yield world
        for role in world.frontends:
            assert "eyJ" not in role.output, "a token is in the log"


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


def token(member: str | None, *subscribe: str, issued_ago: float = 5, **more: Any) -> str:
    claims: dict[str, Any] = {"exp": time.time() + 600, "iat": time.time() - issued_ago, **more}
    if member is not None:
        claims["sub"] = member
    return jwt.encode({**claims, "subscribe": list(subscribe)}, KEY, algorithm="HS256")


def disconnect(url: str, **body: Any) -> httpx.Response:
    answer = HTTP.post(f"{url}/disconnect", json=body)
    assert answer.status_code == 202, answer.text
    return answer


def status_at(role: RoleProcess, token: str) -> int:
    """Return with which status a stream with this token begins, or is refused."""
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.stream("GET", role.url("public") + "/connect", headers=headers, timeout=60) as told:
        return told.status_code


def ended(stream: Stream) -> list[Any]:
    return [frame.data for frame in stream.control("disconnected")]


def test_a_member_is_disconnected_everywhere_and_its_old_tokens_are_refused(
    world: World, viewers: Viewers
) -> None:
    ann, bob = token("ann"), token("bob")
    anns = [viewers.connect(r.url("public"), query={"token": ann}) for r in world.frontends]
    bobs = [viewers.connect(r.url("public"), query={"token": bob}) for r in world.frontends]
    disconnect(world.near.url(0), member="ann", reason="banned")
    viewers.wait(lambda: all(ended(stream) for stream in anns), "all streams of ann end")
    assert all(ended(s) == [{"reason": "banned", "reconnect": False}] for s in anns)
    for role in world.frontends:
        assert status_at(role, ann) == 204
        assert status_at(role, token("ann", issued_ago=-30)) == 200
        cookie = {"Cookie": f"rtdeliver_token={ann}"}
        assert HTTP.get(role.url("public") + "/connect", headers=cookie).status_code == 204
    assert not any(ended(stream) for stream in bobs)
    late = world.start_frontend(world.near.dispatchers[1], "late")
    assert status_at(late, ann) == 204
    assert status_at(late, bob) == 200


def test_who_may_come_back_needs_a_new_token(world: World, viewers: Viewers) -> None:
    old = token("cyd", jti="cyd-1")
    stream = viewers.connect(world.far.url("public"), query={"token": old})
    disconnect(world.near.url(1), token="cyd-1", reason="log-out", reconnect=True)
    viewers.wait(lambda: bool(ended(stream)), "the stream of the token ends")
    for role in world.frontends:
        eventually(lambda r=role: status_at(r, old) == 401, "it is refused")  # type: ignore[misc]
        assert status_at(role, token("cyd", jti="cyd-2")) == 200


def test_one_connection_ends_and_its_id_may_come_from_anywhere(
    world: World, viewers: Viewers
) -> None:
    streams = [viewers.connect(role.url("public"), "live:x") for role in world.frontends]
    disconnect(world.peer.url("listen"), connection=streams[1].connection)
    viewers.wait(lambda: bool(ended(streams[1])), "it ends")
    assert [bool(ended(stream)) for stream in streams] == [False, True, False, False]


def test_a_frontend_that_was_paused_past_its_lease_ends_the_streams_when_it_is_back(
    world: World, viewers: Viewers
) -> None:
    role = world.near.frontends[2]
    old = token("dan")
    stream = viewers.connect(role.url("public"), query={"token": old})
    role.signal(signal.SIGSTOP)
    try:
        eventually(lambda: "n3" not in world.near.nodes(0), "its lease has ended")
        disconnect(world.near.url(0), member="dan")
    finally:
        role.signal(signal.SIGCONT)
    viewers.wait(lambda: bool(ended(stream)), "its stream ends")
    assert status_at(role, old) == 204


def test_a_datacenter_that_was_away_learns_of_it(world: World, viewers: Viewers) -> None:
    old = token("eve")
    stream = viewers.connect(world.far.url("public"), query={"token": old})
    world.peer.signal(signal.SIGKILL)
    world.peer.wait()
    disconnect(world.near.url(0), member="eve")
    world.peer = world.start_peer()
    viewers.wait(lambda: bool(ended(stream)), "its stream ends")
    assert status_at(world.far, old) == 204


def test_a_redis_that_lost_all_gets_the_revocations_back(world: World) -> None:
    old = token("fay")
    disconnect(world.near.url(0), member="fay")
    eventually(lambda: status_at(world.near.frontends[0], old) == 204, "it is known")

    def kept() -> list[str]:
        page = HTTP.get(world.near.url(1) + "/revocations").json()
        return [revocation["name"] for revocation in page.get("revocations", [])]

    assert "fay" in kept()
    world.server.client.flushall()
    eventually(lambda: "fay" in kept(), "the frontends have given it back")
    late = world.start_frontend(world.near.dispatchers[0], "later")
    assert status_at(late, old) == 204


def test_a_backend_changes_the_topics_of_all_streams_of_a_member(
    world: World, viewers: Viewers
) -> None:
    gil = token("gil/☃")
    streams = [viewers.connect(r.url("public"), query={"token": gil}) for r in world.frontends]
    url = world.near.url(0) + "/members/gil%2F%E2%98%83/topics"
    answer = HTTP.post(url, json={"add": ["conv:gil"], "remove": ["live:x"]})
    assert (answer.status_code, answer.json()) == (202, {"member": "gil/☃"})
    viewers.wait(lambda: all(s.control("topics") for s in streams), "all are told")
    told = [frame.data for stream in streams for frame in stream.control("topics")]
    assert told == [{"added": ["conv:gil"], "removed": []}] * 4
    world.near.publish(1, "conv:gil", 1)
    viewers.wait(lambda: all(len(s.events) == 1 for s in streams), "all get its events")


def test_a_token_is_renewed_at_any_frontend(world: World, viewers: Viewers) -> None:
    stream = viewers.connect(
        world.near.frontends[0].url("public"),
        "conv:a",
        "live:x",
        query={"token": token("hal", "conv:*", exp=time.time() + 20)},
    )
    for number, role in enumerate(world.near.frontends):
        url = f"{role.url('public')}/connections/{stream.connection}/token"
        new = token("hal", "conv:*") if number < 2 else token("hal")
        answer = HTTP.post(url, json={"token": new})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told["connection"] == stream.connection
        assert told["expires_at"] > time.time() + 500
        assert told["removed"] == ([] if number < 2 else ["conv:a"])
        for bad, status in ((token("ivy"), 403), ("x.y.z", 401)):
            refused = HTTP.post(url, json={"token": bad})
            assert refused.status_code == status, refused.text
            assert "token" in refused.json()["message"]
    url = f"{world.near.frontends[1].url('public')}/connections/n1-unknown/token"
    assert HTTP.post(url, json={"token": new}).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/disconnect", b"{}", "bad_request"),
        ("/disconnect", b'{"member":"a","token":"b"}', "bad_request"),
        ("/disconnect", b'{"member":""}', "bad_request"),
        ("/disconnect", b'{"member":5}', "bad_request"),
        ("/disconnect", b'{"connection":""}', "bad_request"),
        ("/disconnect", b'{"token":"' + b"x" * 2000 + b'"}', "bad_request"),
        ("/disconnect", b'{"member":"a","reason":"' + b"x" * 300 + b'"}', "bad_request"),
        ("/disconnect", b'{"member":"a","reconnect":"no"}', "bad_request"),
        ("/disconnect", b'{"member":"a","until":5}', "bad_request"),
        ("/disconnect", b"[]", "bad_request"),
        ("/disconnect", b"nonsense", "bad_json"),
        ("/members/ann/topics", b"{}", "bad_request"),
        ("/members/ann/topics", b'{"add":["\\u0000"]}', "bad_topic"),
        ("/members/ann/topics", b'{"add":"live:x"}', "bad_request"),
        ("/members/ann/topics", b'{"add":[' + b",".join([b'"x"'] * 101) + b"]}", "bad_request"),
        ("/members/%00/topics", b'{"add":["x"]}', "bad_request"),
    ],
)
def test_bad_orders_are_refused(world: World, path: str, body: bytes, error: str) -> None:
    answer = HTTP.post(
        world.near.url(0) + path, content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]) == (400, error), answer.text


def test_bad_controls_are_refused_with_their_lines(world: World) -> None:
    lines = [
        b'{"control":"disconnect","kind":"all","name":"a","at":1,"until":2}',
        b'{"control":"disconnect","kind":"member","name":"a","at":-1,"until":2}',
        b'{"control":"disconnect","kind":"member","name":"a","at":3,"until":2}',
        b'{"control":"reboot"}',
        b'{"control":"topics","member":"a","add":[""]}',
        b'{"control":',
    ]
    answer = HTTP.post(
        world.near.url(0) + "/forward",
        content=b"\n".join(lines),
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["lines"] == [1, 2, 3, 4, 5, 6]
    for query in ("entry=-1", "entry=x", "entry=1&entry=2", "store=a&store=b"):
        assert HTTP.get(f"{world.near.url(0)}/revocations?{query}").status_code == 400


def test_who_has_a_token_waits_a_moment_where_no_dispatcher_has_told_what_is_revoked(
    write_config: WriteConfig, tmp_path: Path, viewers: Viewers
) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    config = write_config(
        {**QUICK, "access.keys": [f"hs256:{key}"], "access.public_topics": ["live:*"]}
    )
    role = RoleProcess(
        "rtfrontend",
        *("--dispatcher", f"http://127.0.0.1:{fixed_port()}", "--node", "n1"),
        *("--public", LOOPBACK, "--internal", LOOPBACK, *config),
    )
    try:
        role.wait_ready()
        stream = viewers.connect(role.url("public"), "live:x")
        assert stream.control("connected"), "without a token nothing can be revoked"
        headers = {"Authorization": f"Bearer {token('ann')}"}
        answer = httpx.get(role.url("public") + "/connect", headers=headers, timeout=60)
        assert answer.status_code == 200
        assert b'event: busy\ndata: {"reason":"starting"}' in answer.content
    finally:
        role.stop()
