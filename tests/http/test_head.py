"""Which heads are taken, and as what they are read."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import HeadersTooLarge, Refusal, UriTooLong
from rtdeliver.http.head import list_of, read_head, too_large

GET = b"GET /connect?topic=a HTTP/1.1"
HOST = b"Host: example.com"


def answer(*lines: bytes) -> int:
    """Return the status of the refusal; 200 if the head is taken."""
    try:
        read_head(lines)
    except Refusal as refusal:
        return refusal.status
    return 200


class ReadHeadTests(SynchronousTestCase):
    def check(self, status: int, *heads: tuple[bytes, ...]) -> None:
        self.assertEqual(dict.fromkeys(heads, status), {head: answer(*head) for head in heads})

    def test_plain_requests_are_taken_as_they_are(self) -> None:
        for lines in (
            (GET, HOST),
            (GET, HOST, b"Cookie: a=\xff; b", b"X:", b"!#$%&'*+.^_`|~: x"),
            (b"POST /publish HTTP/1.1", HOST, b"Content-Length: 12"),
            (b"POST /publish HTTP/1.1", HOST, b"Transfer-Encoding: chunked"),
            (b"OPTIONS * HTTP/1.1", HOST),
            (b"GET / HTTP/1.0",),
            (b"get / HTTP/1.1", HOST),
        ):
            self.assertEqual(list(lines), read_head(lines).lines)

    def test_a_line_that_is_no_request_line_is_refused(self) -> None:
        self.check(
            400,
            *((line, HOST) for line in (
                b"nonsense", b"GET /", b"GET / HTTP/2.0", b"GET / HTTP/0.9", b"GET / http/1.1",
                b"GET  / HTTP/1.1", b"GET /a b HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1",
                b"G(T / HTTP/1.1", b"GET /\xc3\xa9 HTTP/1.1", b"GET /\x00 HTTP/1.1",
                b"GET x HTTP/1.1", b"\x16\x03\x01",
                b"CONNECT example.com:443 HTTP/1.1", b"GET /\nX: y HTTP/1.1",
            )),
        )  # fmt: skip

    def test_a_target_in_absolute_form_is_a_path_at_its_host(self) -> None:
        for target, path, host in (
            (b"http://other.example/connect?topic=a", b"/connect?topic=a", b"other.example"),
            (b"HTTPS://[::1]:8080/x", b"/x", b"[::1]:8080"),
            (b"http://other.example", b"/", b"other.example"),
            (b"http://other.example?topic=a", b"/?topic=a", b"other.example"),
        ):
            head = read_head((b"GET %b HTTP/1.1" % target, HOST, b"X: y"))
            self.assertEqual(
                (path, [b"GET %b HTTP/1.1" % path, b"Host: " + host, b"X: y"]),
                (head.target, head.lines),
            )
        asterisk = read_head((b"OPTIONS http://other.example HTTP/1.1", HOST))
        self.assertEqual(b"*", asterisk.target)

    def test_a_target_that_names_no_host_is_refused(self) -> None:
        self.check(
            400,
            *((b"GET %b HTTP/1.1" % target, HOST) for target in (
                b"http://", b"http:///x", b"http://user@example.com/", b"ftp://example.com/",
                b"http://exa<mple/", b"//", b"http:/x", b"example.com/",
            ) if target != b"//"),
        )  # fmt: skip

    def test_there_is_one_host(self) -> None:
        self.check(
            400,
            (GET,),
            (GET, HOST, HOST),
            (b"GET / HTTP/1.0", HOST, HOST),
            (b"GET http://example.com/ HTTP/1.1",),
            *((GET, b"Host: " + host) for host in (
                b"a b", b"a/b", b"user@a", b"\xff", b"[::1", b"[a]", b"::1", b"a:b", b"a:123456",
                b"a, b",
            )),
        )  # fmt: skip
        self.check(200, (GET, b"Host:"), (GET, b"host:example.com:80"), (GET, b"HOST:  a  "))

    def test_fields_are_names_and_values_on_one_line(self) -> None:
        self.check(
            400,
            *((GET, HOST, line) for line in (
                b"X", b": y", b"X : y", b" X: y", b"\tmore", b"X: a\nY: b", b"X: a\rb",
                b"X: a\x00", b"X\xff: y",
            )),
        )  # fmt: skip

    def test_what_may_be_read_in_two_ways_is_refused(self) -> None:
        post = b"POST /publish HTTP/1.1"
        chunked = b"Transfer-Encoding: chunked"
        self.check(
            400,
            (post, HOST, b"Content-Length: 1", b"Content-Length: 1"),
            (post, HOST, b"Content-Length: 1, 1"),
            (post, HOST, b"Content-Length: +1"),
            (post, HOST, b"Content-Length: "),
            (post, HOST, b"Content-Length: 1", chunked),
            (post, HOST, b"Content-Length: 1", b"Transfer-Encoding: identity"),
            (post, HOST, b"Transfer-Encoding: identity"),
            (post, HOST, b"Transfer-Encoding: gzip, chunked"),
            (post, HOST, chunked, chunked),
            (b"POST /publish HTTP/1.0", HOST, chunked),
        )

    def test_so_many_fields_and_no_more_are_taken(self) -> None:
        self.check(200, (GET, HOST, *[b"X: y"] * 249))
        self.check(431, (GET, HOST, *[b"X: y"] * 250))

    @given(st.lists(st.binary(max_size=40), min_size=1, max_size=5))
    def test_any_bytes_are_taken_or_refused(self, lines: list[bytes]) -> None:
        self.assertIn(answer(*lines), (200, 400))


class TooLargeTests(SynchronousTestCase):
    def test_it_says_which_part_and_the_limit(self) -> None:
        for lines, refusal in (([], UriTooLong), ([GET], HeadersTooLarge)):
            found = too_large(lines, 4096)
            self.assertIsInstance(found, refusal)
            self.assertIn("4096 bytes (http.head_bytes)", found.message)


class ListTests(SynchronousTestCase):
    def test_members_are_of_all_fields_in_small_letters(self) -> None:
        self.assertEqual([b"close", b"x", b"keep-alive"], list_of([b"Close , x", b"Keep-Alive"]))
