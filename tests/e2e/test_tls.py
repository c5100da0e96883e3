"""The public listener on TLS endpoint strings: all that streams do, through OpenSSL."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import SelfSigned
from tests.integration.roles import (
    LOOPBACK,
    RoleProcess,
    combined,
    dispatcher,
    eventually,
    metrics,
    publish,
    publish_lines,
    running,
    terminate,
)
from tests.integration.streams import Viewers

CONFIG = """
viewers.heartbeat_seconds = 1
viewers.stall_seconds = 2
process.drain_seconds = 20
viewers.mailbox_bytes = 4194304
"""


@pytest.fixture(scope="module", params=["ssl", "tls"])
def endpoint(request: pytest.FixtureRequest, self_signed: SelfSigned) -> str:
    if request.param == "ssl":
        files = f"privateKey={self_signed.key}:certKey={self_signed.certificate}"
        return f"ssl:0:{files}:interface=127.0.0.1"
    return f"tls:{self_signed.directory}:0:interface=127.0.0.1"


@pytest.fixture(scope="module")
def options(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    config = tmp_path_factory.mktemp("config") / "rtdeliver.toml"
    config.write_text(CONFIG)
    return ["--public", endpoint, "--config", str(config)]


@pytest.fixture(scope="module")
def server(options: list[str]) -> Iterator[RoleProcess]:
    with combined(*options) as process:
        yield process


@pytest.fixture
def viewers(self_signed: SelfSigned) -> Iterator[Viewers]:
    with Viewers(self_signed.client()) as viewers:
        yield viewers


def url_of(server: RoleProcess) -> str:
    return f"https://{server.ports['public']}"


def test_a_stream_receives_events(server: RoleProcess, viewers: Viewers) -> None:
    stream = viewers.connect(url_of(server), "live:red")
    publish(server, {"topic": "live:red", "type": "like", "data": {"user": "ann"}})
    viewers.wait(lambda: bool(stream.events), "the event came")
    assert stream.events[0]["data"] == {"user": "ann"}
    assert stream.frames[-1].id == stream.events[0]["id"]


def test_a_stream_changes_its_topics(server: RoleProcess, viewers: Viewers) -> None:
    stream = viewers.connect(url_of(server), "live:red")
    answer = stream.subscribe(add=["live:blue"], remove=["live:red"])
    assert answer.status_code == 200
    publish(server, {"topic": "live:red", "data": "unwanted"})
    publish(server, {"topic": "live:blue", "data": "wanted"})
    viewers.wait(lambda: bool(stream.events), "an event came")
    assert [event["data"] for event in stream.events] == ["wanted"]


def test_a_quiet_stream_gets_heartbeats(server: RoleProcess, viewers: Viewers) -> None:
    stream = viewers.connect(url_of(server), "live:quiet")
    viewers.wait(lambda: stream.comments >= 2, "two heartbeats came")
    assert len(stream.frames) == 1


def test_all_events_come_to_all_viewers_in_order(server: RoleProcess, viewers: Viewers) -> None:
    streams = viewers.connect_many(20, url_of(server), "live:order")
    for start in (0, 1000):
        lines = [
            json.dumps({"topic": "live:order", "data": number})
            for number in range(start, start + 1000)
        ]
        assert publish_lines(server, "\n".join(lines).encode()).status_code == 202
    viewers.wait(lambda: all(len(stream.events) >= 2000 for stream in streams), "all came")
    for stream in streams:
        assert [event["data"] for event in stream.events] == list(range(2000))


def test_an_event_larger_than_a_record_comes_whole(server: RoleProcess, viewers: Viewers) -> None:
    stream = viewers.connect(url_of(server), "live:large")
    text = "".join(chr(0x3B1 + number % 25) for number in range(29_000))
    assert publish(server, {"topic": "live:large", "data": text}).status_code == 202
    viewers.wait(lambda: bool(stream.events), "the event came")
    assert stream.events[0]["data"] == text


def test_a_slow_reader_gets_all_that_fits_its_mailbox(
    endpoint: str, tmp_path: Path, viewers: Viewers
) -> None:
    config = tmp_path / "rtdeliver.toml"
    # However long it takes to publish, the reader is slow and not stalled.
    config.write_text("viewers.stall_seconds = 600\nviewers.mailbox_bytes = 4194304\n")
    with combined("--public", endpoint, "--config", str(config)) as server:
        stream = viewers.connect(url_of(server), "live:slow", receive_buffer_bytes=4096)
        viewers.stall(stream)
        for number in range(30):
            publish(server, {"topic": "live:slow", "data": [number, "x" * 50_000]})
        eventually(
            lambda: metrics(server)['rtdeliver_mailbox_bytes{actor="connection"}'] > 100_000,
            "the kernel took no more, and events wait",
        )
        viewers.resume(stream)
        viewers.wait(lambda: len(stream.events) >= 30, "all came")
        assert [event["data"][0] for event in stream.events] == list(range(30))
        assert not stream.control("gap")


def test_a_client_that_reads_nothing_is_cut_off_and_others_go_on(
    server: RoleProcess, viewers: Viewers
) -> None:
    stalled = viewers.connect(url_of(server), "live:stall", receive_buffer_bytes=4096)
    reader = viewers.connect(url_of(server), "live:stall")
    viewers.stall(stalled)
    before = _closed(server, "stalled")
    event = {"topic": "live:stall", "data": "x" * 50_000}
    sent = 0

    def is_cut_off() -> bool:
        nonlocal sent
        publish(server, event)
        sent += 1
        return _closed(server, "stalled") == before + 1

    eventually(is_cut_off, "the stalled stream was cut off")
    publish(server, {"topic": "live:stall", "data": "last"})
    viewers.wait(lambda: len(reader.frames) == sent + 2, "the other one got all events")
    assert reader.events[-1]["data"] == "last"
    assert not reader.control("gap")
    viewers.resume(stalled)
    viewers.wait(lambda: stalled.ended, "the stalled client saw the end")


def test_a_client_that_leaves_is_gone_from_the_table(server: RoleProcess, viewers: Viewers) -> None:
    stream = viewers.connect(url_of(server), "live:leaving")
    before = _closed(server, "client_left")
    viewers.close(stream)
    eventually(lambda: _closed(server, "client_left") == before + 1, "the viewer is gone")


def test_a_client_that_offers_http_2_is_served_http_1_1(
    server: RoleProcess, self_signed: SelfSigned
) -> None:
    client = self_signed.client(protocols=("h2", "http/1.1"))
    with Viewers(client) as viewers:
        stream = viewers.connect(url_of(server), "live:red")
        assert isinstance(stream.socket, ssl.SSLSocket)
        assert stream.socket.selected_alpn_protocol() == "http/1.1"
        assert stream.head.startswith(b"HTTP/1.1 200 ")
        assert stream.connection


def test_streams_end_with_a_busy_frame_when_the_server_drains(
    options: list[str], viewers: Viewers
) -> None:
    with combined(*options) as server:
        streams = viewers.connect_many(20, url_of(server), "live:red")
        publish(server, {"topic": "live:red", "data": "last"})
        terminate(server)
        viewers.wait(lambda: all(stream.ended for stream in streams), "all streams ended")
        for stream in streams:
            assert [frame.event for frame in stream.frames] == ["connected", "message", "busy"]
            assert 100 <= int(stream.frames[-1].fields["retry"]) <= 1000
            # By TLS's own word: without it, a stream that was cut would look the same.
            assert stream.ended_cleanly
        assert "rtcombined has ended" in server.output


def _closed(server: RoleProcess, reason: str) -> float:
    return metrics(server)[f'rtdeliver_connections_closed_total{{reason="{reason}"}}']


def test_workers_share_a_tls_listener(options: list[str], viewers: Viewers) -> None:
    with (
        dispatcher() as router,
        running(
            "rtfrontend",
            "--dispatcher", router.url("listen"),
            "--node", "n1",
            "--internal", LOOPBACK,
            "--workers", "2",
            *options,
        ) as server,
    ):  # fmt: skip
        streams = []

        def each_has_one() -> bool:
            streams.extend(viewers.connect_many(2, url_of(server), "live:red"))
            return len({stream.connection[:5] for stream in streams}) == 2

        eventually(each_has_one, "each worker has a viewer")
        publish(router, {"topic": "live:red", "data": 1}, "listen")
        viewers.wait(lambda: all(stream.events for stream in streams), "the event came to all")
        terminate(server)
        viewers.wait(lambda: all(stream.ended for stream in streams), "all streams have ended")
        assert all(stream.control("busy") for stream in streams)
    assert "Traceback" not in server.output
