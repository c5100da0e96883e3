"""Datacenters that peer with each other: events cross once, through every failure."""

import json
import selectors
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import pytest

from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import (
    DEADLINE_SECONDS,
    LOOPBACK,
    RoleProcess,
    dispatcher,
    eventually,
    fixed_port,
    frontend,
    metrics,
    publish,
    publish_lines,
    running,
)
from tests.integration.streams import Stream, Viewers
from tests.integration.test_split import Producer, newest, numbers

RED = "live:red"
PLACES = ("dc1", "dc2", "dc3")
# Small, so that an outage of some seconds fills it.
MAILBOX_EVENTS = BATCH_EVENTS = 50


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


class Relay:
    """A port that leads to another, until it is cut: then nobody listens there."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._to = (parts.hostname, parts.port)
        self._port = fixed_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "Relay":
        self.join()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def join(self) -> None:
        """Lead there, from now on or again."""
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        listener = socket.create_server(("127.0.0.1", self._port))
        self._selector.register(listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, args=[listener])
        self._thread.start()

    def cut(self) -> None:
        """Close everything."""
        self._stopping.set()
        self._thread.join(DEADLINE_SECONDS)

    def _run(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.05):
                if key.fileobj is listener:
                    self._couple(listener.accept()[0])
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._pass_on(key.fileobj, key.data)
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def _couple(self, client: socket.socket) -> None:
        server = socket.create_connection(self._to)
        self._selector.register(client, selectors.EVENT_READ, server)
        self._selector.register(server, selectors.EVENT_READ, client)

    def _pass_on(self, here: socket.socket, there: socket.socket) -> None:
        data = b""
        with suppress(ConnectionError):
            data = here.recv(65536)
            there.sendall(data)
        if not data:
            for end in (here, there):
                with suppress(KeyError, ValueError):
                    self._selector.unregister(end)
                end.close()


def dropped(role: RoleProcess, listener: str) -> dict[str, float]:
    """Events dropped at a dispatcher, by reason; none where it was none."""
    prefix = 'rtdeliver_dropped_total{at="dispatcher",reason="'
    return {
        name.removeprefix(prefix).rstrip('"}'): value
        for name, value in metrics(role, listener).items()
        if name.startswith(prefix) and value
    }


def told_lost(stream: Stream) -> int:
    """How many events the gap frames of a stream tell to be lost."""
    return sum(gap.data["lost"] for gap in stream.control("gap"))


@contextmanager
def peering_combined() -> Iterator[dict[str, RoleProcess]]:
    """Three datacenters of one process, each of which peers with both others."""
    ports = {place: fixed_port() for place in PLACES}
    with ExitStack() as stack:
        roles = {
            place: RoleProcess(
                "rtcombined",
                "--public", LOOPBACK,
                "--internal", f"tcp:{ports[place]}:interface=127.0.0.1",
                *(
                    f"--peer={peer}=http://127.0.0.1:{ports[peer]}"
                    for peer in PLACES
                    if peer != place
                ),
            )
            for place in PLACES
        }  # fmt: skip
        for role in roles.values():
            stack.callback(role.stop)
        for role in roles.values():
            role.wait_ready()
        yield roles
    for role in roles.values():
        assert "Traceback" not in role.output


def test_every_event_reaches_all_viewers_everywhere_once_and_in_order(viewers: Viewers) -> None:
    with peering_combined() as roles:
        streams = {
            place: viewers.connect_many(2, role.url("public"), RED) for place, role in roles.items()
        }

        def produce(place: str) -> None:
            # One by one, and in batches.
            for number in range(100):
                event = {"topic": RED, "type": place, "data": number}
                assert publish(roles[place], event).status_code == 202
            for start in range(100, 300, 50):
                lines = [
                    json.dumps({"topic": RED, "type": place, "data": number}).encode()
                    for number in range(start, start + 50)
                ]
                assert publish_lines(roles[place], b"\n".join(lines)).status_code == 202

        with ThreadPoolExecutor(len(PLACES)) as threads:
            list(threads.map(produce, PLACES))
        everywhere = [stream for there in streams.values() for stream in there]
        viewers.wait(lambda: all(len(s.frames) > 900 for s in everywhere), "all events came")

        for stream in everywhere:
            assert len(stream.events) == 900
            assert max(Counter(event["id"] for event in stream.events).values()) == 1
            for place in PLACES:
                came = [event["data"] for event in stream.events if event["type"] == place]
                assert came == list(range(300))
        for place, role in roles.items():
            told = metrics(role)
            for peer in set(PLACES) - {place}:
                assert told[f'rtdeliver_forwarded_total{{peer="{peer}"}}'] == 300
            # Nothing came a second time, by whatever way, and was passed over.
            assert told['rtdeliver_delivered_total{at="frontend"}'] == 900
            assert told["rtdeliver_repeated_total"] == 0
            assert dropped(role, "internal") == {}


@pytest.fixture
def cramped(write_config: WriteConfig) -> Callable[[float], list[str]]:
    """Options of a dispatcher with little room for what waits for a peer."""
    return lambda request_seconds: write_config(
        {
            "forwards.mailbox_events": MAILBOX_EVENTS,
            "forwards.batch_events": BATCH_EVENTS,
            "http.request_seconds": request_seconds,
            "retry.max_seconds": 0.5,
        }
    )


@contextmanager
def outage(
    viewers: Viewers, options: list[str], *, through_relay: bool
) -> Iterator["tuple[RoleProcess, RoleProcess, Relay, Stream, Stream]"]:
    """Two datacenters, the first of which peers with the second, and a viewer in each."""
    with (
        dispatcher() as far_hub,
        frontend(far_hub.url("listen"), "far") as far_node,
        Relay(far_hub.url("listen")) as relay,
        dispatcher(
            "--datacenter", "dc1",
            f"--peer=dc2={relay.url if through_relay else far_hub.url('listen')}",
            *options,
        ) as hub,
        frontend(hub.url("listen"), "near") as node,
    ):  # fmt: skip
        here = viewers.connect(node.url("public"), RED)
        there = viewers.connect(far_node.url("public"), RED)
        yield hub, far_hub, relay, here, there
    for process in (hub, node, far_hub, far_node):
        assert "Traceback" not in process.output


def check_bounded(hub: RoleProcess) -> None:
    """What waits for the peer is a full mailbox and a batch under way at the most."""
    waiting = metrics(hub, "listen")['rtdeliver_mailbox_events{actor="peer"}']
    assert waiting <= MAILBOX_EVENTS + BATCH_EVENTS


def check_local(producer: Producer, here: Stream) -> None:
    """A viewer in the producer's datacenter has missed nothing."""
    eventually(lambda: newest(here, RED) == producer.accepted, "all events came here")
    assert numbers(here, RED) == list(range(1, producer.accepted + 1))
    assert here.control("gap") == []


def test_a_peer_that_was_cut_off_gets_what_follows_and_is_told_what_it_missed(
    viewers: Viewers, cramped: Callable[[float], list[str]]
) -> None:
    with (
        outage(viewers, cramped(DEADLINE_SECONDS), through_relay=True) as (
            hub,
            _,
            relay,
            here,
            there,
        ),
        Producer(hub, RED) as producer,
    ):
        viewers.wait(lambda: newest(there, RED) >= 50, "events come there")
        relay.cut()
        cut_at = producer.begun
        producer.wait_further(300)
        eventually(lambda: dropped(hub, "listen").get("peer_full", 0) > 100, "events are dropped")
        check_bounded(hub)
        viewers.wait(lambda: newest(here, RED) >= cut_at + 300, "events come here all the while")
        assert newest(there, RED) <= cut_at
        relay.join()
        goal = producer.begun + 100
        viewers.wait(lambda: newest(there, RED) >= goal, "events come there again")
        producer.stop()

        check_local(producer, here)
        viewers.wait(lambda: newest(there, RED) == producer.accepted, "the last event came there")
        received = numbers(there, RED)
        lost = dropped(hub, "listen")
        assert list(lost) == ["peer_full"]
        # Each event was received once or dropped.
        assert received == sorted(set(received))
        assert len(received) + lost["peer_full"] == producer.accepted
        viewers.wait(lambda: told_lost(there) >= lost["peer_full"], "the loss is told")


def test_a_peer_that_hangs_holds_up_nobody_and_goes_on_afterwards(
    viewers: Viewers, cramped: Callable[[float], list[str]]
) -> None:
    with (
        outage(viewers, cramped(1), through_relay=False) as (hub, far_hub, _, here, there),
        Producer(hub, RED) as producer,
    ):
        viewers.wait(lambda: newest(there, RED) >= 50, "events come there")
        far_hub.signal(signal.SIGSTOP)
        try:
            stopped_at = producer.begun
            producer.wait_further(300)
            eventually(
                lambda: {"peer_full", "peer_answer_lost"} <= dropped(hub, "listen").keys(),
                "events are dropped for both reasons",
            )
            check_bounded(hub)
            viewers.wait(lambda: newest(here, RED) >= stopped_at + 300, "events come here")
        finally:
            far_hub.signal(signal.SIGCONT)
        goal = producer.begun + 100
        viewers.wait(lambda: newest(there, RED) >= goal, "events come there again")
        producer.stop()

        check_local(producer, here)
        viewers.wait(lambda: newest(there, RED) == producer.accepted, "the last event came there")
        received = numbers(there, RED)
        missing = producer.accepted - len(received)
        assert len(set(received)) == len(received)
        # What was sent and never answered may have arrived all the same.
        assert 0 < missing <= sum(dropped(hub, "listen").values())
        viewers.wait(lambda: told_lost(there) >= missing, "the loss is told")


def test_a_peer_whose_first_dispatcher_is_dead_is_reached_by_the_second(viewers: Viewers) -> None:
    dead = f"http://127.0.0.1:{fixed_port()}"
    with (
        dispatcher() as far_hub,
        frontend(far_hub.url("listen"), "far") as far_node,
        dispatcher(f"--peer=dc2={dead},{far_hub.url('listen')}") as hub,
    ):
        there = viewers.connect(far_node.url("public"), RED)
        for number in range(20):
            publish(hub, {"topic": RED, "data": number}, "listen")
        viewers.wait(lambda: len(there.events) >= 20, "all events came")
        assert numbers(there, RED) == list(range(20))
        assert dropped(hub, "listen") == {}


def test_of_a_peer_with_two_dispatchers_one_may_be_killed_and_nothing_is_lost(
    viewers: Viewers,
) -> None:
    with (
        RedisServer() as redis,
        dispatcher("--redis", redis.url) as first,
        dispatcher("--redis", redis.url) as second,
        running(
            "rtfrontend",
            "--dispatcher", second.url("listen"),
            "--node", "far",
            "--public", LOOPBACK,
            "--internal", LOOPBACK,
        ) as far_node,
        dispatcher(f"--peer=dc2={first.url('listen')},{second.url('listen')}") as hub,
    ):  # fmt: skip
        there = viewers.connect(far_node.url("public"), RED)
        with Producer(hub, RED) as producer:
            viewers.wait(lambda: newest(there, RED) >= 50, "events come there")
            eventually(
                lambda: metrics(first, "listen")['rtdeliver_delivered_total{at="dispatcher"}'] > 0,
                "they come by way of the first",
            )
            first.signal(signal.SIGKILL)
            first.wait()
            killed_at = producer.begun
            producer.wait_further(100)
        viewers.wait(lambda: newest(there, RED) == producer.accepted, "the last event came")
        received = numbers(there, RED)
        assert received == sorted(set(received))
        # What the first had taken and not delivered yet went with it, and nothing since.
        later = [number for number in received if number > killed_at]
        assert later == list(range(killed_at + 1, producer.accepted + 1))
        assert dropped(hub, "listen") == {}
