"""The systemd units of etc/: what they run starts, reloads and ends as they say."""

import configparser
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rtdeliver.config.sections import Process, Workers
from tests.integration.roles import (
    DEADLINE_SECONDS,
    LOOPBACK,
    ROOT,
    RoleProcess,
    dispatcher,
    eventually,
)

UNITS = sorted(path.name for path in (ROOT / "etc").glob("*.service"))
TEMPLATES = [unit for unit in UNITS if "@" in unit]
LISTENERS = {
    "rtcombined": ["--public", LOOPBACK, "--internal", LOOPBACK],
    "rtfrontend": ["--public", LOOPBACK, "--internal", LOOPBACK],
    "rtdispatcher": ["--listen", LOOPBACK],
    # It starts without Redis, and waits for it.
    "rtlatency": ["--listen", LOOPBACK, "--redis", "redis://127.0.0.1:1"],
    "rtlikes": ["--listen", LOOPBACK, "--frontend", "http://127.0.0.1:8080"],
}
BIN = "/opt/rtdeliver/bin/"


def service(unit: str) -> configparser.SectionProxy:
    """Read the section of a unit that says what runs."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((ROOT / "etc" / unit).read_text())
    return parser["Service"]


def here(command: str) -> list[str]:
    """Return a command of a unit with the programs that run this test."""
    return shlex.split(command.removeprefix("+").replace(BIN, f"{Path(sys.executable).parent}/"))


def options(unit: str, tmp_path: Path) -> tuple[str, list[str]]:
    """Return the role that a unit starts, and its options, with paths of this test."""
    command = here(service(unit)["ExecStart"])
    role = command[command.index("--nodaemon") + 1]
    paths = {
        "/etc/rtdeliver/rtdeliver.toml": str(ROOT / "etc/rtdeliver.toml"),
        "/var/lib/rtlikes/livevideo.sqlite": str(tmp_path / "livevideo.sqlite"),
    }
    given = [
        option.replace("%H", "host").replace("%i", "1")
        for option in command[command.index(role) + 1 :]
    ]
    return role, [paths.get(option, option) for option in given] + LISTENERS[role]


def started(unit: str, tmp_path: Path, dispatcher_url: str, *more: str) -> RoleProcess:
    role, given = options(unit, tmp_path)
    if role in ("rtfrontend", "rtlikes"):
        given += ["--dispatcher", dispatcher_url]
    return RoleProcess(role, *given, *more)


def test_there_is_a_unit_for_each_role() -> None:
    assert sorted(f"{role}.service" for role in LISTENERS) == [u for u in UNITS if "@" not in u]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_differs_by_what_tells_its_instances_apart(template: str) -> None:
    single = (ROOT / "etc" / template.replace("@", "")).read_text().splitlines()
    several = (ROOT / "etc" / template).read_text().splitlines()
    changed = [line for line in several if line not in single and not line.startswith("#")]
    assert [line.partition("=")[0] for line in changed] == ["Description", "ExecStart"]
    assert [line for line in single if line not in several and line.startswith("#")] == single[:1]
    # No two instances may listen at the same place, or have the same name.
    [listening] = [line for line in changed if line.startswith("ExecStart=")]
    words = listening.split()
    for option in ("--public", "--internal", "--listen", "--node"):
        assert option not in words or "%i" in words[words.index(option) + 1]
    assert {"--listen", "--node"} & set(words)


@pytest.mark.parametrize("unit", UNITS)
def test_it_starts_reloads_and_ends(unit: str, tmp_path: Path) -> None:
    with dispatcher() as hub:
        role = started(unit, tmp_path, hub.url("listen"))
        try:
            role.wait_ready()
            reload = shlex.split(service(unit)["ExecReload"])
            assert reload[-1] == "$MAINPID"
            subprocess.run([*reload[:-1], str(role.pid)], check=True)
            eventually(lambda: "reload" in role.output, "it has reloaded")
            role.signal(signal.SIGTERM)
            assert role.wait() == -signal.SIGTERM
        finally:
            role.stop()


@pytest.mark.parametrize("unit", UNITS)
def test_a_secret_that_only_root_may_read_comes_as_a_credential(unit: str, tmp_path: Path) -> None:
    """The commented line, and the option that its comment names, work together."""
    text = (ROOT / "etc" / unit).read_text()
    assert "#LoadCredential=" in text
    credential = text.partition("#LoadCredential=")[2].splitlines()[0].partition(":")[0]
    option = next(name for name in ("--secret-file", "--token-key-file") if name in text)
    assert f"{option} %d/{credential}" in text
    (tmp_path / credential).write_text("correct-horse-battery-staple-correct-horse")
    (tmp_path / credential).chmod(0o400)
    with dispatcher() as hub:
        role = started(unit, tmp_path, hub.url("listen"), option, str(tmp_path / credential))
        try:
            role.wait_ready()
        finally:
            role.stop()


@pytest.mark.parametrize("unit", UNITS)
def test_it_caches_the_plugins_first_as_a_user_that_may(unit: str, tmp_path: Path) -> None:
    command = service(unit)["ExecStartPre"]
    assert command.startswith("+")
    plugins = tmp_path / "twisted/plugins"
    plugins.mkdir(parents=True)
    (plugins / "found_only_here.py").touch()
    subprocess.run(here(command), check=True, cwd=tmp_path)
    assert (plugins / "dropin.cache").exists()


@pytest.mark.parametrize(
    ("unit", "workers"),
    [*[(unit, []) for unit in UNITS], ("rtfrontend.service", ["--workers", "2"])],
)
def test_the_service_manager_learns_that_it_is_there_and_runs(
    unit: str, workers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert float(service(unit)["WatchdogSec"]) > 1
    with (
        dispatcher() as hub,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        role = started(unit, tmp_path, hub.url("listen"), *workers)
        try:
            told = [manager.recv(100) for _ in range(4)]
            role.signal(signal.SIGTERM)
            while told[-1] != b"STOPPING=1":
                told.append(manager.recv(100))
        finally:
            role.stop()
    assert told[0] == b"READY=1"
    assert set(told[1:-1]) == {b"WATCHDOG=1"}


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_waits_until_the_streams_have_ended(unit: str) -> None:
    stop_seconds = float(service(unit).get("TimeoutStopSec", "90"))
    assert stop_seconds > Process().drain_seconds + Workers().grace_seconds


def _verify(paths: Sequence[Path]) -> str:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, paths)],
        capture_output=True,
        text=True,
    )
    return done.stderr


needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd is not installed"
)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_its_exposure_ok(unit: str) -> None:
    """Below 5 of 10, systemd says OK."""
    done = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            "--threshold=49",
            str(ROOT / "etc" / unit),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@needs_systemd
def test_systemd_understands_them() -> None:
    """Of all that it says, only that nothing is installed under /opt here is left."""
    complaints = _verify([ROOT / "etc" / unit for unit in UNITS]).splitlines()
    assert [line for line in complaints if BIN not in line] == []
