"""All frontends are restarted one after the other, as for a new version."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.integration.conftest import WriteConfig
from tests.integration.pages import Pages
from tests.integration.roles import RoleProcess, dispatcher, fixed_port, publish
from tests.integration.streams import Stream, Viewers

PAGES = 240
FRONTENDS = 3
SETTINGS = {
    "process.drain_seconds": 10,
    "routing.announce_seconds": 0.5,
    "routing.lease_seconds": 5,
}


def test_a_rolling_restart_loses_no_subscription_and_makes_no_herd(
    write_config: WriteConfig,
) -> None:
    """Every page is back with its topic, and each was told a time of its own to come back."""
    with restarted_one_by_one(write_config(SETTINGS)) as pages:
        for page in pages.pages:
            events = [event["id"] for stream in page.streams for event in stream.events]
            assert events == ["last"]
        streams = [stream for page in pages.pages for stream in page.streams]
        # About a third of the pages is sent away three times, and each one comes back soon.
        retries = [_retry(s) for s in streams if s.control("connected") and s.control("busy")]
        assert len(retries) >= PAGES / 2
        assert all(100 <= retry <= 1000 for retry in retries)
        assert len(set(retries)) > len(retries) / 3
        # Those that come to the same process again, come back when the next one is there.
        refused = [_retry(stream) for stream in streams if stream.frames[0].event == "busy"]
        assert all(500 <= retry <= 12_000 for retry in refused)


def _retry(stream: Stream) -> int:
    [frame] = stream.control("busy")
    return int(frame.fields["retry"])


@contextmanager
def restarted_one_by_one(config: Sequence[str]) -> Iterator[Pages]:
    """Restart each frontend of a datacenter, then publish an event, and wait until all have it."""
    ports = [fixed_port() for _ in range(FRONTENDS)]
    with dispatcher(*config) as hub, Viewers() as viewers:
        roles = [_start(hub, number, ports[number], config) for number in range(FRONTENDS)]
        try:
            urls = [f"http://127.0.0.1:{port}" for port in ports]
            with Pages(viewers, urls, "live:red", PAGES) as pages:
                viewers.wait(lambda: pages.all_subscribed, "all pages have subscribed")
                for number in range(FRONTENDS):
                    roles[number].signal(signal.SIGTERM)
                    roles[number].wait()
                    roles[number] = _start(hub, number, ports[number], config)
                    viewers.wait(lambda: pages.all_subscribed, "all pages have subscribed again")
                publish(hub, {"topic": "live:red", "id": "last", "data": 1}, "listen")
                viewers.wait(
                    lambda: all(page.streams[-1].events for page in pages.pages),
                    "all pages have received the last event",
                )
                yield pages
        finally:
            for role in roles:
                role.stop()


def _start(hub: RoleProcess, number: int, port: int, config: Sequence[str]) -> RoleProcess:
    return RoleProcess(
        "rtfrontend",
        *("--dispatcher", hub.url("listen"), "--node", f"n{number}"),
        *("--public", f"tcp:{port}:interface=127.0.0.1"),
        *("--internal", "tcp:0:interface=127.0.0.1"),
        *config,
    ).wait_ready()
