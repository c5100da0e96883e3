"""The manners of every listener, whoever asks."""

from twisted.internet.address import UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Request

from rtdeliver.config.sections import Http
from rtdeliver.http.access import Gate
from rtdeliver.http.intake import Intake
from rtdeliver.http.requests import (
    JSON,
    NDJSON,
)
from rtdeliver.http.site import BoundedSite
from tests.http.peers import HUGE, Peer, app, peer, served


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


class RoomTests(SynchronousTestCase):
    """What a listener holds of bodies that have not come completely."""

    def setUp(self) -> None:
        # Room for 60 bytes at public listeners.
        self.peer = Peer(served(app()), settings=Http(bodies_bytes=120))

    def held_bytes(self) -> float:
        [held] = [s.value for s in self.peer.intake.samples() if s.name.startswith("unfinished")]
        return held

    def refused(self) -> float:
        [count] = [s.value for s in self.peer.intake.samples() if s.name.startswith("bodies")]
        return count

    def test_a_body_for_which_there_is_no_room_is_refused_at_once(self) -> None:
        self.peer.send("POST /length HTTP/1.1", "Content-Length: 90", body=b"x" * 60)
        self.assertEqual(self.peer.received, b"")
        self.assertEqual(self.held_bytes(), 60)
        self.peer.send_bytes(b"x")
        answer = self.peer.answer()
        self.assertEqual(answer.refusal, (503, "unavailable"))
        self.assertEqual(answer.headers["Retry-After"], "1")
        self.assertEqual((self.held_bytes(), self.refused()), (0, 1))

    def test_the_rest_of_it_is_read_so_that_the_client_gets_to_see_that(self) -> None:
        self.peer.send("POST /length HTTP/1.1", "Content-Length: 90", body=b"x" * 61)
        self.assertFalse(self.peer.cut_off)
        self.peer.send_bytes(b"x" * 28)
        self.assertFalse(self.peer.cut_off)
        self.peer.send_bytes(b"x")
        self.assertTrue(self.peer.cut_off)
        self.assertEqual(self.peer.answer().status, 503)
        self.assertEqual((self.held_bytes(), self.refused()), (0, 1))

    def test_a_client_that_never_sends_the_rest_gets_no_second_answer(self) -> None:
        self.peer.send("POST /length HTTP/1.1", "Content-Length: 90", body=b"x" * 61)
        self.peer.clock.advance(30)
        self.assertTrue(self.peer.cut_off)
        self.assertEqual(self.peer.answer().status, 503)

    def test_a_body_that_comes_at_once_needs_no_room(self) -> None:
        self.assertTrue(self.peer.intake.hold(60))
        self.peer.send("POST /length HTTP/1.1", "Content-Length: 90", body=b"x" * 90)
        self.assertEqual(self.peer.answer().json, {"bytes": 90})

    def test_room_is_given_back_however_a_body_ends(self) -> None:
        plain, chunked = (
            ("Content-Length: 90", b"x" * 5),
            ("Transfer-Encoding: chunked", b"5\r\nxxxxx"),
        )
        for (field, body), rest in (
            (plain, b"x" * 85),
            (plain, b""),
            (chunked, b"\r\n0\r\n\r\n"),
            (chunked, b"\r\n64\r\n" + b"x" * 100 + b"\r\n"),
            (chunked, b"nonsense\r\n"),
        ):
            self.setUp()
            self.peer.send("POST /length HTTP/1.1", field, body=body)
            self.assertEqual(self.held_bytes(), 5)
            self.peer.send_bytes(rest)
            if not self.peer.received or self.peer.cut_off:
                self.peer.leave()
            self.assertEqual(self.held_bytes(), 0, rest)


class GateTests(SynchronousTestCase):
    """Requests that are refused for what their heads say."""

    def setUp(self) -> None:
        self.peer = Peer(served(app()), gate=Gate(secrets=["s3cret"], any_host=False))

    def test_one_with_a_body_is_refused_before_the_body_comes(self) -> None:
        self.peer.send("POST /length HTTP/1.1", "Content-Length: 90")
        answer = self.peer.answer()
        self.assertEqual(answer.refusal, (401, "unauthorized"))
        self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")
        self.assertFalse(self.peer.cut_off)
        self.peer.send_bytes(b"x" * 90)
        self.assertTrue(self.peer.cut_off)
        self.assertEqual(self.peer.answer().status, 401)

    def test_nothing_of_the_body_is_held(self) -> None:
        for field in ("Content-Length: 90", "Transfer-Encoding: chunked"):
            peer = Peer(served(app()), gate=Gate(secrets=["s3cret"], any_host=False))
            peer.send("POST /length HTTP/1.1", field, body=b"20\r\n" + b"x" * 32)
            self.assertEqual(peer.answer().status, 401)
            held = {s.name: s.value for s in peer.intake.samples()}["unfinished_bodies_bytes"]
            self.assertEqual(held, 0)

    def test_one_that_announces_or_sends_far_too_much_is_cut_off(self) -> None:
        self.peer.send("POST /length HTTP/1.1", "Content-Length: 9000", body=b"x" * 801)
        self.assertTrue(self.peer.cut_off)
        self.assertEqual(self.peer.answer().status, 401)

    def test_a_client_that_asks_before_it_sends_is_told_and_closed(self) -> None:
        self.peer.send("POST /length HTTP/1.1", "Content-Length: 90", "Expect: 100-continue")
        self.assertEqual(self.peer.answer().status, 401)
        self.assertTrue(self.peer.cut_off)

    def test_one_without_a_body_leaves_the_connection_open(self) -> None:
        self.peer.send("GET /hello HTTP/1.1")
        self.peer.send("GET /hello HTTP/1.1", "Authorization: Bearer s3cret")
        self.assertEqual([answer.status for answer in self.peer.answers()], [401, 200])

    def test_a_later_one_is_asked_again(self) -> None:
        good = ("POST /length HTTP/1.1", "Content-Length: 1", "Authorization: Bearer s3cret")
        self.peer.send(*good, body=b"x").send("POST /length HTTP/1.1", "Content-Length: 1")
        self.assertEqual([answer.status for answer in self.peer.answers()], [200, 401])

    def test_a_health_check_may_have_a_body(self) -> None:
        for path, status in (("/health/live", 200), ("/hello", 401)):
            peer = Peer(served(app()), gate=Gate(secrets=["s3cret"], any_host=False))
            peer.send(f"GET {path} HTTP/1.1", "Content-Length: 1", body=b"x")
            self.assertEqual(peer.answer().status, status)


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
        for host in (
            b"\xff",
            b"a\xc3",
            "é.example".encode(),
            b"a..b",
            b"a" * 64 + b".example.com",
            b".a",
        ):
            client = peer(app()).send_bytes(b"GET /hello HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
            self.assertEqual(client.answer().refusal, (400, "bad_request"), host)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_any_host_that_can_be_one_is_served(self) -> None:
        for host in ("example.com:8080", "10.0.0.5", "[::1]:8080", "", "a_b"):
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
            ('application/json; x=1; charset="UTF-8"', JSON),
            ("application/json; charset=us-ascii", JSON),
            ("application/json; xcharset=latin1", JSON),
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

    def test_another_charset_than_utf8_is_unsupported(self) -> None:
        for charset in ("latin1", "ISO-8859-1", '"utf-16"', "windows-1252", "utf-8x"):
            for parameter in (f"charset={charset}", f"x=1; CharSet = {charset} ;y=2"):
                client = peer(app())
                client.send(
                    "POST /lines HTTP/1.1",
                    f"Content-Type: application/json; {parameter}",
                    "Content-Length: 0",
                )
                answer = client.answer()
                self.assertEqual(answer.refusal, (415, "unsupported_media_type"))
                self.assertIn("send UTF-8, and not charset=", answer.json["message"])

    def test_a_compressed_body_is_unsupported(self) -> None:
        for coding in ("gzip", "br", " GZIP ", "identity, gzip"):
            client = peer(app())
            client.send(
                "POST /lines HTTP/1.1",
                "Content-Type: application/json",
                f"Content-Encoding: {coding}",
                "Content-Length: 0",
            )
            answer = client.answer()
            self.assertEqual(answer.refusal, (415, "unsupported_media_type"))
            self.assertEqual(answer.headers["Accept-Encoding"], "identity")

    def test_a_body_may_be_said_to_be_uncompressed(self) -> None:
        self.peer.send(
            "POST /lines HTTP/1.1",
            "Content-Type: application/json",
            "Content-Encoding: Identity",
            "Content-Length: 0",
        )
        self.assertEqual(self.peer.answer().json, {"media_type": JSON})

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
        site = BoundedSite(
            Resource(),
            body_bytes=1,
            idle_seconds=1,
            intake=Intake(Http(), listeners="public"),
            reactor=Clock(),
        )
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
