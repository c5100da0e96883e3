"""Viewers that read too slowly, or no more: what they cost is bounded, and nobody else notices."""

import json
import signal
from collections.abc import Iterable, Iterator

import httpx
import pytest

from tests.integration.conftest import WriteConfig
from tests.integration.roles import (
    DEADLINE_SECONDS,
    RoleProcess,
    combined,
    eventually,
    metrics,
    publish,
    publish_lines,
)
from tests.integration.streams import Stream, Viewers

TOPIC = "live:crowd"
# Of those alone who read nothing.
FLOOD = "live:flood"
CROWD = 1000
MAILBOX_BYTES = 200000
SEND_BYTES = 65536
STALL_SECONDS = 5
RECEIVE_BUFFER_BYTES = 8192
TEXT = "x" * 900

WAITING = 'rtdeliver_mailbox_bytes{actor="connection"}'
STALLED = 'rtdeliver_connections_closed_total{reason="stalled"}'
MAILBOX_FULL = 'rtdeliver_dropped_total{at="frontend",reason="mailbox_full"}'


@pytest.fixture
def role(write_config: WriteConfig) -> Iterator[RoleProcess]:
    config = write_config(
        {
            "viewers.mailbox_bytes": MAILBOX_BYTES,
            "publishing.event_bytes": 60000,
            "viewers.send_bytes": SEND_BYTES,
            "sockets.send_buffer_bytes": 16384,
            "viewers.stall_seconds": STALL_SECONDS,
            "viewers.overflow": "drop_oldest",
        }
    )
    with combined(*config) as role:
        yield role
    assert "Traceback" not in role.output


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


class Producer:
    """Publishes numbered events of about 1 KB in batches."""

    def __init__(self, role: RoleProcess) -> None:
        self._url = role.url("internal") + "/publish"
        self._client = httpx.Client(timeout=DEADLINE_SECONDS)
        self.ids: list[str] = []

    def publish(self, count: int) -> None:
        ids = [f"e-{len(self.ids) + number:06}" for number in range(count)]
        self._post({"topic": TOPIC, "id": id, "data": TEXT} for id in ids)
        self.ids += ids

    def flood(self, count: int) -> None:
        """Publish to those who read nothing."""
        self._post({"topic": FLOOD, "data": TEXT} for _ in range(count))

    def close(self) -> None:
        self._client.close()

    def _post(self, events: Iterable[dict[str, str]]) -> None:
        answer = self._client.post(
            self._url,
            content="\n".join(map(json.dumps, events)),
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert answer.status_code == 202, answer.text


@pytest.fixture
def producer(role: RoleProcess) -> Iterator[Producer]:
    producer = Producer(role)
    yield producer
    producer.close()


def ids_of(stream: Stream) -> list[str | None]:
    return [frame.id for frame in stream.frames if frame.event == "message"]


def test_a_stalled_reader_is_cut_off_and_the_others_miss_nothing(
    role: RoleProcess, viewers: Viewers, producer: Producer
) -> None:
    crowd = viewers.connect_many(CROWD, role.url("public"), TOPIC)
    stalled = viewers.connect(role.url("public"), TOPIC, receive_buffer_bytes=RECEIVE_BUFFER_BYTES)
    viewers.stall(stalled)
    waiting = []

    def comes_to(state: str, events: int) -> bool:
        """Publish to all; return whether ``state`` is counted."""
        producer.publish(events)
        viewers.wait(
            lambda: all(len(stream.frames) > len(producer.ids) for stream in crowd),
            "the others have received all so far",
        )
        # Nothing waits for the others now, so what waits is the stalled one's.
        measured = metrics(role)
        waiting.append(measured[WAITING])
        return measured[state] > 0

    def is_full() -> bool:
        # It reads too slowly, and not so little that it is cut off before.
        assert stalled.on_readable(at_most=4096)
        return comes_to(MAILBOX_FULL, 20)

    eventually(is_full, "its mailbox is full")
    eventually(lambda: comes_to(STALLED, 1), "it is cut off")
    assert MAILBOX_BYTES / 2 < max(waiting) <= MAILBOX_BYTES + SEND_BYTES
    producer.publish(20)
    viewers.wait(
        lambda: all(len(stream.frames) > len(producer.ids) for stream in crowd),
        "the others receive on",
    )
    for stream in crowd:
        assert ids_of(stream) == producer.ids
        assert stream.control("gap") == []
        assert not stream.ended
    measured = metrics(role)
    assert measured[STALLED] == 1
    assert measured[WAITING] == 0
    assert measured["rtdeliver_connections"] == CROWD
    viewers.resume(stalled)
    viewers.wait(lambda: stalled.ended, "the stalled one sees its stream end")


def test_a_slow_reader_is_kept_and_told_how_many_it_lost(
    role: RoleProcess, viewers: Viewers, producer: Producer
) -> None:
    slow = viewers.connect(role.url("public"), TOPIC, receive_buffer_bytes=RECEIVE_BUFFER_BYTES)
    viewers.stall(slow)

    def is_cut_off(cut_off: int) -> bool:
        producer.publish(20)
        assert slow.on_readable(at_most=4096)
        return metrics(role)[STALLED] == cut_off

    # Longer than what cuts those off who read nothing.
    for cut_off in (1, 2):
        stalled = viewers.connect(
            role.url("public"), FLOOD, receive_buffer_bytes=RECEIVE_BUFFER_BYTES
        )
        viewers.stall(stalled)
        # More than what the kernel and one send take, and less than what a mailbox holds.
        producer.flood(150)
        eventually(lambda n=cut_off: is_cut_off(n), "who reads nothing is cut off")  # type: ignore[misc]
    viewers.resume(slow)
    viewers.wait(
        lambda: slow.ended or slow.frames[-1].id == producer.ids[-1], "the last event came"
    )

    assert not slow.ended
    received = ids_of(slow)
    assert received == sorted(id for id in set(received) if id is not None)
    gaps = [frame.data for frame in slow.control("gap")]
    assert gaps
    assert all(gap["lost"] > 0 and gap["topics"] == [TOPIC] for gap in gaps)
    assert len(received) + sum(gap["lost"] for gap in gaps) == len(producer.ids)
    assert metrics(role)[MAILBOX_FULL] == sum(gap["lost"] for gap in gaps)


def test_slow_readers_of_many_topics_get_all_in_order_and_an_honest_viewer_too(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    topics = [f"live:{number}" for number in range(100)]
    # More than what the kernel takes, so that most of it waits in the server.
    waves, wave = 20, 1000
    config = write_config({"viewers.send_bytes": SEND_BYTES, "sockets.send_buffer_bytes": 16384})
    with combined(*config) as role:
        slow = [
            viewers.connect(role.url("public"), *topics, receive_buffer_bytes=RECEIVE_BUFFER_BYTES)
            for _ in range(5)
        ]
        for stream in slow:
            viewers.stall(stream)
        honest = viewers.connect(role.url("public"), "live:honest")
        published: list[int] = []
        for number in range(waves):
            numbers = range(number * wave, (number + 1) * wave)
            lines = [{"topic": topics[n * 37 % 100], "data": n} for n in numbers]
            body = "\n".join(map(json.dumps, lines)).encode()
            assert publish_lines(role, body).status_code == 202
            published += numbers
            publish(role, {"topic": "live:honest", "data": number})
            for stream in slow:
                assert stream.on_readable(at_most=4096)
        assert metrics(role)[WAITING] > SEND_BYTES * len(slow)
        for number in range(waves, 2 * waves):
            publish(role, {"topic": "live:honest", "data": number})
            for stream in slow:
                assert stream.on_readable(at_most=4096)
        viewers.wait(lambda: len(honest.events) == 2 * waves, "the honest one receives all")
        for stream in slow:
            viewers.resume(stream)
        viewers.wait(
            lambda: all(stream.ended or len(stream.events) == waves * wave for stream in slow),
            "the slow ones receive all",
        )

        assert [event["data"] for event in honest.events] == list(range(2 * waves))
        for stream in slow:
            assert [event["data"] for event in stream.events] == published
            assert stream.control("gap") == []
        assert "Traceback" not in role.output


def test_each_gap_frame_stands_where_its_events_are_missing(
    role: RoleProcess, viewers: Viewers, producer: Producer
) -> None:
    slow = viewers.connect(role.url("public"), TOPIC, receive_buffer_bytes=RECEIVE_BUFFER_BYTES)
    for _ in range(2):
        viewers.stall(slow)
        before = metrics(role)[MAILBOX_FULL]
        while metrics(role)[MAILBOX_FULL] < before + 100:
            producer.publish(50)
        viewers.resume(slow)
        viewers.wait(
            lambda: slow.ended or slow.frames[-1].id == producer.ids[-1], "the last event came"
        )

    assert not slow.ended
    expected = 0
    gaps = 0
    for frame in slow.frames[1:]:
        if frame.event == "gap":
            expected += frame.data["lost"]
            gaps += 1
        else:
            assert frame.id == producer.ids[expected]
            expected += 1
    assert expected == len(producer.ids)
    assert gaps >= 2


def test_what_waits_of_a_topic_is_not_sent_after_its_unsubscribe(
    role: RoleProcess, viewers: Viewers, producer: Producer
) -> None:
    slow = viewers.connect(
        role.url("public"), TOPIC, "live:marks", receive_buffer_bytes=RECEIVE_BUFFER_BYTES
    )
    viewers.stall(slow)
    # More than what the kernel and one send take, and less than what a mailbox holds.
    producer.publish(150)

    assert slow.subscribe(remove=[TOPIC]).status_code == 200

    publish(role, {"topic": "live:marks", "id": "mark", "data": 0})
    viewers.resume(slow)
    viewers.wait(lambda: slow.ended or slow.frames[-1].id == "mark", "the mark came")
    measured = metrics(role)
    discarded = int(measured['rtdeliver_dropped_total{at="frontend",reason="unsubscribed"}'])
    assert discarded > 0
    assert ids_of(slow) == [*producer.ids[: len(producer.ids) - discarded], "mark"]
    assert measured[MAILBOX_FULL] == 0
    assert slow.control("gap") == []


def test_a_drain_lets_a_slow_reader_read_what_waits_and_cuts_off_who_reads_nothing(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config({"sockets.send_buffer_bytes": 16384, "process.drain_seconds": 10})
    with combined(*config) as role:
        url = role.url("public")
        slow, stalled = (
            viewers.connect(url, TOPIC, receive_buffer_bytes=RECEIVE_BUFFER_BYTES) for _ in range(2)
        )
        quick = viewers.connect(url, TOPIC)
        for stream in (slow, stalled):
            viewers.stall(stream)
        producer = Producer(role)
        producer.publish(300)
        viewers.wait(lambda: len(quick.events) == 300, "the quick one has received all")
        assert metrics(role)[WAITING] > 0

        role.signal(signal.SIGTERM)
        viewers.wait(lambda: quick.ended, "the drain has begun")
        viewers.resume(slow)
        viewers.wait(lambda: slow.ended, "the slow one sees its stream end")
        role.wait()
        producer.close()

        for stream in (quick, slow):
            assert ids_of(stream) == producer.ids
            assert stream.frames[-1].event == "busy"
            assert stream.ended_cleanly
        viewers.resume(stalled)
        viewers.wait(lambda: stalled.ended, "the stalled one sees its stream end")
        assert stalled.control("busy") == []
        assert "Traceback" not in role.output


def test_with_overflow_close_a_full_mailbox_ends_the_stream(
    viewers: Viewers, write_config: WriteConfig
) -> None:
    config = write_config(
        {
            "viewers.mailbox_bytes": MAILBOX_BYTES,
            "publishing.event_bytes": 60000,
            "sockets.send_buffer_bytes": 16384,
            "viewers.overflow": "close",
        }
    )
    overflow = 'rtdeliver_connections_closed_total{reason="overflow"}'
    with combined(*config) as role:
        other = viewers.connect(role.url("public"), TOPIC)
        slow = viewers.connect(role.url("public"), TOPIC, receive_buffer_bytes=RECEIVE_BUFFER_BYTES)
        viewers.stall(slow)
        producer = Producer(role)

        def is_closed() -> bool:
            producer.publish(20)
            viewers.wait(lambda: len(other.frames) > len(producer.ids), "the other one receives on")
            return metrics(role)[overflow] > 0

        eventually(is_closed, "it is closed")
        producer.close()

        viewers.resume(slow)
        viewers.wait(lambda: slow.ended, "the slow one sees its stream end")
        assert slow.control("gap") == []
        assert ids_of(other) == producer.ids
        assert ids_of(slow) == producer.ids[: len(ids_of(slow))]
        assert "Traceback" not in role.output
