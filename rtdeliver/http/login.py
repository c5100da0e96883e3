"""How a person logs in to pages of internal listeners: with the secret, once, for some hours."""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence

from twisted.web.server import Request

from rtdeliver.errors import Unauthorized
from rtdeliver.http.access import bearers, is_one_of
from rtdeliver.http.requests import header

COOKIE = "rtdeliver_status"
SESSION_SECONDS = 12 * 3600

_VALUE = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})")


class Login:
    """Lets in whoever sends the secret, or a cookie that was made with it.

    The cookie holds until when it lets in, and a code that only the secret makes. It opens the
    status page only, so it is no help to publish.

    :param secrets: those that let in; with none, everybody is let in.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(self, *, secrets: Sequence[str], now: Callable[[], float]) -> None:
        self._secrets = tuple(secrets)
        self._now = now

    def use_secrets(self, secrets: Sequence[str]) -> None:
        """Require one of these secrets from now on; with none, let everybody in."""
        self._secrets = tuple(secrets)

    def check(self, request: Request) -> None:
        """Let ``request`` through.

        :raises Unauthorized: if it has neither the secret nor a cookie that is still good.
        """
        if not self._secrets:
            return
        sent = header(request, "Authorization").encode("latin-1")
        if not (is_one_of(sent, bearers(self._secrets)) or self._knows(request)):
            raise Unauthorized(
                "send the secret of this listener as Authorization: Bearer SECRET, or log in at"
                " /status",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def new_cookie(self) -> str:
        """Return a ``Set-Cookie`` field that lets in for some hours."""
        until = round(self._now()) + SESSION_SECONDS
        return (
            f"{COOKIE}={until}.{_code(self._secrets[0], until)}; Path=/status;"
            f" Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Strict"
        )

    def _knows(self, request: Request) -> bool:
        value = (request.getCookie(COOKIE.encode()) or b"").decode("latin-1")
        match = _VALUE.fullmatch(value)
        if match is None or int(match[1]) < self._now():
            return False
        codes = [_code(secret, int(match[1])).encode() for secret in self._secrets]
        return is_one_of(match[2].encode(), codes)


def _code(secret: str, until: int) -> str:
    message = f"{COOKIE} {until}".encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
