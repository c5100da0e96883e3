"""The live-video app's page in Chromium, beside others, and while servers die and come back."""

import itertools
import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.e2e.tabs import Tabs
from tests.integration.roles import (
    HTTP,
    LOOPBACK,
    RoleProcess,
    combined,
    eventually,
    fixed_port,
    metrics,
)
from tests.integration.streams import Viewers

CONFIG = """
access.public_topics = ["live:*", "comments:*", "members"]
viewers.reconnect_seconds = 0.3
retry.max_seconds = 0.5
routing.announce_seconds = 0.3
process.drain_seconds = 20
presence.heartbeat_seconds = 0.5
presence.grace_seconds = 4
presence.sweep_seconds = 0.2
likes.viewers_seconds = 0.5
likes_limits.likes_per_second = 1000000
likes_limits.likes_burst = 1000000
likes_limits.comments_per_second = 1000000
likes_limits.comments_burst = 1000000
likes_crowd.seconds = 5
history.topics = {"conv:*" = {events = 100, seconds = 3600}}
"""
CROWD_LIKES = 500
DESKTOP = {"width": 1280, "height": 720}
PHONE = {"width": 390, "height": 844}
HOSTILE = [
    "<script>window.hacked = true; alert(1)</script>",
    '<img src=x onerror="window.hacked = true; alert(1)">',
    "<b>bold</b> &amp; <style>* { display: none }</style>",
]
LIKES = "Number(document.getElementById('likes').textContent.replace(/\\D/g, ''))"
FLOATS = """() => {
    const { canvas } = document.getElementById("air").getContext("2d");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value, index) => index % 4 === 3 && value > 0);
}"""

_numbers = itertools.count()


class Site(NamedTuple):
    """The app as visitors reach it, and a dispatcher as its operator does."""

    url: str
    dispatcher_url: str

    def get(self, path: str) -> Any:
        """Return what the backend tells anybody."""
        answer = HTTP.get(self.url + path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: object = None, token: str = "") -> Any:
        """Post without a page."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = HTTP.post(self.url + path, json=body or {}, headers=headers)
        assert answer.status_code in (201, 202), answer.text
        return answer.json()

    def token(self, name: str) -> str:
        """Take a name."""
        token: str = self.post("/session", {"name": name})["token"]
        return token

    def like(self, video: str) -> None:
        self.post(f"/videos/{video}/likes", {"reaction": "star"})

    def likes(self, video: str) -> int:
        likes: int = self.get(f"/videos/{video}")["likes"]
        return likes

    def wait_watched(self, topic: str, viewers: int) -> None:
        """Wait until the dispatcher says that so many watch a topic."""

        def told() -> bool:
            answer = HTTP.get(f"{self.dispatcher_url}/topics", params={"topic": topic})
            return answer.status_code == 200 and answer.json()["viewers"] == viewers

        eventually(told, f"{viewers} watch {topic}")


class Server:
    """A role that is killed, and starts again as it was."""

    def __init__(self, role: str, *options: str) -> None:
        self._start: Callable[[], RoleProcess] = lambda: RoleProcess(role, *options)
        self.process = self._start()

    def start(self) -> None:
        """Start, unless it runs, and wait until it is ready."""
        if not self.process.is_running():
            self.process = self._start()
        self.process.wait_ready()

    def kill(self) -> None:
        """Kill it."""
        self.process.stop()
        assert_log_is_clean(self.process)


class Deployment:
    """A dispatcher, a frontend and the app's backend, each a process that keeps its port."""

    def __init__(self, folder: Path) -> None:
        hub, node, backend = (fixed_port() for _ in range(3))
        hub_url = f"http://127.0.0.1:{hub}"
        options = write_options(folder)
        key = folder / "key"
        key.write_text(secrets.token_hex(32))
        members = [*options, "--token-key-file", str(key)]
        self.site = Site(f"http://127.0.0.1:{backend}", hub_url)
        self.hub = Server("rtdispatcher", "--listen", endpoint(hub), *options)
        self.node = Server(
            "rtfrontend",
            *("--dispatcher", hub_url, "--node", "n1", "--cors-origin", "same-host"),
            *("--public", endpoint(node), "--internal", LOOPBACK, *members),
        )
        self.backend = Server(
            "rtlikes",
            *("--listen", endpoint(backend), "--dispatcher", hub_url),
            *("--frontend", f"http://127.0.0.1:{node}"),
            *("--database", str(folder / "likes.sqlite"), *members),
        )

    @property
    def servers(self) -> list[Server]:
        return [self.hub, self.node, self.backend]

    def start(self) -> None:
        """Start what does not run, and wait until all are ready."""
        for server in self.servers:
            server.start()
        inside = self.node.process.url("internal")
        eventually(
            lambda: HTTP.get(f"{inside}/health/ready").status_code == 200, "the frontend is ready"
        )


def endpoint(port: int) -> str:
    return f"tcp:{port}:interface=127.0.0.1"


def write_options(folder: Path, more: str = "") -> list[str]:
    path = folder / "rtdeliver.toml"
    path.write_text(CONFIG + more)
    return ["--config", str(path)]


def assert_log_is_clean(role: RoleProcess) -> None:
    assert "Traceback" not in role.output, role.output
    assert "Unhandled" not in role.output, role.output
    assert "eyJ" not in role.output, "a token is in the log"


@contextmanager
def app(folder: Path, more: str = "") -> Iterator[RoleProcess]:
    """Run all in one process."""
    database = str(folder / "likes.sqlite")
    with combined(
        "--app", LOOPBACK, "--database", database, *write_options(folder, more)
    ) as server:
        yield server
    assert_log_is_clean(server)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoleProcess]:
    with app(tmp_path_factory.mktemp("app")) as server:
        yield server


@pytest.fixture(scope="module")
def site(server: RoleProcess) -> Site:
    return site_of(server)


def site_of(server: RoleProcess) -> Site:
    return Site(server.url("app"), server.url("internal"))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with ExitStack() as stack:
        deployment = Deployment(tmp_path_factory.mktemp("deployment"))
        for server in deployment.servers:
            stack.callback(server.kill)
        yield deployment


@pytest.fixture
def deployment(started: Deployment) -> Deployment:
    started.start()
    return started


@pytest.fixture
def tabs(browser: Any) -> Iterator[Tabs]:
    with Tabs(browser) as tabs:
        yield tabs


# What a visitor does at the page, and sees there.


def new_name(begin: str) -> str:
    """A name that no other test knows."""
    return f"{begin}{next(_numbers)}"


def visit(tabs: Tabs, site: Site, name: str = "", video: str = "red", **options: Any) -> Any:
    """Open the page, and join if there is a name."""
    page = tabs.open(f"{site.url}/?video={video}", **options)
    wait_open(page)
    if name:
        page.fill("#join-name", name)
        page.click("#join button")
        page.wait_for_selector("#say")
        wait_open(page)
    return page


def wait_open(page: Any) -> None:
    page.wait_for_selector("#state[data-state=open]")


def wait_likes(page: Any, likes: int) -> None:
    page.wait_for_function(f"(likes) => {LIKES} === likes", arg=likes)


def wait_notice(page: Any, text: str) -> None:
    page.wait_for_selector(f"#notice:has-text({json.dumps(text)})")


def say(page: Any, text: str) -> None:
    page.fill("#say-text", text)
    page.press("#say-text", "Enter")


def wait_said(page: Any, text: str) -> None:
    page.wait_for_selector(f"#comments li:has(.text:text-is({json.dumps(text)}))")


def texts(page: Any, log: str) -> list[str]:
    """What is in one of the logs, in its order."""
    shown: list[str] = page.locator(f"{log} li .text").all_text_contents()
    return shown


def entry(name: str) -> str:
    """The selector of a member in the list."""
    return f'#members [data-member="{name}"]'


def open_chat(page: Any, name: str) -> None:
    page.click(f"{entry(name)} button")
    page.wait_for_selector("#chat")


def tell(page: Any, text: str) -> None:
    page.fill("#tell-text", text)
    page.press("#tell-text", "Enter")


def conversation(one: str, other: str) -> str:
    return f"conv:{'.'.join(sorted([one, other]))}"


# Likes.


def test_a_like_shows_on_all_pages_that_watch_the_video_and_on_no_other(
    tabs: Tabs, site: Site
) -> None:
    tabs.expect("Canvas2D: Multiple readback")
    liking, watching = visit(tabs, site), visit(tabs, site)
    elsewhere = visit(tabs, site, video="green")
    received = tabs.record(elsewhere)
    red, green = site.likes("red"), site.likes("green")
    for page in (liking, watching):
        wait_likes(page, red)
    wait_likes(elsewhere, green)

    liking.get_by_role("button", name="Heart").click()

    for page in (liking, watching):
        page.wait_for_function(FLOATS)
        wait_likes(page, red + 1)
    site.post("/videos/green/comments", {"text": "after"}, site.token(new_name("ann")))
    wait_said(elsewhere, "after")
    assert elsewhere.evaluate(LIKES) == green
    assert not elsewhere.evaluate(FLOATS)
    site.like("green")
    wait_likes(elsewhere, green + 1)
    assert not {"live:red", "comments:red"} & {message.topic for message in received}
    assert watching.evaluate(LIKES) == red + 1


def test_the_likes_of_many_at_a_time_are_all_counted_while_the_page_moves(
    tabs: Tabs, site: Site, server: RoleProcess
) -> None:
    tabs.expect("Canvas2D: Multiple readback")
    pages = [visit(tabs, site, motion=True, viewport=DESKTOP) for _ in range(2)]
    before = site.likes("red")
    for page in pages:
        wait_likes(page, before)
    crowd = pages[0].get_by_role("button", name="Crowd")

    crowd.click()

    pages[0].wait_for_selector("#crowd:disabled")
    for page in pages:
        page.wait_for_function(FLOATS)
    pages[0].wait_for_selector("#crowd:enabled")
    told = metrics(server)
    skipped = int(told["rtdeliver_app_crowd_skipped_total"])
    for page in pages:
        wait_likes(page, before + CROWD_LIKES - skipped)
    assert site.likes("red") == before + CROWD_LIKES - skipped


# Videos.


def test_another_video_is_another_topic_on_the_same_stream(
    tabs: Tabs, site: Site, server: RoleProcess
) -> None:
    token = site.token(new_name("ann"))
    site.post("/videos/red/comments", {"text": "said of red"}, token)
    site.post("/videos/green/comments", {"text": "said of green"}, token)
    page = visit(tabs, site)
    wait_said(page, "said of red")
    site.wait_watched("live:red", 1)
    streams = metrics(server)["rtdeliver_connections_started_total"]
    received = tabs.record(page)

    page.get_by_role("button", name="Northern lights").click()

    wait_said(page, "said of green")
    assert page.inner_text("#title") == "Northern lights"
    assert "said of red" not in texts(page, "#comments")
    site.wait_watched("live:green", 1)
    site.wait_watched("comments:green", 1)
    site.wait_watched("live:red", 0)
    site.wait_watched("comments:red", 0)
    green = site.likes("green")
    site.like("red")
    site.like("green")
    wait_likes(page, green + 1)
    site.post("/videos/green/comments", {"text": "live"}, token)
    wait_said(page, "live")
    likes = [message.topic for message in received if message.data.get("type") == "like"]
    assert likes == ["live:green"]
    assert metrics(server)["rtdeliver_connections_started_total"] == streams
    assert page.get_attribute("#state", "data-state") == "open"


def test_a_video_is_found_again_by_the_address(tabs: Tabs, site: Site) -> None:
    page = visit(tabs, site)
    page.get_by_role("button", name="Northern lights").click()
    page.wait_for_function("() => document.title === 'Northern lights'")

    page.reload()

    wait_open(page)
    assert page.inner_text("#title") == "Northern lights"
    assert page.get_attribute("[data-video=green]", "aria-pressed") == "true"


# Comments.


def test_comments_show_on_all_pages_in_one_order(tabs: Tabs, site: Site) -> None:
    ann, bob = (visit(tabs, site, new_name(name)) for name in ("ann", "bob"))
    pages = [ann, bob, visit(tabs, site)]
    said = [f"comment {next(_numbers)}" for _ in range(6)]

    for page, text in zip(itertools.cycle([ann, bob]), said, strict=False):
        say(page, text)

    for page in pages:
        for text in said:
            wait_said(page, text)
    stored = [comment["text"] for comment in site.get("/videos/red")["comments"]]
    assert sorted(stored[-6:]) == sorted(said)
    assert [texts(page, "#comments")[-6:] for page in pages] == [stored[-6:]] * 3


def test_what_somebody_writes_stays_text(tabs: Tabs, site: Site) -> None:
    names = new_name("ann"), new_name("bob")
    ann, bob = (visit(tabs, site, name) for name in names)
    for page, other in ((ann, names[1]), (bob, names[0])):
        page.wait_for_selector(f"{entry(other)} button")
        open_chat(page, other)

    for text in HOSTILE:
        say(ann, text)
        wait_said(bob, text)
        tell(ann, text)
        bob.wait_for_function(
            "(text) => document.querySelector('#messages').textContent.includes(text)", arg=text
        )

    anonymous = visit(tabs, site)
    wait_said(anonymous, HOSTILE[-1])
    for page in (ann, bob, anonymous):
        assert texts(page, "#comments")[-len(HOSTILE) :] == HOSTILE
        made = "script, img, style, #comments .text *, #messages .text *"
        assert page.locator(f"body :is({made})").count() == 0
        assert page.evaluate("window.hacked") is None
    for page in (ann, bob):
        assert texts(page, "#messages") == HOSTILE


def test_a_script_that_got_into_the_page_would_not_run(tabs: Tabs, site: Site) -> None:
    page = visit(tabs, site)

    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.hacked = true";
            document.body.append(script);
        }"""
    )

    assert page.evaluate("window.hacked") is None
    [complaint] = tabs.complaints
    assert "Content Security Policy" in complaint
    tabs.complaints.clear()


def test_others_see_who_is_typing_until_the_comment_comes(tabs: Tabs, site: Site) -> None:
    name = new_name("ann")
    ann, bob, anonymous = (visit(tabs, site, each) for each in (name, new_name("bob"), ""))
    text = f"typed {next(_numbers)}"

    ann.fill("#say-text", text)

    for page in (bob, anonymous):
        page.wait_for_selector(f"#typing:text-is('{name} is typing…')")
    assert ann.inner_text("#typing") == ""
    ann.press("#say-text", "Enter")
    for page in (bob, anonymous):
        wait_said(page, text)
        assert page.inner_text("#typing") == ""
    wait_said(ann, text)
    assert ann.inner_text("#typing") == ""
    assert ann.input_value("#say-text") == ""


def test_others_see_who_types_again_after_the_clock_was_set_back(tabs: Tabs, site: Site) -> None:
    name = new_name("ann")
    ann, bob = visit(tabs, site, name), visit(tabs, site, new_name("bob"))
    ann.fill("#say-text", "once")
    bob.wait_for_selector(f"#typing:text-is('{name} is typing…')")
    ann.evaluate("const now = Date.now; Date.now = () => now() - 3_600_000;")
    bob.wait_for_selector("#typing:empty", state="attached")
    ann.fill("#say-text", "and again")
    bob.wait_for_selector(f"#typing:text-is('{name} is typing…')")


# Members.


def test_a_message_comes_to_one_member_and_its_sender_sees_that_it_was_read(
    tabs: Tabs, site: Site
) -> None:
    names = [new_name(name) for name in ("ann", "bob", "cyd")]
    ann, bob, cyd = pages = [visit(tabs, site, name) for name in names]
    for page in pages:
        for name in names:
            page.wait_for_selector(f"{entry(name)}[data-online=true]")
    site.wait_watched(conversation(names[0], names[1]), 2)
    received = tabs.record(cyd)

    open_chat(ann, names[1])
    tell(ann, "are you there?")

    ann.wait_for_selector("#messages li.mine .ticks:text-is('✓')")
    bob.wait_for_selector(f"{entry(names[0])} .count:text-is('1')")
    assert ann.locator(".seen").count() == 0
    open_chat(bob, names[0])
    bob.wait_for_selector("#messages li:not(.mine) .text:text-is('are you there?')")
    ann.wait_for_selector("#messages .ticks.seen:text-is('✓✓')")
    tell(bob, "I am")
    # Both look at it.
    bob.wait_for_selector("#messages .ticks.seen")
    assert texts(ann, "#messages") == texts(bob, "#messages") == ["are you there?", "I am"]
    bob.get_by_role("button", name="All members").click()
    assert bob.locator(f"{entry(names[0])} .count:visible").count() == 0
    say(bob, "done with it")
    wait_said(cyd, "done with it")
    assert {message.data.get("type") for message in received} & {"message", "seen"} == set()
    assert cyd.locator("#members .count:visible").count() == 0


def test_a_click_counts_though_the_member_writes_meanwhile(tabs: Tabs, site: Site) -> None:
    names = new_name("ann"), new_name("bob")
    token = site.token(names[1])
    ann = visit(tabs, site, names[0])
    site.post(f"/conversations/{names[0]}/messages", {"text": "one"}, token)
    ann.wait_for_selector(f"{entry(names[1])} .count:text-is('1')")

    ann.hover(f"{entry(names[1])} button")
    ann.mouse.down()
    site.post(f"/conversations/{names[0]}/messages", {"text": "two"}, token)
    ann.wait_for_selector(f"{entry(names[1])} .count:text-is('2')")
    ann.mouse.up()

    ann.wait_for_selector("#chat")


def test_messages_are_kept_for_who_was_away(tabs: Tabs, site: Site) -> None:
    names = new_name("ann"), new_name("bob")
    site.token(names[1])
    ann = visit(tabs, site, names[0])
    ann.wait_for_selector(f"{entry(names[1])} button")
    open_chat(ann, names[1])
    for text in ("one", "two"):
        tell(ann, text)
        ann.wait_for_selector(f"#messages li:has-text('{text}')")

    bob = visit(tabs, site, names[1])

    bob.wait_for_selector(f"{entry(names[0])} .count:text-is('2')")
    open_chat(bob, names[0])
    ann.wait_for_function("() => document.querySelectorAll('#messages .seen').length === 2")
    assert texts(bob, "#messages") == ["one", "two"]
    ann.reload()
    ann.wait_for_selector(f"{entry(names[1])} button")
    open_chat(ann, names[1])
    ann.wait_for_function("() => document.querySelectorAll('#messages .seen').length === 2")


def test_a_member_is_there_as_long_as_its_page_is_and_while_it_reloads(
    tabs: Tabs, site: Site
) -> None:
    name = new_name("bob")
    watching = [visit(tabs, site, new_name("ann")) for _ in range(2)]
    with Viewers() as viewers:
        stream = viewers.connect(
            site.get("/settings")["frontend"],
            f"presence:{name}",
            query={"token": site.token(new_name("eve"))},
        )

        page = visit(tabs, site, name)
        for other in watching:
            other.wait_for_selector(f"{entry(name)}[data-online=true]")
        page.reload()
        wait_open(page)
        assert page.inner_text("#name") == name
        tabs.close(page)

        for other in watching:
            other.wait_for_selector(f"{entry(name)}[data-online=false]")
        viewers.wait(lambda: len(stream.events) >= 2, "the end was told")
        statuses = [event["data"]["status"] for event in stream.events]
        assert statuses == ["online", "offline"]


def test_a_member_who_leaves_watches_without_a_name(
    tabs: Tabs, site: Site, server: RoleProcess
) -> None:
    names = new_name("ann"), new_name("bob")
    ann, bob = (visit(tabs, site, name) for name in names)
    ann.wait_for_selector(f"{entry(names[1])}[data-online=true]")
    likes = site.likes("red")

    bob.get_by_role("button", name="Leave").click()

    bob.wait_for_selector("#join")
    assert not bob.is_visible("#say")
    eventually(lambda: metrics(server)["rtdeliver_members"] == 1, "one member is left")
    wait_open(bob)
    ann.get_by_role("button", name="Fire").click()
    wait_likes(bob, likes + 1)
    assert bob.locator("#members button").count() == 0


def test_a_session_that_ends_leaves_an_anonymous_viewer(tabs: Tabs, tmp_path: Path) -> None:
    # What is asked at the very moment may be refused.
    tabs.expect("the server responded with a status of 401 ")
    with app(tmp_path, "likes.token_seconds = 10\n") as server:
        site = site_of(server)
        page = visit(tabs, site, "ann")

        wait_notice(page, "Your session has ended.")

        page.wait_for_selector("#join")
        assert not page.is_visible("#say")
        wait_open(page)
        eventually(lambda: metrics(server)["rtdeliver_members"] == 0, "the member's stream ended")
        site.wait_watched("live:red", 1)
        site.like("red")
        wait_likes(page, 1)
        page.get_by_role("button", name="Heart").click()
        wait_likes(page, 2)
        tabs.close(page)


# Servers that die and come back.


def test_pages_recover_by_themselves_from_the_death_of_the_frontend(
    tabs: Tabs, deployment: Deployment
) -> None:
    site = deployment.site
    names = new_name("ann"), new_name("bob")
    ann, bob = (visit(tabs, site, name) for name in names)
    pages = [ann, bob, visit(tabs, site)]
    before = site.likes("red")
    token = site.token(names[0])
    for page in pages:
        wait_likes(page, before)
        page.wait_for_selector(f"{entry(names[1])}[data-online=true]")

    deployment.node.kill()

    for page in pages:
        page.wait_for_selector("#state[data-state=lost]:has-text('Connection lost')")
    for _ in range(2):
        site.like("red")
    site.post("/videos/red/comments", {"text": "said meanwhile"}, token)
    site.post(f"/conversations/{names[1]}/messages", {"text": "told meanwhile"}, token)
    deployment.start()
    for page in pages:
        wait_open(page)
        wait_likes(page, before + 2)
        wait_said(page, "said meanwhile")
    bob.wait_for_selector(f"{entry(names[0])} .count:text-is('1')")
    for topic in ("live:red", "comments:red", "members"):
        site.wait_watched(topic, len(pages))
    for name in names:
        site.wait_watched(f"presence:{name}", len(names))
    site.wait_watched(conversation(*names), 2)
    site.like("red")
    site.post(f"/conversations/{names[1]}/messages", {"text": "live again"}, token)
    for page in pages:
        wait_likes(page, before + 3)
    bob.wait_for_selector(f"{entry(names[0])} .count:text-is('2')")
    for page in pages:
        page.wait_for_selector(f"{entry(names[1])}[data-online=true]")


def test_a_conversation_goes_on_after_the_death_of_the_frontend_and_is_not_loaded_again(
    tabs: Tabs, deployment: Deployment
) -> None:
    site = deployment.site
    names = new_name("ann"), new_name("bob")
    ann, bob = (visit(tabs, site, name) for name in names)
    open_chat(bob, names[0])
    open_chat(ann, names[1])
    site.wait_watched(conversation(*names), 2)
    for number in range(3):
        tell(ann, f"before {number}")
    bob.wait_for_selector("#messages :text('before 2')")
    bob.evaluate(
        """() => {
            window.states = [];
            new MutationObserver(() => states.push(document.getElementById("state").textContent))
                .observe(document.getElementById("state"), { childList: true });
        }"""
    )
    asked: list[str] = []
    bob.on("request", lambda request: asked.append(request.url))

    deployment.node.kill()

    bob.wait_for_selector("#state[data-state=lost]")
    token = site.token(names[0])
    for number in range(5):
        body = {"text": f"meanwhile {number}"}
        site.post(f"/conversations/{names[1]}/messages", body, token)
    deployment.start()
    bob.wait_for_selector("#messages :text('meanwhile 4')")
    wait_open(bob)
    said = " ".join(texts(bob, "#messages"))
    assert all(said.count(f"meanwhile {number}") == 1 for number in range(5))
    assert bob.evaluate("states").count("Catching up…") == 1
    assert not [url for url in asked if "/conversations/" in url and not url.endswith("/seen")]


def test_without_dispatchers_all_is_stored_and_the_page_says_that_others_are_not_told(
    tabs: Tabs, deployment: Deployment
) -> None:
    site = deployment.site
    names = new_name("ann"), new_name("bob")
    ann, bob = (visit(tabs, site, name) for name in names)
    before = site.likes("red")
    for page in (ann, bob):
        wait_likes(page, before)
    ann.wait_for_selector(f"{entry(names[1])} button")
    open_chat(ann, names[1])

    deployment.hub.kill()
    ann.get_by_role("button", name="Heart").click()

    wait_likes(ann, before + 1)
    wait_notice(ann, "Saved, but not delivered live: others will see it when they reload.")
    say(ann, "untold")
    ann.wait_for_selector("#comments li:has-text('untold') em:has-text('not delivered live')")
    tell(ann, "not sent")
    ann.wait_for_selector("#messages li:has-text('not sent') em:has-text('not delivered live')")
    assert site.likes("red") == before + 1
    assert bob.evaluate(LIKES) == before
    assert "untold" not in texts(bob, "#comments")
    late = visit(tabs, site)
    wait_likes(late, before + 1)
    wait_said(late, "untold")

    deployment.start()
    received = tabs.record(bob)
    site.wait_watched("live:red", 3)
    ann.get_by_role("button", name="Heart").click()

    for page in (ann, bob, late):
        wait_likes(page, before + 2)
    likes = [message.data["data"] for message in received if message.topic == "live:red"]
    assert {"member": names[0], "reaction": "heart", "likes": before + 2} in likes
    # A stream that may have missed something is told so, and the page loads what there is.
    wait_said(bob, "untold")
    bob.wait_for_selector(f"{entry(names[0])} .count:text-is('1')")


def test_the_page_tells_when_the_backend_is_away_and_goes_on_when_it_is_back(
    tabs: Tabs, deployment: Deployment
) -> None:
    site = deployment.site
    page = visit(tabs, site, new_name("ann"))
    likes = site.likes("red")
    site.post("/videos/green/comments", {"text": "said of green"}, site.token(new_name("bob")))
    wait_likes(page, likes)

    deployment.backend.kill()
    page.get_by_role("button", name="Heart").click()

    wait_notice(page, "The backend cannot be reached.")
    assert page.get_attribute("#state", "data-state") == "open"
    assert page.evaluate(LIKES) == likes
    say(page, "kept")
    page.wait_for_function("() => document.getElementById('say-text').value === 'kept'")
    page.get_by_role("button", name="Northern lights").click()
    page.wait_for_function("() => document.title === 'Northern lights'")
    deployment.start()
    wait_said(page, "said of green")
    page.press("#say-text", "Enter")
    wait_said(page, "kept")
    page.get_by_role("button", name="Canyon at dusk").click()
    wait_likes(page, likes)
    page.get_by_role("button", name="Heart").click()
    wait_likes(page, likes + 1)


# Everybody can use it.


def test_the_keyboard_is_enough(tabs: Tabs, site: Site) -> None:
    names = new_name("ann"), new_name("bob")
    bob = visit(tabs, site, names[1])
    page = visit(tabs, site)
    page.wait_for_selector(entry(names[1]))
    likes = site.likes("red")
    wait_likes(page, likes)

    tab_to(page, "[data-reaction=heart]")
    page.keyboard.press("Enter")
    wait_likes(page, likes + 1)

    tab_to(page, "[data-video=green]")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.title === 'Northern lights'")
    tab_to(page, "[data-video=red]", key="Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.title === 'Canyon at dusk'")

    tab_to(page, "#join-name")
    page.keyboard.type(names[0])
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'say-text'")
    page.keyboard.type("typed blindly")
    page.keyboard.press("Enter")
    wait_said(bob, "typed blindly")

    tab_to(page, f"{entry(names[1])} button")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'tell-text'")
    page.keyboard.type("told blindly")
    page.keyboard.press("Enter")
    page.wait_for_selector("#messages li.mine:has-text('told blindly')")
    tab_to(page, "#back", key="Shift+Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("(of) => document.activeElement.matches(of)", f"{entry(names[1])} button")


def tab_to(page: Any, selector: str, key: str = "Tab") -> None:
    """Press a key until what is wanted has the focus."""
    for _ in range(80):
        page.keyboard.press(key)
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{key} does not reach {selector}")


def test_every_button_and_field_has_a_name(tabs: Tabs, site: Site) -> None:
    names = new_name("ann"), new_name("bob")
    bob = visit(tabs, site, names[1])
    page = visit(tabs, site)
    buttons = ["Heart", "Star", "Fire", "Laugh", "Crowd", "Canyon at dusk", "Northern lights"]
    assert_named(page, [*buttons, "Join"], ["Your name, to comment and chat"])

    page.get_by_role("textbox", name="Your name").fill(names[0])
    page.get_by_role("button", name="Join").click()
    page.wait_for_selector(f"{entry(names[1])}[data-online=true] button")
    assert_named(page, [*buttons, "Leave", "Send", f"online {names[1]}"], ["Comment"])

    bob.wait_for_selector(f"{entry(names[0])} button")
    open_chat(bob, names[0])
    tell(bob, "hello")
    page.wait_for_selector(f"{entry(names[1])} .count")
    page.get_by_role("button", name=f"online {names[1]} 1 new").click()
    assert_named(page, [*buttons, "Leave", "All members"], ["Comment", "Message"])
    bob.wait_for_selector("#messages .seen")
    assert bob.get_by_role("img", name="Seen").count() == 1


def assert_named(page: Any, buttons: list[str], fields: list[str]) -> None:
    """Check that these are there, and that there is none without a name."""
    for role, elements, names in (("button", "button", buttons), ("textbox", "input", fields)):
        for name in names:
            assert page.get_by_role(role, name=name).count() >= 1, name
        visible = page.locator(f"{elements}:visible").count()
        assert page.get_by_role(role, name=re.compile(r"\S")).count() == visible


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_on_a_phone_nothing_is_wider_than_the_screen(tabs: Tabs, site: Site, scheme: str) -> None:
    names = new_name("a" * 20), new_name("w" * 20)
    token = site.token(names[1])
    for text in ("x" * 500, "many words " * 40, "short"):
        site.post("/videos/red/comments", {"text": text}, token)
    page = visit(tabs, site, names[0], viewport=PHONE, color_scheme=scheme, is_mobile=True)
    wait_said(page, "short")
    for text in ("y" * 500, "many words " * 40):
        site.post(f"/conversations/{names[0]}/messages", {"text": text}, token)
    page.wait_for_selector(f"{entry(names[1])} .count:text-is('2')")
    site.post("/videos/red/typing", token=token)
    assert width(page) == PHONE["width"]

    open_chat(page, names[1])
    page.wait_for_selector("#messages li:has-text('many words')")
    tell(page, "z" * 500)
    page.wait_for_selector("#messages li.mine")

    assert width(page) == PHONE["width"]
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back)[:3])) < 300) == (scheme == "dark"), back


def test_no_window_is_too_narrow(tabs: Tabs, site: Site) -> None:
    name = new_name("m" * 20)
    page = visit(tabs, site, name)
    page.wait_for_selector(entry(name))
    for pixels in (320, 480, 600, 720, 800, 900, 1024, 1280):
        page.set_viewport_size({"width": pixels, "height": 800})
        page.wait_for_function("(pixels) => innerWidth === pixels", arg=pixels)
        assert width(page) == pixels


def width(page: Any) -> int:
    """How wide the page is, with all that would be scrolled to."""
    pixels: int = page.evaluate(
        "Math.max(innerWidth, document.scrollingElement.scrollWidth, document.body.scrollWidth)"
    )
    return pixels


# Moderators, and what is private.


def test_a_moderator_removes_a_comment_and_bans_a_member_with_one_click(
    tabs: Tabs, tmp_path: Path
) -> None:
    tabs.expect("status of 401 ")
    tabs.expect("status of 403 ")
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    settings = f'likes.moderators = ["mod"]\nlikes.moderator_password_file = "{password}"\n'
    with app(tmp_path, settings) as server:
        site = site_of(server)
        troll, watching = visit(tabs, site, "troll"), visit(tabs, site)
        say(troll, "bad")
        say(troll, "worse")
        wait_said(watching, "worse")
        moderator = visit(tabs, site)
        moderator.fill("#join-name", "mod")
        moderator.click("#join button")
        wait_notice(moderator, "the password is missing or wrong")
        moderator.fill("#join-password", "correct horse")
        moderator.fill("#join-name", "mod")
        moderator.click("#join button")
        moderator.wait_for_selector("#say")
        wait_said(moderator, "bad")
        assert watching.locator("#comments button").count() == 0

        moderator.click('#comments li:has(.text:text-is("bad")) button:text-is("Remove")')
        watching.wait_for_selector('#comments li:has(.text:text-is("bad"))', state="detached")
        assert texts(watching, "#comments") == ["worse"]

        moderator.click('#comments li:has(.text:text-is("worse")) button:text-is("Ban")')
        troll.wait_for_selector("#state[data-state=closed]")
        wait_notice(troll, "You were banned.")
        troll.wait_for_selector("#join")
        assert HTTP.post(f"{site.url}/session", json={"name": "troll"}).status_code == 403
        # Others go on, and the troll may watch without a name.
        site.like("red")
        wait_likes(watching, 1)
        troll.reload()
        wait_open(troll)
        wait_said(troll, "worse")


def test_a_conversation_and_presence_are_private(site: Site) -> None:
    frontend = site.get("/settings")["frontend"]
    topics = {"conv": conversation("ann", "bob"), "presence": "presence:ann"}

    def status(topic: str, token: str | None = None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.stream(
            "GET", f"{frontend}/connect", params={"topic": topic}, headers=headers, timeout=60
        ) as answer:
            return answer.status_code

    ann, eve = site.token("ann"), site.token("eve")
    assert status(topics["conv"]) == status(topics["presence"]) == 403
    assert status(topics["conv"], eve) == 403
    assert status(topics["presence"], eve) == status(topics["conv"], ann) == 200


def test_only_moderators_moderate(site: Site) -> None:
    ann, bob = (site.token(name) for name in ("ann", "bob"))
    comment = site.post("/videos/red/comments", {"text": "mine"}, ann)["comment"]["comment"]
    for token in (None, ann, bob):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        status = 403 if token else 401
        for method, path in (
            ("DELETE", f"/videos/red/comments/{comment}"),
            ("POST", "/members/ann/ban"),
            ("DELETE", "/members/ann/ban"),
        ):
            url = site.url + path
            content = b"{}" if method == "POST" else b""
            kind = {"Content-Type": "application/json"}
            answer = HTTP.request(method, url, headers=headers | kind, content=content)
            assert answer.status_code == status, answer.text
