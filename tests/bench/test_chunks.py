"""Received bytes, parsed."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.chunks import NOT_PLAIN, ChunkCache, first_number, parse, topic_of
from rtdeliver.bench.events import Schedule
from rtdeliver.bench.machine import BenchError

TOPICS = {"red": 0, "green": 1}
SCHEDULE = Schedule(topics=["red"], rate=100, data_bytes=60, seconds=10, start_ns=5_000_000_000)
CONNECTED = b'retry: 3000\nevent: connected\ndata: {"connection":"n1-x"}\n\n'
GAP = b'event: gap\ndata: {"lost":3,"topics":["red"]}\n\n'


def frames(*events: int) -> bytes:
    return b"".join(SCHEDULE.frame(event) for event in events)


def coded(data: bytes) -> bytes:
    """Return a chunk of the transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ParseTests(SynchronousTestCase):
    def test_whole_consecutive_events_are_plain(self) -> None:
        chunk = parse(frames(3, 4, 5), TOPICS)
        self.assertEqual((chunk.first, chunk.next), (3, 6))
        self.assertEqual(chunk.numbers, [3, 4, 5])
        self.assertEqual(chunk.dues, [5_030_000_000, 5_040_000_000, 5_050_000_000])
        self.assertEqual(chunk.rest, b"")

    def test_numbers_of_topics_are_apart(self) -> None:
        green = Schedule(topics=["green"], rate=1, data_bytes=1, seconds=9)
        chunk = parse(green.frame(7), TOPICS)
        self.assertEqual(chunk.first, first_number(1) + 7)
        self.assertEqual(topic_of(chunk.first), 1)

    def test_events_that_are_not_consecutive_are_not_plain(self) -> None:
        for events in ((1, 3), (2, 1), (4, 4)):
            chunk = parse(frames(*events), TOPICS)
            self.assertEqual(chunk.first, NOT_PLAIN)
            self.assertEqual(chunk.numbers, list(events))

    def test_a_frame_that_is_cut_off_is_kept(self) -> None:
        whole, cut = frames(1), frames(2)[:-1]
        chunk = parse(whole + cut, TOPICS)
        self.assertEqual((chunk.first, chunk.numbers, chunk.rest), (NOT_PLAIN, [1], cut))

    @given(st.lists(st.integers(1, 400), max_size=8), st.booleans())
    def test_events_are_the_same_wherever_they_are_cut(
        self, sizes: list[int], is_coded: bool
    ) -> None:
        pieces = [CONNECTED, frames(0, 1), b":\n", frames(2), GAP + frames(3)]
        data = b"".join(map(coded, pieces) if is_coded else pieces)
        numbers, rest, gaps = [], b"", 0
        for size in [*sizes, len(data)]:
            piece, data = data[:size], data[size:]
            chunk = parse(rest + piece, TOPICS, is_coded=is_coded)
            numbers += chunk.numbers
            gaps += chunk.gaps
            rest = chunk.rest
        self.assertEqual((numbers, gaps, rest), ([0, 1, 2, 3], 1, b""))

    def test_in_chunks_whole_consecutive_events_are_plain_too(self) -> None:
        chunk = parse(coded(frames(3)) + coded(frames(4, 5)), TOPICS, is_coded=True)
        self.assertEqual((chunk.first, chunk.next), (3, 6))

    def test_the_end_of_a_stream_and_half_a_frame_in_a_chunk_are_refused(self) -> None:
        for data, why in ((b"0\r\n\r\n", "ended"), (coded(frames(1)[:-1]), "part of a frame")):
            with self.assertRaisesRegex(BenchError, why):
                parse(data, TOPICS, is_coded=True)

    def test_heartbeats_are_no_events(self) -> None:
        self.assertEqual(parse(b":\n:\n", TOPICS).rest, b"")
        self.assertEqual(parse(b":\n" + frames(1), TOPICS).numbers, [1])
        self.assertEqual(parse(b": hi\n\n", TOPICS).numbers, [])

    def test_gaps_and_greetings_are_counted(self) -> None:
        chunk = parse(CONNECTED + GAP + frames(9), TOPICS)
        self.assertEqual((chunk.greetings, chunk.gaps, chunk.numbers), (1, 1, [9]))
        self.assertEqual(chunk.first, NOT_PLAIN)

    def test_what_is_no_event_of_the_measurement_is_refused(self) -> None:
        for frame in (
            b"id: 1\ndata: {}\n\n",
            b"id: 1\ndata: not JSON\n\n",
            b"id: 1\n\n",
            b'data: {"topic":"blue","data":{"n":1,"t":2}}\n\n',
            b'data: {"topic":"red","data":{"n":1}}\n\n',
            b"event: gap\n\n",
        ):
            with self.assertRaisesRegex(BenchError, "is no event"):
                parse(frame, TOPICS)

    def test_the_end_of_a_stream_is_told(self) -> None:
        with self.assertRaisesRegex(BenchError, "full"):
            parse(b'retry: 9000\nevent: busy\ndata: {"reason":"full"}\n\n', TOPICS)


class ChunkCacheTests(SynchronousTestCase):
    def test_known_bytes_are_found(self) -> None:
        cache = ChunkCache(TOPICS, steps=10)
        chunk = cache.learn(frames(1), 0)
        self.assertIs(cache.chunks[frames(1)], chunk)

    def test_a_greeting_is_for_one_stream_and_not_found_again(self) -> None:
        cache = ChunkCache(TOPICS, steps=10)
        cache.learn(CONNECTED, 0)
        self.assertEqual(cache.chunks, {})

    def test_a_chunk_is_forgotten_once_it_is_old(self) -> None:
        cache = ChunkCache(TOPICS, steps=10)
        first, second = cache.learn(frames(1), 100), cache.learn(frames(2), 105)
        self.assertIsNone(cache.forget_old(109))
        self.assertIs(cache.forget_old(110), first)
        self.assertIsNone(cache.forget_old(110))
        self.assertIs(cache.forget_old(115), second)
        self.assertEqual((len(cache), cache.chunks), (0, {}))
