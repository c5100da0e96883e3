"""The processes of a datacenter, joined by links that can fail, and what faults do to them."""

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

import httpx

from tests.campaign.faults import Fault
from tests.campaign.history import Drops, Kill
from tests.campaign.network import Mode, Network
from tests.integration.clusters import QUICK, dropped
from tests.integration.redis_server import RedisServer
from tests.integration.roles import HTTP, RoleProcess, config_options, eventually, fixed_port

_MODES = {"cut": Mode.CUT, "stall": Mode.STALL, "slow": Mode.SLOW}
_HEALTH_SECONDS = 5.0


class Happened(NamedTuple):
    """When a fault began and ended, in seconds of time.monotonic()."""

    fault: Fault
    began: float
    ended: float


class Place:
    """Where a role runs: one process after the other, with the same options.

    :param role: ``dispatcher`` or ``frontend``.
    :param number: its number among those of its role.
    """

    def __init__(self, role: str, number: int, *options: str) -> None:
        self.name = f"{'d' if role == 'dispatcher' else 'n'}{number}"
        self.role = role
        self.number = number
        self.lives: list[RoleProcess] = []
        self._listener = "listen" if role == "dispatcher" else "internal"
        self._command = (f"rt{role}", *options)

    @property
    def process(self) -> RoleProcess:
        """The newest process."""
        return self.lives[-1]

    def start(self) -> None:
        self.lives.append(RoleProcess(*self._command))

    def is_ready(self) -> bool:
        """Whether it says that it is ready; it must not have ended."""
        assert self.process.is_running(), self.process.output
        if not self.process.ports:
            return False
        url = self.process.url(self._listener) + "/health/ready"
        try:
            return HTTP.get(url, timeout=_HEALTH_SECONDS).status_code == 200
        except httpx.TransportError:
            return False

    def dropped(self) -> dict[str, int]:
        """What the newest process has dropped, by reason."""
        return dropped(self.process, self._listener, self.role)

    def failures(self) -> list[str]:
        """What the processes printed of internal errors, and whether the last one has ended."""
        found = [
            f"{self.name} printed: {process.output[process.output.index(word) :][:2000]}"
            for process in self.lives
            for word in ("Traceback", "Unhandled")
            if word in process.output
        ]
        return found if self.process.is_running() else [*found, f"{self.name} has ended"]


class Datacenter:
    """One Redis, dispatchers and frontends, each connection between them through a link.

    A context manager; it is left by the thread that entered it, since the processes end with the
    thread that started them. Faults are ended by the same thread.

    :ivar redis: the server, without a link between.
    :ivar places: where each dispatcher (d0, ...) and each frontend (n0, ...) runs, by name.
    :ivar kills: the processes that were killed.
    :ivar happened: the faults that are over.
    """

    def __init__(self, *, dispatchers: int, frontends: int) -> None:
        self.kills: list[Kill] = []
        self.happened: list[Happened] = []
        self._stack = ExitStack()
        self._began: dict[Fault, float] = {}
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        self._redis_folder = Path(folder) / "redis"
        self._redis_folder.mkdir()
        self._config = config_options(QUICK, Path(folder) / "config.toml")
        # What it has answered survives its process: it writes before it answers, which it does not
        # always do where it also syncs.
        self.redis = RedisServer(
            *("--appendonly", "yes", "--appendfsync", "no"), *("--dir", str(self._redis_folder))
        )
        self._network = Network()
        self._dispatcher_ports = [fixed_port() for _ in range(dispatchers)]
        self._public_ports = [fixed_port() for _ in range(frontends)]
        self.places: dict[str, Place] = {}

    @property
    def publish_urls(self) -> list[str]:
        """Where producers publish, without a link between."""
        return [f"http://127.0.0.1:{port}" for port in self._dispatcher_ports]

    @property
    def public_urls(self) -> list[str]:
        """Where viewers connect, without a link between."""
        return [f"http://127.0.0.1:{port}" for port in self._public_ports]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.push(self._stack)
            stack.enter_context(self.redis)
            stack.enter_context(self._network)
            for number, port in enumerate(self._dispatcher_ports):
                self._add_dispatcher(number, port)
            for number, port in enumerate(self._public_ports):
                self._add_frontend(number, port)
            for place in self.places.values():
                stack.callback(lambda place=place: place.process.stop())  # type: ignore[misc]
                place.start()
            self.wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wait_ready(self) -> None:
        """Wait until all places are ready."""
        for place in self.places.values():
            eventually(place.is_ready, f"{place.name} is ready")

    def begin(self, fault: Fault) -> None:
        """Let a fault happen."""
        self._began[fault] = time.monotonic()
        match fault.action:
            case "kill":
                self.places[fault.place].process.signal(signal.SIGKILL)
            case "pause" if fault.place == "redis":
                self.redis.pause()
            case "pause":
                self.places[fault.place].process.signal(signal.SIGSTOP)
            case "restart" | "restart-empty":
                self.redis.kill()
            case "kill-channels":
                self.redis.client.client_kill_filter(_type="pubsub")
            case _:
                self._network.become(fault.place, _MODES[fault.action])

    def end(self, fault: Fault) -> None:
        """Let a fault be over."""
        match fault.action:
            case "kill":
                self._restart(fault.place, self._began[fault])
            case "pause" if fault.place == "redis":
                self.redis.resume()
            case "pause":
                self.places[fault.place].process.signal(signal.SIGCONT)
            case "restart":
                self.redis.start()
            case "restart-empty":
                shutil.rmtree(self._redis_folder)
                self._redis_folder.mkdir()
                self.redis.start()
            case "kill-channels":
                pass
            case _:
                self._network.become(fault.place, Mode.PASS)
        self.happened.append(Happened(fault, self._began.pop(fault), time.monotonic()))

    def drops(self) -> Drops:
        """What the running processes have dropped."""
        drops = Drops()
        for place in self.places.values():
            sums = drops.dispatchers if place.role == "dispatcher" else drops.frontends
            sums[place.number] = sum(place.dropped().values())
        return drops

    def failures(self) -> list[str]:
        """Internal errors, and processes that have ended by themselves."""
        return [failure for place in self.places.values() for failure in place.failures()]

    def _restart(self, name: str, killed_at: float) -> None:
        place = self.places[name]
        place.process.wait()
        self.kills.append(Kill(place.role, place.number, killed_at, time.monotonic()))
        place.start()

    def _add_dispatcher(self, number: int, port: int) -> None:
        redis_port = self._network.add(f"d{number}-redis", self.redis.port)
        self._add(
            Place(
                "dispatcher", number,
                *("--listen", _endpoint(port)),
                *("--redis", f"redis://127.0.0.1:{redis_port}"),
                *self._config,
            )
        )  # fmt: skip

    def _add_frontend(self, number: int, public_port: int) -> None:
        internal_port = fixed_port()
        advertised = self._network.add(f"deliveries-n{number}", internal_port)
        self._add(
            Place(
                "frontend", number,
                *("--node", f"n{number}"),
                *("--public", _endpoint(public_port), "--internal", _endpoint(internal_port)),
                *("--advertise", f"http://127.0.0.1:{advertised}"),
                *self._dispatchers_of(number),
                *self._config,
            )
        )  # fmt: skip

    def _dispatchers_of(self, frontend: int) -> Iterator[str]:
        """Options that name all dispatchers; each frontend begins with another one."""
        count = len(self._dispatcher_ports)
        for number in (place % count for place in range(frontend, frontend + count)):
            port = self._network.add(f"n{frontend}-d{number}", self._dispatcher_ports[number])
            yield from ("--dispatcher", f"http://127.0.0.1:{port}")

    def _add(self, place: Place) -> None:
        self.places[place.name] = place


def _endpoint(port: int) -> str:
    return f"tcp:{port}:interface=127.0.0.1"
