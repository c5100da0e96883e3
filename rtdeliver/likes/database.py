"""The SQLite file of the live-video app: opened, brought to the schema of today, and asked."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from rtdeliver.config.sections import LikesDatabase
from rtdeliver.errors import ConfigError, Unavailable
from rtdeliver.likes.statements import read_sql

T = TypeVar("T")

log = Logger()

SCHEMA = (read_sql("schema_1"),)
"""The steps from an empty file to the schema of today; ``user_version`` counts those taken."""


class Database:
    """Runs transactions one after the other, in a thread of their own.

    SQLite has one writer at a time; one thread needs no lock to wait for, and keeps the order.
    """

    def __init__(self, *, settings: LikesDatabase, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._pool: ConnectionPool | None = None
        self._waiting = 0

    def open(self) -> None:
        """Bring the file to the schema of today, and take calls.

        :raises ConfigError: if that cannot be.
        """
        settings = self._settings
        try:
            with closing(connect(settings.path, busy_seconds=settings.busy_seconds)) as connection:
                upgrade(connection)
        except (sqlite3.Error, ConfigError) as error:
            raise ConfigError(f"database {settings.path}: {error}") from None
        self._pool = ConnectionPool(
            "sqlite3",
            settings.path,
            timeout=settings.busy_seconds,
            check_same_thread=False,
            cp_min=1,
            cp_max=1,
            cp_openfun=_prepare,
            cp_reactor=self._reactor,
        )

    def close(self) -> None:
        """Finish what waits, and take no further calls."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.close()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn, or are under way."""
        return self._waiting

    def run(self, transaction: Callable[[Any], T]) -> Deferred[T]:
        """Fires with what ``transaction`` returns, which is given a cursor in another thread.

        All of it is kept, or nothing where it raises an exception. Fails with `Unavailable` if the
        database cannot be used now.
        """
        if self._pool is None:
            return fail(Unavailable("the database is closed"))
        if self._waiting >= self._settings.waiting:
            return fail(Unavailable("too much waits for the database"))
        self._waiting += 1
        answer: Deferred[T] = self._pool.runInteraction(transaction)
        return answer.addBoth(self._ran)

    def _ran(self, result: T | Failure) -> T | Failure:
        self._waiting -= 1
        if isinstance(result, Failure) and result.check(sqlite3.Error):
            log.error("the database failed: {e}", e=result.value)
            return Failure(Unavailable("the database cannot be used now"))
        return result


def connect(path: str, *, busy_seconds: float) -> sqlite3.Connection:
    """Open a file, whatever is in it."""
    return sqlite3.connect(path, timeout=busy_seconds, check_same_thread=False)


def upgrade(connection: sqlite3.Connection) -> None:
    """Take the steps that the file lacks: all of them, or none.

    :raises ConfigError: if it has more than are known here; the file is left as it is.
    """
    _missing_steps(connection)
    # Readers wait for no writer then; it is kept in the file.
    connection.execute("PRAGMA journal_mode = WAL")
    with connection:
        # Whoever starts at the same time waits here, and then finds nothing to do.
        connection.execute("BEGIN IMMEDIATE")
        for step in _missing_steps(connection):
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(SCHEMA)}")


def _missing_steps(connection: sqlite3.Connection) -> Sequence[str]:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version > len(SCHEMA):
        raise ConfigError(f"its schema has version {version}, and this program knows {len(SCHEMA)}")
    return SCHEMA[version:]


def _prepare(connection: sqlite3.Connection) -> None:
    # With WAL, a crash of the process loses nothing; one of the machine perhaps the last moments.
    connection.execute("PRAGMA synchronous = NORMAL")
