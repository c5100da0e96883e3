"""All frontends are restarted one after the other, as for a new version."""

import signal
from collections.abc import Sequence

from tests.integration.conftest import WriteConfig
from tests.integration.pages import Pages
from tests.integration.roles import RoleProcess, dispatcher, fixed_port, publish
from tests.integration.streams import Viewers

PAGES = 240
FRONTENDS = 3
SETTINGS = {
    "process.drain_seconds": 3,
    "viewers.busy_reconnect_min_seconds": 0.5,
    "viewers.busy_reconnect_max_seconds": 3,
    "routing.announce_seconds": 0.5,
    "routing.lease_seconds": 5,
}


def test_a_rolling_restart_loses_no_subscription_and_makes_no_herd(
    write_config: WriteConfig,
) -> None:
    """Every page is back with its topic, and never do most of them come back at the same time."""
    received, reconnects = restart_one_by_one(write_config(SETTINGS))
    assert received == [["last"]] * PAGES
    # About a third of the pages is sent away three times; each time over some seconds.
    assert sum(reconnects) >= PAGES / 2
    assert max(reconnects) < PAGES / 2


def restart_one_by_one(config: Sequence[str]) -> tuple[list[list[str]], list[int]]:
    """Restart each frontend of a datacenter, then publish an event.

    :return: the ids that each page received, and how many pages reconnected in each second.
    """
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
                received = [
                    [event["id"] for stream in page.streams for event in stream.events]
                    for page in pages.pages
                ]
                return received, pages.reconnects_by_second()
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
