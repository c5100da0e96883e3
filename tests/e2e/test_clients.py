"""Programs that others wrote: a client library for event streams, and curl."""

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.integration.roles import (
    DEADLINE_SECONDS,
    RoleProcess,
    combined,
    eventually,
    publish,
    publish_lines,
)

HEARTBEAT = ":\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoleProcess]:
    config = tmp_path_factory.mktemp("config") / "rtdeliver.toml"
    config.write_text("viewers.heartbeat_seconds = 1\n")
    with combined("--config", str(config)) as process:
        yield process


@pytest.fixture
def httpx_sse() -> ModuleType:
    module: ModuleType = pytest.importorskip("httpx_sse", reason="httpx-sse is not installed")
    return module


class Background:
    """Reads what blocks, item by item, in a thread that ends when the source does."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._queue: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=self._read, args=(items,), daemon=True).start()

    def next(self) -> Any:
        """Return the next item; fail if none comes."""
        item = self._queue.get(timeout=DEADLINE_SECONDS)
        if isinstance(item, Exception):
            raise item
        return item

    def _read(self, items: Iterable[Any]) -> None:
        try:
            for item in items:
                self._queue.put(item)
        except Exception as error:
            self._queue.put(error)
        self._queue.put(EOFError("there is nothing more to read"))


class Recording(httpx.HTTPTransport):
    """Notes the bytes of a response on their way to a library."""

    def __init__(self) -> None:
        super().__init__()
        self.received = bytearray()

    def wait_for_heartbeats(self, count: int) -> None:
        """Wait until ``count`` more have come."""
        target = self._heartbeats() + count
        eventually(lambda: self._heartbeats() >= target, f"{count} heartbeats came")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = _Recorded(response.stream, self.received)
        return response

    def _heartbeats(self) -> int:
        return self.received.count(HEARTBEAT.encode())


class _Recorded(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, received: bytearray) -> None:
        self._stream = stream
        self._received = received

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._received.extend(chunk)
            yield chunk

    def close(self) -> None:
        self._stream.close()


def test_a_client_library_reads_every_event_with_its_id_and_nothing_else(
    server: RoleProcess, httpx_sse: ModuleType
) -> None:
    wire = Recording()

    def read() -> Iterator[Any]:
        url = f"{server.url('public')}/connect?topic=live:red"
        with (
            httpx.Client(transport=wire, timeout=DEADLINE_SECONDS) as client,
            httpx_sse.connect_sse(client, "GET", url) as source,
        ):
            for event in source.iter_sse():
                yield event
                if event.id == "the-last":
                    return

    events = Background(read())
    connected = events.next()
    assert connected.event == "connected"
    assert connected.retry == 3000
    assert connected.json()["topics"] == ["live:red"]

    # An event that a heartbeat makes the library report would come before the published one.
    for number in range(2):
        wire.wait_for_heartbeats(2)
        answer = publish(server, {"topic": "live:red", "type": "like", "data": number})
        event = events.next()
        assert event.event == "message"
        assert event.retry is None
        assert event.id == event.json()["id"] == answer.json()["id"]
        assert event.json()["data"] == number

    ids = [*(f"own-{number}" for number in range(100)), "the-last"]
    lines = [json.dumps({"topic": "live:red", "id": id, "data": "é\u2028 \n"}) for id in ids]
    assert publish_lines(server, "\n".join(lines).encode()).status_code == 202
    for id in ids:
        event = events.next()
        assert event.id == id
        assert event.json()["data"] == "é\u2028 \n"
    with pytest.raises(EOFError):
        events.next()


def curl(*arguments: str, stdin: str = "") -> str:
    """Run curl as a person does and return what it prints."""
    finished = subprocess.run(
        [_curl(), "--silent", "--show-error", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@contextmanager
def curl_stream(url: str) -> Iterator[Background]:
    """Run ``curl -N`` in the background and read the lines that it prints."""
    process = subprocess.Popen(
        [_curl(), "--silent", "--show-error", "-N", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Background(line for line in process.stdout if line != HEARTBEAT)
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)


def _curl() -> str:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    return program


def _field(line: str, name: str) -> str:
    assert line.startswith(f"{name}: "), line
    return line.removeprefix(f"{name}: ").rstrip("\n")


def _connection(lines: Background) -> str:
    """Read the first frame, and return the id in it."""
    assert _field(lines.next(), "retry") == "3000"
    assert _field(lines.next(), "event") == "connected"
    connection: str = json.loads(_field(lines.next(), "data"))["connection"]
    assert lines.next() == "\n"
    return connection


def _event(lines: Background) -> dict[str, Any]:
    id = _field(lines.next(), "id")
    event: dict[str, Any] = json.loads(_field(lines.next(), "data"))
    assert event["id"] == id
    assert lines.next() == "\n"
    return event


def test_curl_prints_an_event_while_the_stream_is_open(server: RoleProcess) -> None:
    with curl_stream(f"{server.url('public')}/connect?topic=live:red") as lines:
        _connection(lines)
        publish(server, {"topic": "live:red", "type": "like", "data": {"user": "ann"}})
        event = _event(lines)
        assert event["type"] == "like"
        assert event["data"] == {"user": "ann"}


def test_a_session_in_a_terminal(server: RoleProcess) -> None:
    """Connect, watch something else on the same stream, publish one event and many."""
    public, internal = server.url("public"), server.url("internal")
    json_type = ("-H", "Content-Type: application/json")
    with curl_stream(f"{public}/connect?topic=live:red") as lines:
        connection = _connection(lines)
        topics = f"{public}/connections/{connection}/topics"
        change = '{"add":["comments:red"],"remove":["live:red"]}'
        assert json.loads(curl(*json_type, topics, "-d", change)) == {
            "connection": connection,
            "topics": ["comments:red"],
        }
        assert json.loads(curl(topics))["topics"] == ["comments:red"]

        like = '{"topic":"live:red","type":"like","data":{"user":"ann"}}'
        curl(*json_type, f"{internal}/publish", "-d", like)
        comment = '{"topic":"comments:red","type":"comment","data":"hello"}'
        answer = json.loads(curl(*json_type, f"{internal}/publish", "-d", comment))
        event = _event(lines)
        assert event["id"] == answer["id"]
        assert (event["type"], event["data"]) == ("comment", "hello")

        # With -d, curl would take the line ends out.
        batch = "".join(f'{{"topic":"comments:red","data":{number}}}\n' for number in range(1000))
        ndjson = ("-H", "Content-Type: application/x-ndjson", "--data-binary", "@-")
        answer = json.loads(curl(*ndjson, f"{internal}/publish", stdin=batch))
        assert answer == {"accepted": 1000}
        assert [_event(lines)["data"] for _ in range(1000)] == list(range(1000))

        status = json.loads(curl(f"{internal}/topics?topic=comments:red"))
        assert status["viewers"] == 1
        assert "\n# TYPE rtdeliver_connections gauge\n" in curl(f"{internal}/metrics")
    eventually(
        lambda: json.loads(curl(f"{internal}/topics?topic=comments:red"))["viewers"] == 0,
        "the viewer is gone",
    )


def test_curl_is_told_which_content_type_to_send(server: RoleProcess) -> None:
    url = f"{server.url('internal')}/publish"
    answer = curl("-w", "%{http_code}", url, "-d", '{"topic":"live:red","data":1}')
    body, status = answer[:-3], answer[-3:]
    assert status == "415"
    assert json.loads(body)["error"] == "unsupported_media_type"
    assert "application/json" in json.loads(body)["message"]


def test_a_head_request_ends(server: RoleProcess) -> None:
    """People and health checks try ``curl -I``."""
    head = curl("-I", f"{server.url('public')}/connect?topic=live:red")
    assert head.startswith("HTTP/1.1 200 ")
    assert "content-type: text/event-stream; charset=utf-8" in head.lower()
