"""A page in Chromium with a plain EventSource, from another origin than the server's."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.serving import serving
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    RoleProcess,
    combined,
    eventually,
    fixed_port,
    metrics,
    publish,
    terminate,
)
from tests.integration.streams import Viewers

CONFIG = """
viewers.reconnect_seconds = 0.5
viewers.busy_reconnect_min_seconds = 0.2
viewers.busy_reconnect_max_seconds = 0.4
process.drain_seconds = 20
"""

# What a page needs, and no more: it subscribes again whenever it is connected.
PAGE = b"""<!doctype html>
<title>viewer</title>
<script>
const seen = {connected: [], busy: [], events: [], errors: []};
const wanted = new Set();
let source, server, credentials, connection;

function watch(url, topics, withCredentials = false) {
  server = url;
  credentials = withCredentials ? "include" : "omit";
  const query = topics.map((topic) => "topic=" + encodeURIComponent(topic)).join("&");
  source = new EventSource(`${server}/connect?${query}`, {withCredentials});
  source.onmessage = (message) => {
    seen.events.push({lastEventId: message.lastEventId, ...JSON.parse(message.data)});
  };
  source.addEventListener("connected", async (message) => {
    connection = JSON.parse(message.data).connection;
    const answer = wanted.size ? await change({add: [...wanted]}) : null;
    seen.connected.push({connection, answer});
  });
  source.addEventListener("busy", (message) => seen.busy.push(JSON.parse(message.data)));
  source.onerror = () => seen.errors.push(source.readyState);
}

async function change(topics) {
  const answer = await fetch(`${server}/connections/${connection}/topics`, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(topics),
    credentials,
    signal: AbortSignal.timeout(60000),
  });
  return {status: answer.status, ...await answer.json()};
}

function subscribe(topic) {
  wanted.add(topic);
  return change({add: [topic]});
}

function unsubscribe(topic) {
  wanted.delete(topic);
  return change({remove: [topic]});
}
</script>
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with serving(PAGE) as origin:
        yield origin


@pytest.fixture
def page(browser: Any, origin: str) -> Iterator[Any]:
    with opened(browser, origin) as page:
        yield page


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "rtdeliver.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def options(config: Path, origin: str) -> list[str]:
    return ["--config", str(config), "--cors-origin", origin]


@contextmanager
def opened(browser: Any, origin: str) -> Iterator[Any]:
    """Open the page from ``origin`` in a browser profile of its own."""
    context = browser.new_context()
    try:
        context.set_default_timeout(DEADLINE_SECONDS * 1000)
        page = context.new_page()
        page.goto(origin)
        yield page
    finally:
        context.close()


def at(port: int, options: list[str]) -> AbstractContextManager[RoleProcess]:
    """Run a server whose public listener has this port."""
    return combined("--public", f"tcp:{port}:interface=127.0.0.1", *options)


def watch(
    page: Any, server: RoleProcess, *topics: str, credentials: bool = False, connects: bool = True
) -> None:
    """Let the page open its EventSource, and wait until it is connected."""
    page.evaluate(
        "([url, topics, credentials]) => watch(url, topics, credentials)",
        [server.url("public"), topics, credentials],
    )
    if connects:
        page.wait_for_function("seen.connected.length === 1")


def data_of(page: Any) -> list[Any]:
    """What the page got in ``onmessage`` so far."""
    data: list[Any] = page.evaluate("seen.events.map((event) => event.data)")
    return data


def test_events_come_to_onmessage_with_their_ids(page: Any, options: list[str]) -> None:
    with combined(*options) as server:
        watch(page, server, "live:red", "live:gr\u00fcn & \u2603")
        first = publish(server, {"topic": "live:red", "type": "like", "data": {"user": "ann"}})
        second = publish(server, {"topic": "live:gr\u00fcn & \u2603", "data": "\u2603\n\u2028"})
        page.wait_for_function("seen.events.length === 2")
        events = page.evaluate("seen.events")
        assert [event["lastEventId"] for event in events] == [
            first.json()["id"],
            second.json()["id"],
        ]
        assert [event["id"] for event in events] == [event["lastEventId"] for event in events]
        assert [event["type"] for event in events] == ["like", "message"]
        assert [event["data"] for event in events] == [{"user": "ann"}, "\u2603\n\u2028"]
        assert page.evaluate("seen.errors") == []


def test_topics_change_by_fetch_on_the_open_stream(page: Any, options: list[str]) -> None:
    with combined(*options) as server:
        watch(page, server, "live:red")
        answer = page.evaluate("subscribe('live:blue')")
        assert (answer["status"], answer["topics"]) == (200, ["live:blue", "live:red"])
        publish(server, {"topic": "live:blue", "data": 1})
        page.wait_for_function("seen.events.length === 1")

        answer = page.evaluate("unsubscribe('live:blue')")
        assert (answer["status"], answer["topics"]) == (200, ["live:red"])
        publish(server, {"topic": "live:blue", "data": "unwanted"})
        publish(server, {"topic": "live:red", "data": 2})
        page.wait_for_function("seen.events.length === 2")
        assert data_of(page) == [1, 2]
        assert page.evaluate("seen.connected.length") == 1


def test_a_page_subscribes_again_after_the_server_was_killed(page: Any, options: list[str]) -> None:
    port = fixed_port()
    with at(port, options) as server:
        watch(page, server, "live:red")
        page.evaluate("subscribe('live:blue')")
        publish(server, {"topic": "live:blue", "data": "before"})
        # From now on the browser sends the event's id when it reconnects.
        page.wait_for_function("seen.events.length === 1")
        server.stop()
        page.wait_for_function("seen.errors.length > 0")
    with at(port, options) as server:
        page.wait_for_function("seen.connected.length === 2")
        first, second = page.evaluate("seen.connected")
        assert first["connection"] != second["connection"]
        assert second["answer"]["status"] == 200
        assert second["answer"]["topics"] == ["live:blue", "live:red"]
        publish(server, {"topic": "live:blue", "data": "after"})
        page.wait_for_function("seen.events.length === 2")
        assert data_of(page) == ["before", "after"]
    assert set(page.evaluate("seen.errors")) == {0}, "EventSource.CONNECTING"


def test_a_page_comes_back_after_a_drain(page: Any, options: list[str]) -> None:
    port = fixed_port()
    with at(port, options) as server:
        watch(page, server, "live:red")
        publish(server, {"topic": "live:red", "data": "before"})
        terminate(server)
        page.wait_for_function("seen.busy.length > 0 && seen.errors.length > 0")
        assert page.evaluate("seen.busy[0]") == {"reason": "draining"}
        assert page.evaluate("source.readyState === EventSource.CONNECTING")
    with at(port, options) as server:
        page.wait_for_function("seen.connected.length === 2")
        publish(server, {"topic": "live:red", "data": "after"})
        page.wait_for_function("seen.events.length === 2")
        assert data_of(page) == ["before", "after"]


def test_a_page_waits_for_room_on_a_full_server(
    page: Any, options: list[str], config: Path
) -> None:
    config.write_text(CONFIG + "viewers.max_connections = 1\n")
    with combined(*options) as server, Viewers() as viewers:
        other = viewers.connect(server.url("public"), "live:red")
        watch(page, server, "live:red", connects=False)
        page.wait_for_function("seen.busy.length >= 2")
        assert page.evaluate("seen.busy[0]") == {"reason": "full"}
        assert page.evaluate("seen.connected") == []
        viewers.close(other)
        page.wait_for_function("seen.connected.length === 1")
        assert set(page.evaluate("seen.errors")) == {0}, "EventSource.CONNECTING"
        publish(server, {"topic": "live:red", "data": 1})
        page.wait_for_function("seen.events.length === 1")


def test_closing_the_page_ends_its_stream(browser: Any, origin: str, options: list[str]) -> None:
    with combined(*options) as server:
        with opened(browser, origin) as page:
            watch(page, server, "live:red")
            assert metrics(server)["rtdeliver_connections"] == 1
        eventually(lambda: metrics(server)["rtdeliver_connections"] == 0, "the stream ended")


def test_a_listed_origin_may_send_credentials(page: Any, options: list[str]) -> None:
    with combined(*options) as server:
        watch(page, server, "live:red", credentials=True)
        assert page.evaluate("subscribe('live:blue')")["status"] == 200
        publish(server, {"topic": "live:blue", "data": 1})
        page.wait_for_function("seen.events.length === 1")


def test_an_unlisted_origin_reads_nothing_and_changes_nothing(
    page: Any, config: Path, origin: str
) -> None:
    options = ("--config", str(config), "--cors-origin", "https://www.example.com")
    with combined(*options) as server, Viewers() as viewers:
        watch(page, server, "live:red", connects=False)
        page.wait_for_function("source.readyState === EventSource.CLOSED")

        # Nor would it help to know somebody else's connection.
        stream = viewers.connect(server.url("public"), "live:red", headers={"Origin": origin})
        for content_type in ("application/json", "text/plain"):
            outcome = page.evaluate(
                """([url, type]) => fetch(url, {
                    method: "POST",
                    headers: {"Content-Type": type},
                    body: JSON.stringify({add: ["live:spied"]}),
                }).then(() => "read", (error) => error.name)""",
                [f"{server.url('public')}/connections/{stream.connection}/topics", content_type],
            )
            assert outcome == "TypeError"
        topics = HTTP.get(f"{server.url('public')}/connections/{stream.connection}/topics").json()
        assert topics["topics"] == ["live:red"]
        assert page.evaluate("seen.connected.length + seen.events.length") == 0


def test_any_origin_may_be_allowed_without_credentials(
    browser: Any, origin: str, config: Path
) -> None:
    with combined("--config", str(config), "--cors-origin", "*") as server:
        with opened(browser, origin) as page:
            watch(page, server, "live:red")
            assert page.evaluate("subscribe('live:blue')")["status"] == 200
        with opened(browser, origin) as page:
            watch(page, server, "live:red", credentials=True, connects=False)
            page.wait_for_function("source.readyState === EventSource.CLOSED")
            assert page.evaluate("seen.connected") == []
