"""How a process checks tokens, and what anybody may watch there."""

from collections.abc import Sequence

from msgspec.structs import replace
from twisted.logger import Logger
from twisted.web.client import Agent

from rtdeliver.config.sections import Access, Config
from rtdeliver.errors import ConfigError
from rtdeliver.grants import Patterns, patterns
from rtdeliver.http.client import NodeClient
from rtdeliver.http.jwks import Identifier, Jwks
from rtdeliver.keys import KeyFile
from rtdeliver.roles.base import RoleBase
from rtdeliver.tokens import (
    Identify,
    KeySource,
    TokenChecker,
    TokenKey,
    TokenRules,
    read_token_key,
)

log = Logger()

_SAY_WHAT_IS_PUBLIC = (
    'say which topics anybody may watch without a token, as in ["live:*"], where [] is none and'
    ' ["*"] is all'
)
# No set of keys is larger.
_JWKS_BYTES = 1 << 20


class TokenKeys:
    """The keys with which a process checks tokens, as configured.

    At a reload, key files are read again.

    :param app_key: the key of the live-video app in the same process.
    :raises ConfigError: if a key cannot be read.
    """

    def __init__(self, config: Config, base: RoleBase, app_key: TokenKey | None = None) -> None:
        access = config.access
        files = [KeyFile(text) for text in access.keys if not text.startswith("jwks:")]
        self._sets = [
            _jwks(text.partition(":")[2], config, base)
            for text in access.keys
            if text.startswith("jwks:")
        ]
        own = app_key
        if own is None and access.token_key_file:
            own = read_token_key(access.token_key_file)
        sources: list[KeySource] = [*([own] if own else []), *files, *self._sets]
        if own is not None and access.token_key_file:
            key = own
            base.reloaders["access.token_key_file"] = lambda new: key.reread(
                new.access.token_key_file
            )
        if files:
            base.reloaders["access.keys"] = lambda _: _reread(files)
        rules = TokenRules(access.issuer, access.audience, access.leeway_seconds)
        base.samples.extend(each.samples for each in self._sets)
        identifier = Identifier(TokenChecker(sources, rules), self._sets, base.now)
        self.identify: Identify | None = identifier.identify if sources else None
        """Returns what a token proves; ``None`` if there is no key, so tokens are ignored."""

    def start(self) -> None:
        """Begin to fetch keys."""
        for each in self._sets:
            each.start()

    def stop(self) -> None:
        """Fetch no more keys."""
        for each in self._sets:
            each.stop()

    def missing(self) -> list[str]:
        """Return which keys are not known; empty if all are."""
        return [reason for each in self._sets for reason in each.missing()]


def public_topics(access: Access, *, has_app: bool = False) -> Patterns:
    """Return the topics that anybody may watch.

    :param has_app: whether the live-video app is in the same process. Its key needs no
        ``public_topics``: without these, all its topics are public.
    :raises ConfigError: if there are ``access.keys`` and it is not said what is public.
    """
    if access.public_topics is None and access.keys:
        raise ConfigError(f"access.public_topics: {_SAY_WHAT_IS_PUBLIC}")
    if access.public_topics is None and access.token_key_file and not has_app:
        # Such settings were right before tokens could grant topics.
        log.warn(
            "anybody may watch everything: in access.public_topics, {say}", say=_SAY_WHAT_IS_PUBLIC
        )
    return patterns(("*",) if access.public_topics is None else access.public_topics)


def _reread(files: Sequence[KeyFile]) -> None:
    for file in files:
        file.reread()


def _jwks(url: str, config: Config, base: RoleBase) -> Jwks:
    settings = replace(config.http, internal_body_bytes=_JWKS_BYTES)
    return Jwks(
        url,
        # The secret of the nodes is no business of a login service.
        client=NodeClient(
            agent=Agent(base.reactor, connectTimeout=settings.request_seconds),
            clock=base.reactor,
            settings=settings,
            secret="",
        ),
        refresh_seconds=config.access.jwks_refresh_seconds,
        clock=base.reactor,
    )
