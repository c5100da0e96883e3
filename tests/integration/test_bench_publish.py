"""``rtbench publish`` and ``rtbench route``, tiny, and nothing of it timed."""

import argparse
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rtdeliver.bench import publish, route
from rtdeliver.bench.cli import Benchmark
from rtdeliver.bench.http_load import Load, LoadResult, template
from rtdeliver.bench.http_load import publish as publish_load
from rtdeliver.bench.machine import BenchError
from rtdeliver.bench.progress import Progress
from rtdeliver.bench.report import Report

ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n{"id":"1"}'
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"


@contextmanager
def answering(answer: bytes, times: int) -> Iterator[int]:
    """Answer so many requests of one connection, then close it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(30)
                for _ in range(times):
                    if not sock.recv(65536):
                        return
                    sock.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(30)
        assert not thread.is_alive()


def publish_to(port: int, *, rate: float = 0, seconds: float = 0.2) -> LoadResult:
    return publish_load(
        Load(
            host="127.0.0.1",
            port=port,
            connections=1,
            seconds=seconds,
            rate=rate,
            content_type="application/json",
            templates=[template(["a"], 1)],
            events=1,
        )
    )


def test_what_is_refused_is_not_accepted() -> None:
    with answering(BUSY, 1_000_000) as port:
        result = publish_to(port)
    assert result.accepted == [0]
    assert result.refused > 0
    assert "503" in result.refusal
    assert len(result.latencies) == 0


@pytest.mark.parametrize("answer", [ACCEPTED[:-1], ACCEPTED * 2, b"nonsense\r\n\r\n"])
def test_half_an_answer_one_too_many_and_nonsense_are_errors(answer: bytes) -> None:
    with answering(answer, 1) as port, pytest.raises(BenchError):
        publish_to(port)


def test_a_rate_is_kept() -> None:
    """Ten requests are due, from the begin on, however soon each is answered."""
    with answering(ACCEPTED, 1_000_000) as port:
        result = publish_to(port, rate=50)
    assert sum(result.accepted) + result.not_begun == 10
    assert len(result.latencies) == sum(result.accepted)


def reports(benchmark: Benchmark, *arguments: str) -> list[Report]:
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    options = parser.parse_args(["--connections", "2", "--bytes", "5", *arguments])
    return benchmark.run(options, Progress(io.StringIO()))


def check(report: Report, *, deliveries: int | None) -> None:
    """Check that what was published was accepted and taken.

    :param deliveries: of each event; ``None`` if it depends on the event.
    """
    figures = report.figures
    accepted = figures["accepted"]
    assert isinstance(accepted, int)
    assert accepted > 0
    assert figures["refused_requests"] == figures["unanswered_requests"] == 0
    if deliveries == 0:
        assert "delivered" not in figures
        return
    assert figures["lost"] == figures["lost_uncounted"] == figures["misplaced"] == 0
    delivered = figures["delivered"]
    assert isinstance(delivered, int)
    assert delivered > 0
    assert deliveries is None or delivered == accepted * deliveries


def test_publish_measures_all_kinds() -> None:
    alone, single, batch = reports(
        publish, "--seconds", "0.2", "--batch", "3", "--frontends", "2", "--rate", "300"
    )
    check(alone, deliveries=0)
    check(single, deliveries=2)
    check(batch, deliveries=2)
    assert batch.settings["events_per_request"] == 3


def test_route_delivers_where_each_topic_has_viewers() -> None:
    found = reports(
        route,
        *("--seconds", "0.2", "--batch", "5", "--rate", "300"),
        *("--frontends", "4", "--topics", "20", "--viewers-per-topic", "2"),
    )
    assert len(found) == 2
    for report in found:
        check(report, deliveries=None)


def test_a_batch_that_the_dispatcher_refuses_is_told() -> None:
    with pytest.raises(BenchError, match="413"):
        reports(publish, "--seconds", "0.1", "--batch", "1001", "--kind", "batch")


def test_each_topic_is_on_one_to_so_many_nodes_and_no_node_twice() -> None:
    topics = [f"t{number}" for number in range(200)]
    spread = route.spread(topics, ["a", "b", "c", "d"], most=3)
    nodes = [sum(topic in watched for watched in spread.values()) for topic in topics]
    assert set(nodes) == {1, 2, 3}
    assert all(len(set(watched)) == len(watched) for watched in spread.values())
    assert spread == route.spread(topics, ["a", "b", "c", "d"], most=3)


def test_an_event_is_expected_once_for_each_frontend_that_watches_its_topic() -> None:
    chosen = [["x", "y"], ["y", "z"]]
    viewers = {"a": ["x", "y"], "b": ["y"]}
    assert publish.expected_events(chosen, [10, 1], viewers) == 10 * 3 + 1 * 2
