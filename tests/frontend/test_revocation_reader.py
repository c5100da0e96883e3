"""Tests of rtdeliver.frontend.revocation_reader."""

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Routing
from rtdeliver.errors import Unavailable, Unreachable
from rtdeliver.frontend.revocation_reader import RevocationReader
from rtdeliver.messages import Bookmark, Revocations
from rtdeliver.model import Revocation
from rtdeliver.revoked import Revoked
from tests.fakes import ScriptedDispatcherClient, new_backoff

SETTINGS = Routing(announce_seconds=10, confirm_seconds=2)


def revocation(name: str, until: int = 10**9) -> Revocation:
    return Revocation(kind="member", name=name, at=1, until=until)


def page(*names: str, store: str = "s1", entry: int, more: bool = False) -> Revocations:
    return Revocations(
        revocations=tuple(map(revocation, names)), bookmark=Bookmark(store, entry), more=more
    )


class RevocationReaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.client = ScriptedDispatcherClient()
        self.revoked = Revoked()
        self.came: list[str] = []
        self.reader = RevocationReader(
            client=self.client,
            revoked=self.revoked,
            came=self.take,
            settings=SETTINGS,
            clock=self.clock,
            now=self.clock.seconds,
            backoff=new_backoff(),
            draw=max,
        )

    def take(self, revocations: object) -> None:
        for revocation in revocations:  # type: ignore[attr-defined]
            self.revoked.add(revocation)
            self.came.append(revocation.name)

    def start(self, *pages: Deferred[Revocations]) -> None:
        self.client.pages.extend(pages)
        self.reader.start()
        self.clock.advance(0)

    def test_all_pages_are_read_at_once_and_what_is_new_later(self) -> None:
        self.start(
            succeed(page("ann", entry=1, more=True)),
            succeed(page("bob", entry=2)),
            succeed(page("cyd", entry=3)),
        )
        self.clock.advance(0)
        self.assertEqual(self.came, ["ann", "bob"])
        self.clock.advance(9.9)
        self.assertEqual(self.came, ["ann", "bob"])
        self.clock.advance(0.1)
        self.assertEqual(self.came, ["ann", "bob", "cyd"])
        self.assertEqual(self.client.bookmarks, [Bookmark(), Bookmark("s1", 1), Bookmark("s1", 2)])

    def test_it_is_known_what_is_revoked_once_the_last_page_has_come(self) -> None:
        last: Deferred[Revocations] = Deferred()
        self.start(succeed(page("ann", entry=1, more=True)), last)
        self.clock.advance(0)
        known = self.reader.known()
        assert known is not None
        self.assertNoResult(known)
        last.callback(page(entry=1))
        self.successResultOf(known)
        self.assertIsNone(self.reader.known())
        self.clock.advance(5)

    def test_who_waits_too_long_is_refused(self) -> None:
        self.start(Deferred())
        known = self.reader.known()
        assert known is not None
        self.clock.advance(2)
        self.failureResultOf(known, Unavailable)

    def test_a_failure_is_tried_again(self) -> None:
        self.start(fail(Unreachable("nobody")), succeed(page("ann", entry=1)))
        self.assertEqual(self.came, [])
        self.clock.advance(0.1)
        self.assertEqual(self.came, ["ann"])

    def test_a_fault_is_logged_and_tried_again(self) -> None:
        self.start(fail(ZeroDivisionError()), succeed(page("ann", entry=1)))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.advance(0.1)
        self.assertEqual(self.came, ["ann"])

    def test_what_the_dispatchers_have_lost_is_given_back(self) -> None:
        for number, lost in enumerate((page(store="s2", entry=0), page(entry=1))):
            with self.subTest(lost=lost):
                self.setUp()
                self.start(succeed(page("ann", "bob", entry=2)), succeed(lost))
                self.clock.advance(10)
                self.assertEqual([r.name for r in self.client.restored], ["ann", "bob"])
                self.assertEqual(len(self.revoked), 2, number)

    def test_what_has_ended_is_forgotten(self) -> None:
        self.revoked.add(revocation("old", until=5000))
        self.start(succeed(page(entry=0)), succeed(page(entry=0)))
        self.assertEqual(len(self.revoked), 1)
        self.clock.advance(10)
        self.assertEqual(len(self.revoked), 0)

    def test_nothing_is_read_after_the_end(self) -> None:
        self.start(succeed(page(entry=0)))
        self.reader.stop()
        self.clock.advance(100)
        self.assertEqual(len(self.client.bookmarks), 1)
