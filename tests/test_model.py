"""The values that the rooms exchange."""

import string
import unicodedata
from collections.abc import Callable, Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import BadEvent, BadRequest, BadTopic, Refusal
from rtdeliver.model import (
    ConnectionId,
    Event,
    FrontendRef,
    Gap,
    Topic,
    check_event_id,
    check_event_type,
    check_node,
    check_topic,
    make_connection_id,
    node_of,
)

NAME_CHARACTERS = string.ascii_letters + string.digits + "._-"
names = st.text(NAME_CHARACTERS, min_size=1, max_size=64)
any_text = st.text(st.characters(exclude_categories=()))


def refused(check: Callable[[str], str], texts: Iterable[str]) -> list[str]:
    """Return those of ``texts`` that ``check`` refuses; the others come back as they are."""
    refused = []
    for text in texts:
        try:
            assert check(text) == text
        except Refusal:
            refused.append(text)
    return refused


def is_topic(text: str) -> bool:
    """The rule as the contract has it, with no eye to speed."""
    categories = {unicodedata.category(character) for character in text}
    return not categories & {"Cc", "Cs"} and 1 <= len(text.encode()) <= 1024


class TopicTests(SynchronousTestCase):
    def test_a_topic_is_any_text_without_control_characters(self) -> None:
        good = ["a", " ", "live:red", "a/b?c#d", "\xa0", "日本語", "👍", "\u2028", "￿"]
        self.assertEqual(refused(check_topic, good), [])

    def test_control_characters_and_lone_surrogates_are_refused(self) -> None:
        bad = ["\x00", "a\n", "a\rb", "\t", "\x1f", "\x7f", "\x80", "\x85", "\x9f", "\ud800"]
        self.assertEqual(refused(check_topic, bad), bad)

    def test_the_empty_topic_is_refused(self) -> None:
        self.assertRaises(BadTopic, check_topic, "")

    def test_the_bound_is_1024_bytes_of_utf8_and_not_of_characters(self) -> None:
        fit = ["a" * 1024, "é" * 512, "日" * 341 + "a", "👍" * 256]
        self.assertEqual(refused(check_topic, fit), [])
        over = [topic + "a" for topic in fit]
        self.assertEqual(refused(check_topic, over), over)

    @settings(deadline=None)
    @given(text=any_text, times=st.sampled_from([1, 1, 1, 50, 257, 1024]))
    def test_what_is_refused_is_what_the_rule_says(self, text: str, times: int) -> None:
        text = text * times
        self.assertEqual(refused(check_topic, [text]), [] if is_topic(text) else [text])


class NameTests(SynchronousTestCase):
    """Event types, event ids and nodes share one rule."""

    checks = ((check_event_type, BadEvent), (check_event_id, BadEvent), (check_node, BadRequest))

    def test_a_name_has_1_to_64_letters_digits_dots_underscores_and_dashes(self) -> None:
        good = ["a", "Z", "0", ".", "_", "-", "1795417956553-0-d1", NAME_CHARACTERS[:64], "a" * 64]
        for check, _ in self.checks:
            self.assertEqual(refused(check, good), [])

    def test_anything_else_is_refused(self) -> None:
        bad = ["", "a" * 65, "a b", "a\n", "\n", "a\r", "a:b", "a/b", "é", "٣", "a\x00", "\ud800"]
        for check, refusal in self.checks:
            self.assertEqual(refused(check, bad), bad)
            self.assertRaises(refusal, check, "a b")


class ConnectionIdTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(names)
    def test_a_connection_id_names_its_node(self, node: str) -> None:
        self.assertEqual(node_of(make_connection_id(node)), node)

    @settings(deadline=None)
    @given(names)
    def test_a_connection_id_is_safe_in_a_path(self, node: str) -> None:
        self.assertEqual(set(make_connection_id(node)) - set(NAME_CHARACTERS), set())

    def test_a_connection_id_carries_128_random_bits(self) -> None:
        ids = {make_connection_id("n1") for _ in range(1000)}
        self.assertEqual(len(ids), 1000)
        # 22 characters of 64 kinds, the last of which has 2 bits.
        secrets = [id.removeprefix("n1-") for id in ids]
        self.assertEqual({len(secret) for secret in secrets}, {22})
        for place in range(21):
            self.assertGreater(len({secret[place] for secret in secrets}), 32)

    @settings(deadline=None)
    @given(any_text)
    def test_whatever_a_client_calls_a_connection_has_a_node_of_its_own_text(self, id: str) -> None:
        self.assertTrue(id.startswith(node_of(ConnectionId(id))))


class ValueTests(SynchronousTestCase):
    def test_an_event_takes_the_size_of_its_line(self) -> None:
        event = Event(topic=Topic("t"), id="1", line="é".encode())
        self.assertEqual(2, event.size)

    def test_values_cannot_be_changed(self) -> None:
        values = [
            Event(topic=Topic("t"), id="1", line=b"{}"),
            Gap(topic=Topic("t"), lost=1),
            FrontendRef(node="n1", url="http://h:1", incarnation="i"),
        ]
        for value in values:
            field = value.__struct_fields__[0]
            self.assertRaises(AttributeError, setattr, value, field, "other")


class FrontendRefTests(SynchronousTestCase):
    def test_a_frontend_is_known_by_node_url_and_incarnation(self) -> None:
        for url in ("http://10.0.0.5:8081", "https://h", "http://[::1]:8081/", "http://h:1"):
            self.assertEqual(FrontendRef("n1", url, "abc").url, url)

    def test_a_wrong_field_is_refused_when_it_is_made(self) -> None:
        wrong = [
            ("", "http://h:1", "i"),
            ("a b", "http://h:1", "i"),
            ("n1", "", "i"),
            ("n1", "h:1", "i"),
            ("n1", "ftp://h:1", "i"),
            ("n1", "http://", "i"),
            ("n1", "http:///x", "i"),
            ("n1", "http://h:1/path", "i"),
            ("n1", "http://h:1?q", "i"),
            ("n1", "http://h:1#f", "i"),
            ("n1", "http://h:1\n", "i"),
            ("n1", "http://h 1", "i"),
            ("n1", "http://h:1", ""),
            ("n1", "http://h:1", "i\n"),
            ("n1", "http://h:1", "i" * 65),
        ]
        for fields in wrong:
            self.assertRaises(BadRequest, FrontendRef, *fields)
