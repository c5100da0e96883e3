"""The contract of IPresenceStore, for every implementation."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from rtdeliver.config.sections import Presence as PresenceSettings
from rtdeliver.errors import Unavailable
from rtdeliver.interfaces import IPresenceStore
from rtdeliver.messages import Presence, PresenceChange, PresenceHeartbeat
from rtdeliver.model import Member
from tests.contracts.contract import Contract

ANN, BOB, CYD = Member("ann"), Member("bob"), Member("c\u00ffd \u2603")
HEARTBEAT_SECONDS = 30.0
TIMES = PresenceSettings(grace_seconds=5.0, claim_seconds=4.0)
GONE_SECONDS = 40.0


class PresenceStoreContract(Contract):
    """To be mixed into a test case, which says how a store is made and how time passes."""

    interface = IPresenceStore
    store: IPresenceStore

    def make_store(self) -> IPresenceStore:
        """Return an empty store with `TIMES`."""
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Let so much time pass for the store."""
        raise NotImplementedError

    def get(self, deferred: Deferred[Any]) -> Any:
        """Return what ``deferred`` fires with, or raise what it fails with."""
        raise NotImplementedError

    def subject(self) -> IPresenceStore:
        return self.store

    def setUp(self) -> None:
        self.store = self.make_store()

    # Short for the tests below.

    def beat(
        self, *members: Member, heartbeat_seconds: float = HEARTBEAT_SECONDS
    ) -> list[PresenceChange]:
        heartbeat = PresenceHeartbeat(members=members, heartbeat_seconds=heartbeat_seconds)
        return list(self.get(self.store.heartbeat(heartbeat)))

    def come(self, *members: Member) -> None:
        """Let members come, and that be told."""
        self.tell(self.beat(*members))

    def tell(self, changes: list[PresenceChange]) -> None:
        self.get(self.store.mark_published(changes))

    def sweep(self, limit: int = 100) -> list[PresenceChange]:
        return list(self.get(self.store.sweep(limit)).changes)

    def online(self, *members: Member) -> list[bool]:
        return [presence.online for presence in self.get(self.store.presence(members))]

    def test_nobody_is_there_at_first(self) -> None:
        assert self.sweep() == []
        assert self.get(self.store.sweep(10)).next_seconds is None
        assert self.get(self.store.presence([ANN])) == [Presence(member=ANN, online=False)]

    def test_the_first_heartbeat_is_a_change_and_further_ones_are_not(self) -> None:
        changes = self.beat(ANN, CYD)
        assert statuses(changes) == [(ANN, "online"), (CYD, "online")]
        self.tell(changes)
        assert self.beat(ANN, CYD) == []
        self.advance(HEARTBEAT_SECONDS)
        assert self.beat(ANN, CYD) == []
        assert self.online(ANN, BOB, CYD) == [True, False, True]

    def test_presence_comes_in_the_order_asked_with_the_last_heartbeat(self) -> None:
        self.come(ANN)
        self.advance(2)
        self.come(BOB)
        [bob, cyd, ann] = self.get(self.store.presence([BOB, CYD, ANN]))
        assert (bob.member, cyd.member, ann.member) == (BOB, CYD, ANN)
        assert (bob.online, cyd.online, ann.online) == (True, False, True)
        assert bob.heartbeat_at - ann.heartbeat_at >= 1999
        assert cyd.heartbeat_at is None

    def test_a_member_is_gone_after_the_interval_and_twice_the_grace(self) -> None:
        self.come(ANN, BOB)
        self.advance(HEARTBEAT_SECONDS)
        self.beat(BOB)
        self.advance(GONE_SECONDS - HEARTBEAT_SECONDS - 1)
        assert self.sweep() == []
        self.advance(1.5)
        assert statuses(self.sweep()) == [(ANN, "offline")]
        assert self.online(ANN, BOB) == [False, True]

    def test_each_heartbeat_says_when_the_next_is_due(self) -> None:
        self.tell(self.beat(ANN, heartbeat_seconds=60))
        self.tell(self.beat(BOB, heartbeat_seconds=10))
        self.advance(21)
        assert statuses(self.sweep()) == [(BOB, "offline")]
        self.tell(self.beat(ANN, heartbeat_seconds=10))
        self.advance(21)
        assert (ANN, "offline") in statuses(self.sweep())

    def test_a_heartbeat_within_the_grace_is_no_change(self) -> None:
        self.come(ANN)
        for _ in range(3):
            self.advance(GONE_SECONDS - 1)
            assert self.sweep() == []
            assert self.beat(ANN) == []
        assert self.online(ANN) == [True]

    def test_a_change_is_given_to_one_caller_until_its_claim_runs_out(self) -> None:
        coming = self.beat(ANN)
        assert self.beat(ANN) == []
        assert self.sweep() == []
        self.advance(TIMES.claim_seconds + 0.5)
        assert self.sweep() == coming
        assert self.sweep() == []
        self.tell(coming)
        self.advance(TIMES.claim_seconds + 0.5)
        assert self.sweep() == []
        self.advance(GONE_SECONDS)
        going = self.sweep()
        assert statuses(going) == [(ANN, "offline")]
        assert self.sweep() == []
        self.advance(TIMES.claim_seconds + 0.5)
        assert self.sweep() == going
        self.tell(going)
        self.advance(GONE_SECONDS)
        assert self.sweep() == []

    def test_who_is_gone_and_told_of_is_forgotten_and_may_come_again(self) -> None:
        self.come(ANN)
        self.advance(GONE_SECONDS + 1)
        self.tell(self.sweep())
        self.advance(GONE_SECONDS)
        assert self.sweep() == []
        assert self.get(self.store.sweep(10)).next_seconds is None
        assert statuses(self.beat(ANN)) == [(ANN, "online")]
        assert self.online(ANN) == [True]

    def test_who_comes_back_before_the_going_is_told_is_told_of_as_gone_first(self) -> None:
        self.come(ANN)
        self.advance(GONE_SECONDS + 1)
        going = self.sweep()
        changes = self.beat(ANN)
        assert statuses(changes) == [(ANN, "offline"), (ANN, "online")]
        assert changes[:1] == going
        assert changes[0].at < changes[1].at
        # The first caller is late, and takes nothing away from the second.
        self.tell(going)
        assert self.online(ANN) == [True]
        self.advance(TIMES.claim_seconds + 0.5)
        assert self.sweep() == changes[1:]
        self.tell(changes)
        self.advance(TIMES.claim_seconds + 0.5)
        assert self.sweep() == []

    def test_who_goes_before_the_coming_is_told_is_told_of_as_come_first(self) -> None:
        coming = self.beat(ANN)
        self.advance(GONE_SECONDS + 1)
        changes = self.sweep()
        assert statuses(changes) == [(ANN, "online"), (ANN, "offline")]
        assert changes[:1] == coming
        self.tell(changes)
        self.advance(GONE_SECONDS)
        assert self.sweep() == []

    def test_an_old_change_is_not_taken_for_a_new_one(self) -> None:
        coming = self.beat(ANN)
        self.tell(coming)
        self.advance(GONE_SECONDS + 1)
        going = self.sweep()
        self.tell(coming)
        self.advance(TIMES.claim_seconds + 0.5)
        assert self.sweep() == going

    def test_a_sweep_is_bounded_and_says_when_to_come_again(self) -> None:
        self.come(ANN, BOB, CYD)
        left = self.get(self.store.sweep(10)).next_seconds
        assert 0 < left <= GONE_SECONDS
        self.advance(GONE_SECONDS + 1)
        first = self.get(self.store.sweep(2))
        assert len(first.changes) == 2
        assert first.next_seconds == 0
        second = self.get(self.store.sweep(2))
        assert len(second.changes) == 1
        assert 0 < second.next_seconds <= TIMES.claim_seconds
        gone = {change.member for change in (*first.changes, *second.changes)}
        assert gone == {ANN, BOB, CYD}

    def test_ids_name_the_change(self) -> None:
        [coming] = self.beat(ANN)
        self.tell([coming])
        self.advance(GONE_SECONDS + 1)
        [going] = self.sweep()
        assert coming.id == f"{coming.at}-0-online"
        assert going.id == f"{going.at}-0-offline"
        assert coming.at < going.at


class AwayPresenceStoreContract(Contract):
    """What holds while the store cannot be reached; to be mixed into a test case likewise."""

    interface = IPresenceStore
    store: IPresenceStore

    def make_store(self) -> IPresenceStore:
        """Return a store that cannot be reached."""
        raise NotImplementedError

    def get(self, deferred: Deferred[Any]) -> Any:
        """Return what ``deferred`` fires with, or raise what it fails with."""
        raise NotImplementedError

    def subject(self) -> IPresenceStore:
        return self.store

    def setUp(self) -> None:
        self.store = self.make_store()

    def test_everything_fails(self) -> None:
        change = PresenceChange(member=ANN, online=True, at=1_795_417_956_000)
        for ask in (
            lambda: self.store.heartbeat(PresenceHeartbeat(members=[ANN], heartbeat_seconds=30)),
            lambda: self.store.sweep(10),
            lambda: self.store.sweep(0),
            lambda: self.store.mark_published([change]),
            lambda: self.store.presence([ANN]),
        ):
            with pytest.raises(Unavailable):
                self.get(ask())


def statuses(changes: list[PresenceChange]) -> list[tuple[Member, str]]:
    return [(change.member, change.status) for change in changes]
