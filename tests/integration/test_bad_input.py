"""Everything that API.md refuses is refused in its words, and disturbs nobody else."""

import json
import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import msgspec
import pytest

from tests.integration.roles import DEADLINE_SECONDS, LOOPBACK, RoleProcess, combined, running
from tests.integration.streams import Stream, Viewers

TOPIC = "live:bystander"
SECRET = "correct-horse-battery-staple"
EVENT_BYTES = 2000
BATCH_EVENTS = 10
BATCH_BYTES = 20000
INTERNAL_BODY_BYTES = 50000
PUBLIC_BODY_BYTES = 200000
LIMITS = f"""
publishing.event_bytes = {EVENT_BYTES}
publishing.batch_events = {BATCH_EVENTS}
publishing.batch_bytes = {BATCH_BYTES}
http.internal_body_bytes = {INTERNAL_BODY_BYTES}
http.public_body_bytes = {PUBLIC_BODY_BYTES}
"""

JSON = "application/json"
NDJSON = "application/x-ndjson"
BAD_NAMES = {
    "empty": "",
    "with a line feed": "a\nid: evil",
    "with a carriage return": "a\rdata: evil",
    "with a blank line": "a\n\ndata: evil",
    "ending in a line feed": "a\n",
    "with a space": "a b",
    "with a NUL": "a\0b",
    "with a letter beyond ASCII": "ä",
    "with a slash": "a/b",
    "of 65 letters": "a" * 65,
}
BAD_TOPICS = {
    "empty": "",
    "of 1025 bytes": "t" * 1025,
    "of 1025 bytes in fewer characters": "é" * 512 + "t",
    "with a line feed": "live\nred",
    "with a carriage return": "live\rred",
    "with a NUL": "live\0red",
    "with DEL": "live\x7fred",
    "with NEL": "live\x85red",
}


class Answer(msgspec.Struct, frozen=True):
    """A response as it came; ``rest`` is what followed its body."""

    status: int
    headers: dict[str, str]
    body: bytes
    rest: bytes


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How much the bystanders had received and the roles had logged, and who was listed."""

    frames: list[int]
    logged: list[int]
    nodes: list[str]


class House:
    """The roles that get the bad input, and the viewers whom it must not disturb."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        config, secret = folder / "limits.toml", folder / "secret"
        config.write_text(LIMITS)
        secret.write_text(SECRET + "\n")
        options = ["--config", str(config)]
        guarded = [*options, "--secret-file", str(secret)]
        self._open = stack.enter_context(combined(*options))
        self._dispatcher = stack.enter_context(
            running("rtdispatcher", "--listen", LOOPBACK, *guarded)
        )
        self._frontend = stack.enter_context(
            running(
                "rtfrontend",
                "--dispatcher", self._dispatcher.url("listen"),
                "--node", "guarded",
                "--public", LOOPBACK,
                "--internal", LOOPBACK,
                *guarded,
            )
        )  # fmt: skip
        self.listeners = {
            "internal": self._open.url("internal"),
            "public": self._open.url("public"),
            "dispatcher": self._dispatcher.url("listen"),
            "frontend": self._frontend.url("internal"),
            "guarded public": self._frontend.url("public"),
        }
        self._client = stack.enter_context(
            httpx.Client(headers={"Authorization": f"Bearer {SECRET}"}, timeout=DEADLINE_SECONDS)
        )
        self._viewers = stack.enter_context(Viewers())
        self._bystanders = {
            listener: self._viewers.connect(self.listeners[public], TOPIC)
            for listener, public in {"internal": "public", "dispatcher": "guarded public"}.items()
        }
        self.subject = self._viewers.connect(self.listeners["public"], "live:subject")
        self._viewers.wait(self._all_is_routed, "the bystanders' topics are routed")
        [ours] = self._get("internal", "/frontends")
        self.incarnation: str = ours["incarnation"]

    @property
    def processes(self) -> list[RoleProcess]:
        return [self._open, self._dispatcher, self._frontend]

    def fill_in(self, text: bytes) -> bytes:
        """Put the names of this run into a request."""
        return text.replace(b"@CONNECTION", self.subject.connection.encode()).replace(
            b"@INCARNATION", self.incarnation.encode()
        )

    def mark(self) -> Mark:
        """Note how things are."""
        return Mark(
            frames=[len(stream.frames) for stream in self._bystanders.values()],
            logged=[len(process.log) for process in self.processes],
            nodes=self._all_nodes(),
        )

    def check(self, mark: Mark) -> None:
        """Nothing has happened since ``mark``, and everything goes on."""
        for process, start in zip(self.processes, mark.logged, strict=True):
            assert process.is_running(), process.output
            assert "Traceback" not in "\n".join(process.log[start:])
        for (listener, stream), count in zip(self._bystanders.items(), mark.frames, strict=True):
            self._check_bystander(listener, stream, count)
        assert not self.subject.ended
        url = f"{self.listeners['public']}/connections/{self.subject.connection}/topics"
        assert self._client.get(url).json()["topics"] == ["live:subject"]
        assert self._all_nodes() == mark.nodes

    def _check_bystander(self, listener: str, stream: Stream, count: int) -> None:
        event = {"topic": TOPIC, "data": "afterwards", "id": secrets.token_hex(8)}
        answer = self._client.post(self.listeners[listener] + "/publish", json=event)
        assert answer.status_code == 202, answer.text
        self._viewers.wait(
            lambda: stream.ended or any(f.id == event["id"] for f in stream.frames[count:]),
            "the bystander got the event that was published afterwards",
        )
        assert not stream.ended
        assert [frame.id for frame in stream.frames[count:]] == [event["id"]]

    def _all_is_routed(self) -> bool:
        return all(
            self._get(listener, f"/topics?topic={quote(TOPIC)}")["viewers"] == 1
            for listener in self._bystanders
        )

    def _all_nodes(self) -> list[str]:
        return [
            frontend["node"]
            for listener in ("internal", "dispatcher")
            for frontend in self._get(listener, "/frontends")
        ]

    def _get(self, listener: str, path: str) -> Any:
        return self._client.get(self.listeners[listener] + path).json()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with ExitStack() as stack:
        house = House(stack, tmp_path_factory.mktemp("house"))
        yield house
    for process in house.processes:
        assert "Traceback" not in process.output


@pytest.fixture(autouse=True)
def _everything_goes_on(house: House) -> Iterator[None]:
    mark = house.mark()
    yield
    house.check(mark)


# How requests are sent: as bytes, since a client library would put right what is to be wrong.


def request(method: str, target: str, *fields: str, body: bytes = b"") -> bytes:
    """Write a request; ``target`` and ``fields`` are Latin-1, so that any byte can be in them."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *fields]
    if body and not any(field.startswith("Transfer-Encoding") for field in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def post(target: str, body: bytes, media_type: str = JSON, *fields: str) -> bytes:
    length = [] if body else ["Content-Length: 0"]
    return request("POST", target, f"Content-Type: {media_type}", *length, *fields, body=body)


def exchange(url: str, data: bytes, *, leave: bool = False) -> bytes:
    """Send ``data`` and return all that comes until the other side closes.

    :param leave: close this side when all is sent.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 80), DEADLINE_SECONDS) as sock:
        # The other side may have closed before it has read all.
        with suppress(ConnectionError):
            sock.sendall(data)
        if leave:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        received = b""
        with suppress(ConnectionError):
            while piece := sock.recv(65536):
                received += piece
    return received


def parse(received: bytes) -> Answer:
    assert b"Traceback" not in received
    head, separator, rest = received.partition(b"\r\n\r\n")
    assert separator, f"no response: {received!r}"
    status, *fields = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)
    }
    length = int(headers["content-length"])
    return Answer(int(status.split()[1]), headers, rest[:length], rest[length:])


def assert_refused(answer: Answer, status: int, *errors: str) -> dict[str, Any]:
    """Check a refusal's shape; return its body."""
    assert answer.status == status, answer
    assert answer.headers["content-type"].startswith("application/json")
    body = json.loads(answer.body)
    assert body["error"] in errors, body
    assert isinstance(body["message"], str)
    assert body["message"]
    assert "Traceback" not in body["message"]
    told: dict[str, Any] = body
    return told


class Case(msgspec.Struct, frozen=True):
    """One request and how it is refused."""

    name: str
    listener: str
    sent: bytes
    status: int
    errors: tuple[str, ...]
    lines: list[int] | None = None
    fields: dict[str, str] = {}


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def event(**fields: object) -> bytes:
    """Write a good event for the bystander's topic, with some fields changed."""
    return json.dumps({"topic": TOPIC, "data": {"n": 1}, **fields}).encode()


def batch(*lines: bytes) -> bytes:
    return b"\n".join(lines) + b"\n"


# What makes one event bad, alone or in a batch.

WRONG_EVENTS: list[tuple[str, bytes, int, tuple[str, ...]]] = [
    ("broken JSON", event()[:-1], 400, ("bad_json",)),
    ("no JSON at all", b"like", 400, ("bad_json",)),
    ("two values", event() + b" " + event(), 400, ("bad_json",)),
    ("JSON broken within data", b'{"topic":"live:bystander","data":{"n":}}', 400, ("bad_json",)),
    ("NaN as data", b'{"topic":"live:bystander","data":NaN}', 400, ("bad_json",)),
    ("data nested too deeply",
     b'{"topic":"live:bystander","data":%b}' % (b"[" * 990 + b"]" * 990), 400, ("bad_json",)),
    ("data not UTF-8", b'{"topic":"live:bystander","data":"\xff\xfe"}', 400, ("bad_json",)),
    ("a key in data not UTF-8", b'{"topic":"live:bystander","data":{"\xc3":1}}', 400,
     ("bad_json",)),
    ("a control character within data", b'{"topic":"live:bystander","data":"a\rb"}', 400,
     ("bad_json",)),
    ("an array", b"[1]", 400, ("bad_event",)),
    ("a number", b"5", 400, ("bad_event",)),
    ("null", b"null", 400, ("bad_event",)),
    ("a string", b'"live:bystander"', 400, ("bad_event",)),
    ("no topic", b'{"data":1}', 400, ("bad_event", "bad_topic")),
    ("no data", b'{"topic":"live:bystander"}', 400, ("bad_event",)),
    ("an unknown field", event(priority=1), 400, ("bad_event",)),
    ("the dispatcher's own field", event(at=1), 400, ("bad_event",)),
    ("a topic that is a number", event(topic=5), 400, ("bad_topic",)),
    ("a topic that is null", event(topic=None), 400, ("bad_topic",)),
    ("a topic that is a list", event(topic=[TOPIC]), 400, ("bad_topic",)),
    ("a topic not UTF-8", b'{"topic":"live:\xff","data":1}', 400, ("bad_topic", "bad_json")),
    ("a topic with half a surrogate pair", b'{"topic":"live:\\ud800","data":1}', 400,
     ("bad_topic", "bad_json")),
    ("a type that is a number", event(type=5), 400, ("bad_event",)),
    ("a type that is null", event(type=None), 400, ("bad_event",)),
    ("an id that is a number", event(id=5), 400, ("bad_event",)),
    ("data over its limit", event(data="x" * EVENT_BYTES), 413, ("too_large",)),
    *((f"a topic {what}", event(topic=topic), 400, ("bad_topic",))
      for what, topic in BAD_TOPICS.items()),
    *((f"a type {what}", event(type=name), 400, ("bad_event",))
      for what, name in BAD_NAMES.items()),
    *((f"an id {what}", event(id=name), 400, ("bad_event",))
      for what, name in BAD_NAMES.items()),
]  # fmt: skip

PUBLISHES = [
    *(
        Case(name, "internal", post("/publish", body), status, errors)
        for name, body, status, errors in WRONG_EVENTS
    ),
    Case("an empty body", "internal", post("/publish", b""), 400, ("bad_json",)),
    Case("a blank body", "internal", post("/publish", b" \n "), 400, ("bad_json",)),
    Case(
        "two lines that are not sent as a batch",
        "internal",
        post("/publish", batch(event(), event())),
        400,
        ("bad_json",),
    ),
    Case(
        "a body over the limit of a batch",
        "internal",
        post("/publish", event() + b" " * BATCH_BYTES),
        413,
        ("too_large",),
    ),
]


@each(PUBLISHES)
def test_a_wrong_event_is_refused(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], case.sent))

    told = assert_refused(answer, case.status, *case.errors)
    assert "lines" not in told
    assert answer.rest == b""


BATCHES = [
    *(
        Case(
            f"the second of three lines: {name}",
            "internal",
            post("/publish", batch(event(), body, event()), NDJSON),
            status,
            errors,
            [2],
        )
        for name, body, status, errors in WRONG_EVENTS
    ),
    Case(
        "the first and the last line",
        "internal",
        post("/publish", batch(b"{", event(), event(), event(topic="")), NDJSON),
        400,
        ("bad_json",),
        [1, 4],
    ),
    Case(
        "every line",
        "internal",
        post("/publish", batch(*[event(id="a b")] * BATCH_EVENTS), NDJSON),
        400,
        ("bad_event",),
        list(range(1, BATCH_EVENTS + 1)),
    ),
    Case(
        "a line after blank ones",
        "internal",
        post("/publish", batch(event(), b"", b"", b"{"), NDJSON),
        400,
        ("bad_json",),
        [4],
    ),
    Case(
        "an array in place of lines",
        "internal",
        post("/publish", b"[" + event() + b"]", NDJSON),
        400,
        ("bad_event",),
        [1],
    ),
]


@each(BATCHES)
def test_a_batch_with_bad_lines_names_them_and_none_is_published(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], case.sent))

    assert assert_refused(answer, case.status, *case.errors)["lines"] == case.lines


LARGE = [
    Case(
        "too many events in a batch",
        "internal",
        post("/publish", batch(*[event()] * (BATCH_EVENTS + 1)), NDJSON),
        413,
        ("too_large",),
    ),
    Case(
        "too many bytes in a batch",
        "internal",
        post("/publish", batch(*[event(data="x" * 1900)] * BATCH_EVENTS, b" " * 2000), NDJSON),
        413,
        ("too_large",),
    ),
    Case(
        "too many empty lines in a batch",
        "internal",
        post("/publish", event() + b"\n" * BATCH_BYTES, NDJSON),
        413,
        ("too_large",),
    ),
]


def _too_large_bodies() -> Iterator[Case]:
    paths = [
        ("internal", "/publish", JSON, INTERNAL_BODY_BYTES),
        ("internal", "/publish", NDJSON, INTERNAL_BODY_BYTES),
        ("internal", "/subscriptions", JSON, INTERNAL_BODY_BYTES),
        ("internal", "/deliver", NDJSON, INTERNAL_BODY_BYTES),
        ("internal", "/forward", NDJSON, INTERNAL_BODY_BYTES),
        ("public", "/connections/@CONNECTION/topics", JSON, PUBLIC_BODY_BYTES),
    ]
    for listener, path, media_type, limit in paths:
        body = event() + b" " * limit
        chunk = b"%x\r\n%b\r\n" % (len(body) // 2, body[: len(body) // 2])
        yield Case(
            f"a body over the limit for {path} as {media_type}",
            listener,
            post(path, body, media_type, "Rt-Incarnation: @INCARNATION"),
            413,
            ("too_large",),
        )
        yield Case(
            f"a body in chunks over the limit for {path} as {media_type}",
            listener,
            request(
                "POST",
                path,
                f"Content-Type: {media_type}",
                "Rt-Incarnation: @INCARNATION",
                "Transfer-Encoding: chunked",
                body=chunk * 3 + b"0\r\n\r\n",
            ),
            413,
            ("too_large",),
        )
        yield Case(
            f"ten gigabytes announced to {path} as {media_type}",
            listener,
            request("POST", path, f"Content-Type: {media_type}", "Content-Length: 10000000000"),
            413,
            ("too_large",),
        )


@each([*LARGE, *_too_large_bodies()])
def test_what_is_over_a_limit_is_too_large(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], house.fill_in(case.sent)))

    assert_refused(answer, case.status, *case.errors)


@pytest.mark.parametrize("listener", ["internal", "public"])
def test_a_body_without_end_is_cut_off(house: House, listener: str) -> None:
    parts = urlsplit(house.listeners[listener])
    path = {"internal": "/publish", "public": "/connections/@CONNECTION/topics"}[listener]
    head = house.fill_in(
        request("POST", path, f"Content-Type: {JSON}", "Transfer-Encoding: chunked")
    )
    chunk = b"10000\r\n%b\r\n" % (b" " * 65536)

    with socket.create_connection((parts.hostname, parts.port), DEADLINE_SECONDS) as sock:
        sock.sendall(head)
        # A hundred times what the larger of the two takes.
        with pytest.raises(ConnectionError):
            sock.sendall(chunk * 320)


def _target(path: str, **query: str) -> str:
    return path + "?" + "&".join(f"{name}={quote(value)}" for name, value in query.items())


TOPICS_OF_CONNECTION = "/connections/@CONNECTION/topics"
MANY_TOPICS = [f"t{number}" for number in range(10000)]

CHANGES: list[tuple[str, bytes, int, tuple[str, ...]]] = [
    ("broken JSON", b'{"add":["live:red"]', 400, ("bad_json",)),
    ("an empty body", b"", 400, ("bad_json",)),
    ("JSON nested too deeply", b'{"add":' + b"[" * 90000 + b"]" * 90000 + b"}", 400,
     ("bad_json", "bad_request")),
    ("an array", b'["live:red"]', 400, ("bad_request",)),
    ("null", b"null", 400, ("bad_request",)),
    ("a topic that is not in a list", b'{"add":"live:red"}', 400, ("bad_request",)),
    ("a number as a topic", b'{"add":["live:red",5]}', 400, ("bad_request", "bad_topic")),
    ("null as topics", b'{"add":null}', 400, ("bad_request",)),
    ("an unknown field", b'{"add":["live:red"],"replace":true}', 400, ("bad_request",)),
    ("a sequence below 0", b'{"add":["live:red"],"sequence":-1}', 400, ("bad_request",)),
    ("a sequence in letters", b'{"add":["live:red"],"sequence":"1"}', 400, ("bad_request",)),
    ("a topic not UTF-8", b'{"add":["live:\xff"]}', 400, ("bad_json", "bad_topic")),
    ("a topic with half a surrogate pair", b'{"add":["live:\\ud800"]}', 400,
     ("bad_json", "bad_topic")),
    *((f"a topic to add {what}", json.dumps({"add": ["live:red", topic]}).encode(), 400,
       ("bad_topic",)) for what, topic in BAD_TOPICS.items()),
    *((f"a topic to remove {what}", json.dumps({"remove": [topic]}).encode(), 400,
       ("bad_topic",)) for what, topic in BAD_TOPICS.items()),
    ("101 topics", json.dumps({"add": MANY_TOPICS[:100]}).encode(), 409, ("too_many_topics",)),
    ("10,000 topics", json.dumps({"add": MANY_TOPICS}).encode(), 409, ("too_many_topics",)),
]  # fmt: skip

SUBSCRIBES = [
    *(
        Case(name, "public", post(TOPICS_OF_CONNECTION, body), status, errors)
        for name, body, status, errors in CHANGES
    ),
    *(
        Case(
            f"{method} for an unknown connection {what}",
            "public",
            request(
                method,
                f"/connections/{connection}/topics",
                f"Content-Type: {JSON}",
                body=b'{"add":["live:red"]}' if method == "POST" else b"",
            ),
            404,
            ("unknown_connection",),
        )
        for method in ("GET", "POST")
        for what, connection in {
            "of this form": "n1-7dQ0000000000000000000",
            "with line breaks": "a%0D%0Ab",
            "of 5000 letters": "a" * 5000,
            "that is not ASCII": "%C3%A4",
        }.items()
    ),
    *(
        Case(f"{what} for an unknown connection of {node}", "public",
             post(f"/connections/{node}-7dQ0000000000000000000/topics", body), 404,
             ("unknown_connection",))
        for node in ("n1", "elsewhere")
        for what, body in {
            "broken JSON": b'{"add":["live:red"]',
            "many bad topics": json.dumps({"add": ["\n"] * 10000}).encode(),
        }.items()
    ),
    Case("no connection", "public", request("GET", "/connections//topics"), 404,
         ("not_found", "unknown_connection")),
]  # fmt: skip


@each(SUBSCRIBES)
def test_a_wrong_change_of_topics_is_refused(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], house.fill_in(case.sent)))

    assert_refused(answer, case.status, *case.errors)
    assert answer.rest == b""


CONNECTS = [
    *(
        Case(f"a topic {what}", "public", request("GET", _target("/connect", topic=topic)), 400,
             ("bad_topic",))
        for what, topic in BAD_TOPICS.items()
    ),
    Case("a second topic that is empty", "public", request("GET", "/connect?topic=a&topic="), 400,
         ("bad_topic",)),
    Case("a topic not UTF-8", "public", request("GET", "/connect?topic=live%FF"), 400,
         ("bad_topic", "bad_request")),
    Case("101 topics", "public",
         request("GET", "/connect?" + "&".join(f"topic={name}" for name in MANY_TOPICS[:101])),
         409, ("too_many_topics",)),
]  # fmt: skip


@each(CONNECTS)
def test_a_wrong_connect_is_refused_and_opens_no_stream(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], case.sent))

    assert_refused(answer, case.status, *case.errors)
    assert answer.rest == b""


def _announcement(**changes: object) -> bytes:
    frontend: dict[str, object] = {
        "node": "intruder",
        "url": "http://127.0.0.1:9",
        "incarnation": "i1",
    }
    frontend.update({key: changes.pop(key) for key in list(changes) if key in frontend})
    return json.dumps(
        {"frontend": frontend, "counts": {TOPIC: 1}, "full": True, "lease_seconds": 30, **changes}
    ).encode()


ANNOUNCEMENTS: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("broken JSON", _announcement()[:-1], ("bad_json",)),
    ("an empty body", b"", ("bad_json",)),
    ("an array", b"[]", ("bad_request",)),
    ("no frontend", b'{"counts":{},"full":true,"lease_seconds":30}', ("bad_request",)),
    ("no counts", b'{"frontend":{"node":"intruder","url":"http://127.0.0.1:9","incarnation":"i1"},'
     b'"full":true,"lease_seconds":30}', ("bad_request",)),
    ("a frontend that is a string", _announcement(frontend="intruder"), ("bad_request",)),
    ("a frontend without url", _announcement(frontend={"node": "intruder", "incarnation": "i"}),
     ("bad_request",)),
    ("a negative count", _announcement(counts={TOPIC: -1}), ("bad_request",)),
    ("one negative count among others", _announcement(counts={"a": 1, TOPIC: -5, "b": 0}),
     ("bad_request",)),
    ("a count that is a string", _announcement(counts={TOPIC: "1"}), ("bad_request",)),
    ("a count that is a fraction", _announcement(counts={TOPIC: 1.5}), ("bad_request",)),
    ("a count that is null", _announcement(counts={TOPIC: None}), ("bad_request",)),
    ("counts that are a list", _announcement(counts=[TOPIC]), ("bad_request",)),
    ("full that is a string", _announcement(full="yes"), ("bad_request",)),
    ("a negative lease", _announcement(lease_seconds=-1), ("bad_request",)),
    ("a lease of a year", _announcement(lease_seconds=31536000), ("bad_request",)),
    ("a lease that is a string", _announcement(lease_seconds="30"), ("bad_request",)),
    *((f"a topic {what}", _announcement(counts={topic: 1}), ("bad_topic",))
      for what, topic in BAD_TOPICS.items()),
    *((f"a node {what}", _announcement(node=name), ("bad_request",))
      for what, name in BAD_NAMES.items()),
    *((f"an incarnation {what}", _announcement(incarnation=name), ("bad_request",))
      for what, name in BAD_NAMES.items()),
    *((f"the url {url!r}", _announcement(url=url), ("bad_request",))
      for url in ("", "n1", "127.0.0.1:9", "ftp://127.0.0.1:9", "http://", "http:///deliver",
                  "http://127.0.0.1:9/path", "http://127.0.0.1:9?x", "http://127.0.0.1:9#x",
                  "http://127.0.0.1: 9", "http://127.0.0.1:9\r\nX: y", "http://127.0.0.1:port",
                  "http://127.0.0.1:99999", "http://[::1", "http://a\0b:9")),
    ("a url that is a number", _announcement(url=8081), ("bad_request",)),
]  # fmt: skip


@each([
    Case(name, "internal", post("/subscriptions", body), 400, errors)
    for name, body, errors in ANNOUNCEMENTS
])  # fmt: skip
def test_a_wrong_announcement_is_refused_and_nobody_is_listed(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], case.sent))

    assert_refused(answer, case.status, *case.errors)
    assert answer.rest == b""


LINE = b'{"topic":"live:bystander","type":"like","id":"delivered-1","at":1,"data":1}'


def _deliver(body: bytes, *fields: str) -> bytes:
    return post("/deliver", body, NDJSON, *(fields or ("Rt-Incarnation: @INCARNATION",)))


DELIVERIES = [
    Case("without an incarnation", "internal", post("/deliver", LINE, NDJSON), 400,
         ("bad_request",)),
    Case("an empty incarnation", "internal", _deliver(LINE, "Rt-Incarnation:"), 400,
         ("bad_request",)),
    Case("another incarnation", "internal", _deliver(LINE, "Rt-Incarnation: 0123456789abcdef"),
         410, ("stale_incarnation",)),
    Case("broken JSON", "internal", _deliver(batch(LINE, LINE[:-1])), 400, ("bad_json",), [2]),
    Case("a line that is a number", "internal", _deliver(batch(LINE, b"5")), 400, ("bad_event",),
         [2]),
    Case("a line without a topic", "internal", _deliver(batch(LINE, b'{"id":"a","data":1}')), 400,
         ("bad_event", "bad_topic"), [2]),
    Case("a line with an empty topic", "internal",
         _deliver(batch(LINE, b'{"topic":"","id":"a","data":1}')), 400, ("bad_topic",), [2]),
    Case("a line without an id", "internal",
         _deliver(batch(LINE, b'{"topic":"live:bystander","data":1}')), 400, ("bad_event",), [2]),
    Case("an id that breaks its line", "internal",
         _deliver(batch(LINE, rb'{"topic":"live:bystander","id":"a\ndata: evil","data":1}')), 400,
         ("bad_event",), [2]),
    Case("a line not UTF-8", "internal",
         _deliver(batch(LINE, b'{"topic":"live:bystander","id":"a","data":"\xff"}')), 400,
         ("bad_json",), [2]),
    Case("several bad lines", "internal", _deliver(batch(b"{", LINE, b"[]")), 400, ("bad_json",),
         [1, 3]),
    Case("a carriage return between lines", "internal", _deliver(LINE + b"\r\n" + LINE), 400,
         ("bad_event",)),
    Case("a carriage return within a line", "internal",
         _deliver(LINE.replace(b'"data"', b'\r"data"')), 400, ("bad_event",)),
]  # fmt: skip


@each(DELIVERIES)
def test_a_wrong_delivery_is_refused_and_none_of_it_is_sent(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], house.fill_in(case.sent)))

    told = assert_refused(answer, case.status, *case.errors)
    assert told.get("lines") == case.lines
    assert answer.rest == b""


FORWARDS = [
    Case("broken JSON", "internal", post("/forward", batch(LINE, LINE[:-1]), NDJSON), 400,
         ("bad_json",), [2]),
    Case("a line without an id", "internal",
         post("/forward", batch(LINE, b'{"topic":"live:bystander","data":1}'), NDJSON), 400,
         ("bad_event",), [2]),
    Case("a line with an empty topic", "internal",
         post("/forward", batch(LINE, b'{"topic":"","id":"a","data":1}'), NDJSON), 400,
         ("bad_topic",), [2]),
    Case("a carriage return within a line", "internal",
         post("/forward", LINE.replace(b'"data"', b'\r"data"'), NDJSON), 400, ("bad_event",)),
]  # fmt: skip


@each(FORWARDS)
def test_a_wrong_forward_is_refused_and_none_of_it_is_delivered(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], house.fill_in(case.sent)))

    told = assert_refused(answer, case.status, *case.errors)
    assert told.get("lines") == case.lines


LOOKUPS = [
    Case("no topic", "internal", request("GET", "/topics"), 400, ("bad_request",)),
    Case("a misspelt parameter", "internal", request("GET", "/topics?topics=a"), 400,
         ("bad_request",)),
    Case("two topics", "internal", request("GET", "/topics?topic=a&topic=b"), 400,
         ("bad_request",)),
    Case("a topic not UTF-8", "internal", request("GET", "/topics?topic=%C3"), 400,
         ("bad_topic", "bad_request")),
    *(Case(f"a topic {what}", "internal", request("GET", _target("/topics", topic=topic)), 400,
           ("bad_topic",)) for what, topic in BAD_TOPICS.items()),
]  # fmt: skip


@each(LOOKUPS)
def test_a_wrong_look_up_is_refused(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], case.sent))

    assert_refused(answer, case.status, *case.errors)


SERVED = {
    "internal": {
        "/publish": "POST",
        "/subscriptions": "POST",
        "/deliver": "POST",
        "/forward": "POST",
        "/topics": "GET",
        "/frontends": "GET",
        "/health/live": "GET",
        "/health/ready": "GET",
        "/metrics": "GET",
    },
    "public": {"/connect": "GET", TOPICS_OF_CONNECTION: "GET POST"},
}


@each([
    Case(f"{method} {path}", listener, request(method, path, "Content-Type: application/json"),
         405, ("method_not_allowed",), None, {"allow": allowed})
    for listener, paths in SERVED.items()
    for path, allowed in paths.items()
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "PUBLISH")
    if method not in allowed.split()
])  # fmt: skip
def test_a_wrong_method_is_told_the_right_ones(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], house.fill_in(case.sent)))

    assert_refused(answer, case.status, *case.errors)
    allowed = {method.strip() for method in answer.headers["allow"].split(",")}
    assert allowed >= set(case.fields["allow"].split())
    assert case.sent.split(b" ")[0].decode() not in allowed


@each([
    *(Case(f"{listener} {path}", listener, request("GET", path), 404, ("not_found",))
      for listener, paths in {
          "internal": ["/", "/nothing", "/publish/more", "/health", "/connect", "/favicon.ico",
                       "/%2e%2e/etc/passwd", "/a%00b", "/a%0D%0Ab", "/" + "a" * 5000],
          "public": ["/", "/nothing", "/connect/more", "/connections", "/connections/x",
                     # What only producers and nodes may reach is not there for browsers.
                     "/publish", "/deliver", "/forward", "/subscriptions", "/topics?topic=a",
                     "/frontends", "/metrics", "/health/live", "/health/ready"],
      }.items()
      for path in paths),
    Case("an event published on the public listener", "public", post("/publish", event()), 404,
         ("not_found",)),
])  # fmt: skip
def test_an_unknown_path_is_not_found(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], case.sent))

    assert_refused(answer, case.status, *case.errors)


@each([
    Case(f"{path} as {media_type or 'nothing'}", listener,
         request("POST", path, *([f"Content-Type: {media_type}"] if media_type else []),
                 "Rt-Incarnation: @INCARNATION", body=body),
         415, ("unsupported_media_type",), None, {"accepted": accepted})
    for listener, path, body, accepted in [
        ("internal", "/publish", event(), f"{JSON} {NDJSON}"),
        ("internal", "/subscriptions", _announcement(), JSON),
        ("internal", "/deliver", LINE, NDJSON),
        ("internal", "/forward", LINE, NDJSON),
        ("public", TOPICS_OF_CONNECTION, b'{"add":["live:red"]}', JSON),
    ]
    for media_type in ["", "text/plain", "application/x-www-form-urlencoded",
                       "multipart/form-data; boundary=x", "multipart/form-data",
                       "application/jsonp", "*/*", "application/json\xff", JSON, NDJSON]
    if media_type not in accepted.split() or not media_type
])  # fmt: skip
def test_a_wrong_media_type_is_told_the_right_ones(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], house.fill_in(case.sent)))

    told = assert_refused(answer, case.status, *case.errors)
    for accepted in case.fields["accepted"].split():
        assert accepted in told["message"] + answer.headers.get("accept", "")


@each([
    *(Case(f"{listener} {target}", listener, request("GET", target), 400, ("bad_request",))
      for listener, target in [
          ("internal", "/%FF"), ("internal", "/publish/%C3"), ("public", "/%FF"),
          ("public", "/connections/%FF/topics"),
      ]),
    Case("in a header that nobody reads", "public",
         request("GET", "/connections/none/topics", "X-Name: \xff"), 404,
         ("unknown_connection",)),
    Case("in the origin", "public", request("GET", "/connections/none/topics", "Origin: \xff"),
         404, ("unknown_connection",)),
    Case("in the last event id", "public",
         request("GET", "/connect?topic=", "Last-Event-ID: \xff"), 400, ("bad_topic",)),
    Case("in the incarnation", "internal", _deliver(LINE, "Rt-Incarnation: \xff"), 410,
         ("stale_incarnation",)),
    Case("in a cookie", "public", request("GET", "/nothing", "Cookie: a=\xff; \xff"), 404,
         ("not_found",)),
    Case("in the name of a parameter", "public", request("GET", "/connect?%FF=1&topic="), 400,
         ("bad_topic", "bad_request")),
])  # fmt: skip
def test_bytes_that_are_not_utf_8_are_refused_or_passed_over(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], house.fill_in(case.sent)))

    assert_refused(answer, case.status, *case.errors)


def test_a_host_that_is_not_utf_8_is_refused(house: House) -> None:
    sent = b"GET /health/live HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n"

    for listener in ("public", "dispatcher"):
        assert_refused(parse(exchange(house.listeners[listener], sent)), 400, "bad_request")


@pytest.mark.parametrize(
    ("target", "manner"),
    [
        # On the fast path, but for the host.
        ("POST /publish", "keep-alive"),
        ("POST /publish", "close"),
        ("POST /subscriptions", "close"),
        ("GET /metrics", "close"),
    ],
)
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8090"])
def test_a_listener_without_a_secret_answers_no_page_of_another_site(
    house: House, host: str, target: str, manner: str
) -> None:
    body = event() if target.startswith("POST") else b""
    sent = (
        f"{target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\n"
        f"Connection: {manner}\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    answer = parse(exchange(house.listeners["internal"], sent.encode() + body))

    told = assert_refused(answer, 403, "forbidden")
    assert "access.secret_file" in told["message"]


def test_any_host_is_served_with_the_secret(house: House) -> None:
    sent = (
        f"GET /frontends HTTP/1.1\r\nHost: rtdispatcher.example\r\nConnection: close\r\n"
        f"Authorization: Bearer {SECRET}\r\n\r\n"
    )

    assert parse(exchange(house.listeners["dispatcher"], sent.encode())).status == 200


GUARDED = [
    *(
        Case(f"{what}: {listener} {method} {path}", listener,
             request(method, path, f"Content-Type: {media_type}", *fields, body=body), 401,
             ("unauthorized",))
        for what, fields in {
            "no secret": [],
            "a wrong secret": ["Authorization: Bearer wrong-horse-battery-staple"],
        }.items()
        for listener, method, path, media_type, body in [
            ("dispatcher", "POST", "/publish", JSON, event()),
            ("dispatcher", "POST", "/publish", NDJSON, batch(event(), event())),
            ("dispatcher", "POST", "/subscriptions", JSON, _announcement()),
            ("dispatcher", "POST", "/forward", NDJSON, LINE),
            ("dispatcher", "GET", "/topics?topic=a", JSON, b""),
            ("dispatcher", "GET", "/frontends", JSON, b""),
            ("dispatcher", "GET", "/metrics", JSON, b""),
            ("dispatcher", "GET", "/nothing", JSON, b""),
            ("frontend", "POST", "/deliver", NDJSON, LINE),
            ("frontend", "GET", "/metrics", JSON, b""),
        ]
    ),
    *(
        Case(f"{what}", "dispatcher", post("/publish", event(), JSON, field), 401,
             ("unauthorized",))
        for what, field in {
            "an empty header": "Authorization:",
            "the scheme alone": "Authorization: Bearer",
            "an empty secret": "Authorization: Bearer ",
            "the secret alone": f"Authorization: {SECRET}",
            "another scheme": f"Authorization: Basic {SECRET}",
            "a part of the secret": f"Authorization: Bearer {SECRET[:-1]}",
            "more than the secret": f"Authorization: Bearer {SECRET}x",
            "the secret in another case": f"Authorization: Bearer {SECRET.upper()}",
            "bytes that are not UTF-8": "Authorization: Bearer \xff",
            "the secret as a cookie": f"Cookie: Authorization=Bearer {SECRET}",
        }.items()
    ),
    *(
        Case(f"the secret as a parameter of {path}", "dispatcher",
             request("GET", f"{path}?secret={SECRET}&Authorization=Bearer%20{SECRET}"), 401,
             ("unauthorized",))
        for path in ("/frontends", "/metrics")
    ),
]  # fmt: skip


@each(GUARDED)
def test_a_listener_with_a_secret_refuses_who_lacks_it(house: House, case: Case) -> None:
    answer = parse(exchange(house.listeners[case.listener], case.sent))

    told = assert_refused(answer, case.status, *case.errors)
    assert SECRET not in json.dumps(told)


@pytest.mark.parametrize(
    "path", ["/health/../frontends", "/health/%2e%2e/frontends", "//frontends", "/health//metrics"]
)
def test_no_way_leads_around_the_secret(house: House, path: str) -> None:
    answer = parse(exchange(house.listeners["dispatcher"], request("GET", path)))

    assert answer.status in (401, 404)


# What is no request at all, or not a whole one.


_AT_THE_DOOR = (
    "bad_request",
    "bad_json",
    "unauthorized",
    "not_found",
    "unsupported_media_type",
    "uri_too_long",
    "headers_too_large",
)


@pytest.mark.parametrize("listener", ["internal", "public", "dispatcher"])
@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\0" * 1000, id="zeros"),
        pytest.param(bytes(range(256)) * 40, id="all bytes"),
        pytest.param(b"\xff" * 100000, id="a long line"),
        pytest.param(b"\r\n" * 1000, id="empty lines"),
        pytest.param(b"hello\r\n\r\n", id="one word"),
        pytest.param(b"GET\r\n\r\n", id="a method alone"),
        pytest.param(b"GET /health/live\r\n\r\n", id="no version"),
        pytest.param(b"GET /health/live HTTP/9.9\r\n\r\n", id="an unknown version"),
        pytest.param(
            b"GET /health/live HTTP/1.1 more\r\nHost: localhost\r\n\r\n", id="too many words"
        ),
        pytest.param(b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", id="a path beyond ASCII"),
        pytest.param(b"GET /connect?topic=\xff HTTP/1.1\r\n\r\n", id="a query beyond ASCII"),
        pytest.param(b"G\0T / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="a NUL in the method"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", id="HTTP/2"),
        pytest.param(bytes.fromhex("16030100a5010000a10303") + bytes(range(160)), id="a TLS hello"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="SSH"),
        pytest.param(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", id="a header without a colon"),
        pytest.param(b"GET / HTTP/1.1\r\nA\r\n B: c\r\n\r\n", id="a folded header"),
        pytest.param(b"GET / HTTP/1.1\r\nA b: c\r\n\r\n", id="a header name with a space"),
        pytest.param(b"GET / HTTP/1.1\r\n: c\r\n\r\n", id="a header without a name"),
        pytest.param(b"GET /%b HTTP/1.1\r\n\r\n" % (b"a" * 100000), id="an endless path"),
        pytest.param(b"GET / HTTP/1.1\r\nA: %b\r\n\r\n" % (b"a" * 100000), id="a long header"),
        pytest.param(
            b"GET / HTTP/1.1\r\n%b\r\n" % (b"A: b\r\n" * 20000), id="twenty thousand headers"
        ),
        *(
            pytest.param(
                b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"%b\r\n\r\n%b" % (fields, event()),
                id=fields.decode(),
            )
            for fields in [
                b"Content-Length: -5",
                b"Content-Length: many",
                b"Content-Length: +5",
                b"Content-Length: 5, 6",
                b"Content-Length: 5\r\nContent-Length: 6",
                b"Content-Length: 5\r\nTransfer-Encoding: chunked",
                b"Transfer-Encoding: gzip",
                b"Transfer-Encoding: chunked",
            ]
        ),
        pytest.param(
            b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n-5\r\n" + event(),
            id="a chunk of negative size",
        ),
        pytest.param(
            b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\n" + event(),
            id="a chunk longer than its size",
        ),
    ],
)
def test_what_is_not_http_gets_the_door(house: House, listener: str, garbage: bytes) -> None:
    received = exchange(house.listeners[listener], garbage, leave=True)

    assert b"Traceback" not in received
    if received:
        answer = parse(received)
        assert 400 <= answer.status < 500
        assert_refused(answer, answer.status, *_AT_THE_DOOR)
    else:
        # The client has left within a line.
        assert b"\r\n" not in garbage.strip().rpartition(b"chunked\r\n\r\n")[2]


@pytest.mark.parametrize("manner", ["close", "keep-alive"])
def test_a_body_longer_than_announced_is_cut_where_it_was_to_end(house: House, manner: str) -> None:
    body = event()
    sent = (
        b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Connection: %b\r\nContent-Length: %d\r\n\r\n%b\r\n\r\n"
        % (manner.encode(), len(body) - 1, body)
    )

    answer = parse(exchange(house.listeners["internal"], sent))

    assert_refused(answer, 400, "bad_json")
    assert answer.rest == b"" or answer.rest.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("media_type", [JSON, NDJSON])
def test_a_body_shorter_than_announced_is_not_acted_upon(house: House, media_type: str) -> None:
    body = batch(event())
    sent = (
        b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (media_type.encode(), len(body) + 1, body)
    )

    received = exchange(house.listeners["internal"], sent, leave=True)

    assert received == b"" or received.startswith(b"HTTP/1.1 400 ")


def test_a_body_in_chunks_without_the_last_is_not_acted_upon(house: House) -> None:
    body = event()
    sent = (
        b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(body), body)
    )

    received = exchange(house.listeners["internal"], sent, leave=True)

    assert received == b"" or received.startswith(b"HTTP/1.1 400 ")


def test_a_client_that_is_gone_in_the_middle_of_its_request_leaves_no_trace(house: House) -> None:
    for listener in ("internal", "public", "dispatcher"):
        post = b"POST /publish HTTP/1.1\r\nHost: localhost\r\n"
        post += f"Authorization: Bearer {SECRET}\r\n".encode()
        for sent in (b"", b"PO", post + b"Content-Length: 100\r\n\r\n{"):
            assert exchange(house.listeners[listener], sent, leave=True) == b""


def test_clients_that_leave_before_they_read_their_refusal_leave_no_trace(house: House) -> None:
    refused = [
        ("internal", post("/publish", b"no JSON")),
        ("internal", post("/subscriptions", b"no JSON")),
        ("internal", request("GET", "/nothing")),
        ("internal", request("GET", "/%FF")),
        ("internal", post("/deliver", LINE, NDJSON)),
        ("internal", request("POST", "/publish", body=b"x" * (INTERNAL_BODY_BYTES + 1))),
        ("internal", request("POST", "/publish", f"Content-Length: {9 * INTERNAL_BODY_BYTES}")),
        ("public", request("GET", "/connect?topic=")),
        ("public", request("OPTIONS", "/connect", "Origin: http://evil.example")),
        ("public", post("/connections/none/topics", b"{}")),
        ("public", post("/connections/@CONNECTION/topics", b"no JSON")),
        ("public", post("/connections/nowhere-x/topics", b"{}")),
        ("public", request("GET", "/connections/none/topics")),
        ("dispatcher", post("/publish", event())),
        ("dispatcher", request("POST", "/publish", "Content-Length: 1000")),
        ("dispatcher", request("GET", "/frontends")),
        ("guarded public", post("/connections/nowhere-x/topics", b"{}")),
        ("guarded public", request("GET", "/connections/nowhere-x/topics")),
    ]
    for _ in range(5):
        for listener, sent in refused:
            _send_and_reset(house.listeners[listener], house.fill_in(sent))


def _send_and_reset(url: str, data: bytes) -> None:
    """Send ``data`` and be gone at once, with a reset."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 80), DEADLINE_SECONDS) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(ConnectionError):
            sock.sendall(data)
