"""Clients that take for ever to send a request, or never complete it, hurt nobody else."""

import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.conftest import WriteConfig
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    LOOPBACK,
    RoleProcess,
    combined,
    eventually,
    metrics,
    publish,
    publish_lines,
)
from tests.integration.streams import Viewers

SECRET = "correct-horse-battery-staple"
AUTHORIZATION = {"Authorization": f"Bearer {SECRET}"}
TOPIC = "live:honest"

PUBLISH = "POST /publish HTTP/1.1\r\nHost: localhost\r\n"
SUBSCRIPTIONS = "POST /subscriptions HTTP/1.1\r\nHost: localhost\r\n"
CHANGE = "POST /connections/none/topics HTTP/1.1\r\nHost: localhost\r\n"
LIKE = "POST /videos/red/likes HTTP/1.1\r\nHost: localhost\r\n"


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port or 80), DEADLINE_SECONDS)


def trickle(sock: socket.socket, data: bytes, pause_seconds: float) -> bytes:
    """Send byte after byte until the other side answers; return all that comes to the end."""
    for at in range(len(data)):
        with suppress(ConnectionError):
            sock.sendall(data[at : at + 1])
        if select.select([sock], [], [], pause_seconds)[0]:
            break
    received = b""
    with suppress(ConnectionError):
        while piece := sock.recv(65536):
            received += piece
    return received


@pytest.fixture(scope="module")
def strict(
    write_config: WriteConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RoleProcess]:
    """All kinds of listeners, with short deadlines."""
    database = tmp_path_factory.mktemp("strict") / "app.sqlite"
    settings = {"http.head_seconds": 1, "http.body_seconds": 2, "http.idle_seconds": 3600}
    settings["http.client_idle_seconds"] = 30
    with combined(
        *("--app", LOOPBACK, "--database", str(database)), *write_config(settings)
    ) as role:
        yield role
    assert "Traceback" not in role.output


@pytest.mark.parametrize("earlier", [0, 1], ids=["at first", "later"])
@pytest.mark.parametrize("part", ["head", "body"])
@pytest.mark.parametrize(
    ("listener", "head"),
    [("public", CHANGE), ("internal", PUBLISH), ("internal", SUBSCRIPTIONS), ("app", LIKE)],
    ids=["public", "fast path", "internal", "app"],
)
def test_a_byte_now_and_then_keeps_no_request_open(
    strict: RoleProcess, listener: str, head: str, part: str, earlier: int
) -> None:
    whole = f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    begin = {"head": "", "body": f"{head}Content-Length: 100000\r\n\r\n"}[part]
    rest = {"head": f"{head}X: {'x' * 10000}", "body": "x" * 100_000}[part]
    with connect(strict.url(listener)) as sock:
        if earlier:
            sock.sendall(whole.encode())
            assert sock.recv(65536).startswith(b"HTTP/1.1 ")
        sock.sendall(begin.encode())
        received = trickle(sock, rest.encode(), pause_seconds=0.1)

    head_bytes, _, body = received.partition(b"\r\n\r\n")
    assert head_bytes.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"] == "request_timeout"
    assert part in json.loads(body)["message"]


def test_a_stream_and_a_request_that_waits_for_its_answer_have_no_deadline(
    strict: RoleProcess,
) -> None:
    with Viewers() as viewers, connect(strict.url("public")) as late:
        stream = viewers.connect(strict.url("public"), TOPIC)
        late.sendall(b"G")
        assert late.recv(65536).startswith(b"HTTP/1.1 408 ")
        event = {"topic": TOPIC, "data": "still here"}
        assert publish(strict, event).status_code == 202
        viewers.wait(lambda: bool(stream.events), "the event came")


class Attack:
    """Connections that send a beginning, and then a byte now and then, in a thread of its own.

    Each one that is closed is opened again.
    """

    def __init__(self, begins: list[tuple[str, bytes]]) -> None:
        self.sent_all = threading.Event()
        self._begins = begins
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Attack":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(DEADLINE_SECONDS)

    def _run(self) -> None:
        with ExitStack() as stack:
            sockets = [stack.enter_context(_open(url, begin)) for url, begin in self._begins]
            self.sent_all.set()
            while not self._stopping.wait(0.2):
                for number, (url, begin) in enumerate(self._begins):
                    if not _go_on(sockets[number]):
                        sockets[number].close()
                        sockets[number] = stack.enter_context(_open(url, begin))


def _open(url: str, begin: bytes) -> socket.socket:
    sock = connect(url)
    with suppress(OSError):
        sock.sendall(begin)
    return sock


def _go_on(sock: socket.socket) -> bool:
    """Send a byte; return whether the connection is still open."""
    try:
        sock.sendall(b"x")
        return not select.select([sock], [], [], 0)[0]
    except OSError:
        return False


@contextmanager
def guarded(folder: Path, options: list[str]) -> Iterator[RoleProcess]:
    secret = folder / "secret"
    secret.write_text(SECRET)
    with combined("--secret-file", str(secret), *options) as role:
        yield role
    assert "Traceback" not in role.output


def values(role: RoleProcess) -> dict[str, float]:
    text = HTTP.get(role.url("internal") + "/metrics", headers=AUTHORIZATION).text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_an_honest_viewer_misses_nothing_while_hundreds_send_slowly(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    body = b"x" * 250_000
    large = f"{CHANGE}Content-Length: 262144\r\n\r\n".encode() + body
    chunked = f"{CHANGE}Transfer-Encoding: chunked\r\n\r\n3ffff\r\n".encode() + body
    # Hundreds of megabytes, if they were kept.
    without_secret = f"{PUBLISH}Content-Length: 33554432\r\n\r\n".encode() + b"x" * 33_000_000
    options = write_config({"http.head_seconds": 2, "http.body_seconds": 4})
    with guarded(tmp_path, options) as role, Viewers() as viewers:
        public, internal = role.url("public"), role.url("internal")
        before = values(role)["process_resident_memory_bytes"]
        begins = [
            *[(public, large)] * 200,
            *[(public, chunked)] * 100,
            *[(public, CHANGE.encode())] * 50,
            *[(internal, PUBLISH.encode())] * 50,
            *[(internal, f"{PUBLISH}Content-Length: 9\r\n\r\n".encode())] * 10,
            *[(internal, without_secret)] * 4,
        ]
        honest = viewers.connect(public, TOPIC)
        with Attack(begins) as attack:
            published, most = 0, 0.0
            while published < 300 or not attack.sent_all.is_set():
                event = {"topic": TOPIC, "data": published}
                answer = HTTP.post(internal + "/publish", json=event, headers=AUTHORIZATION)
                assert answer.status_code == 202
                published += 1
                if published % 20 == 0:
                    # A small change of topics is served, though there is no room for large ones.
                    assert honest.subscribe(add=[f"live:{published}"]).status_code == 200
                    now = values(role)
                    most = max(most, now["process_resident_memory_bytes"])
                    held = now['rtdeliver_unfinished_bodies_bytes{listeners="public"}']
                    assert held <= 67_108_864
                    assert now['rtdeliver_unfinished_bodies_bytes{listeners="internal"}'] == 0
                time.sleep(0.01)
            late = 'rtdeliver_late_requests_total{listeners="%s",part="%s"}'
            for count in (
                'rtdeliver_bodies_without_room_total{listeners="public"}',
                late % ("public", "head"),
                late % ("public", "body"),
                late % ("internal", "head"),
            ):
                eventually(_counts(role, count), f"{count} counts")
        viewers.wait(lambda: len(honest.events) >= published, "all events came")
        assert [event["data"] for event in honest.events] == list(range(published))
        assert not honest.control("gap")
        # Half of http.bodies_bytes, and what the kernel and the allocator keep on top.
        assert most - before < 2 * 67_108_864


def _counts(role: RoleProcess, count: str) -> Callable[[], bool]:
    return lambda: values(role)[count] > 0


def test_bodies_that_come_promptly_are_never_refused(strict: RoleProcess) -> None:
    """Many at once, each in pieces, and close to the limits."""
    line = json.dumps({"topic": TOPIC, "data": "x" * 900}).encode()
    batch = b"\n".join([line] * 1000)
    statuses: list[int] = []

    def publish_batches() -> None:
        statuses.extend(publish_lines(strict, batch).status_code for _ in range(5))

    producers = [threading.Thread(target=publish_batches) for _ in range(4)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join(DEADLINE_SECONDS)
    assert statuses == [202] * 20
    held = 'rtdeliver_unfinished_bodies_bytes{listeners="internal"}'
    assert metrics(strict)[held] == 0
