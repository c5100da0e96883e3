"""Roles whose wall clock is set back while they run: only what is told as a time of day changes."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

from tests.integration.clusters import Producer, numbers
from tests.integration.conftest import WriteConfig
from tests.integration.roles import (
    LOOPBACK,
    ROOT,
    RoleProcess,
    eventually,
    metrics,
    publish,
)
from tests.integration.streams import Stream, Viewers
from tests.integration.test_members import KEY, token

HOUR = 3600
SETTINGS: dict[str, object] = {
    "access.public_topics": ["*"],
    "routing.announce_seconds": 0.5,
    "routing.lease_seconds": 3,
    "deliveries.sweep_seconds": 0.5,
    "viewers.heartbeat_seconds": 1,
    "process.tick_seconds": 0.25,
    "presence.heartbeat_seconds": 0.5,
    "presence.grace_seconds": 1.25,
    "presence.sweep_seconds": 0.3,
    # Long enough to set a clock in between.
    "worker_restart.min_seconds": 4,
    "worker_restart.max_seconds": 4,
}
# Their steps take longer than a lease and than a member may be silent.
EVENTS = 400
HEARTBEATS = 4

# Python runs this file before anything else.
SITECUSTOMIZE = """
import os, time

system = time.time

def wall():
    with open(os.environ["WALL_CLOCK_OFFSET_FILE"]) as file:
        return system() + float(file.read())

time.time = wall
"""


class WallClock:
    """The wall clock of some processes: the system's, set forth or back.

    :ivar prefix: words before the command of a process that has this clock.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
        self._file = folder / "offset_seconds"
        self._offset_seconds = 0.0
        self.set(0)
        path = os.pathsep.join([str(folder), str(ROOT)])
        self.prefix = ("env", f"PYTHONPATH={path}", f"WALL_CLOCK_OFFSET_FILE={self._file}")

    def set(self, offset_seconds: float) -> None:
        """Set it, by its difference to the system's clock."""
        draft = self._file.with_suffix(".new")
        draft.write_text(str(offset_seconds))
        draft.rename(self._file)
        self._offset_seconds = offset_seconds

    def seconds(self) -> float:
        return time.time() + self._offset_seconds


class House:
    """A dispatcher and a frontend, each with a wall clock of its own, and their viewers.

    :ivar watcher: an anonymous viewer of ``live:red`` and of the presence of ann.
    """

    def __init__(
        self,
        dispatcher: RoleProcess,
        frontend: RoleProcess,
        dispatcher_wall: WallClock,
        frontend_wall: WallClock,
        viewers: Viewers,
    ) -> None:
        self.dispatcher = dispatcher
        self.frontend = frontend
        self.dispatcher_wall = dispatcher_wall
        self.frontend_wall = frontend_wall
        self.viewers = viewers
        self.watcher = viewers.connect(frontend.url("public"), "live:red", "presence:ann")

    def connect(self, member: str) -> Stream:
        """Open the stream of a member."""
        return self.viewers.connect(self.frontend.url("public"), query={"token": token(member)})

    def ann_is(self, *statuses: str) -> None:
        """Wait until the watcher was told so of ann."""
        events = self.watcher.events
        self.viewers.wait(lambda: self._told() == list(statuses), f"ann is {statuses}: {events}")

    def publish(self) -> tuple[dict[str, object], httpx.Response]:
        """Publish an event; return it as the watcher was sent it, and the dispatcher's answer."""
        before = len(self._red())
        answer = publish(self.dispatcher, {"topic": "live:red", "data": "x"}, "listen")
        self.viewers.wait(lambda: len(self._red()) > before, "the event came")
        return self._red()[before], answer

    def _red(self) -> list[dict[str, object]]:
        return [event for event in self.watcher.events if event["topic"] == "live:red"]

    def _told(self) -> list[str]:
        events = [event for event in self.watcher.events if event["topic"] == "presence:ann"]
        return [event["data"]["status"] for event in events]


@pytest.fixture
def house(tmp_path: Path, write_config: WriteConfig) -> Iterator[House]:
    key = tmp_path / "key"
    key.write_text(KEY)
    options = [*write_config(SETTINGS), "--token-key-file", str(key)]
    walls = [WallClock(tmp_path / name) for name in ("dispatcher", "frontend")]
    with (
        running(walls[0], "rtdispatcher", "--listen", LOOPBACK, *write_config(SETTINGS)) as hub,
        running(walls[1], "rtfrontend", *near(hub), *options) as node,
        Viewers() as viewers,
    ):
        wait_ready(node)
        yield House(hub, node, walls[0], walls[1], viewers)
        for role in (hub, node):
            assert "Traceback" not in role.output, role.output


@contextmanager
def running(wall: WallClock, role: str, *options: str) -> Iterator[RoleProcess]:
    process = RoleProcess(role, *options, prefix=wall.prefix)
    try:
        yield process.wait_ready()
    finally:
        process.stop()


def near(hub: RoleProcess) -> list[str]:
    """The options of a frontend of this dispatcher."""
    listeners = ["--public", LOOPBACK, "--internal", LOOPBACK]
    return ["--node", "n1", "--dispatcher", hub.url("listen"), *listeners]


def wait_ready(node: RoleProcess) -> None:
    url = node.url("internal") + "/health/ready"
    eventually(lambda: httpx.get(url).status_code == 200, "the frontend is ready")


def place(id: object) -> tuple[int, int]:
    """The first two parts of a made id, by which ids sort."""
    milliseconds, sequence, _ = str(id).split("-")
    return int(milliseconds), int(sequence)


@pytest.mark.parametrize(
    ("offset_seconds", "everywhere"),
    [(-20, False), (-HOUR, True), (HOUR, True)],
    ids=["20 s back at the frontend", "an hour back everywhere", "an hour forth everywhere"],
)
def test_streams_leases_and_presence_go_on(
    house: House, offset_seconds: float, everywhere: bool
) -> None:
    watcher = house.watcher
    ann = house.connect("ann")
    house.ann_is("online")
    with Producer("live:red", [house.dispatcher.url("listen")]) as producer:
        producer.wait_further(10)
        house.frontend_wall.set(offset_seconds)
        if everywhere:
            house.dispatcher_wall.set(offset_seconds)
        goal = ann.comments + HEARTBEATS
        producer.wait_further(EVENTS)
        house.viewers.wait(lambda: ann.comments >= goal, "heartbeats go on")
        producer.stop()
        house.viewers.wait(
            lambda: len(numbers(watcher.frames, "live:red")) == producer.accepted,
            "every event is received",
        )
    assert numbers(watcher.frames, "live:red") == list(range(1, producer.accepted + 1))
    assert watcher.control("gap") == []
    house.ann_is("online")
    house.viewers.close(ann)
    house.ann_is("online", "offline")
    dropped = [
        value
        for role, listener in ((house.dispatcher, "listen"), (house.frontend, "internal"))
        for name, value in metrics(role, listener).items()
        if name.startswith("rtdeliver_dropped_total")
    ]
    assert set(dropped) == {0}


def test_what_is_told_as_a_time_of_day_follows_the_wall_clock(house: House) -> None:
    wall = house.dispatcher_wall
    ids = []
    for offset_seconds in (0, -HOUR, HOUR):
        wall.set(offset_seconds)
        begin = wall.seconds()
        event, answer = house.publish()
        end = wall.seconds()
        at, told = event["at"], parsedate_to_datetime(answer.headers["Date"]).timestamp()
        assert isinstance(at, int)
        assert int(begin * 1000) - 1 <= at <= end * 1000 + 1
        assert int(begin) <= told <= end
        ids.append(place(event["id"]))
    assert sorted(set(ids)) == ids


def test_a_token_is_checked_by_the_wall_clock(house: House) -> None:
    url = house.frontend.url("public") + "/connect"
    expired = {"token": token(seconds=-60)}
    assert httpx.get(url, params=expired).status_code == 401
    house.frontend_wall.set(-HOUR)
    stream = house.viewers.connect(house.frontend.url("public"), query=expired)
    assert stream.connection


def test_a_killed_worker_is_started_again_in_time(
    house: House, tmp_path: Path, write_config: WriteConfig
) -> None:
    wall = WallClock(tmp_path / "parent")
    options = [*near(house.dispatcher)[2:], "--node", "m", "--workers", "2"]
    with running(wall, "rtfrontend", *options, *write_config(SETTINGS)) as parent:
        eventually(lambda: len(parent.pids) == 2, "both run")
        killed = parent.pids[0]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: "it is started again in" in parent.output, "its end is noticed")
        wall.set(-HOUR)
        eventually(
            lambda: len(parent.pids) == 2 and killed not in parent.pids, "another one is started"
        )
