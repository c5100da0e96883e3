"""The keys of the settings: files with shared or public keys, and what a JWKS contains."""

from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from rtdeliver.errors import BadRequest, ConfigError
from rtdeliver.tokens import VerifyingKey, read_key

_FORMS = "hs256:FILE, pem:FILE or jwks:URL"
# Shorter ones can be broken (RFC 7518, 3.3).
_RSA_BITS = 2048
# The most keys of a set that are looked at.
_MOST_KEYS = 50
_ALGORITHMS = ("RS256", "ES256", "EdDSA")


def read_key_file(text: str) -> VerifyingKey:
    """Return the key in a file.

    :param text: ``hs256:FILE`` or ``pem:FILE``.
    :raises ConfigError: if it has no key that tokens can be checked with.
    """
    kind, _, path = text.partition(":")
    if kind == "hs256":
        return VerifyingKey("HS256", read_key(path, "access.keys"))
    try:
        with open(path, "rb") as file:
            return _public_key(file.read())
    except OSError as error:
        raise ConfigError(f"access.keys {path}: {error.strerror}") from None
    except BadRequest as refusal:
        raise ConfigError(f"access.keys {path}: {refusal.message}") from None


def check_key(text: str) -> str:
    """Return ``text`` if it names a key: ``hs256:FILE``, ``pem:FILE`` or ``jwks:URL``.

    :raises BadRequest: if it does not.
    """
    kind, separator, place = text.partition(":")
    if not separator or not place or kind not in ("hs256", "pem", "jwks"):
        raise BadRequest(f"{text} is not {_FORMS}")
    if kind == "jwks" and not place.startswith(("https://", "http://")):
        raise BadRequest(f"{text}: a JWKS is at a URL such as https://login.example.com/jwks.json")
    return text


def read_key_set(data: Any) -> list[VerifyingKey]:
    """Return the keys of a JSON Web Key Set (RFC 7517) that tokens can be checked with.

    Keys of other kinds, and shared ones, are left out: a set that is published has no secrets.

    :raises BadRequest: if it is no such set, or has no key that can be used.
    """
    found = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise BadRequest('it is no JSON Web Key Set, {"keys": [...]}')
    keys = [key for item in found[:_MOST_KEYS] if (key := _key_of(item)) is not None]
    if not keys:
        raise BadRequest(f"it has no key for {', '.join(_ALGORITHMS)}")
    return keys


def _key_of(item: Any) -> VerifyingKey | None:
    if not isinstance(item, dict) or item.get("use", "sig") != "sig":
        return None
    try:
        read = jwt.PyJWK.from_dict(item)
        key = _verifying(read.key)
    except (jwt.PyJWTError, BadRequest, ValueError, TypeError, KeyError):
        return None
    kid = item.get("kid", "")
    if item.get("alg", key.algorithm) != key.algorithm or not isinstance(kid, str):
        return None
    return VerifyingKey(key.algorithm, key.key, kid)


def _public_key(pem: bytes) -> VerifyingKey:
    """Return the key in a PEM file: a public key, or the one of a certificate.

    :raises BadRequest: if there is none.
    """
    if b"PRIVATE KEY" in pem:
        raise BadRequest("this is a private key; frontends need the public one only")
    try:
        if b"BEGIN CERTIFICATE" in pem:
            key: Any = load_pem_x509_certificate(pem).public_key()
        else:
            key = load_pem_public_key(pem)
    except ValueError:
        raise BadRequest("there is no public key in PEM") from None
    return _verifying(key)


def _verifying(key: Any) -> VerifyingKey:
    """Return a public key with the one algorithm that it is used with.

    :raises BadRequest: if there is none.
    """
    match key:
        case RSAPublicKey() if key.key_size >= _RSA_BITS:
            return VerifyingKey("RS256", key)
        case RSAPublicKey():
            raise BadRequest(f"an RSA key must have at least {_RSA_BITS} bits")
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            return VerifyingKey("ES256", key)
        case Ed25519PublicKey():
            return VerifyingKey("EdDSA", key)
        case _:
            raise BadRequest("a key must be RSA, P-256 or Ed25519")
