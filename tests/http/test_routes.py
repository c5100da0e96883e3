"""What every Klein app here has."""

from collections.abc import Callable
from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request

from rtdeliver.errors import AnswerLost, BadEvent, UnknownConnection, Unreachable
from rtdeliver.http.routes import add_health, add_metrics, new_app
from rtdeliver.metrics import Exposition, gauge
from tests.http.peers import Answer, app, peer, raising


class AppTests(SynchronousTestCase):
    def ask(self, app: Klein, line: str = "GET / HTTP/1.1") -> Answer:
        return peer(app).send(line).answer()

    def app_with(self, route: Callable[[Request], Any]) -> Klein:
        app = new_app()
        app.route("/", methods=["GET"])(route)
        return app

    def test_a_path_that_is_not_served_is_not_found(self) -> None:
        for path in ("/", "/hello/", "/hello/x", "/Hello", "/%00", "/..", "/hello%2F"):
            answer = self.ask(app(), f"GET {path} HTTP/1.1")
            self.assertEqual(answer.refusal, (404, "not_found"), path)

    def test_a_method_that_a_path_does_not_take_is_answered_with_those_it_does(self) -> None:
        for line, allowed in (
            ("POST /hello HTTP/1.1", "GET, HEAD, OPTIONS"),
            ("DELETE /hello HTTP/1.1", "GET, HEAD, OPTIONS"),
            ("BREW /hello HTTP/1.1", "GET, HEAD, OPTIONS"),
            ("GET /length HTTP/1.1", "OPTIONS, POST"),
            ("get /hello HTTP/1.1", "GET, HEAD, OPTIONS"),
        ):
            answer = self.ask(app(), line)
            self.assertEqual(answer.refusal, (405, "method_not_allowed"))
            self.assertEqual(answer.headers.get_all("Allow"), [allowed])

    def test_a_refusal_is_answered_with_its_name_status_message_and_lines(self) -> None:
        answer = self.ask(self.app_with(raising(BadEvent("no id", lines=[2, 5]))))
        self.assertEqual(answer.status, 400)
        self.assertEqual(answer.json, {"error": "bad_event", "message": "no id", "lines": [2, 5]})

    def test_a_refusal_that_comes_later_is_answered_too(self) -> None:
        app = self.app_with(lambda _: fail(UnknownConnection("it has ended")))
        self.assertEqual(self.ask(app).refusal, (404, "unknown_connection"))

    def test_headers_of_a_refusal_are_sent(self) -> None:
        refusal = BadEvent("no", headers={"Retry-After": "5"})
        self.assertEqual(self.ask(self.app_with(raising(refusal))).headers["Retry-After"], "5")

    def test_a_fault_gets_a_json_answer_without_a_traceback_and_is_logged_once(self) -> None:
        error = ZeroDivisionError("a secret of the house")

        async def failing_later(_: Request) -> bytes:
            raise error

        for route in (raising(error), lambda _: fail(error), failing_later):
            answer = self.ask(self.app_with(route))
            self.assertEqual(answer.refusal, (500, "internal_error"))
            for word in (b"Traceback", b"ZeroDivision", b"secret"):
                self.assertNotIn(word, answer.body)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_client_that_leaves_before_the_answer_ends_the_work_and_no_error_is_logged(
        self,
    ) -> None:
        cancelled: list[Deferred[bytes]] = []
        waiting: Deferred[bytes] = Deferred(cancelled.append)
        client = peer(self.app_with(lambda _: waiting)).send("GET / HTTP/1.1")
        self.assertEqual(client.received, b"")
        client.leave()
        self.assertEqual(cancelled, [waiting])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_client_that_leaves_before_a_refusal_is_not_logged_either(self) -> None:
        for error in (UnknownConnection("gone"), Unreachable("gone"), AnswerLost("gone")):

            async def ask_another(_: Request, error: Exception = error) -> bytes:
                try:
                    await Deferred()
                except CancelledError:
                    raise error from None
                return b""

            client = peer(self.app_with(ask_another)).send("GET / HTTP/1.1")
            client.leave()
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_fault_after_its_client_has_left_is_logged(self) -> None:
        async def fail_when_cancelled(_: Request) -> bytes:
            try:
                await Deferred()
            finally:
                raise ZeroDivisionError

        client = peer(self.app_with(fail_when_cancelled)).send("GET / HTTP/1.1")
        client.leave()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_process_is_live_and_ready_when_nothing_is_missing(self) -> None:
        missing: list[str] = []
        app = new_app()
        add_health(app, lambda: missing)
        self.assertEqual(self.ask(app, "GET /health/live HTTP/1.1").status, 200)
        answer = self.ask(app, "GET /health/ready HTTP/1.1")
        self.assertEqual((answer.status, answer.json), (200, {"ready": True, "missing": []}))
        missing.append("no dispatcher answers")
        self.assertEqual(self.ask(app, "GET /health/live HTTP/1.1").status, 200)
        answer = self.ask(app, "GET /health/ready HTTP/1.1")
        self.assertEqual((answer.status, answer.json), (503, {"ready": False, "missing": missing}))

    def test_metrics_are_prometheus_text(self) -> None:
        app = new_app()
        add_metrics(app, Exposition([lambda: [gauge("links", "Links.", 3)]]))
        answer = self.ask(app, "GET /metrics HTTP/1.1")
        self.assertEqual(answer.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertIn(b"\nrtdeliver_links 3.0\n", answer.body)
