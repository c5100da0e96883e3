"""The SQLite file of the live-video app: how it is made, upgraded, written, and opened again."""

import errno
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from rtdeliver.errors import ConfigError
from rtdeliver.likes.statements import read_sql

T = TypeVar("T")

SCHEMA = (read_sql("schema_1"), read_sql("schema_2"))
"""The steps from an empty file to the current schema. ``user_version`` counts those taken."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# Primary result codes of failures that come from outside and last (https://sqlite.org/rescode.html).
_LASTING = {
    *_DAMAGED,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
_NO_DATABASE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB}
_NO_PLACE = {
    *(errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.ENOENT, errno.ENOTDIR, errno.EPERM),
}


class Unusable(Exception):
    """The file cannot be used until something outside this process changes; says why."""


class NoDatabase(Unusable):
    """There is no database at the path, nor can one be made there: perhaps the path is wrong."""


class StatementFailed(Exception):
    """A statement failed, though the file can be used; says why."""


class DatabaseFile:
    """One connection to the file. A failure that lasts closes it, and `check` opens it again.

    One thread at a time may use it.

    :param path: the file.
    :param busy_seconds: how long to wait for another process that has locked the file.
    """

    def __init__(self, path: str, *, busy_seconds: float) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._damaged = False

    def check(self) -> None:
        """Open the file if it is not open, upgrade its schema, and write to it.

        :raises Unusable: if that is not possible now; `NoDatabase` if the path may be wrong.
        :raises ConfigError: if the schema is one that this program does not know.
        """
        try:
            if self._connection is None:
                self._open()
            connection = self._same_file()
            upgrade(connection)
            if self._damaged:
                _examine(connection)
                self._damaged = False
        except (OSError, sqlite3.Error) as error:
            self.close()
            self._raise_if_lasting(error)
            # Tables of another program are in the way.
            raise ConfigError(str(error)) from error
        except Exception:
            self.close()
            raise

    def run(self, transaction: Callable[[Any], T]) -> T:
        """Return what ``transaction`` returns; its changes are kept only if it returns.

        :raises Unusable: if the file is not open or cannot be used any more; it is closed then.
        :raises StatementFailed: if SQLite refuses a statement.
        """
        try:
            with self._same_file() as connection:
                return transaction(connection.cursor())
        except (OSError, sqlite3.Error) as error:
            self._raise_if_lasting(error)
            raise StatementFailed(str(error)) from error

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):
                connection.close()

    def _open(self) -> None:
        _make(self._path)
        # SQLite opens a file for reading alone if it has to, and gives the files that it makes
        # beside it the same mode: these would be in the way once the file may be written.
        if not os.access(self._path, os.R_OK | os.W_OK, effective_ids=True):
            raise Unusable("this process may not read and write the file")
        self._connection = connect(self._path, busy_seconds=self._busy_seconds)
        self._identity = _identity(self._path)
        # With WAL, a crash of the process loses nothing. A crash of the machine may lose the last
        # transactions.
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def _same_file(self) -> sqlite3.Connection:
        if self._connection is None:
            raise Unusable("it is not open")
        # SQLite would go on writing to a file that nobody can open any more.
        try:
            if _identity(self._path) != self._identity:
                raise Unusable("the file was replaced")
        except (OSError, Unusable):
            self._leave(self._connection)
            raise
        return self._connection

    def _leave(self, connection: sqlite3.Connection) -> None:
        # The new file must not get what the log beside it still has of the old one. A file that
        # was moved takes all of it along.
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.close()

    def _raise_if_lasting(self, error: Exception) -> None:
        code = getattr(error, "sqlite_errorcode", 0)
        if isinstance(error, OSError):
            why = f"unable to open database file: {error.strerror}"
        # A transaction whose view is outdated succeeds when it is tried again.
        elif code & 0xFF in _LASTING and code != sqlite3.SQLITE_BUSY_SNAPSHOT:
            why = str(error)
        else:
            return
        self._damaged = self._damaged or code & 0xFF in _DAMAGED
        self.close()
        is_none = code & 0xFF in _NO_DATABASE or getattr(error, "errno", 0) in _NO_PLACE
        raise (NoDatabase if is_none else Unusable)(why) from error


def connect(path: str, *, busy_seconds: float) -> sqlite3.Connection:
    """Open a file without checking its schema."""
    return sqlite3.connect(path, timeout=busy_seconds, check_same_thread=False)


def upgrade(connection: sqlite3.Connection) -> None:
    """Take the steps that the file lacks: all of them, or none.

    This writes to the file in any case, so it fails if the file cannot be written.

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


def _make(path: str) -> None:
    """Make an empty file that only its owner may read, unless the file exists.

    SQLite gives the files beside it the same mode.
    """
    # An existing file must not be opened and closed here: that would release SQLite's locks of this
    # process (https://sqlite.org/howtocorrupt.html, 2.2).
    with suppress(FileExistsError):
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _examine(connection: sqlite3.Connection) -> None:
    [(verdict,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if verdict != "ok":
        raise Unusable("database disk image is malformed")
