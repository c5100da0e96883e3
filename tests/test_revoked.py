"""Tests of rtdeliver.revoked."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.model import Member, Revocation
from rtdeliver.revoked import Revoked, refuses
from rtdeliver.tokens import Identity


def revocation(kind: Any, name: str, *, at: float = 100, until: float = 200) -> Revocation:
    return Revocation(kind=kind, name=name, at=round(at * 1000), until=round(until * 1000))


def identity(
    member: str | None = "ann", *, issued_at: float | None = 50, token_id: str = ""
) -> Identity:
    who = None if member is None else Member(member)
    return Identity(who, 1000, issued_at=issued_at, token_id=token_id)


class RevokedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.revoked = Revoked()

    def test_the_last_one_for_a_name_is_kept(self) -> None:
        first, last = revocation("member", "ann"), revocation("member", "ann", at=120)
        self.assertTrue(self.revoked.add(first))
        self.assertFalse(self.revoked.add(first))
        self.assertTrue(self.revoked.add(last))
        self.assertFalse(self.revoked.add(first))
        self.assertTrue(self.revoked.add(revocation("token", "ann")))
        self.assertEqual([last, revocation("token", "ann")], list(self.revoked))
        self.assertEqual(2, len(self.revoked))

    def test_those_that_have_ended_are_forgotten(self) -> None:
        self.revoked.add(revocation("member", "ann", until=150))
        self.revoked.add(revocation("member", "bob"))
        self.revoked.drop_ended(150)
        self.assertEqual(["bob"], [each.name for each in self.revoked])

    def test_nobody_is_refused_for_what_is_not_there(self) -> None:
        self.assertIsNone(self.revoked.refusing(identity()))
        self.revoked.add(revocation("member", "bob"))
        self.revoked.add(revocation("connection", "ann"))
        self.assertIsNone(self.revoked.refusing(identity()))
        self.assertIsNone(self.revoked.refusing(identity(None)))

    def test_a_token_without_a_name_is_refused_by_none(self) -> None:
        self.revoked.add(Revocation(kind="token", name="t", at=1, until=2))
        self.assertIsNone(self.revoked.refusing(identity(token_id="")))
        self.assertIsNotNone(self.revoked.refusing(identity(token_id="t")))

    def test_a_member_is_refused_by_when_its_token_was_signed(self) -> None:
        order = revocation("member", "ann")
        for issued_at, refused in ((50, True), (100, True), (100.001, False), (None, True)):
            self.assertEqual(refused, refuses(order, identity(issued_at=issued_at)), issued_at)
        self.assertFalse(refuses(order, identity("bob")))

    def test_an_order_for_a_connection_is_for_no_token(self) -> None:
        self.assertFalse(refuses(revocation("connection", "n1-x"), identity(token_id="n1-x")))
