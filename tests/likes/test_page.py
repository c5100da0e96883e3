"""Tests of rtdeliver.likes.page."""

import gzip
from importlib.resources import files

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.likes.page import read_page

SERVED_BYTES = 21_000
COMMENTS = (b"//", b"/*", b"*", b"* ", b"*/")
SOURCES = {
    file.name: file.read_bytes()
    for file in (
        *files("rtdeliver.likes").joinpath("page").iterdir(),
        files("rtdeliver.client").joinpath("rtdeliver.js"),
    )
    if file.is_file()
}


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.page = read_page()

    def test_all_files_of_the_page_and_the_client_module_are_there(self) -> None:
        self.assertEqual(self.page.keys(), SOURCES.keys())

    def test_no_script_has_a_text_over_several_lines(self) -> None:
        """Its indentation would be a part of it."""
        for name, source in SOURCES.items():
            if name.endswith(".js"):
                self.assertEqual([], [line for line in source.split(b"\n") if line.count(b"`") % 2])

    def test_files_have_all_their_lines_but_comments_and_blank_ones(self) -> None:
        for name, source in SOURCES.items():
            code = self.page[name].content
            lines = [line.strip() for line in source.split(b"\n")]
            if name.endswith(".js"):
                lines = [line for line in lines if line[:2] not in COMMENTS]
            self.assertEqual([line for line in lines if line], code.rstrip().split(b"\n"), name)

    def test_the_page_itself_is_among_them(self) -> None:
        self.assertEqual(self.page["index.html"].content_type, "text/html; charset=utf-8")
        self.assertIn(b"<!doctype html>", self.page["index.html"].content.lower())

    def test_all_that_is_served_is_small(self) -> None:
        self.assertLess(sum(len(file.compressed) for file in self.page.values()), SERVED_BYTES)

    def test_what_is_compressed_is_the_same(self) -> None:
        for file in self.page.values():
            self.assertEqual(file.content, gzip.decompress(file.compressed))

    def test_browsers_are_told_what_each_is(self) -> None:
        """They are told not to guess, too, so that a script of another type would not run."""
        types = {
            "html": "text/html",
            "css": "text/css",
            "js": "text/javascript",
            "svg": "image/svg",
        }
        for name, file in self.page.items():
            expected = types[name.rpartition(".")[2]]
            self.assertTrue(file.content_type.startswith(expected), (name, file.content_type))

    def test_texts_are_in_utf8_as_browsers_are_told(self) -> None:
        for file in self.page.values():
            if file.content_type.endswith("charset=utf-8"):
                self.assertEqual(file.content.decode().encode(), file.content)

    def test_the_same_content_has_the_same_name_and_no_other_has(self) -> None:
        digests = {name: file.digest for name, file in self.page.items()}
        self.assertEqual({name: file.digest for name, file in read_page().items()}, digests)
        self.assertEqual(
            len(set(digests.values())), len({file.content for file in self.page.values()})
        )
