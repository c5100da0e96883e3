"""Frames of an event stream, read back by a parser of the tests' own."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Publishing
from rtdeliver.errors import Refusal
from rtdeliver.frontend.sse import (
    CONTENT_TYPE,
    HEARTBEAT,
    busy_frame,
    connected_frame,
    event_frame,
    gap_frame,
)
from rtdeliver.model import ConnectionId, Event, Topic
from rtdeliver.wire import Draft, decode_publish, encode, encode_event
from tests.integration.streams import Frame, FrameParser

LIMITS = Publishing(event_bytes=65536, batch_events=1, batch_bytes=1048576)
LINE_BREAKS = "\r\n\x0b\x0c\x1c\x85\u2028\u2029"

texts = st.text(st.sampled_from(LINE_BREAKS + ' :"\\') | st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
names = st.text("abzAZ019._-", min_size=1, max_size=64)
topics = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=50).map(Topic)
seconds = st.floats(0, 1e6)


def make_event(topic: Topic, name: str, data: object) -> Event:
    draft = Draft(topic=topic, type=name, data=encode(data), id=None)
    return encode_event(draft, id=name, at=1)


events = st.builds(make_event, topics, names, json_values)
control_frames = (
    st.builds(
        connected_frame,
        names.map(ConnectionId),
        topics=st.lists(topics, max_size=3),
        pending=st.lists(topics, max_size=3),
        heartbeat_seconds=seconds,
        reconnect_seconds=seconds,
        lost=st.none() | st.lists(topics, max_size=3),
    )
    | st.builds(busy_frame, texts, reconnect_seconds=seconds)
    | st.builds(gap_frame, st.integers(0), st.lists(topics, max_size=3))
)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cut ``data`` at these places, which may be beyond its end."""
    places = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def parse(data: bytes) -> Frame:
    """Return the one frame that ``data`` is."""
    [frame] = FrameParser().feed(data)
    return frame


class EventFrameTests(SynchronousTestCase):
    def test_an_event_is_its_id_and_its_line(self) -> None:
        event = Event(topic=Topic("t"), id="1795417956553-0-d1", line=b'{"topic":"t"}')
        self.assertEqual(event_frame(event), b'id: 1795417956553-0-d1\ndata: {"topic":"t"}\n\n')

    @settings(deadline=None)
    @given(
        sent=st.lists(events | control_frames | st.just(HEARTBEAT), max_size=8),
        cuts=st.lists(st.integers(0, 2000), max_size=30),
    )
    def test_frames_are_read_back_however_the_stream_is_cut(
        self, sent: list[Event | bytes], cuts: list[int]
    ) -> None:
        stream = b"".join(event_frame(item) if isinstance(item, Event) else item for item in sent)
        parser = FrameParser()
        frames = [frame for piece in pieces(stream, cuts) for frame in parser.feed(piece)]
        self.assertEqual(
            [
                {"id": item.id, "data": item.line.decode()}
                if isinstance(item, Event)
                else parse(item).fields
                for item in sent
                if item != HEARTBEAT
            ],
            [frame.fields for frame in frames],
        )
        self.assertEqual(parser.comments, sent.count(HEARTBEAT))

    @settings(deadline=None)
    @given(topic=topics | texts, type=names | texts, id=names | texts, data=json_values)
    def test_nothing_that_a_producer_says_adds_a_line_to_its_frame(
        self, topic: str, type: str, id: str, data: object
    ) -> None:
        fields = {"topic": topic, "type": type, "id": id, "data": data}
        try:
            draft = decode_publish(encode(fields), LIMITS)
        except Refusal:
            return
        frame = event_frame(encode_event(draft, id=draft.id or "1", at=1))
        self.assertEqual(frame.count(b"\n"), 3)
        # A client library in Python may end lines where Python does.
        self.assertEqual(len(frame.decode().splitlines()), 3)
        self.assertEqual(parse(frame).fields.keys(), {"id", "data"})
        self.assertEqual(parse(frame).data, {**fields, "id": id, "at": 1})

    def test_a_line_break_in_type_id_or_topic_is_refused_before_there_is_a_frame(self) -> None:
        for field in ("type", "id", "topic"):
            for line_break in ("\n", "\r", "\r\n"):
                fields = {"topic": "t", "data": 1, field: f"a{line_break}data: forged"}
                self.assertRaises(Refusal, decode_publish, encode(fields), LIMITS)


class ControlFrameTests(SynchronousTestCase):
    @given(control_frames)
    def test_no_client_takes_a_line_for_two(self, frame: bytes) -> None:
        self.assertEqual(len(frame.decode().splitlines()), frame.count(b"\n"))

    def test_one_who_comes_back_is_told_that_nothing_is_resumed(self) -> None:
        frame = connected_frame(
            ConnectionId("n1-7dQ"),
            topics=[Topic("live:red"), Topic("live:green")],
            pending=[],
            lost=[Topic("live:red"), Topic("live:green")],
            heartbeat_seconds=25.0,
            reconnect_seconds=3,
        )
        data = parse(frame).data
        self.assertEqual(([], ["live:green", "live:red"]), (data["resumed"], data["lost"]))

    def test_the_first_frame_is_as_the_contract_shows_it(self) -> None:
        self.assertEqual(
            connected_frame(
                ConnectionId("n1-7dQ"),
                topics=[Topic("live:red")],
                pending=[],
                heartbeat_seconds=25.0,
                reconnect_seconds=3,
            ),
            b"retry: 3000\n"
            b"event: connected\n"
            b'data: {"connection":"n1-7dQ","topics":["live:red"],"heartbeat_seconds":25}\n'
            b"\n",
        )

    def test_the_first_frame_names_pending_topics_and_sorts_all(self) -> None:
        self.assertEqual(
            connected_frame(
                ConnectionId("n1-7dQ"),
                topics=[Topic("b"), Topic("é"), Topic("a")],
                pending=[Topic("b"), Topic("a")],
                heartbeat_seconds=0.5,
                reconnect_seconds=0.0504,
            ),
            b"retry: 50\n"
            b"event: connected\n"
            b'data: {"connection":"n1-7dQ","topics":["a","b","\xc3\xa9"],"pending":["a","b"],'
            b'"heartbeat_seconds":0.5}\n'
            b"\n",
        )

    def test_a_busy_frame_says_why_and_when_to_come_back(self) -> None:
        self.assertEqual(
            busy_frame("full", reconnect_seconds=12.3456),
            b'retry: 12346\nevent: busy\ndata: {"reason":"full"}\n\n',
        )

    def test_a_gap_frame_counts_what_was_lost_and_sorts_the_topics(self) -> None:
        self.assertEqual(
            gap_frame(7, [Topic("b"), Topic("a")]),
            b'event: gap\ndata: {"lost":7,"topics":["a","b"]}\n\n',
        )

    def test_a_gap_of_which_nobody_knows_the_size_has_none(self) -> None:
        self.assertEqual(
            gap_frame(0, [Topic("a")]), b'event: gap\ndata: {"lost":null,"topics":["a"]}\n\n'
        )

    def test_a_heartbeat_is_a_comment_without_a_blank_line(self) -> None:
        self.assertEqual(HEARTBEAT, b":\n")

    def test_the_media_type_is_that_of_event_streams(self) -> None:
        self.assertEqual(CONTENT_TYPE, b"text/event-stream; charset=utf-8")

    @settings(deadline=None)
    @given(control_frames)
    def test_a_control_frame_is_one_frame_with_a_name_and_data(self, frame: bytes) -> None:
        self.assertNotIn(b"\r", frame)
        self.assertTrue(frame.endswith(b"\n\n"))
        self.assertEqual(frame.count(b"\n\n"), 1)
        fields = parse(frame).fields
        self.assertLessEqual({"event", "data"}, fields.keys())
        self.assertLessEqual(fields.keys(), {"retry", "event", "data"})
        self.assertEqual(frame.count(b"\n"), len(fields) + 1)

    @settings(deadline=None)
    @given(control_frames)
    def test_a_retry_is_a_whole_number_of_milliseconds(self, frame: bytes) -> None:
        retry = parse(frame).fields.get("retry", "0")
        self.assertTrue(retry.isascii() and retry.isdecimal(), retry)
