"""Tests of rtdeliver.routing.acknowledgements."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.routing.acknowledgements import Acknowledgements, owner_of


class AcknowledgementsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.subject = Acknowledgements(clock=self.clock, wait_seconds=0.05)
        self.token = self.subject.new_token()

    def tearDown(self) -> None:
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_token_names_its_owner(self) -> None:
        self.assertEqual(self.subject.name, owner_of(self.token))
        self.assertNotEqual(self.token, self.subject.new_token())

    def test_a_change_that_nobody_hears_of_needs_no_wait(self) -> None:
        self.successResultOf(self.subject.wait(self.token, 0))

    def test_it_waits_for_all(self) -> None:
        done = self.subject.wait(self.token, 2)
        self.subject.note(self.token)
        self.assertNoResult(done)
        self.subject.note(self.token)
        self.successResultOf(done)
        self.assertEqual(0, self.subject.overdue)

    def test_what_came_before_it_waits_counts(self) -> None:
        self.subject.note(self.token)
        self.subject.note(self.token)
        self.successResultOf(self.subject.wait(self.token, 2))

    def test_the_wait_has_a_bound(self) -> None:
        done = self.subject.wait(self.token, 2)
        self.subject.note(self.token)
        self.clock.advance(0.05)
        self.successResultOf(done)
        self.assertEqual(1, self.subject.overdue)

    def test_what_is_late_or_unknown_does_no_harm(self) -> None:
        done = self.subject.wait(self.token, 1)
        self.subject.note("other.1")
        self.subject.note(self.token)
        self.subject.note(self.token)
        self.successResultOf(done)
        dropped = self.subject.new_token()
        self.subject.forget(dropped)
        self.subject.note(dropped)
