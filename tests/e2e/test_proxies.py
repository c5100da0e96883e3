"""What every proxy does that is run with its configuration in etc/."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import SelfSigned
from tests.e2e.proxies import caddy, haproxy, nginx
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    RoleProcess,
    combined,
    dispatcher,
    eventually,
    frontend,
    publish,
    terminate,
)
from tests.integration.streams import Stream, Viewers

ORIGIN = "https://www.example.com"
CONFIG = """
viewers.heartbeat_seconds = 1
process.drain_seconds = 20
access.cors_origins = ["https://www.example.com"]
"""


@contextmanager
def plain_nginx(
    directory: Path, self_signed: SelfSigned, first: RoleProcess, second: RoleProcess
) -> Iterator[str]:
    with nginx(directory, self_signed, first, second) as site:
        yield site.url


PROXIES = {"nginx": plain_nginx, "haproxy": haproxy, "caddy": caddy}


@pytest.fixture(scope="module", params=PROXIES)
def kind(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "rtdeliver.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def server(config: Path) -> Iterator[RoleProcess]:
    with combined("--config", str(config)) as process:
        yield process


@pytest.fixture(scope="module")
def site(
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
    self_signed: SelfSigned,
    server: RoleProcess,
) -> Iterator[str]:
    with PROXIES[kind](tmp_path_factory.mktemp(kind), self_signed, server, server) as url:
        yield url


@pytest.fixture
def viewers(self_signed: SelfSigned) -> Iterator[Viewers]:
    with Viewers(self_signed.client()) as viewers:
        yield viewers


@pytest.fixture
def client(site: str, self_signed: SelfSigned) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=site, verify=self_signed.client(), timeout=DEADLINE_SECONDS
    ) as client:
        yield client


def has_come(stream: Stream, number: int) -> bool:
    return len(stream.events) == number


def test_each_event_comes_through_before_there_is_another(
    site: str, server: RoleProcess, viewers: Viewers
) -> None:
    stream = viewers.connect(site, "live:red", headers={"Origin": ORIGIN})
    head = stream.head.decode().lower()
    assert f"access-control-allow-origin: {ORIGIN}\r\n" in head
    for number in range(1, 4):
        publish(server, {"topic": "live:red", "data": number})
        viewers.wait(partial(has_come, stream, number), "the event came")
    viewers.wait(lambda: stream.comments >= 1, "a heartbeat came")
    assert not stream.ended


def test_topics_are_changed_on_an_open_stream(
    site: str, server: RoleProcess, viewers: Viewers
) -> None:
    stream = viewers.connect(site, "live:red")
    answer = stream.subscribe(add=["live:blue"], remove=["live:red"])
    assert (answer.status_code, answer.json()["topics"]) == (200, ["live:blue"])
    publish(server, {"topic": "live:red", "data": "unwanted"})
    publish(server, {"topic": "live:blue", "data": "wanted"})
    viewers.wait(lambda: bool(stream.events), "an event came")
    assert [event["data"] for event in stream.events] == ["wanted"]


def test_a_stream_ends_at_the_frontend_when_its_client_leaves(
    site: str, server: RoleProcess, viewers: Viewers
) -> None:
    stream = viewers.connect(site, "live:leaving")
    watchers = f"{server.url('internal')}/topics?topic=live:leaving"
    assert HTTP.get(watchers).json()["viewers"] == 1
    viewers.close(stream)
    eventually(lambda: HTTP.get(watchers).json()["viewers"] == 0, "the viewer is gone")


@pytest.mark.parametrize("path", ["/", "/publish", "/metrics", "/deliver", "/health/ready"])
def test_nothing_else_passes(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json={"topic": "live:red", "data": 1})
    assert answer.status_code == 404
    # A frontend's own 404 is in JSON.
    assert "json" not in answer.headers.get("Content-Type", "")


def test_a_refusal_of_the_frontend_comes_through(client: httpx.Client) -> None:
    answer = client.get("/connect?topic=")
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_topic")


def test_one_clients_large_cookies_are_its_own_trouble(
    site: str, server: RoleProcess, viewers: Viewers, client: httpx.Client
) -> None:
    stream = viewers.connect(site, "live:cookies")
    for size in (3, 12, 31, 60):
        for _ in range(5):
            cookies = "; ".join(f"c{number}={'x' * 1000}" for number in range(size))
            answer = client.get("/connections/none/topics", headers={"Cookie": cookies})
            # Those that the proxy takes are none of the frontend's business.
            assert answer.status_code in (400, 404, 431)
    other = viewers.connect(site, "live:cookies")
    publish(server, {"topic": "live:cookies", "data": 1})
    viewers.wait(lambda: bool(stream.events and other.events), "nobody else is disturbed")


def test_another_frontend_takes_the_viewers_of_one_that_ends_or_dies(
    kind: str, tmp_path: Path, self_signed: SelfSigned, config: Path, viewers: Viewers
) -> None:
    options = ("--config", str(config))
    with (
        dispatcher() as hub,
        frontend(hub.url("listen"), "n1", *options) as first,
        frontend(hub.url("listen"), "n2", *options) as second,
        PROXIES[kind](tmp_path, self_signed, first, second) as site,
    ):
        streams = viewers.connect_many(6, site, "live:red")
        of_first = [stream for stream in streams if stream.connection.startswith("n1-")]
        assert 0 < len(of_first) < 6
        first.signal(signal.SIGTERM)
        viewers.wait(lambda: all(stream.ended for stream in of_first), "its streams have ended")
        assert all(stream.ended_cleanly for stream in of_first)
        assert all(stream.frames[-1].event == "busy" for stream in of_first)
        first.wait()
        again = viewers.connect_many(3, site, "live:red")
        assert all(stream.connection.startswith("n2-") for stream in again)
        publish(hub, {"topic": "live:red", "data": 1}, "listen")
        viewers.wait(lambda: all(stream.events for stream in again), "they have the event")


def test_a_browser_is_asked_to_come_again_when_no_frontend_can_be_reached(
    kind: str, tmp_path: Path, self_signed: SelfSigned, config: Path
) -> None:
    with (
        combined("--config", str(config)) as server,
        PROXIES[kind](tmp_path, self_signed, server, server) as site,
        httpx.Client(verify=self_signed.client(), timeout=DEADLINE_SECONDS) as client,
    ):
        terminate(server)
        for _ in range(3):
            answer = client.get(f"{site}/connect?topic=live:red", headers={"Origin": ORIGIN})
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["Cache-Control"] == "no-store, no-transform"
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            retry, *rest = answer.text.split("\n")
            assert 1000 <= int(retry.removeprefix("retry: ")) <= 5000
            assert rest == ["event: busy", 'data: {"reason":"unreachable"}', "", ""]
