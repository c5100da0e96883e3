"""Who may use a listener: clients that have its secret, and pages of the allowed origins."""

import hmac
import ipaddress
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from rtdeliver.config.origins import read_origin
from rtdeliver.config.sections import SAME_HOST
from rtdeliver.errors import ConfigError, Forbidden, Refusal, Unauthorized
from rtdeliver.http.requests import header

_PUBLISH = b"/publish"
_HOST = re.compile(rb"(?P<name>[A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")


def read_secrets(path: str) -> tuple[str, ...]:
    """Return the secrets of a file: requests to other nodes carry the first, and all are accepted.

    :param path: the path of a file with one word in each line; empty for no secret.
    :raises ConfigError: if the file cannot be read, or has no secret, or a line with two words.
    """
    if not path:
        return ()
    try:
        with open(path, encoding="ascii") as file:
            secrets = tuple(filter(None, map(str.strip, file.read().split("\n"))))
    except OSError as error:
        raise ConfigError(f"access.secret_file {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"access.secret_file {path}: {error}") from None
    if not secrets or any(not each.isprintable() or " " in each for each in secrets):
        raise ConfigError(
            f"access.secret_file {path}: the file must have one word, the secret; with several"
            " secrets, one in each line"
        )
    return secrets


def is_one_of(value: bytes, expected: Sequence[bytes]) -> bool:
    """Return whether ``value`` is one of ``expected``; the time that takes does not tell which."""
    # All are compared, also after one that is equal.
    return sum(hmac.compare_digest(value, each) for each in expected) > 0


def bearers(secrets: Sequence[str]) -> tuple[bytes, ...]:
    """Return the Authorization fields that carry one of these secrets."""
    return tuple(f"Bearer {secret}".encode() for secret in secrets)


class Gate:
    """Who may use a listener for nodes, producers and operators; the head of a request tells.

    With secrets, requests must carry one of them; health checks need not, and the status page does
    not need it to be shown. Without a secret, only clients on this machine reach the listener, and
    a browser may be one of them. The page of any site can let its own name point to this machine
    (DNS rebinding), so the host in a request must be an address or a name of the loopback
    interface. Clients other than browsers may leave it out.

    A producer may send a token instead of a secret. The gate lets it through, and names it, so that
    the handler checks it.

    :param secrets: those that are accepted; none for an open listener.
    :param any_host: whether requests without a secret may name any host.
    :param takes_tokens: whether producers may send tokens.
    """

    def __init__(
        self, *, secrets: Sequence[str], any_host: bool, takes_tokens: bool = False
    ) -> None:
        self._any_host = any_host
        self._takes_tokens = takes_tokens
        self.use_secrets(secrets)

    def use_secrets(self, secrets: Sequence[str]) -> None:
        """Require one of these secrets from now on; none for an open listener."""
        self._expected = bearers(secrets)

    def token(self, *, target: bytes, authorization: bytes) -> str:
        """Return the token that limits what a request may publish; empty if nothing limits it.

        :param target: as for `refusal`, and so is ``authorization``.
        """
        if not self._takes_tokens or not authorization or target.partition(b"?")[0] != _PUBLISH:
            return ""
        if is_one_of(authorization, self._expected):
            return ""
        scheme, _, token = authorization.partition(b" ")
        return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""

    def refusal(
        self, *, target: bytes, hosts: Sequence[bytes], authorization: bytes
    ) -> Refusal | None:
        """Return what is wrong with a request; ``None`` if it is let through.

        :param target: the path, perhaps with a query.
        :param hosts: the values of ``Host``.
        """
        if self._expected:
            return self._secret_refusal(target, authorization)
        if self._any_host:
            return None
        return next((_strange(host) for host in hosts if not _is_here(host)), None)

    def _secret_refusal(self, target: bytes, authorization: bytes) -> Refusal | None:
        # The status page asks for the secret itself: see `rtdeliver.http.login`.
        is_open = target.startswith(b"/health/") or target in (b"/status", b"/status/stream")
        if is_open or is_one_of(authorization, self._expected):
            return None
        # Something that has no dots is a wrong secret, and no token.
        if self.token(target=target, authorization=authorization).count(".") == 2:
            return None
        return Unauthorized(
            "send the secret of this listener as Authorization: Bearer SECRET",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _is_here(host: bytes) -> bool:
    """Whether a Host field is an address or a name of the loopback interface, or empty."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match["name"].decode().lower().removesuffix(".")
    return name in ("", "localhost") or name.endswith(".localhost") or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        if name.startswith("["):
            ipaddress.IPv6Address(name[1:-1])
        else:
            ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def _strange(host: bytes) -> Forbidden:
    return Forbidden(
        f"this listener has no secret, so it answers to localhost and to IP addresses only, not to"
        f" the host {host.decode('latin-1')!r}: use one of these in the URL, or give the listener"
        " a secret (access.secret_file)"
    )


class CorsResource(Resource):
    """Tells browsers which other origins may read the answers, and answers their preflights.

    :param origins: such as ``https://example.com`` or ``https://*.example.com``. ``*`` stands for
        any origin; browsers then send no credentials. ``same-host`` stands for all origins of the
        host in the request, at any port.
    """

    isLeaf = True

    def __init__(self, origins: Sequence[str], inner: IResource) -> None:
        super().__init__()
        self._inner = inner
        self.use_origins(origins)

    def use_origins(self, origins: Sequence[str]) -> None:
        """Let these origins read the answers from now on, and no others."""
        self._any = "*" in origins
        self._same_host = SAME_HOST in origins
        self._origins = [read_origin(o) for o in origins if o not in ("*", SAME_HOST)]

    def render(self, request: Request) -> Any:
        if self._allow(request) and request.method == b"OPTIONS":
            request.setHeader("Access-Control-Allow-Methods", "GET, POST")
            request.setHeader(
                "Access-Control-Allow-Headers",
                "Content-Type, Authorization, Last-Event-ID, Cache-Control",
            )
            request.setHeader("Access-Control-Max-Age", "600")
        return self._inner.render(request)

    def _allow(self, request: Request) -> bool:
        origin = header(request, "Origin")
        if any(o.matches(origin) for o in self._origins) or (
            self._same_host and _is_same_host(request, origin)
        ):
            request.setHeader("Access-Control-Allow-Origin", origin)
            request.setHeader("Vary", "Origin")
            request.setHeader("Access-Control-Allow-Credentials", "true")
            return True
        if self._any and origin:
            request.setHeader("Access-Control-Allow-Origin", "*")
        return self._any


def _is_same_host(request: Request, origin: str) -> bool:
    """Whether ``origin`` has the same host as the request, at any port."""
    try:
        host = urlsplit(f"//{header(request, 'Host')}").hostname
        return bool(host) and urlsplit(origin).hostname == host
    except ValueError:
        return False
