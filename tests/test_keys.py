"""Keys in files and in sets, and which tokens they prove."""

import json
import tempfile
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import BadRequest, ConfigError, Unauthorized
from rtdeliver.keys import check_key, read_key_file, read_key_set
from rtdeliver.tokens import KeySource, TokenChecker, TokenRules, UnknownKey, VerifyingKey
from tests.certificates import self_signed

SHARED = b"s" * 32
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
SHORT_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505
EC = ec.generate_private_key(ec.SECP256R1())
OTHER_CURVE = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
PRIVATE: dict[str, Any] = {"RS256": RSA, "ES256": EC, "EdDSA": ED}
CLAIMS = {"sub": "ann", "exp": 1000}


def pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


class FileTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "key")

    def file(self, content: bytes, kind: str = "pem") -> KeySource:
        self.path.write_bytes(content)
        return Fixed([read_key_file(f"{kind}:{self.path}")])

    def accepts(self, sources: list[KeySource], token: str, **rules: Any) -> bool:
        try:
            identity = TokenChecker(sources, TokenRules(**rules)).check(token, now=0)
        except Unauthorized:
            return False
        return identity.member == "ann"


class KeyFileTests(FileTestCase):
    def test_each_kind_of_key_proves_its_own_tokens_only(self) -> None:
        files: dict[str, KeySource] = {alg: self.file(pem(key)) for alg, key in PRIVATE.items()}
        files["HS256"] = self.file(SHARED, "hs256")
        tokens = {alg: jwt.encode(CLAIMS, key, algorithm=alg) for alg, key in PRIVATE.items()}
        tokens["HS256"] = jwt.encode(CLAIMS, SHARED, algorithm="HS256")
        for key_algorithm, key in files.items():
            for algorithm, token in tokens.items():
                accepted = self.accepts([key], token)
                self.assertEqual(accepted, algorithm == key_algorithm, (algorithm, key_algorithm))
        for token in tokens.values():
            self.assertTrue(self.accepts(list(files.values()), token))

    def test_a_public_key_is_no_shared_key(self) -> None:
        """Else anybody could sign with it, since it is public."""
        public = pem(RSA)
        # The library refuses to sign with it, so this does it by hand.
        head, body = (
            jwt.utils.base64url_encode(json.dumps(part).encode())
            for part in ({"alg": "HS256", "typ": "JWT"}, CLAIMS)
        )
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
            head + b"." + body, public
        )
        token = b".".join((head, body, jwt.utils.base64url_encode(signature))).decode()
        self.assertFalse(self.accepts([self.file(public)], token))
        both: list[KeySource] = [self.file(public), self.file(SHARED, "hs256")]
        self.assertFalse(self.accepts(both, token))

    def test_the_key_of_a_certificate_is_used(self) -> None:
        certificate = self_signed()
        token = jwt.encode(CLAIMS, certificate.key, algorithm=self.algorithm(certificate.key))
        self.assertTrue(self.accepts([self.file(certificate.certificate)], token))

    def algorithm(self, private: bytes) -> str:
        return "RS256" if b"RSA" in private or len(private) > 1000 else "ES256"

    def test_what_is_no_key_is_one_clear_line(self) -> None:
        private = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for content, what in (
            (b"nonsense", "there is no public key in PEM"),
            (b"", "there is no public key in PEM"),
            (private, "this is a private key"),
            (pem(SHORT_RSA), "at least 2048 bits"),
            (pem(OTHER_CURVE), "must be RSA, P-256 or Ed25519"),
            (b"-----BEGIN CERTIFICATE-----\nnonsense\n", "there is no public key in PEM"),
        ):
            error = self.assertRaises(ConfigError, self.file, content)
            self.assertIn(what, str(error))
            self.assertIn(str(self.path), str(error))
        self.assertIn("No such", str(self.assertRaises(ConfigError, read_key_file, "pem:/none")))
        self.assertRaises(ConfigError, self.file, b"short", "hs256")

    def test_the_form_of_a_key_is_checked(self) -> None:
        for text in ("hs256:/key", "pem:key.pem", "jwks:https://login.example.com/jwks.json"):
            self.assertEqual(check_key(text), text)
        for text in ("", "key", "pem:", "rs256:/key", "jwks:/file", "jwks:ftp://host"):
            self.assertRaises(BadRequest, check_key, text)


class KeySetTests(FileTestCase):
    def key_set(self, *items: Any) -> list[VerifyingKey]:
        return read_key_set({"keys": list(items)})

    def item(self, algorithm: Any, key: Any, **fields: Any) -> dict[str, Any]:
        return {**json.loads(algorithm.to_jwk(key.public_key())), **fields}

    def items(self) -> list[dict[str, Any]]:
        return [
            self.item(RSAAlgorithm, RSA, kid="r"),
            self.item(ECAlgorithm, EC, kid="e"),
            self.item(OKPAlgorithm, ED, kid="d"),
        ]

    def test_the_keys_of_all_kinds_are_found_with_their_names(self) -> None:
        keys = self.key_set(*self.items())
        self.assertEqual([(key.algorithm, key.kid) for key in keys],
                         [("RS256", "r"), ("ES256", "e"), ("EdDSA", "d")])  # fmt: skip

    def test_what_cannot_be_used_is_left_out(self) -> None:
        shared = {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "s"}
        odd = [
            shared, None, 5, "x", {}, {"kty": "RSA"}, {"kty": "RSA", "n": 5, "e": []},
            self.item(RSAAlgorithm, RSA, use="enc"), self.item(RSAAlgorithm, RSA, alg="RS512"),
            self.item(RSAAlgorithm, SHORT_RSA), self.item(ECAlgorithm, OTHER_CURVE),
            self.item(RSAAlgorithm, RSA, kid=["x"]),
        ]  # fmt: skip
        self.assertEqual(len(self.key_set(*odd, *self.items())), 3)
        self.assertRaises(BadRequest, self.key_set, *odd)

    def test_what_is_no_set_is_refused(self) -> None:
        wrong: list[Any] = [None, [], {}, {"keys": None}, {"keys": {}}, "keys"]
        for data in wrong:
            self.assertRaises(BadRequest, read_key_set, data)

    def test_a_token_is_proved_by_the_key_that_it_names(self) -> None:
        keys = self.key_set(
            self.item(RSAAlgorithm, RSA, kid="old"), self.item(RSAAlgorithm, OTHER_RSA, kid="new")
        )
        checker = TokenChecker([Fixed(keys)])
        for kid, key, accepted in (
            ("old", RSA, True),
            ("new", OTHER_RSA, True),
            ("old", OTHER_RSA, False),
            (None, RSA, True),
        ):
            headers = {"kid": kid} if kid else {}
            token = jwt.encode(CLAIMS, key, algorithm="RS256", headers=headers)
            if accepted:
                self.assertEqual(checker.check(token, now=0).member, "ann")
            else:
                self.assertRaises(Unauthorized, checker.check, token, now=0)

    def test_an_unknown_key_is_told_apart_and_shown_without_harm(self) -> None:
        checker = TokenChecker([Fixed(self.key_set(*self.items()))])
        for kid in ("none", "../../etc/passwd", "' OR 1=1 --", "x" * 10_000):
            token = jwt.encode(CLAIMS, RSA, algorithm="RS256", headers={"kid": kid})
            refusal = self.assertRaises(UnknownKey, checker.check, token, now=0)
            self.assertIn("kid names no key that is known", str(refusal))
            self.assertLess(len(str(refusal)), 200)


class RulesTests(FileTestCase):
    def test_the_issuer_and_the_audience_are_checked_if_they_are_set(self) -> None:
        key: list[KeySource] = [self.file(SHARED, "hs256")]
        for claims, rules, accepted in (
            ({}, {}, True),
            ({"iss": "x", "aud": "y"}, {}, True),
            ({"iss": "login"}, {"issuer": "login"}, True),
            ({"iss": "other"}, {"issuer": "login"}, False),
            ({}, {"issuer": "login"}, False),
            ({"iss": ["login"]}, {"issuer": "login"}, False),
            ({"aud": "chat"}, {"audience": "chat"}, True),
            ({"aud": ["x", "chat"]}, {"audience": "chat"}, True),
            ({"aud": "chats"}, {"audience": "chat"}, False),
            ({"aud": {"chat": 1}}, {"audience": "chat"}, False),
            ({}, {"audience": "chat"}, False),
        ):
            payload = json.dumps({**CLAIMS, **claims}).encode()
            token = jwt.api_jws.encode(payload, SHARED, algorithm="HS256")
            self.assertEqual(self.accepts(key, token, **rules), accepted, (claims, rules))


class Fixed:
    """Keys that stay as they are."""

    def __init__(self, keys: list[VerifyingKey]) -> None:
        self._keys = keys

    def verifying_keys(self) -> list[VerifyingKey]:
        return self._keys
