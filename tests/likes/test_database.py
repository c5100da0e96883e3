"""Tests of rtdeliver.likes.database, on SQLite files."""

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import LikesDatabase
from rtdeliver.errors import ConfigError, NotFound, Unavailable
from rtdeliver.likes.database import SCHEMA, Database, connect, upgrade

TABLES = {"members", "likes", "likes_by_minute", "comments", "messages"}


class PatientReactor:
    """Starts when the test says, and calls what threads ask for when the test listens."""

    def __init__(self) -> None:
        self._first: list[Callable[[], object]] = []
        self._calls: list[Callable[[], object]] = []

    def start(self) -> None:
        while self._first:
            self._first.pop(0)()

    def listen(self) -> None:
        while self._calls:
            self._calls.pop(0)()

    def callWhenRunning(self, call: Callable[[], object]) -> object:
        self._first.append(call)
        return call

    def callFromThread(self, call: Callable[..., object], *args: object) -> None:
        self._calls.append(lambda: call(*args))

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[[], object]) -> object:
        return call

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        if trigger in self._first:
            self._first.remove(trigger)


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


class DatabaseTestCase(FolderTestCase):
    """Has a database, which takes two calls at a time."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = PatientReactor()
        self.database = self.database_at(self.path)

    def database_at(self, path: str) -> Database:
        return Database(
            settings=LikesDatabase(path=path, busy_seconds=0, waiting=2), reactor=self.reactor
        )


class OpenTests(DatabaseTestCase):
    def complaint(self, path: str) -> str:
        return str(self.assertRaises(ConfigError, self.database_at(path).open))

    def test_a_file_is_made_where_there_is_none(self) -> None:
        self.database.open()
        self.addCleanup(self.database.close)
        self.assertEqual(self.tables(), TABLES)

    def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(self) -> None:
        Path(self.path).write_text("Dear diary, " * 100)
        self.assertEqual(self.complaint(self.path), f"database {self.path}: file is not a database")
        self.assertEqual(Path(self.path).read_text(), "Dear diary, " * 100)

    def test_a_folder_that_is_not_there_is_refused(self) -> None:
        path = f"{self.path}/none/live.sqlite"
        self.assertIn(f"database {path}: unable to open", self.complaint(path))

    def test_a_schema_that_is_newer_is_refused(self) -> None:
        self.execute(f"PRAGMA user_version = {len(SCHEMA) + 1}")
        self.assertIn("schema", self.complaint(self.path))

    def test_a_database_of_another_program_is_refused(self) -> None:
        self.execute("CREATE TABLE messages (recipe TEXT)")
        self.assertIn(f"database {self.path}: table messages", self.complaint(self.path))

    def test_one_that_was_refused_takes_no_calls(self) -> None:
        database = self.database_at(f"{self.path}/none/live.sqlite")
        self.assertRaises(ConfigError, database.open)
        self.failureResultOf(database.run(len), Unavailable)


class WaitingTests(DatabaseTestCase):
    """A reactor that has not started has no threads yet, so that all calls wait."""

    def setUp(self) -> None:
        super().setUp()
        self.ran: list[str] = []

    def note(self, text: str) -> Deferred[None]:
        return self.database.run(lambda _: self.ran.append(text))

    def test_one_that_is_not_open_takes_no_calls(self) -> None:
        failure = self.failureResultOf(self.note("early"), Unavailable)
        self.assertIn("closed", failure.value.message)

    def test_one_that_was_closed_takes_no_calls(self) -> None:
        self.database.open()
        self.database.close()
        failure = self.failureResultOf(self.note("late"), Unavailable)
        self.assertIn("closed", failure.value.message)

    def test_it_can_be_closed_twice_and_without_having_been_open(self) -> None:
        self.database.close()
        self.database.open()
        self.database.close()
        self.database.close()

    def test_no_more_calls_wait_than_so_many(self) -> None:
        self.database.open()
        self.addCleanup(self.database.close)
        first, second = self.note("first"), self.note("second")
        failure = self.failureResultOf(self.note("third"), Unavailable)
        self.assertIn("too many requests are waiting", failure.value.message)
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.assertEqual(self.ran, [])


class RunTests(DatabaseTestCase):
    """Its thread is a real one; a close waits for what it does."""

    def setUp(self) -> None:
        super().setUp()
        self.database.open()
        self.reactor.start()
        self.addCleanup(self.database.close)

    def finish(self) -> None:
        """Let the thread do all that there is to do, and hear what came of it."""
        self.database.close()
        self.reactor.listen()

    def join(self, name: str) -> Deferred[Any]:
        return self.database.run(
            lambda cursor: cursor.execute("INSERT INTO members VALUES (?, 1, 1)", (name,)) and None
        )

    def members(self) -> list[str]:
        return [name for (name,) in self.execute("SELECT name FROM members ORDER BY name")]

    def test_a_transaction_is_kept_and_its_result_told(self) -> None:
        def transaction(cursor: Any) -> int:
            cursor.execute("INSERT INTO members VALUES ('ann', 1, 1)")
            return int(cursor.rowcount)

        answer = self.database.run(transaction)
        self.finish()
        self.assertEqual(self.successResultOf(answer), 1)
        self.assertEqual(self.members(), ["ann"])

    def test_a_close_lets_all_finish_that_waits(self) -> None:
        answers = [self.join("ann"), self.join("bob")]
        self.finish()
        for answer in answers:
            self.successResultOf(answer)
        self.assertEqual(self.members(), ["ann", "bob"])

    def test_of_a_transaction_that_raises_nothing_is_kept(self) -> None:
        def transaction(cursor: Any) -> None:
            cursor.execute("INSERT INTO members VALUES ('ann', 1, 1)")
            raise NotFound("nobody is called so")

        answer = self.database.run(transaction)
        after = self.join("bob")
        self.finish()
        self.failureResultOf(answer, NotFound)
        self.successResultOf(after)
        self.assertEqual(self.members(), ["bob"])

    def test_a_failure_of_the_database_is_told_as_one_that_passes(self) -> None:
        other = self.connect()
        other.execute("BEGIN IMMEDIATE")
        answer = self.join("ann")
        self.finish()
        failure = self.failureResultOf(answer, Unavailable)
        self.assertNotIn("locked", failure.value.message)
        other.rollback()
        self.assertEqual(self.members(), [])

    def test_calls_that_have_an_answer_wait_no_more(self) -> None:
        answers = [self.join("ann"), self.join("ann")]
        self.failureResultOf(self.join("eve"), Unavailable)
        self.finish()
        self.successResultOf(answers[0])
        self.failureResultOf(answers[1], Unavailable)
        self.database.open()
        self.reactor.start()
        answers = [self.join("bob"), self.join("eve")]
        self.finish()
        for answer in answers:
            self.successResultOf(answer)
