"""Tests of rtdeliver.dispatcher.revocation_exchange."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.dispatcher.revocation_exchange import RevocationExchange
from rtdeliver.errors import Unavailable, Unreachable
from rtdeliver.messages import Bookmark, Revocations
from rtdeliver.model import Revocation
from tests.fakes import ScriptedPeerClient, new_backoff


def page(*names: str, entry: int, more: bool = False) -> Deferred[Revocations]:
    found = tuple(Revocation(kind="member", name=name, at=1, until=2) for name in names)
    return succeed(Revocations(revocations=found, bookmark=Bookmark("p", entry), more=more))


class RevocationExchangeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.kept: list[str] = []
        self.away = False
        self.dc2, self.dc3 = ScriptedPeerClient(), ScriptedPeerClient()
        self.exchange = RevocationExchange(
            peers={"dc2": self.dc2, "dc3": self.dc3},
            keep=self.keep,
            read_seconds=5,
            clock=self.clock,
            new_backoff=new_backoff,
            draw=max,
        )

    def keep(self, revocations: Sequence[Revocation]) -> Deferred[None]:
        if self.away:
            return fail(Unavailable("the store is away"))
        self.kept += [revocation.name for revocation in revocations]
        return succeed(None)

    def start(self) -> None:
        self.exchange.start()
        self.clock.advance(0)

    def test_each_peer_is_read_to_the_end_and_again_later(self) -> None:
        self.dc2.pages = [page("ann", entry=1, more=True), page("bob", entry=2)]
        self.dc3.pages = [page("cyd", entry=7), page("dan", entry=8)]
        self.start()
        self.clock.advance(0)
        self.assertEqual(sorted(self.kept), ["ann", "bob", "cyd"])
        self.clock.advance(5)
        self.assertEqual(self.kept[-1], "dan")
        self.assertEqual(self.dc3.bookmarks, [Bookmark(), Bookmark("p", 7)])

    def test_what_could_not_be_kept_is_read_again(self) -> None:
        self.dc2.pages = [page("ann", entry=1), page("ann", entry=1)]
        self.away = True
        self.start()
        self.assertEqual(self.kept, [])
        self.away = False
        self.clock.advance(0.1)
        self.assertEqual(self.kept, ["ann"])
        self.assertEqual(self.dc2.bookmarks, [Bookmark(), Bookmark()])

    def test_a_peer_that_is_away_does_not_keep_another_from_being_read(self) -> None:
        self.dc2.pages = [fail(Unreachable("nobody")), page("ann", entry=1)]
        self.dc3.pages = [page("bob", entry=1)]
        self.start()
        self.assertEqual(self.kept, ["bob"])
        self.clock.advance(0.1)
        self.assertEqual(self.kept, ["bob", "ann"])

    def test_a_fault_is_logged_and_tried_again(self) -> None:
        self.dc2.pages = [fail(ZeroDivisionError()), page("ann", entry=1)]
        self.start()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.advance(0.1)
        self.assertEqual(self.kept, ["ann"])

    def test_nothing_is_read_after_the_end(self) -> None:
        self.start()
        self.exchange.stop()
        self.clock.advance(100)
        self.assertEqual(len(self.dc2.bookmarks), 1)
