"""The manners of every HTTP listener, on connections without sockets."""

import json
from collections.abc import Callable, Sequence
from http.client import HTTPMessage, HTTPResponse
from io import BytesIO
from typing import Any

from klein import Klein
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from rtdeliver.config import SAME_HOST
from rtdeliver.errors import BadEvent, UnknownConnection
from rtdeliver.metrics import Exposition, gauge
from rtdeliver.routes import add_health, add_metrics, new_app
from rtdeliver.web import (
    JSON,
    NDJSON,
    BoundedSite,
    CorsResource,
    ProperResource,
    SecretResource,
    answer,
    client_address,
    close_after,
    host_of,
    media_type,
    post_of,
    query_values,
    to_the_end,
)

BODY_BYTES = 100
HUGE = 8 * BODY_BYTES + 1
CORS_FIELDS = {
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Max-Age",
    "Vary",
}


class Answer:
    """One response, as a client reads it."""

    def __init__(self, status: int, headers: HTTPMessage, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and name of a refusal, which must have the form that all have."""
        assert self.headers["Content-Type"] == "application/json"
        assert self.json.keys() - {"lines"} == {"error", "message"}
        return self.status, self.json["error"]

    def cors(self) -> dict[str, str]:
        """The header fields that concern other origins."""
        return {name: value for name, value in self.headers.items() if name in CORS_FIELDS}


class _Received(BytesIO):
    """What came from a server, for the standard library's client, which closes what it read."""

    def makefile(self, _mode: str) -> "_Received":
        return self

    def close(self) -> None: ...


class Peer:
    """A client of a site."""

    def __init__(
        self, resource: IResource, *, host: IAddress | None = None, client: IAddress | None = None
    ) -> None:
        self.clock = Clock()
        site = BoundedSite(resource, body_bytes=BODY_BYTES, idle_seconds=60, reactor=self.clock)
        self._transport = StringTransport(hostAddress=host, peerAddress=client)
        self._protocol = site.buildProtocol(None)
        self._protocol.makeConnection(self._transport)

    @property
    def received(self) -> bytes:
        return self._transport.value()

    @property
    def cut_off(self) -> bool:
        """Whether the server has closed the connection."""
        return self._transport.disconnecting

    def send(self, *lines: str, body: bytes = b"") -> "Peer":
        """Send a head of these lines with a Host field, and ``body`` as it is."""
        return self.send_bytes("\r\n".join([*lines, "Host: h", "", ""]).encode() + body)

    def send_bytes(self, data: bytes) -> "Peer":
        self._protocol.dataReceived(data)
        return self

    def leave(self) -> None:
        self._protocol.connectionLost(Failure(ConnectionDone()))

    def answers(self, *methods: str) -> list[Answer]:
        """Return all that was answered, to requests of these methods; then GET is assumed."""
        received = _Received(self.received)
        answers = []
        while received.tell() < len(self.received):
            method = methods[len(answers)] if len(answers) < len(methods) else "GET"
            response = HTTPResponse(received, method=method)  # type: ignore[arg-type]
            response.begin()
            answers.append(Answer(response.status, response.msg, response.read()))
        return answers

    def answer(self, method: str = "GET") -> Answer:
        """Return the only answer."""
        [answer] = self.answers(method)
        return answer


def app() -> Klein:
    """Return an app that shows how it was called."""
    app = new_app()

    @app.route("/hello", methods=["GET"])
    def hello(request: Request) -> bytes:
        return answer(request, 200, {"names": query_values(request, "name")})

    @app.route("/length", methods=["POST"])
    def length(request: Request) -> bytes:
        return answer(request, 200, {"bytes": len(post_of(request).body)})

    @app.route("/lines", methods=["POST"])
    def lines(request: Request) -> bytes:
        return answer(
            request, 200, {"media_type": media_type(post_of(request).content_type, JSON, NDJSON)}
        )

    @app.route("/last", methods=["GET"])
    def last(request: Request) -> bytes:
        close_after(request)
        return b"the end"

    @app.route("/health/live", methods=["GET"])
    def live(request: Request) -> bytes:
        return answer(request, 200, {"live": True})

    return app


def served(app: Klein) -> IResource:
    return ProperResource(app.resource())


def peer(app: Klein) -> Peer:
    return Peer(served(app))


def raising(error: Exception) -> Callable[[Request], Any]:
    def route(_: Request) -> Any:
        raise error

    return route


class BodyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.peer = peer(app())

    def test_a_body_of_the_limit_is_taken(self) -> None:
        self.peer.send("POST /length HTTP/1.1", "Content-Length: 100", body=b"x" * 100)
        self.assertEqual(self.peer.answer().json, {"bytes": 100})

    def test_a_chunked_body_of_the_limit_is_taken_however_it_comes(self) -> None:
        self.peer.send("POST /length HTTP/1.1", "Transfer-Encoding: chunked")
        for byte in b"19\r\n%b\r\n" % (b"x" * 25) * 4 + b"0\r\n\r\n":
            self.peer.send_bytes(bytes([byte]))
        self.assertEqual(self.peer.answer().json, {"bytes": 100})

    def test_a_larger_body_is_refused_and_the_connection_goes_on(self) -> None:
        self.peer.send("POST /length HTTP/1.1", "Content-Length: 101", body=b"x" * 101)
        self.peer.send("GET /hello HTTP/1.1")
        refused, answered = self.peer.answers()
        self.assertEqual(refused.refusal, (413, "too_large"))
        self.assertIn("100 bytes", refused.json["message"])
        self.assertEqual(answered.status, 200)

    def test_a_larger_chunked_body_is_refused_and_the_connection_goes_on(self) -> None:
        self.peer.send(
            "POST /length HTTP/1.1",
            "Transfer-Encoding: chunked",
            body=b"33\r\n%b\r\n" % (b"x" * 51) * 2 + b"0\r\n\r\n",
        )
        self.peer.send("GET /hello HTTP/1.1")
        refused, answered = self.peer.answers()
        self.assertEqual(refused.refusal, (413, "too_large"))
        self.assertEqual(answered.status, 200)

    def test_a_client_that_announces_far_too_much_is_cut_off_before_it_sends(self) -> None:
        self.peer.send("POST /length HTTP/1.1", f"Content-Length: {HUGE}")
        self.assertTrue(self.peer.cut_off)
        self.assertEqual(self.peer.answer().refusal, (413, "too_large"))

    def test_a_client_that_sends_far_too_much_is_cut_off_while_it_sends(self) -> None:
        self.peer.send("POST /length HTTP/1.1", "Transfer-Encoding: chunked")
        for _ in range(8):
            self.peer.send_bytes(b"64\r\n%b\r\n" % (b"x" * 100))
        self.assertFalse(self.peer.cut_off)
        self.peer.send_bytes(b"1\r\nx\r\n")
        self.assertTrue(self.peer.cut_off)
        self.assertEqual(self.peer.answer().refusal, (413, "too_large"))

    def test_a_client_is_cut_off_with_one_answer_though_all_came_in_one_piece(self) -> None:
        self.peer.send(
            "POST /length HTTP/1.1",
            "Transfer-Encoding: chunked",
            body=b"64\r\n%b\r\n" % (b"x" * 100) * 20 + b"0\r\n\r\n",
        )
        self.assertEqual(self.peer.answer().refusal, (413, "too_large"))
        self.assertTrue(self.peer.cut_off)

    def test_an_announced_body_is_cut_off_with_one_answer_though_all_came(self) -> None:
        self.peer.send("POST /length HTTP/1.1", f"Content-Length: {HUGE}", body=b"x" * HUGE)
        self.assertEqual(self.peer.answer().refusal, (413, "too_large"))
        self.assertTrue(self.peer.cut_off)

    def test_a_client_that_asks_before_it_sends_is_told_to_go_on(self) -> None:
        self.peer.send("POST /length HTTP/1.1", "Content-Length: 3", "Expect: 100-continue")
        self.assertEqual(self.peer.received, b"HTTP/1.1 100 Continue\r\n\r\n")
        self.peer.send_bytes(b"abc")
        self.assertEqual(self.peer.answer().json, {"bytes": 3})

    def test_a_client_that_is_cut_off_is_not_told_to_go_on(self) -> None:
        self.peer.send("POST /length HTTP/1.1", f"Content-Length: {HUGE}", "Expect: 100-continue")
        self.assertNotIn(b"100 Continue", self.peer.received)


class RequestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.peer = peer(app())

    def test_an_answer_is_json_that_nobody_keeps(self) -> None:
        answer = self.peer.send("GET /hello HTTP/1.1").answer()
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        self.assertEqual(answer.headers["Cache-Control"], "no-store")
        self.assertEqual(answer.headers["Content-Length"], str(len(answer.body)))
        self.assertEqual(answer.body, b'{"names":[]}\n')

    def test_a_head_request_gets_the_head_alone(self) -> None:
        for path, status in (("/hello", 200), ("/nothing", 404), ("/length", 405), ("/%ff", 400)):
            client = peer(app()).send(f"HEAD {path} HTTP/1.1")
            answer = client.answer("HEAD")
            self.assertEqual((answer.status, answer.body), (status, b""))
            self.assertGreater(int(answer.headers["Content-Length"]), 0)
            self.assertTrue(client.received.endswith(b"\r\n\r\n"))

    def test_requests_that_follow_each_other_are_answered_in_order(self) -> None:
        self.peer.send("GET /hello?name=a HTTP/1.1").send("GET /hello?name=b HTTP/1.1")
        self.assertEqual([answer.json["names"] for answer in self.peer.answers()], [["a"], ["b"]])

    def test_a_path_that_is_not_utf8_is_a_bad_request(self) -> None:
        for path in ("/%ff", "/hello/%c3", "/%ed%a0%80", "/hello%ff?name=a"):
            answer = peer(app()).send(f"GET {path} HTTP/1.1").answer()
            self.assertEqual(answer.refusal, (400, "bad_request"))

    def test_a_host_that_can_be_none_is_a_bad_request_and_not_logged(self) -> None:
        for host in (b"\xff", b"a\xc3", b"a..b", b"a" * 64 + b".example.com", b".a"):
            client = peer(app()).send_bytes(b"GET /hello HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
            self.assertEqual(client.answer().refusal, (400, "bad_request"), host)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_any_host_that_can_be_one_is_served(self) -> None:
        for host in ("example.com:8080", "10.0.0.5", "[::1]:8080", "", "a_b", "é.example.com"):
            client = peer(app()).send_bytes(f"GET /hello HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            self.assertEqual(client.answer().status, 200, host)

    def test_a_request_without_a_host_is_served_on_any_kind_of_socket(self) -> None:
        for address in (None, UNIXAddress("/run/rtdeliver")):
            client = Peer(served(app()), host=address)
            client.send_bytes(b"GET /hello HTTP/1.0\r\n\r\n")
            self.assertEqual(client.answer().status, 200)

    def test_values_of_the_query_come_in_order_and_in_utf8(self) -> None:
        self.peer.send("GET /hello?name=b&x=1&name=%C3%A9+a&name=a%26b HTTP/1.1")
        self.assertEqual(self.peer.answer().json, {"names": ["b", "é a", "a&b"]})

    def test_a_value_of_the_query_that_is_not_utf8_is_a_bad_request(self) -> None:
        self.peer.send("GET /hello?name=%ff HTTP/1.1")
        self.assertEqual(self.peer.answer().refusal, (400, "bad_request"))

    def test_a_media_type_is_known_by_its_name_alone(self) -> None:
        for given, expected in (
            ("application/json", JSON),
            ("application/json; charset=utf-8", JSON),
            ("Application/JSON ;charset=utf-8", JSON),
            ("application/x-ndjson", NDJSON),
        ):
            client = peer(app())
            client.send("POST /lines HTTP/1.1", f"Content-Type: {given}", "Content-Length: 0")
            self.assertEqual(client.answer().json, {"media_type": expected})

    def test_any_other_media_type_is_unsupported_and_the_answer_names_those_that_are_not(
        self,
    ) -> None:
        for given in ("text/plain", "application/jsonp", "application/x-www-form-urlencoded", ""):
            client = peer(app())
            client.send("POST /lines HTTP/1.1", f"Content-Type: {given}", "Content-Length: 0")
            self.assertEqual(client.answer().refusal, (415, "unsupported_media_type"))
            self.assertEqual(
                client.answer().headers["Accept"], "application/json, application/x-ndjson"
            )

    def test_a_media_type_that_is_not_utf8_is_unsupported(self) -> None:
        self.peer.send_bytes(
            b"POST /lines HTTP/1.1\r\nHost: h\r\nContent-Type: \xff\r\nContent-Length: 0\r\n\r\n"
        )
        self.assertEqual(self.peer.answer().refusal, (415, "unsupported_media_type"))

    def test_a_missing_media_type_is_unsupported(self) -> None:
        self.peer.send("POST /lines HTTP/1.1", "Content-Length: 0")
        self.assertEqual(self.peer.answer().refusal, (415, "unsupported_media_type"))

    def test_a_form_is_a_body_like_any_other(self) -> None:
        self.peer.send(
            "POST /length HTTP/1.1",
            "Content-Type: application/x-www-form-urlencoded",
            "Content-Length: 3",
            body=b"a=b",
        )
        self.assertEqual(self.peer.answer().json, {"bytes": 3})

    def test_a_connection_without_a_request_is_closed_when_it_was_idle(self) -> None:
        self.peer.send("GET /hello HTTP/1.1")
        self.peer.clock.advance(59)
        self.assertFalse(self.peer.cut_off)
        self.peer.clock.advance(1)
        self.assertTrue(self.peer.cut_off)

    def test_a_connection_is_closed_after_an_answer_that_is_to_be_the_last(self) -> None:
        self.peer.send("GET /last HTTP/1.1").send("GET /hello HTTP/1.1")
        answer = self.peer.answer()
        self.assertEqual((answer.body, answer.headers["Connection"]), (b"the end", "close"))
        self.assertTrue(self.peer.cut_off)

    def test_tls_clients_are_offered_http_1_1_only(self) -> None:
        site = BoundedSite(Resource(), body_bytes=1, idle_seconds=1, reactor=Clock())
        self.assertEqual(site.acceptableProtocols(), [b"http/1.1"])

    def test_a_resource_that_fails_gets_a_json_answer_without_a_traceback(self) -> None:
        class Failing(Resource):
            isLeaf = True

            def render(self, request: Request) -> bytes:
                raise ZeroDivisionError("a secret of the house")

        answer = Peer(Failing()).send("GET / HTTP/1.1").answer()
        self.assertEqual(answer.refusal, (500, "internal_error"))
        for word in (b"Traceback", b"ZeroDivision", b"secret"):
            self.assertNotIn(word, answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Telling(Resource):
    """Answers with what a function says of the request."""

    isLeaf = True

    def __init__(self, tell: Callable[[Request], str]) -> None:
        super().__init__()
        self._tell = tell

    def render(self, request: Request) -> bytes:
        return self._tell(request).encode()


class ClientAddressTests(SynchronousTestCase):
    """Where a request comes from."""

    SOCKET = IPv4Address("TCP", "192.0.2.1", 5000)

    def address(
        self, *forwarded: str, client: IAddress = SOCKET, behind_proxy: bool = False
    ) -> str:
        """The address of a request with these X-Forwarded-For fields, as it is told."""
        resource = Telling(lambda request: client_address(request, behind_proxy=behind_proxy))
        fields = [f"X-Forwarded-For: {value}" for value in forwarded]
        return Peer(resource, client=client).send("GET / HTTP/1.1", *fields).answer().body.decode()

    def test_it_is_that_of_the_socket(self) -> None:
        self.assertEqual(self.address(), "192.0.2.1")
        self.assertEqual(self.address(client=IPv6Address("TCP", "2001:db8::1", 1)), "2001:db8::1")

    def test_one_of_a_unix_socket_is_not_known(self) -> None:
        for path in ("/run/client", None):
            self.assertEqual(self.address(client=UNIXAddress(path)), "")

    def test_what_a_client_says_of_itself_is_not_believed(self) -> None:
        self.assertEqual(self.address("203.0.113.9"), "192.0.2.1")

    def test_behind_a_proxy_it_is_what_the_nearest_one_says(self) -> None:
        for value, expected in {
            "203.0.113.9": "203.0.113.9",
            "10.9.9.9, 203.0.113.9": "203.0.113.9",
            "spoofed,unknown , 2001:db8::9 ": "2001:db8::9",
        }.items():
            self.assertEqual(self.address(value, behind_proxy=True), expected)

    def test_a_proxy_may_add_a_field_to_that_of_the_client(self) -> None:
        """Fields of one name are one list, in their order (RFC 9110, 5.3)."""
        fields = ["10.9.9.9", "10.8.8.8, 203.0.113.9"]
        self.assertEqual(self.address(*fields, behind_proxy=True), "203.0.113.9")

    def test_behind_a_proxy_that_says_nothing_it_is_that_of_the_socket(self) -> None:
        for fields in ([], [""], [" "]):
            self.assertEqual(self.address(*fields, behind_proxy=True), "192.0.2.1")

    def test_behind_a_proxy_at_a_unix_socket_it_is_what_that_says(self) -> None:
        unix = UNIXAddress(None)
        self.assertEqual(self.address("203.0.113.9", client=unix, behind_proxy=True), "203.0.113.9")
        self.assertEqual(self.address(client=unix, behind_proxy=True), "")


class HostTests(SynchronousTestCase):
    """Which host a browser has asked for."""

    def host(self, *fields: str) -> str:
        lines = ["GET / HTTP/1.0", *(f"Host: {field}" for field in fields), "", ""]
        return Peer(Telling(host_of)).send_bytes("\r\n".join(lines).encode()).answer().body.decode()

    def test_it_is_told_without_its_port(self) -> None:
        for field, host in {
            "localhost": "localhost",
            "localhost:8000": "localhost",
            "Example.com:80": "Example.com",
            "a_b-c.example": "a_b-c.example",
            "10.0.0.5:8080": "10.0.0.5",
            "[::1]:8080": "[::1]",
            "[2001:DB8::1]": "[2001:DB8::1]",
            "[::ffff:10.0.0.5]": "[::ffff:10.0.0.5]",
        }.items():
            self.assertEqual(self.host(field), host)

    def test_where_it_is_odd_or_missing_it_is_this_machine(self) -> None:
        for fields in (
            [],
            [""],
            [":8080"],
            ["é.example"],
            ["a b"],
            ["a/b"],
            ["user@example.com"],
            ["example.com; script-src *"],
            ["example.com' *"],
            ["<script>"],
            ["[::1"],
            ["[::1]x"],
            ["[example.com]"],
        ):
            self.assertEqual(self.host(*fields), "localhost", fields)


class ToTheEndTests(SynchronousTestCase):
    """Work that is done whether or not its client waits."""

    def setUp(self) -> None:
        self.step: Deferred[int] = Deferred()
        self.done: list[int] = []

    async def work(self) -> int:
        self.done.append(await self.step)
        return 7

    def test_it_fires_with_the_result(self) -> None:
        answer = to_the_end(self.work())
        self.step.callback(1)
        self.assertEqual(self.successResultOf(answer), 7)

    def test_a_failure_is_passed_on(self) -> None:
        answer = to_the_end(self.work())
        self.step.errback(UnknownConnection("gone"))
        self.failureResultOf(answer, UnknownConnection)

    def test_the_work_goes_on_when_the_client_has_left(self) -> None:
        for work in (self.work(), self.step):
            answer = to_the_end(work)
            answer.cancel()
            self.failureResultOf(answer, CancelledError)
        self.step.callback(1)
        self.assertEqual(self.done, [1])


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
            ("POST /hello HTTP/1.1", "GET, HEAD"),
            ("DELETE /hello HTTP/1.1", "GET, HEAD"),
            ("BREW /hello HTTP/1.1", "GET, HEAD"),
            ("GET /length HTTP/1.1", "POST"),
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


class SecretTests(SynchronousTestCase):
    def ask(self, *authorization: bytes, path: bytes = b"/hello") -> Answer:
        lines = [b"GET %b HTTP/1.1" % path, b"Host: h"]
        lines += [b"Authorization: " + value for value in authorization]
        client = Peer(SecretResource("s3cret", served(app())))
        return client.send_bytes(b"\r\n".join([*lines, b"", b""])).answer()

    def test_a_request_with_the_secret_is_let_through(self) -> None:
        self.assertEqual(self.ask(b"Bearer s3cret").status, 200)

    def test_any_other_request_is_unauthorized(self) -> None:
        for authorization in (
            [],
            [b""],
            [b"Bearer"],
            [b"Bearer "],
            [b"Bearer s3cre"],
            [b"Bearer s3cret2"],
            [b"Bearer S3CRET"],
            [b"Basic s3cret"],
            [b"s3cret"],
            [b"Bearer \xff\xfe"],
            [b"Bearer wrong", b"Bearer s3cret"],
        ):
            answer = self.ask(*authorization)
            self.assertEqual(answer.refusal, (401, "unauthorized"), authorization)
            self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")

    def test_a_path_that_is_not_served_is_not_told_apart_without_the_secret(self) -> None:
        self.assertEqual(self.ask(path=b"/nothing").refusal, (401, "unauthorized"))

    def test_health_checks_need_no_secret(self) -> None:
        self.assertEqual(self.ask(path=b"/health/live").status, 200)

    def test_no_other_path_passes_for_a_health_check(self) -> None:
        for path in (b"/healthx", b"/hello/health/", b"//health/live", b"/%68ealth/live"):
            self.assertEqual(self.ask(path=path).refusal, (401, "unauthorized"), path)
        for path in (b"/health/../hello", b"/health/..%2fhello", b"/health//hello"):
            self.assertEqual(self.ask(path=path).refusal, (404, "not_found"), path)

    def test_a_head_request_without_the_secret_gets_the_head_alone(self) -> None:
        client = Peer(SecretResource("s3cret", served(app()))).send("HEAD /hello HTTP/1.1")
        self.assertEqual(client.answer("HEAD").status, 401)


class CorsTests(SynchronousTestCase):
    LISTED = "https://example.com"
    UNLISTED = "https://evil.example"

    def ask(self, origins: Sequence[str], *lines: str) -> Answer:
        return Peer(CorsResource(origins, served(app()))).send(*lines).answer()

    def get(self, origins: Sequence[str], origin: str | None, path: str = "/hello") -> Answer:
        fields = [] if origin is None else [f"Origin: {origin}"]
        return self.ask(origins, f"GET {path} HTTP/1.1", *fields)

    def is_same_host(self, origin: str, host: str) -> bool:
        """Whether a page of ``origin`` may read what ``host`` answers."""
        head = f"GET /hello HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n"
        peer = Peer(CorsResource([SAME_HOST], served(app()))).send_bytes(head.encode())
        fields = peer.answer().cors()
        allowed = fields.get("Access-Control-Allow-Origin") == origin
        self.assertEqual(allowed, "Access-Control-Allow-Credentials" in fields)
        return allowed

    def preflight(self, origins: Sequence[str], origin: str) -> Answer:
        return self.ask(
            origins,
            "OPTIONS /length HTTP/1.1",
            f"Origin: {origin}",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: content-type",
        )

    def test_the_same_host_at_another_port_may_read_where_that_is_allowed(self) -> None:
        for origin, host in (
            ("http://localhost:8000", "localhost:8080"),
            ("https://example.com", "EXAMPLE.com:8080"),
            ("http://[::1]:8000", "[::1]:8080"),
        ):
            self.assertTrue(self.is_same_host(origin, host), (origin, host))

    def test_another_host_may_not(self) -> None:
        for origin, host in (
            ("http://evil.example:8080", "localhost:8080"),
            ("http://localhost.evil.example", "localhost:8080"),
            ("http://evil.example#localhost", "localhost:8080"),
            ("null", "localhost:8080"),
            ("null", "null"),
            ("http://[::1", "[::1"),
            ("", ""),
        ):
            self.assertFalse(self.is_same_host(origin, host), (origin, host))

    def test_a_listed_origin_may_read_the_answers_with_credentials(self) -> None:
        answer = self.get(["https://other.example", self.LISTED], self.LISTED)
        self.assertEqual(answer.status, 200)
        self.assertEqual(
            answer.cors(),
            {
                "Access-Control-Allow-Origin": self.LISTED,
                "Access-Control-Allow-Credentials": "true",
                "Vary": "Origin",
            },
        )

    def test_a_listed_origin_may_read_refusals_too(self) -> None:
        for line, refusal in (
            ("GET /nothing HTTP/1.1", (404, "not_found")),
            ("GET /length HTTP/1.1", (405, "method_not_allowed")),
            ("GET /%ff HTTP/1.1", (400, "bad_request")),
        ):
            answer = self.ask([self.LISTED], line, f"Origin: {self.LISTED}")
            self.assertEqual(answer.refusal, refusal)
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], self.LISTED)

    def test_a_listed_origin_may_read_that_its_body_is_too_large(self) -> None:
        client = Peer(CorsResource([self.LISTED], served(app())))
        client.send(
            "POST /length HTTP/1.1",
            f"Origin: {self.LISTED}",
            "Content-Length: 101",
            body=b"x" * 101,
        )
        self.assertEqual(client.answer().refusal, (413, "too_large"))
        self.assertEqual(client.answer().headers["Access-Control-Allow-Origin"], self.LISTED)

    def test_an_unlisted_origin_gets_none_of_the_headers(self) -> None:
        for origin in (
            self.UNLISTED,
            "null",
            "https://example.com.evil.example",
            "http://example.com",
        ):
            answer = self.get([self.LISTED], origin)
            self.assertEqual((answer.status, answer.cors()), (200, {}))

    def test_a_request_of_no_origin_gets_none_of_the_headers(self) -> None:
        for origins in ([], [self.LISTED], ["*"]):
            self.assertEqual(self.get(origins, None).cors(), {})

    def test_where_any_may_read_no_credentials_are_sent(self) -> None:
        self.assertEqual(
            self.get(["*"], self.UNLISTED).cors(), {"Access-Control-Allow-Origin": "*"}
        )
        self.assertNotIn("Access-Control-Allow-Credentials", self.get(["*"], "*").cors())

    def test_a_listed_origin_keeps_its_credentials_where_any_may_read(self) -> None:
        cors = self.get(["*", self.LISTED], self.LISTED).cors()
        self.assertEqual(cors["Access-Control-Allow-Origin"], self.LISTED)
        self.assertEqual(cors["Access-Control-Allow-Credentials"], "true")

    def test_a_preflight_of_a_listed_origin_is_told_methods_and_headers(self) -> None:
        answer = self.preflight([self.LISTED], self.LISTED)
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(
            answer.cors(),
            {
                "Access-Control-Allow-Origin": self.LISTED,
                "Access-Control-Allow-Credentials": "true",
                "Access-Control-Allow-Methods": "GET, POST",
                "Access-Control-Allow-Headers": "Content-Type, Authorization, Last-Event-ID",
                "Access-Control-Max-Age": "600",
                "Vary": "Origin",
            },
        )

    def test_a_preflight_of_any_origin_is_told_the_same_without_credentials(self) -> None:
        self.assertEqual(
            self.preflight(["*"], self.UNLISTED).cors(),
            {
                "Access-Control-Allow-Origin": "*",
                "Access-Control-Allow-Methods": "GET, POST",
                "Access-Control-Allow-Headers": "Content-Type, Authorization, Last-Event-ID",
                "Access-Control-Max-Age": "600",
            },
        )

    def test_a_preflight_of_an_unlisted_origin_is_told_nothing(self) -> None:
        for origins in ([], [self.LISTED]):
            answer = self.preflight(origins, self.UNLISTED)
            self.assertEqual((answer.status, answer.cors()), (204, {}))

    def test_a_client_that_asks_for_the_options_is_told_the_methods(self) -> None:
        answer = self.ask([], "OPTIONS /hello HTTP/1.1")
        self.assertEqual(answer.headers["Allow"], "GET, POST, OPTIONS")
