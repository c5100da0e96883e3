"""The database of the live-video app: runs transactions, and says whether it can be used."""

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from rtdeliver.config.sections import LikesDatabase
from rtdeliver.errors import ConfigError, Unavailable
from rtdeliver.likes.database_file import DatabaseFile, NoDatabase, StatementFailed, Unusable

T = TypeVar("T")

log = Logger()


class Database:
    """Runs transactions one after the other, in a thread of their own.

    SQLite allows one writer at a time. With a single thread, no transaction waits for a lock of
    another, and they run in the order of the calls.

    Every ``check_seconds`` the file is written, whether or not there are transactions. Once it
    cannot be used, all transactions fail at once, until a check succeeds.
    """

    def __init__(self, *, settings: LikesDatabase, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._file = DatabaseFile(settings.path, busy_seconds=settings.busy_seconds)
        self._threads: ThreadPool | None = None
        self._checks: LoopingCall | None = None
        # What the reactor is asked to call once, by which it can be asked not to.
        self._at_start: Any = None
        self._at_end: Any = None
        self._waiting = 0
        self._trouble = "it is not open"

    def open(self) -> None:
        """Upgrade the file to the current schema, and accept transactions.

        A file that is locked, or cannot be written now, does not stop the start; see `missing`.

        :raises ConfigError: if there is no database, nor can one be made, or if it has a schema
            that this program does not know.
        """
        try:
            self._file.check()
        except (NoDatabase, ConfigError) as error:
            raise ConfigError(f"database {self._settings.path}: {error}") from None
        except Unusable as error:
            self._lose(str(error))
        else:
            self._trouble = ""
        threads = self._threads = ThreadPool(1, 1)
        self._at_start = self._reactor.callWhenRunning(self._start, threads)
        self._at_end = self._reactor.addSystemEventTrigger("during", "shutdown", self._end)
        self._checks = LoopingCall(self._check, threads)
        self._checks.clock = self._reactor
        self._checks.start(self._settings.check_seconds, now=False)

    def close(self) -> None:
        """Finish the waiting transactions, and accept no further ones."""
        if self._threads is None:
            return
        threads, self._threads = self._threads, None
        for trigger in (self._at_start, self._at_end):
            if trigger is not None:
                self._reactor.removeSystemEventTrigger(trigger)
        self._at_start = self._at_end = None
        if self._checks is not None:
            self._checks.stop()
        threads.stop()
        self._file.close()

    @property
    def waiting(self) -> int:
        """How many transactions are waiting or running."""
        return self._waiting

    def missing(self) -> list[str]:
        """What keeps the database from being used; empty while it can be used."""
        if not self._trouble:
            return []
        return [f"the database {self._settings.path} cannot be used: {self._trouble}"]

    def run(self, transaction: Callable[[Any], T]) -> Deferred[T]:
        """Call ``transaction`` with a cursor, in the thread; fires with what it returns.

        Its changes are kept only if it returns. Fails with the exception that it raises, or with
        `Unavailable` if the database cannot be used now.
        """
        if self._threads is None:
            return fail(Unavailable("the database is closed"))
        if self._trouble:
            return fail(_unavailable())
        if self._waiting >= self._settings.waiting:
            return fail(Unavailable("too many requests are waiting for the database"))
        self._waiting += 1
        answer: Deferred[T] = deferToThreadPool(
            self._reactor, self._threads, self._file.run, transaction
        )
        return answer.addBoth(self._ran)

    def _start(self, threads: ThreadPool) -> None:
        self._at_start = None
        threads.start()

    def _end(self) -> None:
        self._at_end = None
        self.close()

    def _ran(self, result: T | Failure) -> T | Failure:
        self._waiting -= 1
        if not isinstance(result, Failure):
            return result
        if result.check(Unusable):
            # What was waiting behind the one that failed knows less about the reason.
            if not self._trouble:
                self._lose(str(result.value))
            return Failure(_unavailable())
        if result.check(StatementFailed):
            log.error("the database failed: {e}", e=result.value)
            return Failure(_unavailable())
        return result

    def _check(self, threads: ThreadPool) -> Deferred[None]:
        checked: Deferred[None] = deferToThreadPool(self._reactor, threads, self._file.check)
        return checked.addCallbacks(self._recover, self._fail)

    def _recover(self, _: None) -> None:
        if self._trouble:
            self._trouble = ""
            log.info("the database {path} can be used again", path=self._settings.path)

    def _fail(self, failure: Failure) -> None:
        if not failure.check(Unusable, ConfigError):
            # The next check may succeed.
            log.failure("a check of the database failed", failure)
        if str(failure.value) != self._trouble:
            self._lose(str(failure.value))

    def _lose(self, why: str) -> None:
        self._trouble = why
        log.error("the database {path} cannot be used: {why}", path=self._settings.path, why=why)


def _unavailable() -> Unavailable:
    return Unavailable("the database cannot be used now")
