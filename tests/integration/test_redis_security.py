"""How dispatchers get into a Redis: passwords, ACL users, TLS, UNIX sockets, several, Sentinel."""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import redis
from redis.exceptions import RedisError

from tests.integration.clusters import (
    PREFIX,
    QUICK,
    Cluster,
    Producer,
    numbers,
    running_cluster,
    tries,
)
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer, find_redis_server
from tests.integration.roles import HTTP, RoleProcess, dispatcher, eventually, fixed_port
from tests.integration.streams import Viewers

TOPIC = "live:red"


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


def assert_delivers(cluster: Cluster, viewers: Viewers) -> None:
    """Assert that an event published at each dispatcher reaches a viewer at each frontend."""
    streams = [viewers.connect(role.url("public"), TOPIC) for role in cluster.frontends]
    places = range(len(cluster.dispatchers))
    for number in places:
        assert cluster.publish(number, TOPIC, number).status_code == 202
    for stream in streams:
        viewers.wait(lambda s=stream: len(s.events) >= len(places), "all events came")  # type: ignore[misc]
        assert sorted(numbers(stream.frames, TOPIC)) == list(places)


def assert_delivers_with(
    viewers: Viewers,
    write_config: WriteConfig,
    *urls: str,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Assert that two dispatchers share the routing table in the Redis at ``urls``."""
    config = write_config({**QUICK, **settings})
    named = [option for url in urls for option in ("--redis", url)]
    with running_cluster([[*named, *config]] * 2, [config]) as cluster:
        assert_delivers(cluster, viewers)


def warnings(role: RoleProcess) -> list[str]:
    return [line for line in role.log if "rtdeliver" in line and "#warn]" in line]


def assert_not_let_in(role: RoleProcess) -> None:
    """Assert that a role says once why it has no routing table, and refuses in good order."""
    eventually(lambda: bool(warnings(role)), "it says why")
    health = HTTP.get(role.url("listen") + "/health/ready")
    assert health.status_code == 503
    assert health.json()["missing"]
    for _ in range(3):
        answer = HTTP.post(role.url("listen") + "/publish", json={"topic": TOPIC, "data": 0})
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert "Traceback" not in role.output
    assert "Unhandled" not in role.output


def test_a_password(viewers: Viewers, write_config: WriteConfig) -> None:
    with RedisServer(password="s3cret") as server:
        assert_delivers_with(viewers, write_config, server.url)


def test_a_wrong_password_is_one_warning_and_nothing_is_published(
    write_config: WriteConfig,
) -> None:
    with RedisServer(password="s3cret") as server:
        url = f"redis://:wr0ng@127.0.0.1:{server.port}"
        with dispatcher("--redis", url, *write_config(QUICK)) as role:
            assert_not_let_in(role)
            eventually(lambda: tries(role) >= 10, "it has tried again and again")
            assert_not_let_in(role)
            [warning] = warnings(role)
            assert "WRONGPASS" in warning
            assert "wr0ng" not in role.output


def test_no_password_where_one_is_needed_is_one_warning_and_nothing_is_published(
    write_config: WriteConfig,
) -> None:
    with RedisServer(password="s3cret") as server:
        url = f"redis://127.0.0.1:{server.port}"
        with dispatcher("--redis", url, *write_config(QUICK)) as role:
            assert_not_let_in(role)
            eventually(lambda: tries(role) >= 10, "it has tried again and again")
            [warning] = warnings(role)
            assert "NOAUTH" in warning


def test_who_is_let_in_at_last_is_ready(write_config: WriteConfig) -> None:
    config = write_config(QUICK)
    with RedisServer(password="s3cret") as server:
        url = f"redis://:an0ther@127.0.0.1:{server.port}"
        with dispatcher("--redis", url, *config) as role:
            assert_not_let_in(role)
            server.client.config_set("requirepass", "an0ther")
            eventually(
                lambda: HTTP.get(role.url("listen") + "/health/ready").status_code == 200,
                "it is ready",
            )


def test_a_redis_with_a_password_that_hung_for_long_is_used_again(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config(QUICK)
    with (
        RedisServer(password="s3cret") as server,
        running_cluster([["--redis", server.url, *config]] * 2, [config]) as cluster,
    ):
        roles = cluster.dispatchers
        server.pause()
        try:
            before = [tries(role) for role in roles]
            eventually(
                lambda: all(tries(r) >= n + 6 for r, n in zip(roles, before, strict=True)),
                "both have tried again and again",
            )
        finally:
            server.resume()
        cluster.wait_ready()
        assert_delivers(cluster, viewers)


def test_a_user_who_may_do_just_what_is_needed(viewers: Viewers, write_config: WriteConfig) -> None:
    with RedisServer() as server:
        server.client.acl_setuser(
            "rtdeliver",
            enabled=True,
            passwords=["+s3:cr@t"],
            keys=[f"{PREFIX}*"],
            channels=[f"{PREFIX}*"],
            commands=[
                *("+eval", "+evalsha", "+subscribe", "+publish", "+ping", "+pexpire", "+pttl"),
                *("+@hash", "+@set", "+del", "+rename"),
            ],
        )
        server.client.config_set("requirepass", "of-the-default-user")
        url = f"redis://rtdeliver:s3%3Acr%40t@127.0.0.1:{server.port}"
        assert_delivers_with(viewers, write_config, url)


def test_a_user_who_may_not_hear_of_changes_is_one_warning(write_config: WriteConfig) -> None:
    with RedisServer() as server:
        server.client.acl_setuser(
            "deaf", enabled=True, passwords=["+s3cret"], keys=["*"], commands=["+@all"]
        )
        url = f"redis://deaf:s3cret@127.0.0.1:{server.port}"
        with dispatcher("--redis", url, *write_config(QUICK)) as role:
            eventually(lambda: tries(role) >= 10, "it has tried again and again")
            [warning] = warnings(role)
            assert "NOPERM" in warning
            assert HTTP.get(role.url("listen") + "/health/ready").status_code == 503
            assert "Traceback" not in role.output


def test_another_database(viewers: Viewers, write_config: WriteConfig) -> None:
    with RedisServer() as server:
        assert_delivers_with(viewers, write_config, f"{server.url}/7")
        assert not list(server.client.scan_iter("*"))


def test_a_unix_socket(viewers: Viewers, write_config: WriteConfig, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path), password="s3cret"):
        assert_delivers_with(viewers, write_config, f"unix://:s3cret@{path}")


class Certificate:
    """One for 127.0.0.1, signed by an authority of its own."""

    def __init__(self, folder: Path) -> None:
        self.authority = folder / "ca.pem"
        self.certificate = folder / "redis.pem"
        self.key = folder / "redis.key"
        extensions = folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        authority_key, request = folder / "ca.key", folder / "redis.csr"
        _openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a CA",
            "-keyout", authority_key, "-out", self.authority,
        )  # fmt: skip
        _openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
            "-keyout", self.key, "-out", request,
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", authority_key,
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", self.certificate,
        )  # fmt: skip


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Certificate]]:
    """The URL of a Redis that talks TLS, and its certificate."""
    certificate = Certificate(tmp_path_factory.mktemp("tls"))
    port = fixed_port()
    options = [
        *("--tls-port", str(port)),
        *("--tls-cert-file", str(certificate.certificate)),
        *("--tls-key-file", str(certificate.key)),
        *("--tls-ca-cert-file", str(certificate.authority)),
        *("--tls-auth-clients", "no"),
    ]
    probe = subprocess.run(
        [find_redis_server(), "--port", "0", *options[:2]],
        check=False,
        capture_output=True,
        timeout=60,
    )
    if b"Failed to configure TLS" not in probe.stdout:
        pytest.skip("this redis-server has no TLS")
    with RedisServer(*options):
        yield f"rediss://localhost:{port}", certificate


def test_tls(
    tls_server: tuple[str, Certificate], viewers: Viewers, write_config: WriteConfig
) -> None:
    url, certificate = tls_server
    authority = str(certificate.authority)
    assert_delivers_with(viewers, write_config, url, settings={"redis.ca_file": authority})


def test_a_tls_certificate_that_nobody_vouches_for_is_refused(
    tls_server: tuple[str, Certificate], write_config: WriteConfig
) -> None:
    url, _ = tls_server
    with dispatcher("--redis", url, *write_config(QUICK)) as role:
        eventually(lambda: tries(role) >= 4, "it has tried again and again")
        answer = HTTP.post(role.url("listen") + "/publish", json={"topic": TOPIC, "data": 0})
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
        assert HTTP.get(role.url("listen") + "/health/ready").status_code == 503
        assert "Traceback" not in role.output


def test_of_two_redis_one_fails_and_the_others_topics_flow(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config(QUICK)
    with RedisServer() as kept, RedisServer() as lost:
        options = ["--redis", kept.url, "--redis", lost.url, *config]
        with running_cluster([options] * 2, [config] * 2) as cluster:
            topics = [f"live:{number}" for number in range(40)]
            streams = [viewers.connect(r.url("public"), *topics) for r in cluster.frontends]
            shares = [
                {key.removeprefix(f"{PREFIX}row:") for key in s.client.scan_iter(f"{PREFIX}row:*")}
                for s in (kept, lost)
            ]
            assert sorted([*shares[0], *shares[1]]) == sorted(topics)
            assert min(map(len, shares)) > 5

            # The first dispatcher has what it publishes to in its cache.
            in_kept, in_lost = sorted(shares[0])[0], sorted(shares[1])[0]
            with (
                Producer(in_kept, [cluster.url(0)]) as first,
                Producer(in_lost, [cluster.url(0)]) as second,
            ):
                for producer in (first, second):
                    producer.wait_further(10)
                lost.kill()
                eventually(lambda: not cluster.is_ready(), "the loss is noticed")
                for producer in (first, second):
                    producer.wait_further(50)
                # The second has nothing cached.
                assert publish_all(cluster, sorted(shares[0])[1:], 1) == {202}
                assert publish_all(cluster, sorted(shares[1])[1:], 1) == {503}
                lost.start()
                cluster.wait_ready()
                for topic in topics:
                    cluster.wait_routed(topic, n1=1, n2=1)
                for producer in (first, second):
                    producer.wait_further(20)
            assert publish_all(cluster, sorted(shares[1])[1:], 2) == {202}
            expected = {
                **{topic: [1] for topic in shares[0]},
                **{topic: [2] for topic in shares[1]},
                in_kept: list(range(1, first.accepted + 1)),
                in_lost: list(range(1, second.accepted + 1)),
            }
            events = sum(map(len, expected.values()))
            for stream in streams:
                viewers.wait(lambda s=stream: len(s.events) >= events, "all events came")  # type: ignore[misc]
                assert {topic: numbers(stream.frames, topic) for topic in topics} == expected
            assert [cluster.dropped(number) for number in (0, 1)] == [{}, {}]


def publish_all(cluster: Cluster, topics: list[str], data: object) -> set[int]:
    """Publish to each topic at the second dispatcher; return the statuses of the answers."""
    return {cluster.publish(1, topic, data).status_code for topic in topics}


class Sentinel:
    """Watches a master and fails over to its replica; a context manager."""

    def __init__(self, master: RedisServer, folder: Path) -> None:
        self.port = fixed_port()
        self._server = find_redis_server()
        self._file = folder / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 1000\n"
            "sentinel failover-timeout main 5000\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Sentinel":
        self._process = subprocess.Popen(
            [self._server, str(self._file), "--sentinel"], stdout=subprocess.DEVNULL
        )
        eventually(lambda: self.told().get("num-slaves") == 1, "it knows the replica")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def told(self) -> dict[str, Any]:
        """What it tells of the master; nothing while it does not answer."""
        try:
            told = redis.Redis(port=self.port, decode_responses=True).sentinel_master("main")
        except RedisError:
            return {}
        assert isinstance(told, dict)
        return told


def test_sentinel_fails_over_and_routing_is_whole_again(
    viewers: Viewers, write_config: WriteConfig, tmp_path: Path
) -> None:
    config = write_config(QUICK)
    with (
        RedisServer() as master,
        RedisServer("--replicaof", "127.0.0.1", str(master.port)) as replica,
        Sentinel(master, tmp_path) as sentinel,
    ):
        url = f"sentinel://127.0.0.1:{sentinel.port}/main"
        options = ["--redis", url, *config]
        with running_cluster([options] * 2, [config] * 2) as cluster:
            streams = [viewers.connect(r.url("public"), TOPIC) for r in cluster.frontends]
            with Producer(TOPIC, [cluster.url(0)]) as producer:
                producer.wait_further(20)
                master.kill()
                eventually(
                    lambda: replica.client.info("replication")["role"] == "master",
                    "the replica is the master",
                )
                cluster.wait_ready()
                assert streams[0].subscribe(add=["live:new"]).status_code in (200, 202)
                cluster.wait_routed(TOPIC, n1=1, n2=1)
                cluster.wait_routed("live:new", n1=1)
                producer.wait_further(20)
            for number in (0, 1):
                assert cluster.publish(number, "live:new", number).status_code == 202
            viewers.wait(
                lambda: len(numbers(streams[0].frames, "live:new")) == 2, "the new events came"
            )
            for stream in streams:
                viewers.wait(
                    lambda s=stream: producer.accepted in numbers(s.frames, TOPIC),  # type: ignore[misc]
                    "the last event came",
                )
                assert numbers(stream.frames, TOPIC) == list(range(1, producer.accepted + 1))
            assert replica.client.exists(f"{PREFIX}row:{TOPIC}")
