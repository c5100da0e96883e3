"""Who may use a listener: clients that have its secret, and pages of the allowed origins."""

import hmac
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

from rtdeliver.config.sections import SAME_HOST
from rtdeliver.errors import ConfigError, Unauthorized
from rtdeliver.http.replies import refuse
from rtdeliver.http.requests import header


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


class SecretResource(Resource):
    """Lets through health checks, and requests with ``Authorization: Bearer SECRET``."""

    isLeaf = True

    def __init__(self, secret: str, inner: IResource) -> None:
        super().__init__()
        self._expected = f"Bearer {secret}".encode()
        self._inner = inner

    def render(self, request: Request) -> Any:
        given = request.requestHeaders.getRawHeaders(b"Authorization", [b""])[0]
        if request.path.startswith(b"/health/") or hmac.compare_digest(given, self._expected):
            return self._inner.render(request)
        return refuse(
            request,
            Unauthorized(
                "send the secret of this listener as Authorization: Bearer SECRET",
                headers={"WWW-Authenticate": "Bearer"},
            ),
        )


class CorsResource(Resource):
    """Tells browsers which other origins may read the answers, and answers their preflights.

    :param origins: origins as browsers send them, such as ``https://example.com``. ``*`` stands for
        any origin; browsers then send no credentials. ``same-host`` stands for all origins of the
        host in the request, at any port.
    """

    isLeaf = True

    def __init__(self, origins: Sequence[str], inner: IResource) -> None:
        super().__init__()
        self._any = "*" in origins
        self._same_host = SAME_HOST in origins
        self._origins = frozenset(origin.encode() for origin in origins if origin != "*")
        self._inner = inner

    def render(self, request: Request) -> Any:
        listed = self._allow(request)
        if request.method != b"OPTIONS":
            return self._inner.render(request)
        if listed:
            request.setHeader("Access-Control-Allow-Methods", "GET, POST")
            request.setHeader(
                "Access-Control-Allow-Headers", "Content-Type, Authorization, Last-Event-ID"
            )
            request.setHeader("Access-Control-Max-Age", "600")
        request.setHeader("Allow", "GET, POST, OPTIONS")
        request.setResponseCode(204)
        request.finish()
        return NOT_DONE_YET

    def _allow(self, request: Request) -> bool:
        origin = request.requestHeaders.getRawHeaders(b"Origin", [b""])[0]
        if origin in self._origins or (self._same_host and _is_same_host(request, origin)):
            request.setHeader(b"Access-Control-Allow-Origin", origin)
            request.setHeader("Vary", "Origin")
            request.setHeader("Access-Control-Allow-Credentials", "true")
            return True
        if self._any and origin:
            request.setHeader("Access-Control-Allow-Origin", "*")
        return self._any


def _is_same_host(request: Request, origin: bytes) -> bool:
    """Whether ``origin`` has the same host as the request, at any port."""
    try:
        host = urlsplit(f"//{header(request, 'Host')}").hostname
        return bool(host) and urlsplit(origin.decode()).hostname == host
    except ValueError:
        return False
