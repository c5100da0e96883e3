"""Who may publish: with a secret everything, with a token what it grants."""

import base64
import hashlib
import hmac
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.integration.conftest import WriteConfig
from tests.integration.roles import (
    HTTP,
    RoleProcess,
    combined,
    dispatcher,
    eventually,
    frontend,
)
from tests.integration.streams import Viewers

SHARED = "correct-horse-battery-staple-correct-horse"
RSA = rsa.generate_private_key(65537, 2048)
PUBLIC_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
SECRETS = ("the-new-secret", "the-old-secret")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, write_config: WriteConfig) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "hs").write_text(SHARED)
    (folder / "rsa").write_bytes(PUBLIC_PEM)
    (folder / "secrets").write_text("\n".join(SECRETS))
    keys = {
        "access.keys": [f"hs256:{folder / 'hs'}", f"pem:{folder / 'rsa'}"],
        "access.public_topics": ["*"],
    }
    return {
        "open": write_config(keys),
        "guarded": write_config({**keys, "access.secret_file": str(folder / "secrets")}),
    }


@pytest.fixture(scope="module", params=["open", "guarded"])
def role(request: pytest.FixtureRequest, options: dict[str, Any]) -> Iterator[RoleProcess]:
    with combined(*options[request.param]) as role:
        yield role
    assert "Traceback" not in role.output
    assert "eyJ" not in role.output, "a token is in the log"
    assert SECRETS[0] not in role.output, "a secret is in the log"


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


def token(*publish: str, key: Any = SHARED, algorithm: str = "HS256", **more: Any) -> str:
    claims = {"exp": time.time() + 600, "iat": time.time() - 5, "publish": list(publish), **more}
    return jwt.encode(claims, key, algorithm=algorithm)


def publish(
    role: RoleProcess, credential: str | None, *topics: str, chunked: bool = False
) -> httpx.Response:
    """Publish one event as JSON, or several as lines, with a blank one after each."""
    lines = b"\n\n".join(b'{"topic":"%b","data":1}' % topic.encode() for topic in topics)
    kind = "application/json" if len(topics) == 1 else "application/x-ndjson"
    headers = {"Content-Type": kind}
    if credential is not None:
        headers["Authorization"] = f"Bearer {credential}"
    [url] = [role.url(key) for key in ("internal", "listen") if key in role.ports]
    body = iter([lines]) if chunked else lines
    return HTTP.post(f"{url}/publish", content=body, headers=headers)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_token_publishes_what_it_grants_and_nothing_else(
    role: RoleProcess, viewers: Viewers, *, chunked: bool
) -> None:
    stream = viewers.connect(role.url("public"), "conv:a", "conv:b", "live:x")
    for good in (token("conv:*"), token("conv:*", key=RSA, algorithm="RS256")):
        assert publish(role, good, "conv:a", chunked=chunked).status_code == 202
        assert publish(role, good, "conv:a", "conv:b", chunked=chunked).json() == {"accepted": 2}
        refused = publish(role, good, "live:x", chunked=chunked)
        assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
        assert refused.json()["topics"] == ["live:x"]
        refused = publish(role, good, "live:x", "conv:a", "live:y", "live:x", chunked=chunked)
        assert refused.status_code == 403
        assert refused.json()["topics"] == ["live:x", "live:y"]
        assert refused.json()["lines"] == [1, 5, 7]
    viewers.wait(lambda: len(stream.events) == 6, "what was granted has come")
    assert {event["topic"] for event in stream.events} == {"conv:a", "conv:b"}


def test_a_token_without_the_claim_publishes_nothing(role: RoleProcess) -> None:
    nothing = jwt.encode({"exp": time.time() + 600, "subscribe": ["*"]}, SHARED, "HS256")
    assert publish(role, nothing, "live:x").status_code == 403


def forged(alg: str) -> str:
    """Return a token that is signed with the text of the public key."""

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    head = part(json.dumps({"alg": alg, "typ": "JWT"}).encode())
    body = part(json.dumps({"exp": 2**33, "publish": ["*"]}).encode())
    signature = hmac.new(PUBLIC_PEM, head + b"." + body, hashlib.sha256).digest()
    return b".".join((head, body, part(signature))).decode()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (lambda: token("*", exp=time.time() - 1), "exp"),
        (lambda: token("*", exp="soon"), "exp"),
        (lambda: token("*", exp=float("nan")), "exp"),
        (lambda: token("*", key="x" * 40), "signed"),
        (lambda: token("*", key=None, algorithm="none"), "alg"),
        (lambda: forged("HS256"), "signed"),
        (lambda: forged("RS256"), "signed"),
        (lambda: jwt.encode({"exp": 2**33, "publish": "*"}, SHARED, "HS256"), "publish"),
        (lambda: "a.b.c", "JSON Web Token"),
        (lambda: token("*", sub=5), "sub"),
    ],
)
def test_a_bad_token_is_refused_with_what_is_wrong(role: RoleProcess, bad: Any, why: str) -> None:
    answer = publish(role, bad(), "live:x")
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized"), answer.text
    assert why in answer.json()["message"]


def test_a_huge_token_is_refused_and_nobody_is_hurt(role: RoleProcess) -> None:
    answer = publish(role, "a." + "b" * 100_000 + ".c", "live:x")
    assert answer.status_code == 431
    assert publish(role, token("live:*"), "live:x").status_code == 202


def test_a_token_opens_nothing_but_publish(options: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {token('*')}", "Content-Type": "application/json"}
    with combined(*options["guarded"]) as role:
        for method, path in (
            ("POST", "/deliver"),
            ("POST", "/forward"),
            ("POST", "/disconnect"),
            ("POST", "/subscriptions"),
            ("POST", "/members/ann/topics"),
            ("GET", "/revocations"),
            ("GET", "/topics?topic=x"),
            ("GET", "/metrics"),
        ):
            url = role.url("internal") + path
            assert HTTP.request(method, url, headers=headers, content=b"{}").status_code == 401


def test_a_token_that_was_revoked_publishes_nothing(role: RoleProcess) -> None:
    good = token("live:*", sub="mallory", jti="m1")
    assert publish(role, good, "live:x").status_code == 202
    secret = {"Authorization": f"Bearer {SECRETS[0]}"}
    for body in ({"member": "mallory"}, {"token": "m2"}):
        url = role.url("internal") + "/disconnect"
        assert HTTP.post(url, json=body, headers=secret).status_code == 202
    for bad in (good, token("live:*", jti="m2")):
        answer = publish(role, bad, "live:x")
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    later = token("live:*", sub="mallory", iat=time.time() + 30)
    assert publish(role, later, "live:x").status_code == 202


def test_the_secrets_publish_everything_and_a_wrong_one_nothing(options: dict[str, Any]) -> None:
    with dispatcher(*options["guarded"]) as hub:
        for secret in SECRETS:
            assert publish(hub, secret, "live:x").status_code == 202
            assert publish(hub, secret, "live:x", "conv:a").status_code == 202
        for wrong in (None, "the-newest-secret", "the.wrong.secret"):
            assert publish(hub, wrong, "live:x").status_code == 401
        assert publish(hub, token("live:*"), "live:x").status_code == 202


def test_secrets_are_replaced_without_an_interruption(
    tmp_path: Path, write_config: WriteConfig, viewers: Viewers
) -> None:
    """The dispatcher's file changes before the frontend's; each step is done on both."""
    files = [tmp_path / name for name in ("hub", "node")]
    quick = {"routing.announce_seconds": 0.5, "routing.lease_seconds": 3}
    configs = [write_config({"access.secret_file": str(file), **quick}) for file in files]
    for file in files:
        file.write_text("old\n")
    with (
        dispatcher(*configs[0]) as hub,
        frontend(hub.url("listen"), "n1", *configs[1]) as node,
    ):
        stream = viewers.connect(node.url("public"), "live:x")
        published = 0
        for content, good in (
            ("old\nnew\n", ["old"]),
            ("new\nold\n", ["old", "new"]),
            ("new\n", ["new"]),
        ):
            for file, role in zip(files, (hub, node), strict=True):
                file.write_text(content)
                seen = role.output.count("reloaded access.secret_file")
                role.signal(signal.SIGHUP)
                eventually(
                    lambda r=role, n=seen: r.output.count("reloaded access.secret_file") > n,  # type: ignore[misc]
                    "it has reloaded",
                )
                for secret in good:
                    assert publish(hub, secret, "live:x").status_code == 202
                    published += 1
        viewers.wait(lambda: len(stream.events) == published, "every event has come")
        assert publish(hub, "old", "live:x").status_code == 401
        assert stream.control("gap") == []
