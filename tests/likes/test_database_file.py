"""Tests of rtdeliver.likes.database_file, on SQLite files."""

import os
import resource
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import ConfigError, NotFound
from rtdeliver.likes.database_file import (
    SCHEMA,
    DatabaseFile,
    StatementFailed,
    Unusable,
    connect,
    upgrade,
)

TABLES = {"members", "likes", "likes_by_minute", "comments", "messages", "bans"}


class FolderTestCase(SynchronousTestCase):
    """Has a folder for a database."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = str(Path(folder.name) / "live.sqlite")

    def connect(self, *, busy_seconds: float = 0) -> sqlite3.Connection:
        connection = connect(self.path, busy_seconds=busy_seconds)
        self.addCleanup(connection.close)
        return connection

    def execute(self, statement: str) -> list[Any]:
        """What a process that knows nothing of ours gets from the file."""
        connection = sqlite3.connect(self.path)
        try:
            with connection:
                return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def tables(self) -> set[str]:
        rows = self.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows} - {"sqlite_sequence"}

    def version(self) -> int:
        [(version,)] = self.execute("PRAGMA user_version")
        return int(version)


class UpgradeTests(FolderTestCase):
    def test_an_empty_file_gets_the_schema_of_today(self) -> None:
        upgrade(self.connect())
        self.assertEqual(self.tables(), TABLES)
        self.assertEqual(self.version(), len(SCHEMA))

    def test_a_file_that_has_it_is_left_as_it_is(self) -> None:
        upgrade(self.connect())
        self.execute("INSERT INTO members VALUES ('ann', 1, 2)")
        upgrade(self.connect())
        self.assertEqual(self.execute("SELECT * FROM members"), [("ann", 1, 2)])
        self.assertEqual(self.version(), len(SCHEMA))

    def test_a_schema_that_is_newer_is_refused_and_left_as_it_is(self) -> None:
        self.execute(f"PRAGMA user_version = {len(SCHEMA) + 1}")
        error = self.assertRaises(ConfigError, upgrade, self.connect())
        self.assertIn(f"has version {len(SCHEMA) + 1}", str(error))
        self.assertEqual(self.tables(), set())
        self.assertEqual(self.version(), len(SCHEMA) + 1)

    def test_a_step_that_fails_leaves_nothing_behind(self) -> None:
        """The last table is there already, of some other program."""
        self.execute("CREATE TABLE messages (recipe TEXT)")
        self.assertRaises(sqlite3.Error, upgrade, self.connect())
        self.assertEqual(self.tables(), {"messages"})
        self.assertEqual(self.version(), 0)

    def test_one_that_finds_another_at_it_waits_and_then_has_nothing_to_do(self) -> None:
        first, second = self.connect(), self.connect()
        first.execute("BEGIN IMMEDIATE")
        error = self.assertRaises(sqlite3.OperationalError, upgrade, second)
        self.assertIn("locked", str(error))
        first.rollback()
        upgrade(first)
        upgrade(second)
        self.assertEqual(self.tables(), TABLES)
        self.assertEqual(self.version(), len(SCHEMA))

    def test_nobody_else_can_be_at_it_once_it_has_looked_what_there_is_to_do(self) -> None:
        first, second = self.connect(), self.connect()
        found: list[str] = []

        def try_too(statement: str) -> None:
            if "user_version" in statement:
                try:
                    second.execute("BEGIN IMMEDIATE")
                    second.rollback()
                except sqlite3.OperationalError as error:
                    found.append(str(error))

        first.set_trace_callback(try_too)
        upgrade(first)
        self.assertEqual(found, ["database is locked"] * 2)

    def test_readers_do_not_wait_for_the_writer(self) -> None:
        writer, reader = self.connect(), self.connect()
        upgrade(writer)
        self.assertEqual(self.execute("PRAGMA journal_mode"), [("wal",)])
        writer.execute("INSERT INTO members VALUES ('ann', 1, 2)")
        self.assertEqual(reader.execute("SELECT * FROM members").fetchall(), [])
        writer.commit()
        self.assertEqual(len(reader.execute("SELECT * FROM members").fetchall()), 1)


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process be written: what a write says on a full disk, or nearly."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FileTestCase(FolderTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = DatabaseFile(self.path, busy_seconds=0)
        self.addCleanup(self.file.close)

    def join(self, name: str) -> None:
        self.file.run(
            lambda cursor: cursor.execute("INSERT INTO members VALUES (?, 1, 1)", (name,))
        )

    def members(self) -> list[str]:
        return [name for (name,) in self.execute("SELECT name FROM members ORDER BY name")]

    def assert_unusable(self, why: str) -> None:
        """Neither a transaction nor a check goes, and both say why."""
        self.assertIn(why, str(self.assertRaises(Unusable, self.join, "eve")))
        self.assertIn(why, str(self.assertRaises(Unusable, self.file.check)))
        self.assertRaises(Unusable, self.join, "eve")

    def assert_usable_again(self) -> None:
        self.file.check()
        self.join("bob")
        self.assertEqual(self.members(), ["ann", "bob"])


class ModeTests(FileTestCase):
    def modes(self) -> dict[str, int]:
        folder = Path(self.path).parent
        return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}

    def test_its_files_are_for_their_owner_only_whatever_the_umask(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        self.file.check()
        self.join("ann")
        self.assertEqual(
            self.modes(),
            dict.fromkeys(["live.sqlite", "live.sqlite-wal", "live.sqlite-shm"], 0o600),
        )

    def test_a_file_that_exists_keeps_its_mode(self) -> None:
        Path(self.path).touch()
        os.chmod(self.path, 0o640)
        self.file.check()
        self.join("ann")
        self.assertEqual(set(self.modes().values()), {0o640})

    def test_a_link_to_no_file_makes_one_for_its_owner_only(self) -> None:
        target = f"{self.path}.target"
        os.symlink(target, self.path)
        self.addCleanup(os.umask, os.umask(0))
        self.file.check()
        self.assertEqual(stat.S_IMODE(os.stat(target).st_mode), 0o600)


class RunTests(FileTestCase):
    def test_a_file_that_was_not_checked_takes_no_transactions(self) -> None:
        self.assertRaises(Unusable, self.join, "ann")

    def test_a_transaction_that_raises_changes_nothing_and_closes_nothing(self) -> None:
        def transaction(cursor: Any) -> None:
            cursor.execute("INSERT INTO members VALUES ('eve', 1, 1)")
            raise NotFound("nobody is called so")

        self.file.check()
        self.assertRaises(NotFound, self.file.run, transaction)
        self.join("ann")
        self.assertEqual(self.members(), ["ann"])

    def test_a_statement_that_is_refused_closes_nothing(self) -> None:
        self.file.check()
        self.join("ann")
        self.assertRaises(StatementFailed, self.join, "ann")
        self.join("bob")


class OutdatedTests(FileTestCase):
    def test_a_transaction_that_was_overtaken_fails_and_closes_nothing(self) -> None:
        """It has read before another process wrote, so it may not write any more."""
        self.file.check()
        other = self.connect()

        def transaction(cursor: Any) -> None:
            cursor.execute("BEGIN")
            cursor.execute("SELECT * FROM members").fetchall()
            other.execute("INSERT INTO members VALUES ('bob', 1, 1)")
            other.commit()
            cursor.execute("INSERT INTO members VALUES ('ann', 1, 1)")

        self.assertRaises(StatementFailed, self.file.run, transaction)
        self.join("cyd")
        self.assertEqual(self.members(), ["bob", "cyd"])


class UnusableTests(FileTestCase):
    """Each closes the file; a check opens it again when it can be used."""

    def setUp(self) -> None:
        super().setUp()
        self.file.check()
        self.join("ann")

    def test_while_another_process_has_locked_it(self) -> None:
        other = self.connect()
        other.execute("BEGIN IMMEDIATE")
        self.assert_unusable("locked")
        other.rollback()
        self.assert_usable_again()

    def test_while_the_disk_is_full(self) -> None:
        with full_disk():
            self.assert_unusable("disk I/O error")
        self.assert_usable_again()

    def test_a_check_notices_a_full_disk_without_any_transaction(self) -> None:
        with full_disk():
            self.assertRaises(Unusable, self.file.check)
        self.assert_usable_again()

    def test_while_its_folder_is_missing(self) -> None:
        folder = Path(self.path).parent
        folder.rename(f"{folder}.away")
        self.assert_unusable("unable to open database file: No such file or directory")
        Path(f"{folder}.away").rename(folder)
        self.assert_usable_again()

    def test_a_file_that_was_removed_is_written_no_more_and_made_again(self) -> None:
        os.unlink(self.path)
        self.assertRaises(Unusable, self.join, "eve")
        self.file.check()
        self.join("bob")
        self.assertEqual(self.members(), ["bob"])

    def test_a_file_that_was_replaced_is_written_no_more_and_the_new_one_opened(self) -> None:
        other = DatabaseFile(f"{self.path}.other", busy_seconds=0)
        other.check()
        other.close()
        os.replace(f"{self.path}.other", self.path)
        self.assertIn("replaced", str(self.assertRaises(Unusable, self.join, "eve")))
        self.file.check()
        self.join("bob")
        self.assertEqual(self.members(), ["bob"])

    def test_a_file_that_was_moved_takes_all_along(self) -> None:
        os.rename(self.path, f"{self.path}.old")
        self.assertRaises(Unusable, self.join, "eve")
        os.rename(f"{self.path}.old", self.path)
        self.assert_usable_again()

    def test_while_it_is_no_database(self) -> None:
        self.file.close()
        kept = Path(self.path).read_bytes()
        Path(self.path).write_text("Dear diary, " * 100)
        self.assertIn("not a database", str(self.assertRaises(Unusable, self.file.check)))
        self.assertEqual(Path(self.path).read_text(), "Dear diary, " * 100)
        Path(self.path).write_bytes(kept)
        self.assert_usable_again()

    def test_while_a_page_of_it_is_damaged(self) -> None:
        """Its first page is as it should be, so that only whoever reads the other notices."""
        self.file.close()
        kept = Path(self.path).read_bytes()
        [(page,)] = self.execute("SELECT rootpage FROM sqlite_master WHERE name = 'members'")
        size = 4096
        damaged = kept[: (page - 1) * size] + b"\xff" * size + kept[page * size :]
        Path(self.path).write_bytes(damaged)
        self.file.check()
        self.assertIn("malformed", str(self.assertRaises(Unusable, self.join, "eve")))
        self.assertIn("malformed", str(self.assertRaises(Unusable, self.file.check)))
        self.assertIn("malformed", str(self.assertRaises(Unusable, self.file.check)))
        Path(self.path).write_bytes(kept)
        self.assert_usable_again()


class SchemaTests(FileTestCase):
    def test_a_schema_that_is_newer_is_refused(self) -> None:
        self.execute(f"PRAGMA user_version = {len(SCHEMA) + 1}")
        self.assertRaises(ConfigError, self.file.check)

    def test_a_database_of_another_program_is_refused(self) -> None:
        self.execute("CREATE TABLE messages (recipe TEXT)")
        self.assertIn("messages", str(self.assertRaises(ConfigError, self.file.check)))
