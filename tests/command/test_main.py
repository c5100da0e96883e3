"""The rtdeliver command, without a server."""

import io
import re
import subprocess
import tempfile
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import jwt
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.command.main import COMMANDS, main
from rtdeliver.config.sections import Viewers

ROOT = Path(__file__).parents[2]
KEY = "correct-horse-battery-staple-correct-horse"


class Ended(NamedTuple):
    status: int | str | None
    output: str
    complaint: str


def rtdeliver(*arguments: str) -> Ended:
    output, complaint = io.StringIO(), io.StringIO()
    status: int | str | None
    with redirect_stdout(output), redirect_stderr(complaint):
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = ended.code
    return Ended(status, output.getvalue(), complaint.getvalue())


class CommandTests(SynchronousTestCase):
    def file(self, name: str, text: str) -> str:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, name)
        path.write_text(text)
        return str(path)

    def assert_fails(self, ended: Ended, *words: str) -> None:
        self.assertEqual((ended.status, ended.output), (1, ""))
        self.assertEqual(ended.complaint.count("\n"), 1, ended.complaint)
        for word in words:
            self.assertIn(word, ended.complaint)

    def test_the_help_names_all_commands(self) -> None:
        text = rtdeliver("--help").output
        for command in COMMANDS:
            self.assertIn(command.NAME, text)
            self.assertIn("usage: ", rtdeliver(command.NAME, "--help").output)

    def test_the_manual_page_has_all_commands_and_options(self) -> None:
        manual = (ROOT / "etc/rtdeliver.1").read_text().replace("\\-", "-")
        for command in COMMANDS:
            self.assertIn(f"COMMAND \\fI\\,'rtdeliver {command.NAME}'", manual)
            usage = rtdeliver(command.NAME, "--help").output
            for option in set(re.findall(r"--[a-z-]+", usage)) - {"--help"}:
                self.assertIn(option, manual, "make format writes it anew")

    def test_a_wrong_option_is_one_line(self) -> None:
        for arguments in ((), ("nothing",), ("publish", "topic"), ("watch", "--what")):
            self.assert_fails(rtdeliver(*arguments), "rtdeliver")

    def test_the_version_is_told(self) -> None:
        self.assertRegex(rtdeliver("--version").output, r"^rtdeliver \d+\.\d+\.\d+\n$")

    def test_a_shell_completes_commands_options_and_their_values(self) -> None:
        script = rtdeliver("--print-completion", "bash").output
        for words, expected in (
            (["che"], ["check-config"]),
            (["check-config", "--ro"], ["--role"]),
            (["check-config", "--role", "rtf"], ["rtfrontend"]),
            (["nothing", "x"], []),
        ):
            ask = (
                f"COMP_WORDS=(rtdeliver {' '.join(words)}); COMP_CWORD={len(words)};"
                ' _shtab_rtdeliver; echo "${COMPREPLY[@]}"'
            )
            found = subprocess.run(
                ["bash", "--norc", "-c", f"{script}\n{ask}"],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            self.assertEqual(found.stdout.split(), expected)

    def test_the_default_settings_are_printed_and_right(self) -> None:
        text = rtdeliver("default-config").output
        self.assertEqual(tomllib.loads(text)["viewers"]["topics"], Viewers().topics)
        path = self.file("rtdeliver.toml", text)
        self.assertEqual(rtdeliver("check-config", path), Ended(0, f"{path} is right\n", ""))

    def test_wrong_settings_are_named_with_what_would_be_right(self) -> None:
        path = self.file("rtdeliver.toml", "[viewers]\nheartbeat = 5\n")
        self.assert_fails(rtdeliver("check-config", path), path, "heartbeat_seconds")
        self.assert_fails(rtdeliver("check-config", "nowhere.toml"), "No such file")

    def test_settings_are_right_for_a_role_that_can_start_with_them(self) -> None:
        secret = self.file("secret", "s3cret")
        path = self.file(
            "rtdeliver.toml",
            f"""
            node.dispatchers = ["http://127.0.0.1:8090"]
            likes.frontend = "http://localhost:8080"
            redis.urls = ["redis://10.0.0.4"]
            listeners.internal = "systemd:domain=INET:index=0"
            access.secret_file = "{secret}"
            """,
        )
        before = sorted(Path(path).parent.iterdir())
        for role in ("rtcombined", "rtdispatcher", "rtfrontend", "rtlatency", "rtlikes"):
            self.assertEqual(
                rtdeliver("check-config", path, "--role", role),
                Ended(0, f"{path} is right for {role}\n", ""),
            )
        self.assertEqual(sorted(Path(path).parent.iterdir()), before)

    def test_what_a_role_lacks_is_named(self) -> None:
        for role, text, why in (
            ("rtfrontend", "", "node.dispatchers"),
            ("rtlatency", "", "redis.urls"),
            ("rtlikes", "", "node.dispatchers"),
            ("rtdispatcher", 'access.secret_file = "/nowhere/secret"', "/nowhere/secret"),
            (
                "rtcombined",
                'listeners.public = "tpc:80"',
                "public: tpc:80 is not a",
            ),
            ("rtcombined", 'listeners.app = "tcp:http"', "app: tcp:http is not a"),
        ):
            path = self.file("rtdeliver.toml", text)
            self.assertEqual(rtdeliver("check-config", path).status, 0)
            self.assert_fails(rtdeliver("check-config", path, "--role", role), why)
        self.assert_fails(rtdeliver("check-config", path, "--role", "nothing"), "rtcombined")

    def test_a_token_is_made_and_explained(self) -> None:
        path = self.file("key", KEY)
        token = rtdeliver("token", "ann", "--key-file", path, "--seconds", "60").output.strip()
        self.assertEqual(jwt.decode(token, KEY, algorithms=["HS256"])["sub"], "ann")
        told = rtdeliver("explain-token", token, "--key-file", path).output
        self.assertIn('"sub": "ann"', told)
        self.assertTrue(re.search(r"valid for ann, for (59|60) s more", told), told)

    def test_a_token_says_what_may_be_watched(self) -> None:
        key = self.file("key", KEY)
        made = rtdeliver(
            *("token", "--key-file", key, "--subscribe", "conv:ann:*", "--subscribe", "live:*"),
            *("--topic", "inbox:ann"),
        )
        claims = jwt.decode(made.output.strip(), KEY, algorithms=["HS256"])
        del claims["exp"]
        self.assertEqual(claims, {"subscribe": ["conv:ann:*", "live:*"], "topics": ["inbox:ann"]})
        explained = rtdeliver("explain-token", made.output.strip(), "--key-file", key)
        self.assertIn("valid for anybody", explained.output)

    def test_a_token_that_is_refused_is_explained_all_the_same(self) -> None:
        path = self.file("key", KEY)
        token = rtdeliver("token", "ann", "--key-file", path, "--seconds", "-1").output.strip()
        ended = rtdeliver("explain-token", token, "--key-file", path)
        self.assertEqual(ended.status, 1)
        self.assertIn('"sub": "ann"', ended.output)
        self.assertIn("exp", ended.complaint)
        self.assertIn('"sub"', rtdeliver("explain-token", token).output)

    def test_what_is_wrong_with_a_token_or_its_key_is_told(self) -> None:
        self.assert_fails(rtdeliver("explain-token", "x"), "no JSON Web Token")
        self.assert_fails(rtdeliver("token", "ann", "--key-file", "nowhere"), "nowhere")
        self.assert_fails(
            rtdeliver("token", "", "--key-file", self.file("key", KEY)), "a member must be"
        )

    def test_a_server_that_is_not_there_is_one_line(self) -> None:
        for arguments in (("publish", "t", "1"), ("watch", "t")):
            for url in ("http://127.0.0.1:9", "nonsense", "http://[", "ftp://h"):
                self.assert_fails(rtdeliver(*arguments, "--url", url), url)
