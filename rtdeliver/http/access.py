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

_HOST = re.compile(rb"(?P<name>[A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")


def read_secret(path: str) -> str:
    """Return the secret that requests between nodes carry.

    :param path: the path of a file with one word; empty for no secret.
    :raises ConfigError: if the file cannot be read, or does not have one word.
    """
    if not path:
        return ""
    try:
        with open(path, encoding="ascii") as file:
            secret = file.read().strip()
    except OSError as error:
        raise ConfigError(f"access.secret_file {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"access.secret_file {path}: {error}") from None
    if not secret or not secret.isprintable() or " " in secret:
        raise ConfigError(f"access.secret_file {path}: the file must have one word, the secret")
    return secret


class Gate:
    """Who may use a listener for nodes, producers and operators; the head of a request tells.

    With a secret, requests must carry it; health checks need not, and the status page does not need
    it to be shown. Without a secret, only clients on
    this machine reach the listener, and a browser may be one of them. The page of any site can let
    its own name point to this machine (DNS rebinding), so the host in a request must be an address
    or a name of the loopback interface. Clients other than browsers may leave it out.

    :param secret: the secret; empty for none.
    :param any_host: whether requests without a secret may name any host.
    """

    def __init__(self, *, secret: str, any_host: bool) -> None:
        self._any_host = any_host
        self.use_secret(secret)

    def use_secret(self, secret: str) -> None:
        """Require this secret from now on; empty for none."""
        self._expected = f"Bearer {secret}".encode() if secret else b""

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
        if is_open or hmac.compare_digest(authorization, self._expected):
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
