"""Tests of rtdeliver.frontend.members."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.frontend.members import Members
from rtdeliver.model import Member

ANN, BOB = Member("ann"), Member("bob")


class MembersTests(SynchronousTestCase):
    def test_the_first_stream_comes_and_the_last_one_goes(self) -> None:
        members = Members()
        self.assertTrue(members.add(ANN))
        self.assertFalse(members.add(ANN))
        self.assertTrue(members.add(BOB))
        self.assertEqual(2, len(members))
        self.assertFalse(members.discard(ANN))
        self.assertIn(ANN, members)
        self.assertTrue(members.discard(ANN))
        self.assertNotIn(ANN, members)
        self.assertIn(BOB, members)
        self.assertTrue(members.add(ANN))
