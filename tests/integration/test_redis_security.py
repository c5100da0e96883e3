"""How dispatchers get into a Redis: passwords, ACL users, TLS, UNIX sockets, several, Sentinel."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

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
from tests.integration.roles import (
    HTTP,
    RoleProcess,
    dispatcher,
    eventually,
    fixed_port,
    metrics,
)
from tests.integration.sentinel import Sentinel, in_step
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
    return [line for line in role.log if "rtdeliver.redis" in line and "#warn]" in line]


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
            reset_channels=True,
            passwords=["+s3:cr@t"],
            keys=[f"{PREFIX}*"],
            channels=[f"{PREFIX}*"],
            commands=[
                *("+eval", "+evalsha", "+subscribe", "+publish", "+ping", "+pexpire", "+pttl"),
                *("+time", "+@hash", "+@set", "+@sortedset", "+del", "+rename"),
                # For histories.
                *("+info", "+@stream"),
            ],
        )
        server.client.config_set("requirepass", "of-the-default-user")
        options = ["--redis", f"redis://rtdeliver:s3%3Acr%40t@127.0.0.1:{server.port}"]
        config = write_config({**QUICK, "history.topics": {"conv:*": {"events": 9, "seconds": 9}}})
        with running_cluster([[*options, *config]] * 2, [[]]) as cluster:
            assert_delivers(cluster, viewers)
            kept = cluster.publish(0, "conv:1", 1)
            assert (kept.status_code, "position" in kept.json()) == (202, True)
            history = HTTP.get(cluster.url(1) + "/history", params={"topic": "conv:1"})
            assert len(history.json()["events"]) == 1
            presence = cluster.url(0) + "/presence"
            assert HTTP.post(presence, json={"members": ["ann"]}).status_code == 200
            assert HTTP.get(f"{presence}?member=ann").json()[0]["online"]
            assert [missing(role) for role in cluster.dispatchers] == [[], []]


def test_a_user_who_may_not_hear_of_changes_is_one_warning(write_config: WriteConfig) -> None:
    with RedisServer() as server:
        server.client.acl_setuser(
            "deaf",
            enabled=True,
            reset_channels=True,
            passwords=["+s3cret"],
            keys=["*"],
            commands=["+@all"],
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


@pytest.mark.parametrize("password", [None, "s3cret"], ids=["open", "with a password"])
def test_sentinel_fails_over_and_routing_is_whole_again(
    viewers: Viewers, write_config: WriteConfig, tmp_path: Path, password: str | None
) -> None:
    config = write_config(QUICK)
    with (
        RedisServer() as master,
        RedisServer("--replicaof", "127.0.0.1", str(master.port)) as replica,
        Sentinel(master, tmp_path, password) as sentinel,
    ):
        url = f"sentinel://127.0.0.1:{sentinel.port}/main"
        url += f"?sentinel_password={password}" if password else ""
        options = ["--redis", url, *config]
        with running_cluster([options] * 2, [config] * 2) as cluster:
            streams = [viewers.connect(r.url("public"), TOPIC) for r in cluster.frontends]
            with Producer(TOPIC, [cluster.url(0)]) as producer:
                producer.wait_further(20)
                eventually(lambda: in_step(replica), "the replica has what the master has")
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


def test_a_sentinel_that_does_not_tell_is_named_with_its_words(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    with (
        RedisServer() as master,
        RedisServer("--replicaof", "127.0.0.1", str(master.port)),
        Sentinel(master, tmp_path, "s3cret") as sentinel,
    ):
        place = f"127.0.0.1:{sentinel.port}"
        for url, words in (
            (f"sentinel://{place}/main", "NOAUTH"),
            (f"sentinel://{place}/main?sentinel_password=wr0ng", "WRONGPASS"),
            (f"sentinel://{place}/else?sentinel_password=s3cret", "it knows no master else"),
            ("sentinel://127.0.0.1:9/main", "it does not answer"),
        ):
            with dispatcher("--redis", url, *write_config(QUICK)) as role:
                eventually(lambda r=role, w=words: w in str(missing(r)), f"it says {words}")  # type: ignore[misc]
                assert any(words in line for line in warnings(role))
                assert "Traceback" not in role.output
                assert "wr0ng" not in role.output


# A Redis that refuses what is asked of it.


def missing(role: RoleProcess) -> list[str]:
    answer = HTTP.get(role.url("listen") + "/health/ready")
    reasons: list[str] = answer.json()["missing"]
    assert answer.status_code == (503 if reasons else 200)
    return reasons


def errors(role: RoleProcess) -> list[str]:
    return [line for line in role.log if "refuses commands" in line and "rtdeliver.redis" in line]


def assert_refused_and_taken_again(
    role: RoleProcess, refuse: Callable[[], object], words: str, accept: Callable[[], object]
) -> None:
    """Assert that a role is not ready and says once in Redis' words why, until Redis accepts."""
    eventually(lambda: not missing(role), "it is ready")
    refuse()
    eventually(lambda: words in str(missing(role)), f"it says {words}")
    metric = "rtdeliver_redis_errors_total"
    eventually(
        lambda: (
            sum(n for name, n in metrics(role, "listen").items() if name.startswith(metric)) >= 3
        ),
        "it has tried again and again",
    )
    [line] = errors(role)
    assert words in line
    accept()
    eventually(lambda: not missing(role), "it is ready again")
    assert any("takes commands again" in line for line in role.log)
    assert "Traceback" not in role.output


def test_a_redis_that_is_full(write_config: WriteConfig) -> None:
    with (
        RedisServer() as server,
        dispatcher("--redis", server.url, *write_config(QUICK)) as role,
    ):
        assert_refused_and_taken_again(
            role,
            lambda: server.client.config_set("maxmemory", 1),
            "OOM command not allowed when used memory > 'maxmemory'.",
            lambda: server.client.config_set("maxmemory", 0),
        )


def test_a_redis_that_has_become_a_replica(write_config: WriteConfig) -> None:
    with (
        RedisServer() as server,
        dispatcher("--redis", server.url, *write_config(QUICK)) as role,
    ):
        assert_refused_and_taken_again(
            role,
            lambda: server.client.replicaof("127.0.0.1", "9"),
            "READONLY You can't write against a read only replica.",
            lambda: server.client.replicaof("NO", "ONE"),
        )


def test_a_user_who_may_not_write(write_config: WriteConfig) -> None:
    with RedisServer() as server:
        client = server.client
        client.acl_setuser("some", enabled=True, passwords=["+s3cret"], keys=["*"], channels=["*"],
                           commands=["+@all"])  # fmt: skip
        url = f"redis://some:s3cret@127.0.0.1:{server.port}"
        with dispatcher("--redis", url, *write_config(QUICK)) as role:
            assert_refused_and_taken_again(
                role,
                lambda: client.acl_setuser("some", enabled=True, commands=["-@write"]),
                "can't run this command",
                lambda: client.acl_setuser("some", enabled=True, commands=["+@write"]),
            )


def test_a_server_of_a_cluster_is_refused_with_what_to_use_instead(
    write_config: WriteConfig,
) -> None:
    with (
        RedisServer("--cluster-enabled", "yes") as server,
        dispatcher("--redis", server.url, *write_config(QUICK)) as role,
    ):
        eventually(lambda: "Redis Cluster" in str(missing(role)), "it says why")
        assert "independent servers" in str(missing(role))
        [line] = errors(role)
        assert "Redis Cluster" in line


def test_a_redis_that_evicts_rows_is_warned_of(write_config: WriteConfig) -> None:
    with (
        RedisServer("--maxmemory-policy", "allkeys-lru") as server,
        dispatcher("--redis", server.url, *write_config(QUICK)) as role,
    ):
        eventually(lambda: bool(warnings(role)), "it warns")
        [warning] = warnings(role)
        assert "noeviction" in warning
        assert "allkeys-lru" in warning
        assert not missing(role)


def test_a_redis_that_is_away_is_told_once(write_config: WriteConfig) -> None:
    with (
        RedisServer() as server,
        dispatcher("--redis", server.url, *write_config(QUICK)) as role,
    ):
        eventually(lambda: any("is ready: " in line for line in role.log), "it is ready")
        assert metrics(role, "listen")[connected(server)] == 1
        for times in (1, 2):
            tried = tries(role)
            server.kill()
            eventually(lambda: bool(missing(role)), "it knows")
            eventually(lambda t=tried: tries(role) >= t + 3, "it has tried again")  # type: ignore[misc]
            assert metrics(role, "listen")[connected(server)] == 0
            server.start()
            eventually(
                lambda t=times: sum("is ready: " in line for line in role.log) > t,  # type: ignore[misc]
                "it is ready again",
            )
            for words in ("is lost", "is not ready: Redis cannot be reached"):
                found = [line for line in role.log if words in line]
                assert len(found) == times, role.output
        assert "Scheduling retry" not in role.output
        assert "Discarding dead" not in role.output


def connected(server: RedisServer) -> str:
    return f'rtdeliver_redis_connected{{redis="127.0.0.1:{server.port}"}}'


def test_what_an_earlier_redis_refused_does_not_count_for_the_next(
    write_config: WriteConfig,
) -> None:
    with (
        RedisServer() as server,
        dispatcher("--redis", server.url, *write_config(QUICK)) as role,
    ):
        eventually(lambda: not missing(role), "it is ready")
        server.client.set(f"{PREFIX}member:ann", "of another kind")
        presence = role.url("listen") + "/presence"
        assert HTTP.get(presence, params={"member": "ann"}).status_code == 503
        assert "WRONGTYPE" in str(missing(role))
        server.kill()
        server.start()
        # Nobody asks for presence again.
        eventually(lambda: not missing(role), "it is ready again")
