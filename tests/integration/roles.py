"""Real role processes on free ports of the loopback interface."""

import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

DEADLINE_SECONDS = 60
LOOPBACK = "tcp:0:interface=127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]
TWISTD = str(Path(sys.executable).with_name("twistd"))

# Workers name their number before "is ready".
_READY = re.compile(r"\] (\w+) is ready: (.*)$")


class RoleProcess:
    """One ``twistd -n`` process; its log is kept, and it always ends.

    :param prefix: what goes before the command, such as ``ip netns exec``.
    """

    def __init__(
        self,
        role: str,
        *options: str,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.role = role
        self.log: list[str] = []
        self.ports: dict[str, str] = {}
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [*prefix, TWISTD, "-n", "--pidfile=", role, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {}), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything it has printed so far."""
        return "\n".join(self.log)

    def wait_ready(self) -> "RoleProcess":
        """Wait for the log line that names the listeners."""
        self._ready.wait(DEADLINE_SECONDS)
        assert self.ports, f"{self.role} did not get ready:\n{self.output}"
        return self

    def url(self, listener: str) -> str:
        """Return the URL of a listener by its key: public, internal or listen."""
        return f"http://{self.ports[listener]}"

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = DEADLINE_SECONDS) -> int:
        """Wait for its end and return its exit status (negative: a signal's number)."""
        status = self._process.wait(seconds)
        self._reader.join(DEADLINE_SECONDS)
        return status

    def stop(self) -> None:
        """Kill it if it still runs."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self.wait()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(line.rstrip("\n"))
            match = _READY.search(line.rstrip("\n"))
            if match:
                self.ports = dict(place.split(" ", 1) for place in match[2].split(", "))
                self._ready.set()
        self._ready.set()


@contextmanager
def running(role: str, *options: str) -> Iterator[RoleProcess]:
    """Start a role, wait until it is ready, and end it."""
    process = RoleProcess(role, *options)
    try:
        yield process.wait_ready()
    finally:
        process.stop()


@contextmanager
def combined(*options: str) -> Iterator[RoleProcess]:
    """Run ``rtcombined`` on free ports."""
    with running("rtcombined", "--public", LOOPBACK, "--internal", LOOPBACK, *options) as process:
        yield process


@contextmanager
def dispatcher(*options: str) -> Iterator[RoleProcess]:
    """Run ``rtdispatcher`` on a free port."""
    with running("rtdispatcher", "--listen", LOOPBACK, *options) as process:
        yield process


@contextmanager
def frontend(dispatcher_url: str, node: str, *options: str) -> Iterator[RoleProcess]:
    """Run ``rtfrontend`` on free ports, and wait until the dispatcher knows it."""
    with running(
        "rtfrontend",
        "--dispatcher", dispatcher_url,
        "--node", node,
        "--public", LOOPBACK,
        "--internal", LOOPBACK,
        *options,
    ) as process:  # fmt: skip
        eventually(
            lambda: httpx.get(process.url("internal") + "/health/ready").status_code == 200,
            f"{node} is ready",
        )
        yield process


@contextmanager
def likes(
    dispatcher_urls: Sequence[str], frontend_url: str, database: Path, *options: str
) -> Iterator[RoleProcess]:
    """Run ``rtlikes`` on a free port."""
    with running(
        "rtlikes", *likes_options(dispatcher_urls, frontend_url, database), *options
    ) as process:
        yield process


def likes_options(dispatcher_urls: Sequence[str], frontend_url: str, database: Path) -> list[str]:
    """Return options with which ``rtlikes`` starts, on a free port."""
    named = [("--dispatcher", url) for url in dispatcher_urls]
    return [
        *("--listen", LOOPBACK, "--frontend", frontend_url, "--database", str(database)),
        *itertools.chain(*named),
    ]


def fixed_port() -> int:
    """Return a free port that stays free while nothing listens on it.

    It is below those that the kernel gives to clients: one that tries again and again to reach a
    closed port among these may be given the very port, and then connects to itself.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(max(1024, lowest - 12000), lowest)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def eventually(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until ``condition()`` is true, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain until {what}"
        time.sleep(0.02)


def metrics(role: RoleProcess, listener: str = "internal") -> dict[str, float]:
    """Scrape a role: values by name with labels, as they stand in the text."""
    text = httpx.get(role.url(listener) + "/metrics").text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def publish(role: RoleProcess, event: object, listener: str = "internal") -> httpx.Response:
    """Publish one event."""
    return httpx.post(role.url(listener) + "/publish", json=event, timeout=DEADLINE_SECONDS)


def publish_lines(role: RoleProcess, body: bytes, listener: str = "internal") -> httpx.Response:
    """Publish a batch of NDJSON."""
    return httpx.post(
        role.url(listener) + "/publish",
        content=body,
        headers={"Content-Type": "application/x-ndjson"},
        timeout=DEADLINE_SECONDS,
    )


def insist(process: RoleProcess) -> int:
    """Send SIGTERM again and again, and return the exit status."""

    def ended() -> bool:
        process.signal(signal.SIGTERM)
        return not process.is_running()

    eventually(ended, "it has ended")
    return process.wait()


def terminate(process: RoleProcess) -> int:
    """Send SIGTERM and return the exit status."""
    process.signal(signal.SIGTERM)
    return process.wait()
