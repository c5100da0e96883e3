"""How a person logs in to pages of internal listeners."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from rtdeliver.errors import Unauthorized
from rtdeliver.http.login import COOKIE, SESSION_SECONDS, Login

NOW = 1_795_417_956.7


class LoginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.login = Login(secrets=["s3cret"], now=self.clock.seconds)

    def request(self, *, bearer: str = "", cookie: str = "") -> Any:
        request: Any = DummyRequest([b"status"])
        if bearer:
            request.requestHeaders.setRawHeaders(b"Authorization", [f"Bearer {bearer}".encode()])
        request.getCookie = lambda name: cookie.encode() if name == COOKIE.encode() else None
        return request

    def cookie(self) -> str:
        """Return the value of a new cookie."""
        field = self.login.new_cookie()
        self.assertIn("; Path=/status; ", field)
        self.assertIn("; HttpOnly; SameSite=Strict", field)
        return field.partition(";")[0].removeprefix(f"{COOKIE}=")

    def assert_refused(self, request: Any) -> None:
        self.assertRaises(Unauthorized, self.login.check, request)

    def test_the_secret_lets_in(self) -> None:
        self.login.check(self.request(bearer="s3cret"))
        for wrong in ("", "other", "s3cre", "s3cret2", "\u00e9"):
            self.assert_refused(self.request(bearer=wrong))

    def test_a_cookie_lets_in_for_some_hours(self) -> None:
        value = self.cookie()
        self.login.check(self.request(cookie=value))
        self.clock.advance(SESSION_SECONDS - 1)
        self.login.check(self.request(cookie=value))
        self.clock.advance(2)
        self.assert_refused(self.request(cookie=value))

    def test_nobody_can_make_a_cookie_without_the_secret(self) -> None:
        until, _, code = self.cookie().partition(".")
        other = Login(secrets=["other"], now=self.clock.seconds).new_cookie()
        for forged in (
            f"{int(until) + 1}.{code}",
            f"{until}.{'0' * 64}",
            f"{until}.",
            "",
            "nonsense",
            f"{until}.{code}0",
            other.partition(";")[0].removeprefix(f"{COOKIE}="),
        ):
            self.assert_refused(self.request(cookie=forged))

    def test_a_new_secret_ends_all_sessions(self) -> None:
        value = self.cookie()
        self.login.use_secrets(["new"])
        self.assert_refused(self.request(cookie=value))
        self.login.check(self.request(bearer="new"))

    def test_without_a_secret_everybody_is_let_in(self) -> None:
        Login(secrets=[], now=self.clock.seconds).check(self.request())
