"""Who may watch what, over HTTP: tokens that prove it, and tokens that do not."""

import base64
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from tests.integration.conftest import WriteConfig
from tests.integration.roles import (
    HTTP,
    LOOPBACK,
    RoleProcess,
    combined,
    dispatcher,
    eventually,
    frontend,
    publish,
)
from tests.integration.streams import Viewers

SHARED = "correct-horse-battery-staple-correct-horse"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
FAR = 2**33
CLAIMS: dict[str, Any] = {
    "sub": "ann",
    "exp": FAR,
    "subscribe": ["conv:ann:*"],
    "topics": ["in:ann"],
}


def pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


@pytest.fixture(scope="module")
def role(
    tmp_path_factory: pytest.TempPathFactory, write_config: WriteConfig
) -> Iterator[RoleProcess]:
    folder = tmp_path_factory.mktemp("keys")
    files = {name: folder / name for name in ("hs", "rsa", "ec")}
    files["hs"].write_text(SHARED)
    files["rsa"].write_bytes(pem(RSA))
    files["ec"].write_bytes(pem(EC))
    keys = [f"hs256:{files['hs']}", f"pem:{files['rsa']}", f"pem:{files['ec']}"]
    config = write_config({"access.keys": keys, "access.public_topics": ["live:*"]})
    with combined(*config) as role:
        yield role
    assert "Traceback" not in role.output
    assert "eyJ" not in role.output, "a token is in the log"


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    with Viewers() as viewers:
        yield viewers


def connect(role: RoleProcess, token: str | None, *topics: str) -> httpx.Response:
    """Try to open a stream; return the answer if it is refused, without a body if it is not."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    query: dict[str, Any] = {"topic": list(topics)}
    url = role.url("public") + "/connect"
    with httpx.stream("GET", url, params=query, headers=headers, timeout=60) as answer:
        if answer.status_code != 200:
            answer.read()
        return answer


def test_what_is_public_is_open_and_all_else_needs_a_grant(
    role: RoleProcess, viewers: Viewers
) -> None:
    assert connect(role, None, "live:red").status_code == 200
    refused = connect(role, None, "live:red", "conv:ann:bob", "secret")
    assert refused.status_code == 403
    assert refused.json()["error"] == "forbidden"
    assert refused.json()["topics"] == ["conv:ann:bob", "secret"]
    for key, algorithm in ((SHARED, "HS256"), (RSA, "RS256"), (EC, "ES256")):
        token = jwt.encode(CLAIMS, key, algorithm=algorithm)
        assert connect(role, token, "live:red", "conv:ann:bob").status_code == 200
        assert connect(role, token, "conv:bob:cyd").json()["topics"] == ["conv:bob:cyd"]
    stream = viewers.connect(role.url("public"), query={"token": token})
    [connected] = stream.control("connected")
    assert connected.data["topics"] == ["in:ann"]
    publish(role, {"topic": "in:ann", "data": 1})
    viewers.wait(lambda: len(stream.events) == 1, "it is watched from the start")
    refused = stream.subscribe(add=["conv:ann:bob", "conv:bob:cyd"])
    assert (refused.status_code, refused.json()["topics"]) == (403, ["conv:bob:cyd"])
    assert stream.subscribe(add=["conv:ann:bob"]).status_code in (200, 202)


def test_a_refusal_at_connect_is_a_whole_answer(role: RoleProcess) -> None:
    """No part of the head of a stream is in it, so that the client knows where it ends."""
    url = role.url("public") + "/connect"
    for topics, status, error in (
        (["secret"], 403, "forbidden"),
        ([f"live:{number}" for number in range(101)], 409, "too_many_topics"),
    ):
        answer = httpx.get(url, params={"topic": topics}, timeout=30)
        assert (answer.status_code, answer.json()["error"]) == (status, error)
        assert "transfer-encoding" not in answer.headers


def test_a_refusal_of_another_frontend_is_passed_on(
    write_config: WriteConfig, viewers: Viewers
) -> None:
    config = write_config({"access.public_topics": ["live:*"]})
    with (
        dispatcher() as hub,
        frontend(hub.url("listen"), "n1", *config) as first,
        frontend(hub.url("listen"), "n2", *config) as second,
    ):
        stream = viewers.connect(first.url("public"), "live:red")
        url = f"{second.url('public')}/connections/{stream.connection}/topics"
        answer = HTTP.post(url, json={"add": ["secret", "live:green"]})
        assert answer.status_code == 403, answer.text
        assert answer.json()["topics"] == ["secret"]


def signed(claims: object, **head: Any) -> str:
    """Return a token with any claims; PyJWT would refuse to make some of them."""
    payload = json.dumps(claims).encode()
    return jwt.api_jws.encode(payload, SHARED, algorithm="HS256", headers=head)


def unsigned(**head: Any) -> str:
    parts = [json.dumps(part).encode() for part in ({"typ": "JWT", **head}, CLAIMS)]
    return ".".join(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in parts) + "."


ATTACKS: dict[str, tuple[Callable[[], str], str]] = {
    "no algorithm": (lambda: unsigned(alg="none"), "alg"),
    "no algorithm in capitals": (lambda: unsigned(alg="NONE"), "alg"),
    "an algorithm that is no string": (lambda: unsigned(alg=["HS256"]), "refused"),
    "no head": (lambda: unsigned(), "refused"),
    "an unknown algorithm": (
        lambda: jwt.encode(CLAIMS, SHARED * 2, algorithm="HS512"),
        "alg",
    ),
    "another key": (lambda: jwt.encode(CLAIMS, "x" * 32, algorithm="HS256"), "right key"),
    "a path as the key's name": (lambda: signed(CLAIMS, kid="../../etc/passwd") + "x", "refused"),
    "SQL as the key's name": (lambda: signed(CLAIMS, kid="' OR 1=1; --") + "x", "refused"),
    "an end in quotes": (lambda: signed({**CLAIMS, "exp": str(FAR)}), "exp"),
    "an end that is not a number": (lambda: signed({**CLAIMS, "exp": float("nan")}), "refused"),
    "an end before the beginning of time": (lambda: signed({**CLAIMS, "exp": -1}), "exp"),
    "an end beyond any date": (lambda: signed({**CLAIMS, "exp": 10**400}), "refused"),
    "no end": (lambda: signed({"sub": "ann"}), "exp"),
    "grants that are a string": (lambda: signed({**CLAIMS, "subscribe": "*"}), "subscribe"),
    "grants that are an object": (lambda: signed({**CLAIMS, "subscribe": {"*": 1}}), "subscribe"),
    "grants that are numbers": (lambda: signed({**CLAIMS, "publish": [1]}), "publish"),
    "an empty pattern": (lambda: signed({**CLAIMS, "subscribe": [""]}), "subscribe"),
    "very many patterns": (lambda: signed({**CLAIMS, "subscribe": ["a"] * 101}), "subscribe"),
    "a topic that is none": (lambda: signed({**CLAIMS, "topics": ["a\nb"]}), "topics"),
    "claims that are a list": (lambda: signed([CLAIMS]), "refused"),
    "a name that is a number": (lambda: signed({**CLAIMS, "sub": 5}), "sub"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_token_that_proves_nothing_is_refused_with_what_is_wrong(
    attack: str, role: RoleProcess
) -> None:
    make, what = ATTACKS[attack]
    answer = connect(role, make(), "conv:ann:bob")
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized"), answer.text
    assert what in answer.json()["message"]
    assert connect(role, None, "live:red").status_code == 200


def test_a_public_key_signs_nothing(role: RoleProcess) -> None:
    """Whoever has the public key, and everybody may, must not be able to make tokens with it."""
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "typ": "JWT"}, CLAIMS)
    )
    sign = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign
    signature = base64.urlsafe_b64encode(sign(head + b"." + body, pem(RSA))).rstrip(b"=")
    answer = connect(role, b".".join((head, body, signature)).decode(), "conv:ann:bob")
    assert answer.status_code == 401


def test_a_token_of_any_size_is_answered(role: RoleProcess) -> None:
    for size in (10_000, 100_000):
        answer = connect(role, signed({**CLAIMS, "x": "y" * size}), "live:red")
        assert answer.status_code in (200, 431), answer.text
    stars = signed({**CLAIMS, "subscribe": ["*a" * 500 + "b"] * 10})
    began = time.monotonic()
    assert connect(role, stars, "x" + "a" * 1000).status_code == 403
    assert time.monotonic() - began < 30


class Login:
    """A login service that publishes its keys, or does something else."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.behaviour = "well"
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                if outer.behaviour == "hangs":
                    time.sleep(3)
                if outer.behaviour == "redirects":
                    self.send_response(302)
                    self.send_header("Location", outer.url)
                    self.end_headers()
                    return
                items = [
                    {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": kid}
                    for kid, key in outer.keys.items()
                ]
                body = json.dumps({"keys": items}).encode()
                if outer.behaviour == "is garbage":
                    body = b"\xff\x00" * 100
                if outer.behaviour == "is huge":
                    body = b'{"keys":[' + b"0," * (1 << 20) + b"0]}"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def __enter__(self) -> "Login":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_the_keys_of_a_login_service_are_used_whatever_becomes_of_it(
    write_config: WriteConfig,
) -> None:
    with Login() as login:
        login.keys = {"first": RSA}
        config = write_config(
            {
                "access.keys": [f"jwks:{login.url}"],
                "access.public_topics": [],
                "access.jwks_refresh_seconds": 0.5,
                "http.request_seconds": 1,
            }
        )
        with combined(*config) as role:
            token = jwt.encode(CLAIMS, RSA, algorithm="RS256", headers={"kid": "first"})
            eventually(
                lambda: connect(role, token, "conv:ann:bob").status_code == 200, "it is fetched"
            )
            for behaviour in ("hangs", "redirects", "is garbage", "is huge"):
                login.behaviour = behaviour
                asked = login.asked
                eventually(lambda a=asked: login.asked >= a + 1, "it is asked")  # type: ignore[misc]
                assert connect(role, token, "conv:ann:bob").status_code == 200
                assert HTTP.get(role.url("internal") + "/health/ready").status_code == 200
            login.behaviour = "well"
            second = rsa.generate_private_key(65537, 2048)
            login.keys = {"second": second}
            new = jwt.encode(CLAIMS, second, algorithm="RS256", headers={"kid": "second"})
            eventually(
                lambda: connect(role, new, "conv:ann:bob").status_code == 200,
                "the new key is fetched",
            )
            assert connect(role, token, "conv:ann:bob").status_code == 401
            assert "Traceback" not in role.output


def test_keys_need_to_be_told_what_is_public(tmp_path: Path, write_config: WriteConfig) -> None:
    key = tmp_path / "key"
    key.write_text(SHARED)
    config = write_config({"access.keys": [f"hs256:{key}"]})
    process = RoleProcess("rtcombined", "--public", LOOPBACK, "--internal", LOOPBACK, *config)
    try:
        eventually(lambda: not process.is_running(), "it ends")
        assert "access.public_topics" in process.output
    finally:
        process.stop()


def test_settings_of_before_go_on_working_with_a_warning(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(SHARED)
    with combined("--token-key-file", str(key)) as role:
        assert connect(role, None, "anything").status_code == 200
        assert connect(role, signed(CLAIMS), "anything").status_code == 200
        assert connect(role, "nonsense", "anything").status_code == 401
        [warning] = (line for line in role.log if "anybody may watch everything" in line)
        assert "access.public_topics" in warning


def test_a_key_that_changes_is_used_after_a_reload_and_ends_no_stream(
    tmp_path: Path, write_config: WriteConfig, viewers: Viewers
) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(pem(RSA))
    config = write_config({"access.keys": [f"pem:{key}"], "access.public_topics": []})
    other = rsa.generate_private_key(65537, 2048)
    tokens = [jwt.encode(CLAIMS, each, algorithm="RS256") for each in (RSA, other)]
    with combined(*config) as role:
        stream = viewers.connect(role.url("public"), query={"token": tokens[0]})
        assert connect(role, tokens[1]).status_code == 401
        key.write_bytes(pem(other))
        role.signal(1)
        eventually(lambda: connect(role, tokens[1]).status_code == 200, "the new key is used")
        assert connect(role, tokens[0]).status_code == 401
        publish(role, {"topic": "in:ann", "data": 1})
        viewers.wait(lambda: len(stream.events) == 1, "the stream goes on")


def test_nothing_secret_is_in_metrics_or_on_the_status_page(
    role: RoleProcess, viewers: Viewers
) -> None:
    token = jwt.encode(CLAIMS, SHARED, algorithm="HS256")
    viewers.connect(role.url("public"), query={"token": token})
    assert connect(role, token + "x").status_code == 401
    publish(role, {"topic": "in:ann", "data": 1})
    inside = role.url("internal")
    shown = [
        HTTP.get(f"{inside}/metrics").text,
        HTTP.get(f"{inside}/status", headers={"Accept": "application/json"}).text,
        HTTP.get(f"{inside}/status").text,
    ]
    for text in shown:
        assert SHARED not in text
        assert token not in text
        assert token.rpartition(".")[2] not in text
