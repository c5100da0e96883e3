"""``etc/rtdeliver.toml`` explains every key, and says what is so without it."""

import re
import textwrap
import tomllib
from operator import attrgetter
from pathlib import Path

from msgspec.structs import fields

from rtdeliver.config.example import example
from rtdeliver.config.load import load_config
from rtdeliver.config.sections import Config
from tests.config.files import KEYS, FileTestCase

EXAMPLE = Path(__file__).parents[2] / "etc" / "rtdeliver.toml"


class ExampleFileTests(FileTestCase):
    def test_the_file_is_made_of_the_sections(self) -> None:
        self.assertEqual(
            EXAMPLE.read_text(encoding="utf-8"),
            example(),
            "make format writes it anew",
        )

    def test_the_file_has_every_key_with_its_default(self) -> None:
        tables = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
        # What has no default is there as a comment.
        unset = {key for key in KEYS if attrgetter(key)(Config()) is None}
        self.assertEqual(unset, {"access.public_topics"})
        self.assertEqual(
            [f"{table}.{key}" for table in tables for key in tables[table]],
            [key for key in KEYS if key not in unset],
        )
        self.assertEqual(load_config(str(EXAMPLE), {}), Config())

    def test_every_section_and_every_key_is_explained(self) -> None:
        text = example()
        for section in fields(Config):
            self.assertRegex(text, rf"\n\[{section.name}\]\n# \w")
        for key in KEYS:
            name = re.escape(key.partition(".")[2])
            self.assertRegex(text, rf"\n# .*\n#?{name} = ")

    def test_no_line_is_longer_than_a_hundred_characters(self) -> None:
        self.assertLessEqual(max(map(len, example().splitlines())), 100)

    def test_the_settings_of_the_deployment_on_three_machines_are_right(self) -> None:
        text = (EXAMPLE.parents[1] / "docs/operations.md").read_text(encoding="utf-8")
        block = re.search(r"^       \[redis\]\n(?:       .*\n|\n)+", text, re.MULTILINE)
        assert block is not None
        config = self.load(textwrap.dedent(block[0]).replace("ADDRESS", "10.0.0.11"))
        self.assertEqual(config.node.advertise, "http://10.0.0.11:8081")
        self.assertEqual(len(config.node.dispatchers), 3)
