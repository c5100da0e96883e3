"""The contract of IRevocationStore, for every implementation."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from rtdeliver.errors import Unavailable
from rtdeliver.interfaces import IRevocationStore
from rtdeliver.messages import Bookmark, Revocations
from rtdeliver.model import Member, Revocation
from tests.contracts.contract import Contract

MOST = 12
"""How many a store of the suite keeps."""

PAGE = 4
"""How many a page has."""


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


class RevocationStoreContract(Contract):
    """To be mixed into a test case, which says how a store is made and what time it is."""

    interface = IRevocationStore
    store: IRevocationStore

    def make_store(self) -> IRevocationStore:
        """Return an empty store with `MOST` and `PAGE`."""
        raise NotImplementedError

    def now(self) -> float:
        """Return the time of the store, in seconds since the epoch."""
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Let so much time pass for the store."""
        raise NotImplementedError

    def get(self, deferred: Deferred[Any]) -> Any:
        """Return what ``deferred`` fires with, or raise what it fails with."""
        raise NotImplementedError

    def lose(self) -> None:
        """Let the store lose everything."""
        raise NotImplementedError

    def subject(self) -> IRevocationStore:
        return self.store

    def setUp(self) -> None:
        self.store = self.make_store()

    def revocation(self, name: str, *, age: float = 0, left: float = 60, **more: Any) -> Revocation:
        return Revocation(
            kind=more.pop("kind", "member"),
            name=name,
            at=milliseconds(self.now() - age),
            until=milliseconds(self.now() + left),
            **more,
        )

    def add(self, *revocations: Revocation) -> None:
        self.get(self.store.add(revocations))

    def after(self, bookmark: Bookmark = Bookmark()) -> Revocations:  # noqa: B008
        page: Revocations = self.get(self.store.after(bookmark))
        return page

    def names(self, page: Revocations) -> list[str]:
        return [revocation.name for revocation in page.revocations]

    def test_what_is_added_is_read_as_it_was(self) -> None:
        ann = self.revocation("ann ☃/\u2028", reason='because "of" ☃', reconnect=True)
        stream = self.revocation("n1-x", kind="connection")
        token = self.revocation("ann", kind="token")
        self.add(ann, stream)
        self.add(token)
        page = self.after()
        assert list(page.revocations) == [ann, stream, token]
        assert not page.more

    def test_a_bookmark_leads_to_what_came_after_it(self) -> None:
        empty = self.after()
        assert (empty.revocations, empty.more) == ((), False)
        assert empty.bookmark.store
        self.add(self.revocation("ann"))
        first = self.after(empty.bookmark)
        assert self.names(first) == ["ann"]
        assert self.names(self.after(first.bookmark)) == []
        self.add(self.revocation("bob"), self.revocation("cyd"))
        assert self.names(self.after(first.bookmark)) == ["bob", "cyd"]

    def test_many_come_in_pages(self) -> None:
        names = [f"m{number}" for number in range(PAGE * 2 + 1)]
        self.add(*(self.revocation(name) for name in names))
        read, page = [], self.after()
        while True:
            read += self.names(page)
            assert len(page.revocations) <= PAGE
            if not page.more:
                break
            page = self.after(page.bookmark)
        assert read == names

    def test_a_later_one_replaces_the_one_before_and_is_read_again(self) -> None:
        self.add(self.revocation("ann", age=5), self.revocation("bob", age=5))
        bookmark = self.after().bookmark
        later = self.revocation("ann", reason="again")
        self.add(later)
        assert list(self.after(bookmark).revocations) == [later]
        assert self.names(self.after()) == ["bob", "ann"]

    def test_one_that_is_not_later_changes_nothing(self) -> None:
        held = self.revocation("ann", reason="first")
        self.add(held)
        bookmark = self.after().bookmark
        self.add(held, self.revocation("ann", age=1, reason="earlier"))
        assert self.names(self.after(bookmark)) == []
        assert list(self.after().revocations) == [held]

    def test_one_that_has_ended_is_forgotten(self) -> None:
        self.add(self.revocation("ann", left=2), self.revocation("bob"))
        self.advance(2.1)
        assert self.names(self.after()) == ["bob"]
        self.add(self.revocation("cyd", age=10, left=-1))
        assert self.names(self.after()) == ["bob"]

    def test_a_full_store_keeps_what_it_has_and_refuses_more(self) -> None:
        self.add(self.revocation("brief", left=2))
        self.add(*(self.revocation(f"m{number}", age=1) for number in range(MOST - 1)))
        with pytest.raises(Unavailable, match="max_revocations"):
            self.add(self.revocation("ann"))
        # For one that it has, there is room.
        self.add(self.revocation("m0"))
        self.advance(2.1)
        self.add(self.revocation("ann"))
        bookmark, names = Bookmark(), []
        while True:
            page = self.after(bookmark)
            names += self.names(page)
            if not page.more:
                break
            bookmark = page.bookmark
        assert sorted(names) == sorted(["ann", *(f"m{number}" for number in range(MOST - 1))])

    def test_those_for_a_member_and_a_token_are_found(self) -> None:
        ann, token = self.revocation("ann"), self.revocation("t1", kind="token", left=2)
        self.add(ann, token, self.revocation("t1"), self.revocation("ann", kind="token"))
        for member, token_id, found in (
            (Member("ann"), "t1", [ann, token]),
            (Member("ann"), "", [ann]),
            (None, "t1", [token]),
            (Member("bob"), "t2", []),
            (None, "", []),
        ):
            assert list(self.get(self.store.find(member, token_id))) == found
        self.advance(2.1)
        assert list(self.get(self.store.find(None, "t1"))) == []

    def test_a_bookmark_of_a_store_that_was_lost_leads_to_the_beginning(self) -> None:
        self.add(self.revocation("ann"), self.revocation("bob"))
        before = self.after().bookmark
        self.lose()
        self.add(self.revocation("cyd"))
        page = self.after(before)
        assert self.names(page) == ["cyd"]
        assert page.bookmark.store != before.store

    def test_a_bookmark_beyond_the_end_leads_to_the_beginning(self) -> None:
        self.add(self.revocation("ann"))
        store, entry = self.after().bookmark.store, self.after().bookmark.entry
        assert self.names(self.after(Bookmark(store, entry + 5))) == ["ann"]
