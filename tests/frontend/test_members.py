"""Tests of rtdeliver.frontend.members."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.frontend.members import Members
from rtdeliver.model import Member

ANN, BOB = Member("ann"), Member("bob")


class MembersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.members: Members[int] = Members()

    def test_the_first_stream_comes_and_the_last_one_goes(self) -> None:
        self.assertTrue(self.members.add(ANN, 1))
        self.assertFalse(self.members.add(ANN, 2))
        self.assertTrue(self.members.add(BOB, 3))
        self.assertEqual(2, len(self.members))
        self.assertFalse(self.members.discard(ANN, 1))
        self.assertIn(ANN, self.members)
        self.assertTrue(self.members.discard(ANN, 2))
        self.assertNotIn(ANN, self.members)
        self.assertIn(BOB, self.members)
        self.assertTrue(self.members.add(ANN, 1))

    def test_the_streams_of_a_member_are_told(self) -> None:
        self.assertEqual([], list(self.members.streams(ANN)))
        for stream in (1, 2, 3):
            self.members.add(ANN, stream)
        self.members.add(BOB, 4)
        self.assertEqual([1, 2, 3], sorted(self.members.streams(ANN)))
        self.assertEqual([4], list(self.members.streams(BOB)))
        self.members.discard(ANN, 2)
        self.assertEqual([1, 3], sorted(self.members.streams(ANN)))
        self.members.discard(ANN, 3)
        self.assertEqual([1], list(self.members.streams(ANN)))
