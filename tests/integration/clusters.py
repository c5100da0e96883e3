"""Several dispatchers and frontends with a Redis, and producers that keep account of each event."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

from tests.integration.roles import (
    DEADLINE_SECONDS,
    LOOPBACK,
    RoleProcess,
    eventually,
    fixed_port,
    metrics,
)
from tests.integration.streams import Frame

PREFIX = "rtdeliver:"

# Short enough to see leases end and all heal, long enough for a busy machine.
QUICK: dict[str, object] = {
    "routing.announce_seconds": 0.5,
    "routing.lease_seconds": 3,
    "redis.command_seconds": 0.5,
    "redis.reconnect_seconds": 0.3,
    "redis.grace_seconds": 5,
    "http.request_seconds": 2,
    "retry.max_seconds": 0.5,
    "viewers.reconnect_seconds": 0.2,
    "deliveries.sweep_seconds": 0.5,
}


class Cluster:
    """The processes of one datacenter, each by its place in the order of starting."""

    def __init__(self, dispatchers: list[RoleProcess], frontends: list[RoleProcess]) -> None:
        self.dispatchers = dispatchers
        self.frontends = frontends
        self.client = httpx.Client(timeout=DEADLINE_SECONDS)

    def url(self, number: int) -> str:
        """The URL of a dispatcher."""
        return self.dispatchers[number].url("listen")

    def told(self, dispatcher: int, topic: str) -> Any:
        """What a dispatcher tells of a topic, or its refusal."""
        return self._get(f"{self.url(dispatcher)}/topics", topic=topic)

    def nodes(self, dispatcher: int) -> dict[str, dict[str, Any]]:
        """The frontends that a dispatcher lists, by name; none while it refuses to tell."""
        listed = self._get(f"{self.url(dispatcher)}/frontends")
        return {node["node"]: node for node in listed} if isinstance(listed, list) else {}

    def is_ready(self) -> bool:
        """Whether all living processes are ready."""
        roles = [(role, "listen") for role in self.dispatchers]
        roles += [(role, "internal") for role in self.frontends]
        return all(
            self.client.get(role.url(listener) + "/health/ready").status_code == 200
            for role, listener in roles
            if role.is_running()
        )

    def wait_ready(self) -> None:
        eventually(self.is_ready, "all are ready")

    def wait_routed(self, topic: str, **viewers: int) -> None:
        """Wait until every living dispatcher tells so many viewers of ``topic``, by node."""
        expected = {
            "topic": topic,
            "viewers": sum(viewers.values()),
            "frontends": sorted(viewers),
        }
        for number, role in enumerate(self.dispatchers):
            if role.is_running():
                eventually(
                    lambda number=number: self.told(number, topic) == expected,  # type: ignore[misc]
                    f"dispatcher {number} tells {expected}",
                )

    def publish(self, dispatcher: int, topic: str, data: object) -> httpx.Response:
        """Publish one event."""
        return self.client.post(
            self.url(dispatcher) + "/publish", json={"topic": topic, "data": data}
        )

    def dropped(self, dispatcher: int) -> dict[str, int]:
        """What a dispatcher has dropped, by reason."""
        return dropped(self.dispatchers[dispatcher], "listen", "dispatcher")

    def dropped_at_frontend(self, frontend: int) -> dict[str, int]:
        """What a frontend has dropped, by reason."""
        return dropped(self.frontends[frontend], "internal", "frontend")

    def _get(self, url: str, **query: str) -> Any:
        return self.client.get(url, params=query).json()


@contextmanager
def running_cluster(
    dispatchers: Sequence[Sequence[str]], frontends: Sequence[Sequence[str]]
) -> Iterator[Cluster]:
    """Run dispatchers and frontends n1, n2..., each with its options, until all are ready.

    Frontends name all dispatchers, each beginning with another one. No log of one that still runs
    at the end may hold a traceback.
    """
    urls = [f"http://127.0.0.1:{fixed_port()}" for _ in dispatchers]
    with ExitStack() as stack:
        started = [
            _start(stack, "rtdispatcher", "--listen", _endpoint(url), *options)
            for url, options in zip(urls, dispatchers, strict=True)
        ]
        for number, options in enumerate(frontends):
            first = number % len(urls)
            named = [("--dispatcher", url) for url in [*urls[first:], *urls[:first]]]
            started.append(
                _start(
                    stack,
                    "rtfrontend",
                    *itertools.chain(*named),
                    *("--node", f"n{number + 1}", "--public", LOOPBACK, "--internal", LOOPBACK),
                    *options,
                )
            )
        for role in started:
            role.wait_ready()
        cluster = Cluster(started[: len(urls)], started[len(urls) :])
        stack.callback(cluster.client.close)
        cluster.wait_ready()
        yield cluster
        for role in started:
            assert "Traceback" not in role.output, role.output
            assert "Unhandled" not in role.output, role.output


def _start(stack: ExitStack, role: str, *options: str) -> RoleProcess:
    process = RoleProcess(role, *options)
    stack.callback(process.stop)
    return process


def _endpoint(url: str) -> str:
    return f"tcp:{url.rpartition(':')[2]}:interface=127.0.0.1"


def tries(role: RoleProcess) -> int:
    """How often a role has tried to connect to Redis anew."""
    found = metrics(role, "listen").items()
    return round(sum(n for name, n in found if name.startswith("rtdeliver_redis_retries_total")))


def dropped(role: RoleProcess, listener: str, at: str) -> dict[str, int]:
    """What a process has dropped, by reason.

    :param at: its role, as its metrics name it.
    """
    begin = f'rtdeliver_dropped_total{{at="{at}",reason="'
    return {
        name.removeprefix(begin).removesuffix('"}'): int(value)
        for name, value in metrics(role, listener).items()
        if name.startswith(begin) and value
    }


class Producer:
    """Publishes numbered events one after the other at a steady rate, in a thread of its own.

    An event that is not accepted is published again with the same id: at the next dispatcher, and
    so on until one accepts it.

    :param urls: of the dispatchers; event number n is published at the n-th one first.
    :param pause_seconds: between two events.
    :param patience_seconds: how long an answer is waited for.
    :ivar begun: the number of the last event that it began to publish; every later one is
        published after ``begun`` was read.
    :ivar accepted: the number of the last event that was accepted, as were all before it.
    :ivar accepted_by: the place in ``urls`` of who accepted each event, by number.
    :ivar refusals: how many attempts came to nothing, by status; 0 where no answer came.
    """

    def __init__(
        self,
        topic: str,
        urls: Sequence[str],
        *,
        pause_seconds: float = 0.01,
        patience_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self.topic = topic
        self.begun = 0
        self.accepted_by: dict[int, int] = {}
        self.refusals: Counter[int] = Counter()
        self._urls = list(urls)
        self._pause_seconds = pause_seconds
        self._patience_seconds = patience_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Producer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def accepted(self) -> int:
        return len(self.accepted_by)

    def stop(self) -> None:
        """Publish no more. The last event may not be accepted; then no dispatcher has taken it."""
        self._stopping.set()
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive()

    def wait_further(self, count: int) -> None:
        """Wait until ``count`` more events are published, from begin to end."""
        goal = self.begun + count
        eventually(lambda: self.accepted >= goal, f"event {goal} of {self.topic} is accepted")

    def _run(self) -> None:
        with httpx.Client(timeout=self._patience_seconds) as client:
            while not self._stopping.wait(self._pause_seconds):
                self.begun += 1
                self._publish(client, self.begun)

    def _publish(self, client: httpx.Client, number: int) -> None:
        id = f"{self.topic.replace(':', '-')}-{number}"
        event = {"topic": self.topic, "id": id, "data": number}
        for place in itertools.islice(itertools.cycle(range(len(self._urls))), number, None):
            status = _post(client, self._urls[place] + "/publish", event)
            if status == 202:
                self.accepted_by[number] = place
                return
            assert status in (0, 503), status
            self.refusals[status] += 1
            if self._stopping.wait(0.01):
                return


def _post(client: httpx.Client, url: str, event: object) -> int:
    try:
        return client.post(url, json=event).status_code
    except httpx.TransportError:
        return 0


def numbers(frames: Sequence[Frame], topic: str) -> list[int]:
    """The numbers of the events of ``topic`` among ``frames``."""
    events = [frame.data for frame in frames if frame.event == "message"]
    return [event["data"] for event in events if event["topic"] == topic]


def lost_in_gaps(frames: Sequence[Frame]) -> int:
    """How many lost events the gap frames among ``frames`` tell of."""
    return sum(frame.data["lost"] or 0 for frame in frames if frame.event == "gap")
