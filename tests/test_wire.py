"""Bodies on the wire, decoded and encoded."""

import gzip
import json
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Publishing
from rtdeliver.errors import BadJson, BadRequest, BadTopic, Refusal, TooLarge
from rtdeliver.messages import (
    END,
    Acknowledgement,
    Announcement,
    Bookmark,
    HistoryPage,
    HistoryQuery,
    Refreshed,
    Revocations,
    TopicMembers,
    TopicsChange,
)
from rtdeliver.model import (
    BEGINNING,
    ConnectionId,
    Event,
    FrontendRef,
    Gap,
    Item,
    Member,
    MemberTopics,
    Place,
    Revocation,
    Topic,
)
from rtdeliver.wire import (
    Draft,
    as_json,
    decode_acknowledgement,
    decode_announcement,
    decode_batch,
    decode_disconnect,
    decode_kept,
    decode_member_topics,
    decode_pages,
    decode_publish,
    decode_publish_batch,
    decode_queries,
    decode_refreshed,
    decode_revocations,
    decode_token,
    decode_topic_members,
    decode_topics_change,
    encode,
    encode_batch,
    encode_event,
    encode_pages,
    encode_queries,
    kept_event,
    message_in,
    numbers_of_lines,
    placed,
    without_position,
)

LIMITS = Publishing(event_bytes=65536, batch_events=1000, batch_bytes=1048576)
FRONTEND = b'"frontend":{"node":"n1","url":"http://h:1","incarnation":"i"}'
DEEP = b"[" * 20_000 + b"]" * 20_000

names = st.text("abzAZ019._-", min_size=1, max_size=64)
topics = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=100)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)

events = st.builds(
    lambda topic, name, data: encode_event(
        Draft(topic=Topic(topic), type=name, data=encode(data), id=None), id=name, at=1
    ),
    topics,
    names,
    json_values,
)


def publish(body: bytes) -> Draft:
    return decode_publish(body, LIMITS)


def publish_batch(body: bytes) -> list[Draft]:
    return decode_publish_batch(body, LIMITS)


def answers(decode: Callable[[bytes], object], bodies: Iterable[bytes]) -> dict[bytes, object]:
    """Return by body the name of the refusal, with its lines if it has any, or the result."""
    found: dict[bytes, object] = {}
    for body in bodies:
        try:
            found[body] = decode(body)
        except Refusal as refusal:
            found[body] = (refusal.name, *refusal.lines)
    return found


class Table(SynchronousTestCase):
    """Compares all rows at once, so that a failure shows each row that differs."""

    def check(
        self, decode: Callable[[bytes], object], table: dict[bytes, object], name: str = ""
    ) -> None:
        """Compare; a string in ``table``, or ``name`` for all, is that of a refusal."""
        expected = {
            body: (name or row,) if name or isinstance(row, str) else row
            for body, row in table.items()
        }
        self.assertEqual(answers(decode, table), expected)


class PublishTests(Table):
    def test_the_fields_of_a_publish_are_read(self) -> None:
        self.assertEqual(
            publish(b'{"topic":"live:red","type":"like","id":"e-1","data":{"user":"ann"}}'),
            Draft(topic=Topic("live:red"), type="like", data=b'{"user":"ann"}', id="e-1"),
        )

    def test_type_and_id_may_be_missing(self) -> None:
        draft = Draft(topic=Topic("t"), type="message", data=b"1", id=None)
        self.check(
            publish,
            {b'{"topic":"t","data":1}': draft, b'{"data":1,"id":null,"topic":"t"}\r\n': draft},
        )

    def test_what_some_clients_take_for_line_ends_is_escaped(self) -> None:
        draft = publish('{"topic":"a\u2028b","data":"\x85\u2028\u2029\u00e9"}'.encode())
        line = encode_event(draft, id="1", at=1).line
        self.assertEqual(line.decode().splitlines(), [line.decode()])
        self.assertEqual(
            {
                "topic": "a\u2028b",
                "type": "message",
                "id": "1",
                "at": 1,
                "data": "\x85\u2028\u2029é",
            },
            json.loads(line),
        )

    def test_an_escape_counts_as_what_it_takes_in_the_line(self) -> None:
        limits = Publishing(event_bytes=13, batch_events=1, batch_bytes=100)
        decode_publish('{"topic":"t","data":"\x85"}'.encode(), limits)
        two = '{"topic":"t","data":"\x85\x85"}'.encode()
        self.assertRaises(TooLarge, decode_publish, two, limits)

    def test_a_body_that_is_no_plain_utf8_is_told_what_it_is(self) -> None:
        text = '{"topic":"t","data":1}'
        for body, what in (
            (text.encode("utf-8-sig"), "byte-order mark"),
            (text.encode("utf-16"), "UTF-16"),
            (gzip.compress(text.encode()), "compressed with gzip"),
        ):
            for decode in (publish, decode_topics_change, decode_announcement):
                refusal = self.assertRaises(BadJson, decode, body)
                self.assertIn(what, refusal.message)

    def test_half_of_a_surrogate_pair_is_named(self) -> None:
        for data in (
            r'"\ud800"',
            r'"\ud83d x and so on"',
            r'["a", "\udC00"]',
            r'"\ud83d\ude00\ud800"',
            r'"\ud800\ud83d\ude00"',
            r'{"\uDBFF": 1}',
            r'"\\\ud800"',
        ):
            body = f'{{"topic":"t","data":{data}}}'.encode()
            refusal = self.assertRaises(BadJson, publish, body)
            self.assertIn("is half of a surrogate pair", refusal.message)

    def test_whole_surrogate_pairs_and_escaped_backslashes_are_fine(self) -> None:
        for data in (r'"\ud83d\ude00"', r'"\\ud800"', r'"\\\ud83d\ude00"'):
            draft = publish(f'{{"topic":"t","data":{data}}}'.encode())
            self.assertEqual(json.loads(draft.data), json.loads(data))
        refusal = self.assertRaises(BadJson, publish, rb'{"topic":"t","data":"\\ud800"')
        self.assertNotIn("surrogate", refusal.message)

    def test_a_body_that_is_not_json_in_utf8_is_bad_json(self) -> None:
        bodies = [
            b"",
            b" ",
            b"x",
            b"{",
            b'{"topic":"t","data":1',
            b'{"topic":"t","data":1}{}',
            b'{"topic":"t","data":1} x',
            b"{'topic':'t','data':1}",
            b'\xef\xbb\xbf{"topic":"t","data":1}',
            b'{"topic":"\xff","data":1}',
            b'{"topic":"\xed\xa0\x80","data":1}',
            b'{"topic":"\\ud800","data":1}',
            b'{"topic":"t","\xff":1,"data":1}',
            '{"topic":"t","data":1}'.encode("utf-16"),
        ]
        self.check(publish, dict.fromkeys(bodies), "bad_json")

    def test_data_that_is_not_json_in_utf8_is_bad_json(self) -> None:
        values = [
            b"",
            b"nul",
            b"NaN",
            b"Infinity",
            b"-",
            b"01",
            b"1.",
            b"1 2",
            b"'a'",
            b"[1,]",
            b'{"a":}',
            b'"a',
            b'"\\x"',
            b'"\\u12"',
            b'"\xff"',
            b'"\xc3"',
            b'"\xed\xa0\x80"',
            b'{"\xff":1}',
            b'["\xc0\xaf"]',
        ]
        self.check(
            publish, {b'{"topic":"t","data":%b}' % value: None for value in values}, "bad_json"
        )

    def test_a_raw_control_character_within_data_cannot_break_a_line(self) -> None:
        bodies = [b'{"topic":"t","data":["a%cb"]}' % code for code in range(0x20)]
        bodies += [b'{"topic":"t","data":{"a%cb":1}}' % code for code in range(0x20)]
        self.check(publish, dict.fromkeys(bodies), "bad_json")

    def test_deep_nesting_is_bad_json(self) -> None:
        self.check(publish, {b'{"topic":"t","data":%b}' % DEEP: "bad_json"})

    def test_nesting_that_people_use_is_taken(self) -> None:
        nested = b"[" * 200 + b"]" * 200
        self.assertEqual(publish(b'{"topic":"t","data":%b}' % nested).data, nested)

    def test_a_wrong_topic_is_a_bad_topic(self) -> None:
        values = [b'""', b'"a\\n"', b'"\\u0085"', b'"%b"' % (b"a" * 1025), b"1", b"null", b'["t"]']
        self.check(
            publish, {b'{"data":1,"topic":%b}' % value: None for value in values}, "bad_topic"
        )

    def test_any_other_wrong_field_is_a_bad_event(self) -> None:
        bodies = [
            b"null",
            b"[]",
            b'"t"',
            b"1",
            b"{}",
            b'{"topic":"t"}',
            b'{"data":1}',
            b'{"topic":"t","data":1,"type":""}',
            b'{"topic":"t","data":1,"type":"a b"}',
            b'{"topic":"t","data":1,"type":"a\\n"}',
            b'{"topic":"t","data":1,"type":"\xc3\xa9"}',
            b'{"topic":"t","data":1,"type":null}',
            b'{"topic":"t","data":1,"type":5}',
            b'{"topic":"t","data":1,"id":""}',
            b'{"topic":"t","data":1,"id":5}',
            b'{"topic":"t","data":1,"id":"a\\nevent: x"}',
            b'{"topic":"t","data":1,"id":"%b"}' % (b"1" * 65),
        ]
        self.check(publish, dict.fromkeys(bodies), "bad_event")

    def test_an_unknown_field_is_an_error(self) -> None:
        bodies = [b'{"topic":"t","data":1,"at":1}', b'{"topic":"t","data":1,"Type":"x"}']
        self.check(publish, dict.fromkeys(bodies), "bad_event")

    def test_data_becomes_compact_json_on_one_line(self) -> None:
        compacted = {
            b" 1 ": b"1",
            b'\r\n{ "a" :\t[ 1 , 2 ] ,\r\n"b" : { } }\n': b'{"a":[1,2],"b":{}}',
            b'" a \\n b "': b'" a \\n b "',
            b'"\\u2028 \xe2\x80\xa8 \xc2\x85"': b'"\\u2028 \\u2028 \\u0085"',
            b"1.0e+2": b"1.0e+2",
            b"123456789012345678901234567890": b"123456789012345678901234567890",
        }
        self.assertEqual(
            {data: publish(b'{"data":%b,"topic":"t"}' % data).data for data in compacted}, compacted
        )

    def test_data_may_have_so_many_compact_bytes_and_no_more(self) -> None:
        limits = Publishing(event_bytes=5, batch_events=1, batch_bytes=100)
        self.check(
            lambda body: decode_publish(body, limits).data,
            {
                b'{"topic":"t","data":"abc"}': b'"abc"',
                b'{"topic":"t","data":  [ 1, 2 ]  }': b"[1,2]",
                b'{"topic":"t","data":"\xc3\xa9\xc3"}': "bad_json",
                b'{"topic":"t","data":"a\xc3\xa9"}': b'"a\xc3\xa9"',
                b'{"topic":"t","data":"abcd"}': "too_large",
                b'{"topic":"t","data":"\xc3\xa9\xc3\xa9"}': "too_large",
                b'{"topic":"t","data":1}'.ljust(100): b"1",
                b'{"topic":"t","data":1}'.ljust(101): "too_large",
            },
        )


class PublishBatchTests(Table):
    GOOD = b'{"topic":"t","data":1}'

    def test_each_line_is_one_event_in_order(self) -> None:
        body = b'{"topic":"a","data":1}\n{"topic":"b","data":[2,\t3]}\r\n{"topic":"c","data":4}'
        found = [(draft.topic, draft.data) for draft in publish_batch(body)]
        self.assertEqual(found, [("a", b"1"), ("b", b"[2,3]"), ("c", b"4")])

    def test_a_batch_without_events_is_empty(self) -> None:
        self.check(publish_batch, {b"": [], b"\n": [], b" \r\n\r\n\t": []})

    def test_bad_lines_are_named_by_number_from_1_with_blank_lines_counted(self) -> None:
        good = self.GOOD
        self.check(
            publish_batch,
            {
                b"x": ("bad_json", 1),
                good + b"\nx\n" + good: ("bad_json", 2),
                b"\n\n  \r\n" + good + b"\n\n{}\n": ("bad_event", 6),
                b'{"topic":"","data":1}\n' + good + b"\nx\n\n{}": ("bad_topic", 1, 3, 5),
                good + b'\n{"topic":"t","data":"\xff"}': ("bad_json", 2),
                good + b'\n{"topic":"t","data":%b}' % DEEP: ("bad_json", 2),
                good + b'\n{"topic":"t","data":"%b"}' % (b"x" * 65536): ("too_large", 2),
                good + b'\n{"topic":"t",\n"data":1}': ("bad_json", 2, 3),
            },
        )

    @settings(deadline=None)
    @given(st.lists(st.sampled_from([GOOD, b"", b" \t\r", b"x", b"{}", b'{"data":1,"topic":""}'])))
    def test_the_numbers_are_those_of_all_bad_lines(self, lines: list[bytes]) -> None:
        bad = [n for n, line in enumerate(lines, 1) if line.strip() and line != self.GOOD]
        [found] = answers(publish_batch, [b"\n".join(lines)]).values()
        if bad:
            assert isinstance(found, tuple)
            self.assertEqual(found[1:], tuple(bad))
        else:
            assert isinstance(found, list)
            self.assertEqual(len(found), lines.count(self.GOOD))

    def test_the_message_tells_of_three_bad_lines_and_counts_the_rest(self) -> None:
        refusal = self.assertRaises(Refusal, publish_batch, b"\n".join([b"{}"] * 5))
        self.assertEqual(
            refusal.message,
            "line 1: Object missing required field `topic`; "
            "line 2: Object missing required field `topic`; "
            "line 3: Object missing required field `topic`; and 2 more",
        )

    def test_a_batch_may_have_so_many_events_and_bytes_and_no_more(self) -> None:
        good = self.GOOD
        limits = Publishing(event_bytes=9, batch_events=3, batch_bytes=100)
        self.check(
            lambda body: len(decode_publish_batch(body, limits)),
            {
                b"\n".join([good] * 3): 3,
                b"\n\n" + b"\n\n".join([good] * 3) + b"\n\n": 3,
                b"\n".join([good] * 4): "too_large",
                b"x\nx\nx\nx": "too_large",
                good.ljust(100): 1,
                good.ljust(101): "too_large",
                b"\n" * 101: "too_large",
            },
        )


class EventLineTests(Table):
    @settings(deadline=None)
    @given(
        topic=topics,
        type=names,
        id=names,
        at=st.integers(0, 1 << 53),
        data=json_values,
        ascii=st.booleans(),
        indent=st.sampled_from([None, 0, 1, "\t"]),
        newline=st.sampled_from(["\n", "\r\n", "\r"]),
    )
    def test_what_a_producer_published_is_what_a_browser_reads(
        self,
        topic: str,
        type: str,
        id: str,
        at: int,
        data: Any,
        ascii: bool,
        indent: int | str | None,
        newline: str,
    ) -> None:
        body = json.dumps(
            {"topic": topic, "type": type, "data": data}, ensure_ascii=ascii, indent=indent
        ).replace("\n", newline)
        event = encode_event(publish(body.encode()), id=id, at=at)
        self.assertNotIn(b"\n", event.line)
        self.assertNotIn(b"\r", event.line)
        self.assertEqual(
            list(json.loads(event.line).items()),
            [("topic", topic), ("type", type), ("id", id), ("at", at), ("data", data)],
        )
        self.assertEqual((event.topic, event.id), (topic, id))
        self.assertEqual(decode_batch(encode_batch([event])), [event])

    def test_the_line_is_as_the_contract_shows_it(self) -> None:
        draft = Draft(topic=Topic("live:red"), type="like", data=b'{"user":"ann"}', id=None)
        event = encode_event(draft, id="1795417956553-0-d1", at=1795417956553)
        self.assertEqual(
            event.line,
            b'{"topic":"live:red","type":"like","id":"1795417956553-0-d1",'
            b'"at":1795417956553,"data":{"user":"ann"}}',
        )

    def test_a_quote_or_backslash_in_a_topic_is_escaped(self) -> None:
        draft = Draft(topic=Topic('a"b\\c'), type="t", data=b"1", id=None)
        self.assertEqual(json.loads(encode_event(draft, id="1", at=1).line)["topic"], 'a"b\\c')


class BatchTests(Table):
    @settings(deadline=None)
    @given(st.lists(events | st.builds(Gap, topics.map(Topic), st.integers(1, 1 << 40))))
    def test_events_and_gaps_arrive_as_they_were_sent(self, batch: list[Event | Gap]) -> None:
        self.assertEqual(decode_batch(encode_batch(batch)), batch)

    def test_an_event_keeps_its_line_byte_for_byte_with_fields_of_a_later_version(self) -> None:
        line = b'{"id":"1", "new":[1,  2],"topic":"\xc3\xa9","data":"\xe2\x80\xa8"}'
        self.assertEqual(decode_batch(line), [Event(topic=Topic("é"), id="1", line=line)])

    def test_bad_lines_are_named_by_number_from_1_with_blank_lines_counted(self) -> None:
        good = b'{"topic":"t","id":"1"}'
        self.check(
            decode_batch,
            {
                b"": [],
                b"\n\n": [],
                b"x": ("bad_json", 1),
                good + b"\n\nx\n{}\n": ("bad_json", 3, 4),
                b"\xff": ("bad_json", 1),
                b"[]": ("bad_event", 1),
                b"{}": ("bad_event", 1),
                b'{"topic":"t"}': ("bad_event", 1),
                b'{"topic":1,"id":"1"}': ("bad_topic", 1),
                b'{"topic":"","id":"1"}': ("bad_topic", 1),
                b'{"topic":"a\\n","id":"1"}': ("bad_topic", 1),
                b'{"topic":"t","id":""}': ("bad_event", 1),
                b'{"topic":"t","id":"a b"}': ("bad_event", 1),
                b'{"topic":"t","id":"a\\n"}': ("bad_event", 1),
                b'{"topic":"t","id":1}': ("bad_event", 1),
                b'{"topic":"t","lost":0}': ("bad_event", 1),
                b'{"topic":"t","lost":-1}': ("bad_event", 1),
                b'{"topic":"t","lost":1.5}': ("bad_event", 1),
                b'{"topic":"t","lost":"1"}': ("bad_event", 1),
                b'{"topic":"t","id":"1","data":nope}': ("bad_json", 1),
                b'{"topic":"t","id":"1","data":"\xff"}': ("bad_json", 1),
                b'{"topic":"t","id":"1","data":%b}' % DEEP: ("bad_json", 1),
            },
        )

    def test_a_carriage_return_is_refused_because_browsers_end_a_line_there(self) -> None:
        good = b'{"topic":"t","id":"1"}'
        bodies = [good + b"\r\n", good[:-1] + b"\r}", b"\r", good + b"\n\r"]
        self.check(decode_batch, dict.fromkeys(bodies), "bad_event")


class TopicsChangeTests(Table):
    def test_either_list_may_be_missing(self) -> None:
        self.check(
            decode_topics_change,
            {
                b"{}": TopicsChange(add=(), remove=()),
                b'{"add":["b","a","b"]}': TopicsChange(
                    add=(Topic("b"), Topic("a"), Topic("b")), remove=()
                ),
                b' {"remove":["a"],"add":[]} ': TopicsChange(add=(), remove=(Topic("a"),)),
                b'{"sequence":0}': TopicsChange(add=(), remove=(), sequence=0),
                b'{"sequence":9007199254740991}': TopicsChange(
                    add=(), remove=(), sequence=2**53 - 1
                ),
                b'{"sequence":null}': TopicsChange(add=(), remove=()),
            },
        )

    def test_what_a_frontend_passes_on_is_read_as_it_was_sent(self) -> None:
        for body in (b'{"add":["b"],"remove":["a"],"sequence":7}', b'{"add":[],"remove":["a"]}'):
            self.assertEqual(body, encode(decode_topics_change(body)))

    def test_a_wrong_body_is_refused(self) -> None:
        self.check(
            decode_topics_change,
            {
                b'{"sequence":-1}': "bad_request",
                b'{"sequence":"1"}': "bad_request",
                b'{"sequence":1.5}': "bad_request",
                b'{"sequence":9007199254740992}': "bad_request",
                b"": "bad_json",
                b"x": "bad_json",
                b'{"add":["\xff"]}': "bad_json",
                b'{"add":["\\ud800"]}': "bad_json",
                b'{"add":["a"]} ]': "bad_json",
                b"[]": "bad_request",
                b'{"add":"a"}': "bad_request",
                b'{"add":null}': "bad_request",
                b'{"add":[1]}': "bad_request",
                b'{"add":[["a"]]}': "bad_request",
                b'{"remove":{}}': "bad_request",
                b'{"add":["a"],"topics":[]}': "bad_request",
                b'{"add":[""]}': "bad_topic",
                b'{"remove":["a\\u0000"]}': "bad_topic",
                b'{"add":["%b"]}' % (b"a" * 1025): "bad_topic",
            },
        )


class AnnouncementTests(Table):
    @settings(deadline=None)
    @given(
        frontend=st.builds(FrontendRef, names, st.just("http://10.0.0.5:8081"), names),
        counts=st.dictionaries(topics.map(Topic), st.integers(0, (1 << 31) - 1)),
        held=st.dictionaries(topics.map(Topic), st.integers(0, (1 << 31) - 1)),
        full=st.booleans(),
        part=st.integers(0, 1 << 53),
        more=st.booleans(),
        lease_seconds=st.floats(0, 3600),
        sequence=st.integers(0, 1 << 53),
        after=st.integers(0, 1 << 53),
    )
    def test_an_announcement_arrives_as_it_was_sent(self, **fields: Any) -> None:
        announcement = Announcement(**fields)
        self.assertEqual(decode_announcement(encode(announcement)), announcement)

    def test_the_contracts_form_is_read_and_unknown_fields_are_passed_over(self) -> None:
        body = (
            b'{"frontend":{"node":"n1","url":"http://10.0.0.5:8081","incarnation":"i","zone":"z"},'
            b'"counts":{"live:red":12,"live:green":0},"full":false,"lease_seconds":30,"new":{}}'
        )
        self.assertEqual(
            decode_announcement(body),
            Announcement(
                frontend=FrontendRef("n1", "http://10.0.0.5:8081", "i"),
                counts={Topic("live:red"): 12, Topic("live:green"): 0},
                lease_seconds=30.0,
            ),
        )

    def test_a_wrong_body_is_refused(self) -> None:
        self.check(
            decode_announcement,
            {
                b"": "bad_json",
                b"x": "bad_json",
                b'{%b,"counts":{"\xff":1}}' % FRONTEND: "bad_json",
                b'{%b,"counts":{},"x":%b}' % (FRONTEND, DEEP): "bad_json",
                b"[]": "bad_request",
                b'{"counts":{}}': "bad_request",
                b"{%b}" % FRONTEND: "bad_request",
                b'{%b,"counts":[]}' % FRONTEND: "bad_request",
                b'{%b,"counts":{"t":-1}}' % FRONTEND: "bad_request",
                b'{%b,"counts":{"t":1.5}}' % FRONTEND: "bad_request",
                b'{%b,"counts":{"t":2147483648}}' % FRONTEND: "bad_request",
                b'{%b,"counts":{"t":9223372036854775807}}' % FRONTEND: "bad_request",
                b'{%b,"counts":{},"held":{"t":2147483648}}' % FRONTEND: "bad_request",
                b'{%b,"counts":{},"held":{"":1}}' % FRONTEND: "bad_topic",
                b'{%b,"counts":{},"part":-1}' % FRONTEND: "bad_request",
                b'{%b,"counts":{},"sequence":-1}' % FRONTEND: "bad_request",
                b'{%b,"counts":{},"sequence":9007199254740993}' % FRONTEND: "bad_request",
                b'{%b,"counts":{},"after":9007199254740993}' % FRONTEND: "bad_request",
                b'{%b,"counts":{"t":"1"}}' % FRONTEND: "bad_request",
                b'{%b,"counts":{"t":null}}' % FRONTEND: "bad_request",
                b'{%b,"counts":{},"full":1}' % FRONTEND: "bad_request",
                b'{%b,"counts":{},"lease_seconds":-1}' % FRONTEND: "bad_request",
                b'{%b,"counts":{},"lease_seconds":3601}' % FRONTEND: "bad_request",
                b'{%b,"counts":{},"lease_seconds":1e999}' % FRONTEND: "bad_request",
                b'{%b,"counts":{},"sequence":"1"}' % FRONTEND: "bad_request",
                b'{"frontend":"n1","counts":{}}': "bad_request",
                b'{%b,"counts":{}}' % FRONTEND.replace(b"n1", b"n 1"): "bad_request",
                b'{%b,"counts":{}}' % FRONTEND.replace(b"http", b"ftp"): "bad_request",
                b'{%b,"counts":{}}' % FRONTEND.replace(b'"i"', b'""'): "bad_request",
                b'{%b,"counts":{"":1}}' % FRONTEND: "bad_topic",
                b'{%b,"counts":{"a\\n":1}}' % FRONTEND: "bad_topic",
            },
        )


class AcknowledgementTests(Table):
    @settings(deadline=None)
    @given(st.floats(0, 3600), st.booleans())
    def test_an_acknowledgement_arrives_as_it_was_sent(self, seconds: float, full: bool) -> None:
        acknowledgement = Acknowledgement(lease_seconds=seconds, full=full)
        self.assertEqual(decode_acknowledgement(encode(acknowledgement)), acknowledgement)

    def test_unknown_fields_are_passed_over_and_a_wrong_body_is_refused(self) -> None:
        self.check(
            decode_acknowledgement,
            {
                b'{"lease_seconds":30,"new":1}': Acknowledgement(lease_seconds=30.0),
                b"": "bad_json",
                b"<html>": "bad_json",
                b"[]": "bad_request",
                b"{}": "bad_request",
                b'{"lease_seconds":"30"}': "bad_request",
                b'{"lease_seconds":30,"full":"yes"}': "bad_request",
            },
        )


class AnyBytesTests(SynchronousTestCase):
    decoders = (
        publish,
        publish_batch,
        decode_batch,
        decode_topics_change,
        decode_announcement,
        decode_acknowledgement,
    )
    bodies = (
        b'{"topic":"live:red","type":"like","id":"e-1","data":{"user":["ann",1.5e3,null]}}',
        b'{"topic":"t","id":"1","lost":3}\n{"topic":"t","id":"2","at":1,"data":"\\u00e9\xc3\xa9"}',
        b'{"add":["live:red","b"],"remove":["live:green"]}',
        b'{%b,"counts":{"live:red":12},"full":true,"lease_seconds":30.5,"sequence":7}' % FRONTEND,
        b'{"lease_seconds":30,"full":true}',
    )

    def check(self, body: bytes) -> None:
        for decode in self.decoders:
            answers(decode, [body])

    @settings(deadline=None)
    @given(st.binary())
    def test_no_bytes_raise_anything_but_a_refusal(self, body: bytes) -> None:
        self.check(body)

    @settings(deadline=None)
    @given(st.sampled_from(bodies), st.integers(0, 100), st.integers(0, 4), st.binary(max_size=4))
    def test_nor_does_a_body_with_a_piece_replaced(
        self, body: bytes, start: int, length: int, piece: bytes
    ) -> None:
        self.check(body[:start] + piece + body[start + length :])


class JsonTests(SynchronousTestCase):
    def test_an_answer_ends_in_a_line_break(self) -> None:
        self.assertEqual(as_json({"id": "é"}), '{"id":"é"}\n'.encode())


class ControlTests(SynchronousTestCase):
    """What backends order, by hand and between nodes."""

    def refused(self, decode: Any, *bodies: bytes, by: type[Refusal] = BadRequest) -> None:
        for body in bodies:
            self.assertRaises(by, decode, body)

    def disconnect(self, body: bytes) -> Revocation:
        return decode_disconnect(body, at=1000.5, keep_seconds=60)

    def test_one_member_connection_or_token_is_disconnected(self) -> None:
        for kind in ("member", "connection", "token"):
            self.assertEqual(
                Revocation(kind=kind, name="x", at=1_000_500, until=1_060_500),
                self.disconnect(b'{"%b":"x"}' % kind.encode()),
            )
        told = self.disconnect('{"member":"a","reason":"\u2603","reconnect":true}'.encode())
        self.assertEqual(("\u2603", True), (told.reason, told.reconnect))

    def test_a_disconnect_that_is_wrong_is_refused(self) -> None:
        self.refused(
            self.disconnect,
            b"{}",
            b'{"member":"a","token":"b"}',
            b'{"member":""}',
            b'{"token":""}',
            b'{"connection":"' + b"x" * 1025 + b'"}',
            b'{"member":"a","reason":"' + b"x" * 257 + b'"}',
            b'{"member":"a","more":1}',
        )
        self.refused(self.disconnect, b"nonsense", b'{"token":"\\ud800"}', by=BadJson)

    def test_topics_of_a_member_are_read(self) -> None:
        self.assertEqual(
            MemberTopics(member=Member("ann"), add=(Topic("a"),), remove=(Topic("b"),)),
            decode_member_topics("ann", b'{"add":["a"],"remove":["b"]}'),
        )
        for member, body, error in (
            ("ann", b"{}", BadRequest),
            ("ann", b'{"add":[""]}', BadTopic),
            ("", b'{"add":["a"]}', BadRequest),
            ("ann", b'{"add":[' + b",".join([b'"a"'] * 101) + b"]}", BadRequest),
        ):
            self.assertRaises(error, decode_member_topics, member, body)

    def test_controls_travel_with_events(self) -> None:
        batch: list[Item] = [
            Revocation(kind="member", name="ann \u2603", reason='"', at=1, until=2),
            MemberTopics(member=Member("ann"), add=(Topic("a"),)),
            Gap(topic=Topic("a"), lost=3),
        ]
        self.assertEqual(batch, decode_batch(encode_batch(batch)))
        self.assertTrue(all(item.size > 0 for item in batch if not isinstance(item, Gap)))

    def test_a_control_that_is_wrong_is_refused_with_its_line(self) -> None:
        good = b'{"control":"topics","member":"a","add":["b"]}'
        for bad in (
            b'{"control":"other"}',
            b'{"control":"topics","member":"","add":["b"]}',
            b'{"control":"topics","member":"a","add":[""]}',
            b'{"control":"disconnect","kind":"all","name":"a","at":1,"until":2}',
            b'{"control":"disconnect","kind":"member","name":"","at":1,"until":2}',
            b'{"control":"disconnect","kind":"token","name":"","at":1,"until":2}',
            b'{"control":"disconnect","kind":"token","name":"a","at":3,"until":2}',
            b'{"control":"disconnect","kind":"token","name":"a","at":-1,"until":2}',
            b'{"control":"disconnect","kind":"token","name":"a","at":1,"until":99999999999999999}',
        ):
            refusal = self.assertRaises(Refusal, decode_batch, good + b"\n" + bad)
            self.assertEqual((2,), refusal.lines, bad)

    def test_a_page_of_revocations_is_read_as_it_was(self) -> None:
        kept = Revocation(kind="member", name="a", at=1, until=2)
        page = Revocations(revocations=(kept,), bookmark=Bookmark("s", 5), more=True)
        self.assertEqual(page, decode_revocations(encode(page)))
        self.assertEqual((kept,), decode_kept([encode(kept)]))
        self.refused(
            decode_revocations,
            b"{}",
            b'{"revocations":[{"control":"disconnect","kind":"member","name":"","at":1,"until":2}],'
            b'"bookmark":{}}',
        )

    def test_a_new_token_and_its_answer_are_read(self) -> None:
        self.assertEqual("x.y.z", decode_token(b'{"token":"x.y.z"}'))
        self.refused(decode_token, b"{}", b'{"token":5}', b'{"token":"x","more":1}')
        answer = Refreshed(ConnectionId("n1-x"), ["a"], [], 5.0, 1.0)  # type: ignore[list-item]
        self.assertEqual(answer, decode_refreshed(encode(answer)))

    def test_the_members_of_a_topic_are_read(self) -> None:
        told = TopicMembers((Member("ann"),), 3, more=True)
        self.assertEqual(told, decode_topic_members(encode(told)))
        self.refused(decode_topic_members, b"{}")

    def test_why_another_node_refused_is_read(self) -> None:
        self.assertEqual("why", message_in(b'{"error":"x","message":"why"}'))
        for body in (b"", b"<html>", b"{}"):
            self.assertEqual("this is not allowed", message_in(body))

    def test_the_lines_of_a_batch_are_numbered(self) -> None:
        self.assertEqual([1, 3, 6], numbers_of_lines(b"a\n\nb\n \n\nc\n"))


class PositionTests(SynchronousTestCase):
    """Events with a place in a history."""

    PLACE = Place(1_795_417_956_553, 7, "0123456789abcdef")

    def test_a_position_is_put_at_the_end_of_the_line_and_taken_off_again(self) -> None:
        draft = Draft(topic=Topic("conv:1"), type="m", data=b'{"a":1}', id=None)
        event = encode_event(draft, id="x", at=3)
        found = placed(event, self.PLACE)
        self.assertEqual("1795417956553-7-0123456789abcdef", found.position)
        self.assertEqual(found.position, json.loads(found.line)["position"])
        self.assertEqual([found], decode_batch(found.line))
        self.assertEqual(event, without_position(found))
        self.assertEqual(event, without_position(event))
        self.assertEqual(event, kept_event(event.topic, event.line))

    def test_a_position_of_another_form_is_refused(self) -> None:
        for position in ("x", "1-2", "1-2-0123456789ABCDEF", "-1-2-" + "0" * 16, "1-2-" + "0" * 17):
            line = f'{{"topic":"conv:1","id":"x","position":"{position}"}}'.encode()
            with self.assertRaises(BadRequest):
                decode_batch(line)

    def test_questions_and_pages_come_as_they_were_sent(self) -> None:
        conv = Topic("conv:\u2603")
        queries = [
            HistoryQuery(topic=conv, since=self.PLACE, limit=3),
            HistoryQuery(topic=conv, at=5, limit=3),
            HistoryQuery(topic=conv, rewind=5, limit=3),
            HistoryQuery(topic=conv, before=self.PLACE, limit=3),
            HistoryQuery(topic=conv, before=END, limit=3),
            HistoryQuery(topic=conv, limit=3),
        ]
        self.assertEqual(queries, decode_queries(encode_queries(queries)))
        draft = Draft(topic=conv, type="m", data=b"1", id=None)
        event = placed(encode_event(draft, id="x", at=3), self.PLACE)
        pages = [
            None,
            HistoryPage(
                events=(event,), start=Place(1, 6, self.PLACE.tag), head=self.PLACE, lost=2
            ),
            HistoryPage(events=(), start=BEGINNING, head=BEGINNING),
        ]
        self.assertEqual(pages, decode_pages(encode_pages(pages)))

    def test_a_question_of_another_form_is_refused(self) -> None:
        for query in ('{"topic":"a","since":"x"}', '{"topic":"a","limit":-1}', '{"topic":""}', "3"):
            with self.assertRaises(Refusal):
                decode_queries(f'{{"queries":[{query}]}}'.encode())
