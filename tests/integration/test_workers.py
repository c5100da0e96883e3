"""Several processes of a role on one port: what comes is shared, and each can be lost."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from rtdeliver.bench.machine import children
from rtdeliver.process.worker import VARIABLE
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    LOOPBACK,
    ROOT,
    TWISTD,
    RoleProcess,
    dispatcher,
    eventually,
    fixed_port,
    frontend,
    insist,
    is_running,
    publish,
    running,
    terminate,
)
from tests.integration.streams import Stream, Viewers

WORKERS = 4
NODES = [f"n1-w{number}" for number in range(WORKERS)]
TOPIC = "live:red"


class Crew:
    """The workers of a role."""

    def __init__(self, parent: RoleProcess) -> None:
        self.parent = parent

    def pids(self) -> dict[int, int]:
        """The process of each worker that runs, by its number."""
        found = {}
        for pid in children(self.parent.pid):
            with suppress(FileNotFoundError, ProcessLookupError, KeyError):
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                variables = dict(entry.split(b"=", 1) for entry in environment if entry)
                found[json.loads(variables[VARIABLE.encode()])["number"]] = pid
        return found

    def starts(self, number: int) -> list[dict[str, str]]:
        """Where a worker listened each time that it got ready, by key."""
        ready = f" worker {number} listens: "
        places = [line.partition(ready)[2] for line in list(self.parent.log) if ready in line]
        return [dict(place.split(" ", 1) for place in text.split(", ")) for text in places]

    def url(self, number: int, key: str = "internal") -> str:
        """The URL of a worker's own listener."""
        return f"http://{self.starts(number)[-1][key]}"

    def kill(self, number: int) -> None:
        os.kill(self.pids()[number], signal.SIGKILL)

    def wait_started(self, number: int, times: int) -> None:
        eventually(lambda: len(self.starts(number)) >= times, f"worker {number} is ready again")


def worker_of(stream: Stream) -> int:
    """The number of the worker that holds a stream."""
    found = re.fullmatch(r"n1-w(\d+)-.*", stream.connection)
    assert found is not None, stream.connection
    return int(found[1])


@contextmanager
def running_frontends(router: RoleProcess, *options: str) -> Iterator[Crew]:
    """Run the workers of a frontend ``n1``, and wait until the dispatcher knows them all."""
    with running(
        "rtfrontend",
        "--dispatcher", router.url("listen"),
        "--node", "n1",
        "--public", LOOPBACK,
        "--internal", LOOPBACK,
        "--workers", str(WORKERS),
        *options,
    ) as parent:  # fmt: skip
        crew = Crew(parent)
        wait_known(router)
        pids = crew.pids().values()
        yield crew
    eventually(lambda: not any(map(is_running, pids)), "all workers have ended")
    assert "Traceback" not in parent.output


def wait_known(router: RoleProcess) -> None:
    def known() -> bool:
        return [node["node"] for node in listed(router)] == NODES

    eventually(known, "the dispatcher knows all workers")


def listed(router: RoleProcess) -> list[dict[str, str]]:
    nodes: list[dict[str, str]] = HTTP.get(router.url("listen") + "/frontends").json()
    return nodes


@pytest.fixture(scope="module")
def router() -> Iterator[RoleProcess]:
    with dispatcher() as process:
        yield process


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


def one_for_each(crew: Crew, viewers: Viewers, *topics: str) -> list[Stream]:
    """Connect until every worker has a viewer; return one of each, in their order."""
    found: dict[int, Stream] = {}

    def connect() -> bool:
        for stream in viewers.connect_many(WORKERS, crew.parent.url("public"), *topics):
            found.setdefault(worker_of(stream), stream)
        return len(found) == WORKERS

    eventually(connect, "each worker has a viewer")
    return [found[number] for number in range(WORKERS)]


def numbers(stream: Stream) -> list[int]:
    return [event["data"] for event in stream.events]


def publish_number(router: RoleProcess, number: int) -> None:
    answer = publish(router, {"topic": TOPIC, "data": number}, "listen")
    assert answer.status_code == 202


# All of them at work.


@pytest.mark.parametrize("at_once", [100, 1])
def test_what_connects_to_the_one_port_comes_to_all_workers(
    router: RoleProcess, viewers: Viewers, at_once: int
) -> None:
    with running_frontends(router) as crew:
        streams: list[Stream] = []

        def all_have_some() -> bool:
            streams.extend(viewers.connect_many(at_once, crew.parent.url("public"), TOPIC))
            return set(map(worker_of, streams)) == set(range(WORKERS))

        eventually(all_have_some, "each worker has a viewer")
        publish_number(router, 1)
        viewers.wait(lambda: all(stream.events for stream in streams), "the event came to all")
        assert all(numbers(stream) == [1] for stream in streams)


def test_who_connects_while_some_workers_hang_comes_to_one_that_does_not(
    router: RoleProcess, viewers: Viewers
) -> None:
    with running_frontends(router) as crew:
        pids = crew.pids()
        for awake in range(WORKERS):
            hanging = [pid for number, pid in pids.items() if number != awake]
            try:
                for pid in hanging:
                    os.kill(pid, signal.SIGSTOP)
                streams = viewers.connect_many(10, crew.parent.url("public"), TOPIC)
            finally:
                for pid in hanging:
                    os.kill(pid, signal.SIGCONT)
            assert set(map(worker_of, streams)) == {awake}


def test_each_worker_is_a_node_that_listens_for_itself(
    router: RoleProcess, viewers: Viewers
) -> None:
    with running_frontends(router) as crew:
        streams = one_for_each(crew, viewers, TOPIC)
        assert crew.parent.ports["workers"] == str(WORKERS)
        assert {node["url"] for node in listed(router)} == {
            crew.url(number) for number in range(WORKERS)
        }
        for number, stream in enumerate(streams):
            assert crew.starts(number)[0]["public"] == crew.parent.ports["public"]
            metrics = HTTP.get(crew.url(number) + "/metrics").text
            assert "rtdeliver_connections 0" not in metrics
            assert HTTP.get(crew.url(number) + "/health/ready").status_code == 200
            answer = HTTP.get(f"{crew.parent.url('public')}/connections/{stream.connection}/topics")
            assert answer.json()["topics"] == [TOPIC]


def test_topics_are_changed_through_whichever_worker_is_asked(
    router: RoleProcess, viewers: Viewers
) -> None:
    with running_frontends(router) as crew:
        streams = one_for_each(crew, viewers)
        for stream in streams:
            for _ in range(10):
                answer = stream.subscribe(add=["live:any"])
                assert answer.status_code == 200, answer.text
        publish(router, {"topic": "live:any", "data": 1}, "listen")
        viewers.wait(lambda: all(stream.events for stream in streams), "all received it")


def test_internal_ports_follow_the_first_one(router: RoleProcess) -> None:
    port = fixed_port(WORKERS)
    options = ["--internal", f"tcp:{port}:interface=127.0.0.1"]
    options += ["--advertise", f"http://localhost:{port}"]
    with running_frontends(router, *options) as crew:
        for number in range(WORKERS):
            assert crew.url(number) == f"http://127.0.0.1:{port + number}"
        urls = [f"http://localhost:{port + number}" for number in range(WORKERS)]
        eventually(
            lambda: [node["url"] for node in listed(router)] == urls,
            "the dispatcher knows their addresses",
        )


def test_the_public_listener_can_be_a_unix_socket(router: RoleProcess, tmp_path: Path) -> None:
    path = tmp_path / "public.sock"
    with running_frontends(router, "--public", f"unix:{path}:mode=600") as crew:
        client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), timeout=DEADLINE_SECONDS
        )
        assert client.get("http://n1/nothing").status_code == 404

        os.kill(crew.pids()[0], signal.SIGTERM)
        crew.wait_started(0, times=2)

        assert oct(path.stat().st_mode)[-3:] == "600"
        assert client.get("http://n1/nothing").status_code == 404
        terminate(crew.parent)
        assert not path.exists()


# One of them lost.


def test_a_killed_worker_is_missed_by_its_own_viewers_only(
    router: RoleProcess, viewers: Viewers, write_config: WriteConfig
) -> None:
    # Long enough for some to connect while it is away.
    slow = write_config({"worker_restart.min_seconds": 1})
    with running_frontends(router, *slow) as crew:
        url = crew.parent.url("public")
        streams = one_for_each(crew, viewers, TOPIC)
        before = {node["node"]: node["incarnation"] for node in listed(router)}

        crew.kill(1)
        viewers.wait(lambda: streams[1].ended, "its viewer has lost it")
        late = []
        while len(crew.starts(1)) < 2:
            late.append(viewers.connect(url, TOPIC))
            publish_number(router, len(late))

        # Those who connected after it was back may be its.
        others = [stream for stream in late if worker_of(stream) != 1]
        assert others
        published = list(range(1, len(late) + 1))
        survivors = [stream for stream in streams if stream is not streams[1]]
        viewers.wait(
            lambda: all(len(numbers(stream)) >= len(late) for stream in survivors), "all came"
        )
        assert all(numbers(stream) == published for stream in survivors)

        wait_known(router)

        def replaced() -> bool:
            after = {node["node"]: node["incarnation"] for node in listed(router)}
            return [node for node in NODES if after[node] != before[node]] == ["n1-w1"]

        eventually(replaced, "it is known as another process of the same node")
        publish_number(router, 0)
        again = one_for_each(crew, viewers, TOPIC)[1]
        publish_number(router, -1)
        viewers.wait(lambda: -1 in numbers(again), "its new viewer is sent to")


def test_a_worker_that_is_told_to_end_leaves_new_viewers_to_the_others(
    router: RoleProcess, viewers: Viewers, write_config: WriteConfig
) -> None:
    with running_frontends(router, *write_config({"process.drain_seconds": 20})) as crew:
        url = crew.parent.url("public")
        streams = one_for_each(crew, viewers, TOPIC)

        os.kill(crew.pids()[2], signal.SIGTERM)
        viewers.wait(lambda: streams[2].ended, "its streams have ended")
        assert streams[2].ended_cleanly
        assert streams[2].control("busy")
        late = viewers.connect_many(20, url, TOPIC)
        assert not any(stream.control("busy") for stream in late)
        crew.wait_started(2, times=2)
        assert not any(stream.ended for stream in streams if stream is not streams[2])
        one_for_each(crew, viewers)


def test_one_that_cannot_start_does_not_keep_the_others_from_it(
    router: RoleProcess, viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config({"worker_restart.max_seconds": 0.5})
    port = fixed_port(2)
    with socket.socket() as taken, ExitStack() as stack:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port + 1))
        taken.listen()
        parent = RoleProcess(
            "rtfrontend",
            "--dispatcher", router.url("listen"),
            "--node", "n1",
            "--public", LOOPBACK,
            "--internal", f"tcp:{port}:interface=127.0.0.1",
            "--workers", "2",
            *config,
        )  # fmt: skip
        stack.callback(parent.stop)
        crew = Crew(parent)
        crew.wait_started(0, times=1)
        eventually(lambda: parent.output.count("Address already in use") >= 2, "it tries again")
        stream = viewers.connect(f"http://{crew.starts(0)[0]['public']}", TOPIC)
        assert worker_of(stream) == 0
        assert not parent.ports

        taken.close()
        parent.wait_ready()
        assert terminate(parent) in (0, -signal.SIGTERM)


# The end.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_streams_are_sent_away_when_the_parent_is_told_to_end(
    router: RoleProcess, viewers: Viewers, write_config: WriteConfig, number: signal.Signals
) -> None:
    with running_frontends(router, *write_config({"process.drain_seconds": 20})) as crew:
        pids = crew.pids().values()
        # So many that they take some seconds to end.
        streams = viewers.connect_many(400, crew.parent.url("public"), TOPIC)
        streams += one_for_each(crew, viewers)

        crew.parent.signal(number)
        eventually(
            lambda: crew.parent.output.count("rtfrontend drains") == 1 + WORKERS,
            "the parent and all workers drain",
        )
        # A browser is told to come back, and not refused.
        late = viewers.connect(crew.parent.url("public"), TOPIC)
        assert [frame.event for frame in late.frames] == ["busy"]

        assert crew.parent.wait() in (0, -number)
        assert not any(map(is_running, pids))
        viewers.wait(lambda: all(stream.ended for stream in streams), "all streams have ended")
        for stream in streams:
            assert stream.ended_cleanly
            assert stream.frames[-1].event == "busy"
        assert listed(router) == []


def test_a_signal_to_every_process_of_the_service_is_as_good_as_one_to_the_parent(
    router: RoleProcess, viewers: Viewers
) -> None:
    with running_frontends(router) as crew:
        streams = one_for_each(crew, viewers)

        for pid in crew.pids().values():
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        assert terminate(crew.parent) in (0, -signal.SIGTERM)

        viewers.wait(lambda: all(stream.ended for stream in streams), "all streams have ended")
        assert all(stream.control("busy") for stream in streams)


def test_a_second_signal_ends_all_at_once(
    router: RoleProcess, viewers: Viewers, write_config: WriteConfig
) -> None:
    with running_frontends(router, *write_config({"process.drain_seconds": 60})) as crew:
        streams = viewers.connect_many(400, crew.parent.url("public"))
        crew.parent.signal(signal.SIGTERM)
        viewers.wait(lambda: any(stream.control("busy") for stream in streams), "it drains")

        assert insist(crew.parent) == -signal.SIGTERM

        viewers.wait(lambda: all(stream.ended for stream in streams), "all streams have ended")
        assert not all(stream.control("busy") for stream in streams)


def test_a_worker_that_does_not_end_is_killed(
    router: RoleProcess, write_config: WriteConfig
) -> None:
    impatient = write_config({"process.drain_seconds": 0.1, "workers.grace_seconds": 1})
    with running_frontends(router, *impatient) as crew:
        hung = crew.pids()[3]
        os.kill(hung, signal.SIGSTOP)

        assert terminate(crew.parent) in (0, -signal.SIGTERM)

        assert not is_running(hung)
        assert "worker 3 did not end in time" in crew.parent.output


def test_workers_whose_parent_was_killed_send_their_viewers_away_and_end(
    router: RoleProcess, viewers: Viewers, write_config: WriteConfig
) -> None:
    with running_frontends(router, *write_config({"process.drain_seconds": 20})) as crew:
        pids = crew.pids().values()
        streams = one_for_each(crew, viewers)

        crew.parent.signal(signal.SIGKILL)

        eventually(lambda: not any(map(is_running, pids)), "all workers have ended")
        viewers.wait(lambda: all(stream.ended for stream in streams), "all streams have ended")
        assert all(stream.control("busy") for stream in streams)


# No good start.


def complaint(folder: Path, role: str, *options: str, env: dict[str, str] | None = None) -> str:
    """Run a role that is to end by itself with one line; return this."""
    ended = subprocess.run(
        [TWISTD, "-n", "--pidfile=role.pid", role, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert ended.returncode == 1, ended
    assert "Traceback" not in ended.stdout + ended.stderr
    assert os.listdir(folder) == []
    [line] = ended.stderr.splitlines()
    return line


def frontend_options(**changed: str) -> list[str]:
    options = {
        "dispatcher": "http://127.0.0.1:9",
        "public": LOOPBACK,
        "internal": LOOPBACK,
        "workers": "3",
        **changed,
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def test_where_no_worker_can_start_the_parent_ends_with_one_line(tmp_path: Path) -> None:
    options = frontend_options(internal=f"unix:{tmp_path}/no/such/folder", advertise="http://a:1")
    (tmp_path / "run").mkdir()
    line = complaint(tmp_path / "run", "rtfrontend", *options)
    assert line.startswith("rtfrontend: no worker can start: internal: cannot listen on unix:")


def test_a_public_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        line = complaint(tmp_path, "rtfrontend", *frontend_options(public=place))
    assert line == f"rtfrontend: public: cannot listen on {place}: Address already in use"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"workers": "0"}, "workers.count: expected `int` >= 1"),
        ({"workers": "many"}, "workers: many is not a whole number"),
        (
            {"advertise": "http://example.com"},
            "node.advertise: with workers, http://example.com must have a port",
        ),
        ({"node": "n" * 62}, "node.name, with the number of a worker: "),
        ({"dispatcher": "somewhere"}, "node.dispatchers: somewhere"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_line(changed: dict[str, str], words: str, tmp_path: Path) -> None:
    assert words in complaint(tmp_path, "rtfrontend", *frontend_options(**changed))


def test_several_dispatchers_need_redis(tmp_path: Path) -> None:
    line = complaint(tmp_path, "rtdispatcher", "--listen", LOOPBACK, "--workers", "2")
    assert line.startswith("workers.count: ")
    assert "--redis" in line


def test_what_only_a_parent_may_say_is_refused_from_anyone_else(tmp_path: Path) -> None:
    for text in ("", "3", '{"parent":1,"number":0,"node":"a","sockets":{},"reports":2,"orders":0}'):
        line = complaint(tmp_path, "rtfrontend", *frontend_options(), env={VARIABLE: text})
        assert line.startswith(VARIABLE)


# Dispatchers.


def test_dispatchers_share_one_port_and_one_table(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config({"workers.listen": LOOPBACK})
    with (
        RedisServer() as redis,
        dispatcher("--redis", redis.url, "--workers", "2", *config) as router,
        frontend(router.url("listen"), "n1") as node,
    ):
        crew = Crew(router)
        stream = viewers.connect(node.url("public"), TOPIC)

        def published(number: int) -> float:
            metrics = HTTP.get(crew.url(number, "workers.listen") + "/metrics").text
            [value] = re.findall(r"^rtdeliver_published_total (\S+)$", metrics, re.MULTILINE)
            return float(value)

        for number in range(40):
            publish_number(router, number)
        viewers.wait(lambda: len(stream.events) == 40, "all events came")
        assert published(0) + published(1) == 40
        assert published(0)
        assert published(1)

        crew.kill(0)
        eventually(lambda: 0 not in crew.pids(), "it is gone")
        publish_number(router, 40)
        crew.wait_started(0, times=2)
        for number in range(41, 60):
            publish_number(router, number)
        viewers.wait(lambda: len(stream.events) == 60, "all further events came")
        assert sorted(numbers(stream)) == list(range(60))
        assert terminate(router) in (0, -signal.SIGTERM)
    assert "Traceback" not in router.output
