"""Who may use a listener."""

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import SAME_HOST
from rtdeliver.errors import ConfigError, Unauthorized
from rtdeliver.http.access import CorsResource, Gate, read_secrets
from tests.config.files import FileTestCase
from tests.http.peers import Answer, Peer, app, served

ALLOWED_FIELDS = "Content-Type, Authorization, Last-Event-ID, Cache-Control"


class SecretTests(SynchronousTestCase):
    gate = Gate(secrets=["s3cret"], any_host=False)

    def ask(self, *authorization: bytes, path: bytes = b"/hello") -> Answer:
        lines = [b"GET %b HTTP/1.1" % path, b"Host: h"]
        lines += [b"Authorization: " + value for value in authorization]
        client = Peer(served(app()), gate=self.gate)
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
        client = Peer(served(app()), gate=self.gate).send("HEAD /hello HTTP/1.1")
        self.assertEqual(client.answer("HEAD").status, 401)


class HostTests(SynchronousTestCase):
    """A listener without a secret, and the pages that browsers on this machine have open."""

    def ask(self, *hosts: str, any_host: bool = False, path: str = "/hello") -> Answer:
        fields = "".join(f"Host: {host}\r\n" for host in hosts)
        client = Peer(served(app()), gate=Gate(secrets=[], any_host=any_host))
        return client.send_bytes(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode()).answer()

    def test_it_answers_to_the_names_of_this_machine_and_to_addresses(self) -> None:
        for host in (
            "localhost",
            "localhost:8090",
            "LocalHost.",
            "rt.localhost:8090",
            "127.0.0.1",
            "127.0.0.1:8090",
            "10.0.0.5:",
            "[::1]",
            "[::1]:8090",
            "[2001:db8::5]:8090",
        ):
            self.assertEqual(self.ask(host).status, 200, host)

    def test_it_answers_to_no_other_name(self) -> None:
        for host in (
            "evil.example",
            "evil.example:8090",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "127.1",
            "0x7f000001",
            "256.0.0.1",
        ):
            answer = self.ask(host)
            self.assertEqual(answer.refusal, (403, "forbidden"), host)
            self.assertIn("access.secret_file", answer.json["message"])

    def test_no_path_is_an_exception(self) -> None:
        for path in ("/health/live", "/nothing"):
            self.assertEqual(self.ask("evil.example", path=path).refusal, (403, "forbidden"))

    def test_one_good_name_does_not_hide_another(self) -> None:
        for hosts in (("localhost", "evil.example"), ("evil.example", "localhost")):
            self.assertEqual(self.ask(*hosts).refusal, (400, "bad_request"))

    def test_what_is_no_host_is_a_bad_request(self) -> None:
        for host in (
            "evil.example:localhost",
            "localhost@evil.example",
            "[::1",
            "[evil]",
            "::1",
            "é.localhost",
            "a b",
        ):
            self.assertEqual(self.ask(host).refusal, (400, "bad_request"), host)

    def test_a_client_may_name_no_host(self) -> None:
        self.assertEqual(self.ask("").status, 200)

    def test_any_name_will_do_where_that_is_allowed(self) -> None:
        self.assertEqual(self.ask("evil.example", any_host=True).status, 200)

    def test_any_name_will_do_with_the_secret(self) -> None:
        client = Peer(served(app()), gate=Gate(secrets=["s3cret"], any_host=False))
        client.send_bytes(
            b"GET /hello HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer s3cret\r\n\r\n"
        )
        self.assertEqual(client.answer().status, 200)


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
                "Access-Control-Allow-Headers": ALLOWED_FIELDS,
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
                "Access-Control-Allow-Headers": ALLOWED_FIELDS,
                "Access-Control-Max-Age": "600",
            },
        )

    def test_a_preflight_of_an_unlisted_origin_is_told_nothing(self) -> None:
        for origins in ([], [self.LISTED]):
            answer = self.preflight(origins, self.UNLISTED)
            self.assertEqual((answer.status, answer.cors()), (204, {}))

    def test_a_client_that_asks_for_the_options_is_told_the_methods(self) -> None:
        answer = self.ask([], "OPTIONS /hello HTTP/1.1")
        self.assertEqual(answer.headers["Allow"], "GET, HEAD, OPTIONS")


class TokenGateTests(SynchronousTestCase):
    """What may be published with a token instead of a secret."""

    def gate(self, *secrets: str, takes_tokens: bool = True) -> Gate:
        return Gate(secrets=secrets, any_host=False, takes_tokens=takes_tokens)

    def token(self, gate: Gate, authorization: bytes, target: bytes = b"/publish") -> str:
        refusal = gate.refusal(target=target, hosts=[b"localhost"], authorization=authorization)
        if refusal is not None:
            raise refusal
        return gate.token(target=target, authorization=authorization)

    def test_a_secret_limits_nothing_and_a_token_does(self) -> None:
        gate = self.gate("new", "old")
        self.assertEqual(self.token(gate, b"Bearer new"), "")
        self.assertEqual(self.token(gate, b"Bearer old"), "")
        self.assertEqual(self.token(gate, b"Bearer a.b.c"), "a.b.c")
        self.assertEqual(self.token(gate, b"bearer  a.b.c", b"/publish?x=1"), "a.b.c")

    def test_what_is_neither_is_refused(self) -> None:
        gate = self.gate("new", "old")
        for authorization in (b"", b"Bearer ", b"Bearer wrong", b"Basic a.b.c", b"a.b.c"):
            self.assertRaises(Unauthorized, self.token, gate, authorization)

    def test_a_token_opens_no_other_path(self) -> None:
        for path in (b"/deliver", b"/forward", b"/disconnect", b"/publisher", b"/", b"/metrics"):
            self.assertRaises(Unauthorized, self.token, self.gate("s"), b"Bearer a.b.c", path)

    def test_without_keys_no_token_is_taken(self) -> None:
        gate = self.gate("s", takes_tokens=False)
        self.assertRaises(Unauthorized, self.token, gate, b"Bearer a.b.c")
        self.assertEqual(self.token(self.gate(takes_tokens=False), b"Bearer a.b.c"), "")

    def test_an_open_listener_limits_who_sends_a_token(self) -> None:
        self.assertEqual(self.token(self.gate(), b""), "")
        self.assertEqual(self.token(self.gate(), b"Basic xyz"), "")
        self.assertEqual(self.token(self.gate(), b"Bearer anything"), "anything")

    def test_other_secrets_hold_from_then_on(self) -> None:
        gate = self.gate("old")
        gate.use_secrets(["new", "old"])
        self.assertEqual(self.token(gate, b"Bearer old"), "")
        gate.use_secrets(["new"])
        self.assertRaises(Unauthorized, self.token, gate, b"Bearer old")


class ReadSecretTests(FileTestCase):
    def test_no_secret_is_configured_by_default(self) -> None:
        self.assertEqual(read_secrets(""), ())

    def test_a_secret_is_the_one_word_of_its_file(self) -> None:
        for content in (b"s3cret", b"s3cret\n", b" \ns3cret\r\n"):
            self.assertEqual(read_secrets(self.write(content)), ("s3cret",))

    def test_a_file_without_a_secret_is_refused(self) -> None:
        for content in (b"", b" \n", b"two words", b"one\ntwo words", b"a\tb", b"a\x00b", b"\x7f"):
            path = self.write(content)
            error = self.assertRaises(ConfigError, read_secrets, path)
            self.assertEqual(
                str(error),
                f"access.secret_file {path}: the file must have one word, the secret; with several"
                " secrets, one in each line",
            )

    def test_a_file_may_have_several_secrets_in_lines(self) -> None:
        for content in (b"new\nold", b"\n new\r\n\n old \n"):
            self.assertEqual(read_secrets(self.write(content)), ("new", "old"))

    def test_a_secret_that_is_not_ascii_is_refused_and_not_shown(self) -> None:
        path = self.write("pässword".encode())
        error = self.assertRaises(ConfigError, read_secrets, path)
        self.assertIn(f"access.secret_file {path}: ", str(error))
        self.assertNotIn("ssword", str(error))

    def test_a_file_that_cannot_be_read_is_named(self) -> None:
        for path, reason in (
            ("/nonexistent/file", "No such file or directory"),
            (self.folder(), "Is a directory"),
        ):
            error = self.assertRaises(ConfigError, read_secrets, path)
            self.assertEqual(str(error), f"access.secret_file {path}: {reason}")

    def test_a_path_that_no_file_can_have_is_refused(self) -> None:
        self.assertRaises(ConfigError, read_secrets, "a\0b")
