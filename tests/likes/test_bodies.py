"""Tests of rtdeliver.likes.bodies."""

import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import BadJson, BadRequest, Refusal, TooLarge
from rtdeliver.likes.bodies import (
    decode_like,
    decode_nothing,
    decode_seen,
    decode_session,
    decode_text,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
FIELDS = st.sampled_from(["name", "reaction", "text", "message"])

decode_short = partial(decode_text, max_characters=5)
DECODERS: tuple[Callable[[bytes], Any], ...] = (
    decode_session,
    decode_like,
    decode_short,
    decode_seen,
    decode_nothing,
)


class BodyTests(SynchronousTestCase):
    def refused(self, decode: Callable[[bytes], Any], *bodies: bytes) -> None:
        for body in bodies:
            with self.subTest(body):
                self.assertRaises(BadRequest, decode, body)

    def test_a_session_has_a_name_in_its_composed_form(self) -> None:
        self.assertEqual(decode_session(b'{"name":"Ann"}'), ("Ann", ""))
        self.assertEqual(decode_session('{"name":"Ju\u0308rgen"}'.encode()), ("Jürgen", ""))
        self.assertEqual(decode_session(b'{"name":"a","password":"p q"}'), ("a", "p q"))
        self.refused(
            decode_session,
            b"{}",
            b"[]",
            b'"ann"',
            b'{"name":null}',
            b'{"name":1}',
            b'{"name":""}',
            b'{"name":"a b"}',
            b'{"name":"ann","admin":true}',
        )

    def test_a_like_has_a_reaction_or_is_a_heart(self) -> None:
        self.assertEqual(decode_like(b'{"reaction":"star"}'), "star")
        self.assertEqual(decode_like(b"{}"), "heart")
        self.refused(decode_like, b'{"reaction":"thumb"}', b'{"reaction":null}', b'{"like":1}')

    def test_a_text_is_checked_against_what_it_may_have(self) -> None:
        self.assertEqual(decode_short(b'{"text":" a\\r\\nb "}'), "a\nb")
        self.assertEqual(decode_short(b'{"text":"12345"}'), "12345")
        self.assertRaises(TooLarge, decode_short, b'{"text":"123456"}')
        self.refused(
            decode_short, b"{}", b'{"text":" "}', b'{"text":"a\\tb"}', b'{"text":"a","by":"eve"}'
        )

    def test_a_message_that_was_seen_is_named_by_a_number_that_one_can_have(self) -> None:
        self.assertEqual(decode_seen(b'{"message":1}'), 1)
        self.assertEqual(decode_seen(b'{"message":9223372036854775807}'), 2**63 - 1)
        self.refused(
            decode_seen,
            b"{}",
            b'{"message":0}',
            b'{"message":-1}',
            b'{"message":9223372036854775808}',
            b'{"message":"7"}',
            b'{"message":true}',
            b'{"message":7.5}',
            b'{"message":7,"by":"eve"}',
        )

    def test_nothing_is_an_empty_body_or_an_empty_object(self) -> None:
        decode: Callable[[bytes], object] = decode_nothing
        self.assertIsNone(decode(b""))
        self.assertIsNone(decode(b"{}"))
        self.refused(decode_nothing, b"[]", b"null", b'{"member":"eve"}')

    def test_what_is_no_json_is_refused_as_that(self) -> None:
        for decode in DECODERS:
            for body in (b"{", b"ann", b"\xff", b" "):
                with self.subTest(decode, body=body):
                    self.assertRaises(BadJson, decode, body)

    def test_a_text_that_is_not_utf8_is_refused_as_that(self) -> None:
        self.assertRaises(BadJson, decode_session, b'{"name":"a\xff"}')
        self.assertRaises(BadJson, decode_short, b'{"text":"a\xed\xa0\x80"}')

    def test_an_empty_body_is_refused_where_something_is_asked_for(self) -> None:
        for decode in (decode_session, decode_like, decode_short, decode_seen):
            self.assertRaises(BadJson, decode, b"")

    @given(st.binary() | st.dictionaries(FIELDS, JSON_VALUES, max_size=2).map(json.dumps))
    def test_any_body_is_taken_or_refused(self, body: bytes | str) -> None:
        data = body.encode() if isinstance(body, str) else body
        for decode in DECODERS:
            with contextlib.suppress(Refusal):
                decode(data)
