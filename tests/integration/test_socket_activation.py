"""A public port that the service manager holds: a restart refuses nobody."""

import configparser
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    ROOT,
    TWISTD,
    combined,
    eventually,
    fixed_port,
)

# What a service manager does: the socket is descriptor 3, and the process is told its own number.
_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
    "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()),"
    "LISTEN_FDNAMES='rtfrontend.socket');"
    "os.execv(sys.argv[2], sys.argv[2:])"
)


class Activated:
    """A frontend on a socket that outlives it."""

    def __init__(self, held: socket.socket, dispatcher_url: str, options: Sequence[str]) -> None:
        self._held = held
        self.internal = fixed_port(4)
        self._command = [
            *(TWISTD, "-n", "rtfrontend", "--public", "systemd:domain=INET:index=0"),
            *("--internal", f"tcp:{self.internal}:interface=127.0.0.1", "--node", "n1"),
            *("--dispatcher", dispatcher_url, *options),
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        descriptor = self._held.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(descriptor), sys.executable, *self._command],
            pass_fds=[descriptor],
            stdout=subprocess.DEVNULL,
            env=os.environ,
        )
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(DEADLINE_SECONDS) in (0, -signal.SIGTERM)

    def is_ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.internal}/health/ready"
            return HTTP.get(url).status_code == 200
        except OSError:
            return False
        except Exception as error:
            if "refused" in str(error) or "disconnected" in str(error):
                return False
            raise


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["one process", "two workers"])
def test_nobody_is_refused_during_a_restart(workers: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as held, combined() as hub:
        port = held.getsockname()[1]
        activated = Activated(held, hub.url("internal"), workers)
        answers: list[bytes] = []
        closed: list[int] = []
        stop = threading.Event()

        def visit() -> None:
            while not stop.is_set():
                with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as client:
                    answer = b""
                    with suppress(ConnectionResetError, BrokenPipeError):
                        client.sendall(b"GET /connect?topic=a HTTP/1.1\r\nHost: a\r\n\r\n")
                        answer = client.recv(15)
                # A process that ended had taken it; the next attempt waits for the next process.
                (answers if answer else closed).append(answer or len(answers))  # type: ignore[arg-type]
                stop.wait(0.02)

        visitor = threading.Thread(target=visit)
        with activated.running():
            eventually(activated.is_ready, "it is ready")
            visitor.start()
            eventually(lambda: len(answers) > 10, "visitors come")
        before = len(answers)
        with activated.running():
            eventually(activated.is_ready, "it is ready again")
            eventually(lambda: len(answers) > before + 10, "they come again")
            stop.set()
            visitor.join(DEADLINE_SECONDS)
        assert set(answers) == {b"HTTP/1.1 200 OK"}
        assert len(set(closed)) == len(closed), "a second attempt was closed, too"


def test_the_unit_of_the_socket_says_what_the_documents_say() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.read(ROOT / "etc/rtfrontend.socket")
    assert unit["Socket"]["ListenStream"] == "0.0.0.0:8080"
    assert "--public systemd:domain=INET:index=0" in (ROOT / "etc/rtfrontend.socket").read_text()
