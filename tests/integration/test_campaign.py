"""Faults for a minute, from a seed: every event is accounted for; and the means to see that."""

import random
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.campaign.campaign import Size, run
from tests.campaign.datacenter import Datacenter
from tests.campaign.faults import Fault, plan
from tests.campaign.network import Mode, Network
from tests.integration.roles import DEADLINE_SECONDS

SECONDS = 30
"""How long faults happen. With start, heal and settling it takes a minute."""


@pytest.mark.slow
def test_after_all_faults_every_accepted_event_is_accounted_for() -> None:
    seed = random.randrange(10**6)
    size = Size()
    faults = plan(seed, SECONDS, dispatchers=size.dispatchers, frontends=size.frontends)
    # pytest shows what a test has printed when it fails.
    print(f"python -m tests.campaign --seconds {SECONDS} --seed {seed}")  # noqa: T201
    print("\n".join(map(str, faults)))  # noqa: T201
    report = run(faults, seed=seed, seconds=SECONDS, size=size, tell=lambda _: None)
    assert report.is_clean, str(report)
    assert report.account.accepted > SECONDS
    assert report.account.received > report.account.accepted


def test_what_faults_do_to_processes_is_over_when_they_end() -> None:
    with Datacenter(dispatchers=1, frontends=1) as datacenter:
        redis = datacenter.redis.client
        for action, kept in (("restart", "1"), ("restart-empty", None)):
            redis.set("key", "1")
            fault = Fault(0, action, "redis", 0)
            datacenter.begin(fault)
            datacenter.end(fault)
            assert redis.get("key") == kept
        for action in ("pause", "kill"):
            for name, place in datacenter.places.items():
                before = place.process
                fault = Fault(0, action, name, 0)
                datacenter.begin(fault)
                datacenter.end(fault)
                assert (place.process is before) == (action == "pause")
        datacenter.wait_ready()
        assert [(kill.role, kill.place) for kill in datacenter.kills] == [
            ("dispatcher", 0),
            ("frontend", 0),
        ]
        assert len(datacenter.happened) == 6
        assert datacenter.failures() == []


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it receives, and closes when the client does."""

    def handle(self) -> None:
        with suppress(ConnectionError):
            while data := self.request.recv(4096):
                self.request.sendall(data)


@pytest.fixture
def echo_port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(DEADLINE_SECONDS)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(delay_seconds=0.01) as network:
        yield network


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connected(stack: ExitStack, port: int) -> socket.socket:
    return stack.enter_context(
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS)
    )


def received(client: socket.socket, count: int) -> bytes:
    """Receive this many bytes; fewer at the end of the connection."""
    data = b""
    while len(data) < count and (more := client.recv(count - len(data))):
        data += more
    return data


def assert_echoes(client: socket.socket) -> None:
    client.sendall(b"hello")
    assert received(client, 5) == b"hello"


def talk_to_the_end(client: socket.socket) -> None:
    """Send and receive; it ends with an error."""
    while True:
        client.sendall(b"hello")
        client.recv(1)


def assert_is_reset(client: socket.socket) -> None:
    with pytest.raises(ConnectionError):
        talk_to_the_end(client)


def assert_resets(port: int) -> None:
    """Assert that a new connection is reset: at once, or when it is used."""
    with pytest.raises(ConnectionError), ExitStack() as stack:
        talk_to_the_end(connected(stack, port))


def test_a_link_passes_what_both_sides_send_and_the_end(
    network: Network, echo_port: int, stack: ExitStack
) -> None:
    client = connected(stack, network.add("link", echo_port))
    assert_echoes(client)
    client.sendall(b"x" * 1_000_000)
    client.shutdown(socket.SHUT_WR)
    assert received(client, 2_000_000) == b"x" * 1_000_000


def test_a_cut_link_resets_its_connections_and_each_new_one_until_it_passes(
    network: Network, echo_port: int, stack: ExitStack
) -> None:
    port, other_port = (network.add(name, echo_port) for name in ("link", "other"))
    client, other = connected(stack, port), connected(stack, other_port)
    assert_echoes(client)
    network.become("link", Mode.CUT)
    assert_is_reset(client)
    assert_resets(port)
    assert_echoes(other)
    network.become("link", Mode.PASS)
    assert_echoes(connected(stack, port))


def test_a_stalled_link_accepts_and_forwards_nothing_until_it_passes(
    network: Network, echo_port: int, stack: ExitStack
) -> None:
    port = network.add("link", echo_port)
    client = connected(stack, port)
    assert_echoes(client)
    network.become("link", Mode.STALL)
    newcomer = connected(stack, port)
    for each in (client, newcomer):
        each.sendall(b"later")
        each.settimeout(0.1)
        with pytest.raises(TimeoutError):
            each.recv(1)
        each.settimeout(DEADLINE_SECONDS)
    network.become("link", Mode.PASS)
    assert received(client, 5) == received(newcomer, 5) == b"later"


def test_a_stalled_link_holds_what_was_sent_before_the_sender_left(
    network: Network, stack: ExitStack
) -> None:
    target = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    target.settimeout(DEADLINE_SECONDS)
    client = connected(stack, network.add("link", target.getsockname()[1]))
    taken = stack.enter_context(target.accept()[0])
    taken.settimeout(DEADLINE_SECONDS)
    network.become("link", Mode.STALL)
    client.sendall(b"late")
    client.close()
    network.become("link", Mode.PASS)
    assert received(taken, 5) == b"late"


def test_a_slow_link_passes_all_in_order(
    network: Network, echo_port: int, stack: ExitStack
) -> None:
    client = connected(stack, network.add("link", echo_port))
    network.become("link", Mode.SLOW)
    for _ in range(5):
        assert_echoes(client)


def test_a_link_whose_target_is_away_resets_until_the_target_is_back(
    network: Network, stack: ExitStack
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        target_port = free.getsockname()[1]
    port = network.add("link", target_port)
    assert_resets(port)
    target = stack.enter_context(socket.create_server(("127.0.0.1", target_port)))
    target.settimeout(DEADLINE_SECONDS)
    client = connected(stack, port)
    client.sendall(b"hello")
    taken = stack.enter_context(target.accept()[0])
    taken.settimeout(DEADLINE_SECONDS)
    assert received(taken, 5) == b"hello"


def test_a_network_that_ends_leaves_no_connection(echo_port: int, stack: ExitStack) -> None:
    with Network() as network:
        client = connected(stack, network.add("link", echo_port))
        assert_echoes(client)
    assert_is_reset(client)
