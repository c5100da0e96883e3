"""How a process checks tokens, and what anybody may watch there."""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from msgspec.structs import replace
from twisted.logger import Logger
from twisted.web.client import Agent

from rtdeliver.config.sections import Access, Config
from rtdeliver.errors import ConfigError
from rtdeliver.grants import Patterns, patterns
from rtdeliver.http.client import NodeClient
from rtdeliver.http.jwks import Identifier, Jwks
from rtdeliver.keys import read_key_file
from rtdeliver.metrics import Sample
from rtdeliver.roles.base import RoleBase
from rtdeliver.roles.reload import Reloader, replacing
from rtdeliver.tokens import (
    Identify,
    KeySource,
    TokenChecker,
    TokenKey,
    TokenRules,
    VerifyingKey,
    read_key,
    read_token_key,
)

log = Logger()

_SAY_WHAT_IS_PUBLIC = (
    'say which topics anybody may watch without a token, as in ["live:*"], where [] is none and'
    ' ["*"] is all'
)
# No set of keys is larger.
_JWKS_BYTES = 1 << 20


class _Keys(msgspec.Struct, frozen=True):
    """What ``access.keys`` says, with the keys in its files.

    :param files: the keys in files.
    :param urls: where sets of keys are.
    """

    files: tuple[VerifyingKey, ...]
    urls: tuple[str, ...]

    def verifying_keys(self) -> Sequence[VerifyingKey]:
        return self.files


class TokenKeys:
    """The keys with which a process checks tokens, as configured. A reload may replace them.

    :param app_key: the key of the live-video app in the same process.
    :raises ConfigError: if a key cannot be read.
    """

    def __init__(self, config: Config, base: RoleBase, app_key: TokenKey | None = None) -> None:
        access = config.access
        self._config = config
        self._base = base
        self._sets: dict[str, Jwks] = {}
        self._is_started = False
        own = app_key
        if own is None and access.token_key_file:
            own = read_token_key(access.token_key_file)
        self._own: list[KeySource] = [] if own is None else [own]
        self._rules = TokenRules(access.issuer, access.audience, access.leeway_seconds)
        self._keys = _read_keys(config)
        self._identifier = Identifier(TokenChecker([]), [], base.now)
        self._use(self._keys)
        has_keys = bool(self._own or access.keys)
        self.identify: Identify | None = self._identifier.identify if has_keys else None
        """Returns what a token proves; ``None`` if there is no key, so tokens are ignored."""
        base.samples.append(self._samples)
        if has_keys:
            self._reload_with(base.reloaders, own)

    def start(self) -> None:
        """Begin to fetch keys."""
        self._is_started = True
        for each in self._sets.values():
            each.start()

    def stop(self) -> None:
        """Fetch no more keys."""
        self._is_started = False
        for each in self._sets.values():
            each.stop()

    def missing(self) -> list[str]:
        """Return which keys are not known; empty if all are."""
        return [reason for each in self._sets.values() for reason in each.missing()]

    def _samples(self) -> list[Sample]:
        return [sample for each in self._sets.values() for sample in each.samples()]

    def _reload_with(self, reloaders: dict[str, Reloader], own: TokenKey | None) -> None:
        file = self._config.access.token_key_file
        if own is not None and file:
            reloaders["access.token_key_file"] = replacing(
                read_key(file),
                read=lambda new: read_key(new.access.token_key_file),
                use=own.replace,
            )
        reloaders["access.keys"] = replacing(self._keys, read=self._read_other_keys, use=self._use)
        for name in ("issuer", "audience", "leeway_seconds"):
            reloaders[f"access.{name}"] = replacing(
                getattr(self._config.access, name),
                read=lambda new, name=name: getattr(new.access, name),  # type: ignore[misc]
                use=partial(self._use_rule, name),
            )

    def _read_other_keys(self, config: Config) -> _Keys:
        if not config.access.keys and not self._own:
            raise ConfigError("access.keys: a running process cannot do without its keys")
        return _read_keys(config)

    def _use_rule(self, name: str, value: object) -> None:
        self._rules = replace(self._rules, **{name: value})
        self._use(self._keys)

    def _use(self, keys: _Keys) -> None:
        self._keys = keys
        for url in set(self._sets).difference(keys.urls):
            self._sets.pop(url).stop()
        for url in keys.urls:
            if url not in self._sets:
                self._sets[url] = _jwks(url, self._config, self._base)
                if self._is_started:
                    self._sets[url].start()
        sets = list(self._sets.values())
        self._identifier.use(TokenChecker([*self._own, keys, *sets], self._rules), sets)


def _read_keys(config: Config) -> _Keys:
    texts = config.access.keys
    return _Keys(
        files=tuple(read_key_file(text) for text in texts if not text.startswith("jwks:")),
        urls=tuple(text.partition(":")[2] for text in texts if text.startswith("jwks:")),
    )


def public_topics(access: Access, app_topics: Sequence[str] = ()) -> Patterns:
    """Return the topics that anybody may watch.

    :param app_topics: those of the live-video app, if it is in the same process. Without
        ``public_topics``, these are public, and all others need a token.
    :raises ConfigError: if there are ``access.keys`` and it is not said what is public.
    """
    if access.public_topics is None and app_topics:
        return patterns(app_topics)
    if access.public_topics is None and access.keys:
        raise ConfigError(f"access.public_topics: {_SAY_WHAT_IS_PUBLIC}")
    if access.public_topics is None and access.token_key_file:
        # Such settings were right before tokens could grant topics.
        log.warn(
            "anybody may watch everything: in access.public_topics, {say}", say=_SAY_WHAT_IS_PUBLIC
        )
    return patterns(("*",) if access.public_topics is None else access.public_topics)


def reload_public_topics(
    base: RoleBase,
    use: Callable[[Patterns], None],
    current: Patterns,
    app_topics: Sequence[str] = (),
) -> None:
    """Let a reload replace the topics that anybody may watch.

    :param use: takes the new ones.
    :param app_topics: as for `public_topics`.
    """
    base.reloaders["access.public_topics"] = replacing(
        current, read=lambda new: public_topics(new.access, app_topics), use=use
    )


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
