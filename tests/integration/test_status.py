"""What /status tells, as JSON and as a stream; who may see it."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.clusters import QUICK, running_cluster
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    LOOPBACK,
    RoleProcess,
    combined,
    eventually,
    publish,
    running,
)
from tests.integration.streams import Viewers

JSON = {"Accept": "application/json"}


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


def status(role: RoleProcess, listener: str = "internal") -> dict[str, Any]:
    answer = HTTP.get(role.url(listener) + "/status", headers=JSON)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def frames(url: str, count: int, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Read so many frames of the stream of the status."""
    found: list[dict[str, Any]] = []
    with httpx.stream("GET", f"{url}/status/stream", headers=headers, timeout=60) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream"
        for line in response.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
                if len(found) == count:
                    break
    return found


def test_a_process_tells_what_it_does(viewers: Viewers) -> None:
    with combined("--node", "n1") as role:
        for topics in (["live:red", "live:green"], ["live:red"]):
            viewers.connect(role.url("public"), *topics)
        for number in range(10):
            publish(role, {"topic": "live:red", "data": number})
        eventually(lambda: sum(status(role)["history"]["published"]) == 10, "it has counted")
        eventually(
            lambda: (
                status(role)["topics"]
                == [{"topic": "live:red", "viewers": 2}, {"topic": "live:green", "viewers": 1}]
            ),
            "it has looked for the topics",
        )
        told = status(role)
        assert (told["role"], told["node"]) == ("rtcombined", "n1")
        assert (told["ready"], told["missing"]) == (True, [])
        assert told["version"]
        assert told["connections"] == 2 < told["connections_max"]
        assert sum(told["history"]["sent"]) == 20
        assert told["ages"]["sent"]["count"] == 20
        assert told["ages"]["sent"]["p90_ms"] > 0
        assert told["lease_seconds_left"] > 0
        assert told["links"] == [
            {"to": "n1", "state": "idle", "waiting_events": 0, "waiting_bytes": 0, "failures": 0}
        ]
        assert told["objective"]["met"]
        figures = {figure["name"] for figure in told["figures"]}
        assert {"run_queue_actors", "mailbox_events", "reactor_lag_seconds"} <= figures


def test_a_dispatcher_tells_of_all_frontends(viewers: Viewers, write_config: WriteConfig) -> None:
    with RedisServer() as server:
        config = write_config(QUICK)
        with running_cluster([["--redis", server.url, *config]], [config] * 2) as cluster:
            for frontend, topics in zip(cluster.frontends, (["a", "b"], ["a"]), strict=True):
                viewers.connect(frontend.url("public"), *topics)
            [role] = cluster.dispatchers
            hot = [{"topic": "a", "viewers": 2}, {"topic": "b", "viewers": 1}]
            eventually(lambda: status(role, "listen")["hot_topics"] == hot, "it has asked all")
            first, second = status(role, "listen")["frontends"]
            assert (first["node"], first["connections"], first["topics"]) == ("n1", 1, 2)
            assert (second["node"], second["connections"], second["topics"]) == ("n2", 1, 1)
            assert first["url"] == cluster.frontends[0].url("internal")
            assert first["answers"]
            assert first["ready"]
            cluster.frontends[1].stop()
            eventually(
                lambda: [row["node"] for row in status(role, "listen")["frontends"]] == ["n1"],
                "the other one is gone",
            )


def test_the_last_warnings_are_told(write_config: WriteConfig) -> None:
    with RedisServer() as server:
        options = ("--listen", LOOPBACK, "--redis", server.url, *write_config(QUICK))
        with running("rtdispatcher", *options) as role:
            eventually(lambda: bool(status(role, "listen")["ready"]), "it is ready")
            server.kill()
            eventually(lambda: not status(role, "listen")["ready"], "it knows")
            texts = [warning["text"] for warning in status(role, "listen")["warnings"]]
            assert any("is lost" in text for text in texts), texts


def test_the_stream_tells_again_each_second() -> None:
    with combined() as role:
        first, second, third = frames(role.url("internal"), 3)
        assert first["uptime_seconds"] <= second["uptime_seconds"] <= third["uptime_seconds"]
        assert third["at"] > first["at"]


def test_every_role_has_it(tmp_path: Path) -> None:
    with combined() as hub:
        url = hub.url("internal")
        for name, listener, options in (
            ("rtfrontend", "internal", ["--public", LOOPBACK, "--dispatcher", url]),
            ("rtdispatcher", "listen", []),
            ("rtlatency", "listen", ["--redis", "redis://127.0.0.1:1"]),
            ("rtlikes", "internal", ["--dispatcher", url, "--frontend", url, "--listen", LOOPBACK,
                                     "--database", str(tmp_path / "likes.sqlite")]),
        ):  # fmt: skip
            with running(name, f"--{listener}", LOOPBACK, *options) as role:
                assert status(role, listener)["role"] == name
                page = HTTP.get(role.url(listener) + "/status", headers={"Accept": "text/html"})
                assert page.headers["content-type"] == "text/html; charset=utf-8"


def test_with_a_secret_only_who_has_it_sees_anything(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    with combined("--secret-file", str(secret)) as role:
        url = role.url("internal")
        page = HTTP.get(f"{url}/status")
        assert page.status_code == 200
        assert role.url("public") not in page.text
        for path, headers in (("/status", JSON), ("/status/stream", {})):
            answer = HTTP.get(url + path, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
        wrong = {"Authorization": "Bearer wrong"}
        assert HTTP.post(f"{url}/status/login", headers=wrong).status_code == 401
        right = {"Authorization": "Bearer s3cret"}
        assert HTTP.get(f"{url}/status", headers={**JSON, **right}).status_code == 200
        answer = HTTP.post(f"{url}/status/login", headers=right)
        assert answer.status_code == 200
        cookie = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
        assert HTTP.get(f"{url}/status", headers={**JSON, **cookie}).json()["ready"]
        assert frames(url, 1, cookie)
        # The cookie opens the status, and nothing else.
        for path in ("/metrics", "/latency", "/frontends"):
            assert HTTP.get(url + path, headers=cookie).status_code == 401
        event = {"topic": "live:red", "data": 1}
        assert HTTP.post(f"{url}/publish", json=event, headers=cookie).status_code == 401


def test_a_page_that_does_not_read_and_pages_that_leave_hurt_nobody() -> None:
    with combined() as role:
        parts = urlsplit(role.url("internal"))
        request = f"GET /status/stream HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        sockets = []
        for _ in range(20):
            client = socket.create_connection((parts.hostname, parts.port), DEADLINE_SECONDS)
            client.sendall(request)
            assert client.recv(20).startswith(b"HTTP/1.1 200")
            sockets.append(client)
        answer = HTTP.get(role.url("internal") + "/status/stream")
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
        for client in sockets:
            with suppress(OSError):
                client.close()

        def has_room() -> bool:
            try:
                return bool(frames(role.url("internal"), 1))
            except AssertionError:
                return False

        eventually(has_room, "there is room again")
        assert "Traceback" not in role.output
