"""Tests of rtdeliver.likes.database, on SQLite files."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from rtdeliver.config.sections import LikesDatabase
from rtdeliver.errors import ConfigError, NotFound, Unavailable
from rtdeliver.likes.database import Database
from rtdeliver.likes.database_file import SCHEMA
from tests.likes.test_database_file import TABLES, FolderTestCase

CHECK_SECONDS = 3
NO_FOLDER = "unable to open database file: No such file or directory"


class PatientReactor(Clock):
    """Starts when the test says, and calls what threads ask for when the test listens."""

    def __init__(self) -> None:
        super().__init__()
        self._first: list[Callable[[], object]] = []
        self._calls: list[Callable[[], object]] = []

    def start(self) -> None:
        while self._first:
            self._first.pop(0)()

    def listen(self) -> bool:
        """Return whether any thread asked for a call."""
        asked = bool(self._calls)
        while self._calls:
            self._calls.pop(0)()
        return asked

    def callWhenRunning(self, call: Callable[..., object], *args: object) -> object:
        trigger = partial(call, *args)
        self._first.append(trigger)
        return trigger

    def callFromThread(self, call: Callable[..., object], *args: object) -> None:
        self._calls.append(lambda: call(*args))

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[[], object]) -> object:
        return call

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        if trigger in self._first:
            self._first.remove(trigger)


class DatabaseTestCase(FolderTestCase):
    """Has a database, which takes two calls at a time."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = PatientReactor()
        self.database = self.database_at(self.path)

    def database_at(self, path: str) -> Database:
        return Database(
            settings=LikesDatabase(
                path=path, busy_seconds=0, check_seconds=CHECK_SECONDS, waiting=2
            ),
            reactor=self.reactor,
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


class MissingTests(DatabaseTestCase):
    """Its folder is missing, and there again."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.database.close)
        self.folder = Path(self.path).parent
        self.away = Path(f"{self.folder}.away")

    def open(self) -> None:
        self.database.open()
        self.reactor.start()

    def pass_time(self, checks: int = 1) -> None:
        """Let so many checks pass, and hear what came of them and of all calls before."""
        for _ in range(checks):
            self.reactor.advance(CHECK_SECONDS)
            self.hear()

    def hear(self) -> None:
        """Wait for what the thread says next of checks and transactions."""
        deadline = time.monotonic() + 60
        while not self.reactor.listen():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.001)

    def assert_missing(self) -> None:
        [missing] = self.database.missing()
        self.assertEqual(missing, f"the database {self.path} cannot be used: {NO_FOLDER}")

    def test_one_that_is_not_open_is_missing(self) -> None:
        [missing] = self.database.missing()
        self.assertIn("it is not open", missing)

    def test_one_that_can_be_used_is_not_missing(self) -> None:
        self.open()
        self.assertEqual(self.database.missing(), [])
        self.pass_time(3)
        self.assertEqual(self.database.missing(), [])

    def test_a_file_that_is_locked_does_not_stop_the_start_and_is_used_once_it_is_not(self) -> None:
        other = self.connect()
        other.execute("BEGIN IMMEDIATE")
        self.open()
        self.assertIn("locked", self.database.missing()[0])
        self.failureResultOf(self.database.run(len), Unavailable)
        self.pass_time()
        self.assertIn("locked", self.database.missing()[0])
        other.rollback()
        self.pass_time()
        self.assertEqual(self.database.missing(), [])
        self.assertEqual(self.tables(), TABLES)

    def test_a_check_notices_it_and_calls_fail_at_once_until_a_check_succeeds(self) -> None:
        self.open()
        self.folder.rename(self.away)
        self.pass_time()
        self.assert_missing()
        failure = self.failureResultOf(self.database.run(len), Unavailable)
        self.assertEqual(failure.value.message, "the database cannot be used now")
        self.away.rename(self.folder)
        self.failureResultOf(self.database.run(len), Unavailable)
        self.pass_time()
        answer = self.database.run(lambda _: "done")
        self.hear()
        self.assertEqual(self.successResultOf(answer), "done")

    def test_a_call_notices_it_and_those_behind_it_fail_as_well(self) -> None:
        self.database.open()
        self.folder.rename(self.away)
        answers = [self.database.run(len) for _ in range(2)]
        self.reactor.start()
        while self.database.waiting:
            self.hear()
        for answer in answers:
            self.failureResultOf(answer, Unavailable)
        self.assert_missing()
        self.assertEqual(self.database.waiting, 0)

    def test_it_is_logged_once_when_it_is_missing_and_once_when_it_is_back(self) -> None:
        self.open()
        with capturedLogs() as logs:
            self.folder.rename(self.away)
            self.pass_time(3)
            self.away.rename(self.folder)
            self.pass_time(3)
        lines = [formatEvent(event) for event in logs if "database" in formatEvent(event)]
        self.assertEqual(
            lines,
            [
                f"the database {self.path} cannot be used: {NO_FOLDER}",
                f"the database {self.path} can be used again",
            ],
        )

    def test_a_schema_that_became_newer_is_missing(self) -> None:
        self.open()
        self.execute(f"PRAGMA user_version = {len(SCHEMA) + 1}")
        self.pass_time()
        self.assertIn("its schema has version", self.database.missing()[0])

    def test_after_a_close_it_is_not_checked(self) -> None:
        self.open()
        self.database.close()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
