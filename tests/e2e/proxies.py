"""Runs a proxy with a configuration that is shipped in etc/."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.roles import DEADLINE_SECONDS, eventually

MARK = "# site"


def installed(name: str) -> str:
    """Return the path of a program, or skip the test."""
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed")
    return program


def adapt(text: str, values: Mapping[str, str]) -> str:
    """Do what an operator does: replace values on marked lines, all of these and no others."""
    unused = set(values)
    lines = []
    for line in text.splitlines():
        found = [value for value in values if value in line and line.endswith(MARK)]
        assert bool(found) == line.endswith(MARK), f"the test has no value for {line}"
        unused.difference_update(found)
        for value in found:
            line = line.replace(value, values[value])
        lines.append(line)
    assert not unused, f"no marked line has {unused}"
    return "\n".join(lines) + "\n"


@contextmanager
def proxy(
    command: Sequence[str], port: int, directory: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a proxy that listens on ``port``. It keeps its complaints in ``directory``."""
    errors = directory / "errors"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        eventually(lambda: _listens(port) or process.poll() is not None, "the proxy listens")
        assert process.poll() is None, errors.read_text()
        yield
    finally:
        # With its workers, which outlive a master that is killed.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_SECONDS)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
