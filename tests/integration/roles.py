"""Real role processes on free ports of the loopback interface."""

import itertools
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
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

HTTP = httpx.Client(
    timeout=DEADLINE_SECONDS,
    # Servers are killed and come back at the same port: each request has its own connection.
    limits=httpx.Limits(max_keepalive_connections=0),
    cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
)
"""Sends a test's single requests. It is as patient as a busy machine needs, and keeps nothing."""

# Of a parallel run; each has some hundred ports of its own.
_MOST_PROCESSES = 32


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


def config_options(settings: Mapping[str, object], path: Path) -> list[str]:
    """Write settings, by table and key, to a file; return the options that name it."""
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in settings.items()))
    return ["--config", str(path)]


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        items = (f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    # What JSON writes of numbers, strings, booleans and lists is TOML too.
    return json.dumps(value)


def fixed_port(count: int = 1) -> int:
    """Return a free port that stays free while nothing listens on it.

    :param count: how many ports, from the returned one on, are free.
    """
    while True:
        ports = [next(_ports) for _ in range(count)]
        if ports[-1] - ports[0] == count - 1 and all(map(machine.is_free, ports)):
            return ports[0]


def _ports_of_this_process() -> Iterator[int]:
    """Yield ports that no other process of a parallel run is given, each once in a long while."""
    ports = machine.fixed_ports()
    share = len(ports) // _MOST_PROCESSES
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = ports[share * (number % _MOST_PROCESSES) :][:share]
    # Another run at the same time begins elsewhere.
    start = random.randrange(share)
    return itertools.cycle([*own[start:], *own[:start]])


_ports = _ports_of_this_process()


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
    return HTTP.post(role.url(listener) + "/publish", json=event)


def publish_lines(role: RoleProcess, body: bytes, listener: str = "internal") -> httpx.Response:
    """Publish a batch of NDJSON."""
    return HTTP.post(
        role.url(listener) + "/publish",
        content=body,
        headers={"Content-Type": "application/x-ndjson"},
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
