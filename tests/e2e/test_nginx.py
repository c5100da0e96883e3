"""What nginx does beside what every proxy does, with the configuration in etc/."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import SelfSigned
from tests.e2e.proxies import NginxSite, nginx
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    RoleProcess,
    combined,
    dispatcher,
    eventually,
    frontend,
    metrics,
    publish,
    publish_lines,
    terminate,
)
from tests.integration.streams import Viewers

ORIGIN = "https://www.example.com"
CONFIG = """
viewers.heartbeat_seconds = 1
viewers.stall_seconds = 2
process.drain_seconds = 20
viewers.busy_reconnect_min_seconds = 0.2
viewers.busy_reconnect_max_seconds = 0.4
access.cors_origins = ["https://www.example.com"]
"""


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
    tmp_path_factory: pytest.TempPathFactory, self_signed: SelfSigned, server: RoleProcess
) -> Iterator[NginxSite]:
    with nginx(tmp_path_factory.mktemp("nginx"), self_signed, server) as site:
        yield site


@pytest.fixture
def viewers(site: NginxSite) -> Iterator[Viewers]:
    with Viewers(site.tls) as viewers:
        yield viewers


def test_the_headers_of_the_frontend_come_through(site: NginxSite, viewers: Viewers) -> None:
    stream = viewers.connect(site.url, "live:red", headers={"Origin": ORIGIN})
    head = stream.head.decode().lower()
    assert "content-type: text/event-stream; charset=utf-8\r\n" in head
    assert "cache-control: no-store, no-transform\r\n" in head
    assert head.count("access-control-allow-origin:") == 1
    assert f"access-control-allow-origin: {ORIGIN}\r\n" in head


def test_all_events_come_to_all_viewers_in_order(
    site: NginxSite, server: RoleProcess, viewers: Viewers
) -> None:
    streams = viewers.connect_many(20, site.url, "live:order")
    for start in (0, 1000):
        lines = [
            json.dumps({"topic": "live:order", "data": number})
            for number in range(start, start + 1000)
        ]
        assert publish_lines(server, "\n".join(lines).encode()).status_code == 202
    viewers.wait(lambda: all(len(stream.events) >= 2000 for stream in streams), "all came")
    for stream in streams:
        assert [event["data"] for event in stream.events] == list(range(2000))


def test_a_preflight_is_answered_by_the_frontend(site: NginxSite) -> None:
    answer = httpx.options(
        f"{site.url}/connections/n1-x/topics",
        headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST"},
        verify=site.tls,
        timeout=DEADLINE_SECONDS,
    )
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]


def test_a_client_that_reads_nothing_is_cut_off_by_the_frontend(
    site: NginxSite, server: RoleProcess, viewers: Viewers
) -> None:
    stalled = viewers.connect(site.url, "live:stall", receive_buffer_bytes=4096)
    reader = viewers.connect(site.url, "live:stall")
    viewers.stall(stalled)
    event = {"topic": "live:stall", "data": "x" * 50_000}
    before = _stalled(server)

    def is_cut_off() -> bool:
        publish(server, event)
        return _stalled(server) == before + 1

    # The frontend knows nothing of what nginx has taken: a buffering one would take it all.
    eventually(is_cut_off, "the stalled stream was cut off")
    publish(server, {"topic": "live:stall", "data": "last"})
    viewers.wait(lambda: reader.frames[-1].data.get("data") == "last", "the last event came")
    viewers.resume(stalled)
    viewers.wait(lambda: stalled.ended, "the stalled client saw the end")


def _stalled(server: RoleProcess) -> float:
    return metrics(server)['rtdeliver_connections_closed_total{reason="stalled"}']


def test_plain_http_is_sent_to_https(site: NginxSite) -> None:
    answer = HTTP.get(f"{site.plain_url}/connect?topic=live:red")
    assert answer.status_code == 301
    assert answer.headers["Location"] == "https://127.0.0.1/connect?topic=live:red"


def test_one_connection_of_http_2_carries_more_streams_than_a_browser_has_connections(
    site: NginxSite, server: RoleProcess, browser: Any
) -> None:
    context = browser.new_context(ignore_https_errors=True)
    try:
        page = context.new_page()
        # A page of the same origin, so that there is nothing but streams to it.
        page.goto(f"{site.url}/nothing")
        page.evaluate(
            """() => {
                window.got = 0;
                window.opened = 0;
                window.streams = Array.from({length: 10}, () => {
                    const stream = new EventSource("/connect?topic=live:tabs");
                    stream.addEventListener("connected", () => { window.opened += 1; });
                    stream.onmessage = () => { window.got += 1; };
                    return stream;
                });
            }"""
        )
        page.wait_for_function("window.opened === 10", timeout=DEADLINE_SECONDS * 1000)
        publish(server, {"topic": "live:tabs", "data": 1})
        page.wait_for_function("window.got === 10", timeout=DEADLINE_SECONDS * 1000)
    finally:
        context.close()


def test_the_log_has_a_line_for_a_stream_and_no_topic_or_id(
    tmp_path: Path, self_signed: SelfSigned, server: RoleProcess
) -> None:
    with nginx(tmp_path, self_signed, server) as site, Viewers(site.tls) as viewers:
        stream = viewers.connect(site.url, "live:secret")
        stream.subscribe(add=["live:more"])
        viewers.close(stream)
        eventually(lambda: site.stream_log.endswith("\n"), "a line is logged")
        [line] = site.stream_log.splitlines()
        assert " /connect 200 " in line
        assert "live:" not in line
        assert stream.connection not in line


def test_viewers_are_spread_over_the_frontends(
    tmp_path: Path, self_signed: SelfSigned, config: Path
) -> None:
    options = ("--config", str(config))
    with (
        dispatcher() as producer_side,
        frontend(producer_side.url("listen"), "n1", *options) as first,
        frontend(producer_side.url("listen"), "n2", *options) as second,
        nginx(tmp_path, self_signed, first, second) as site,
        Viewers(site.tls) as viewers,
    ):
        streams = viewers.connect_many(10, site.url, "live:red")
        assert metrics(first)["rtdeliver_connections"] == 5
        assert metrics(second)["rtdeliver_connections"] == 5
        publish(producer_side, {"topic": "live:red", "data": 1}, "listen")
        viewers.wait(lambda: all(stream.events for stream in streams), "all got the event")


def test_topics_are_changed_through_whichever_frontend_is_asked(
    tmp_path: Path, self_signed: SelfSigned, config: Path
) -> None:
    with (
        dispatcher() as hub,
        frontend(hub.url("listen"), "n1", "--config", str(config)) as one,
        frontend(hub.url("listen"), "n2", "--config", str(config)) as other,
        nginx(tmp_path, self_signed, one, other) as site,
        Viewers(site.tls) as viewers,
        httpx.Client(base_url=site.url, verify=site.tls, timeout=DEADLINE_SECONDS) as client,
    ):
        streams = [viewers.connect(site.url) for _ in range(6)]
        assert {stream.connection.split("-")[0] for stream in streams} == {"n1", "n2"}
        for number, stream in enumerate(streams):
            for _ in range(3):
                # Least connections among equals take turns, so both frontends are asked.
                answer = client.post(
                    f"/connections/{stream.connection}/topics", json={"add": [f"topic:{number}"]}
                )
                assert answer.status_code == 200, answer.text
                assert answer.json()["topics"] == [f"topic:{number}"]
                assert client.get(f"/connections/{stream.connection}/topics").json() == {
                    "connection": stream.connection,
                    "topics": [f"topic:{number}"],
                }
        for number in range(6):
            publish(hub, {"topic": f"topic:{number}", "data": number}, "listen")
        viewers.wait(lambda: all(stream.events for stream in streams), "all received")
        assert [[event["data"] for event in stream.events] for stream in streams] == [
            [number] for number in range(6)
        ]
        other.stop()
        gone = next(stream for stream in streams if stream.connection.startswith("n2-"))
        assert client.get(f"/connections/{gone.connection}/topics").status_code == 404


def test_another_frontend_takes_the_viewers_of_one_that_died(
    tmp_path: Path, self_signed: SelfSigned, config: Path
) -> None:
    options = ("--config", str(config))
    with (
        dispatcher() as producer_side,
        frontend(producer_side.url("listen"), "n1", *options) as first,
        frontend(producer_side.url("listen"), "n2", *options) as second,
        nginx(tmp_path, self_signed, first, second) as site,
        Viewers(site.tls) as viewers,
    ):
        streams = viewers.connect_many(4, site.url, "live:red")
        first.stop()
        viewers.wait(lambda: sum(stream.ended for stream in streams) == 2, "its streams ended")
        again = viewers.connect_many(2, site.url, "live:red")
        assert all(stream.connection.startswith("n2-") for stream in again)


def test_streams_end_cleanly_when_the_server_drains(
    tmp_path: Path, self_signed: SelfSigned, config: Path
) -> None:
    with (
        combined("--config", str(config)) as server,
        nginx(tmp_path, self_signed, server) as site,
        Viewers(site.tls) as viewers,
    ):
        streams = viewers.connect_many(10, site.url, "live:red")
        terminate(server)
        viewers.wait(lambda: all(stream.ended for stream in streams), "all streams ended")
        assert all(stream.ended_cleanly for stream in streams)
        assert all(stream.frames[-1].event == "busy" for stream in streams)
        assert all(100 <= int(stream.frames[-1].fields["retry"]) <= 1000 for stream in streams)


def test_nobody_waits_for_a_frontend_that_drains_while_another_takes_viewers(
    tmp_path: Path, self_signed: SelfSigned
) -> None:
    config = tmp_path / "patient.toml"
    config.write_text("process.drain_seconds = 60\nviewers.stall_seconds = 300\n")
    options = ("--config", str(config))
    with (
        dispatcher() as hub,
        frontend(hub.url("listen"), "n1", *options) as first,
        frontend(hub.url("listen"), "n2", *options) as second,
        nginx(tmp_path, self_signed, first, second) as site,
        Viewers(site.tls) as viewers,
    ):
        # One that reads nothing keeps it draining, for as long as the drain may take.
        stalled = viewers.connect(first.url("public"), "live:big", receive_buffer_bytes=4096)
        viewers.stall(stalled)
        for _ in range(100):
            publish(hub, {"topic": "live:big", "data": "x" * 50_000}, "listen")
        first.signal(signal.SIGTERM)
        eventually(lambda: "drains" in first.output, "it drains")
        streams = [viewers.connect(site.url, "live:red") for _ in range(20)]
        assert first.is_running()
        assert all(stream.connection.startswith("n2-") for stream in streams)
        second.signal(signal.SIGTERM)
        eventually(lambda: "drains" in second.output, "the other one drains, too")
        [frame] = viewers.connect(site.url, "live:red").frames
        assert (frame.event, frame.data) == ("busy", {"reason": "unreachable"})


def test_one_clients_large_cookies_are_its_own_trouble(
    site: NginxSite, server: RoleProcess, viewers: Viewers
) -> None:
    stream = viewers.connect(site.url, "live:cookies")
    with httpx.Client(base_url=site.url, verify=site.tls, timeout=DEADLINE_SECONDS) as client:
        for size in (3_000, 20_000, 31_000, 60_000):
            for _ in range(5):
                cookies = "; ".join(f"c{number}={'x' * 1000}" for number in range(size // 1000))
                answer = client.get("/connections/none/topics", headers={"Cookie": cookies})
                # Those that nginx takes are none of the frontend's business.
                assert answer.status_code == (404 if size < 32_000 else 400)
        topics = "&topic=".join(f"{number:0>300}" for number in range(150))
        assert client.get(f"/connect?topic={topics}").status_code == 414
    other = viewers.connect(site.url, "live:cookies")
    publish(server, {"topic": "live:cookies", "data": 1})
    viewers.wait(lambda: bool(stream.events and other.events), "nobody else is disturbed")


def test_a_browser_is_asked_to_come_again_when_no_frontend_can_be_reached(
    tmp_path: Path, self_signed: SelfSigned, config: Path, browser: Any
) -> None:
    with (
        combined("--config", str(config)) as server,
        nginx(tmp_path, self_signed, server) as site,
    ):
        server.stop()
        answer = httpx.get(
            f"{site.url}/connect?topic=live:red",
            headers={"Origin": ORIGIN},
            verify=site.tls,
            timeout=DEADLINE_SECONDS,
        )
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store, no-transform"
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        retry, *rest = answer.text.split("\n")
        assert 1000 <= int(retry.removeprefix("retry: ")) <= 5000
        assert rest == ["event: busy", 'data: {"reason":"unreachable"}', "", ""]
        context = browser.new_context(ignore_https_errors=True)
        try:
            page = context.new_page()
            page.goto(f"{site.url}/nothing")
            page.evaluate(
                """() => {
                    window.state = null;
                    window.stream = new EventSource("/connect?topic=live:red");
                    window.stream.onerror = () => { window.state = window.stream.readyState; };
                }"""
            )
            page.wait_for_function("window.state !== null", timeout=DEADLINE_SECONDS * 1000)
            assert page.evaluate("window.state === EventSource.CONNECTING")
        finally:
            context.close()
