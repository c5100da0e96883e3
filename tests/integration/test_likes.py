"""The live-video app beside real dispatchers and frontends, and in one process with them."""

import http.client
import itertools
import secrets
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from html.parser import HTMLParser
from http.cookiejar import CookieJar, DefaultCookiePolicy
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import msgspec
import pytest

from tests.integration.clusters import QUICK, Cluster, running_cluster
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import (
    DEADLINE_SECONDS,
    HTTP,
    LOOPBACK,
    RoleProcess,
    combined,
    dispatcher,
    eventually,
    frontend,
    likes,
    likes_options,
    metrics,
)
from tests.integration.streams import Stream, Viewers

# No dispatcher listens there, and no frontend.
NOBODY = "http://127.0.0.1:9"
# Each test that counts takes a video of its own.
VIDEOS = [f"v{number}=Video {number}" for number in range(14)]
CROWD_LIKES = 40
KEPT = 50

PRESENCE: dict[str, object] = {
    "access.public_topics": ["*"],
    "presence.heartbeat_seconds": 0.5,
    "presence.grace_seconds": 1.25,
    "presence.sweep_seconds": 0.3,
}
# Nothing is refused for being too much, and a busy machine may take its time.
UNLIMITED: dict[str, object] = {
    "likes_limits.likes_per_second": 1000000,
    "likes_limits.likes_burst": 1000000,
    "likes_limits.comments_per_second": 1000000,
    "likes_limits.comments_burst": 1000000,
    "likes_limits.sessions_per_second": 1000000,
    "likes_limits.sessions_burst": 1000000,
}
APP: dict[str, object] = {
    **UNLIMITED,
    "likes.videos": ["red=Canyon at dusk", "green", *VIDEOS],
    "likes.publish_seconds": 20,
    "likes.viewers_seconds": 0.2,
    "likes_crowd.likes_per_second": CROWD_LIKES,
    # A second's likes at the most are on their way: so none of them can be left out.
    "likes_crowd.seconds": 1,
}
STRICT: dict[str, object] = {
    "likes_limits.likes_per_second": 0.01,
    "likes_limits.likes_burst": 2,
    "likes_limits.comments_per_second": 0.01,
    "likes_limits.comments_burst": 2,
    "likes_limits.sessions_per_second": 0.01,
    "likes_limits.sessions_burst": 4,
}

_videos = (video.partition("=")[0] for video in VIDEOS)
_numbers = itertools.count()


class Site:
    """The app as browsers reach it; cookies are sent only where a test says so."""

    def __init__(self, role: RoleProcess, listener: str = "listen") -> None:
        self.role = role
        self.url = role.url(listener)
        self.client = httpx.Client(
            base_url=self.url,
            timeout=DEADLINE_SECONDS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    def get(self, path: str, token: str = "") -> Any:
        """Return what the app tells."""
        answer = self.client.get(path, headers=bearer(token))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: object = None, token: str = "") -> httpx.Response:
        """Post JSON: an empty object, unless there is a body."""
        return self.client.post(path, json={} if body is None else body, headers=bearer(token))

    def done(self, path: str, body: object = None, token: str = "") -> Any:
        """Post what is taken, and return what is told of it."""
        answer = self.post(path, body, token)
        assert answer.status_code in (201, 202), answer.text
        return answer.json()

    def enter(self, name: str) -> str:
        """Take a name; return the token."""
        token: str = self.done("/session", {"name": name})["token"]
        return token


class Guest(msgspec.Struct, frozen=True):
    """Somebody with a name, and the token for it."""

    name: str
    token: str


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def cookie(token: str) -> dict[str, str]:
    return {"Cookie": f"a=b; rtdeliver_token={token}"}


def assert_log_is_clean(role: RoleProcess) -> None:
    assert "Traceback" not in role.output, role.output
    assert "Unhandled" not in role.output, role.output
    assert "eyJ" not in role.output, "a token is in the log"


@contextmanager
def site(
    dispatchers: Sequence[str], frontend_url: str, database: Path, *options: str
) -> Iterator[Site]:
    """Run ``rtlikes``, and look at its log in the end."""
    with likes(dispatchers, frontend_url, database, *options) as role:
        yield Site(role)
    assert_log_is_clean(role)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("likes")


@pytest.fixture(scope="module")
def key_options(folder: Path) -> list[str]:
    path = folder / "key"
    path.write_text(secrets.token_hex(32) + "\n")
    return ["--token-key-file", str(path)]


@pytest.fixture(scope="module")
def hub(write_config: WriteConfig) -> Iterator[RoleProcess]:
    with dispatcher(*write_config(PRESENCE)) as hub:
        yield hub
    assert_log_is_clean(hub)


@pytest.fixture(scope="module")
def node(
    hub: RoleProcess, key_options: list[str], write_config: WriteConfig
) -> Iterator[RoleProcess]:
    config = write_config({**PRESENCE, "routing.announce_seconds": 0.3})
    with frontend(hub.url("listen"), "n1", *config, *key_options) as node:
        yield node
    assert_log_is_clean(node)


@pytest.fixture(scope="module")
def app(
    hub: RoleProcess,
    node: RoleProcess,
    folder: Path,
    key_options: list[str],
    write_config: WriteConfig,
) -> Iterator[Site]:
    options = [*write_config(APP), *key_options, "--internal", LOOPBACK]
    with site([hub.url("listen")], node.url("public"), folder / "app.sqlite", *options) as app:
        yield app


@pytest.fixture(scope="module")
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


@pytest.fixture
def video() -> str:
    """A video that no other test uses."""
    return next(_videos)


@pytest.fixture
def ann(app: Site) -> Guest:
    return guest(app, "ann")


@pytest.fixture
def bob(app: Site) -> Guest:
    return guest(app, "bob")


def guest(app: Site, name: str) -> Guest:
    """Somebody whom no other test knows."""
    name = f"{name}{next(_numbers)}"
    return Guest(name, app.enter(name))


def told(stream: Stream, type: str) -> list[Any]:
    """The data of all events of one type that came."""
    return [event["data"] for event in stream.events if event["type"] == type]


def wait_told(viewers: Viewers, stream: Stream, type: str, count: int) -> list[Any]:
    """Wait for so many events of one type, and return the data of all that came."""
    viewers.wait(lambda: len(told(stream, type)) >= count, f"{count} events of {type} came")
    return told(stream, type)


# What is done is told, and kept.


def test_a_like_is_told_to_who_watches_this_video_and_counted(
    app: Site, node: RoleProcess, viewers: Viewers, ann: Guest, video: str
) -> None:
    other = next(_videos)
    stream = viewers.connect(node.url("public"), f"live:{video}")
    elsewhere = viewers.connect(node.url("public"), f"live:{other}")

    first = app.post(f"/videos/{video}/likes", {"reaction": "fire"}, ann.token)
    second = app.post(f"/videos/{video}/likes")
    third = app.post(f"/videos/{other}/likes", {"reaction": "star"})

    assert [answer.status_code for answer in (first, second, third)] == [201] * 3
    assert first.json() == {"likes": 1, "reaction": "fire", "delivery": "accepted"}
    assert second.json() == {"likes": 2, "reaction": "heart", "delivery": "accepted"}
    assert wait_told(viewers, stream, "like", 2) == [
        {"member": ann.name, "reaction": "fire", "likes": 1},
        {"member": None, "reaction": "heart", "likes": 2},
    ]
    assert {event["topic"] for event in stream.events} == {f"live:{video}"}
    assert wait_told(viewers, elsewhere, "like", 1) == [
        {"member": None, "reaction": "star", "likes": 1}
    ]
    page = app.get(f"/videos/{video}")
    assert (page["likes"], page["reactions"]) == (2, {"fire": 1, "heart": 1})
    assert sum(minute["likes"] for minute in page["minutes"]) == 2
    [summary] = [each for each in app.get("/videos")["videos"] if each["video"] == video]
    assert (summary["title"], summary["likes"]) == (page["title"], 2)


def test_a_comment_is_told_and_kept(
    app: Site, node: RoleProcess, viewers: Viewers, ann: Guest, video: str
) -> None:
    stream = viewers.connect(node.url("public"), f"comments:{video}")

    typing = app.post(f"/videos/{video}/typing", token=ann.token)
    answer = app.post(f"/videos/{video}/comments", {"text": " so good \r\n"}, ann.token)

    assert (typing.status_code, typing.json()) == (202, {"delivery": "accepted"})
    assert answer.status_code == 201
    comment = answer.json()["comment"]
    assert answer.json() == {"comment": comment, "delivery": "accepted"}
    assert comment.keys() == {"comment", "member", "text", "at"}
    assert (comment["member"], comment["text"]) == (ann.name, "so good")
    assert abs(comment["at"] / 1000 - time.time()) < DEADLINE_SECONDS
    assert wait_told(viewers, stream, "comment", 1) == [comment]
    assert told(stream, "typing") == [{"member": ann.name}]
    assert [event["topic"] for event in stream.events] == [f"comments:{video}"] * 2
    assert app.get(f"/videos/{video}")["comments"] == [comment]


def test_a_message_is_told_to_both_kept_and_seen(
    app: Site, node: RoleProcess, viewers: Viewers, ann: Guest, bob: Guest
) -> None:
    topic = f"conv:{'.'.join(sorted([ann.name, bob.name]))}"
    stream = viewers.connect(node.url("public"), topic)

    answer = app.post(f"/conversations/{bob.name}/messages", {"text": "hello"}, ann.token)

    assert answer.status_code == 201
    message = answer.json()["message"]
    assert answer.json() == {"message": message, "delivery": "accepted"}
    known = {"from": ann.name, "to": bob.name, "text": "hello", "seen": False}
    assert message == {**known, "message": message["message"], "at": message["at"]}
    assert wait_told(viewers, stream, "message", 1) == [message]
    for here, there in ((ann, bob), (bob, ann)):
        assert app.get(f"/conversations/{there.name}", here.token) == {
            "member": there.name,
            "topic": topic,
            "messages": [message],
        }
        assert app.get("/conversations", here.token)["conversations"] == [
            {
                "member": there.name,
                "topic": topic,
                "last": message,
                "unseen": 1 if here is bob else 0,
            }
        ]

    number = message["message"]
    seen = app.post(f"/conversations/{ann.name}/seen", {"message": number}, bob.token)

    assert (seen.status_code, seen.json()) == (201, {"message": number, "delivery": "accepted"})
    assert wait_told(viewers, stream, "seen", 1) == [{"by": bob.name, "message": number}]
    [kept] = app.get(f"/conversations/{bob.name}", ann.token)["messages"]
    assert kept == {**message, "seen": True}
    [conversation] = app.get("/conversations", bob.token)["conversations"]
    assert conversation["unseen"] == 0


def test_all_messages_up_to_the_one_that_was_seen_are_seen(
    app: Site, ann: Guest, bob: Guest
) -> None:
    path = f"/conversations/{bob.name}"
    texts = ["one", "two", "three"]
    sent = [app.done(f"{path}/messages", {"text": t}, ann.token)["message"] for t in texts]

    app.done(f"/conversations/{ann.name}/seen", {"message": sent[1]["message"]}, bob.token)

    kept = app.get(path, ann.token)["messages"]
    assert [(message["text"], message["seen"]) for message in kept] == [
        ("one", True), ("two", True), ("three", False),
    ]  # fmt: skip
    [conversation] = app.get("/conversations", bob.token)["conversations"]
    assert (conversation["unseen"], conversation["last"]) == (1, sent[2])


def test_somebody_new_is_told_of(app: Site, node: RoleProcess, viewers: Viewers) -> None:
    stream = viewers.connect(node.url("public"), "members")

    new = guest(app, "newcomer")

    wait_told(viewers, stream, "joined", 1)
    assert told(stream, "joined") == [{"member": new.name}]


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", '"&quot;\\n', "two\nlines", "👩‍🚀 ünï", "x" * 500, "名" * 500],
    ids=["script", "quotes", "lines", "beyond ASCII", "long", "long beyond ASCII"],
)
def test_a_text_comes_back_as_it_was_written(
    app: Site, node: RoleProcess, viewers: Viewers, ann: Guest, text: str
) -> None:
    stream = viewers.connect(node.url("public"), "comments:red")

    comment = app.done("/videos/red/comments", {"text": text}, ann.token)["comment"]

    assert comment["text"] == text
    assert wait_told(viewers, stream, "comment", 1) == [comment]
    assert app.get("/videos/red")["comments"][-1] == comment
    assert app.client.get("/videos/red").headers["Content-Type"] == "application/json"


def test_the_last_fifty_comments_and_messages_are_shown_in_their_order(
    app: Site, ann: Guest, bob: Guest, video: str
) -> None:
    paths = f"/videos/{video}/comments", f"/conversations/{bob.name}/messages"
    texts = [str(number) for number in range(KEPT + 5)]
    for path, text in itertools.product(paths, texts):
        app.done(path, {"text": text}, ann.token)

    comments = app.get(f"/videos/{video}")["comments"]
    messages = app.get(f"/conversations/{bob.name}", ann.token)["messages"]

    assert [comment["text"] for comment in comments] == texts[-KEPT:]
    assert [message["text"] for message in messages] == texts[-KEPT:]
    for shown, key in ((comments, "comment"), (messages, "message")):
        numbers = [each[key] for each in shown]
        assert numbers == sorted(set(numbers))


def test_the_number_of_viewers_is_shown_and_told_when_it_changes(
    app: Site, node: RoleProcess, viewers: Viewers, video: str
) -> None:
    def shown() -> object:
        summaries = {each["video"]: each for each in app.get("/videos")["videos"]}
        page = app.get(f"/videos/{video}")
        return page["viewers"] if page["viewers"] == summaries[video]["viewers"] else None

    eventually(lambda: shown() == 0, "none is counted")
    stream = viewers.connect(node.url("public"), f"live:{video}")
    eventually(lambda: shown() == 1, "one is counted")
    others = viewers.connect_many(3, node.url("public"), f"live:{video}")
    eventually(lambda: shown() == 4, "four are counted")
    for other in others[:2]:
        viewers.close(other)
    eventually(lambda: shown() == 2, "two are counted")

    viewers.wait(lambda: told(stream, "viewers")[-1:] == [{"viewers": 2}], "it was told of")
    counts = [data["viewers"] for data in told(stream, "viewers")]
    assert {1, 4, 2} <= set(counts)
    assert all(one != next_one for one, next_one in itertools.pairwise(counts))


def test_a_crowd_likes_as_often_as_is_set_and_one_comes_at_a_time(
    app: Site, node: RoleProcess, viewers: Viewers, video: str
) -> None:
    stream = viewers.connect(node.url("public"), f"live:{video}")
    path = f"/videos/{video}/crowd"

    def come() -> bool:
        answers.append(app.post(path))
        return answers[-1].status_code == 202

    answers: list[httpx.Response] = []
    eventually(lambda: not come(), "the next crowd is refused")
    assert_refused(answers[-1], 429, "too_many_requests")
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert answers[0].json() == {"likes_per_second": CROWD_LIKES, "seconds": 1}
    eventually(come, "another crowd may come when it has gone")

    crowds = sum(answer.status_code == 202 for answer in answers)
    total = crowds * CROWD_LIKES
    wait_told(viewers, stream, "like", total)
    eventually(lambda: app.post(path).status_code == 202, "the last crowd has gone")
    total += CROWD_LIKES
    numbers = [data["likes"] for data in wait_told(viewers, stream, "like", total)]
    assert sorted(numbers) == list(range(1, total + 1))
    assert {data["member"] for data in told(stream, "like")} == {None}
    page = app.get(f"/videos/{video}")
    assert page["likes"] == sum(page["reactions"].values()) == total
    assert metrics(app.role)["rtdeliver_app_crowd_skipped_total"] == 0


# Who somebody is.


def session_cookie(answer: httpx.Response) -> Morsel[str]:
    """The only cookie that an answer sets."""
    [field] = answer.headers.get_list("Set-Cookie")
    [morsel] = SimpleCookie(field).values()
    assert morsel.key == "rtdeliver_token"
    assert (morsel["path"], morsel["httponly"]) == ("/", True)
    assert morsel["samesite"].lower() == "lax"
    return morsel


def test_a_name_is_answered_by_a_token_in_the_body_and_in_a_cookie_that_no_script_reads(
    app: Site,
) -> None:
    answer = app.post("/session", {"name": "ann"})

    assert answer.status_code == 201
    session = answer.json()
    assert session.keys() == {"token", "member", "expires_at", "moderator"}
    assert session["member"] == "ann"
    assert abs(session["expires_at"] / 1000 - time.time() - 43200) < DEADLINE_SECONDS
    assert answer.headers["Cache-Control"] == "no-store"
    morsel = session_cookie(answer)
    assert morsel.value == session["token"]
    assert 43200 - DEADLINE_SECONDS < int(morsel["max-age"]) <= 43200


def test_a_member_is_there_while_it_has_streams_by_token_or_by_cookie(
    app: Site, node: RoleProcess, viewers: Viewers, ann: Guest
) -> None:
    def online() -> object:
        there = {each["member"]: each["online"] for each in app.get("/members")["members"]}
        return there[ann.name]

    watcher = viewers.connect(node.url("public"), f"presence:{ann.name}")
    assert online() is False
    streams = [
        viewers.connect(node.url("public"), "live:red", query={"token": ann.token}),
        viewers.connect(node.url("public"), "live:red", headers=cookie(ann.token)),
    ]
    assert wait_told(viewers, watcher, "presence", 1) == [{"member": ann.name, "status": "online"}]
    assert online() is True
    for stream in streams:
        viewers.close(stream)
    assert wait_told(viewers, watcher, "presence", 2)[1] == {
        "member": ann.name, "status": "offline",
    }  # fmt: skip
    assert online() is False


def test_a_session_is_resumed_by_its_token(app: Site, ann: Guest) -> None:
    for headers in (cookie(ann.token), bearer(ann.token)):
        answer = app.client.get("/session", headers=headers)
        assert answer.status_code == 200
        session = answer.json()
        assert (session["member"], session["token"]) == (ann.name, ann.token)
        assert session["expires_at"] / 1000 > time.time()


@pytest.mark.parametrize("old", ["", "x", "eyJ.eyJ.eyJ"])
def test_a_cookie_that_is_not_good_is_taken_away(app: Site, old: str) -> None:
    answer = app.client.get("/session", headers=cookie(old))

    assert (answer.status_code, answer.json()) == (200, {"member": None})
    morsel = session_cookie(answer)
    assert (morsel.value, morsel["max-age"]) == ("", "0")


def test_who_leaves_has_no_cookie_any_more(app: Site, ann: Guest) -> None:
    answer = app.client.delete("/session", headers=cookie(ann.token))

    assert (answer.status_code, answer.json()) == (200, {"member": None})
    morsel = session_cookie(answer)
    assert (morsel.value, morsel["max-age"]) == ("", "0")


def test_a_cookie_is_as_good_as_a_bearer_token(app: Site, ann: Guest, bob: Guest) -> None:
    path = f"/conversations/{bob.name}/messages"

    answer = app.client.post(path, json={"text": "hi"}, headers=cookie(ann.token))

    assert answer.status_code == 201
    assert answer.json()["message"]["from"] == ann.name


@pytest.mark.parametrize(
    "name", ["Jörg", "名前", "Дарья_7", "-_-", "a" * 24, "名" * 24, "मीरा"], ids=ascii
)
def test_a_name_of_any_language_works_everywhere(
    app: Site, node: RoleProcess, viewers: Viewers, bob: Guest, name: str
) -> None:
    topic = f"conv:{'.'.join(sorted([name, bob.name]))}"
    stream = viewers.connect(node.url("public"), topic, "comments:green", f"presence:{name}")
    path = f"/conversations/{quote(name)}"

    token = app.enter(name)
    member = viewers.connect(node.url("public"), query={"token": token})
    comment = app.done("/videos/green/comments", {"text": "hi"}, token)["comment"]
    sent = app.done(f"{path}/messages", {"text": "hi"}, bob.token)["message"]
    back = app.done(f"/conversations/{bob.name}/messages", {"text": "ho"}, token)["message"]
    app.done(f"{path}/seen", {"message": back["message"]}, bob.token)

    assert (comment["member"], sent["to"], back["from"]) == (name, name, name)
    assert wait_told(viewers, stream, "comment", 1) == [comment]
    wait_told(viewers, stream, "seen", 1)
    assert told(stream, "message") == [sent, back]
    assert wait_told(viewers, stream, "presence", 1) == [{"member": name, "status": "online"}]
    conversation = app.get(path, bob.token)
    assert (conversation["member"], conversation["topic"]) == (name, topic)
    assert {each["member"]: each["online"] for each in app.get("/members")["members"]}[name]
    viewers.close(member)


def test_a_name_is_the_same_however_its_letters_are_composed(app: Site, bob: Guest) -> None:
    composed = app.done("/session", {"name": "Zoë"})
    decomposed = app.done("/session", {"name": "Zoe\u0308"})

    assert composed["member"] == decomposed["member"] == "Zoë"
    path = f"/conversations/{quote('Zoe' + chr(0x308))}"
    assert app.done(f"{path}/messages", {"text": "hi"}, bob.token)["message"]["to"] == "Zoë"


# What is refused.


def assert_refused(answer: httpx.Response, status: int, error: str) -> None:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")
    refusal = answer.json()
    assert (refusal["error"], refusal.keys()) == (error, {"error", "message"})
    assert refusal["message"]


class Case(msgspec.Struct, frozen=True):
    """A request of ann, to whom bob may be told by ``@bob``, and how it is refused."""

    name: str
    path: str
    body: object
    status: int
    error: str


LIKES, COMMENTS = "/videos/red/likes", "/videos/red/comments"
MESSAGES, SEEN = "/conversations/@bob/messages", "/conversations/@bob/seen"
LIKE_REQUEST = (
    f"POST {LIKES} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
    "Content-Length: 2\r\n\r\n{}"
).encode()
BAD_BODIES = [
    Case("no JSON", COMMENTS, b"text", 400, "bad_json"),
    Case("an empty body", COMMENTS, b"", 400, "bad_json"),
    Case("a broken body", LIKES, b'{"reaction":"heart"', 400, "bad_json"),
    Case("a body not UTF-8", COMMENTS, b'{"text":"\xff"}', 400, "bad_json"),
    Case("half a surrogate pair", COMMENTS, b'{"text":"\\ud800"}', 400, "bad_json"),
    Case("a list", COMMENTS, ["text"], 400, "bad_request"),
    Case("null", MESSAGES, b"null", 400, "bad_request"),
    Case("an unknown field of a like", LIKES, {"likes": 1000}, 400, "bad_request"),
    Case("an unknown field", COMMENTS, {"text": "x", "at": 1}, 400, "bad_request"),
    Case("an unknown field of a session", "/session", {"name": "a", "b": 1}, 400, "bad_request"),
    Case("an unknown field of nothing", "/videos/red/typing", {"x": 1}, 400, "bad_request"),
    Case("a crowd with a wish", "/videos/red/crowd", {"seconds": 9}, 400, "bad_request"),
    Case("no text", COMMENTS, {}, 400, "bad_request"),
    Case("a text that is a number", COMMENTS, {"text": 5}, 400, "bad_request"),
    Case("an unknown reaction", LIKES, {"reaction": "love"}, 400, "bad_request"),
    Case("an empty text", COMMENTS, {"text": ""}, 400, "bad_request"),
    Case("a blank text", MESSAGES, {"text": " \n\t "}, 400, "bad_request"),
    *(
        Case(f"a text with {character!a}", path, {"text": f"a{character}b"}, 400, "bad_request")
        for character in ("\0", "\t", "\r", "\x1b", "\x7f", "\x85", "\u2028")
        for path in (COMMENTS, MESSAGES)
    ),
    Case("a long comment", COMMENTS, {"text": "x" * 501}, 413, "too_large"),
    Case("a long message", MESSAGES, {"text": "名" * 501}, 413, "too_large"),
    Case("a message to oneself", "/conversations/@ann/messages", {"text": "x"}, 400, "bad_request"),
    Case("nothing was seen", SEEN, {}, 400, "bad_request"),
    Case("a message numbered 0", SEEN, {"message": 0}, 400, "bad_request"),
    Case("a message numbered by a text", SEEN, {"message": "7"}, 400, "bad_request"),
    Case("a message beyond all numbers", SEEN, {"message": 2**63}, 400, "bad_request"),
    Case("a message that is none", SEEN, {"message": 2**63 - 1}, 404, "not_found"),
    Case("an unknown video", "/videos/blue/likes", {}, 404, "not_found"),
    Case("a comment on an unknown video", "/videos/blue/comments", {"text": "x"}, 404,
         "not_found"),
    Case("typing at an unknown video", "/videos/blue/typing", {}, 404, "not_found"),
    Case("a crowd at an unknown video", "/videos/blue/crowd", {}, 404, "not_found"),
    Case("an unknown member", "/conversations/nobody/messages", {"text": "x"}, 404, "not_found"),
    Case("a name that is none", "/conversations/a.b/messages", {"text": "x"}, 400, "bad_request"),
    Case("a long name", f"/conversations/{'a' * 25}/seen", {"message": 1}, 400, "bad_request"),
    Case("a path not UTF-8", "/conversations/%FF/messages", {"text": "x"}, 400, "bad_request"),
    Case("an unknown path", "/videos/red/shares", {}, 404, "not_found"),
    *(
        Case(f"the name {name!a}", "/session", {"name": name}, 400, "bad_request")
        for name in ("", "a.b", "a b", " a", "a\nb", "a\n", "a" * 25, "<b>", "a/b", "a:b", "ann!")
    ),
    Case("a name that is a number", "/session", {"name": 5}, 400, "bad_request"),
]  # fmt: skip


@pytest.mark.parametrize("case", BAD_BODIES, ids=[case.name for case in BAD_BODIES])
def test_what_is_not_as_it_should_be_is_refused(
    app: Site, ann: Guest, bob: Guest, case: Case
) -> None:
    path = case.path.replace("@ann", ann.name).replace("@bob", bob.name)
    body = case.body if isinstance(case.body, bytes) else msgspec.json.encode(case.body)
    headers = {**bearer(ann.token), "Content-Type": "application/json"}

    assert_refused(app.client.post(path, content=body, headers=headers), case.status, case.error)


@pytest.mark.parametrize("path", ["/videos/blue", "/nothing", "/videos/", "/conversations/a/b/c"])
def test_what_is_not_there_is_not_found(app: Site, path: str) -> None:
    assert_refused(app.client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", COMMENTS),
        ("POST", "/videos/red/typing"),
        ("POST", "/conversations/bob/messages"),
        ("POST", "/conversations/bob/seen"),
        ("GET", "/conversations"),
        ("GET", "/conversations/bob"),
    ],
)
def test_who_has_no_token_or_a_bad_one_is_told_to_get_one(
    app: Site, method: str, path: str
) -> None:
    body: dict[str, Any] = {"json": {"text": "x"}} if method == "POST" else {}
    for headers in ({}, bearer("eyJ.eyJ.eyJ"), cookie("old"), {"Authorization": "Basic YTpi"}):
        answer = app.client.request(method, path, headers=headers, **body)
        assert_refused(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_like_with_an_old_cookie_is_anonymous_and_with_a_bad_bearer_token_refused(
    app: Site, node: RoleProcess, viewers: Viewers, video: str
) -> None:
    stream = viewers.connect(node.url("public"), f"live:{video}")
    path = f"/videos/{video}/likes"

    taken = app.client.post(path, json={}, headers=cookie("old"))
    refused = app.client.post(path, json={}, headers=bearer("old"))

    assert taken.status_code == 201
    assert_refused(refused, 401, "unauthorized")
    assert [like["member"] for like in wait_told(viewers, stream, "like", 1)] == [None]
    assert app.get(f"/videos/{video}")["likes"] == 1


@pytest.mark.parametrize("path", ["/session", LIKES, COMMENTS, "/videos/red/crowd"])
@pytest.mark.parametrize(
    "sent",
    [
        {"data": {"name": "ann", "text": "x"}},
        {"content": b'{"text":"x"}', "headers": {"Content-Type": "text/plain"}},
        {"content": b'{"text":"x"}'},
    ],
    ids=["form", "text", "nothing said"],
)
def test_what_a_form_can_send_is_refused_whatever_the_cookie(
    app: Site, ann: Guest, path: str, sent: dict[str, Any]
) -> None:
    headers = {**sent.get("headers", {}), **cookie(ann.token)}

    answer = app.client.post(path, **{**sent, "headers": headers})

    assert_refused(answer, 415, "unsupported_media_type")
    assert answer.headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", LIKES, {"POST", "OPTIONS"}),
        ("PUT", "/session", {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}),
        ("POST", "/videos", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/videos/red", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/", {"GET", "HEAD", "OPTIONS"}),
        ("PATCH", "/conversations/bob/seen", {"POST", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    app: Site, method: str, path: str, allowed: set[str]
) -> None:
    answer = app.client.request(method, path)

    assert_refused(answer, 405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("size", [2 << 20, 20 << 20])
def test_a_huge_body_is_refused(app: Site, size: int) -> None:
    answer = app.client.post(
        "/session", content=b" " * size, headers={"Content-Type": "application/json"}
    )

    assert_refused(answer, 413, "too_large")
    assert app.get("/videos")


def test_who_does_too_much_is_told_when_to_come_again(
    hub: RoleProcess, tmp_path: Path, write_config: WriteConfig
) -> None:
    def often(path: str, body: object, token: str = "") -> None:
        """Twice is taken, and no more."""
        for _ in range(2):
            assert strict.post(path, body, token).status_code in (201, 202)
        for _ in range(2):
            answer = strict.post(path, body, token)
            assert_refused(answer, 429, "too_many_requests")
            assert 1 <= int(answer.headers["Retry-After"]) <= 100

    options = [*write_config(STRICT), "--internal", LOOPBACK]
    with site([hub.url("listen")], NOBODY, tmp_path / "app.sqlite", *options) as strict:
        ann, bob = guest(strict, "ann"), guest(strict, "bob")
        often("/session", {"name": "cyd"})
        often(LIKES, {})
        often(LIKES, {}, ann.token)
        often(COMMENTS, {"text": "x"}, ann.token)
        often(f"/conversations/{bob.name}/messages", {"text": "x"}, ann.token)
        often("/videos/green/typing", {}, bob.token)

        page = strict.get("/videos/red")
        assert (page["likes"], len(page["comments"])) == (4, 2)
        assert len(strict.get(f"/conversations/{bob.name}", ann.token)["messages"]) == 2
        counted = metrics(strict.role)
        for what, refused in {"likes": 6, "comments": 2, "messages": 2}.items():
            assert counted[f'rtdeliver_app_refused_total{{by="visitor",of="{what}"}}'] == refused
        assert counted['rtdeliver_app_refused_total{by="address",of="sessions"}'] == 2


def test_many_names_at_one_address_do_no_more_than_the_address_may(
    hub: RoleProcess, tmp_path: Path, write_config: WriteConfig
) -> None:
    """Each name may do everything twice, and an address three times as much."""
    config = {
        **STRICT,
        "likes_limits.sessions_burst": 1000,
        "likes_limits.address_members": 3,
        "likes.behind_proxy": True,
    }
    options = [*write_config(config), "--internal", LOOPBACK]
    with site([hub.url("listen")], NOBODY, tmp_path / "app.sqlite", *options) as strict:
        names = [guest(strict, "name") for _ in range(40)]
        to_eve = f"/conversations/{guest(strict, 'eve').name}"

        def taken(path: str, body: object, address: str) -> int:
            """How many requests are taken, of four of each name."""
            statuses = Counter(
                strict.client.post(
                    path,
                    json=body,
                    headers={**bearer(who.token), "X-Forwarded-For": f"192.0.2.1, {address}"},
                ).status_code
                for who in names
                for _ in range(4)
            )
            assert statuses.keys() <= {201, 202, 404, 429}
            return statuses.total() - statuses[429]

        everything: dict[str, object] = {
            LIKES: {},
            COMMENTS: {"text": "x"},
            f"{to_eve}/messages": {"text": "x"},
            # There is no such message, but whoever asks is counted.
            f"{to_eve}/seen": {"message": 99},
        }
        for path, body in everything.items():
            assert taken(path, body, "198.51.100.7") == 6, path
        assert taken("/videos/green/typing", {}, "198.51.100.7") == 0, "it counts as a like"
        # All of these are in one network. The first names have done what they may.
        networks = itertools.cycle(f"2001:db8::{number}" for number in range(9))
        assert sum(taken(LIKES, {}, next(networks)) for _ in range(2)) == 6
        counted = metrics(strict.role)
        for what in ("likes", "comments", "messages", "seen"):
            assert counted[f'rtdeliver_app_refused_total{{by="address",of="{what}"}}'] > 0


def test_without_a_proxy_nobody_chooses_its_address(
    hub: RoleProcess, tmp_path: Path, write_config: WriteConfig
) -> None:
    config = write_config({**STRICT, "likes_limits.address_members": 1})
    with site([hub.url("listen")], NOBODY, tmp_path / "app.sqlite", *config) as strict:
        statuses = [
            strict.client.post(
                LIKES, json={}, headers={"X-Forwarded-For": f"198.51.100.{number}"}
            ).status_code
            for number in range(4)
        ]
        assert statuses == [201, 201, 429, 429]


# What is kept when a process dies, and where two share a database.


def test_all_that_was_answered_is_there_after_a_kill_and_tokens_are_still_good(
    hub: RoleProcess, tmp_path: Path, write_config: WriteConfig
) -> None:
    database = tmp_path / "app.sqlite"
    config = write_config(UNLIMITED)
    answered: list[Any] = []

    def go_on(path: str, body: object, token: str, most: int) -> None:
        """Post until no answer comes any more."""
        with httpx.Client(base_url=killed.url, timeout=DEADLINE_SECONDS) as client:
            for _ in range(most):
                try:
                    answer = client.post(path, json=body, headers=bearer(token))
                except httpx.TransportError:
                    return
                assert answer.status_code == 201, answer.text
                answered.append(answer.json())

    def those(key: str) -> list[Any]:
        return [answer[key] for answer in answered if key in answer]

    with site([hub.url("listen")], NOBODY, database, *config) as killed:
        ann, bob = guest(killed, "ann"), guest(killed, "bob")
        to_bob = f"/conversations/{bob.name}/messages"
        threads = [
            *(threading.Thread(target=go_on, args=(LIKES, {}, "", 10**6)) for _ in range(3)),
            threading.Thread(target=go_on, args=(COMMENTS, {"text": "x"}, ann.token, KEPT)),
            threading.Thread(target=go_on, args=(to_bob, {"text": "x"}, ann.token, KEPT)),
        ]
        for thread in threads:
            thread.start()
        eventually(
            lambda: all(len(those(key)) > 20 for key in ("likes", "comment", "message")),
            "much is answered",
        )
        killed.role.signal(signal.SIGKILL)
        for thread in threads:
            thread.join(DEADLINE_SECONDS)

    with site([hub.url("listen")], NOBODY, database, *config) as again:
        page = again.get("/videos/red")
        # What each was sending is kept or not.
        assert len(those("likes")) <= page["likes"] <= len(those("likes")) + 3
        assert sum(page["reactions"].values()) == page["likes"]
        assert sum(minute["likes"] for minute in page["minutes"]) == page["likes"]
        comments = page["comments"]
        assert comments[: len(those("comment"))] == those("comment")
        messages = again.get(f"/conversations/{bob.name}", ann.token)["messages"]
        assert messages[: len(those("message"))] == those("message")
        assert again.get("/session", bob.token)["member"] == bob.name
        assert again.done(LIKES, {}, ann.token)["likes"] == page["likes"] + 1
        listed = {each["member"] for each in again.get("/members")["members"]}
        assert listed == {ann.name, bob.name}


def test_two_that_start_at_once_on_a_new_database_share_it_and_lose_nothing(
    hub: RoleProcess, tmp_path: Path, write_config: WriteConfig
) -> None:
    options = [
        *likes_options([hub.url("listen")], NOBODY, tmp_path / "app.sqlite"),
        *write_config(UNLIMITED),
    ]
    each_likes = 50

    def like(app: Site, token: str) -> None:
        with httpx.Client(base_url=app.url, timeout=DEADLINE_SECONDS) as client:
            for _ in range(each_likes):
                client.post(LIKES, json={}, headers=bearer(token)).raise_for_status()
                comment = client.post(COMMENTS, json={"text": "x"}, headers=bearer(token)).json()
                comments.append(comment["comment"]["comment"])

    comments: list[int] = []
    with ExitStack() as stack:
        roles = [RoleProcess("rtlikes", *options) for _ in range(2)]
        for role in roles:
            stack.callback(role.stop)
        one, other = (Site(role.wait_ready()) for role in roles)
        ann, bob = guest(one, "ann"), guest(other, "bob")
        # What one has signed is good at the other.
        threads = [
            threading.Thread(target=like, args=(app, who.token))
            for app in (one, other)
            for who in (ann, bob)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_SECONDS)

        total = each_likes * len(threads)
        assert len(set(comments)) == total
        for app in (one, other):
            page = app.get("/videos/red")
            assert page["likes"] == sum(m["likes"] for m in page["minutes"]) == total
            assert [c["comment"] for c in page["comments"]] == sorted(comments)[-KEPT:]
    for role in roles:
        assert_log_is_clean(role)


def test_the_key_that_it_makes_is_for_its_owner_alone(
    hub: RoleProcess, tmp_path: Path, write_config: WriteConfig
) -> None:
    database = tmp_path / "app.sqlite"
    with site([hub.url("listen")], NOBODY, database, *write_config(UNLIMITED)):
        key = Path(f"{database}.key")
        assert key.stat().st_mode & 0o777 == 0o600
        assert len(key.read_text().strip()) >= 32


def test_a_request_that_waits_for_the_database_is_answered_before_the_end(
    hub: RoleProcess, tmp_path: Path, write_config: WriteConfig
) -> None:
    database = tmp_path / "app.sqlite"
    config = write_config(
        {**UNLIMITED, "likes_database.busy_seconds": DEADLINE_SECONDS, "process.drain_seconds": 60}
    )
    with (
        site([hub.url("listen")], NOBODY, database, *config) as app,
        closing(sqlite3.connect(database, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        client = send(app.url, LIKE_REQUEST)
        try:
            app.role.signal(signal.SIGTERM)
            eventually(lambda: "rtlikes drains" in app.role.output, "it drains")
        finally:
            other.execute("ROLLBACK")
        with client:
            answer = client.makefile("rb").readline()
        assert app.role.wait() in (0, -signal.SIGTERM)
    assert answer.startswith(b"HTTP/1.1 201 ")


def test_who_leaves_while_the_database_is_busy_leaves_no_traceback(
    hub: RoleProcess, tmp_path: Path, write_config: WriteConfig
) -> None:
    database = tmp_path / "app.sqlite"
    config = write_config(
        {**UNLIMITED, "likes_database.busy_seconds": 0.5, "likes_database.check_seconds": 0.1}
    )
    with (
        site([hub.url("listen")], NOBODY, database, *config) as app,
        closing(sqlite3.connect(database, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        send_and_leave(app.url, LIKE_REQUEST)
        # It waits behind the first one.
        assert_refused(app.post(LIKES), 503, "unavailable")
        other.execute("ROLLBACK")
        eventually(lambda: app.client.get("/videos/red").is_success, "the database is used again")
        assert app.post(LIKES).json()["likes"] == 1


def test_what_was_done_by_who_has_left_is_told_all_the_same(
    app: Site, node: RoleProcess, viewers: Viewers, folder: Path, video: str
) -> None:
    stream = viewers.connect(node.url("public"), f"live:{video}")
    with closing(sqlite3.connect(folder / "app.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            send_and_leave(app.url, LIKE_REQUEST.replace(b"/red/", b"/%b/" % video.encode()))
        finally:
            other.execute("ROLLBACK")

    assert app.done(f"/videos/{video}/likes")["likes"] == 2
    assert sorted(like["likes"] for like in wait_told(viewers, stream, "like", 2)) == [1, 2]


def place_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def send(url: str, request: bytes) -> socket.socket:
    """Send a request, and wait until the server has read it."""
    client = socket.create_connection(place_of(url), DEADLINE_SECONDS)
    client.sendall(request)
    eventually(lambda: unread_by_server(client) == 0, "the request is read")
    return client


def send_and_leave(url: str, request: bytes) -> None:
    """Send a request, and leave before the answer; return when the server has hung up, too."""
    with send(url, request) as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def unread_by_server(client: socket.socket) -> int | None:
    """How many bytes wait at the other side of a connection in this machine (proc(5)), if known."""
    ports = [f"{place[1]:04X}" for place in (client.getpeername(), client.getsockname())]
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    queues = [fields[4] for fields in sockets if [fields[1][9:], fields[2][9:]] == ports]
    # The table is read in pieces, and may lack a line where others come and go.
    return int(queues[0][9:], 16) if queues else None


# Dispatchers that fail.


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class Faulty(msgspec.Struct, frozen=True):
    """An app, its two dispatchers, and how they are started."""

    app: Site
    cluster: Cluster
    options: list[str]
    stack: ExitStack

    def restart(self) -> None:
        """Start again, at their old places, those dispatchers that have ended."""
        for number, role in enumerate(self.cluster.dispatchers):
            if not role.is_running():
                place = f"tcp:{place_of(role.url('listen'))[1]}:interface=127.0.0.1"
                again = RoleProcess("rtdispatcher", "--listen", place, *self.options)
                self.stack.callback(again.stop)
                self.cluster.dispatchers[number] = again.wait_ready()
        self.cluster.wait_ready()

    def kill(self, *numbers: int) -> None:
        for number in numbers:
            self.cluster.dispatchers[number].stop()

    def published(self) -> dict[str, int]:
        """How many events the app has published, and failed to."""
        counted = metrics(self.app.role)
        return {
            delivery: int(counted[f'rtdeliver_app_published_total{{delivery="{delivery}"}}'])
            for delivery in ("accepted", "failed")
        }

    def like(self, video: str, times: int) -> list[str]:
        """Like a video; return how each like was delivered."""
        path = f"/videos/{video}/likes"
        return [self.app.done(path)["delivery"] for _ in range(times)]


@pytest.fixture(scope="module")
def lasting(server: RedisServer, folder: Path, write_config: WriteConfig) -> Iterator[Faulty]:
    options = ["--redis", server.url, *write_config(QUICK)]
    settings = {
        **APP,
        "likes.videos": ["red", "v1", "v2", "v3"],
        "likes.publish_seconds": 1,
        "retry.max_seconds": 0.5,
    }
    with ExitStack() as stack:
        cluster = stack.enter_context(running_cluster([options] * 2, [write_config(QUICK)]))
        urls = [cluster.url(number) for number in range(2)]
        own = [*write_config(settings), "--internal", LOOPBACK]
        app = stack.enter_context(site(urls, NOBODY, folder / "faulty.sqlite", *own))
        yield Faulty(app, cluster, options, stack)
        for role in cluster.dispatchers:
            assert_log_is_clean(role)


@pytest.fixture
def faulty(lasting: Faulty) -> Faulty:
    lasting.restart()
    eventually(lambda: lasting.like("red", 1) == ["accepted"], "likes are accepted")
    return lasting


def wait_likes(viewers: Viewers, stream: Stream, count: int) -> None:
    """Wait until each of so many likes has come, and assert that none came twice."""
    wait_told(viewers, stream, "like", count)
    numbers = [data["likes"] for data in told(stream, "like")]
    assert sorted(numbers) == list(range(1, count + 1))


def test_of_two_dispatchers_one_is_killed_and_every_like_is_accepted_and_seen_once(
    faulty: Faulty, viewers: Viewers
) -> None:
    topic = "live:v1"
    stream = viewers.connect(faulty.cluster.frontends[0].url("public"), topic)
    faulty.cluster.wait_routed(topic, n1=1)

    before = faulty.like("v1", 10)
    # A dispatcher that is killed takes along what it has accepted and not delivered.
    wait_likes(viewers, stream, 10)
    faulty.kill(0)
    after = faulty.like("v1", 20)

    assert before + after == ["accepted"] * 30
    wait_likes(viewers, stream, 30)


def test_a_dispatcher_that_hangs_keeps_no_like_from_being_answered_accepted_and_seen_once(
    faulty: Faulty, viewers: Viewers
) -> None:
    topic = "live:v2"
    stream = viewers.connect(faulty.cluster.frontends[0].url("public"), topic)
    faulty.cluster.wait_routed(topic, n1=1)
    hanging = faulty.cluster.dispatchers[1]
    warned = hanging.url("listen") + " fails"
    faulty.like("v2", 1)
    logged = len(faulty.app.role.log)

    hanging.signal(signal.SIGSTOP)
    try:
        likes = 1
        while warned not in "\n".join(faulty.app.role.log[logged:]) or likes < 20:
            assert faulty.like("v2", 1) == ["accepted"]
            likes += 1
    finally:
        hanging.signal(signal.SIGCONT)

    faulty.cluster.wait_ready()
    assert faulty.like("v2", 1) == ["accepted"]
    # The one that hung may have published by now what it was sent, and nobody has seen that twice.
    wait_likes(viewers, stream, likes + 1)
    assert_log_is_clean(hanging)


def test_without_any_dispatcher_all_is_kept_and_told_to_have_failed_until_one_is_back(
    faulty: Faulty, viewers: Viewers
) -> None:
    app = faulty.app
    faulty.kill(0, 1)
    ann, bob = guest(app, "ann"), guest(app, "bob")
    before = faulty.published()

    likes = [app.post("/videos/v3/likes") for _ in range(2)]
    comment = app.done("/videos/v3/comments", {"text": "x"}, ann.token)
    message = app.done(f"/conversations/{bob.name}/messages", {"text": "x"}, ann.token)
    seen = {"message": message["message"]["message"]}

    assert [answer.status_code for answer in likes] == [201] * 2
    assert [answer.json()["delivery"] for answer in likes] == ["failed"] * 2
    assert (comment["delivery"], message["delivery"]) == ("failed", "failed")
    assert app.done(f"/conversations/{ann.name}/seen", seen, bob.token)["delivery"] == "failed"
    assert faulty.published() == {**before, "failed": before["failed"] + 5}
    page = app.get("/videos/v3")
    assert (page["likes"], page["comments"]) == (2, [comment["comment"]])
    assert len(app.get(f"/conversations/{bob.name}", ann.token)["messages"]) == 1
    eventually(lambda: viewer_counts(app) == {None}, "nobody knows who watches")
    assert {each["online"] for each in app.get("/members")["members"]} == {None}

    faulty.restart()
    before = faulty.published()
    eventually(lambda: faulty.like("v3", 1) == ["accepted"], "likes are accepted again")
    assert faulty.published()["accepted"] == before["accepted"] + 1
    eventually(lambda: None not in viewer_counts(app), "it is known who watches")
    stream = viewers.connect(faulty.cluster.frontends[0].url("public"), "live:v3")
    faulty.cluster.wait_routed("live:v3", n1=1)
    total = app.done("/videos/v3/likes")["likes"]
    # What was not told at its time is told by the number of all.
    assert [like["likes"] for like in wait_told(viewers, stream, "like", 1)] == [total]


def viewer_counts(app: Site) -> set[int | None]:
    return {video["viewers"] for video in app.get("/videos")["videos"]}


def test_who_asks_a_dispatcher_and_leaves_while_redis_hangs_leaves_no_traceback(
    write_config: WriteConfig,
) -> None:
    with (
        RedisServer() as hanging,
        dispatcher("--redis", hanging.url, *write_config(QUICK)) as router,
    ):
        url = router.url("listen")
        eventually(lambda: HTTP.get(f"{url}/health/ready").status_code == 200, "it is ready")
        hanging.pause()
        send_and_leave(url, b"GET /topics?topic=live:red HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(
            lambda: HTTP.get(f"{url}/topics?topic=live:red").status_code == 503, "it gave up"
        )
    assert_log_is_clean(router)


# The page.


class References(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        named = {"link": "href", "a": "href", "use": "href"}.get(tag, "src")
        self.found += [value for name, value in attributes if name == named and value]


def test_the_page_refers_to_nothing_but_files_that_are_served(app: Site) -> None:
    references = References()
    references.feed(app.client.get("/").text)

    for reference in references.found:
        parts = urlsplit(reference)
        if parts.scheme == "data" or not parts.path:
            continue
        assert (parts.scheme, parts.netloc) == ("", ""), reference
        answer = app.client.get(f"/{parts.path.removeprefix('./').removeprefix('/')}")
        assert answer.status_code == 200, reference


def test_the_page_runs_no_script_but_its_own(app: Site, node: RoleProcess) -> None:
    answer = app.client.get("/")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = answer.headers["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"
    assert rules["connect-src"].split() == ["'self'", node.url("public")]
    assert "unsafe" not in policy
    assert app.client.get("/index.html").content == answer.content


def test_pages_of_other_origins_may_load_the_client_module(app: Site) -> None:
    answer = app.client.get("/rtdeliver.js", headers={"Origin": "http://elsewhere.example"})

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("accepted", ["gzip, deflate, br", "", "identity", "gzip;q=0", "br"])
@pytest.mark.parametrize("path", ["/", "/rtdeliver.js"])
def test_a_file_is_sent_again_only_if_it_has_changed_and_never_to_head(
    app: Site, path: str, accepted: str
) -> None:
    fields = {"Accept-Encoding": accepted}
    answer = app.client.get(path, headers=fields)
    head = app.client.head(path, headers=fields)
    etag = answer.headers["ETag"]
    same = app.client.get(path, headers={**fields, "If-None-Match": etag})
    other = app.client.get(path, headers={**fields, "If-None-Match": '"other"'})
    plain = app.client.get(path, headers={"Accept-Encoding": "identity"})

    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")
    assert answer.content
    assert (head.status_code, head.content) == (200, b"")
    is_compressed = accepted == "gzip, deflate, br"
    assert answer.headers.get("Content-Encoding") == ("gzip" if is_compressed else None)
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.content == plain.content
    assert (etag == plain.headers["ETag"]) is not is_compressed
    assert answer.headers["Content-Length"] == head.headers["Content-Length"]
    assert int(head.headers["Content-Length"]) <= len(answer.content)
    assert head.headers["ETag"] == answer.headers["ETag"]
    assert (same.status_code, same.content) == (304, b"")
    assert (other.status_code, other.content) == (200, answer.content)


@pytest.mark.parametrize(
    "target",
    [
        "/missing.js",
        "/..%2fapp.py",
        "/..%2F..%2Fconfig.py",
        "/%2e%2e/app.py",
        "/../app.py",
        "/../../../../etc/passwd",
        "//etc/passwd",
        "/%2Fetc%2Fpasswd",
        "/..%5capp.py",
        "/page/index.html",
        "/index.html%00.js",
        "/.",
        "/..",
    ],
)
def test_nothing_else_is_served(app: Site, target: str) -> None:
    # As bytes: a client library would put such a path right.
    connection = http.client.HTTPConnection(*place_of(app.url), timeout=DEADLINE_SECONDS)
    connection.request("GET", target)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()

    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/json")
    assert msgspec.json.decode(body)["error"] == "not_found"


def test_the_settings_tell_the_page_what_it_needs(app: Site, node: RoleProcess) -> None:
    settings = app.get("/settings")

    assert abs(settings.pop("now") / 1000 - time.time()) < DEADLINE_SECONDS
    assert settings == {
        "frontend": node.url("public"),
        "reactions": ["heart", "star", "fire", "laugh"],
        "name_characters": 24,
        "comment_characters": 500,
        "crowd_likes_per_second": CROWD_LIKES,
        "crowd_seconds": 1,
    }


# In one process.


@pytest.fixture(scope="module")
def all_in_one(folder: Path, write_config: WriteConfig) -> Iterator[Site]:
    options = ["--app", LOOPBACK, "--database", str(folder / "combined.sqlite")]
    with combined(*write_config({**APP, **PRESENCE}), *options) as role:
        yield Site(role, "app")
    assert_log_is_clean(role)


def test_the_app_in_one_process_with_the_rest_does_the_same(
    all_in_one: Site, viewers: Viewers
) -> None:
    app, public = all_in_one, all_in_one.role.url("public")
    ann = guest(app, "ann")
    stream = viewers.connect(public, "live:red", f"presence:{ann.name}")
    member = viewers.connect(public, query={"token": ann.token})

    assert app.done(LIKES, {}, ann.token) == {
        "likes": 1, "reaction": "heart", "delivery": "accepted",
    }  # fmt: skip
    assert wait_told(viewers, stream, "like", 1) == [
        {"member": ann.name, "reaction": "heart", "likes": 1}
    ]
    assert wait_told(viewers, stream, "presence", 1) == [{"member": ann.name, "status": "online"}]
    assert app.get("/members")["members"] == [{"member": ann.name, "online": True}]
    eventually(lambda: app.get("/videos/red")["viewers"] == 1, "the viewer is counted")
    viewers.wait(lambda: told(stream, "viewers")[-1:] == [{"viewers": 1}], "it is told of")
    viewers.close(member)
    assert wait_told(viewers, stream, "presence", 2)[1]["status"] == "offline"
    counted = metrics(app.role)
    assert counted["rtdeliver_app_likes_total"] == 1
    assert counted['rtdeliver_app_published_total{delivery="failed"}'] == 0


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:8000", "localhost"),
        ("live.example", "live.example"),
        ("[::1]:8000", "[::1]"),
    ],
)
def test_the_page_of_one_process_finds_the_streams_at_the_host_that_was_asked(
    all_in_one: Site, host: str, expected: str
) -> None:
    port = urlsplit(all_in_one.role.url("public")).port
    url = f"http://{expected}:{port}"

    settings = all_in_one.client.get("/settings", headers={"Host": host})
    page = all_in_one.client.get("/", headers={"Host": host})

    assert settings.json()["frontend"] == url
    assert f"connect-src 'self' {url};" in page.headers["Content-Security-Policy"]


def test_a_host_that_is_none_gets_no_page(all_in_one: Site) -> None:
    host = "bad host'; script-src *"
    assert_refused(all_in_one.client.get("/", headers={"Host": host}), 400, "bad_request")


def test_a_frontend_that_is_set_is_the_one_that_the_page_finds(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    url = "https://events.example"
    options = ["--app", LOOPBACK, "--database", str(tmp_path / "app.sqlite")]
    with combined(*options, *write_config({"likes.frontend": url})) as role:
        app = Site(role, "app")
        assert app.get("/settings")["frontend"] == url
        policy = app.client.get("/").headers["Content-Security-Policy"]
        assert f"connect-src 'self' {url};" in policy
    assert_log_is_clean(role)


def origin_headers(url: str, origin: str) -> Mapping[str, str]:
    """What a page of an origin is told when it opens a stream."""
    with HTTP.stream("GET", f"{url}/connect", headers={"Origin": origin}) as opened:
        assert opened.status_code == 200
        return opened.headers


def test_pages_of_the_same_host_may_read_the_streams_and_others_not(all_in_one: Site) -> None:
    public = all_in_one.role.url("public")
    for origin in (all_in_one.url, "http://127.0.0.1:3000", "https://127.0.0.1"):
        headers = origin_headers(public, origin)
        assert headers["Access-Control-Allow-Origin"] == origin
        assert headers["Access-Control-Allow-Credentials"] == "true"
    for origin in ("http://localhost", "http://127.0.0.1.evil.example", "null", "http://a.example"):
        headers = origin_headers(public, origin)
        assert "Access-Control-Allow-Origin" not in headers, origin
