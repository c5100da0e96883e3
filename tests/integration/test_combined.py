"""What a browser and a producer get from one process that is dispatcher and frontend."""

import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from rtdeliver.sampling import is_sampled
from tests.chunked import ChunkDecoder
from tests.integration.conftest import WriteConfig
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    RoleProcess,
    combined,
    eventually,
    metrics,
    publish,
    publish_lines,
)
from tests.integration.streams import Stream, Viewers

PAGE = "https://page.example"
OTHER_PAGE = "https://other.example"
ORDERED_EVENTS = 10000
ORDERED_BATCH = 500
CORS = (
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
)

_names = (f"live:{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def role(write_config: WriteConfig) -> Iterator[RoleProcess]:
    # Mailboxes with room for all that the tests publish: none of them is about loss.
    roomy = write_config(
        {
            "viewers.mailbox_bytes": 67108864,
            "viewers.mailbox_events": 1000000,
            "routing.announce_seconds": 0.2,
            # A busy machine may leave a client waiting for long.
            "http.idle_seconds": 600,
        }
    )
    with combined(*roomy, "--node", "n1", "--cors-origin", PAGE) as role:
        yield role
    assert "Traceback" not in role.output


@pytest.fixture(scope="module")
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return next(_names)


class RawStream:
    """A stream as it comes from the socket, with nothing taken away but the chunks.

    :ivar head: the answer's head, without the empty line.
    """

    def __init__(self, sock: socket.socket, *, is_chunked: bool) -> None:
        self._sock = sock
        head, _, self._came = self._until(b"", b"\r\n\r\n").partition(b"\r\n\r\n")
        self._decoder = ChunkDecoder() if is_chunked else None
        self.head = head.decode()
        self._came = self._decoded(self._came)

    def read_until(self, end: bytes) -> bytes:
        """Return what comes until there is ``end``."""
        read, _, self._came = self._until(self._came, end, self._decoded).partition(end)
        return read + end

    def _until(
        self, came: bytes, end: bytes, decode: Callable[[bytes], bytes] = lambda data: data
    ) -> bytes:
        while end not in came:
            piece = self._sock.recv(65536)
            assert piece, f"the stream ended after {came!r}"
            came += decode(piece)
        return came

    def _decoded(self, data: bytes) -> bytes:
        return data if self._decoder is None else self._decoder.feed(data)


@contextmanager
def raw_stream(role: RoleProcess, target: str, version: str = "1.1") -> Iterator[RawStream]:
    """Open a stream by a request that is written by hand."""
    parts = urlsplit(role.url("public"))
    assert parts.hostname is not None
    address = (parts.hostname, parts.port or 80)
    with socket.create_connection(address, DEADLINE_SECONDS) as sock:
        sock.sendall(f"GET {target} HTTP/{version}\r\nHost: {parts.netloc}\r\n\r\n".encode())
        yield RawStream(sock, is_chunked=version == "1.1")


each_version = pytest.mark.parametrize("version", ["1.0", "1.1"])


# The stream.


@each_version
def test_a_stream_begins_with_its_head_and_the_connected_frame(
    role: RoleProcess, topic: str, version: str
) -> None:
    target = f"/connect?topic={topic}&topic=a%20b&topic={topic}"
    with raw_stream(role, target, version) as stream:
        frame = stream.read_until(b"\n\n")

    status, *fields = stream.head.split("\r\n")
    assert status == "HTTP/1.1 200 OK"
    headers = {field.split(": ")[0].lower(): field.split(": ")[1] for field in fields}
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert headers.get("transfer-encoding") == {"1.0": None, "1.1": "chunked"}[version]
    retry, event, data, *rest = frame.decode().split("\n")
    assert (retry, event, rest) == ("retry: 3000", "event: connected", ["", ""])
    told = json.loads(data.removeprefix("data: "))
    id = told["connection"]
    assert data == (
        f'data: {{"connection":"{id}","topics":["a b","{topic}"],"heartbeat_seconds":25,'
        '"receipts_one_in":100}'
    )


def test_a_connection_id_names_its_node_and_cannot_be_guessed(
    role: RoleProcess, viewers: Viewers
) -> None:
    streams = viewers.connect_many(50, role.url("public"))

    ids = {stream.connection for stream in streams}
    assert len(ids) == 50
    for id in ids:
        assert id.startswith("n1-")
        # 128 bits are 22 letters of 6 bits each.
        assert len(id) >= len("n1-") + 22
        assert set(id) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


@each_version
def test_an_event_is_one_frame_byte_for_byte(role: RoleProcess, topic: str, version: str) -> None:
    with raw_stream(role, f"/connect?topic={topic}", version) as stream:
        stream.read_until(b"\n\n")
        body = (
            b'{ "data" : {"user": "\xc3\xa4nn\\n", "n":[1, 2.50, 1e3]},"type":"like","topic":"%b"}'
        )

        answer = HTTP.post(
            role.url("internal") + "/publish",
            content=body % topic.encode(),
            headers={"Content-Type": "application/json"},
        )
        frame = stream.read_until(b"\n\n")

    assert answer.status_code == 202
    id = answer.json()["id"]
    at = json.loads(frame.split(b"\n")[1].removeprefix(b"data: "))["at"]
    assert frame == (
        b'id: %b\ndata: {"topic":"%b","type":"like","id":"%b","at":%d,'
        b'"data":{"user":"\xc3\xa4nn\\n","n":[1,2.50,1e3]}}\n\n'
        % (id.encode(), topic.encode(), id.encode(), at)
    )


def test_line_breaks_between_the_tokens_of_data_do_not_break_the_frame(
    role: RoleProcess, viewers: Viewers, topic: str
) -> None:
    stream = viewers.connect(role.url("public"), topic)
    bodies = [
        b'{"topic":"%b","data":[1,\r\n\r\n2,\r3,\n\n"id: evil"]}' % topic.encode(),
        b'{"topic":"%b","data":"\xe2\x80\xa8\xc2\x85\\n\\r\\u000a"}' % topic.encode(),
    ]

    for body in bodies:
        answer = HTTP.post(
            role.url("internal") + "/publish",
            content=body,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 202

    viewers.wait(lambda: len(stream.frames) >= 3, "both events came")
    assert [event["data"] for event in stream.events] == [
        [1, 2, 3, "id: evil"],
        "\u2028\x85\n\r\n",
    ]
    assert all(set(frame.fields) == {"id", "data"} for frame in stream.frames[1:])


def test_heartbeats_are_comments_without_a_blank_line(write_config: WriteConfig) -> None:
    with (
        combined(*write_config({"viewers.heartbeat_seconds": 1})) as role,
        raw_stream(role, "/connect") as stream,
    ):
        connected = stream.read_until(b"\n\n")
        rest = stream.read_until(b":\n:\n")

    assert b'"heartbeat_seconds":1,' in connected
    assert rest == b":\n:\n"


def test_head_of_connect_opens_no_stream(role: RoleProcess) -> None:
    with httpx.Client(base_url=role.url("public"), timeout=DEADLINE_SECONDS) as client:
        before = metrics(role)["rtdeliver_connections_started_total"]

        answers = [client.head("/connect?topic=live:head") for _ in range(3)]

        # The connection can be used again, so nothing of a stream came on it.
        assert client.get("/nothing").json()["error"] == "not_found"
    for answer in answers:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.content == b""
    assert metrics(role)["rtdeliver_connections_started_total"] == before


# How old events are.


def test_ages_are_counted_at_every_hop(role: RoleProcess, viewers: Viewers, topic: str) -> None:
    def count(stage: str) -> float:
        return metrics(role)[f'rtdeliver_event_age_seconds_count{{stage="{stage}"}}']

    before = {stage: count(stage) for stage in ("delivered", "sent", "received")}
    stream = viewers.connect(role.url("public"), topic)
    # One in 100 is told: their checksums end in 00.
    ids = [id for id in (f"e{number}" for number in range(1000)) if is_sampled(id, 100)]
    for id in ids:
        publish(role, {"topic": topic, "id": id, "data": 1})
        viewers.wait(lambda: bool(stream.events) and stream.frames[-1].id == id, "it came")  # noqa: B023
    told = {"connection": stream.connection, "round_trip_ms": 0, "events": ids}
    answer = HTTP.post(role.url("public") + "/received", json=told)
    assert answer.status_code == 202
    for stage in before:
        assert count(stage) == before[stage] + len(ids), stage


def test_a_page_tells_once_a_second_of_its_own_stream(role: RoleProcess, viewers: Viewers) -> None:
    stream = viewers.connect(role.url("public"))
    told = {"connection": stream.connection, "round_trip_ms": 1, "events": []}
    url = role.url("public") + "/received"
    for wrong, status, error in (
        ({**told, "connection": "n1-x"}, 404, "unknown_connection"),
        ({**told, "round_trip_ms": -1}, 400, "bad_request"),
        ({**told, "events": ["e"] * 101}, 400, "bad_request"),
        ({**told, "at": 1}, 400, "bad_request"),
    ):
        answer = HTTP.post(url, json=wrong)
        assert (answer.status_code, answer.json()["error"]) == (status, error)
    answers = [HTTP.post(url, json=told) for _ in range(20)]
    assert answers[0].status_code == 202
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}


# Publishing.


def test_a_published_event_comes_as_it_was_published(
    role: RoleProcess, viewers: Viewers, topic: str
) -> None:
    stream, bystander = (
        viewers.connect(role.url("public"), watched) for watched in (topic, "live:elsewhere")
    )

    given = publish(role, {"topic": topic, "type": "comment", "id": "c-1", "data": {"t": "é"}})
    made = publish(role, {"topic": topic, "data": None})

    assert (given.status_code, given.json()) == (202, {"id": "c-1"})
    assert made.status_code == 202
    viewers.wait(lambda: len(stream.events) == 2, "both events came")
    first, second = stream.events
    assert first == {
        "topic": topic,
        "type": "comment",
        "id": "c-1",
        "at": first["at"],
        "data": {"t": "é"},
    }
    assert second == {
        "topic": topic,
        "type": "message",
        "id": made.json()["id"],
        "at": second["at"],
        "data": None,
    }
    assert [frame.id for frame in stream.frames[1:]] == ["c-1", made.json()["id"]]
    assert bystander.events == []


def test_a_batch_is_published_in_its_order_over_all_topics(
    role: RoleProcess, viewers: Viewers, topic: str
) -> None:
    other = next(_names)
    stream = viewers.connect(role.url("public"), topic, other)
    lines = [
        json.dumps({"topic": (topic, other)[number % 3 == 0], "data": number}).encode()
        for number in range(100)
    ]

    answer = publish_lines(role, b"\n".join(lines))

    assert (answer.status_code, answer.json()) == (202, {"accepted": 100})
    viewers.wait(lambda: len(stream.events) >= 100, "all events came")
    assert [event["data"] for event in stream.events] == list(range(100))


def test_ids_sort_by_time_and_are_unique(role: RoleProcess, viewers: Viewers, topic: str) -> None:
    stream = viewers.connect(role.url("public"), topic)
    body = b"\n".join(json.dumps({"topic": topic, "data": 0}).encode() for _ in range(300))

    for _ in range(3):
        assert publish_lines(role, body).status_code == 202

    viewers.wait(lambda: len(stream.events) >= 900, "all events came")
    ids = [event["id"] for event in stream.events]
    assert len(set(ids)) == 900
    keys = [tuple(int(part) for part in id.split("-")[:2]) for id in ids]
    assert keys == sorted(keys)


def test_ten_thousand_events_come_in_order_to_each_of_twenty_viewers(
    role: RoleProcess, viewers: Viewers, topic: str
) -> None:
    streams = viewers.connect_many(20, role.url("public"), topic)
    numbers = range(ORDERED_EVENTS)
    lines = [
        json.dumps({"topic": topic, "id": f"e-{number:05}", "data": number}).encode()
        for number in numbers
    ]

    for start in range(0, ORDERED_EVENTS, ORDERED_BATCH):
        answer = publish_lines(role, b"\n".join(lines[start : start + ORDERED_BATCH]))
        assert answer.json() == {"accepted": ORDERED_BATCH}

    viewers.wait(
        lambda: all(len(stream.frames) > ORDERED_EVENTS for stream in streams),
        "all events came to all viewers",
    )
    expected = [f"e-{number:05}" for number in numbers]
    for stream in streams:
        assert [frame.id for frame in stream.frames[1:]] == expected
        assert not stream.ended


def test_an_id_published_twice_is_received_once(
    role: RoleProcess, viewers: Viewers, topic: str
) -> None:
    other = next(_names)
    stream = viewers.connect(role.url("public"), topic, other)
    again = {"topic": topic, "id": f"again-{topic[5:]}", "data": 1}
    line = json.dumps(again).encode()

    assert publish(role, again).status_code == 202
    assert publish(role, again).status_code == 202
    assert publish_lines(role, line + b"\n" + line).status_code == 202
    # The same id in another topic is another event.
    assert publish(role, {**again, "topic": other}).status_code == 202
    assert publish(role, {"topic": topic, "id": "last", "data": 2}).status_code == 202

    viewers.wait(lambda: any(frame.id == "last" for frame in stream.frames), "the last event came")
    received = [(event["topic"], event["id"]) for event in stream.events]
    assert received == [(topic, again["id"]), (other, again["id"]), (topic, "last")]


# Subscribing on an open stream.


def topics_of(role: RoleProcess, stream: Stream) -> dict[str, object]:
    answer = HTTP.get(f"{role.url('public')}/connections/{stream.connection}/topics")
    assert answer.status_code == 200
    told: dict[str, object] = answer.json()
    return told


def test_topics_change_on_an_open_stream(role: RoleProcess, viewers: Viewers, topic: str) -> None:
    second, third = next(_names), next(_names)
    stream = viewers.connect(role.url("public"), topic)

    answer = stream.subscribe(add=[third, second, second, topic], remove=["live:never", topic])
    assert answer.status_code == 200
    assert answer.json() == topics_of(role, stream)

    stream_topics = answer.json()["topics"]
    assert set(stream_topics) >= {second, third}
    answer = stream.subscribe(remove=[topic])
    assert answer.json() == {"connection": stream.connection, "topics": sorted([second, third])}
    assert topics_of(role, stream) == answer.json()
    for watched in (topic, second, third):
        assert publish(role, {"topic": watched, "data": watched}).status_code == 202
    viewers.wait(lambda: len(stream.events) == 2, "the events of both topics came")
    assert [event["data"] for event in stream.events] == [second, third]


def test_either_list_of_a_change_may_be_missing(
    role: RoleProcess, viewers: Viewers, topic: str
) -> None:
    stream = viewers.connect(role.url("public"))
    url = f"{role.url('public')}/connections/{stream.connection}/topics"

    changes: list[dict[str, list[str]]] = [
        {},
        {"add": [topic]},
        {"add": [topic]},
        {"remove": [topic]},
        {"remove": []},
    ]
    told = [HTTP.post(url, json=change).json()["topics"] for change in changes]

    assert told == [[], [topic], [topic], [], []]


def test_a_dispatcher_tells_who_watches_a_topic(
    role: RoleProcess, viewers: Viewers, topic: str
) -> None:
    def told() -> object:
        return HTTP.get(role.url("internal") + "/topics", params={"topic": topic}).json()

    streams = viewers.connect_many(3, role.url("public"), topic)
    eventually(
        lambda: told() == {"topic": topic, "viewers": 3, "frontends": ["n1"]}, "three are counted"
    )
    [node] = HTTP.get(role.url("internal") + "/frontends").json()
    assert node["node"] == "n1"
    assert node["url"] == role.url("internal")
    assert node["topics"] >= 1
    assert node["viewers"] >= 3
    assert 0 < node["lease_seconds_left"] <= 30

    viewers.close(streams[0])
    streams[1].subscribe(remove=[topic])
    eventually(
        lambda: told() == {"topic": topic, "viewers": 1, "frontends": ["n1"]}, "one is counted"
    )
    viewers.close(streams[2])
    eventually(lambda: told() == {"topic": topic, "viewers": 0, "frontends": []}, "none is counted")


def test_no_event_of_a_topic_follows_the_answer_to_its_unsubscribe(
    role: RoleProcess, viewers: Viewers, topic: str
) -> None:
    marks = next(_names)
    stream = viewers.connect(role.url("public"), marks)
    stopping = threading.Event()
    body = b"\n".join(json.dumps({"topic": topic, "data": "x" * 300}).encode() for _ in range(50))

    def publish_on_and_on() -> None:
        while not stopping.is_set():
            publish_lines(role, body)

    producer = threading.Thread(target=publish_on_and_on)
    producer.start()
    try:
        for turn in range(5):
            assert stream.subscribe(add=[topic]).status_code == 200
            seen = len(stream.frames)
            viewers.wait(
                lambda seen=seen: len(stream.frames) > seen + 100,  # type: ignore[misc]
                "events of the topic come",
            )
            assert stream.subscribe(remove=[topic]).status_code == 200
            publish(role, {"topic": marks, "id": f"{turn}-after", "data": 0})
            for _ in range(3):
                publish_lines(role, body)
            publish(role, {"topic": marks, "id": f"{turn}-later", "data": 0})
            viewers.wait(
                lambda turn=turn: stream.frames[-1].id == f"{turn}-later",  # type: ignore[misc]
                "the last mark came",
            )
            assert stream.frames[-2].id == f"{turn}-after"
    finally:
        stopping.set()
        producer.join(DEADLINE_SECONDS)


# Origins.


def preflight(role: RoleProcess, path: str, origin: str) -> httpx.Response:
    return HTTP.options(
        role.url("public") + path,
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )


def ask_as(role: RoleProcess, origin: str, asked: str) -> httpx.Headers:
    """Do one thing as a page of ``origin`` would; return the response's headers."""
    url, headers = role.url("public"), {"Origin": origin}
    if asked in ("connect", "change"):
        with HTTP.stream("GET", url + "/connect", headers=headers) as opened:
            if asked == "connect":
                return opened.headers
            lines = opened.iter_lines()
            data = next(line for line in lines if line.startswith("data: "))
            id = json.loads(data.removeprefix("data: "))["connection"]
            return HTTP.post(
                f"{url}/connections/{id}/topics", json={"add": ["a"]}, headers=headers
            ).headers
    path, content, media_type = {
        "an unknown connection": ("/connections/none/topics", b"{}", "application/json"),
        "an unknown path": ("/nothing", b"{}", "application/json"),
        "broken JSON": ("/connections/none/topics", b"{", "application/json"),
        "a wrong media type": ("/connections/none/topics", b"{}", "text/plain"),
        "a wrong method": ("/connect", b"{}", "application/json"),
        "a body too large": ("/connections/none/topics", b" " * 1048577, "application/json"),
        "a path that is not UTF-8": ("/%FF", b"{}", "application/json"),
    }[asked]
    answer = HTTP.post(url + path, content=content, headers={**headers, "Content-Type": media_type})
    assert answer.status_code >= 400
    return answer.headers


ASKED = [
    "connect",
    "change",
    "an unknown connection",
    "an unknown path",
    "broken JSON",
    "a wrong media type",
    "a wrong method",
    "a body too large",
    "a path that is not UTF-8",
]


@pytest.fixture(scope="module")
def role_for_any_page() -> Iterator[RoleProcess]:
    with combined("--cors-origin", "*") as role:
        yield role


@pytest.mark.parametrize("asked", ASKED)
def test_a_listed_origin_may_read_every_answer(role: RoleProcess, asked: str) -> None:
    headers = ask_as(role, PAGE, asked)

    assert headers["access-control-allow-origin"] == PAGE
    assert headers["access-control-allow-credentials"] == "true"
    assert "origin" in headers["vary"].lower()


@pytest.mark.parametrize("asked", ASKED)
def test_an_unlisted_origin_may_read_none(role: RoleProcess, asked: str) -> None:
    headers = ask_as(role, OTHER_PAGE, asked)

    assert not [name for name in CORS if name in headers]


@pytest.mark.parametrize("asked", ASKED)
def test_with_a_star_any_origin_may_read_every_answer_without_credentials(
    role_for_any_page: RoleProcess, asked: str
) -> None:
    headers = ask_as(role_for_any_page, OTHER_PAGE, asked)

    assert headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize("path", ["/connect", "/connections/n1-abc/topics"])
def test_a_preflight_of_a_listed_origin_is_told_what_is_allowed(
    role: RoleProcess, path: str
) -> None:
    answer = preflight(role, path, PAGE)

    assert answer.status_code in (200, 204)
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "origin" in answer.headers["vary"].lower()
    methods = {name.strip() for name in answer.headers["access-control-allow-methods"].split(",")}
    assert methods >= {"GET", "POST"}
    fields = {name.strip() for name in answer.headers["access-control-allow-headers"].split(",")}
    assert fields >= {"Content-Type", "Authorization", "Last-Event-ID", "Cache-Control"}


@pytest.mark.parametrize("path", ["/connect", "/connections/n1-abc/topics"])
def test_a_preflight_of_an_unlisted_origin_is_told_nothing(role: RoleProcess, path: str) -> None:
    answer = preflight(role, path, OTHER_PAGE)

    assert not [name for name in CORS if name in answer.headers]


def test_a_preflight_with_a_star_allows_no_credentials(role_for_any_page: RoleProcess) -> None:
    answer = preflight(role_for_any_page, "/connections/n1-abc/topics", OTHER_PAGE)

    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Content-Type" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers


# A full frontend.


def test_a_full_frontend_sends_viewers_away_until_one_leaves(write_config: WriteConfig) -> None:
    with ExitStack() as stack:
        role = stack.enter_context(
            combined(*write_config({"viewers.max_connections": 2}), "--cors-origin", PAGE)
        )
        viewers = stack.enter_context(Viewers())
        first, second = viewers.connect_many(2, role.url("public"), "live:full")

        # To its end: a stream that stays open would let this wait in vain.
        answers = [
            HTTP.get(
                role.url("public") + "/connect?topic=live:full",
                headers={"Origin": PAGE},
            )
            for _ in range(4)
        ]

        for answer in answers:
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["access-control-allow-origin"] == PAGE
            retry, event, data, *rest = answer.text.split("\n")
            assert retry.startswith("retry: ")
            assert 5000 <= int(retry.removeprefix("retry: ")) <= 30000
            assert event == "event: busy"
            assert isinstance(json.loads(data.removeprefix("data: ")), dict)
            assert rest == ["", ""]
        # Random, so that those who were sent away do not come back all at once.
        assert len({answer.text for answer in answers}) > 1
        assert not first.ended
        viewers.close(first)
        eventually(lambda: metrics(role)["rtdeliver_connections"] == 1, "the one who left is gone")
        third = viewers.connect(role.url("public"), "live:full")
        publish(role, {"topic": "live:full", "data": 1})
        viewers.wait(
            lambda: bool(second.events and third.events), "both viewers received the event"
        )


def test_a_frontend_with_all_topics_that_it_may_have_refuses_further_ones_alone(
    write_config: WriteConfig,
) -> None:
    with ExitStack() as stack:
        role = stack.enter_context(combined(*write_config({"viewers.topics": 3})))
        viewers = stack.enter_context(Viewers())
        red, other = (viewers.connect(role.url("public"), "live:red") for _ in range(2))
        assert red.subscribe(add=["live:green", "live:blue"]).status_code == 200

        busy = HTTP.get(role.url("public") + "/connect?topic=live:red&topic=live:new")
        refused = other.subscribe(add=["live:new"], remove=["live:red"])
        taken = other.subscribe(add=["live:green"])
        newcomer = viewers.connect(role.url("public"), "live:blue")

        assert busy.status_code == 200
        assert "event: busy\n" in busy.text
        assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
        assert "viewers.topics" in refused.json()["message"]
        assert taken.json()["topics"] == ["live:green", "live:red"]
        assert metrics(role)["rtdeliver_topics_refused_total"] == 2
        assert HTTP.get(role.url("internal") + "/health/ready").status_code == 200
        for topic in ("live:red", "live:green", "live:blue"):
            publish(role, {"topic": topic, "data": 1})
        viewers.wait(
            lambda: [len(stream.events) for stream in (red, other, newcomer)] == [3, 2, 1],
            "all receive what they watch",
        )
        viewers.close(red)
        viewers.close(newcomer)
        eventually(
            lambda: other.subscribe(add=["live:new"]).status_code == 200, "there is room again"
        )


def test_a_producer_that_reads_late_gets_every_answer_in_order(
    role: RoleProcess, topic: str
) -> None:
    events = 40_000
    host, port = role.ports["internal"].split(":")
    with socket.socket() as producer:
        producer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        producer.connect((host, int(port)))
        producer.settimeout(DEADLINE_SECONDS)

        def send() -> None:
            for number in range(events):
                body = json.dumps({"topic": topic, "id": f"p{number}", "data": 0}).encode()
                producer.sendall(
                    b"POST /publish HTTP/1.1\r\nHost: localhost\r\n"
                    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (len(body), body)
                )

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        published = [0.0]

        def is_held_up() -> bool:
            published.append(metrics(role)["rtdeliver_published_total"])
            return not sender.is_alive() or len(set(published[-10:])) == 1

        eventually(is_held_up, "no more is taken from who reads nothing")
        answers, mark, found = bytearray(), b"HTTP/1.1 202 ", 0
        while found < events or not answers.endswith(b"}\n"):
            data = producer.recv(1 << 20)
            assert data, "the connection was closed"
            looked_at = max(0, len(answers) - len(mark) + 1)
            answers += data
            found += answers.count(mark, looked_at)
        sender.join(DEADLINE_SECONDS)
    ids = [json.loads(answer.split(b"\r\n\r\n")[1])["id"] for answer in answers.split(b"HTTP/")[1:]]
    assert ids == [f"p{number}" for number in range(events)]
