"""What HTTP asks of a server (RFC 9110, RFC 9112), on raw sockets and on both ways in.

A plain POST to an internal listener goes the fast path. All else, and all requests to a public
listener, go through Twisted's channel.
"""

import json
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.integration.roles import DEADLINE_SECONDS, RoleProcess, combined, publish

BODY = b'{"topic":"live:red","data":1}'


class Way(NamedTuple):
    """A way into the process: a request that is served there, and the status of its answer."""

    listener: str
    line: bytes
    fields: tuple[bytes, ...]
    body: bytes
    status: int


FAST = Way(
    "internal",
    b"POST /publish HTTP/1.1",
    (b"Content-Type: application/json", b"Content-Length: %d" % len(BODY)),
    BODY,
    202,
)
ORDINARY = Way("public", b"GET /connections/none/topics HTTP/1.1", (), b"", 404)
HOST = b"Host: localhost"
SERVED = 0
"""Stands for the status that a way has."""

ways = pytest.mark.parametrize("way", [FAST, ORDINARY], ids=["fast path", "ordinary"])


class Answer(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def refusal(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A connection, from which answers are read one by one."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port or 80))
        self._socket.settimeout(DEADLINE_SECONDS)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> "Wire":
        self._socket.sendall(data)
        return self

    def head(self) -> tuple[int, dict[str, str]]:
        status = self._file.readline().split(b" ")
        assert len(status) > 1, f"no answer: {status!r}"
        fields = {}
        while line := self._file.readline().strip().decode("latin-1"):
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        return int(status[1]), fields

    def answer(self) -> Answer:
        status, fields = self.head()
        return Answer(status, fields, self._file.read(int(fields.get("content-length", "0"))))

    def read_until(self, end: bytes) -> bytes:
        received = b""
        while not received.endswith(end):
            byte = self._file.read(1)
            assert byte, f"the stream ended after {received!r}"
            received += byte
        return received

    def is_closed(self) -> bool:
        """Whether the server closes it, without another byte."""
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture(scope="module")
def role() -> Iterator[RoleProcess]:
    with combined() as process:
        yield process
    assert "Traceback" not in process.output


@pytest.fixture
def connect(role: RoleProcess) -> Iterator[Any]:
    wires: list[Wire] = []

    def connect(listener: str) -> Wire:
        wires.append(Wire(role.url(listener)))
        return wires[-1]

    yield connect
    for wire in wires:
        wire.close()


def lines(*heads: bytes) -> bytes:
    return b"\r\n".join([*heads, b"", b""])


@ways
@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (SERVED, [HOST]),
        (SERVED, [b"HOST:localhost"]),
        (SERVED, [b"Host: 127.0.0.1:8090", b"X-Empty:"]),
        (SERVED, [HOST, b"Cookie: " + b"a=b; " * 5000]),
        (400, []),
        (400, [HOST, HOST]),
        (400, [b"Host: a b"]),
        (400, [b"Host: localhost/path"]),
        (400, [b"Host: user@localhost"]),
        (400, [HOST, b"Transfer-Encoding: identity"]),
        (400, [HOST, b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"]),
        (400, [HOST, b"Folded: a", b" b"]),
        (400, [HOST, b"No colon"]),
        (400, [HOST, b"Space : x"]),
        (400, [HOST, b"Nul: \0"]),
        (431, [HOST, b"Cookie: " + b"a=b; " * 8000]),
        (431, [HOST, *[b"X: y"] * 300]),
        (431, [HOST, *[b"X: " + b"y" * 1000] * 40]),
    ],
    ids=lambda value: b", ".join(value)[:40].decode() if isinstance(value, list) else None,
)
def test_heads(connect: Any, way: Way, status: int, fields: list[bytes]) -> None:
    wire = connect(way.listener).send(lines(way.line, *fields, *way.fields) + way.body)

    answer = wire.answer()
    assert answer.status == (status or way.status)
    if status:
        assert answer.refusal["error"] == {400: "bad_request", 431: "headers_too_large"}[status]
        assert wire.is_closed()
    if status == 431 and len(fields) < 300:
        assert "32768 bytes" in answer.refusal["message"]


@ways
def test_a_request_line_that_is_too_long_is_told_the_limit(connect: Any, way: Way) -> None:
    method, target, version = way.line.split(b" ")
    line = b"%b %b?%b %b" % (method, target, b"x" * 40_000, version)
    wire = connect(way.listener).send(lines(line, HOST, *way.fields) + way.body)

    answer = wire.answer()
    assert (answer.status, answer.refusal["error"]) == (414, "uri_too_long")
    assert "32768 bytes" in answer.refusal["message"]


def test_a_hundred_topics_fit_into_a_request_line(connect: Any) -> None:
    topics = b"&topic=".join(b"%0175d" % number for number in range(100))
    wire = connect("public").send(lines(b"GET /connect?topic=%b HTTP/1.1" % topics, HOST))

    assert wire.head()[0] == 200


@ways
@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n"])
def test_empty_lines_before_a_request_are_passed_over(
    connect: Any, way: Way, before: bytes
) -> None:
    wire = connect(way.listener).send(before + lines(way.line, HOST, *way.fields) + way.body)

    assert wire.answer().status == way.status


@ways
def test_a_target_may_be_an_absolute_url(connect: Any, way: Way) -> None:
    method, target, version = way.line.split(b" ")
    line = b"%b http://127.0.0.1%b %b" % (method, target, version)
    wire = connect(way.listener).send(lines(line, HOST, *way.fields) + way.body)

    assert wire.answer().status == way.status


def test_the_host_of_an_absolute_url_is_the_one_that_counts(connect: Any) -> None:
    line = b"POST http://evil.example/publish HTTP/1.1"
    wire = connect("internal").send(lines(line, HOST, *FAST.fields) + BODY)

    assert wire.answer().status == 403


@ways
@pytest.mark.parametrize(
    "fields",
    [
        [b"Connection: close"],
        [b"Connection: close, x"],
        [b"Connection: x,Close"],
        [b"Connection: x", b"Connection: close"],
    ],
    ids=lambda value: b" and ".join(value).decode(),
)
def test_a_client_that_asks_for_the_end_gets_it(
    connect: Any, way: Way, fields: list[bytes]
) -> None:
    wire = connect(way.listener).send(lines(way.line, HOST, *fields, *way.fields) + way.body)

    answer = wire.answer()
    assert (answer.status, answer.fields["connection"]) == (way.status, "close")
    assert wire.is_closed()


@ways
@pytest.mark.parametrize("field", [b"X: y", b"Connection: keep-alive", b"Connection: x, y"])
def test_any_other_client_may_go_on(connect: Any, way: Way, field: bytes) -> None:
    wire = connect(way.listener)
    for _ in range(2):
        wire.send(lines(way.line, HOST, field, *way.fields) + way.body)
        assert wire.answer().status == way.status


@ways
@pytest.mark.parametrize("method", [b"get", b"post", b"Post", b"BREW"])
def test_methods_are_told_apart_by_case(connect: Any, way: Way, method: bytes) -> None:
    target = way.line.split(b" ")[1]
    head = lines(b"%b %b HTTP/1.1" % (method, target), HOST, *way.fields)
    answer = connect(way.listener).send(head + way.body).answer()

    assert (answer.status, answer.refusal["error"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("listener", "path", "methods"),
    [
        ("public", "/connect", "GET, HEAD, OPTIONS"),
        ("public", "/connections/none/topics", "GET, HEAD, OPTIONS, POST"),
        ("internal", "/publish", "OPTIONS, POST"),
        ("internal", "/topics", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_and_a_refusal_name_the_same_methods(
    connect: Any, listener: str, path: str, methods: str
) -> None:
    wire = connect(listener)
    for method, status in (("OPTIONS", 204), ("DELETE", 405)):
        wire.send(lines(f"{method} {path} HTTP/1.1".encode(), HOST))
        answer = wire.answer()
        assert (answer.status, answer.fields["allow"]) == (status, methods)


def test_a_path_that_is_not_there_has_no_options(connect: Any) -> None:
    assert connect("public").send(lines(b"OPTIONS /nothing HTTP/1.1", HOST)).answer().status == 404


@ways
def test_answers_say_no_version_and_no_type_is_guessed(connect: Any, way: Way) -> None:
    wire = connect(way.listener)
    wire.send(lines(way.line, HOST, *way.fields) + way.body)
    wire.send(lines(b"DELETE /nothing HTTP/1.1", HOST))
    wire.send(lines(b"nonsense"))
    for _ in range(3):
        fields = wire.answer().fields
        assert fields["server"] == "rtdeliver"
        assert fields["x-content-type-options"] == "nosniff"


def test_a_stream_says_the_same(connect: Any) -> None:
    _, fields = connect("public").send(lines(b"GET /connect HTTP/1.1", HOST)).head()

    assert fields["server"] == "rtdeliver"
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["cache-control"] == "no-store, no-transform"


# Queries.


@pytest.mark.parametrize(
    ("query", "topics"),
    [
        ("topic=chat:a;b", ["chat:a;b"]),
        ("topic=chat:a;topic=b", ["chat:a;topic=b"]),
        ("topic=a%3Bb&topic=c+d", ["a;b", "c d"]),
    ],
)
def test_only_an_ampersand_separates(connect: Any, query: str, topics: list[str]) -> None:
    wire = connect("public").send(lines(f"GET /connect?{query} HTTP/1.1".encode(), HOST))

    assert wire.head()[0] == 200
    assert json.dumps(topics, separators=(",", ":")) in wire.read_until(b"\n\n").decode()


def test_a_look_up_separates_likewise(connect: Any) -> None:
    answer = connect("internal").send(lines(b"GET /topics?topic=a;b HTTP/1.1", HOST)).answer()

    assert answer.refusal["topic"] == "a;b"


@pytest.mark.parametrize(
    ("query", "error", "hint"),
    [
        ("topic", "bad_topic", ""),
        ("topic=", "bad_topic", ""),
        ("topics=a", "bad_request", "topic="),
        ("topics=a&topic=b", "bad_request", "topic="),
    ],
)
def test_a_query_that_asks_for_nothing_opens_no_stream(
    connect: Any, query: str, error: str, hint: str
) -> None:
    answer = connect("public").send(lines(f"GET /connect?{query} HTTP/1.1".encode(), HOST)).answer()

    assert (answer.status, answer.refusal["error"]) == (400, error)
    assert hint in answer.refusal["message"]


# Bodies.


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"\xef\xbb\xbf" + BODY, "byte-order mark"),
        (b"\x1f\x8b\x08" + BODY, "gzip"),
    ],
)
@pytest.mark.parametrize("extra", [b"X: y", b"Connection: x"], ids=["fast path", "ordinary"])
def test_a_body_that_is_no_plain_json_is_told_what_it_is(
    connect: Any, body: bytes, what: str, extra: bytes
) -> None:
    head = lines(
        FAST.line, HOST, extra, b"Content-Type: application/json", b"Content-Length: %d" % len(body)
    )
    answer = connect("internal").send(head + body).answer()

    assert (answer.status, answer.refusal["error"]) == (400, "bad_json")
    assert what in answer.refusal["message"]


def test_malformed_chunks_are_refused_in_json(connect: Any) -> None:
    head = lines(FAST.line, HOST, b"Content-Type: application/json", b"Transfer-Encoding: chunked")
    answer = connect("internal").send(head + b"zz\r\n").answer()

    assert (answer.status, answer.refusal["error"]) == (400, "bad_request")


# Streams.


def test_a_stream_comes_after_the_answers_to_earlier_requests(connect: Any) -> None:
    ask = lines(b"GET /nope HTTP/1.1", HOST) * 3
    wire = connect("public").send(ask + lines(b"GET /connect?topic=live:red HTTP/1.1", HOST))

    for _ in range(3):
        assert wire.answer().status == 404
    status, fields = wire.head()
    assert (status, fields["transfer-encoding"]) == (200, "chunked")


def test_nothing_is_served_after_a_stream_on_the_same_connection(
    connect: Any, role: RoleProcess
) -> None:
    stream = lines(b"GET /connect?topic=live:blue HTTP/1.1", HOST)
    wire = connect("public").send(stream + lines(b"GET /nope HTTP/1.1", HOST) * 2)

    assert wire.head()[0] == 200
    wire.read_until(b"\n\n\r\n")
    wire.send(lines(b"GET /nope HTTP/1.1", HOST))
    publish(role, {"topic": "live:blue", "data": "next"})
    received = wire.read_until(b"\n\n\r\n")
    assert b'"next"' in received
    assert b"HTTP/1.1 404" not in received


def test_http_1_0_gets_a_stream_that_is_not_coded(connect: Any, role: RoleProcess) -> None:
    wire = connect("public").send(lines(b"GET /connect?topic=live:old HTTP/1.0"))

    status, fields = wire.head()
    assert (status, fields["connection"]) == (200, "close")
    assert "transfer-encoding" not in fields
    assert wire.read_until(b"\n\n").startswith(b"retry: ")
    publish(role, {"topic": "live:old", "data": 1})
    assert wire.read_until(b"\n\n").startswith(b"id: ")
