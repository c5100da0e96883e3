"""Tokens that say who a viewer is: signed by an application, checked by the frontends."""

import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import jwt
import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rtdeliver.errors import BadRequest, BadTopic, ConfigError, Unauthorized
from rtdeliver.grants import NOTHING, Grants, Patterns, grants, patterns
from rtdeliver.model import Member, Topic, check_member, check_topic

log = Logger()

# A key must be at least as long as the output of HMAC-SHA-256 (RFC 7518, 3.2).
_KEY_BYTES = 32
# How many topics a token may name that are watched from the start.
_MOST_TOPICS = 100

_REFUSED = "the token is refused"
_SIGNATURE_ONLY: Any = {
    f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")
}


class Identity(msgspec.Struct, frozen=True, gc=False):
    """What a token proves.

    :param member: who has it; ``None`` for somebody without a name.
    :param expires_at: until when it is valid, in seconds since the epoch.
    :param grants: what its holder may watch and publish to.
    :param topics: those that are watched from the start; its holder may watch them, too.
    :param issued_at: when it was made; ``None`` if it does not say.
    :param token_id: the name of the token; empty if it has none.
    """

    member: Member | None
    expires_at: float
    grants: Grants = NOTHING
    topics: tuple[Topic, ...] = ()
    issued_at: float | None = None
    token_id: str = ""


Identify = Callable[[str], Identity | Deferred[Identity]]
"""Returns what a token proves, now or later, or raises `Unauthorized`."""


class VerifyingKey(msgspec.Struct, frozen=True):
    """A key that tokens are checked with.

    :param algorithm: the only one that it is used with (RFC 7518, 3.1).
    :param key: the bytes of a shared key, or a public key.
    :param kid: its name; empty for a key without one, which may have signed any token.
    """

    algorithm: str
    key: Any
    kid: str = ""


class KeySource(Protocol):
    """Where keys come from, which may be others later."""

    def verifying_keys(self) -> Sequence[VerifyingKey]:
        """Return the keys as they are now."""


class UnknownKey(Unauthorized):
    """A token is refused, since the key that it names is not known here."""


class TokenRevoked(Unauthorized):
    """The token was issued before its holder was disconnected.

    :param reconnect: whether the client may come back with another token.
    """

    def __init__(self, message: str, *, reconnect: bool) -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})
        self.reconnect = reconnect


class TokenRules(msgspec.Struct, frozen=True):
    """What tokens must say, beside that they are signed.

    :param issuer: the claim ``iss``; empty if it does not matter.
    :param audience: what ``aud`` must be or contain; empty if it does not matter.
    :param leeway_seconds: by how much the clock of the one who signed may be ahead.
    """

    issuer: str = ""
    audience: str = ""
    leeway_seconds: float = 0


class TokenChecker:
    """Checks tokens: JSON Web Tokens (RFC 7519) that one of several keys has signed."""

    def __init__(self, sources: Sequence[KeySource], rules: TokenRules = TokenRules()) -> None:  # noqa: B008
        self._sources = tuple(sources)
        self._rules = rules

    def check(self, token: str, *, now: float) -> Identity:
        """Return what ``token`` proves.

        :param now: seconds since the epoch.
        :raises Unauthorized: if no key has signed it, or if a claim is missing or wrong, which is
            named then.
        """
        claims = self._signed_claims(token)
        rules = self._rules
        if rules.issuer and claims.get("iss") != rules.issuer:
            raise refused(f"iss must be {rules.issuer!r}, not {_shown(claims.get('iss'))}")
        if rules.audience and not _contains(claims.get("aud"), rules.audience):
            raise refused(f"aud must name {rules.audience!r}, not {_shown(claims.get('aud'))}")
        return _identity_of(claims, now=now, leeway_seconds=rules.leeway_seconds)

    def _signed_claims(self, token: str) -> Mapping[str, object]:
        try:
            head = jwt.get_unverified_header(token)
        except (jwt.InvalidTokenError, TypeError, ValueError):
            raise refused("it is no JSON Web Token") from None
        algorithm, kid = head.get("alg"), head.get("kid")
        known = [key for source in self._sources for key in source.verifying_keys()]
        fitting = [key for key in known if key.algorithm == algorithm]
        if not fitting:
            expected = (
                " or ".join(sorted({key.algorithm for key in known})) or "that of a known key"
            )
            raise UnknownKey(f"{_REFUSED}: alg must be {expected}, not {_shown(algorithm)}")
        named = [key for key in fitting if not kid or key.kid in ("", kid)]
        if not named:
            raise UnknownKey(f"{_REFUSED}: kid names no key that is known: {_shown(kid)}")
        for key in named:
            # Claims are checked by the caller: times against the one that it gives, and each with a
            # message of its own.
            with suppress(jwt.InvalidTokenError, TypeError, ValueError):
                claims: Mapping[str, object] = jwt.decode(
                    token, key.key, algorithms=[key.algorithm], options=_SIGNATURE_ONLY
                )
                return claims
        raise refused("it is not signed with the right key")


class TokenKey:
    """Signs and checks the tokens of members with HS256; applications and frontends share it.

    :param key: at least 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._checker = TokenChecker([self])

    def verifying_keys(self) -> Sequence[VerifyingKey]:
        """Return the key, for others that check with it."""
        return (VerifyingKey("HS256", self._key),)

    def sign(self, identity: Identity) -> str:
        """Return a token for ``identity``."""
        claims: dict[str, object] = {"exp": int(identity.expires_at)}
        if identity.member is not None:
            claims["sub"] = identity.member
        for name, allowed in (
            ("subscribe", identity.grants.subscribe),
            ("publish", identity.grants.publish),
        ):
            if allowed.texts:
                claims[name] = list(allowed.texts)
        if identity.topics:
            claims["topics"] = list(identity.topics)
        if identity.issued_at is not None:
            claims["iat"] = int(identity.issued_at)
        if identity.token_id:
            claims["jti"] = identity.token_id
        return jwt.encode(claims, self._key, algorithm="HS256")

    def replace(self, key: bytes) -> None:
        """Sign and check with another key from now on."""
        self._key = key

    def check(self, token: str, *, now: float) -> Identity:
        """Return what ``token`` proves; see `TokenChecker.check`."""
        return self._checker.check(token, now=now)


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
            self.key.replace(read_key(self._path))
            self._is_new = False


def read_token_key(path: str) -> TokenKey:
    """Return the key in a file, without white space around it.

    Logs a warning if every user of the machine can read the file.

    :raises ConfigError: if the file cannot be read or the key is too short.
    """
    return TokenKey(read_key(path))


def read_key(path: str, setting: str = "access.token_key_file") -> bytes:
    """Return the bytes of the key in a file; see `read_token_key`.

    :param setting: which one names the file.
    """
    try:
        with open(path, "rb") as file:
            key = file.read().strip()
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ConfigError(f"{setting} {path}: {error.strerror}") from None
    if len(key) < _KEY_BYTES:
        raise ConfigError(
            f"{setting} {path}: the key has {len(key)} bytes, but must have at least"
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


def _identity_of(claims: Mapping[str, object], *, now: float, leeway_seconds: float) -> Identity:
    expires_at = _seconds(claims, "exp")
    # A browser's clock does not count, and when the token was issued, ``iat``, proves nothing
    # (RFC 7519, 4.1.6).
    if "nbf" in claims and now < _seconds(claims, "nbf") - leeway_seconds:
        raise refused("nbf says that it is not valid yet")
    if not now < expires_at:
        raise refused("exp says that it has expired; get a new one")
    token_id = claims.get("jti", "")
    if not isinstance(token_id, str):
        raise refused(f"jti must be a string, not {_shown(token_id)}")
    return Identity(
        member=_member(claims) if "sub" in claims else None,
        expires_at=expires_at,
        grants=grants(_patterns(claims, "subscribe"), _patterns(claims, "publish")),
        topics=_topics(claims),
        issued_at=_seconds(claims, "iat") if "iat" in claims else None,
        token_id=token_id,
    )


def _member(claims: Mapping[str, object]) -> Member:
    subject = claims["sub"]
    if not isinstance(subject, str):
        raise refused(f"sub must be the name of a member, a string, not {_shown(subject)}")
    try:
        return check_member(subject)
    except BadRequest as refusal:
        raise refused(f"sub is not the name of a member: {refusal.message}") from None


def _patterns(claims: Mapping[str, object], name: str) -> Patterns:
    try:
        return patterns(_texts(claims, name))
    except BadRequest as refusal:
        raise refused(f"{name} is wrong: {refusal.message}") from None


def _topics(claims: Mapping[str, object]) -> tuple[Topic, ...]:
    texts = _texts(claims, "topics")
    if len(texts) > _MOST_TOPICS:
        raise refused(f"topics must be at most {_MOST_TOPICS}, not {len(texts)}")
    try:
        return tuple(dict.fromkeys(check_topic(text) for text in texts))
    except BadTopic as refusal:
        raise refused(f"topics is wrong: {refusal.message}") from None


def _texts(claims: Mapping[str, object], name: str) -> tuple[str, ...]:
    """Return the strings of a claim, which may be missing."""
    value = claims.get(name, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise refused(f"{name} must be a list of strings, not {_shown(value)}")
    return tuple(value)


def _contains(audience: object, expected: str) -> bool:
    """Whether ``aud``, a string or a list of strings, names ``expected``."""
    return audience == expected or (isinstance(audience, list) and expected in audience)


def _seconds(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not abs(value) <= sys.float_info.max
    ):
        raise refused(f"{name} must be a number, seconds since the epoch, not {_shown(value)}")
    return float(value)


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:60]


def refused(why: str) -> Unauthorized:
    """Return the refusal of a token."""
    return Unauthorized(f"{_REFUSED}: {why}", headers={"WWW-Authenticate": "Bearer"})
