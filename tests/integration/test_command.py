"""The rtdeliver command as a process, beside real roles."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    RoleProcess,
    combined,
    eventually,
    fixed_port,
    terminate,
)

COMMAND = [sys.executable, "-m", "rtdeliver.command"]
SECRET = "correct-horse-battery-staple"


def rtdeliver(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )


@pytest.fixture(scope="module")
def role() -> Iterator[RoleProcess]:
    with combined() as role:
        yield role
    assert "Traceback" not in role.output


class Watching:
    """A process that watches topics; a context manager."""

    def __init__(self, url: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, "watch", "--url", url, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Watching":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def lines(self) -> list[dict[str, Any]]:
        """What it has printed when it has ended by itself."""
        output, complaint = self._process.communicate(timeout=DEADLINE_SECONDS)
        assert (self._process.returncode, complaint) == (0, "")
        return [json.loads(line) for line in output.splitlines()]


def wait_watched(role: RoleProcess, topic: str) -> None:
    url = f"{role.url('internal')}/topics?topic={topic}"
    eventually(lambda: HTTP.get(url).json()["viewers"] == 1, "it watches")


def test_what_is_published_is_watched(role: RoleProcess) -> None:
    to = ("--url", role.url("internal"))
    with Watching(role.url("public"), "live:red", "live:blue", "--count", "3") as watching:
        wait_watched(role, "live:red")
        published = [
            rtdeliver("publish", "live:red", '{"user": "ann"}', "--type", "like", *to),
            rtdeliver("publish", "live:blue", "hello, world", *to),
            rtdeliver("publish", "live:red", "7", *to),
        ]
        events = watching.lines()
    assert [event["id"] for event in events] == [done.stdout.strip() for done in published]
    assert [event["data"] for event in events] == [{"user": "ann"}, "hello, world", 7]
    assert [event["type"] for event in events] == ["like", "message", "message"]


def test_whoever_watches_comes_back_after_a_restart_and_is_told_of_the_gap(
    write_config: WriteConfig,
) -> None:
    config = write_config({"viewers.drain_reconnect_seconds": 0.5, "process.drain_seconds": 0.1})
    options = ("--public", f"tcp:{fixed_port()}:interface=127.0.0.1", *config)
    with combined(*options) as role:
        watching = Watching(role.url("public"), "live:red", "--count", "3")
        wait_watched(role, "live:red")
        assert rtdeliver("publish", "live:red", "1", "--url", role.url("internal")).stdout
        terminate(role)
    with watching, combined(*options) as role:
        wait_watched(role, "live:red")
        assert rtdeliver("publish", "live:red", "2", "--url", role.url("internal")).stdout
        first, gap, last = watching.lines()
    assert (first["data"], last["data"]) == (1, 2)
    assert gap == {"gap": {"lost": None, "topics": ["live:red"]}}


def test_a_refusal_is_told_in_the_words_of_the_server(role: RoleProcess) -> None:
    for arguments, word in (
        (("publish", "", "1", "--url", role.url("internal")), "at least one character"),
        (("publish", "t", "1", "--url", role.url("public")), "404"),
        (("watch", "a\nb", "--url", role.url("public")), "control characters"),
    ):
        done = rtdeliver(*arguments)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert word in line


def test_the_doctor_finds_what_is_wrong_with_this_process_and_with_a_redis(
    tmp_path: Path,
) -> None:
    with RedisServer("--maxmemory-policy", "allkeys-lru") as server:
        gone = fixed_port()
        config = tmp_path / "rtdeliver.toml"
        config.write_text(f'redis.urls = ["{server.url}", "redis://127.0.0.1:{gone}"]\n')
        command = [*COMMAND, "doctor", "--viewers", "1000", "--config", str(config)]
        done = subprocess.run(
            ["sh", "-c", 'ulimit -n 500; exec "$@"', "sh", *command],
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
        )
    assert done.returncode == 1
    assert re.search(
        r"^mend  open files of a process: 500, \d,\d+ needed\n +ulimit", done.stdout, re.M
    )
    assert f"mend  Redis at 127.0.0.1:{server.port}, maxmemory-policy: allkeys-lru" in done.stdout
    assert re.search(
        rf"^mend  Redis at 127.0.0.1:{gone}: Redis cannot be reached", done.stdout, re.M
    )
    assert f"fine  Redis at 127.0.0.1:{server.port}, version: " in done.stdout
    [line] = done.stderr.splitlines()
    assert "things to mend for 1000 viewers" in line


def test_a_secret_is_read_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with combined("--secret-file", str(secret)) as role:
        to = ("--url", role.url("internal"))
        assert "401" in rtdeliver("publish", "t", "1", *to).stderr
        assert rtdeliver("publish", "t", "1", *to, "--secret-file", str(secret)).returncode == 0


def test_the_status_is_shown_in_the_terminal(role: RoleProcess) -> None:
    shown = rtdeliver("top", role.url("internal"), "--once")
    assert shown.returncode == 0
    assert shown.stdout.startswith("rtcombined ")
    assert "published/s" in shown.stdout
    nowhere = rtdeliver("top", f"http://127.0.0.1:{fixed_port()}", "--once")
    assert nowhere.returncode == 1
    assert "does not answer" in nowhere.stderr
