"""Patterns of topics."""

import fnmatch
import re
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import BadRequest
from rtdeliver.grants import EVERYTHING, MOST_PATTERNS, NOTHING, grants, not_covered, patterns
from rtdeliver.model import Topic

TEXTS = st.text(alphabet="ab:*", min_size=1, max_size=8)
TOPICS = st.text(alphabet="ab:", max_size=8)


def naive(pattern: str, text: str) -> bool:
    """Match as the sentence in the documents says, by trying everything."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return text[:1] == pattern[0] and naive(pattern[1:], text[1:])


class PatternsTests(SynchronousTestCase):
    @given(pattern=TEXTS, topic=TOPICS)
    def test_a_pattern_matches_as_the_naive_one_does(self, pattern: str, topic: str) -> None:
        self.assertEqual(patterns([pattern]).cover(topic), naive(pattern, topic))

    @given(texts=st.lists(TEXTS, max_size=4), topic=TOPICS)
    def test_several_match_what_one_of_them_matches(self, texts: list[str], topic: str) -> None:
        expected = any(naive(text, topic) for text in texts)
        self.assertEqual(patterns(texts).cover(topic), expected)

    def test_nothing_but_a_star_has_a_meaning(self) -> None:
        for text in ("live.red", "live?red", "live[red]", "live\\red", "(live)+", "^live$"):
            self.assertTrue(patterns([text]).cover(text))
            self.assertFalse(patterns([text]).cover("livexred"))

    def test_without_patterns_nothing_matches(self) -> None:
        self.assertFalse(NOTHING.subscribe.cover("live:red"))
        self.assertTrue(EVERYTHING.subscribe.cover("live:red"))

    def test_the_same_patterns_are_the_same_object(self) -> None:
        first, second = (patterns([f"conv:{word}:*" for word in "ab"]) for _ in range(2))
        self.assertIs(first, second)
        self.assertIs(grants(first, second), grants(second, first))

    def test_what_is_not_covered_is_named_in_order(self) -> None:
        topics = [Topic(text) for text in ("c", "live:a", "b", "live:b")]
        found = not_covered(topics, patterns(["live:*"]), patterns(["b"]))
        self.assertEqual(found, ("c",))

    def test_an_attacker_cannot_make_a_pattern_that_takes_long(self) -> None:
        topic = "a" * 1023 + "b"
        for text in ("*" * 1024, "*a" * 500 + "*c", "a*" * 512, "*" + "a" * 511 + "*" + "a" * 510):
            began = time.process_time()
            for _ in range(100):
                patterns([text]).cover(topic)
            # A regular expression would take longer than the age of the universe.
            self.assertLess(time.process_time() - began, 5)
        self.assertTrue(re.fullmatch(fnmatch.translate("*a*"), topic))

    def test_what_is_no_pattern_is_refused(self) -> None:
        for texts in ([""], ["x" * 1025], ["\u00e9" * 513], ["x"] * (MOST_PATTERNS + 1)):
            self.assertRaises(BadRequest, patterns, texts)
