"""What a role does at SIGHUP, and in a folder with other roles."""

import os
import re
import signal
import ssl
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import jwt
import pytest

from tests.certificates import Pem, self_signed
from tests.integration.clusters import Producer
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    LOOPBACK,
    ROOT,
    TWISTD,
    RoleProcess,
    dispatcher,
    eventually,
    fixed_port,
    running,
)
from tests.integration.streams import Viewers

OLD, NEW = "correct-horse-battery-staple", "staple-battery-horse-correct"
ORIGIN = "https://www.example.com"


def publish(role: RoleProcess, secret: str, listener: str = "internal") -> int:
    answer = HTTP.post(
        role.url(listener) + "/publish",
        json={"topic": "live:red", "data": 1},
        headers={"Authorization": f"Bearer {secret}"},
    )
    return answer.status_code


def allowed(role: RoleProcess) -> str | None:
    answer = HTTP.get(role.url("public") + "/connections/none/topics", headers={"Origin": ORIGIN})
    origin: str | None = answer.headers.get("Access-Control-Allow-Origin")
    return origin


def hang_up(role: RoleProcess, lines: int = 1) -> str:
    """Send SIGHUP, and return the log's last line on it, once there are so many."""
    role.signal(signal.SIGHUP)
    found: list[str] = []

    def is_told() -> bool:
        found[:] = [line for line in role.log if "reload" in line]
        return len(found) >= lines

    eventually(is_told, "it has reloaded")
    return found[-1]


def test_it_uses_what_it_can_and_says_what_it_cannot(tmp_path: Path) -> None:
    secret, config = tmp_path / "secret", tmp_path / "rtdeliver.toml"
    secret.write_text(OLD)
    config.write_text("")
    options = ("--config", str(config), "--secret-file", str(secret))
    with (
        running("rtcombined", "--public", LOOPBACK, "--internal", LOOPBACK, *options) as role,
        Viewers() as viewers,
    ):
        stream = viewers.connect(role.url("public"), "live:red")
        assert (publish(role, OLD), publish(role, NEW), allowed(role)) == (202, 401, None)

        secret.write_text(NEW)
        config.write_text(
            f'access.cors_origins = ["{ORIGIN}"]\nviewers.heartbeat_seconds = 7\n'
            "process.drain_seconds = 3\n"
        )
        line = hang_up(role)
        assert "access.secret_file" in line
        assert "access.cors_origins" in line
        assert "a restart is needed for viewers.heartbeat_seconds, process.drain_seconds" in line
        assert (publish(role, OLD), publish(role, NEW), allowed(role)) == (401, 202, ORIGIN)

        # What is wrong changes nothing.
        config.write_text("viewers.heartbeat_seconds = 0\n")
        assert "not reloaded: " in hang_up(role, 2)
        secret.write_text("two words")
        config.write_text("")
        assert "not reloaded: access.secret_file" in hang_up(role, 3)
        assert (publish(role, OLD), publish(role, NEW)) == (401, 202)
        viewers.wait(lambda: len(stream.events) == 3, "the stream went on all the while")


def test_a_parent_lets_its_workers_reload(tmp_path: Path) -> None:
    config = tmp_path / "rtdeliver.toml"
    config.write_text("")
    with (
        dispatcher() as hub,
        running(
            "rtfrontend",
            *("--dispatcher", hub.url("listen"), "--workers", "2", "--config", str(config)),
            *("--public", LOOPBACK, "--internal", f"tcp:{fixed_port()}:interface=127.0.0.1"),
        ) as role,
    ):
        config.write_text(f'access.cors_origins = ["{ORIGIN}"]\n')
        # The parent's line, and one of each worker.
        hang_up(role, 3)
        for _ in range(10):
            with httpx.Client() as client:
                answer = client.get(
                    role.url("public") + "/connections/none/topics", headers={"Origin": ORIGIN}
                )
                assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_roles_run_beside_each_other_in_one_folder(tmp_path: Path) -> None:
    started: list[subprocess.Popen[str]] = []
    try:
        for role, options in (
            ("rtdispatcher", ("--listen", LOOPBACK)),
            ("rtfrontend", ("--dispatcher", "http://127.0.0.1:9", "--public", LOOPBACK)),
            ("rtdispatcher", ("--listen", LOOPBACK)),
        ):
            internal = ("--internal", LOOPBACK) if role == "rtfrontend" else ()
            started.append(
                subprocess.Popen(
                    [TWISTD, "-n", role, *options, *internal],
                    cwd=tmp_path,
                    env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            output = started[-1].stdout
            assert output is not None
            assert any("starting on" in line for line in output)
        assert os.listdir(tmp_path) == []
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_in_the_background_each_role_has_a_pid_file_of_its_own(tmp_path: Path) -> None:
    command = [TWISTD, "--logfile", "log", "rtdispatcher", "--listen", LOOPBACK]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tmp_path, env=env, check=True, timeout=DEADLINE_SECONDS)
    pid = int((tmp_path / "rtdispatcher.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not (tmp_path / "rtdispatcher.pid").exists(), "it has ended")
    assert not (tmp_path / "twistd.pid").exists()


@pytest.mark.parametrize("role", ["rtcombined", "rtfrontend", "rtdispatcher", "rtlikes"])
def test_each_role_tells_its_versions(role: str, tmp_path: Path) -> None:
    answer = subprocess.run(
        [TWISTD, role, "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    assert re.fullmatch(r"rtdeliver \S+ \(Python \S+, Twisted \S+\)\n", answer.stdout)
    assert "twistd" not in answer.stdout


SHARED = [f"correct-horse-battery-staple-correct-horse-{number}" for number in range(3)]


def token(key: str) -> str:
    claims = {"sub": "ann", "exp": time.time() + 600, "subscribe": ["conv:*"]}
    return jwt.encode(claims, key, algorithm="HS256")


def status(role: RoleProcess, topic: str, key: str | None = None) -> int:
    headers = {} if key is None else {"Authorization": f"Bearer {token(key)}"}
    url = role.url("public") + "/connect"
    with httpx.stream("GET", url, params={"topic": topic}, headers=headers, timeout=60) as answer:
        return answer.status_code


def test_keys_and_public_topics_are_replaced_under_load_and_no_stream_ends(tmp_path: Path) -> None:
    files = [tmp_path / f"key{number}" for number in range(3)]
    for file, key in zip(files, SHARED, strict=True):
        file.write_text(key)
    config = tmp_path / "rtdeliver.toml"

    def configure(*numbers: int, public: str = "live:*", most: int = 1000) -> None:
        keys = ", ".join(f'"hs256:{files[number]}"' for number in numbers)
        config.write_text(
            f'access.keys = [{keys}]\naccess.public_topics = ["{public}"]\n'
            f"viewers.max_connections = {most}\n"
        )

    configure(0)
    with (
        running(
            "rtcombined",
            *("--public", LOOPBACK, "--internal", LOOPBACK, "--config", str(config)),
        ) as role,
        Viewers() as viewers,
        ExitStack() as stack,
    ):
        streams = [
            viewers.connect(role.url("public"), "live:red"),
            viewers.connect(role.url("public"), "live:red", query={"token": token(SHARED[0])}),
        ]
        producer = stack.enter_context(Producer("live:red", [role.url("internal")]))
        assert "reloaded nothing" in hang_up(role)
        configure(0, 1)
        line = hang_up(role, 2)
        assert "reloaded access.keys" in line
        assert "public" not in line
        assert [status(role, "conv:a", key) for key in SHARED] == [200, 200, 401]
        configure(1, public="news:*", most=7)
        line = hang_up(role, 3)
        assert "access.public_topics" in line
        assert "viewers.max_connections" in line
        assert "restart" not in line
        assert [status(role, "conv:a", key) for key in SHARED] == [401, 200, 401]
        assert [status(role, topic) for topic in ("live:red", "news:x")] == [403, 200]
        # The file of a key changes, and that of another is wrong: nothing is used.
        files[1].write_text(SHARED[2])
        files[2].write_text("short")
        configure(1, 2, public="*")
        assert "not reloaded: access.keys" in hang_up(role, 4)
        assert [status(role, "conv:a", key) for key in SHARED] == [401, 200, 401]
        assert status(role, "live:red") == 403
        configure(public="*")
        assert "a running process cannot do without its keys" in hang_up(role, 5)
        configure(1, public="*")
        hang_up(role, 6)
        assert [status(role, "conv:a", key) for key in SHARED] == [401, 401, 200]
        producer.wait_further(10)
        producer.stop()
        viewers.wait(
            lambda: all(len(stream.events) == producer.accepted for stream in streams),
            "every event has come",
        )
        assert not producer.refusals
        assert not any(stream.control("gap") for stream in streams)


def certificate_of(role: RoleProcess) -> str:
    host, _, port = role.ports["public"].rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=60).strip()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_certificate_is_replaced_and_streams_go_on(tmp_path: Path, workers: str) -> None:
    pems = [self_signed() for _ in range(2)]
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"

    def use(pem: Pem) -> None:
        key.write_bytes(pem.key)
        certificate.write_bytes(pem.certificate)

    use(pems[0])
    public = f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
    internal = f"tcp:{fixed_port(2)}:interface=127.0.0.1"
    trusted = ssl.create_default_context(cadata=pems[0].certificate.decode())
    with (
        dispatcher() as hub,
        running(
            "rtfrontend",
            *("--dispatcher", hub.url("listen"), "--workers", workers),
            *("--public", public, "--internal", internal),
        ) as role,
        Viewers(trusted) as viewers,
    ):
        stream = viewers.connect(f"https://{role.ports['public']}", "live:red")
        assert certificate_of(role) == pems[0].certificate.decode().strip()
        lines = 1 if workers == "1" else 3
        certificate.write_bytes(pems[1].certificate)
        assert "not reloaded: public: " in reloaded(role, lines)
        assert certificate_of(role) == pems[0].certificate.decode().strip()
        use(pems[1])
        assert "reloaded listeners.public" in reloaded(role, 2 * lines)
        for _ in range(4):
            assert certificate_of(role) == pems[1].certificate.decode().strip()
        event = {"topic": "live:red", "data": 1}
        assert HTTP.post(hub.url("listen") + "/publish", json=event).status_code == 202
        viewers.wait(lambda: len(stream.events) == 1, "the stream goes on")


def reloaded(role: RoleProcess, lines: int) -> str:
    """Send SIGHUP, and return all that the log says of it, once there are so many lines."""
    hang_up(role, lines)
    return "\n".join(line for line in role.log if "reload" in line)
