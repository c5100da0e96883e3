"""What viewers of a process may watch, and how their tokens are checked."""

from collections.abc import Sequence

from msgspec.structs import replace
from twisted.logger import Logger
from twisted.web.client import Agent

from rtdeliver.config.sections import Config
from rtdeliver.errors import ConfigError
from rtdeliver.frontend.permissions import Identify
from rtdeliver.grants import Patterns, patterns
from rtdeliver.http.client import NodeClient
from rtdeliver.http.jwks import Identifier, Jwks
from rtdeliver.keys import KeyFile
from rtdeliver.roles.base import RoleBase
from rtdeliver.tokens import KeySource, TokenChecker, TokenKey, TokenRules, read_token_key

log = Logger()

_SAY_WHAT_IS_PUBLIC = (
    'say which topics anybody may watch without a token, as in ["live:*"], where [] is none and'
    ' ["*"] is all'
)
# No set of keys is larger.
_JWKS_BYTES = 1 << 20


class ViewerAccess:
    """The keys of a process, and what anybody may watch.

    :ivar identify: returns what a token proves; ``None`` if there is no key, so tokens are ignored.
    :ivar public_topics: what anybody may watch.
    """

    def __init__(
        self, *, identify: Identify | None, public_topics: Patterns, sets: Sequence[Jwks]
    ) -> None:
        self.identify = identify
        self.public_topics = public_topics
        self._sets = sets

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


def viewer_access(config: Config, base: RoleBase, app_key: TokenKey | None = None) -> ViewerAccess:
    """Return the configured keys and public topics.

    :param app_key: the key of the live-video app in the same process. It needs no
        ``access.public_topics``: without these, all its topics are public.
    :raises ConfigError: if a key cannot be read, or there are ``access.keys`` and it is not said
        what is public.
    """
    access = config.access
    files = [KeyFile(text) for text in access.keys if not text.startswith("jwks:")]
    sets = [_jwks(text.partition(":")[2], config, base) for text in access.keys
            if text.startswith("jwks:")]  # fmt: skip
    own = app_key
    if own is None and access.token_key_file:
        own = read_token_key(access.token_key_file)
    sources: list[KeySource] = [*([own] if own else []), *files, *sets]
    if access.public_topics is None and access.keys:
        raise ConfigError(f"access.public_topics: {_SAY_WHAT_IS_PUBLIC}")
    if access.public_topics is None and access.token_key_file and app_key is None:
        # Such settings were right before tokens could grant topics.
        log.warn(
            "anybody may watch everything: in access.public_topics, {say}", say=_SAY_WHAT_IS_PUBLIC
        )
    if own is not None and access.token_key_file:
        key = own
        base.reloaders["access.token_key_file"] = lambda new: key.reread(new.access.token_key_file)
    if files:
        base.reloaders["access.keys"] = lambda _: _reread(files)
    rules = TokenRules(access.issuer, access.audience, access.leeway_seconds)
    base.samples.extend(each.samples for each in sets)
    return ViewerAccess(
        identify=Identifier(TokenChecker(sources, rules), sets, base.now).identify
        if sources
        else None,
        public_topics=patterns(("*",) if access.public_topics is None else access.public_topics),
        sets=sets,
    )


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
