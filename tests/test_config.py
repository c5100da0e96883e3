"""Settings from a file and options, checked once."""

import os
import re
import resource
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config import Config, load_config, max_connections, node_name, read_secret
from rtdeliver.errors import ConfigError
from rtdeliver.model import check_node

EXAMPLE = Path(__file__).parents[1] / "etc" / "rtdeliver.toml"
FIELDS = Config.__struct_fields__

values = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["http://h:1", "http://[", "https://e.com", "http://h:1\n", "close", "*"])
)
settings_of_any_kind = st.dictionaries(
    st.sampled_from(FIELDS) | st.sampled_from(["heartbeat", "node\n", "\x00"]) | st.text(),
    values | st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=2),
    max_size=4,
)


class FileTestCase(SynchronousTestCase):
    def write(self, content: bytes) -> str:
        """Return the path of a file with this content."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "file"
        path.write_bytes(content)
        return str(path)

    def folder(self) -> str:
        """Return the path of an empty folder."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def load(self, text: str, **options: Any) -> Config:
        return load_config(self.write(text.encode()), options)

    def complaint(self, text: str, **options: Any) -> str:
        """Return what is wrong with a file of this text."""
        return str(self.assertRaises(ConfigError, self.load, text, **options))


class LoadConfigTests(FileTestCase):
    def test_without_a_file_and_options_all_is_as_by_default(self) -> None:
        self.assertEqual(load_config(None, {}), Config())

    def test_a_file_sets_what_it_names_and_nothing_else(self) -> None:
        config = self.load(
            'public = "unix:/run/rtdeliver"\n'
            'dispatcher = ["http://10.0.0.2:8090", "https://h/"]\n'
            "heartbeat_seconds = 10\n"
            "mailbox_bytes = 2_000_000\n"
            "insecure_internal = true\n"
            'overflow = "close"\n'
            'cors_origin = ["*", "https://example.com", "http://localhost:3000"]\n'
        )
        self.assertEqual(
            config,
            Config(
                public="unix:/run/rtdeliver",
                dispatcher=["http://10.0.0.2:8090", "https://h/"],
                heartbeat_seconds=10.0,
                mailbox_bytes=2000000,
                insecure_internal=True,
                overflow="close",
                cors_origin=["*", "https://example.com", "http://localhost:3000"],
            ),
        )

    def test_an_option_wins_over_the_file(self) -> None:
        config = self.load(
            'node = "a"\ndispatcher = ["http://h:1"]\npublic = "tcp:1"',
            node="b",
            dispatcher=["http://h:2"],
        )
        self.assertEqual(
            (config.node, config.dispatcher, config.public), ("b", ["http://h:2"], "tcp:1")
        )

    def test_an_option_that_was_not_given_changes_nothing(self) -> None:
        config = self.load('node = "a"\ndispatcher = ["http://h:1"]', node=None, dispatcher=[])
        self.assertEqual((config.node, config.dispatcher), ("a", ["http://h:1"]))

    def test_a_file_that_cannot_be_read_is_named(self) -> None:
        for path, reason in (
            ("/nonexistent/file", "No such file or directory"),
            (self.folder(), "Is a directory"),
        ):
            error = self.assertRaises(ConfigError, load_config, path, {})
            self.assertEqual(str(error), f"config {path}: {reason}")

    def test_a_file_that_is_not_toml_is_named_with_the_place(self) -> None:
        path = self.write(b"public = \n")
        error = self.assertRaises(ConfigError, load_config, path, {})
        self.assertEqual(str(error), f"config {path}: Invalid value (at line 1, column 10)")

    def test_a_file_that_is_not_utf8_is_named(self) -> None:
        path = self.write(b'public = "\xff"\n')
        error = self.assertRaises(ConfigError, load_config, path, {})
        self.assertIn(f"config {path}: 'utf-8' codec can't decode byte 0xff", str(error))

    def test_an_unknown_key_is_named_with_the_one_that_may_be_meant(self) -> None:
        self.assertEqual(
            self.complaint("heartbeat_second = 5"),
            "unknown key heartbeat_second; did you mean heartbeat_seconds?",
        )
        self.assertEqual(self.complaint("zzz = 5"), "unknown key zzz")
        self.assertEqual(self.complaint("[browsers]\nnode = 'a'"), "unknown key browsers")

    def test_a_value_of_the_wrong_type_is_told_by_its_key(self) -> None:
        complaints = {
            "public = 8080": "public: expected `str`, got `int`",
            "listen_backlog = '5'": "listen_backlog: expected `int`, got `str`",
            "listen_backlog = 1.5": "listen_backlog: expected `int`, got `float`",
            "listen_backlog = true": "listen_backlog: expected `int`, got `bool`",
            "insecure_internal = 1": "insecure_internal: expected `bool`, got `int`",
            "heartbeat_seconds = '25'": "heartbeat_seconds: expected `float`, got `str`",
            "dispatcher = 'http://h:1'": "dispatcher: expected `array`, got `str`",
            "dispatcher = [1]": "dispatcher[0]: expected `str`, got `int`",
            "node = {}": "node: expected `str`, got `object`",
            "overflow = 'drop'": "overflow: invalid enum value 'drop'",
        }
        self.assertEqual({text: self.complaint(text) for text in complaints}, complaints)

    def test_a_number_out_of_its_range_is_told_by_its_key(self) -> None:
        for text in (
            "listen_backlog = 0",
            "max_connections = -1",
            "heartbeat_seconds = 0",
            "heartbeat_seconds = -1.5",
            "drain_seconds = -1",
            "lease_seconds = 3601",
            "event_bytes = 0",
            "send_buffer_bytes = -1",
        ):
            key = text.partition(" ")[0]
            self.assertRegex(
                self.complaint(text), rf"^{key}: expected `(int|float)` [<>]=? [\d.]+$"
            )

    def test_zero_is_taken_where_it_means_something(self) -> None:
        text = "max_connections = 0\ndrain_seconds = 0\nsend_buffer_bytes = 0"
        self.assertEqual(self.load(text).drain_seconds, 0)

    def test_no_time_is_infinite_or_not_a_number(self) -> None:
        taken = [
            (key, value)
            for key in FIELDS
            if key.endswith("_seconds")
            for value in ("inf", "nan")
            if self.takes(f"{key} = {value}")
        ]
        self.assertEqual(taken, [])

    def takes(self, text: str) -> bool:
        try:
            self.load(text)
        except ConfigError:
            return False
        return True

    def test_bounds_that_belong_together_are_compared(self) -> None:
        complaints = {
            "busy_retry_min_seconds = 31": (
                "busy_retry_min_seconds is more than busy_retry_max_seconds"
            ),
            "busy_retry_max_seconds = 4": (
                "busy_retry_min_seconds is more than busy_retry_max_seconds"
            ),
            "retry_min_seconds = 4": "retry_min_seconds is more than retry_max_seconds",
            "announce_seconds = 31": "announce_seconds is more than lease_seconds",
            "lease_seconds = 2": "announce_seconds is more than lease_seconds",
            "recent_seconds = 29": "repeat_seconds is more than recent_seconds",
        }
        self.assertEqual({text: self.complaint(text) for text in complaints}, complaints)
        self.assertTrue(self.takes("announce_seconds = 30"))

    def test_an_event_of_the_largest_size_has_room_in_every_mailbox_and_batch(self) -> None:
        for key in (
            "mailbox_bytes",
            "link_mailbox_bytes",
            "peer_mailbox_bytes",
            "publish_batch_bytes",
        ):
            self.assertEqual(
                self.complaint(f"event_bytes = 10_000\n{key} = 14_095"),
                f"{key} has no room for an event of event_bytes and 4096 more",
            )
            self.assertTrue(self.takes(f"event_bytes = 10_000\n{key} = 14_096"))

    def test_a_nodes_name_is_checked(self) -> None:
        self.assertEqual(
            self.complaint("node = 'a b'"), "node: a node's name is 1 to 64 of A-Z a-z 0-9 . _ -"
        )

    def test_urls_of_nodes_are_checked(self) -> None:
        good = ["http://h", "http://h:1", "https://10.0.0.5:8090/", "http://[::1]:8090"]
        self.assertEqual(self.load(f"dispatcher = {good}").dispatcher, good)
        for url in good:
            self.assertEqual(self.load(f"advertise = '{url}'").advertise, url)
        for url in (
            "",
            "h:8090",
            "10.0.0.5:8090",
            "ftp://h:1",
            "http://",
            "http://:8090",
            "http://h:0",
            "http://h:x",
            "http://h:65536",
            "http://[::1:8090",
            "http://h:1/path",
            "http://h:1?q=1",
            "http://h:1#f",
        ):
            self.assertEqual(
                self.complaint(f"dispatcher = ['http://good:1', '{url}']"),
                f"dispatcher: {url} is not like http://10.0.0.5:8090",
            )

    def test_white_space_in_a_url_is_refused(self) -> None:
        for url in ("http://h h:1", "http://h:1 ", "http://h\\t:1", "http://h\\n:1"):
            self.complaint(f'dispatcher = ["{url}"]')
            self.complaint(f'advertise = "{url}"')

    def test_peers_are_checked(self) -> None:
        good = ["dc2=http://h:1", "dc.3=http://10.1.0.2:8090,https://10.1.0.3:8090/"]
        self.assertEqual(self.load(f"datacenter = 'dc1'\npeer = {good}").peer, good)
        rule = "a datacenter's name is 1 to 64 of A-Z a-z 0-9 . _ -"
        complaints = {
            "dc2": "dc2 is not like dc2=http://10.1.0.2:8090,http://10.1.0.3:8090",
            "dc2=": "dc2= is not like dc2=http://10.1.0.2:8090,http://10.1.0.3:8090",
            "http://h:1": "http://h:1 is not like dc2=http://10.1.0.2:8090,http://10.1.0.3:8090",
            "=http://h:1": f": {rule}",
            "dc 2=http://h:1": f"dc 2: {rule}",
            "dc2=h:1": "h:1 is not like http://10.0.0.5:8090",
            "dc2=http://h:1,": " is not like http://10.0.0.5:8090",
            "dc2=http://h:1,http://h:1/x": "http://h:1/x is not like http://10.0.0.5:8090",
            "dc1=http://h:1": "dc1 is this datacenter itself",
            "dc.3=http://h:1": "dc.3 is named twice; give all its URLs at once",
        }
        for peer, complaint in complaints.items():
            text = f"datacenter = 'dc1'\npeer = {[good[1], peer]}"
            self.assertEqual(self.complaint(text), f"peer: {complaint}")
        self.assertEqual(self.complaint("datacenter = 'a b'"), f"datacenter: a b: {rule}")

    def test_origins_are_checked(self) -> None:
        for origin in (
            "example.com",
            "https://",
            "https://example.com/",
            "https://example.com/app",
            "https://example.com?x",
            "https://example.com#x",
            "//example.com",
            "https://[",
        ):
            self.assertEqual(
                self.complaint(f"cors_origin = ['*', '{origin}']"),
                f"cors_origin: {origin} is not *, same-host, or like https://example.com",
            )

    @settings(deadline=None)
    @given(settings_of_any_kind)
    @example({"cors_origin": ["http://["]})
    @example({"a\nb": 1})
    @example({"advertise": "x\ny"})
    def test_whatever_is_wrong_is_told_in_one_line(self, options: dict[str, Any]) -> None:
        try:
            load_config(None, options)
        except ConfigError as error:
            self.assertNotRegex(str(error), "[\r\n]")
            self.assertTrue(str(error))


class ExampleFileTests(FileTestCase):
    """``etc/rtdeliver.toml`` explains every key, and says what is so without it."""

    def test_each_key_of_the_file_has_the_value_of_its_default(self) -> None:
        text = EXAMPLE.read_text(encoding="utf-8")
        config, default = load_config(str(EXAMPLE), {}), Config()
        keys = tomllib.loads(text).keys()
        self.assertEqual(
            {key: getattr(config, key) for key in keys},
            {key: getattr(default, key) for key in keys},
        )

    def test_the_file_names_every_key_once_be_it_commented_out(self) -> None:
        text = EXAMPLE.read_text(encoding="utf-8")
        named = re.findall(r"^(?:# ?)?(\w+) = ", text, re.MULTILINE)
        self.assertEqual(sorted(named), sorted(FIELDS))

    def test_what_is_commented_out_may_be_taken_as_it_stands(self) -> None:
        text = EXAMPLE.read_text(encoding="utf-8")
        config = self.load(re.sub(r"^# ?(\w+ = )", r"\1", text, flags=re.MULTILINE))
        self.assertTrue(config.dispatcher)


class SecretTests(FileTestCase):
    def test_no_secret_is_configured_by_default(self) -> None:
        self.assertEqual(read_secret(Config()), "")

    def test_a_secret_is_the_one_word_of_its_file(self) -> None:
        for content in (b"s3cret", b"s3cret\n", b" \ns3cret\r\n"):
            self.assertEqual(read_secret(Config(secret_file=self.write(content))), "s3cret")

    def test_a_file_without_a_secret_is_refused(self) -> None:
        for content in (b"", b" \n", b"two words", b"two\nlines", b"a\tb", b"a\x00b", b"\x7f"):
            path = self.write(content)
            error = self.assertRaises(ConfigError, read_secret, Config(secret_file=path))
            self.assertEqual(str(error), f"secret_file {path}: it holds no secret of one word")

    def test_a_secret_that_is_not_ascii_is_refused_and_not_shown(self) -> None:
        path = self.write("pässword".encode())
        error = self.assertRaises(ConfigError, read_secret, Config(secret_file=path))
        self.assertIn(f"secret_file {path}: ", str(error))
        self.assertNotIn("ssword", str(error))

    def test_a_file_that_cannot_be_read_is_named(self) -> None:
        for path, reason in (
            ("/nonexistent/file", "No such file or directory"),
            (self.folder(), "Is a directory"),
        ):
            error = self.assertRaises(ConfigError, read_secret, Config(secret_file=path))
            self.assertEqual(str(error), f"secret_file {path}: {reason}")

    def test_a_path_that_no_file_can_have_is_refused(self) -> None:
        self.assertRaises(ConfigError, read_secret, Config(secret_file="a\0b"))


class ProcessTests(SynchronousTestCase):
    def test_a_node_has_the_name_it_was_given(self) -> None:
        self.assertEqual(node_name(Config(node="n1")), "n1")

    def test_a_node_without_a_name_gets_one_of_its_own(self) -> None:
        name = node_name(Config())
        self.assertEqual(check_node(name), name)
        self.assertTrue(name.endswith(f"-{os.getpid()}"))

    def test_a_process_takes_as_many_streams_as_configured(self) -> None:
        self.restore_descriptor_limit()
        self.assertEqual(max_connections(Config(max_connections=7)), 7)

    def test_a_process_takes_no_more_streams_than_it_has_descriptors_for(self) -> None:
        self.restore_descriptor_limit()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = max_connections(Config())
        self.assertGreater(allowed, 0)
        self.assertLess(allowed, hard)
        self.assertEqual(max_connections(Config(max_connections=hard * 2)), allowed)

    def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one(self) -> None:
        self.restore_descriptor_limit()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
        max_connections(Config())
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (hard, hard))

    def restore_descriptor_limit(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
