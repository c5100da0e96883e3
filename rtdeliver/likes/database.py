"""The SQLite file of the live-video app: opens it, upgrades its schema, runs transactions."""

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
"""The steps from an empty file to the current schema. ``user_version`` counts those taken."""


class Database:
    """Runs transactions one after the other, in a thread of their own.

    SQLite allows one writer at a time. With a single thread, no transaction waits for a lock of
    another, and they run in the order of the calls.
    """

    def __init__(self, *, settings: LikesDatabase, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._pool: ConnectionPool | None = None
        self._waiting = 0

    def open(self) -> None:
        """Upgrade the file to the current schema, and accept transactions.

        :raises ConfigError: if the file cannot be opened or upgraded.
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
        """Finish the waiting transactions, and accept no further ones."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.close()

    @property
    def waiting(self) -> int:
        """How many transactions are waiting or running."""
        return self._waiting

    def run(self, transaction: Callable[[Any], T]) -> Deferred[T]:
        """Call ``transaction`` with a cursor, in the thread; fires with what it returns.

        Its changes are kept only if it returns. Fails with the exception that it raises, or with
        `Unavailable` if the database cannot be used now.
        """
        if self._pool is None:
            return fail(Unavailable("the database is closed"))
        if self._waiting >= self._settings.waiting:
            return fail(Unavailable("too many requests are waiting for the database"))
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
    """Open a file without checking its schema."""
    return sqlite3.connect(path, timeout=busy_seconds, check_same_thread=False)


def upgrade(connection: sqlite3.Connection) -> None:
    """Take the steps that the file lacks: all of them, or none.

    :raises ConfigError: if the file has more steps than this program knows; it is left unchanged.
    """
    _missing_steps(connection)
    # With WAL, readers do not wait for a writer. The file keeps this mode.
    connection.execute("PRAGMA journal_mode = WAL")
    with connection:
        # A process that starts at the same time waits here, and then finds no step to take.
        connection.execute("BEGIN IMMEDIATE")
        for step in _missing_steps(connection):
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(SCHEMA)}")


def _missing_steps(connection: sqlite3.Connection) -> Sequence[str]:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version > len(SCHEMA):
        raise ConfigError(
            f"its schema has version {version}; this program knows versions up to {len(SCHEMA)}"
        )
    return SCHEMA[version:]


def _prepare(connection: sqlite3.Connection) -> None:
    # With WAL, a crash of the process loses nothing. A crash of the machine may lose the last
    # transactions.
    connection.execute("PRAGMA synchronous = NORMAL")
