"""How a stream is asked for, and what an answer must be."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.machine import BenchError
from rtdeliver.bench.reading import after_head, stream_request

STREAM = b"Content-Type: text/event-stream; charset=utf-8\r\n"


class RequestTests(SynchronousTestCase):
    def test_the_topic_is_quoted(self) -> None:
        self.assertEqual(
            stream_request("http://127.0.0.1:8080/connect?topic=", "live:röd&x").split(b"\r\n")[:2],
            [b"GET /connect?topic=live%3Ar%C3%B6d%26x HTTP/1.1", b"Host: 127.0.0.1:8080"],
        )


class HeadTests(SynchronousTestCase):
    def test_what_follows_the_head_of_a_stream_is_returned(self) -> None:
        self.assertEqual(after_head(b"HTTP/1.1 200 OK\r\n%b\r\n" % STREAM), (b"", False))
        self.assertEqual(
            after_head(b"HTTP/1.1 200 OK\r\nServer: x\r\n%b\r\n:\n\r\n\r\n" % STREAM),
            (b":\n\r\n\r\n", False),
        )
        coded = STREAM + b"Transfer-Encoding: chunked\r\n"
        self.assertEqual(after_head(b"HTTP/1.1 200 OK\r\n%b\r\n2\r\n" % coded), (b"2\r\n", True))

    def test_what_is_no_stream_is_refused(self) -> None:
        for head, why in (
            (b"HTTP/1.1 503 No\r\n" + STREAM, "503 no"),
            (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", "type text/event-stream"),
        ):
            with self.assertRaisesRegex(BenchError, why):
                after_head(head + b"\r\n")
