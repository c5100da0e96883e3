"""Builds a release from what git tracks, installs it elsewhere, and publishes an event through it.

Run from a clone's root: ``python -m tests.release``. It leaves sdist and wheel in ``dist/``.
"""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DIST = Path("dist")
DEADLINE_SECONDS = 60
TOPIC = "live:release"
ANY_PORT = "tcp:0:interface=127.0.0.1"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        built = build(here / "source")
        run("-m", "twine", "check", "--strict", *built)
        python = install(built, here / "environment")
        with running(python, here) as places:
            deliver(places)
            for path in ("/", "/rtdeliver.js"):
                with asked(places["app"], "GET", path) as answer:
                    assert answer.status == 200, path
        run("-m", "rtdeliver.bench", "--help", python=python, cwd=here, output=subprocess.DEVNULL)
    print(f"good: {', '.join(map(str, built))}")  # noqa: T201


def run(
    *arguments: object,
    python: str | Path = sys.executable,
    cwd: Path | None = None,
    output: int | None = None,
) -> None:
    """Run Python, and fail if it does."""
    subprocess.run([python, *map(str, arguments)], check=True, cwd=cwd, stdout=output, env=clean())


def clean() -> dict[str, str]:
    """Return an environment in which the sources are not found."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def build(source: Path) -> Sequence[Path]:
    """Build sdist and wheel, the latter from the former, of a copy of what is tracked."""
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, source / name)
    shutil.rmtree(DIST, ignore_errors=True)
    run("-m", "build", "--outdir", DIST, source, output=subprocess.DEVNULL)
    built = sorted(DIST.iterdir())
    assert [path.suffix for path in built] == [".whl", ".gz"], built
    return built


def install(built: Sequence[Path], environment: Path) -> Path:
    """Install the wheel into a new environment; return its Python."""
    run("-m", "venv", environment)
    python = environment / "bin" / "python"
    run("-m", "pip", "install", "-q", "--disable-pip-version-check", built[0], python=python)
    return python


@contextmanager
def running(python: Path, cwd: Path) -> Iterator[dict[str, str]]:
    """Run all roles in one process; yield where it listens."""
    process = subprocess.Popen(
        [
            *(python.with_name("twistd"), "-n", "rtcombined"),
            *("--public", ANY_PORT, "--internal", ANY_PORT, "--app", ANY_PORT),
        ],
        cwd=cwd,
        env={**clean(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = next(line for line in process.stdout if " listens: " in line)
        yield dict(re.findall(r"(\w+) (127\.0\.0\.1:\d+)", ready))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode in (0, -signal.SIGTERM), process.returncode
    finally:
        process.kill()
        process.wait()


@contextmanager
def asked(place: str, method: str, path: str, body: object = None) -> Iterator[Any]:
    """Send a request; yield the response."""
    connection = http.client.HTTPConnection(place, timeout=DEADLINE_SECONDS)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        yield connection.getresponse()
    finally:
        connection.close()


def deliver(places: dict[str, str]) -> None:
    """Publish an event, and read it from a stream."""
    with asked(places["public"], "GET", f"/connect?topic={TOPIC}") as stream:
        assert read_frame(stream)["event"] == "connected"
        event = {"topic": TOPIC, "id": "e-1", "data": {"n": 1}}
        with asked(places["internal"], "POST", "/publish", event) as answer:
            assert (answer.status, json.loads(answer.read())) == (202, {"id": "e-1"})
        frame = read_frame(stream)
        assert frame["id"] == "e-1", frame
        assert json.loads(frame["data"])["data"] == {"n": 1}, frame


def read_frame(stream: Any) -> dict[str, str]:
    """Read one frame of an event stream: its fields."""
    lines = iter(lambda: stream.readline().decode().rstrip("\n"), "")
    return dict(line.split(": ", 1) for line in lines)


if __name__ == "__main__":
    main()
