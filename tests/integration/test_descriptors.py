"""Visitors who take up connections do not keep nodes and operators out."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.integration.roles import HTTP, LOOPBACK, RoleProcess, eventually, metrics, publish
from tests.integration.streams import Viewers

DESCRIPTORS = 700
WAITING = 64
VISITORS = 600


@pytest.fixture
def role() -> Iterator[RoleProcess]:
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("prlimit is not installed")
    process = RoleProcess(
        "rtcombined",
        *("--public", LOOPBACK, "--internal", LOOPBACK),
        prefix=[prlimit, f"--nofile={DESCRIPTORS}"],
    )
    try:
        yield process.wait_ready()
    finally:
        process.stop()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /connect", b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n"]
)
def test_idle_and_half_open_connections_leave_descriptors(role: RoleProcess, sent: bytes) -> None:
    parts = urlsplit(role.url("public"))
    with Viewers() as viewers, ExitStack() as stack:
        stream = viewers.connect(role.url("public"), "live:red")
        for _ in range(VISITORS):
            visitor = stack.enter_context(
                socket.create_connection((parts.hostname, parts.port or 80))
            )
            visitor.sendall(sent)
        eventually(
            lambda: (
                metrics(role)["rtdeliver_waiting_connections_dropped_total"] >= VISITORS - WAITING
            ),
            "the oldest are dropped",
        )
        counts = metrics(role)
        assert counts["rtdeliver_waiting_connections_max"] == WAITING
        assert counts["rtdeliver_waiting_connections"] <= WAITING
        for number in range(20):
            assert publish(role, {"topic": "live:red", "data": number}).status_code == 202
            assert HTTP.get(role.url("internal") + "/health/ready").status_code == 200
        late = viewers.connect(role.url("public"), "live:red")
        assert late.connection
        viewers.wait(lambda: len(stream.events) == 20, "the viewer before them gets all")
    assert "Traceback" not in role.output
