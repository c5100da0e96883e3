"""Tests of rtdeliver.tokens."""

import base64
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import jwt
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import ConfigError, Unauthorized
from rtdeliver.grants import grants, patterns
from rtdeliver.model import Member, Topic
from rtdeliver.tokens import (
    ApplicationKey,
    Identity,
    TokenChecker,
    TokenKey,
    TokenRules,
    make_token_key,
    read_token_key,
)

KEY = b"k" * 32
ANN = Identity(Member("ann"), 1000.0)


def unsigned(claims: object) -> str:
    """Return a token that says it needs no signature."""
    parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


class TokenKeyTests(SynchronousTestCase):
    def test_a_token_is_good_until_it_expires(self) -> None:
        key = TokenKey(KEY)
        token = key.sign(ANN)
        self.assertEqual(key.check(token, now=999.9), ANN)
        refusal = self.assertRaises(Unauthorized, key.check, token, now=1000.0)
        self.assertIn("expired", str(refusal))

    def test_other_backends_can_sign(self) -> None:
        claims = {"sub": "ann", "exp": 1000, "iat": 5_000, "aud": "else", "role": "host"}
        token = jwt.encode(claims, KEY, algorithm="HS256")
        self.assertEqual(TokenKey(KEY).check(token, now=0), replace(ANN, issued_at=5_000))

    def test_only_the_time_that_is_given_decides(self) -> None:
        """The system's clock, and when the token was issued, do not."""
        key, far = TokenKey(KEY), 99_999_999_999
        claims = {"sub": "ann", "exp": far + 9, "nbf": far, "iat": far + 8}
        token = jwt.encode(claims, KEY, algorithm="HS256")
        expected = Identity(Member("ann"), far + 9, issued_at=far + 8)
        self.assertEqual(key.check(token, now=far), expected)
        refusal = self.assertRaises(Unauthorized, key.check, token, now=far - 0.1)
        self.assertIn("nbf says that it is not valid yet", str(refusal))

    def test_what_is_not_signed_for_here_is_refused(self) -> None:
        def signed(claims: dict[str, Any], key: bytes = KEY, algorithm: str = "HS256") -> str:
            return jwt.encode(claims, key, algorithm=algorithm)

        good = {"sub": "ann", "exp": 1000}
        refused = {
            "nothing": "",
            "no token": "a.b.c",
            "another key": signed(good, b"x" * 32),
            "another algorithm": signed(good, b"k" * 64, "HS512"),
            "no signature": unsigned(good),
            "no end": signed({"sub": "ann"}),
            "an empty subject": signed({"sub": "", "exp": 1000}),
            "a line break in the subject": signed({"sub": "a\nb", "exp": 1000}),
            "an end that is no number": signed({"sub": "ann", "exp": "soon"}),
            "an end in quotes": signed({"sub": "ann", "exp": "1000"}),
            "an end that is not finite": signed({"sub": "ann", "exp": float("inf")}),
            "a beginning that is no number": signed({**good, "nbf": "soon"}),
            "not yet": signed({**good, "nbf": 99_999_999_999}),
        }
        for name, token in refused.items():
            with self.subTest(name):
                self.assertRaises(Unauthorized, TokenKey(KEY).check, token, now=0)

    def test_the_claim_that_is_wrong_is_named(self) -> None:
        good = {"sub": "ann", "exp": 1000}
        for change, what in (
            ({"sub": 42}, "sub must be the name of a member, a string, not 42"),
            ({"sub": ""}, "sub is not the name of a member"),
            ({"exp": None}, "exp must be a number, seconds since the epoch, not missing"),
            ({"exp": "soon"}, "exp must be a number, seconds since the epoch, not 'soon'"),
            ({"exp": True}, "exp must be a number"),
            ({"exp": 10**400}, "exp must be a number"),
            ({"exp": -1}, "exp says that it has expired"),
            ({"nbf": "x"}, "nbf must be a number"),
            ({"nbf": 2}, "nbf says that it is not valid yet"),
        ):
            claims = {
                name: value for name, value in {**good, **change}.items() if value is not None
            }
            token = (
                jwt.encode(claims, KEY, algorithm="HS256")
                if claims.get("sub") != 42
                else (jwt.api_jws.encode(json.dumps(claims).encode(), KEY, algorithm="HS256"))
            )
            refusal = self.assertRaises(Unauthorized, TokenKey(KEY).check, token, now=0)
            self.assertIn(what, str(refusal))
        other = jwt.encode(good, b"x" * 32, algorithm="HS256")
        refusal = self.assertRaises(Unauthorized, TokenKey(KEY).check, other, now=0)
        self.assertIn("not signed with the right key", str(refusal))

    def test_all_that_a_token_says_can_be_signed_and_read(self) -> None:
        holder = Identity(
            member=None,
            expires_at=1000.0,
            grants=grants(patterns(["conv:ann:*"]), patterns(["live:*", "b"])),
            topics=(Topic("inbox:ann"),),
            issued_at=5.0,
            token_id="t1",
        )
        key = TokenKey(KEY)
        self.assertEqual(key.check(key.sign(holder), now=0), holder)

    def test_a_wrong_claim_of_what_may_be_done_is_named(self) -> None:
        for change, what in (
            ({"subscribe": "*"}, "subscribe must be a list of strings, not '*'"),
            ({"subscribe": [1]}, "subscribe must be a list of strings"),
            ({"publish": None}, "publish must be a list of strings, not missing"),
            ({"publish": [""]}, "publish is wrong: a pattern must have"),
            ({"topics": ["a\nb"]}, "topics is wrong: a topic must be"),
            ({"topics": ["a"] * 101}, "topics must be at most 100, not 101"),
            ({"jti": 5}, "jti must be a string, not 5"),
            ({"iat": "x"}, "iat must be a number"),
        ):
            payload = json.dumps({"sub": "ann", "exp": 1000, **change}).encode()
            token = jwt.api_jws.encode(payload, KEY, algorithm="HS256")
            refusal = self.assertRaises(Unauthorized, TokenKey(KEY).check, token, now=0)
            self.assertIn(what, str(refusal))

    def test_the_clock_of_the_one_who_signed_may_be_ahead_by_the_leeway(self) -> None:
        claims = {"sub": "ann", "exp": 1000, "nbf": 60, "iat": 60}
        token = jwt.encode(claims, KEY, algorithm="HS256")
        for leeway_seconds, accepted in ((60, True), (59, False)):
            checker = TokenChecker([TokenKey(KEY)], TokenRules(leeway_seconds=leeway_seconds))
            if accepted:
                self.assertEqual(checker.check(token, now=0).member, "ann")
            else:
                refusal = self.assertRaises(Unauthorized, checker.check, token, now=0)
        self.assertIn("nbf", str(refusal))

    @given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
    def test_any_text_is_refused_without_ado(self, text: str) -> None:
        self.assertRaises(Unauthorized, TokenKey(KEY).check, text, now=0)

    @given(st.integers(0, 200), st.integers(1, 255))
    def test_no_character_of_a_token_can_be_changed(self, place: int, change: int) -> None:
        key = TokenKey(KEY)
        token = key.sign(ANN)
        place %= len(token)
        other = chr((ord(token[place]) + change) % 256)
        changed = token[:place] + other + token[place + 1 :]
        try:
            found = key.check(changed, now=0)
        except Unauthorized:
            return
        # The last character of base64 has bits that stand for nothing.
        self.assertEqual(found, ANN)


class KeyFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = str(Path(folder.name) / "key")

    def test_a_made_key_can_be_read_and_is_for_its_owner_only(self) -> None:
        make_token_key(self.path)
        token = read_token_key(self.path).sign(ANN)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        make_token_key(self.path)
        self.assertEqual(read_token_key(self.path).check(token, now=0), ANN)

    def test_a_key_that_is_missing_or_short_is_one_clear_line(self) -> None:
        self.assertIn("No such file", str(self.assertRaises(ConfigError, read_token_key, "/none")))
        Path(self.path).write_bytes(b"x" * 31 + b"\n")
        self.assertIn("32 bytes", str(self.assertRaises(ConfigError, read_token_key, self.path)))

    def test_a_key_that_every_user_can_read_is_warned_of_and_keeps_its_mode(self) -> None:
        for mode, warnings in ((0o600, 0), (0o640, 0), (0o644, 1), (0o604, 1)):
            Path(self.path).write_bytes(KEY)
            os.chmod(self.path, mode)
            with capturedLogs() as logs:
                read_token_key(self.path)
            self.assertEqual(len(logs), warnings, oct(mode))
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), mode)
            for event in logs:
                self.assertEqual(event["log_level"], LogLevel.warn)
                self.assertIn(f"chmod o= {self.path}", formatEvent(event))

    def test_a_key_that_exists_is_not_made_again(self) -> None:
        """Nothing is written, as the time of the last change in the folder shows."""
        make_token_key(self.path)
        folder = Path(self.path).parent
        os.utime(folder, (1, 1))
        make_token_key(self.path)
        self.assertEqual(folder.stat().st_mtime, 1)

    def test_a_key_that_cannot_be_written_is_one_clear_line(self) -> None:
        self.assertRaises(ConfigError, make_token_key, self.path + "/none/key")


class ApplicationKeyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.database = str(Path(self.folder.name) / "app.sqlite")

    def kept(self) -> TokenKey:
        """The key of an application that has started."""
        own = ApplicationKey("", self.database)
        own.keep()
        return own.key

    def files(self) -> list[str]:
        return os.listdir(self.folder.name)

    def test_an_application_has_the_key_that_it_names(self) -> None:
        path = Path(self.folder.name) / "key"
        path.write_bytes(KEY)
        named = ApplicationKey(str(path), "/none/app.sqlite")
        named.keep()
        self.assertEqual(TokenKey(KEY).check(named.key.sign(ANN), now=0), ANN)
        self.assertEqual(path.read_bytes(), KEY)

    def test_a_key_that_is_named_is_not_made(self) -> None:
        self.assertRaises(ConfigError, ApplicationKey, f"{self.database}.key", self.database)
        self.assertEqual(self.files(), [])

    def test_one_that_names_no_key_keeps_its_own_beside_its_database(self) -> None:
        token = self.kept().sign(ANN)
        self.assertEqual(read_token_key(f"{self.database}.key").check(token, now=0), ANN)
        self.assertEqual(self.kept().check(token, now=0), ANN)

    def test_a_new_key_has_no_file_until_it_is_kept(self) -> None:
        own = ApplicationKey("", self.database)
        self.assertEqual(self.files(), [])
        own.keep()
        self.assertEqual(self.files(), ["app.sqlite.key"])

    def test_a_key_that_exists_is_kept_without_writing_anything(self) -> None:
        token = self.kept().sign(ANN)
        os.utime(self.folder.name, (1, 1))
        self.assertEqual(self.kept().check(token, now=0), ANN)
        self.assertEqual(os.stat(self.folder.name).st_mtime, 1)

    def test_of_two_that_start_at_once_both_have_the_key_of_the_first(self) -> None:
        first, second = (ApplicationKey("", self.database) for _ in range(2))
        held = second.key
        first.keep()
        second.keep()
        self.assertEqual(held.check(first.key.sign(ANN), now=0), ANN)
        self.assertEqual(first.key.check(held.sign(ANN), now=0), ANN)

    def test_a_new_key_that_cannot_be_written_is_one_clear_line(self) -> None:
        own = ApplicationKey("", f"{self.folder.name}/none/app.sqlite")
        error = self.assertRaises(ConfigError, own.keep)
        self.assertIn("none/app.sqlite.key cannot be written: No such file", str(error))
