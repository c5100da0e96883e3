from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.http_load import (
    Messages,
    choices,
    events_accepted,
    filled,
    numbers,
    parse_head,
    template,
)
from rtdeliver.bench.machine import BenchError

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%b"


def answer(body: bytes) -> bytes:
    return ACCEPTED % (len(body), body)


class HeadTests(SynchronousTestCase):
    def test_it_has_the_status_the_fields_and_the_length(self) -> None:
        head = parse_head(b"HTTP/1.1 202 Accepted\r\nContent-Length:  12\r\nServer: a: b")
        self.assertEqual(head.status, 202)
        self.assertEqual(head.fields, {"content-length": "12", "server": "a: b"})
        self.assertEqual(head.length, 12)

    def test_without_a_clear_length_it_is_refused(self) -> None:
        for fields in (
            "Server: a",
            "Content-Length: 1x",
            "Content-Length: -1",
            "Content-Length: ²",
            "Content-Length: 1\r\ncontent-length: 1",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Content-Length 1",
        ):
            with self.assertRaises(BenchError, msg=fields):
                parse_head(f"HTTP/1.1 202 Accepted\r\n{fields}".encode("latin-1"))

    def test_a_request_has_no_status(self) -> None:
        with self.assertRaises(BenchError):
            _ = parse_head(b"POST / HTTP/1.1\r\nContent-Length: 0").status


class MessagesTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=20), max_size=4), st.lists(st.integers(0, 400)))
    def test_however_they_are_cut_the_same_bodies_come_out(
        self, bodies: list[bytes], cuts: list[int]
    ) -> None:
        stream = b"".join(map(answer, bodies))
        edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
        messages = Messages()
        found = [
            body for begin, end in pairwise(edges) for _, body in messages.feed(stream[begin:end])
        ]
        self.assertEqual(found, bodies)

    def test_a_body_that_lacks_a_byte_is_not_returned(self) -> None:
        whole = answer(b'{"id":"1"}')
        messages = Messages()
        self.assertEqual(messages.feed(whole[:-1]), [])
        [(_, body)] = messages.feed(whole[-1:])
        self.assertEqual(body, b'{"id":"1"}')

    def test_a_body_larger_than_any_here_is_refused_at_once(self) -> None:
        with self.assertRaises(BenchError):
            Messages().feed(b"HTTP/1.1 202 Accepted\r\nContent-Length: 99999999\r\n\r\n")

    def test_a_head_without_an_end_is_refused(self) -> None:
        with self.assertRaises(BenchError):
            Messages().feed(b"x" * 100_000)


class AcceptedTests(SynchronousTestCase):
    def accepted(self, status: str, body: bytes) -> int:
        return events_accepted(parse_head(f"HTTP/1.1 {status}\r\nContent-Length: 0".encode()), body)

    def test_an_id_is_one_event_and_a_batch_tells_its_number(self) -> None:
        self.assertEqual(self.accepted("202 Accepted", b'{"id":"1-0-a"}\n'), 1)
        self.assertEqual(self.accepted("202 Accepted", b'{"accepted":12}\n'), 12)

    def test_nothing_else_is_accepted(self) -> None:
        self.assertEqual(self.accepted("200 OK", b'{"id":"1-0-a"}'), 0)
        self.assertEqual(self.accepted("503 Service Unavailable", b"not JSON"), 0)
        self.assertEqual(self.accepted("202 Accepted", b"{}"), 0)

    def test_what_is_not_understood_is_an_error(self) -> None:
        for body in (b"", b'{"id":1}', b'{"accepted":12'):
            with self.assertRaises(BenchError):
                self.accepted("202 Accepted", body)


class BodyTests(SynchronousTestCase):
    def test_a_body_has_its_topics_numbers_and_time_and_its_filling(self) -> None:
        body = filled(template(["a", 'b"%d', "ö"], pad=3), range(7, 16, 3), 123)
        self.assertEqual(
            [msgspec.json.decode(line) for line in body.split(b"\n")],
            [
                {"topic": "a", "data": {"n": 7, "t": 123, "pad": "xxx"}},
                {"topic": 'b"%d', "data": {"n": 10, "t": 123, "pad": "xxx"}},
                {"topic": "ö", "data": {"n": 13, "t": 123, "pad": "xxx"}},
            ],
        )

    @given(st.integers(1, 8), st.integers(1, 20), st.integers(1, 8))
    def test_numbers_are_given_once_grow_and_tell_the_connection(
        self, connections: int, events: int, requests: int
    ) -> None:
        given_out = []
        for connection in range(connections):
            own = [
                number
                for request in range(requests)
                for number in numbers(connection, connections, request, events)
            ]
            self.assertEqual(own, sorted(own))
            self.assertEqual({number % connections for number in own}, {connection})
            given_out += own
        self.assertEqual(sorted(given_out), list(range(connections * events * requests)))

    def test_the_same_topics_are_chosen_in_every_run_and_all_of_a_few_come(self) -> None:
        topics = ["a", "b", "c"]
        chosen = choices(topics, events=10)
        self.assertEqual(chosen, choices(topics, events=10))
        self.assertEqual({len(body) for body in chosen}, {10})
        self.assertEqual({topic for body in chosen for topic in body}, set(topics))

    def test_one_topic_needs_one_body(self) -> None:
        self.assertEqual(choices(["a"], events=2), [["a", "a"]])
