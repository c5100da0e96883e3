"""How a role starts, refuses to start, and ends."""

import functools
import os
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from tests.integration.conftest import WriteConfig
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    LOOPBACK,
    ROOT,
    TWISTD,
    RoleProcess,
    combined,
    dispatcher,
    eventually,
    frontend,
    insist,
    likes,
    likes_options,
    publish,
    publish_lines,
    running,
    terminate,
)
from tests.integration.streams import Viewers

ROLES = ("rtcombined", "rtfrontend", "rtdispatcher", "rtlikes")
OPEN = "tcp:0:interface=0.0.0.0"
SECRET = "correct-horse-battery-staple"
# Nothing listens there.
NOBODY = "http://127.0.0.1:9"
# An address for documentation (RFC 5737), which no machine has.
NOT_OURS = "tcp:0:interface=192.0.2.1"
DRAINED_STREAMS = 80

each_role = pytest.mark.parametrize("role", ROLES)


def first_for_each_role(name: str, first: object, *others: object) -> pytest.MarkDecorator:
    """Try the first with each role and the others with one: what they go through is the same."""
    return pytest.mark.parametrize(
        ("role", name),
        [*((role, first) for role in ROLES), *(("rtcombined", other) for other in others)],
        ids=lambda value: getattr(value, "__name__", None) or str(value),
    )


def internal_of(role: str) -> str:
    """The option for a role's internal listener."""
    return "--listen" if role == "rtdispatcher" else "--internal"


@functools.cache
def _app_folder() -> tempfile.TemporaryDirectory[str]:
    """Where the app has its database; it goes with this process."""
    return tempfile.TemporaryDirectory()


def options_of(role: str, internal: str = LOOPBACK) -> list[str]:
    """Options with which a role starts, on free ports."""
    options = [internal_of(role), internal]
    if role == "rtlikes":
        return options + likes_options([NOBODY], NOBODY, Path(_app_folder().name) / "app.sqlite")
    if role != "rtdispatcher":
        options += ["--public", LOOPBACK]
    if role == "rtfrontend":
        options += ["--dispatcher", "http://127.0.0.1:9", "--advertise", "http://127.0.0.1:8081"]
    return options


class Ended(msgspec.Struct, frozen=True):
    """What is left of a process that should not have started."""

    status: int
    complaint: str
    log: str
    left_behind: list[str]


def try_to_start(folder: Path, role: str, *options: str) -> Ended:
    """Run a role that is to end by itself."""
    place = folder / "run"
    place.mkdir()
    ended = subprocess.run(
        [TWISTD, "-n", "--pidfile=role.pid", role, *options],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return Ended(ended.returncode, ended.stderr, ended.stdout, os.listdir(place))


def assert_refused(ended: Ended, *words: str) -> None:
    """It ended with one clear line, which has all of ``words`` in it."""
    assert ended.status == 1, ended
    assert len(ended.complaint.splitlines()) == 1, ended.complaint
    for word in words:
        assert word in ended.complaint
    assert "Traceback" not in ended.log + ended.complaint
    assert "is ready" not in ended.log
    assert ended.left_behind == []


# A wrong option.


@each_role
def test_an_unknown_option_is_one_line(role: str, tmp_path: Path) -> None:
    assert_refused(try_to_start(tmp_path, role, *options_of(role), "--nonsense", "x"), "nonsense")


@each_role
def test_an_option_without_its_value_is_one_line(role: str, tmp_path: Path) -> None:
    assert_refused(try_to_start(tmp_path, role, *options_of(role), "--config"), "config")


@each_role
def test_a_stray_word_is_one_line(role: str, tmp_path: Path) -> None:
    assert_refused(try_to_start(tmp_path, role, *options_of(role), "nonsense"))


@pytest.mark.parametrize(
    ("role", "options", "words"),
    [
        ("rtfrontend", ["--internal", LOOPBACK, "--public", LOOPBACK], ["dispatcher"]),
        ("rtfrontend", [*options_of("rtfrontend"), "--dispatcher", "somewhere"], ["somewhere"]),
        ("rtfrontend", [*options_of("rtfrontend"), "--node", "a b"], ["node"]),
        ("rtfrontend", [*options_of("rtfrontend"), "--advertise", "ftp://a"], ["ftp://a"]),
        ("rtcombined", [*options_of("rtcombined"), "--cors-origin", "page.example"],
         ["page.example"]),
        ("rtcombined", [*options_of("rtcombined"), "--cors-origin", "https://page.example/x"],
         ["https://page.example/x"]),
        ("rtcombined", [*options_of("rtcombined"), "--peer", "dc2"], ["peer", "dc2"]),
        ("rtdispatcher", [*options_of("rtdispatcher"), "--peer", "dc2=h:1"], ["peer", "h:1"]),
        ("rtdispatcher", [*options_of("rtdispatcher"), "--datacenter", "a b"], ["datacenter"]),
        ("rtdispatcher", [*options_of("rtdispatcher"), "--datacenter", "dc1", "--peer",
                          "dc1=http://h:1"], ["peer", "dc1 is the name of this datacenter"]),
        ("rtlikes", ["--listen", LOOPBACK, "--frontend", NOBODY], ["dispatcher"]),
        ("rtlikes", ["--listen", LOOPBACK, "--dispatcher", NOBODY], ["frontend"]),
        ("rtlikes", ["--frontend", NOBODY, "--dispatcher", "somewhere"], ["somewhere"]),
        ("rtlikes", ["--frontend", "here", "--dispatcher", NOBODY], ["frontend", "here"]),
        ("rtcombined", ["--public", "nonsense:1", "--internal", LOOPBACK], ["public", "nonsense"]),
        ("rtcombined", ["--public", NOT_OURS, "--internal", LOOPBACK], ["public"]),
        ("rtcombined", ["--public", "unix:/nowhere/at/all", "--internal", LOOPBACK], ["public"]),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line(
    role: str, options: list[str], words: list[str], tmp_path: Path
) -> None:
    assert_refused(try_to_start(tmp_path, role, *options), *words)


# A wrong configuration.


@each_role
def test_an_unknown_key_is_one_line_with_the_key_that_was_meant(role: str, tmp_path: Path) -> None:
    config = tmp_path / "rt.toml"
    config.write_text("[viewers]\nheartbeat_second = 5\n")

    ended = try_to_start(tmp_path, role, *options_of(role), "--config", str(config))

    assert_refused(ended, "viewers.heartbeat_second", "viewers.heartbeat_seconds")


@first_for_each_role(
    "setting",
    'viewers.max_connections = "many"',
    "viewers.heartbeat_seconds = [25]",
    "listeners.public = 8080",
    "access.insecure_internal = 1",
    'access.cors_origins = "https://page.example"',
    "viewers.stall_seconds = -1",
    'viewers.overflow = "explode"',
    "publishing = 7",
    "event_bytes = 7",
)
def test_a_value_of_a_wrong_type_or_size_is_one_line_with_its_key(
    role: str, setting: str, tmp_path: Path
) -> None:
    config = tmp_path / "rt.toml"
    config.write_text(setting + "\n")

    ended = try_to_start(tmp_path, role, *options_of(role)[:2], "--config", str(config))

    assert_refused(ended, setting.split(" ")[0])


def missing(path: Path) -> None:
    """Make nothing."""


def folder(path: Path) -> None:
    path.mkdir()


def file_of(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    write.__name__ = repr(content)
    return write


@first_for_each_role(
    "make",
    missing,
    folder,
    file_of(b"public = \n"),
    file_of(b'node = "\xff"\n'),
    file_of(b'node = "a"\nnode = "b"\n'),
)
def test_a_configuration_that_cannot_be_read_is_one_line_with_its_name(
    role: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    config = tmp_path / "rt.toml"
    make(config)

    ended = try_to_start(tmp_path, role, *options_of(role), "--config", str(config))

    assert_refused(ended, str(config))


@first_for_each_role(
    "make",
    missing,
    folder,
    file_of(b""),
    file_of(b" \n\n"),
    file_of(b"two words\n"),
    file_of(b"one\ntwo words\n"),
    file_of(b"\xff\xfe\0"),
)
def test_a_secret_that_cannot_be_read_is_one_line_with_the_file(
    role: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    make(secret)

    ended = try_to_start(tmp_path, role, *options_of(role), "--secret-file", str(secret))

    assert_refused(ended, str(secret))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_secret_that_the_user_may_not_read_is_one_line_with_the_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0)
    options = [*options_of("rtcombined"), "--secret-file", str(secret)]

    assert_refused(try_to_start(tmp_path, "rtcombined", *options), str(secret))


# A listener that cannot be, or must not be.


@each_role
def test_a_port_in_use_is_one_line_with_the_listener(role: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"

        ended = try_to_start(tmp_path, role, *options_of(role, place))

    assert_refused(ended, internal_of(role).strip("-"), place)


@pytest.mark.parametrize(
    ("role", "option"),
    [
        ("rtcombined", "--public"),
        ("rtcombined", "--app"),
        ("rtfrontend", "--public"),
        ("rtlikes", "--listen"),
    ],
)
def test_a_public_port_in_use_is_one_line_too(role: str, option: str, tmp_path: Path) -> None:
    database = ["--database", str(tmp_path / "app.sqlite")] if option == "--app" else []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"

        ended = try_to_start(tmp_path, role, *options_of(role), option, place, *database)

    assert_refused(ended, option.strip("-"), place)


@pytest.mark.parametrize(("role", "option"), [("rtcombined", "--app"), ("rtlikes", "--listen")])
@pytest.mark.parametrize("place", ["nonsense:1", NOT_OURS, "unix:/nowhere/at/all"])
def test_an_app_that_cannot_listen_is_one_line_too(
    role: str, option: str, place: str, tmp_path: Path
) -> None:
    options = [*options_of(role), "--database", str(tmp_path / "app.sqlite")]

    ended = try_to_start(tmp_path, role, *options, option, place)

    assert_refused(ended, option.strip("-"), place)


@first_for_each_role("place", OPEN, "tcp:0", "tcp6:0:interface=\\:\\:")
def test_an_internal_listener_open_to_other_machines_needs_a_secret(
    role: str, place: str, tmp_path: Path
) -> None:
    ended = try_to_start(tmp_path, role, *options_of(role, place))

    assert_refused(ended, internal_of(role).strip("-"), "secret", "--insecure-internal")


@each_role
def test_insecure_internal_allows_it(role: str) -> None:
    with running(role, *options_of(role, OPEN), "--insecure-internal") as process:
        assert _status_without_secret(process) == 200
        # Other machines call it by a name.
        url, named = _internal_url(process) + "/metrics", {"Host": "dispatcher.example:8090"}
        assert HTTP.get(url, headers=named).status_code == 200


@each_role
def test_a_secret_allows_it_and_is_then_asked_for(role: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    with running(role, *options_of(role, OPEN), "--secret-file", str(secret)) as process:
        assert _status_without_secret(process) == 401
        answer = HTTP.get(
            _internal_url(process) + "/metrics", headers={"Authorization": f"Bearer {SECRET}"}
        )
        assert answer.status_code == 200
        assert SECRET not in process.output


def _internal_url(process: RoleProcess) -> str:
    key = internal_of(process.role).strip("-")
    return f"http://127.0.0.1:{urlsplit(process.url(key)).port}"


def _status_without_secret(process: RoleProcess) -> int:
    return HTTP.get(_internal_url(process) + "/metrics").status_code


@pytest.mark.parametrize("place", [OPEN, "unix:@"])
def test_a_frontend_that_cannot_know_its_own_url_says_so(place: str, tmp_path: Path) -> None:
    place = place.replace("@", str(tmp_path / "internal.sock"))

    ended = try_to_start(
        tmp_path,
        "rtfrontend",
        "--dispatcher", "http://127.0.0.1:9",
        "--public", LOOPBACK,
        "--internal", place,
        "--insecure-internal",
    )  # fmt: skip

    assert_refused(ended, "advertise")


# A database or videos that the app cannot use.


def key_options(folder: Path) -> list[str]:
    """Name a key, so that none is made."""
    path = folder / "key"
    path.write_text("k" * 64)
    return ["--token-key-file", str(path)]


def try_to_start_app(folder: Path, database: Path, *options: str) -> Ended:
    """Run the app, which is to end by itself."""
    named = likes_options([NOBODY], NOBODY, database)
    return try_to_start(folder, "rtlikes", *named, *options)


def in_no_folder(path: Path) -> Path:
    return path / "missing" / "app.sqlite"


def that_is_a_folder(path: Path) -> Path:
    (path / "folder").mkdir()
    return path / "folder"


def that_is_no_database(path: Path) -> Path:
    (path / "text").write_text("no database at all\n" * 100)
    return path / "text"


def of_a_newer_schema(path: Path) -> Path:
    with closing(sqlite3.connect(path / "newer.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")
    return path / "newer.sqlite"


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (in_no_folder, "unable to open"),
        (that_is_a_folder, "unable to open"),
        (that_is_no_database, "not a database"),
        (of_a_newer_schema, "version 99"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(
    make: Callable[[Path], Path], word: str, tmp_path: Path
) -> None:
    ended = try_to_start_app(tmp_path, make(tmp_path), *key_options(tmp_path))

    assert_refused(ended, "rtlikes", "database", word)


def test_a_database_in_a_folder_that_is_not_there_is_one_line_without_a_key_too(
    tmp_path: Path,
) -> None:
    assert_refused(try_to_start_app(tmp_path, in_no_folder(tmp_path)), str(tmp_path / "missing"))


def test_a_combined_role_is_refused_a_file_that_is_no_database_and_leaves_it_alone(
    tmp_path: Path,
) -> None:
    database = that_is_no_database(tmp_path)
    before = database.read_bytes()
    options = ["--app", LOOPBACK, "--database", str(database), *key_options(tmp_path)]

    ended = try_to_start(tmp_path, "rtcombined", *options_of("rtcombined"), *options)

    assert_refused(ended, "rtcombined", str(database))
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    ("videos", "word"),
    [
        ([], "at least one"),
        (["red", "red=Another"], "twice"),
        (["a.b=Odd"], "a.b"),
        (["=Nameless"], "=Nameless"),
        (["a b"], "a b"),
        (["a" * 65], "1 to 64"),
        (["red\nblue"], "red"),
    ],
    ids=["none", "twice", "dot", "nameless", "space", "long", "two lines"],
)
def test_wrong_videos_are_one_line(
    videos: list[str], word: str, tmp_path: Path, write_config: WriteConfig
) -> None:
    options = [*write_config({"likes.videos": videos}), *key_options(tmp_path)]

    ended = try_to_start_app(tmp_path, tmp_path / "app.sqlite", *options)

    assert_refused(ended, "videos", word)
    assert not (tmp_path / "app.sqlite").exists()


@pytest.mark.parametrize("make", [missing, folder, file_of(b""), file_of(b"short\n")])
def test_a_key_that_cannot_be_used_is_one_line_with_its_file(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    key = tmp_path / "key"
    make(key)

    ended = try_to_start_app(tmp_path, tmp_path / "app.sqlite", "--token-key-file", str(key))

    assert_refused(ended, "token_key_file", str(key))
    assert "short" not in ended.complaint


def test_an_app_whose_streams_no_browser_can_find_says_so(tmp_path: Path) -> None:
    ended = try_to_start(
        tmp_path,
        "rtcombined",
        "--public", f"unix:{tmp_path / 'public.sock'}",
        "--internal", LOOPBACK,
        "--app", LOOPBACK,
        "--database", str(tmp_path / "app.sqlite"),
        *key_options(tmp_path),
    )  # fmt: skip

    assert_refused(ended, "frontend")


# A good start.


@each_role
def test_one_line_tells_that_it_listens_and_where(role: str) -> None:
    with running(role, *options_of(role)) as process:
        keys = {
            "rtdispatcher": {"listen"},
            "rtlikes": {"internal", "listen"},
        }.get(role, {"internal", "public"})
        assert set(process.ports) == keys
        for key in keys:
            assert HTTP.get(process.url(key) + "/nothing").status_code == 404
        terminate(process)
        ready = [line for line in process.log if " listens: " in line]
        assert len(ready) == 1
        assert ready[0].endswith(
            f"{role} listens: "
            + ", ".join(f"{key} {place}" for key, place in process.ports.items())
        )


def test_an_app_beside_its_platform_tells_where_it_is_too(tmp_path: Path) -> None:
    with combined("--app", LOOPBACK, "--database", str(tmp_path / "app.sqlite")) as process:
        assert set(process.ports) == {"internal", "public", "app"}
        assert HTTP.get(process.url("app") + "/nothing").status_code == 404


@each_role
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_its_pid_file(
    role: str, number: signal.Signals, tmp_path: Path
) -> None:
    pid_file = tmp_path / "role.pid"
    process = subprocess.Popen(
        [TWISTD, "-n", f"--pidfile={pid_file}", role, *options_of(role)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any(" listens: " in line for line in process.stdout)
        assert pid_file.read_text() == str(process.pid)
        process.send_signal(number)
        log, complaints = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, -number)
    assert not pid_file.exists()
    assert "Traceback" not in log
    assert complaints == ""


def test_options_win_over_the_file(write_config: WriteConfig) -> None:
    config = write_config(
        {
            "node.name": "from-file",
            "listeners.internal": LOOPBACK,
            "listeners.public": LOOPBACK,
            "viewers.reconnect_seconds": 7,
        }
    )
    with running("rtcombined", *config, "--node", "from-option") as process, Viewers() as viewers:
        stream = viewers.connect(process.url("public"))

        assert stream.frames[0].fields["retry"] == "7000"
        assert stream.connection.startswith("from-option-")


# Listeners on UNIX sockets.


def test_an_internal_listener_can_be_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "internal.sock"
    with (
        running("rtcombined", "--public", LOOPBACK, "--internal", f"unix:{path}") as process,
        Viewers() as viewers,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)),
            base_url="http://rtdeliver",
            timeout=DEADLINE_SECONDS,
        ) as client,
    ):
        assert process.ports["internal"] == f"unix:{path}"
        assert client.get("/health/ready").status_code == 200
        stream = viewers.connect(process.url("public"), "live:red")

        answer = client.post("/publish", json={"topic": "live:red", "data": 1})

        assert answer.status_code == 202
        viewers.wait(lambda: len(stream.events) == 1, "the event came")
        assert "Traceback" not in process.output


def test_a_public_listener_can_be_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "public.sock"
    with running("rtcombined", "--public", f"unix:{path}", "--internal", LOOPBACK) as process:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE_SECONDS)
            sock.connect(str(path))
            sock.sendall(b"GET /connect?topic=live:red HTTP/1.0\r\nHost: a\r\n\r\n")
            received = b""
            while not received.endswith(b"\n\n"):
                received += sock.recv(65536)
            assert b"event: connected\n" in received
            answer = publish(process, {"topic": "live:red", "id": "e-1", "data": 1})
            assert answer.status_code == 202
            received = b""
            while not received.endswith(b"\n\n"):
                received += sock.recv(65536)
        assert received.startswith(b"id: e-1\ndata: {")
        assert "Traceback" not in process.output


def test_a_unix_socket_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    options = ("--public", LOOPBACK, "--internal", f"unix:{tmp_path / 'internal.sock'}")
    with running("rtcombined", *options) as killed:
        killed.signal(signal.SIGKILL)
        killed.wait()

        with running("rtcombined", *options) as process:
            assert process.is_running()


# The end.


def _drain(process: RoleProcess, viewers: Viewers, number: signal.Signals) -> None:
    streams = viewers.connect_many(DRAINED_STREAMS, process.url("public"), "live:red")
    with (
        httpx.Client(base_url=process.url("internal"), timeout=DEADLINE_SECONDS) as internal,
        httpx.Client(base_url=process.url("public"), timeout=DEADLINE_SECONDS) as public,
    ):
        assert internal.get("/health/ready").status_code == 200
        process.signal(number)
        eventually(
            lambda: internal.get("/health/ready").status_code == 503, "it is no longer ready"
        )
        assert internal.get("/health/ready").json()["missing"]
        assert internal.get("/health/live").status_code == 200
        answer = public.get("/connect?topic=live:red")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "event: busy\n" in answer.text
    # After the drain of 30 s, the next process is there.
    assert 500 <= int(answer.text.partition("retry: ")[2].split("\n")[0]) <= 32_000

    # Nothing but the signal is needed for it to end.
    assert process.wait() in (0, -number)
    viewers.wait(lambda: all(stream.ended for stream in streams), "all streams have ended")
    retries = []
    for stream in streams:
        assert stream.ended_cleanly
        assert [frame.event for frame in stream.frames] == ["connected", "busy"]
        retries.append(int(stream.frames[-1].fields["retry"]))
        assert isinstance(stream.frames[-1].data, dict)
    assert all(100 <= retry <= 1000 for retry in retries)
    # Random, so that not all come back at once.
    assert len(set(retries)) > DRAINED_STREAMS / 2
    assert "Traceback" not in process.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_combined_role_sends_its_viewers_away_before_it_ends(
    number: signal.Signals, write_config: WriteConfig
) -> None:
    with combined(*write_config({"process.drain_seconds": 30})) as process, Viewers() as viewers:
        _drain(process, viewers, number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_frontend_sends_its_viewers_away_and_leaves_the_routing_table(
    number: signal.Signals, write_config: WriteConfig
) -> None:
    # The lease outlasts the test, so it is not the lease's end that takes the frontend out.
    config = write_config({"process.drain_seconds": 30, "routing.lease_seconds": 600})
    with (
        dispatcher() as router,
        frontend(router.url("listen"), "n1", *config) as process,
        Viewers() as viewers,
    ):
        nodes_url = router.url("listen") + "/frontends"
        assert [node["node"] for node in HTTP.get(nodes_url).json()] == ["n1"]

        _drain(process, viewers, number)

        assert HTTP.get(nodes_url).json() == []
        topic = HTTP.get(router.url("listen") + "/topics?topic=live:red").json()
        assert topic == {"topic": "live:red", "viewers": 0, "frontends": []}


def test_a_frontend_ends_where_no_dispatcher_answers() -> None:
    with running("rtfrontend", *options_of("rtfrontend")) as process, Viewers() as viewers:
        stream = viewers.connect(process.url("public"), "live:red")

        assert terminate(process) in (0, -signal.SIGTERM)

        viewers.wait(lambda: stream.ended, "the stream has ended")
        assert stream.frames[-1].event == "busy"
        assert "Traceback" not in process.output


def test_a_dispatcher_delivers_what_it_has_accepted_before_it_ends(
    write_config: WriteConfig,
) -> None:
    patient = write_config({"process.drain_seconds": 30, "http.request_seconds": DEADLINE_SECONDS})
    with (
        dispatcher(*patient) as router,
        frontend(router.url("listen"), "n1") as process,
        Viewers() as viewers,
    ):
        stream = viewers.connect(process.url("public"), "live:red")
        body = b"\n".join(b'{"topic":"live:red","data":%d}' % n for n in range(1000))
        # It takes nothing while it is paused, so all is still to be delivered when the end is near.
        process.signal(signal.SIGSTOP)
        for _ in range(3):
            assert publish_lines(router, body, "listen").status_code == 202
        router.signal(signal.SIGTERM)
        eventually(lambda: "rtdispatcher drains" in router.output, "it drains")
        process.signal(signal.SIGCONT)

        assert router.wait() in (0, -signal.SIGTERM)

        viewers.wait(lambda: len(stream.frames) > 3000, "all events came")
        assert [event["data"] for event in stream.events] == list(range(1000)) * 3
        assert "Traceback" not in router.output


def test_an_app_answers_what_it_has_taken_before_it_ends(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    config = write_config({"likes.publish_seconds": DEADLINE_SECONDS, "process.drain_seconds": 60})
    answers = []

    def like(url: str) -> None:
        answers.append(HTTP.post(f"{url}/videos/red/likes", json={}))

    with (
        dispatcher() as router,
        likes([router.url("listen")], NOBODY, tmp_path / "app.sqlite", *config) as process,
        closing(sqlite3.connect(tmp_path / "app.sqlite")) as database,
    ):
        router.signal(signal.SIGSTOP)
        thread = threading.Thread(target=like, args=(process.url("listen"),))
        thread.start()
        stored = "SELECT 1 FROM likes"
        eventually(lambda: database.execute(stored).fetchone() is not None, "it is stored")
        process.signal(signal.SIGTERM)
        eventually(lambda: "rtlikes drains" in process.output, "it drains")
        router.signal(signal.SIGCONT)

        assert process.wait() in (0, -signal.SIGTERM)

        thread.join(DEADLINE_SECONDS)
        [answer] = answers
        assert (answer.status_code, answer.json()["delivery"]) == (201, "accepted")
        assert "Traceback" not in process.output


def test_an_app_ends_where_no_dispatcher_answers() -> None:
    with running("rtlikes", *options_of("rtlikes")) as process:
        answer = HTTP.post(process.url("listen") + "/videos/red/likes", json={})
        assert (answer.status_code, answer.json()["delivery"]) == (201, "failed")

        assert terminate(process) in (0, -signal.SIGTERM)

        assert "rtlikes has ended" in process.output
        assert "Traceback" not in process.output


@each_role
def test_two_signals_at_a_time_are_one(role: str) -> None:
    with running(role, *options_of(role)) as process:
        process.signal(signal.SIGINT)
        process.signal(signal.SIGTERM)

        assert process.wait() in (0, -signal.SIGINT, -signal.SIGTERM)

        assert f"{role} has ended" in process.output
        assert "Traceback" not in process.output


def test_a_second_signal_ends_it_at_once(write_config: WriteConfig) -> None:
    with combined(*write_config({"process.drain_seconds": 60})) as process, Viewers() as viewers:
        streams = viewers.connect_many(300, process.url("public"))
        process.signal(signal.SIGTERM)
        viewers.wait(lambda: any(stream.control("busy") for stream in streams), "it drains")

        assert insist(process) == -signal.SIGTERM

        viewers.wait(lambda: all(stream.ended for stream in streams), "all streams have ended")
        assert not all(stream.control("busy") for stream in streams)
