"""Real role processes on free ports of the loopback interface."""

import itertools
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from rtdeliver.bench import http, machine, roles
from rtdeliver.bench.roles import LOOPBACK as LOOPBACK
from rtdeliver.bench.roles import RoleProcess as RoleProcess

DEADLINE_SECONDS = 60
ROOT = Path(__file__).resolve().parents[2]
TWISTD = str(Path(sys.executable).with_name("twistd"))

# Tests call what runs by its role.
running = roles.started
dispatcher = roles.started_dispatcher
frontend = roles.started_frontend
fixed_port = machine.fixed_port


@contextmanager
def combined(*options: str) -> Iterator[RoleProcess]:
    """Run ``rtcombined`` on free ports."""
    with running("rtcombined", "--public", LOOPBACK, "--internal", LOOPBACK, *options) as process:
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


def eventually(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until ``condition()`` is true, or fail."""
    http.wait_until(condition, what, seconds=seconds)


def metrics(role: RoleProcess, listener: str = "internal") -> dict[str, float]:
    """Scrape a role: values by name with labels, as they stand in the text."""
    return http.metrics(role.url(listener))


def is_running(pid: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


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
