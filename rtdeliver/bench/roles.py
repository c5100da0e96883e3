"""Starts roles as real processes on free ports of the loopback interface."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from rtdeliver.bench.http import fetch, wait_until
from rtdeliver.bench.machine import BenchError, children
from rtdeliver.bench.processes import ending_with_parent

LOOPBACK = "tcp:0:interface=127.0.0.1"

# Long enough for a busy machine.
_WAIT_SECONDS = 60.0
# A worker's line has its number before "listens".
_READY = re.compile(r"\] (\w+) listens: (.*)$")
_SOURCE = str(Path(__file__).resolve().parents[2])
_TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")


class RoleProcess:
    """One ``twistd -n`` process; it ends with this process at the latest.

    A thread reads its output, so that it never waits for a reader.

    :param options: the role's; give its listeners with `LOOPBACK`.
    :param prefix: words before the command, such as ``ip netns exec``.
    :ivar log: the lines that it has printed so far.
    :ivar ports: its listeners' addresses by key, once it listens.
    """

    def __init__(self, role: str, *options: str, prefix: Sequence[str] = ()) -> None:
        self.role = role
        self.log: list[str] = []
        self.ports: dict[str, str] = {}
        self._settled = threading.Event()
        command = [*prefix, *_TWISTD, "-n", role, *options]
        path = os.pathsep.join(filter(None, (_SOURCE, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(  # noqa: S603
            ending_with_parent(command, signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """The processes that do the work: the workers, or the process itself."""
        return list(children(self.pid)) or [self.pid]

    @property
    def output(self) -> str:
        """All that the process has printed so far."""
        return "\n".join(self.log)

    def url(self, listener: str) -> str:
        """Return the URL of a listener by its key: public, internal or listen."""
        return f"http://{self.ports[listener]}"

    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> Self:
        """Wait for the log line that names the listeners.

        :raises BenchError: if the line does not come. The error has the last printed line, and
            all lines in a note.
        """
        self._settled.wait(_WAIT_SECONDS)
        if not self.ports:
            last = next((line for line in reversed(self.log) if line.strip()), "it printed nothing")
            error = BenchError(f"{self.role} did not start: {last}")
            error.add_note(self.output)
            raise error
        return self

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = _WAIT_SECONDS) -> int:
        """Wait until the process ends; return its exit status (negative: a signal's number)."""
        status = self._process.wait(seconds)
        self._reader.join(_WAIT_SECONDS)
        return status

    def stop(self) -> None:
        """Kill the process if it still runs, and its workers, which would drain otherwise."""
        if self.is_running():
            for pid in (self.pid, *children(self.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.wait()

    def _read_log(self) -> None:
        for line in self._process.stdout or ():
            self.log.append(line.rstrip("\n"))
            match = _READY.search(self.log[-1])
            if match:
                self.ports = dict(place.split(" ", 1) for place in match[2].split(", "))
                self._settled.set()
        self._settled.set()


@contextmanager
def started(role: str, *options: str) -> Iterator[RoleProcess]:
    """Start a role and wait until it listens; it ends with the ``with`` block.

    :raises BenchError: if the role does not start.
    """
    process = RoleProcess(role, *options)
    try:
        yield process.wait_ready()
    finally:
        process.stop()


@contextmanager
def started_dispatcher(*options: str) -> Iterator[RoleProcess]:
    """Start an ``rtdispatcher`` on a free port; ``url("listen")`` is where it listens."""
    with started("rtdispatcher", "--listen", LOOPBACK, *options) as process:
        yield process


@contextmanager
def started_frontend(dispatcher_url: str, node: str, *options: str) -> Iterator[RoleProcess]:
    """Start an ``rtfrontend`` on free ports, and wait until it takes viewers."""
    with started(
        "rtfrontend",
        *("--dispatcher", dispatcher_url),
        *("--node", node),
        *("--public", LOOPBACK),
        *("--internal", LOOPBACK),
        *options,
    ) as process:
        wait_until(lambda: _is_ready(process), f"{node} is ready", seconds=_WAIT_SECONDS)
        yield process


def _is_ready(process: RoleProcess) -> bool:
    try:
        return bool(fetch(process.url("internal") + "/health/ready"))
    except BenchError:
        return False
