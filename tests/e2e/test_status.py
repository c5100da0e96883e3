"""The status page in Chromium: it moves, it asks for the secret, it fits a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.tabs import Tabs
from tests.integration.clusters import QUICK, running_cluster
from tests.integration.redis_server import RedisServer
from tests.integration.roles import combined, config_options, fixed_port, publish, running
from tests.integration.streams import Viewers


@pytest.fixture
def tabs(browser: Any) -> Iterator[Tabs]:
    with Tabs(browser) as tabs:
        yield tabs


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


def opened(tabs: Tabs, url: str, **options: Any) -> Any:
    page = tabs.open(f"{url}/status", **options)
    page.wait_for_selector("#badge:text('ready')")
    return page


def tile(page: Any, title: str) -> str:
    """Return the figure in a tile."""
    found: str = page.locator(f".tile:has(small:text-is('{title}')) b").inner_text()
    return found


def fits(page: Any) -> bool:
    """Whether the page is no wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_figures_and_plots_move(tabs: Tabs, viewers: Viewers) -> None:
    with combined("--node", "n1") as role:
        page = opened(tabs, role.url("internal"))
        assert page.title() == "rtcombined n1"
        assert tile(page, "Connections") == "0"
        viewers.connect(role.url("public"), "live:<b>red</b>")
        page.wait_for_selector(".tile:has(small:text-is('Connections')) b:text-is('1')")
        plot = page.locator(".tile:has(small:text-is('Sent a second')) .line")
        before = plot.get_attribute("d")
        for number in range(20):
            publish(role, {"topic": "live:<b>red</b>", "data": number})
        page.wait_for_selector("#ages td:text-is('20')")
        assert plot.get_attribute("d") != before
        # What others have named is text.
        page.wait_for_selector("#topics td:has-text('live:<b>red</b>')")
        assert page.locator("#topics b").count() == 0


def test_a_dispatcher_leads_to_its_frontends(tabs: Tabs, viewers: Viewers, tmp_path: Path) -> None:
    with RedisServer() as server:
        config = config_options(QUICK, tmp_path / "rtdeliver.toml")
        with running_cluster([["--redis", server.url, *config]], [config] * 2) as cluster:
            viewers.connect(cluster.frontends[1].url("public"), "live:red")
            page = opened(tabs, cluster.dispatchers[0].url("listen"))
            page.wait_for_selector("#topics td:has-text('live:red')")
            assert page.locator("#frontends tbody tr").count() == 2
            page.click("#frontends a:text('n2')")
            page.wait_for_selector("#badge:text('ready')")
            assert page.inner_text("#role") == "rtfrontend"
            assert page.inner_text("#node") == "n2"
            assert tile(page, "Connections") == "1"


def test_it_asks_for_the_secret_once(tabs: Tabs, tmp_path: Path) -> None:
    tabs.expect("status of 401 ")
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    with combined("--secret-file", str(secret)) as role:
        page = tabs.open(role.url("internal") + "/status")
        page.wait_for_selector("#login:not([hidden])")
        assert page.locator("#page").is_hidden()
        page.fill("#secret", "wrong")
        page.click("button")
        page.wait_for_selector("#wrong:text('not the secret')")
        page.fill("#secret", "s3cret")
        page.click("button")
        page.wait_for_selector("#badge:text('ready')")
        assert page.locator("#login").is_hidden()
        page.reload()
        page.wait_for_selector("#badge:text('ready')")


def test_it_says_that_there_is_no_answer_and_comes_back(tabs: Tabs) -> None:
    options = ("--public", "tcp:0:interface=127.0.0.1", "--internal")
    listening = f"tcp:{fixed_port()}:interface=127.0.0.1"
    with running("rtcombined", *options, listening) as role:
        page = opened(tabs, role.url("internal"))
        role.stop()
        page.wait_for_selector("#badge:text('no answer')")
    with running("rtcombined", *options, listening):
        page.wait_for_selector("#badge.good:text('ready')")


@pytest.mark.parametrize("size", [(390, 844), (844, 390), (1280, 900)], ids=str)
def test_it_fits(size: tuple[int, int], tabs: Tabs, viewers: Viewers) -> None:
    with combined("--node", "n" * 64) as role:
        viewers.connect(role.url("public"), "a:" + "x" * 300)
        page = opened(tabs, role.url("internal"))
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.wait_for_selector("#topics td:has-text('xxx')")
        assert fits(page)
