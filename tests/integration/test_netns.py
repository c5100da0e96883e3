"""Three datacenters far from each other: events cross once, and cost the distance."""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import msgspec
import pytest

from tests.integration.roles import DEADLINE_SECONDS, RoleProcess
from tests.integration.streams import Stream, Viewers
from tests.integration.wide_area import WideArea, why_not

DELAY_SECONDS = 0.04
PLACES = ("dc1", "dc2", "dc3")
TOPIC = "live:red"
SECRET = "correct-horse-battery-staple"


class Datacenters(msgspec.Struct, frozen=True):
    """One process in each place, which peers with all others."""

    area: WideArea
    roles: dict[str, RoleProcess]

    @contextmanager
    def producer(self, place: str) -> Iterator[httpx.Client]:
        """A client that publishes at ``place``."""
        with (
            self.area.inside(place),
            httpx.Client(
                base_url=self.roles[place].url("internal"),
                headers={"Authorization": f"Bearer {SECRET}"},
                timeout=DEADLINE_SECONDS,
            ) as client,
        ):
            yield client

    def connect(self, viewers: Viewers, place: str) -> Stream:
        """A viewer at ``place``."""
        with self.area.inside(place):
            return viewers.connect(self.roles[place].url("public"), TOPIC)


@contextmanager
def far_apart() -> Iterator[Datacenters]:
    """Run three datacenters; they always end, and so do their namespaces."""
    with ExitStack() as stack:
        secret = Path(stack.enter_context(TemporaryDirectory())) / "secret"
        secret.write_text(SECRET)
        area = stack.enter_context(WideArea(PLACES, delay_seconds=DELAY_SECONDS))
        roles = {}
        for place in PLACES:
            roles[place] = RoleProcess(
                "rtcombined",
                "--public", "tcp:8080:interface=127.0.0.1",
                "--internal", f"tcp:8090:interface={area.addresses[place]}",
                "--secret-file", str(secret),
                *(
                    f"--peer={peer}=http://{area.addresses[peer]}:8090"
                    for peer in PLACES
                    if peer != place
                ),
                prefix=area.prefix(place),
            )  # fmt: skip
            stack.callback(roles[place].stop)
        for role in roles.values():
            role.wait_ready()
        yield Datacenters(area, roles)
    for role in roles.values():
        assert "Traceback" not in role.output


def measure_delays(events: int = 100, viewers_each: int = 20) -> dict[str, float]:
    """From the call of publish to receipt, at the place of the producer and at the others.

    Each place publishes ten events a second.
    """
    with far_apart() as datacenters, Viewers() as viewers:
        streams = {
            place: [datacenters.connect(viewers, place) for _ in range(viewers_each)]
            for place in PLACES
        }
        published_at: dict[str, float] = {}

        def publish(place: str) -> None:
            with datacenters.producer(place) as producer:
                started_at = time.monotonic()
                for number in range(events):
                    time.sleep(max(0.0, started_at + number / 10 - time.monotonic()))
                    id = f"{place}-{number}"
                    published_at[id] = time.monotonic()
                    event = {"topic": TOPIC, "id": id, "data": "x"}
                    assert producer.post("/publish", json=event).status_code == 202

        producers = [threading.Thread(target=publish, args=[place]) for place in PLACES]
        for producer in producers:
            producer.start()
        for producer in producers:
            producer.join()
        everywhere = [stream for there in streams.values() for stream in there]
        viewers.wait(
            lambda: all(len(stream.frames) > events * len(PLACES) for stream in everywhere),
            "all events came",
        )
    delays: dict[bool, list[float]] = {True: [], False: []}
    for place, there in streams.items():
        for stream in there:
            for frame in stream.frames[1:]:
                assert frame.id is not None
                local = frame.id.startswith(place)
                delays[local].append(frame.at - published_at[frame.id])
    return {
        "delay_milliseconds": round(DELAY_SECONDS * 1000, 1),
        "local_deliveries": len(delays[True]),
        "local_p90_milliseconds": _p90_milliseconds(delays[True]),
        "remote_deliveries": len(delays[False]),
        "remote_p90_milliseconds": _p90_milliseconds(delays[False]),
    }


def _p90_milliseconds(delays: list[float]) -> float:
    return round(sorted(delays)[math.ceil(len(delays) * 0.9) - 1] * 1000, 1)


def test_one_publish_in_each_datacenter_reaches_all_viewers_once() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with far_apart() as datacenters, Viewers() as viewers:
        streams = [datacenters.connect(viewers, place) for place in PLACES for _ in range(3)]
        for number in range(3):
            for place in PLACES:
                with datacenters.producer(place) as producer:
                    event = {"topic": TOPIC, "id": f"{place}-{number}", "data": number}
                    assert producer.post("/publish", json=event).status_code == 202
        published = Counter(f"{place}-{number}" for place in PLACES for number in range(3))
        viewers.wait(
            lambda: all(len(stream.frames) > published.total() for stream in streams),
            "all events came",
        )
        # What came twice would come before what is published now.
        for place in PLACES:
            with datacenters.producer(place) as producer:
                producer.post("/publish", json={"topic": TOPIC, "id": f"{place}-last", "data": 0})
        published.update(f"{place}-last" for place in PLACES)
        viewers.wait(
            lambda: all(len(stream.frames) > published.total() for stream in streams),
            "the last events came",
        )
        for stream in streams:
            assert Counter(frame.id for frame in stream.frames[1:]) == published
            assert stream.control("gap") == []
            for place in PLACES:
                came = [e["data"] for e in stream.events if e["id"].startswith(place)]
                assert came == [0, 1, 2, 0]
