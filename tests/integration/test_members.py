"""Members at a real frontend: tokens, streams that end with them, and heartbeats."""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.integration.conftest import WriteConfig
from tests.integration.roles import (
    HTTP,
    RoleProcess,
    combined,
    dispatcher,
    eventually,
    frontend,
    metrics,
)
from tests.integration.streams import Stream, Viewers

KEY = secrets.token_hex(32)
# Three seconds without a heartbeat, and a member is gone.
PRESENCE = {
    "access.public_topics": ["*"],
    "presence.heartbeat_seconds": 0.5,
    "presence.grace_seconds": 1.25,
    "presence.sweep_seconds": 0.3,
}
# These take longer.
HEARTBEATS = 7


def token(member: object = "ann", seconds: float = 3600, key: str = KEY) -> str:
    """Return a token as the documentation says that any backend makes one."""
    return jwt.encode({"sub": member, "exp": int(time.time() + seconds)}, key, algorithm="HS256")


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_text(KEY + "\n")
    return path


@pytest.fixture(scope="module")
def hub(write_config: WriteConfig) -> Iterator[RoleProcess]:
    with dispatcher(*write_config(PRESENCE)) as hub:
        yield hub


@pytest.fixture(scope="module")
def node(hub: RoleProcess, key_file: Path, write_config: WriteConfig) -> Iterator[RoleProcess]:
    options = [*write_config(PRESENCE), "--token-key-file", str(key_file)]
    with frontend(hub.url("listen"), "n1", *options) as node:
        yield node
        assert "Traceback" not in node.output, node.output
        assert "eyJ" not in node.output, "a token is in the log"


def online(hub: RoleProcess, member: str, listener: str = "listen") -> bool:
    [answer] = HTTP.get(f"{hub.url(listener)}/presence", params={"member": member}).json()
    return bool(answer["online"])


def refusal(url: str, **request: Any) -> tuple[int, str]:
    answer = HTTP.get(f"{url}/connect", **request)
    assert answer.headers["Content-Type"] == "application/json"
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize(
    "bad",
    [
        token(seconds=-1),
        token(key=secrets.token_hex(32)),
        token()[:-2],
        token(member=""),
        token(member="a" * 257),
        jwt.encode({"sub": "ann"}, KEY, algorithm="HS256"),
        jwt.encode({"sub": "ann", "exp": 2**33}, KEY, algorithm="HS512"),
        jwt.encode({"sub": "ann", "exp": 2**33}, "", algorithm="none"),
        "x",
        "\u2603",
    ],
    ids=[
        "expired", "other key", "cut", "no name", "long name", "no end",
        "other algorithm", "unsigned", "no token", "no ASCII",
    ],
)  # fmt: skip
def test_a_bad_token_is_refused_before_any_stream(node: RoleProcess, bad: str) -> None:
    url = node.url("public")
    before = metrics(node)["rtdeliver_connections_started_total"]
    assert refusal(url, params={"token": bad}) == (401, "unauthorized")
    if bad.isascii():
        headers = {"Authorization": f"Bearer {bad}"}
        assert refusal(url, headers=headers) == (401, "unauthorized")
    assert metrics(node)["rtdeliver_connections_started_total"] == before


@pytest.mark.parametrize("bad", [token(seconds=-1), "of another application"])
def test_a_bad_cookie_is_none(node: RoleProcess, bad: str) -> None:
    with Viewers() as viewers:
        headers = {"Cookie": f"a=b; rtdeliver_token={bad}"}
        assert viewers.connect(node.url("public"), "live:red", headers=headers).connection
        assert metrics(node)["rtdeliver_members"] == 0


def test_two_tokens_are_refused(node: RoleProcess) -> None:
    query = f"token={token()}&token={token()}"
    assert refusal(node.url("public"), params=query) == (400, "bad_request")


@pytest.mark.parametrize("way", ["query", "header", "cookie"])
def test_a_member_is_there_as_long_as_a_stream_is(
    hub: RoleProcess, node: RoleProcess, way: str
) -> None:
    member = f"ann-{way}"
    headers = {}
    if way == "header":
        headers = {"Authorization": f"bearer {token(member)}"}
    elif way == "cookie":
        headers = {"Cookie": f"a=b; rtdeliver_token={token(member)}"}
    with Viewers() as viewers:
        watcher = viewers.connect(node.url("public"), f"presence:{member}")
        stream = connect(viewers, node, member, ["live:red"], headers, in_query=way == "query")
        viewers.wait(lambda: len(watcher.events) == 1, f"{member} is there")
        assert online(hub, member)
        wait_heartbeats(hub)
        assert online(hub, member)
        viewers.close(stream)
        viewers.wait(lambda: len(watcher.events) == 2, f"{member} is gone")
        assert [event["data"]["status"] for event in watcher.events] == ["online", "offline"]


def wait_heartbeats(hub: RoleProcess) -> None:
    """Wait until the only member who is there would be gone without heartbeats."""

    def noted() -> float:
        return metrics(hub, "listen")["rtdeliver_presence_heartbeats_total"]

    goal = noted() + HEARTBEATS
    eventually(lambda: noted() >= goal, "heartbeats were needed")


def connect(
    viewers: Viewers,
    node: RoleProcess,
    member: str,
    topics: list[str],
    headers: dict[str, str],
    *,
    in_query: bool,
    seconds: float = 3600,
) -> Stream:
    query = {"token": token(member, seconds)} if in_query else {}
    return viewers.connect(node.url("public"), *topics, headers=headers, query=query)


def test_an_anonymous_viewer_needs_no_token_and_has_no_presence(node: RoleProcess) -> None:
    with Viewers() as viewers:
        viewers.connect(node.url("public"), "live:red")
        assert metrics(node)["rtdeliver_members"] == 0


def test_the_stream_ends_with_its_token(node: RoleProcess) -> None:
    with Viewers() as viewers:
        stream = connect(viewers, node, "bob", ["live:red"], {}, in_query=True, seconds=6)
        other = connect(viewers, node, "cyd", ["live:red"], {}, in_query=True)
        viewers.wait(lambda: stream.ended, "the stream ended")
        assert stream.ended_cleanly
        assert [frame.data for frame in stream.control("expired")] == [{"expired": True}]
        assert not other.ended
        assert metrics(node)['rtdeliver_connections_closed_total{reason="expired"}'] == 1


def test_several_streams_of_a_member_on_several_frontends_are_one_presence(
    hub: RoleProcess, node: RoleProcess, key_file: Path, write_config: WriteConfig
) -> None:
    options = [*write_config(PRESENCE), "--token-key-file", str(key_file)]
    with frontend(hub.url("listen"), "n2", *options) as second, Viewers() as viewers:
        watcher = viewers.connect(node.url("public"), "presence:dan")
        streams = [
            connect(viewers, at, "dan", [], {}, in_query=True) for at in (node, node, second)
        ]
        viewers.wait(lambda: len(watcher.events) == 1, "dan is there")
        viewers.close(streams[0])
        viewers.close(streams[1])
        # The one on the other frontend is enough, and so is it when the first has died.
        wait_heartbeats(hub)
        assert online(hub, "dan")
        second.stop()
        viewers.wait(lambda: len(watcher.events) == 2, "dan is gone with the frontend")
        assert [event["data"]["status"] for event in watcher.events] == ["online", "offline"]


def test_a_frontend_without_a_key_looks_at_no_token() -> None:
    with combined() as role, Viewers() as viewers:
        stream = viewers.connect(role.url("public"), "live:red", query={"token": "x"})
        assert stream.connection
        assert metrics(role)["rtdeliver_members"] == 0


def test_both_in_one_process(key_file: Path, write_config: WriteConfig) -> None:
    options = [*write_config(PRESENCE), "--token-key-file", str(key_file)]
    with combined(*options) as role, Viewers() as viewers:
        watcher = viewers.connect(role.url("public"), "presence:ann")
        stream = connect(viewers, role, "ann", [], {}, in_query=True)
        viewers.wait(lambda: len(watcher.events) == 1, "ann is there")
        assert online(role, "ann", "internal")
        viewers.close(stream)
        viewers.wait(lambda: len(watcher.events) == 2, "ann is gone")
        assert not online(role, "ann", "internal")
