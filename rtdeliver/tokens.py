"""Tokens that say who a viewer is: signed by an application, checked by the frontends."""

import math
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jwt
import msgspec
from twisted.logger import Logger

from rtdeliver.errors import BadRequest, ConfigError, Unauthorized
from rtdeliver.model import Member, check_member

log = Logger()

_ALGORITHM = "HS256"
# A key must be at least as long as the output of HMAC-SHA-256 (RFC 7518, 3.2).
_KEY_BYTES = 32


_SIGNATURE_ONLY: Any = {
    f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")
}


class Identity(msgspec.Struct, frozen=True):
    """Who a token is for, and until when, in seconds since the epoch."""

    member: Member
    expires_at: float


class TokenKey:
    """Signs and checks tokens: JSON Web Tokens (RFC 7519) with HS256, ``sub`` and ``exp``.

    :param key: at least 32 bytes, which applications and frontends share.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, identity: Identity) -> str:
        """Return a token for ``identity``."""
        claims = {"sub": identity.member, "exp": int(identity.expires_at)}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)

    def replace(self, key: bytes) -> None:
        """Sign and check with another key from now on."""
        self._key = key

    def reread(self, path: str) -> None:
        """Use the key in a file from now on.

        :raises ConfigError: if the file cannot be read or the key is too short.
        """
        self._key = _read_key(path)

    def check(self, token: str, *, now: float, leeway_seconds: float = 0) -> Identity:
        """Return the identity that ``token`` is for.

        :param now: seconds since the epoch.
        :param leeway_seconds: by how much the clock of the one who signed may be ahead.
        :raises Unauthorized: if the signature was not made with this key, ``sub`` or ``exp`` is
            missing or wrong, or the token has expired or, by its ``nbf``, is not valid yet.
        """
        try:
            # Claims are checked below: times against the one that the caller gives, and each with a
            # message of its own. When the token was issued, ``iat``, proves nothing (RFC 7519,
            # 4.1.6).
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM], options=_SIGNATURE_ONLY)
        except (jwt.InvalidTokenError, TypeError, ValueError):
            raise _refused("it is no JWT that is signed with the right key and HS256") from None
        identity = Identity(_member(claims), _seconds(claims, "exp"))
        valid_from = _seconds(claims, "nbf") if "nbf" in claims else -math.inf
        if now < valid_from - leeway_seconds:
            raise _refused("nbf says that it is not valid yet")
        if not now < identity.expires_at:
            raise _refused("exp says that it has expired; get a new one")
        return identity


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token says, whoever has signed it.

    :raises ValueError: if it is no token.
    """
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise ValueError(str(error)) from None
    return claims


class ApplicationKey:
    """The key that an application signs with.

    A key that exists is read here, and its file is never written. A new key has no file until
    `keep`, so a start that fails before that leaves none behind.

    :param token_key_file: the file with the key. If empty, the application has a key of its own, in
        a file beside ``database``.
    :ivar key: stays the same object. Nothing may be signed with it before `keep`.
    :raises ConfigError: if the key cannot be read.
    """

    def __init__(self, token_key_file: str, database: str) -> None:
        self._path = token_key_file or f"{database}.key"
        self._is_new = not token_key_file and not os.path.lexists(self._path)
        if self._is_new:
            self.key = TokenKey(secrets.token_bytes(_KEY_BYTES))
        else:
            self.key = read_token_key(self._path)

    def keep(self) -> None:
        """Write a new key to its file. If another process made the file meanwhile, take its key.

        :raises ConfigError: if the file cannot be written or read.
        """
        if self._is_new:
            make_token_key(self._path)
            self.key.replace(_read_key(self._path))
            self._is_new = False


def read_token_key(path: str) -> TokenKey:
    """Return the key in a file, without white space around it.

    Logs a warning if every user of the machine can read the file.

    :raises ConfigError: if the file cannot be read or the key is too short.
    """
    return TokenKey(_read_key(path))


def _read_key(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            key = file.read().strip()
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ConfigError(f"access.token_key_file {path}: {error.strerror}") from None
    if len(key) < _KEY_BYTES:
        raise ConfigError(
            f"access.token_key_file {path}: the key has {len(key)} bytes, but must have at least"
            f" {_KEY_BYTES} bytes"
        )
    if mode & stat.S_IROTH:
        log.warn("every user of this machine can read the token key: chmod o= {path}", path=path)
    return key


def make_token_key(path: str) -> None:
    """Write a new key to a file that only its owner may read, unless the file exists.

    A process that reads the file meanwhile finds the whole key or no file.

    :raises ConfigError: if the file cannot be written.
    """
    if os.path.lexists(path):
        # Nothing is written: the disk may be full.
        return
    folder, name = os.path.split(path)
    try:
        with tempfile.NamedTemporaryFile("w", prefix=name, dir=folder or ".") as draft:
            draft.write(secrets.token_hex(_KEY_BYTES) + "\n")
            draft.flush()
            with suppress(FileExistsError):
                os.link(draft.name, path)
    except OSError as error:
        raise ConfigError(f"the token key {path} cannot be written: {error.strerror}") from None


def _member(claims: Mapping[str, object]) -> Member:
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise _refused(f"sub must be the name of a member, a string, not {_shown(subject)}")
    try:
        return check_member(subject)
    except BadRequest as refusal:
        raise _refused(f"sub is not the name of a member: {refusal.message}") from None


def _seconds(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not abs(value) <= sys.float_info.max
    ):
        raise _refused(f"{name} must be a number, seconds since the epoch, not {_shown(value)}")
    return float(value)


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:60]


def _refused(why: str) -> Unauthorized:
    return Unauthorized(f"the token is refused: {why}", headers={"WWW-Authenticate": "Bearer"})
