"""The live-video app while its database cannot be used, and the files that it makes."""

import os
import resource
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from rtdeliver.tokens import make_token_key
from tests.integration.conftest import WriteConfig
from tests.integration.roles import (
    HTTP,
    LOOPBACK,
    RoleProcess,
    combined,
    eventually,
    likes_options,
    terminate,
)
from tests.integration.test_likes import (
    LIKES,
    NOBODY,
    UNLIMITED,
    Site,
    assert_log_is_clean,
    assert_refused,
)

CONFIG = {
    **UNLIMITED,
    "likes_database.busy_seconds": 0.2,
    "likes_database.check_seconds": 0.1,
}
# Root may write what it may not write, unless it gives that up.
WITH_FILE_MODES = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
)
WITHOUT_UMASK = ["sh", "-c", 'umask 0; exec "$@"', "sh"]
# Writes of files fail, as on a full disk.
ON_FULL_DISK = ["prlimit", f"--fsize=0:{resource.getrlimit(resource.RLIMIT_FSIZE)[1]}"]


class Running(NamedTuple):
    """A process, and the database that it uses."""

    pid: int
    database: Path


@contextmanager
def app(database: Path, config: list[str], prefix: list[str] | None = None) -> Iterator[Site]:
    """Run ``rtlikes`` without any dispatcher, and look at its log in the end."""
    options = [*likes_options([NOBODY], NOBODY, database), *config, "--internal", LOOPBACK]
    role = RoleProcess("rtlikes", *options, prefix=prefix or ())
    try:
        yield Site(role.wait_ready())
    finally:
        role.stop()
    assert_log_is_clean(role)


def missing(role: RoleProcess) -> str:
    """What the process says that it lacks; empty if it says that it is ready."""
    answer = HTTP.get(f"{role.url('internal')}/health/ready")
    lacking: list[str] = answer.json()["missing"]
    assert answer.json()["ready"] == (not lacking)
    assert answer.status_code == (503 if lacking else 200)
    return "; ".join(lacking)


def wait_missing(role: RoleProcess, database: Path, why: str) -> None:
    expected = f"the database {database} cannot be used: {why}"
    eventually(lambda: missing(role).startswith(expected), expected)


def wait_ready(role: RoleProcess) -> None:
    eventually(lambda: not missing(role), "it is ready")


def assert_refuses_all(site: Site) -> None:
    assert_refused(site.post(LIKES), 503, "unavailable")
    assert_refused(site.post("/session", {"name": "eve"}), 503, "unavailable")
    for path in ("/videos", "/videos/red", "/members"):
        assert_refused(site.client.get(path), 503, "unavailable")
    # What needs no database is served.
    assert site.client.get("/").status_code == 200
    assert site.get("/settings")


@contextmanager
def missing_folder(running: Running) -> Iterator[None]:
    away = running.database.parent.with_name("away")
    running.database.parent.rename(away)
    yield
    away.rename(running.database.parent)


@contextmanager
def full_disk(running: Running) -> Iterator[None]:
    """A process that may write no file is told so where a full disk would tell it."""
    soft, hard = resource.prlimit(running.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def locked(running: Running) -> Iterator[None]:
    with closing(sqlite3.connect(running.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def no_database(running: Running) -> Iterator[None]:
    kept = running.database.with_name("kept")
    running.database.rename(kept)
    running.database.write_text("Dear diary, " * 100)
    yield
    kept.replace(running.database)


@contextmanager
def read_only(running: Running) -> Iterator[None]:
    """The file that takes its place may not be written, and nothing beside it."""
    kept = running.database.with_name("kept")
    running.database.rename(kept)
    running.database.touch(0o400)
    running.database.parent.chmod(0o500)
    yield
    running.database.parent.chmod(0o700)
    kept.replace(running.database)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (missing_folder, "unable to open database file: No such file or directory"),
        (full_disk, "disk I/O error"),
        (locked, "database is locked"),
        (no_database, "file is not a database"),
        (read_only, "this process may not read and write the file"),
    ],
)
def test_it_is_not_ready_while_its_database_cannot_be_used_and_loses_nothing(
    fault: Callable[[Running], AbstractContextManager[None]],
    why: str,
    tmp_path: Path,
    write_config: WriteConfig,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    database = folder / "app.sqlite"
    with app(database, write_config(CONFIG), WITH_FILE_MODES) as site:
        ann = site.enter("ann")
        assert site.done(LIKES)["likes"] == 1
        wait_ready(site.role)
        with fault(Running(site.role.pid, database)):
            wait_missing(site.role, database, why)
            assert_refuses_all(site)
            assert HTTP.get(f"{site.role.url('internal')}/health/live").status_code == 200
        wait_ready(site.role)
        assert site.done(LIKES, {}, ann)["likes"] == 2
        assert site.get("/session", ann)["member"] == "ann"


@pytest.mark.parametrize("state", ["locked", "read-only", "full disk"])
def test_it_starts_while_its_database_cannot_be_used_and_is_ready_once_it_can(
    state: str, tmp_path: Path, write_config: WriteConfig
) -> None:
    database = tmp_path / "app.sqlite"
    config = write_config(CONFIG)
    with app(database, config) as site:
        assert site.done(LIKES)["likes"] == 1
        # After a kill, much would be in the log beside the database.
        terminate(site.role)

    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        if state == "locked":
            other.execute("BEGIN IMMEDIATE")
        elif state == "read-only":
            database.chmod(0o400)
        with app(
            database, config, ON_FULL_DISK if state == "full disk" else WITH_FILE_MODES
        ) as site:
            assert missing(site.role).startswith(f"the database {database} cannot be used: ")
            assert_refuses_all(site)
            if state == "locked":
                other.execute("ROLLBACK")
            elif state == "read-only":
                database.chmod(0o600)
            else:
                unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.prlimit(site.role.pid, resource.RLIMIT_FSIZE, unlimited)
            wait_ready(site.role)
            assert site.done(LIKES)["likes"] == 2


def test_a_full_disk_does_not_matter_to_a_key_that_exists(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    """The key is the app's own, beside its database."""
    database = tmp_path / "app.sqlite"
    config = write_config(CONFIG)
    with app(database, config) as site:
        ann = site.enter("ann")
    key = Path(f"{database}.key")
    before = (key.read_bytes(), key.stat())

    with app(database, config, ON_FULL_DISK) as site:
        # A key that was not found would end the start; this token needs no database to be refused.
        assert site.client.get("/conversations", headers={"Authorization": "Bearer x"}).is_error
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(site.role.pid, resource.RLIMIT_FSIZE, unlimited)
        wait_ready(site.role)
        assert site.get("/session", ann)["member"] == "ann"
    assert (key.read_bytes(), key.stat().st_ino) == (before[0], before[1].st_ino)
    assert key.stat().st_mtime_ns == before[1].st_mtime_ns


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; only root can mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = run_quietly("mount", "-t", "tmpfs", "-o", "size=1m", "rtdeliver-test", str(disk))
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield disk
    run_quietly("umount", "--lazy", str(disk))


def run_quietly(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fill(disk: Path) -> Path:
    """Fill a disk with a file, and return that."""
    filling = disk / "filling"
    with filling.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filling


def test_a_disk_that_is_really_full_is_survived_and_keeps_nobody_from_starting(
    small_disk: Path, write_config: WriteConfig
) -> None:
    database = small_disk / "app.sqlite"
    config = write_config(CONFIG)
    with app(database, config) as site:
        ann = site.enter("ann")
        assert site.done(LIKES)["likes"] == 1
        filling = fill(small_disk)
        wait_missing(site.role, database, "database or disk is full")
        assert_refuses_all(site)
        filling.unlink()
        wait_ready(site.role)
        assert site.done(LIKES)["likes"] == 2
        terminate(site.role)

    filling = fill(small_disk)
    with app(database, config) as site:
        assert missing(site.role)
        assert_refuses_all(site)
        filling.unlink()
        wait_ready(site.role)
        assert site.done(LIKES, {}, ann)["likes"] == 3
        assert site.get("/session", ann)["member"] == "ann"


def test_its_files_are_for_their_owner_only(tmp_path: Path, write_config: WriteConfig) -> None:
    with app(tmp_path / "app.sqlite", write_config(CONFIG), WITHOUT_UMASK) as site:
        site.done(LIKES)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        names = ["app.sqlite", "app.sqlite-wal", "app.sqlite-shm", "app.sqlite.key"]
        assert {name: modes[name] for name in names} == dict.fromkeys(names, 0o600)


def test_a_key_that_every_user_can_read_is_warned_of_and_used(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    database = tmp_path / "app.sqlite"
    key = Path(f"{database}.key")
    make_token_key(str(key))
    key.chmod(0o644)
    with app(database, write_config(CONFIG)) as site:
        assert site.enter("ann")
        warnings = [line for line in site.role.log if f"chmod o= {key}" in line]
        assert len(warnings) == 1
    assert stat.S_IMODE(key.stat().st_mode) == 0o644


def test_a_start_that_cannot_listen_makes_no_file(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
        options = likes_options([NOBODY], NOBODY, tmp_path / "app.sqlite")
        role = RoleProcess("rtlikes", *options, *write_config(CONFIG), "--listen", listen)
        assert role.wait() == 1
    assert_log_is_clean(role)
    assert list(tmp_path.iterdir()) == []


def test_in_one_process_with_the_rest_it_is_not_ready_and_streams_go_on(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    database = folder / "app.sqlite"
    options = ["--app", LOOPBACK, "--database", str(database)]
    with combined(*options, *write_config(CONFIG)) as role:
        site = Site(role, "app")
        wait_ready(role)
        with missing_folder(Running(role.pid, database)):
            wait_missing(role, database, "unable to open database file: No such")
            assert_refuses_all(site)
            with HTTP.stream("GET", f"{role.url('public')}/connect?topic=live:a") as stream:
                assert "event: connected" in next(stream.iter_text())
        wait_ready(role)
        assert site.done(LIKES)["likes"] == 1
    assert_log_is_clean(role)
