"""rtdeliver.js in a page of another origin, which imports it from where the app runs."""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jwt
import pytest

from rtdeliver.sampling import is_sampled
from tests.campaign.network import Mode, Network
from tests.e2e.serving import serving
from tests.e2e.tabs import Tabs
from tests.integration.redis_server import RedisServer
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    LOOPBACK,
    RoleProcess,
    combined,
    eventually,
    fixed_port,
    metrics,
    publish,
    publish_lines,
    terminate,
)

CONFIG = """
viewers.reconnect_seconds = 0.3
viewers.busy_reconnect_min_seconds = 0.2
viewers.busy_reconnect_max_seconds = 0.4
process.drain_seconds = 20
viewers.topics_per_connection = 40
viewers.mailbox_events = 50
presence.heartbeat_seconds = 0.5
presence.grace_seconds = 1.25
latency.receipts_one_in = 2
access.public_topics = ["*"]
"""
RECEIPTS_ONE_IN = 2
TOPICS = 40
BAD = "no\nline breaks"
KEY = secrets.token_hex(32)

PAGE = b"""<!doctype html>
<title>any page</title>
<script type="module">
import { connect } from "MODULE";

// Tokens are given one after the other, and the last one from then on.
function watch(url, topics, tokens = [null], withCredentials = false, later = null) {
    const seen = { states: [], events: [], likes: [], gaps: [], changes: [], disconnected: [],
        expired: 0, asked: 0 };
    const token = later ?? (() => tokens[Math.min(seen.asked++, tokens.length - 1)]);
    const stream = connect({ url, topics, token, withCredentials });
    stream.onState((state) => seen.states.push(state));
    stream.onEvent("*", (event) => seen.events.push(event));
    stream.onEvent("like", (event) => seen.likes.push(event));
    stream.onGap((gap) => seen.gaps.push(gap));
    stream.onExpired(() => seen.expired++);
    stream.onTopics((change) => seen.changes.push(change));
    stream.onDisconnected((why) => seen.disconnected.push(why));
    Object.assign(window, { seen, stream });
}

window.subscribe = (...topics) => stream.subscribe(...topics).catch((error) => error.message);
window.watch = watch;
</script>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    (folder / "rtdeliver.toml").write_text(CONFIG)
    (folder / "key").write_text(KEY)
    return folder


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[RoleProcess]:
    """Run what serves the module."""
    with combined("--app", LOOPBACK, "--database", str(folder / "app.sqlite")) as app:
        yield app


@pytest.fixture(scope="module")
def origin(app: RoleProcess) -> Iterator[str]:
    module = app.url("app") + "/rtdeliver.js"
    with serving(PAGE.replace(b"MODULE", module.encode())) as origin:
        yield origin


@pytest.fixture(scope="module")
def options(folder: Path, origin: str) -> list[str]:
    config, key = (str(folder / name) for name in ("rtdeliver.toml", "key"))
    return ["--config", config, "--token-key-file", key, "--cors-origin", origin]


@pytest.fixture(scope="module")
def server(options: list[str]) -> Iterator[RoleProcess]:
    with combined(*options) as server:
        yield server
    assert "Traceback" not in server.output, server.output


@pytest.fixture
def tabs(browser: Any) -> Iterator[Tabs]:
    with Tabs(browser) as tabs:
        yield tabs


@pytest.fixture
def page(tabs: Tabs, origin: str) -> Any:
    return tabs.open(origin)


def at(port: int, options: list[str]) -> AbstractContextManager[RoleProcess]:
    """Run a server whose public listener has this port."""
    return combined("--public", f"tcp:{port}:interface=127.0.0.1", *options)


def watch(page: Any, server: RoleProcess, *topics: str, **options: Any) -> None:
    """Let the page open a stream, and wait until it is open."""
    begin(page, server, *topics, **options)
    wait_states(page, "open")


def begin(
    page: Any,
    server: RoleProcess,
    *topics: str,
    tokens: list[str | None] | None = None,
    credentials: bool = False,
) -> None:
    page.evaluate(
        "([url, topics, tokens, credentials]) => watch(url, topics, tokens, credentials)",
        [server.url("public"), topics, tokens or [None], credentials],
    )


def subscribe(page: Any, *topics: str) -> Any:
    """Watch more; return what the promise gives, or why it is rejected."""
    return page.evaluate("(topics) => subscribe(...topics)", topics)


def wait_states(page: Any, *states: str) -> None:
    """Wait for the last of these, and check that it went through all, and no others."""
    page.wait_for_function(
        "(states) => seen.states.length >= states.length && seen.states.at(-1) === states.at(-1)",
        arg=states,
    )
    assert page.evaluate("seen.states") == list(states)


def wait_data(page: Any, *data: object) -> None:
    """Wait for the last event, and check that there were these, in their order."""
    page.wait_for_function("(count) => seen.events.length >= count", arg=len(data))
    assert page.evaluate("seen.events.map((event) => event.data)") == list(data)


def refuse_changes(page: Any, count: int, *, make: bool = False) -> list[dict[str, Any]]:
    """Let the first ``count`` changes of topics be answered by 503; return the list of all changes.

    :param make: whether the server gets those, too.
    """
    sent: list[dict[str, Any]] = []

    def handle(route: Any) -> None:
        if route.request.method != "POST":
            route.continue_()
            return
        sent.append(route.request.post_data_json)
        if len(sent) > count:
            route.continue_()
            return
        if make:
            route.fetch()
        route.fulfill(
            status=503,
            headers={"Access-Control-Allow-Origin": "*"},
            json={"error": "unavailable", "message": "try again"},
        )

    page.route("**/topics", handle)
    return sent


def token(member: str, seconds: float = 3600) -> str:
    return jwt.encode({"sub": member, "exp": int(time.time() + seconds)}, KEY, algorithm="HS256")


def viewers(server: RoleProcess, topic: str) -> int:
    answer = HTTP.get(f"{server.url('internal')}/topics", params={"topic": topic})
    count: int = answer.json()["viewers"]
    return count


def is_online(server: RoleProcess, member: str) -> bool:
    [told] = HTTP.get(f"{server.url('internal')}/presence", params={"member": member}).json()
    online: bool = told["online"]
    return online


# Events and topics.


def test_events_come_to_the_listeners_of_their_type_and_of_all(
    page: Any, server: RoleProcess
) -> None:
    watch(page, server, "live:red", "live:gr\u00fcn & \u2603")

    told = publish(server, {"topic": "live:red", "type": "like", "data": {"by": "ann"}}).json()
    publish(server, {"topic": "live:gr\u00fcn & \u2603", "data": "\u2603\n\u2028"})

    wait_data(page, {"by": "ann"}, "\u2603\n\u2028")
    like, other = page.evaluate("seen.events")
    assert {**like, "at": 0} == {
        "topic": "live:red", "type": "like", "id": told["id"], "at": 0, "data": {"by": "ann"},
    }  # fmt: skip
    assert abs(like["at"] / 1000 - time.time()) < DEADLINE_SECONDS
    assert other["type"] == "message"
    assert page.evaluate("seen.likes") == [like]


def test_a_listener_is_taken_off_by_what_it_was_given(page: Any, server: RoleProcess) -> None:
    watch(page, server, "live:red")
    page.evaluate(
        "() => { window.stop = stream.onEvent('*', ({ data }) => { window.last = data; }); }"
    )
    publish(server, {"topic": "live:red", "data": 1})
    wait_data(page, 1)

    page.evaluate("stop()")

    publish(server, {"topic": "live:red", "data": 2})
    wait_data(page, 1, 2)
    assert page.evaluate("window.last") == 1


def test_a_listener_that_fails_does_not_hurt_the_others(
    page: Any, tabs: Tabs, server: RoleProcess
) -> None:
    watch(page, server, "live:red")
    page.evaluate(
        """() => {
            stream.onEvent("like", () => { throw new Error("my own fault"); });
            stream.onEvent("like", () => { window.heard = true; });
        }"""
    )

    publish(server, {"topic": "live:red", "type": "like", "data": 1})

    wait_data(page, 1)

    assert page.evaluate("window.heard") is True
    [complaint] = tabs.complaints
    assert "my own fault" in complaint
    tabs.complaints.clear()


def test_topics_are_added_and_taken_off_on_the_same_stream(page: Any, server: RoleProcess) -> None:
    watch(page, server, "live:red")
    streams = metrics(server)["rtdeliver_connections_started_total"]

    assert subscribe(page, "live:blue", "live:green") is True
    publish(server, {"topic": "live:blue", "data": 1})
    wait_data(page, 1)
    assert page.evaluate("stream.topics") == ["live:blue", "live:green", "live:red"]

    assert page.evaluate("stream.unsubscribe('live:blue', 'live:red')") is True
    for topic in ("live:blue", "live:red", "live:green"):
        publish(server, {"topic": topic, "data": topic})
    wait_data(page, 1, "live:green")
    assert page.evaluate("stream.topics") == ["live:green"]
    assert viewers(server, "live:blue") == 0
    assert metrics(server)["rtdeliver_connections_started_total"] == streams
    assert page.evaluate("seen.states") == ["open"]


def test_nothing_comes_of_a_topic_from_the_moment_that_it_is_given_up(
    page: Any, server: RoleProcess
) -> None:
    watch(page, server, "live:red", "live:green")
    page.evaluate("() => { stream.onEvent('last', () => { stream.unsubscribe('live:red'); }); }")
    lines = [
        {"topic": "live:red", "data": "before"},
        {"topic": "live:green", "type": "last", "data": "last"},
        {"topic": "live:red", "data": "after"},
        {"topic": "live:green", "data": "end"},
    ]

    publish_lines(server, "\n".join(json.dumps(line) for line in lines).encode())

    page.wait_for_function("() => seen.events.at(-1)?.data === 'end'")
    data = page.evaluate("seen.events.map((event) => event.data)")
    # What is of different topics may come in any order.
    assert "after" not in data[data.index("last") :]


def test_topics_that_are_asked_for_before_it_is_connected_are_watched(
    page: Any, server: RoleProcess
) -> None:
    told = page.evaluate(
        """async (url) => {
            watch(url, ["live:red"]);
            const told = [subscribe("live:blue"), subscribe("live:green")];
            stream.unsubscribe("live:red");
            return Promise.all(told);
        }""",
        server.url("public"),
    )

    assert told == [True, True]
    for topic in ("live:red", "live:blue", "live:green"):
        publish(server, {"topic": topic, "data": topic})
    wait_data(page, "live:blue", "live:green")


def test_more_topics_than_an_address_holds_are_all_watched(page: Any, server: RoleProcess) -> None:
    topics = [f"{number:02}" + "\u2603" * 100 for number in range(TOPICS)]

    watch(page, server, *topics)

    for number, topic in enumerate(topics):
        publish(server, {"topic": topic, "data": number})
    wait_data(page, *range(TOPICS))


def test_a_bad_topic_is_refused_and_others_go_on(
    page: Any, tabs: Tabs, server: RoleProcess
) -> None:
    tabs.expect("status of 400 ")
    watch(page, server, "live:red")

    refusal = subscribe(page, BAD)

    assert "control characters" in refusal
    assert page.evaluate("stream.topics") == ["live:red"]
    assert subscribe(page, "live:blue") is True
    for topic in ("live:red", "live:blue"):
        publish(server, {"topic": topic, "data": topic})
    wait_data(page, "live:red", "live:blue")
    assert page.evaluate("seen.states") == ["open"]


def test_a_good_topic_is_not_refused_for_a_bad_one_that_is_asked_for_beside_it(
    page: Any, tabs: Tabs, server: RoleProcess
) -> None:
    tabs.expect("status of 400 ")
    watch(page, server, "live:red")

    good, refusal = page.evaluate(
        "(bad) => Promise.all([subscribe('live:blue'), subscribe(bad)])", BAD
    )

    assert good is True
    assert "control characters" in refusal
    assert page.evaluate("stream.topics") == ["live:blue", "live:red"]
    publish(server, {"topic": "live:blue", "data": 1})
    wait_data(page, 1)


def test_topics_beyond_the_limit_are_refused_until_there_is_room(
    page: Any, tabs: Tabs, server: RoleProcess
) -> None:
    tabs.expect("status of 4")
    watch(page, server, *map(str, range(TOPICS)))

    refusal = subscribe(page, "live:red")

    assert str(TOPICS) in refusal
    publish(server, {"topic": "0", "data": 1})
    wait_data(page, 1)
    page.evaluate("stream.unsubscribe('0')")
    assert subscribe(page, "live:red") is True
    publish(server, {"topic": "live:red", "data": 2})
    wait_data(page, 1, 2)


def test_events_that_were_lost_are_told_of(page: Any, server: RoleProcess) -> None:
    watch(page, server, "live:red")
    lines = [json.dumps({"topic": "live:red", "data": number}) for number in range(1000)]

    publish_lines(server, "\n".join(lines).encode())

    page.wait_for_function("() => seen.events.at(-1)?.data === 999")
    gaps, came = page.evaluate("[seen.gaps, seen.events.length]")
    assert {topic for gap in gaps for topic in gap["topics"]} == {"live:red"}
    assert sum(gap["lost"] for gap in gaps) == 1000 - came > 0


def test_a_page_tells_when_it_has_received_a_sample_of_the_events(
    page: Any, server: RoleProcess
) -> None:
    """At most one request a second, of which the first finds out how long a request takes."""
    told: list[dict[str, Any]] = []
    page.on(
        "request",
        lambda request: (
            told.append(request.post_data_json)
            if request.method == "POST" and request.url.endswith("/received")
            else None
        ),
    )
    watch(page, server, "live:told")
    published: list[str] = []

    def is_received() -> bool:
        answer = publish(server, {"topic": "live:told", "data": 1})
        published.append(answer.json()["id"])
        page.wait_for_function("(count) => seen.events.length >= count", arg=len(published))
        return metrics(server)['rtdeliver_event_age_seconds_count{stage="received"}'] >= 2

    eventually(is_received, "the age of two events is known")
    first, *others = told
    assert first["events"] == []
    assert all(other["round_trip_ms"] > 0 for other in others)
    chosen = [id for other in others for id in other["events"]]
    assert set(chosen) <= {id for id in published if is_sampled(id, RECEIPTS_ONE_IN)}
    counted = metrics(server)
    assert counted["rtdeliver_receipts_unknown_total"] == 0
    assert counted.get('rtdeliver_refused_total{listeners="public",status="429"}', 0) == 0


def test_a_change_that_is_not_answered_is_made_again_on_the_same_stream(
    page: Any, tabs: Tabs, server: RoleProcess
) -> None:
    tabs.expect("status of 503 ")
    watch(page, server, "live:red")
    sent = refuse_changes(page, 2)

    assert subscribe(page, "live:blue") is True

    assert [change["add"] for change in sent] == [["live:blue"]] * 3
    publish(server, {"topic": "live:blue", "data": 1})
    wait_data(page, 1)
    assert page.evaluate("seen.states") == ["open"]


def test_each_change_has_a_higher_sequence(page: Any, tabs: Tabs, server: RoleProcess) -> None:
    tabs.expect("status of 503 ")
    watch(page, server, "live:red")
    sent = refuse_changes(page, 1)

    assert subscribe(page, "live:blue") is True
    assert subscribe(page, "live:green") is True

    sequences = [change["sequence"] for change in sent]
    assert sequences == sorted(set(sequences))
    assert len(sequences) == 3


def test_a_change_that_was_not_answered_is_undone_when_it_is_not_wanted_any_more(
    page: Any, tabs: Tabs, server: RoleProcess
) -> None:
    tabs.expect("status of 503 ")
    watch(page, server, "live:red")
    # The server makes the change, and its answer is lost.
    refuse_changes(page, 1, make=True)

    with page.expect_response("**/topics"):
        page.evaluate("() => { window.later = subscribe('live:blue'); }")
    assert viewers(server, "live:blue") == 1
    assert page.evaluate("stream.unsubscribe('live:blue')") is True

    assert viewers(server, "live:blue") == 0


# Reconnects.


def test_a_stream_comes_back_with_all_topics_after_the_server_was_killed(
    page: Any, options: list[str]
) -> None:
    port = fixed_port()
    with at(port, options) as server:
        watch(page, server, "live:red", "live:old")
        assert subscribe(page, "live:blue") is True
        page.evaluate("stream.unsubscribe('live:old')")
        publish(server, {"topic": "live:blue", "data": "before"})
        wait_data(page, "before")
        server.stop()
        wait_states(page, "open", "lost")
        page.evaluate("() => { window.later = subscribe('live:green'); }")
    with at(port, options) as server:
        wait_states(page, "open", "lost", "open")
        assert page.evaluate("later") is True
        for topic in ("live:old", "live:red", "live:blue", "live:green"):
            publish(server, {"topic": topic, "data": topic})
        wait_data(page, "before", "live:red", "live:blue", "live:green")


@pytest.fixture
def kept(folder: Path, options: list[str]) -> Iterator[list[str]]:
    """Options with which some topics have a history, which outlives the server."""
    (folder / "kept.toml").write_text(
        CONFIG + 'history.topics = {"conv:*" = {events = 200, seconds = 3600}}\n'
        "history.overlap_seconds = 0.1\n"
    )
    with RedisServer() as redis:
        others = options[options.index("--token-key-file") :]
        yield ["--config", str(folder / "kept.toml"), "--redis", redis.url, *others]


def publish_numbers(server: RoleProcess, topic: str, *numbers: int) -> None:
    for number in numbers:
        # A server that has just begun may not have its Redis yet.
        event = {"topic": topic, "data": number}
        eventually(lambda e=event: publish(server, e).status_code == 202, "it is accepted")  # type: ignore[misc]


def data_of(page: Any, topic: str) -> list[int]:
    data: list[int] = page.evaluate(
        "(topic) => seen.events.filter((e) => e.topic === topic).map((e) => e.data)", topic
    )
    return data


def test_topics_with_history_go_on_where_each_of_them_was(page: Any, kept: list[str]) -> None:
    port = fixed_port()
    with at(port, kept) as server:
        watch(page, server, "conv:one", "conv:two", "conv:quiet", "live:red")
        publish_numbers(server, "conv:one", *range(1, 30))
        publish_numbers(server, "conv:two", 1, 2, 3)
        publish_numbers(server, "conv:quiet", 0)
        publish_numbers(server, "live:red", 1)
        eventually(lambda: data_of(page, "live:red") == [1], "all came")
        server.stop()
        wait_states(page, "open", "lost")
    # It publishes before the page is back.
    with combined("--public", LOOPBACK, *kept) as other:
        publish_numbers(other, "conv:one", *range(30, 60))
        publish_numbers(other, "conv:two", 4)
        publish_numbers(other, "conv:quiet", 1)
        publish_numbers(other, "live:red", 2)
    with at(port, kept) as server:
        wait_states(page, "open", "lost", "catching up", "open")
        publish_numbers(server, "conv:one", 60)
        eventually(lambda: data_of(page, "conv:one")[-1] == 60, "the last one came")
    assert data_of(page, "conv:one") == list(range(1, 61))
    assert data_of(page, "conv:two") == [1, 2, 3, 4]
    assert data_of(page, "conv:quiet") == [0, 1]
    assert page.evaluate("seen.gaps") == [{"lost": None, "topics": ["live:red"]}]


def test_what_a_restart_of_the_store_lost_is_told(page: Any, kept: list[str]) -> None:
    port = fixed_port()
    index = kept.index("--redis")
    in_memory = [*kept[:index], *kept[index + 2 :]]
    with at(port, in_memory) as server:
        watch(page, server, "conv:one")
        publish_numbers(server, "conv:one", 1, 2)
        wait_data(page, 1, 2)
        server.stop()
        wait_states(page, "open", "lost")
    with at(port, in_memory) as server:
        wait_states(page, "open", "lost", "open")
        publish_numbers(server, "conv:one", 3)
        wait_data(page, 1, 2, 3)
    assert page.evaluate("seen.gaps") == [{"lost": None, "topics": ["conv:one"]}]


def test_an_eventsource_goes_on_where_it_was(page: Any, kept: list[str]) -> None:
    """Without the module: a browser tells the last id by itself."""
    port = fixed_port()
    with at(port, kept) as server:
        page.evaluate(
            """(url) => {
                Object.assign(window, { numbers: [], connections: 0 });
                const source = new EventSource(url);
                source.onmessage = ({ data }) => numbers.push(JSON.parse(data).data);
                source.addEventListener("connected", () => connections++);
            }""",
            f"{server.url('public')}/connect?topic=conv:one",
        )
        page.wait_for_function("connections === 1")
        publish_numbers(server, "conv:one", *range(1, 20))
        page.wait_for_function("numbers.length === 19")
        server.stop()
    with combined("--public", LOOPBACK, *kept) as other:
        publish_numbers(other, "conv:one", *range(20, 40))
    with at(port, kept) as server:
        page.wait_for_function("connections === 2")
        publish_numbers(server, "conv:one", 40)
        page.wait_for_function("numbers.length >= 40")
    assert page.evaluate("numbers") == list(range(1, 41))


def test_a_stream_comes_back_after_a_drain(page: Any, options: list[str]) -> None:
    port = fixed_port()
    with at(port, options) as server:
        watch(page, server, "live:red")
        terminate(server)
        page.wait_for_function("() => stream.state === 'lost'")
    with at(port, options) as server:
        page.wait_for_function("() => stream.state === 'open'")
        publish(server, {"topic": "live:red", "data": "after"})
        wait_data(page, "after")


def test_a_refused_topic_does_not_keep_a_lost_stream_from_coming_back(
    page: Any, tabs: Tabs, options: list[str]
) -> None:
    tabs.expect("status of 4")
    port = fixed_port()
    with at(port, options) as server:
        watch(page, server, "live:red")
        server.stop()
        wait_states(page, "open", "lost")
        page.evaluate("(topic) => { window.later = subscribe(topic); }", BAD)
        page.evaluate("stream.reconnect()")
    with at(port, options) as server:
        page.wait_for_function("() => stream.state === 'open'")
        assert "control characters" in page.evaluate("later")
        publish(server, {"topic": "live:red", "data": "after"})
        wait_data(page, "after")


def test_reconnecting_asks_for_the_token_again(page: Any, server: RoleProcess) -> None:
    watch(page, server, "live:red", tokens=[token("ann"), token("bob")])
    eventually(lambda: is_online(server, "ann"), "ann is there")

    page.evaluate("stream.reconnect()")

    wait_states(page, "open", "connecting", "open")
    eventually(lambda: is_online(server, "bob"), "bob is there")
    eventually(lambda: not is_online(server, "ann"), "ann is gone")
    assert page.evaluate("seen.asked") == 2
    eventually(lambda: metrics(server)["rtdeliver_connections"] == 1, "there is one stream")


def test_a_token_that_expires_is_replaced_by_the_next_one(page: Any, server: RoleProcess) -> None:
    watch(page, server, "live:red", tokens=[token("cyd", seconds=6), None, token("dan")])

    page.wait_for_function("() => seen.expired === 1 && stream.state === 'open'")

    assert page.evaluate("seen.asked") == 3
    publish(server, {"topic": "live:red", "data": "after"})
    wait_data(page, "after")
    eventually(lambda: metrics(server)["rtdeliver_members"] == 1, "one member is there")


def test_a_token_is_renewed_before_it_expires_on_the_open_stream(
    page: Any, server: RoleProcess
) -> None:
    began = page.evaluate("performance.now()")
    watch(page, server, "live:red", tokens=[token("cyd", seconds=6), token("cyd")])

    page.wait_for_function("(at) => seen.asked === 2 && performance.now() > at", arg=began + 8000)

    assert page.evaluate("[seen.states, seen.expired]") == [["open"], 0]
    publish(server, {"topic": "live:red", "data": "after"})
    wait_data(page, "after")


def test_a_token_of_another_member_begins_another_stream(
    page: Any, tabs: Tabs, server: RoleProcess
) -> None:
    tabs.expect("status of 403 ")
    watch(page, server, "live:red", tokens=[token("cyd", seconds=6), token("dan")])

    wait_states(page, "open", "connecting", "open")

    eventually(lambda: is_online(server, "dan"), "dan is there")
    assert page.evaluate("seen.expired") == 0


def disconnect(server: RoleProcess, **body: object) -> None:
    answer = HTTP.post(f"{server.url('internal')}/disconnect", json=body)
    assert answer.status_code == 202, answer.text


def test_a_member_that_is_disconnected_stays_away(page: Any, server: RoleProcess) -> None:
    watch(page, server, "live:red", tokens=[token("gil")])
    disconnect(server, member="gil", reason="banned")

    wait_states(page, "open", "closed")

    assert page.evaluate("seen.disconnected") == [{"reason": "banned", "reconnect": False}]
    eventually(lambda: metrics(server)["rtdeliver_connections"] == 0, "it does not come back")
    # A page that is loaded later learns it from the answer.
    begin(page, server, "live:red", tokens=[token("gil")])
    wait_states(page, "lost", "closed")
    assert page.evaluate("seen.disconnected") == [{"reason": "", "reconnect": False}]


def test_a_member_that_may_come_back_does_so_with_a_new_token(
    page: Any, tabs: Tabs, server: RoleProcess
) -> None:
    tabs.expect("status of 401 ")
    fresh = jwt.encode(
        {"sub": "hal", "exp": time.time() + 600, "iat": time.time() + 60}, KEY, algorithm="HS256"
    )
    watch(page, server, "live:red", tokens=[token("hal"), token("hal"), fresh])
    disconnect(server, member="hal", reconnect=True)

    page.wait_for_function("() => seen.asked === 3 && stream.state === 'open'")

    assert page.evaluate("seen.disconnected") == [{"reason": "", "reconnect": True}]


def test_topics_of_the_token_and_of_the_backend_are_watched_until_they_are_taken_away(
    page: Any, server: RoleProcess
) -> None:
    mine = jwt.encode(
        {"sub": "ivy", "exp": time.time() + 600, "topics": ["inbox:ivy", "news"]},
        KEY,
        algorithm="HS256",
    )
    watch(page, server, "live:red", tokens=[mine])
    assert page.evaluate("stream.topics") == ["inbox:ivy", "live:red", "news"]
    for topic in ("inbox:ivy", "news"):
        publish(server, {"topic": topic, "data": topic})
    wait_data(page, "inbox:ivy", "news")
    page.evaluate("stream.unsubscribe('news')")
    eventually(lambda: viewers(server, "news") == 0, "it is left")

    url = f"{server.url('internal')}/members/ivy/topics"
    assert HTTP.post(url, json={"add": ["conv:7"], "remove": ["live:red"]}).status_code == 202
    page.wait_for_function("() => seen.changes.length === 1")
    assert page.evaluate("seen.changes") == [{"added": ["conv:7"], "removed": ["live:red"]}]
    assert page.evaluate("stream.topics") == ["conv:7", "inbox:ivy"]
    publish(server, {"topic": "live:red", "data": "not wanted"})
    publish(server, {"topic": "conv:7", "data": "from the backend"})
    wait_data(page, "inbox:ivy", "news", "from the backend")

    page.evaluate("stream.reconnect()")
    page.wait_for_function("() => seen.states.length === 3 && stream.state === 'open'")
    assert page.evaluate("stream.topics") == ["inbox:ivy"]
    eventually(lambda: viewers(server, "news") == 0, "what was left stays left")


def test_a_token_that_is_refused_is_asked_for_again(
    page: Any, tabs: Tabs, server: RoleProcess
) -> None:
    tabs.expect("status of 401 ")
    begin(page, server, "live:red", tokens=[token("eve", seconds=-1), token("eve")])

    wait_states(page, "lost", "open")

    assert page.evaluate("seen.asked") == 2
    eventually(lambda: metrics(server)["rtdeliver_members"] == 1, "one member is there")


def test_a_token_may_come_later(page: Any, tabs: Tabs, server: RoleProcess) -> None:
    tabs.expect("not yet")
    page.evaluate(
        """([url, token]) => {
            const later = async () => {
                await new Promise((resolve) => setTimeout(resolve, 50));
                if (!seen.asked++) throw new Error("not yet");
                return token;
            };
            watch(url, ["live:red"], [], false, later);
        }""",
        [server.url("public"), token("gus")],
    )

    wait_states(page, "lost", "open")
    eventually(lambda: is_online(server, "gus"), "gus is there")
    page.evaluate("stream.reconnect(); stream.close()")
    eventually(lambda: metrics(server)["rtdeliver_connections"] == 0, "it is not opened again")


def test_a_stream_that_a_proxy_has_swallowed_is_opened_again(
    tabs: Tabs, origin: str, options: list[str], tmp_path: Path
) -> None:
    config = tmp_path / "lively.toml"
    config.write_text(CONFIG + "viewers.heartbeat_seconds = 0.5\n")
    with combined(*options, "--config", str(config)) as server, Network() as network:
        port = network.add("proxy", int(server.ports["public"].rpartition(":")[2]))
        page = tabs.open(origin)
        page.evaluate("(url) => watch(url, ['live:red'])", f"http://127.0.0.1:{port}")
        wait_states(page, "open")
        publish(server, {"topic": "live:red", "data": "before"})
        wait_data(page, "before")

        network.become("proxy", Mode.STALL)
        page.wait_for_function("seen.states.at(-1) === 'lost'")
        assert page.evaluate("seen.states") == ["open", "lost"]
        network.become("proxy", Mode.PASS)
        page.wait_for_function("seen.states.at(-1) === 'open'")

        publish(server, {"topic": "live:red", "data": "after"})
        wait_data(page, "before", "after")


def test_a_quiet_stream_stays_open_while_heartbeats_come(
    tabs: Tabs, origin: str, options: list[str], tmp_path: Path
) -> None:
    config = tmp_path / "lively.toml"
    config.write_text(CONFIG + "viewers.heartbeat_seconds = 0.5\n")
    with combined(*options, "--config", str(config)) as server:
        page = tabs.open(origin)
        watch(page, server, "live:red")
        sends = metrics(server)["rtdeliver_sends_total"]
        eventually(lambda: metrics(server)["rtdeliver_sends_total"] >= sends + 6, "it is quiet")
        assert page.evaluate("seen.states") == ["open"]


def test_a_stream_with_credentials_sends_the_cookie(page: Any, server: RoleProcess) -> None:
    page.context.add_cookies(
        [{"name": "rtdeliver_token", "value": token("fay"), "url": server.url("public")}]
    )

    watch(page, server, "live:red", "presence:fay", credentials=True)

    assert subscribe(page, "live:blue") is True
    eventually(lambda: metrics(server)["rtdeliver_members"] == 1, "one member is there")


def test_closing_ends_the_stream_for_good(page: Any, server: RoleProcess) -> None:
    eventually(lambda: metrics(server)["rtdeliver_connections"] == 0, "no other is left")
    watch(page, server, "live:red")
    assert metrics(server)["rtdeliver_connections"] == 1

    page.evaluate("stream.close()")

    eventually(lambda: metrics(server)["rtdeliver_connections"] == 0, "the stream has ended")
    wait_states(page, "open", "closed")
    page.evaluate("stream.reconnect()")
    page.evaluate("dispatchEvent(new Event('online'))")
    assert page.evaluate("stream.state") == "closed"
    assert metrics(server)["rtdeliver_connections"] == 0
