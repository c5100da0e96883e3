"""Tests of rtdeliver.frontend.chunked."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.frontend.chunked import LAST_CHUNK, PlainStream, chunk, contents
from tests.chunked import ChunkDecoder
from tests.fakes import RecordingOwner, RecordingStream

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class ChunkTests(SynchronousTestCase):
    def test_a_chunk_has_its_size_in_hexadecimal(self) -> None:
        self.assertEqual(b"1a\r\n" + b"x" * 26 + b"\r\n", chunk(b"x" * 26))

    @given(st.lists(st.binary(min_size=1)))
    def test_a_client_gets_what_was_put_in_and_sees_the_end(self, pieces: list[bytes]) -> None:
        decoder = ChunkDecoder()
        chunks = b"".join(map(chunk, pieces))
        self.assertEqual(b"".join(pieces), decoder.feed(chunks))
        self.assertFalse(decoder.complete)
        self.assertEqual(b"", decoder.feed(LAST_CHUNK))
        self.assertTrue(decoder.complete)
        self.assertEqual(b"".join(pieces), contents(chunks + LAST_CHUNK))


class PlainStreamTests(SynchronousTestCase):
    """What the contract of all streams does not say."""

    def setUp(self) -> None:
        self.owner = RecordingOwner()
        self.plain = PlainStream(self.owner)
        self.stream = RecordingStream(self.plain)  # type: ignore[arg-type]
        self.plain.attached(self.stream)

    def test_the_client_gets_the_head_and_what_is_in_the_chunks(self) -> None:
        self.plain.send(HEAD + chunk(b"first"))
        self.plain.send(chunk(b"a\r\n\r\n") + chunk(b"b") + LAST_CHUNK)
        self.plain.send(LAST_CHUNK)
        self.assertEqual([HEAD + b"first", b"a\r\n\r\nb"], self.stream.sends)

    def test_it_closes_after_all_that_it_holds(self) -> None:
        self.stream.room = 3
        self.plain.send(HEAD)
        self.plain.close()
        self.assertFalse(self.stream.closed)
        self.stream.read(1000)
        self.assertTrue(self.stream.closed)
        self.assertEqual((HEAD, 0), (self.stream.data, self.owner.writables))

    def test_it_ends_if_the_client_is_gone_when_the_rest_is_sent(self) -> None:
        self.stream.room = 3
        self.plain.send(HEAD)
        self.stream.lost = True
        self.stream.read(1000)
        self.assertTrue(self.stream.aborted)
