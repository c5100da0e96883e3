"""Settings from a file and options."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtdeliver.config.load import load_config
from rtdeliver.config.sections import Access, Config, Listeners, Node, Viewers
from rtdeliver.errors import ConfigError
from tests.config.files import KEYS, FileTestCase

values = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["http://h:1", "http://[", "https://e.com", "http://h:1\n", "close", "*"])
)
settings_of_any_kind = st.dictionaries(
    st.sampled_from(KEYS) | st.sampled_from(["viewers.heartbeat", "node.\n", "\x00"]) | st.text(),
    values | st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=2),
    max_size=4,
)


class LoadConfigTests(FileTestCase):
    def test_without_a_file_and_options_all_is_as_by_default(self) -> None:
        self.assertEqual(load_config(None, {}), Config())

    def test_a_file_sets_what_it_names_and_nothing_else(self) -> None:
        config = self.load(
            "[listeners]\n"
            'public = "unix:/run/rtdeliver"\n'
            "[node]\n"
            'dispatchers = ["http://10.0.0.2:8090", "https://h/"]\n'
            "[viewers]\n"
            "heartbeat_seconds = 10\n"
            "mailbox_bytes = 2_000_000\n"
            'overflow = "close"\n'
            "[access]\n"
            "insecure_internal = true\n"
            'cors_origins = ["*", "https://example.com", "http://localhost:3000"]\n'
        )
        self.assertEqual(
            config,
            Config(
                listeners=Listeners(public="unix:/run/rtdeliver"),
                node=Node(dispatchers=("http://10.0.0.2:8090", "https://h/")),
                viewers=Viewers(heartbeat_seconds=10.0, mailbox_bytes=2000000, overflow="close"),
                access=Access(
                    insecure_internal=True,
                    cors_origins=("*", "https://example.com", "http://localhost:3000"),
                ),
            ),
        )

    def test_an_option_wins_over_the_file(self) -> None:
        path = self.write(
            b'[node]\nname = "a"\ndispatchers = ["http://h:1"]\n[listeners]\npublic = "tcp:1"'
        )
        config = load_config(path, {"node.name": "b", "node.dispatchers": ["http://h:2"]})
        self.assertEqual(
            (config.node.name, config.node.dispatchers, config.listeners.public),
            ("b", ("http://h:2",), "tcp:1"),
        )

    def test_an_option_that_was_not_given_changes_nothing(self) -> None:
        path = self.write(b'[node]\nname = "a"\ndispatchers = ["http://h:1"]')
        config = load_config(path, {"node.name": None, "node.dispatchers": []})
        self.assertEqual(config.node, Node(name="a", dispatchers=("http://h:1",)))

    def test_a_file_that_cannot_be_read_is_named(self) -> None:
        for path, reason in (
            ("/nonexistent/file", "No such file or directory"),
            (self.folder(), "Is a directory"),
        ):
            error = self.assertRaises(ConfigError, load_config, path, {})
            self.assertEqual(str(error), f"config {path}: {reason}")

    def test_a_path_that_no_file_can_have_is_refused(self) -> None:
        self.assertRaises(ConfigError, load_config, "a\0b", {})

    def test_a_file_that_is_not_toml_is_named_with_the_place(self) -> None:
        path = self.write(b"public = \n")
        error = self.assertRaises(ConfigError, load_config, path, {})
        self.assertEqual(str(error), f"config {path}: Invalid value (at line 1, column 10)")

    def test_a_file_that_is_not_utf8_is_named(self) -> None:
        path = self.write(b'public = "\xff"\n')
        error = self.assertRaises(ConfigError, load_config, path, {})
        self.assertIn(f"config {path}: 'utf-8' codec can't decode byte 0xff", str(error))

    def test_an_unknown_name_is_told_with_the_one_that_may_be_meant(self) -> None:
        complaints = {
            "[viewer]": "unknown table [viewer]; did you mean [viewers]?",
            "[zzz]": "unknown table [zzz]",
            "[viewers]\nheartbeat_second = 5": (
                "unknown key viewers.heartbeat_second; did you mean viewers.heartbeat_seconds?"
            ),
            # In another table.
            "[viewers]\nannounce_seconds = 5": (
                "unknown key viewers.announce_seconds; did you mean routing.announce_seconds?"
            ),
            "heartbeat_seconds = 5": (
                "unknown key heartbeat_seconds; did you mean viewers.heartbeat_seconds?"
            ),
            # As if there were one table for all.
            "[redis]\nredis_prefix = 'a'": (
                "unknown key redis.redis_prefix; did you mean redis.prefix?"
            ),
            "presence_grace_seconds = 5": (
                "unknown key presence_grace_seconds; did you mean presence.grace_seconds?"
            ),
            "zzz = 5": "unknown key zzz",
            "viewers = 5": "viewers is a table: write [viewers], and its keys below",
        }
        for text, complaint in complaints.items():
            path = self.write(text.encode())
            error = self.assertRaises(ConfigError, load_config, path, {})
            self.assertEqual(str(error), f"config {path}: {complaint}")

    def test_one_file_serves_all_roles(self) -> None:
        self.assertTrue(self.takes("[likes]\nframework = 1") is False)
        self.assertTrue(self.takes("[likes]\ntoken_seconds = 1\n[viewers]\nstall_seconds = 1"))

    def test_a_value_of_the_wrong_type_is_told_by_its_key(self) -> None:
        complaints = {
            "listeners.public = 8080": "listeners.public: expected `str`, got `int`",
            "listeners.backlog = '5'": "listeners.backlog: expected `int`, got `str`",
            "listeners.backlog = 1.5": "listeners.backlog: expected `int`, got `float`",
            "listeners.backlog = true": "listeners.backlog: expected `int`, got `bool`",
            "access.insecure_internal = 1": "access.insecure_internal: expected `bool`, got `int`",
            "viewers.heartbeat_seconds = '25'": (
                "viewers.heartbeat_seconds: expected `float`, got `str`"
            ),
            "node.dispatchers = 'http://h:1'": "node.dispatchers: expected `array`, got `str`",
            "node.dispatchers = [1]": "node.dispatchers[0]: expected `str`, got `int`",
            "node.name = {}": "node.name: expected `str`, got `object`",
            "viewers.overflow = 'drop'": "viewers.overflow: invalid enum value 'drop'",
        }
        self.assertEqual({text: self.complaint(text) for text in complaints}, complaints)

    def test_a_number_out_of_its_range_is_told_by_its_key(self) -> None:
        for text in (
            "listeners.backlog = 0",
            "viewers.max_connections = -1",
            "viewers.heartbeat_seconds = 0",
            "viewers.heartbeat_seconds = -1.5",
            "process.drain_seconds = -1",
            "routing.lease_seconds = 3601",
            "publishing.event_bytes = 0",
            "sockets.send_buffer_bytes = -1",
        ):
            key = text.partition(" ")[0]
            self.assertRegex(
                self.complaint(text), rf"^{key}: expected `(int|float)` [<>]=? [\d.]+$"
            )

    def test_zero_is_taken_where_it_means_something(self) -> None:
        text = "[viewers]\nmax_connections = 0\n[process]\ndrain_seconds = 0"
        self.assertEqual(self.load(text).process.drain_seconds, 0)
        self.assertTrue(self.takes("[sockets]\nsend_buffer_bytes = 0"))

    def test_no_time_is_infinite_or_not_a_number(self) -> None:
        times = [key for key in KEYS if key.endswith("seconds")]
        taken = [
            (key, value)
            for key in times
            for value in ("inf", "nan")
            if self.takes(f"{key} = {value}")
        ]
        self.assertGreater(len(times), 30)
        self.assertEqual(taken, [])

    @settings(deadline=None)
    @given(settings_of_any_kind)
    @example({"access.cors_origins": ["http://["]})
    @example({"a\nb": 1})
    @example({"node.advertise": "x\ny"})
    def test_whatever_is_wrong_is_told_in_one_line(self, options: dict[str, Any]) -> None:
        try:
            load_config(None, options)
        except ConfigError as error:
            self.assertNotRegex(str(error), "[\r\n]")
            self.assertTrue(str(error))
