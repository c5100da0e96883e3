"""Roles as real processes on free ports of the loopback interface."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rtdeliver.bench.http import fetch, metrics, wait_until
from rtdeliver.bench.machine import BenchError, children
from rtdeliver.bench.processes import ending_with_parent

LOOPBACK = "tcp:0:interface=127.0.0.1"

_START_SECONDS = 30.0
_LOG_LINES = 50
# Workers name their number before "is ready".
_READY = re.compile(r"\] (\w+) is ready: (.*)$")
_SOURCE = str(Path(__file__).resolve().parents[2])
_TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")


class Role:
    """One running role.

    :param process: its process, whose output is read to the end so that it never waits for us.
    """

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name = name
        self._process = process
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._urls: dict[str, str] = {}
        self._settled = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """The processes that do the work: its workers, or itself."""
        return list(children(self.pid)) or [self.pid]

    def url(self, listener: str) -> str:
        """Return the URL of a listener by its key: public, internal or listen."""
        return self._urls[listener]

    def metrics(self) -> dict[str, float]:
        """Scrape its internal listener: values by name with labels."""
        return metrics(self._urls.get("internal") or self.url("listen"))

    def wait_ready(self) -> None:
        """Wait until it listens.

        :raises BenchError: if it does not, with the last line that it printed.
        """
        self._settled.wait(_START_SECONDS)
        if not self._urls:
            last = next(
                (line for line in reversed(self._log) if line.strip()), "it printed nothing"
            )
            raise BenchError(f"{self.name} does not start: {last}")

    def end(self) -> None:
        """Kill it and its workers, which would drain first."""
        workers = [] if self._process.poll() is not None else children(self.pid)
        for pid in (self.pid, *workers):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(_START_SECONDS)

    def _read_log(self) -> None:
        for line in self._process.stdout or ():
            self._log.append(line.rstrip("\n"))
            match = _READY.search(self._log[-1])
            if match:
                places = (place.split(" ", 1) for place in match[2].split(", "))
                self._urls = {key: f"http://{address}" for key, address in places}
                self._settled.set()
        self._settled.set()


@contextmanager
def started(name: str, *options: str) -> Iterator[Role]:
    """Start a role, wait until it listens, and end it in any case.

    :param options: those of the role; its listeners are given with `LOOPBACK`.
    :raises BenchError: if it does not start.
    """
    path = os.pathsep.join(filter(None, (_SOURCE, os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(  # noqa: S603
        ending_with_parent([*_TWISTD, "-n", "--pidfile=", name, *options], signal.SIGKILL),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
    )
    role = Role(name, process)
    try:
        role.wait_ready()
        yield role
    finally:
        role.end()


@contextmanager
def started_dispatcher(*options: str) -> Iterator[Role]:
    """Start an ``rtdispatcher`` on a free port; ``url("listen")`` is where it listens."""
    with started("rtdispatcher", "--listen", LOOPBACK, *options) as role:
        yield role


@contextmanager
def started_frontend(dispatcher_url: str, *options: str) -> Iterator[Role]:
    """Start an ``rtfrontend`` on free ports, and wait until it takes viewers."""
    with started(
        "rtfrontend",
        *("--dispatcher", dispatcher_url),
        *("--public", LOOPBACK),
        *("--internal", LOOPBACK),
        *options,
    ) as role:
        wait_until(lambda: _is_ready(role), "rtfrontend to be ready", seconds=_START_SECONDS)
        yield role


def _is_ready(role: Role) -> bool:
    try:
        return bool(fetch(role.url("internal") + "/health/ready"))
    except BenchError:
        return False
