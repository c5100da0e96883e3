"""Keys that a login service publishes."""

import json
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import AnsweredNo, AnswerLost, Unauthorized, Unreachable
from rtdeliver.http.client import Answer
from rtdeliver.http.jwks import Identifier, Jwks
from rtdeliver.tokens import TokenChecker

URL = "https://login.example.com/jwks.json"
OLD, NEW = (rsa.generate_private_key(65537, 2048) for _ in range(2))


def key_set(**keys: Any) -> bytes:
    items = [
        {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": kid}
        for kid, key in keys.items()
    ]
    return json.dumps({"keys": items}).encode()


def token(key: Any, kid: str) -> str:
    claims = {"sub": "ann", "exp": 2**33}
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid})


class ScriptedClient:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Answer]] = []

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        assert url == URL, headers
        self.asked.append(Deferred())
        return await self.asked[-1]

    def answer(self, body: bytes) -> None:
        self.asked.pop().callback(Answer(200, body))

    def fail(self, error: Exception) -> None:
        self.asked.pop().errback(error)


class JwksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.client = ScriptedClient()
        self.keys = Jwks(
            URL,
            client=self.client,  # type: ignore[arg-type]
            refresh_seconds=300,
            clock=self.clock,
            draw=lambda _, most: most,
        )
        self.identifier = Identifier(
            TokenChecker([self.keys]), [self.keys], lambda: self.clock.seconds()
        )

    def start(self, body: bytes) -> None:
        self.keys.start()
        self.clock.advance(0)
        self.client.answer(body)

    def member(self, token: str) -> str | None:
        """Return whose token it is, without another fetch."""
        found = self.identifier.identify(token)
        assert not isinstance(found, Deferred)
        return found.member

    def test_what_was_fetched_is_used_at_once(self) -> None:
        self.start(key_set(old=OLD))
        self.assertEqual(self.member(token(OLD, "old")), "ann")
        self.assertEqual(self.keys.missing(), [])

    def test_until_the_first_fetch_something_is_missing_and_tokens_wait(self) -> None:
        self.keys.start()
        self.clock.advance(0)
        self.assertIn(URL, self.keys.missing()[0])
        self.client.answer(key_set(old=OLD))
        self.assertEqual(self.keys.missing(), [])

    def test_the_keys_are_fetched_again_and_again(self) -> None:
        self.start(key_set(old=OLD))
        self.clock.advance(299)
        self.assertEqual(self.client.asked, [])
        self.clock.advance(1)
        self.client.answer(key_set(new=NEW))
        self.assertEqual(self.member(token(NEW, "new")), "ann")
        self.assertRaises(Unauthorized, self.member, token(OLD, "old"))

    def test_an_unknown_key_lets_them_be_fetched_once_for_all_who_wait(self) -> None:
        self.start(key_set(old=OLD))
        self.clock.advance(61)
        waiting = [self.identifier.identify(token(NEW, "new")) for _ in range(3)]
        self.assertEqual(len(self.client.asked), 1)
        self.client.answer(key_set(old=OLD, new=NEW))
        for found in waiting:
            assert isinstance(found, Deferred)
            self.assertEqual(self.successResultOf(found).member, "ann")

    def test_unknown_keys_cannot_make_it_fetch_more_than_once_a_minute(self) -> None:
        self.start(key_set(old=OLD))
        self.clock.advance(61)
        found = self.identifier.identify(token(NEW, "nonsense"))
        self.client.answer(key_set(old=OLD))
        assert isinstance(found, Deferred)
        self.failureResultOf(found, Unauthorized)
        for number in range(100):
            self.assertRaises(
                Unauthorized, self.identifier.identify, token(NEW, f"nonsense{number}")
            )
        self.assertEqual(self.client.asked, [])

    def test_while_they_cannot_be_fetched_the_last_ones_are_used(self) -> None:
        self.start(key_set(old=OLD))
        for error in (Unreachable("away"), AnswerLost("too late"), AnsweredNo(302, "elsewhere")):
            self.clock.advance(300)
            self.client.fail(error)
            self.assertEqual(self.member(token(OLD, "old")), "ann")
        for body in (b"", b"nonsense", b"[]", b'{"keys":[]}', b"[" * 100_000):
            self.clock.advance(300)
            self.client.answer(body)
            self.assertEqual(self.member(token(OLD, "old")), "ann")

    def test_after_a_failure_it_is_tried_again_soon(self) -> None:
        self.keys.start()
        self.clock.advance(0)
        self.client.fail(Unreachable("away"))
        self.clock.advance(10)
        self.client.answer(key_set(old=OLD))
        self.assertEqual(self.member(token(OLD, "old")), "ann")

    def test_it_ends(self) -> None:
        self.start(key_set(old=OLD))
        self.clock.advance(300)
        self.keys.stop()
        self.client.answer(key_set(old=OLD))
        self.assertEqual(self.clock.getDelayedCalls(), [])
