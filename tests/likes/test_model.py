"""Tests of rtdeliver.likes.model."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import BadRequest, TooLarge
from rtdeliver.likes.model import (
    REACTIONS,
    Applause,
    Video,
    Visitor,
    check_name,
    check_reaction,
    check_text,
    conversation_of,
    conversation_topic,
    parse_video,
)
from rtdeliver.model import Member, check_member, check_topic
from tests.likes.fakes import ANN
from tests.likes.names import names

ANY_TEXT = st.text(st.characters(exclude_categories=()))


class VideoTests(SynchronousTestCase):
    def test_a_video_is_written_as_its_name_or_with_a_title(self) -> None:
        for text, video in {
            "red": Video("red", "red"),
            "red=Canyon at dusk": Video("red", "Canyon at dusk"),
            "red= 1 = 1 ": Video("red", "1 = 1"),
            "red=": Video("red", "red"),
            "red=  ": Video("red", "red"),
            "A-z_0" + "9" * 59: Video("A-z_0" + "9" * 59, "A-z_0" + "9" * 59),
        }.items():
            self.assertEqual(parse_video(text), video)

    def test_any_other_name_is_refused(self) -> None:
        for text in ("", "=Canyon", " red", "red ", "a/b", "a.b", "r\u00e9d", "red\n", "a" * 65):
            refusal = self.assertRaises(BadRequest, parse_video, text)
            self.assertIn("1 to 64", refusal.message)

    def test_its_topics_have_its_name(self) -> None:
        video = Video("red", "Canyon at dusk")
        self.assertEqual((video.live, video.comments), ("live:red", "comments:red"))


class VisitorTests(SynchronousTestCase):
    def test_a_member_counts_as_one_wherever_it_is(self) -> None:
        self.assertEqual(Visitor(ANN, "10.0.0.1").key, Visitor(ANN, "10.0.0.2").key)

    def test_those_without_a_name_count_by_address(self) -> None:
        self.assertEqual(Visitor(None, "10.0.0.1").key, Visitor(None, "10.0.0.1").key)
        self.assertNotEqual(Visitor(None, "10.0.0.1").key, Visitor(None, "10.0.0.2").key)

    def test_a_member_that_is_called_like_an_address_does_not_count_as_that(self) -> None:
        self.assertNotEqual(Visitor(Member("abc"), "").key, Visitor(None, "abc").key)


class NameTests(SynchronousTestCase):
    def test_letters_of_any_language_digits_hyphens_and_underscores_are_taken(self) -> None:
        for text in (
            "a",
            "Ann-2_",
            "Jürgen",
            "王小明",
            "Женя",
            "أحمد",
            "x" * 24,
        ):
            self.assertEqual(check_name(text), text)

    def test_languages_whose_vowels_are_marks_are_taken_too(self) -> None:
        for text in ("हिन्दी", "தமிழ்", "ไทยนี้", "דָּוִד"):
            self.assertEqual(check_name(text), unicodedata.normalize("NFC", text))

    def test_a_mark_that_belongs_to_no_letter_is_refused(self) -> None:
        """Some of them cannot be seen, such as variation selectors."""
        for text in ("\u0301", "\ufe0f", "\u034f" * 24, "\u0301a"):
            self.assertRaises(BadRequest, check_name, text)

    def test_anything_else_is_refused(self) -> None:
        for text in (
            "",
            "x" * 25,
            "a b",
            " ann",
            "ann\n",
            "a.b",
            "a:b",
            "a/b",
            "a'b",
            "<b>",
            "\u2603",
            "\U0001f600",
            "\u202eann",
            "a\u200bb",
            "\ud800",
        ):
            refusal = self.assertRaises(BadRequest, check_name, text)
            self.assertIn("1 to 24", refusal.message)

    def test_names_that_look_alike_because_they_are_composed_otherwise_are_one(self) -> None:
        self.assertEqual(check_name("Ju\u0308rgen"), "Jürgen")

    def test_the_composed_form_counts_where_it_is_measured(self) -> None:
        self.assertEqual(check_name("u\u0308" * 24), "\u00fc" * 24)

    @given(ANY_TEXT)
    def test_a_name_that_is_taken_is_a_member_in_its_final_form(self, text: str) -> None:
        try:
            name = check_name(text)
        except BadRequest:
            return
        self.assertEqual(name, unicodedata.normalize("NFC", text))
        self.assertEqual(check_name(name), name)
        self.assertEqual(check_member(name), name)
        self.assertLessEqual(len(name), 24)


class TextTests(SynchronousTestCase):
    def test_a_text_is_taken_without_the_spaces_around_it(self) -> None:
        self.assertEqual(check_text(" \n\t hello,  you \r\n ", max_characters=11), "hello,  you")

    def test_line_breaks_are_kept_and_are_all_of_one_kind(self) -> None:
        self.assertEqual(check_text("a\r\nb\nc", max_characters=5), "a\nb\nc")

    def test_characters_of_any_language_and_emoji_are_taken(self) -> None:
        text = "\u00e4\u20ac\U0001f600\u0939\u093f <b>&amp;"
        self.assertEqual(check_text(text, max_characters=100), text)

    def test_an_empty_text_is_refused(self) -> None:
        for text in ("", " ", "\n\r\n\t", "\u2003\u2028"):
            self.assertRaises(BadRequest, check_text, text, max_characters=10)

    def test_a_text_is_measured_in_characters_and_may_have_all_that_it_may(self) -> None:
        text = "\U0001f600" * 10
        self.assertEqual(check_text(f" {text} ", max_characters=10), text)
        refusal = self.assertRaises(TooLarge, check_text, text + "x", max_characters=10)
        self.assertEqual(refusal.message, "the text has 11 characters; 10 are allowed")

    def test_control_characters_are_refused(self) -> None:
        for character in "\x00\x08\t\x0b\x0c\r\x1b\x1f\x7f\x85\x9f\u2028\u2029\ud800\udfff":
            self.assertRaises(BadRequest, check_text, f"a{character}b", max_characters=10)

    @given(ANY_TEXT, st.integers(1, 20))
    def test_a_text_that_is_taken_can_be_sent_and_shown(self, text: str, most: int) -> None:
        try:
            taken = check_text(text, max_characters=most)
        except (BadRequest, TooLarge):
            return
        self.assertEqual(taken.encode().decode(), taken)
        self.assertTrue(1 <= len(taken) <= most)
        self.assertEqual(taken, taken.strip())
        self.assertEqual({c for c in taken if unicodedata.category(c) == "Cc"} - {"\n"}, set())


class ReactionTests(SynchronousTestCase):
    def test_those_that_there_are_are_taken(self) -> None:
        self.assertEqual([check_reaction(text) for text in REACTIONS], list(REACTIONS))

    def test_others_are_refused_and_told_which_there_are(self) -> None:
        for text in ("", "Heart", "heart ", "thumb"):
            refusal = self.assertRaises(BadRequest, check_reaction, text)
            self.assertIn("heart, star", refusal.message)


class ApplauseTests(SynchronousTestCase):
    def test_all_likes_are_those_of_all_reactions(self) -> None:
        self.assertEqual(Applause({"heart": 3, "star": 4}, []).likes, 7)
        self.assertEqual(Applause({}, []).likes, 0)


class ConversationTests(SynchronousTestCase):
    def test_it_is_named_by_both_in_order(self) -> None:
        self.assertEqual(conversation_of(Member("bob"), ANN), "ann.bob")
        self.assertEqual(conversation_topic(Member("bob"), ANN), "conv:ann.bob")

    def test_the_order_is_that_of_javascript(self) -> None:
        """A code unit of a surrogate pair is less than one of a fullwidth letter."""
        wide, bold = Member("\uff41"), Member("\U0001d400")
        self.assertEqual(conversation_of(wide, bold), "\U0001d400.\uff41")

    @given(names(), names())
    def test_it_is_the_same_for_both_of_any_two_members(self, one: Member, other: Member) -> None:
        self.assertEqual(conversation_of(one, other), conversation_of(other, one))
        topic = conversation_topic(one, other)
        self.assertEqual(check_topic(topic), topic)

    @given(names(), names(), names())
    def test_no_others_have_the_same(self, one: Member, other: Member, third: Member) -> None:
        same = conversation_of(one, other) == conversation_of(one, third)
        self.assertEqual(same, other == third)
