"""Tests of rtdeliver.redis.scripts."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.redis.scripts import read_script

LUA = Path(__file__).parents[2] / "rtdeliver" / "routing" / "lua"


def content(name: str) -> str:
    return (LUA / name).read_text("utf-8")


class ReadScriptTests(SynchronousTestCase):
    def test_a_script_is_a_file_of_the_package(self) -> None:
        self.assertEqual(read_script("rtdeliver.routing", "nodes"), content("nodes.lua"))

    def test_several_files_follow_each_other_as_they_are_named(self) -> None:
        self.assertEqual(
            read_script("rtdeliver.routing", "common", "forget"),
            content("common.lua") + "\n" + content("forget.lua"),
        )

    def test_a_file_that_is_not_there_is_an_error(self) -> None:
        with self.assertRaises(FileNotFoundError):
            read_script("rtdeliver.routing", "common", "misspelt")
