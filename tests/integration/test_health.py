"""What balancers and pages can know of a frontend, at its public listener."""

import json
import signal

import httpx
import pytest

from tests.integration.conftest import WriteConfig
from tests.integration.roles import (
    HTTP,
    LOOPBACK,
    RoleProcess,
    combined,
    eventually,
    likes,
    metrics,
    running,
)
from tests.integration.streams import Viewers


def health(role: RoleProcess, listener: str = "public") -> httpx.Response:
    return HTTP.get(role.url(listener) + "/health")


def assert_no_viewers_are_taken(role: RoleProcess, why: str) -> None:
    answer = health(role)
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert why in answer.json()["message"]
    url = role.url("public") + "/connect?topic=live:red"
    assert HTTP.head(url).status_code == 503
    elsewhere = HTTP.get(url, headers={"Rt-Elsewhere": "1"})
    assert (elsewhere.status_code, elsewhere.json()["error"]) == (503, "unavailable")
    # A browser gets no error, at which its EventSource would give up.
    answer = HTTP.get(url)
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        200,
        "text/event-stream; charset=utf-8",
    )
    assert "event: busy\n" in answer.text


def test_one_that_takes_viewers_is_well() -> None:
    with combined() as role:
        answer = health(role)
        assert (answer.status_code, answer.text) == (200, "ok\n")
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert HTTP.head(role.url("public") + "/health").status_code == 200
        answer = HTTP.head(role.url("public") + "/connect?topic=live:red")
        assert (answer.status_code, answer.content) == (200, b"")
        assert metrics(role)["rtdeliver_connections_started_total"] == 0


def test_one_without_a_dispatcher_is_not() -> None:
    with running(
        "rtfrontend",
        *("--dispatcher", "http://127.0.0.1:9", "--public", LOOPBACK, "--internal", LOOPBACK),
    ) as role:
        answer = health(role)
        assert answer.status_code == 503
        assert "dispatcher" in answer.json()["message"]


def test_one_that_is_full_is_not(write_config: WriteConfig) -> None:
    with combined(*write_config({"viewers.max_connections": 1})) as role, Viewers() as viewers:
        stream = viewers.connect(role.url("public"), "live:red")
        assert_no_viewers_are_taken(role, "full")
        counts = metrics(role)
        assert counts['rtdeliver_busy_total{reason="full"}'] >= 1
        assert counts["rtdeliver_connections_max"] == 1
        viewers.close(stream)
        eventually(lambda: health(role).status_code == 200, "there is room again")


def test_one_that_drains_is_not(write_config: WriteConfig) -> None:
    config = write_config({"process.drain_seconds": 60, "viewers.stall_seconds": 300})
    with combined(*config) as role, Viewers() as viewers:
        stalled = viewers.connect(role.url("public"), "live:red", receive_buffer_bytes=4096)
        viewers.stall(stalled)
        for _ in range(100):
            HTTP.post(
                role.url("internal") + "/publish", json={"topic": "live:red", "data": "x" * 50_000}
            )
        role.signal(signal.SIGTERM)
        eventually(lambda: "drains" in role.output, "it drains")
        assert_no_viewers_are_taken(role, "draining")


def test_the_app_tells_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    database = tmp_path_factory.mktemp("app") / "app.sqlite"
    with likes(["http://127.0.0.1:9"], "http://127.0.0.1:8080", database) as app:
        answer = health(app, "listen")
        assert (answer.status_code, answer.text) == (200, "ok\n")


def test_heartbeats_may_be_events_that_pages_see(write_config: WriteConfig) -> None:
    config = write_config({"viewers.heartbeat_seconds": 0.5})
    with combined(*config) as role, Viewers() as viewers:
        url = role.url("public")
        seen = viewers.connect(url, "live:red", query={"heartbeat": "event"})
        unseen = viewers.connect(url, "live:red")
        viewers.wait(lambda: len(seen.control("heartbeat")) >= 2, "two heartbeats came")
        viewers.wait(lambda: unseen.comments >= 2, "two comments came")
        assert [frame.fields for frame in seen.control("heartbeat")[:1]] == [
            {"event": "heartbeat", "data": "{}"}
        ]
        assert (seen.comments, unseen.control("heartbeat")) == (0, [])
        for value in ("", "comment", "event&heartbeat=event"):
            answer = HTTP.get(f"{url}/connect?heartbeat={value}")
            assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
            assert "heartbeat" in json.dumps(answer.json())
