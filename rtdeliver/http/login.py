"""How a person logs in to pages of internal listeners: with the secret, once, for some hours."""

import hashlib
import hmac
import re
from collections.abc import Callable

from twisted.web.server import Request

from rtdeliver.errors import Unauthorized
from rtdeliver.http.requests import header

COOKIE = "rtdeliver_status"
SESSION_SECONDS = 12 * 3600

_VALUE = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})")


class Login:
    """Lets in whoever sends the secret, or a cookie that was made with it.

    The cookie holds until when it lets in, and a code that only the secret makes. It opens the
    status page only, so it is no help to publish.

    :param secret: empty for none; then everybody is let in.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(self, *, secret: str, now: Callable[[], float]) -> None:
        self._secret = secret
        self._now = now

    def use_secret(self, secret: str) -> None:
        """Require this secret from now on; empty for none."""
        self._secret = secret

    def check(self, request: Request) -> None:
        """Let ``request`` through.

        :raises Unauthorized: if it has neither the secret nor a cookie that is still good.
        """
        if not self._secret:
            return
        expected = f"Bearer {self._secret}".encode()
        sent = header(request, "Authorization").encode("latin-1")
        if not (hmac.compare_digest(sent, expected) or self._knows(request)):
            raise Unauthorized(
                "send the secret of this listener as Authorization: Bearer SECRET, or log in at"
                " /status",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def new_cookie(self) -> str:
        """Return a ``Set-Cookie`` field that lets in for some hours."""
        until = round(self._now()) + SESSION_SECONDS
        return (
            f"{COOKIE}={until}.{self._code(until)}; Path=/status; Max-Age={SESSION_SECONDS};"
            " HttpOnly; SameSite=Strict"
        )

    def _knows(self, request: Request) -> bool:
        value = (request.getCookie(COOKIE.encode()) or b"").decode("latin-1")
        match = _VALUE.fullmatch(value)
        if match is None or int(match[1]) < self._now():
            return False
        return hmac.compare_digest(match[2], self._code(int(match[1])))

    def _code(self, until: int) -> str:
        message = f"{COOKIE} {until}".encode()
        return hmac.new(self._secret.encode(), message, hashlib.sha256).hexdigest()
