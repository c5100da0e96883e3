"""Who watches what, over several frontends and dispatchers, and in one process."""

import signal
import time
from collections.abc import Iterator

import jwt
import pytest

from tests.integration.clusters import QUICK, Cluster, running_cluster
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import HTTP, combined, eventually
from tests.integration.streams import Viewers

KEY = "correct-horse-battery-staple-correct-horse"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, write_config: WriteConfig) -> list[str]:
    key = tmp_path_factory.mktemp("keys") / "key"
    key.write_text(KEY)
    return list(
        write_config({**QUICK, "access.keys": [f"hs256:{key}"], "access.public_topics": ["*"]})
    )


@pytest.fixture(scope="module")
def cluster(config: list[str]) -> Iterator[Cluster]:
    with (
        RedisServer() as server,
        running_cluster([["--redis", server.url]] * 2, [config] * 2) as cluster,
    ):
        yield cluster


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


def token(member: str) -> str:
    return jwt.encode({"sub": member, "exp": time.time() + 600}, KEY, algorithm="HS256")


def pages(url: str, field: str) -> list[object]:
    """Return all entries of a list, page by page."""
    found, after = [], ""
    while True:
        page = HTTP.get(f"{url}&limit=2&after={after}").json()
        found += page[field]
        assert len(page[field]) <= 2
        if page["next"] is None:
            return found
        after = page["next"]


def test_topics_and_members_are_listed_at_every_dispatcher(
    cluster: Cluster, viewers: Viewers
) -> None:
    first, second = (role.url("public") for role in cluster.frontends)
    for url, topics, member in (
        (first, ["live:a", "live:b"], "ann"),
        (second, ["live:a", "live:c"], "ann"),
        (second, ["live:a", "chat"], "bob/☃"),
        (first, ["live:a"], "cyd"),
        (first, ["live:a", "live:b"], None),
    ):
        query = {} if member is None else {"token": token(member)}
        viewers.connect(url, *topics, query=query)
    expected = [("live:a", 5), ("live:b", 2), ("live:c", 1)]
    for number in (0, 1):
        url = cluster.url(number)

        def listed(url: str = url) -> list[tuple[str, int]]:
            return [
                (topic["topic"], topic["viewers"])  # type: ignore[index]
                for topic in pages(f"{url}/topics?prefix=live:", "topics")
            ]

        eventually(lambda list_=listed: list_() == expected, "all are counted")  # type: ignore[misc]
        members = pages(f"{url}/topics/members?topic=live:a", "members")
        assert members == ["ann", "bob/☃", "cyd"]
        told = HTTP.get(f"{url}/topics/members?topic=live:a").json()
        assert told == {"topic": "live:a", "members": members, "anonymous": 1, "next": None}


def test_a_frontend_that_does_not_answer_is_named(cluster: Cluster, viewers: Viewers) -> None:
    for role in cluster.frontends:
        viewers.connect(role.url("public"), "live:x")
    cluster.wait_routed("live:x", n1=1, n2=1)
    cluster.frontends[1].signal(signal.SIGSTOP)
    try:
        told = HTTP.get(f"{cluster.url(0)}/topics/members?topic=live:x").json()
        assert (told["missing"], told["anonymous"]) == (["n2"], 1)
    finally:
        cluster.frontends[1].signal(signal.SIGCONT)


def test_one_process_lists_its_own(config: list[str], viewers: Viewers) -> None:
    with combined(*config) as role:
        viewers.connect(role.url("public"), "live:x", query={"token": token("ann")})
        url = role.url("internal")
        eventually(
            lambda: (
                HTTP.get(f"{url}/topics?prefix=").json()
                == {"topics": [{"topic": "live:x", "viewers": 1}], "next": None}
            ),
            "it is listed",
        )
        told = HTTP.get(f"{url}/topics/members?topic=live:x").json()
        assert told == {"topic": "live:x", "members": ["ann"], "anonymous": 0, "next": None}


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?topic=a&prefix=b",
        "?topic=a&topic=b",
        "?prefix=a&limit=0",
        "?prefix=a&limit=1001",
        "?prefix=a&limit=many",
        "?prefix=a&limit=1&limit=2",
        "?prefix=a&after=nonsense",
        "?prefix=%ff",
        "/members",
        "/members?topic=",
        "/members?topic=a&topic=b",
    ],
)
def test_a_question_that_is_wrong_is_refused(cluster: Cluster, query: str) -> None:
    answer = HTTP.get(f"{cluster.url(0)}/topics{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] in ("bad_request", "bad_topic")
