"""Tests of rtdeliver.frontend.presence_heartbeats."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Presence
from rtdeliver.errors import Unreachable
from rtdeliver.frontend.members import Members
from rtdeliver.frontend.presence_heartbeats import PresenceHeartbeats
from rtdeliver.model import Member
from tests.fakes import ScriptedPresenceClient, new_backoff

ANN, BOB, CYD = Member("ann"), Member("bob"), Member("cyd")
SETTINGS = Presence(heartbeat_seconds=30, batch_members=2)


class Subject:
    """Members who come and go, and what the dispatchers hear of them."""

    def __init__(self, *, answers: bool = True) -> None:
        self.clock = Clock()
        self.members: Members[Member] = Members()
        self.client = ScriptedPresenceClient()
        self.heartbeats = PresenceHeartbeats(
            members=self.members,
            client=self.client,
            clock=self.clock,
            settings=SETTINGS,
            backoff=new_backoff(),
        )
        self.answers = answers
        self.heard: dict[Member, float] = {}
        self._seen = 0
        self.heartbeats.start()

    def come(self, *members: Member) -> None:
        for member in members:
            if self.members.add(member, member):
                self.heartbeats.came(member)
        self.pass_seconds(0)

    def leave(self, *members: Member) -> None:
        for member in members:
            if self.members.discard(member, member):
                self.heartbeats.left(member)

    def told(self) -> list[list[Member]]:
        """What was told since the last call."""
        heartbeats = self.client.heartbeats[self._seen :]
        self._seen = len(self.client.heartbeats)
        return [list(heartbeat.members) for heartbeat in heartbeats]

    def pass_seconds(self, seconds: float) -> None:
        self.step(0)
        for _ in range(round(seconds * 10)):
            self.step(0.1)

    def step(self, seconds: float) -> None:
        self.clock.advance(seconds)
        while self.client.answers and not self.client.answers[0].called:
            if self.answers:
                self.note()
                self.client.answers.pop(0).callback(None)
                self.clock.advance(0)
            else:
                self.client.answers.pop(0).errback(Unreachable("no dispatcher"))

    def note(self) -> None:
        for member in self.client.heartbeats[-1].members:
            self.heard[member] = self.clock.seconds()


class HeartbeatsTests(SynchronousTestCase):
    def test_who_comes_is_told_of_at_once_and_those_who_come_together_in_one(self) -> None:
        subject = Subject()
        subject.members.add(ANN, ANN)
        subject.members.add(BOB, BOB)
        subject.heartbeats.came(ANN)
        subject.heartbeats.came(BOB)
        subject.pass_seconds(0)
        [heartbeat] = subject.client.heartbeats
        self.assertEqual([ANN, BOB], list(heartbeat.members))
        self.assertEqual(30, heartbeat.heartbeat_seconds)

    def test_everybody_is_told_of_anew_in_time_and_in_batches(self) -> None:
        subject = Subject()
        subject.come(ANN, BOB, CYD)
        subject.told()
        subject.pass_seconds(29)
        self.assertEqual([], subject.told())
        subject.pass_seconds(1.1)
        self.assertEqual([[ANN, BOB], [CYD]], subject.told())
        subject.pass_seconds(30)
        self.assertEqual([[ANN, BOB], [CYD]], subject.told())

    def test_who_is_due_soon_goes_with_who_is_due(self) -> None:
        subject = Subject()
        subject.come(ANN)
        subject.pass_seconds(6)
        subject.come(BOB)
        subject.told()
        subject.pass_seconds(24.5)
        self.assertEqual([[ANN, BOB]], subject.told())

    def test_nothing_is_told_of_who_has_left(self) -> None:
        subject = Subject()
        subject.come(ANN)
        subject.members.add(ANN, BOB)
        subject.told()
        subject.members.discard(ANN, BOB)
        subject.pass_seconds(31)
        self.assertEqual([[ANN]], subject.told(), "there is another stream")
        subject.leave(ANN)
        subject.pass_seconds(120)
        self.assertEqual([], subject.told())

    def test_what_failed_is_tried_again_with_growing_pauses(self) -> None:
        subject = Subject(answers=False)
        subject.come(ANN)
        subject.pass_seconds(10)
        tries = len(subject.told())
        self.assertGreater(tries, 5)
        self.assertLess(tries, 12)
        subject.answers = True
        subject.pass_seconds(3)
        self.assertEqual([[ANN]], subject.told())
        subject.come(BOB)
        self.assertEqual([[BOB]], subject.told(), "the pauses are over")

    def test_who_comes_while_nobody_answers_does_not_shorten_the_pause(self) -> None:
        subject = Subject(answers=False)
        subject.come(ANN)
        subject.pass_seconds(10)
        subject.told()
        for number in range(20):
            subject.come(Member(f"m{number}"))
        self.assertEqual([], subject.told())

    def test_one_request_is_in_flight(self) -> None:
        subject = Subject()
        subject.members.add(ANN, ANN)
        subject.heartbeats.came(ANN)
        subject.clock.advance(0)
        subject.members.add(BOB, BOB)
        subject.heartbeats.came(BOB)
        subject.clock.advance(60)
        self.assertEqual([[ANN]], subject.told())
        subject.client.answers.pop(0).callback(None)
        subject.clock.advance(0)
        self.assertEqual([[BOB]], subject.told())

    def test_who_left_while_the_request_was_on_its_way_is_not_told_of_again(self) -> None:
        for answers in (True, False):
            subject = Subject()
            subject.members.add(ANN, ANN)
            subject.heartbeats.came(ANN)
            subject.clock.advance(0)
            subject.told()
            subject.leave(ANN)
            subject.answers = answers
            subject.pass_seconds(100)
            self.assertEqual([], subject.told())

    def test_a_fault_is_logged_and_tried_again(self) -> None:
        subject = Subject()
        subject.members.add(ANN, ANN)
        subject.heartbeats.came(ANN)
        subject.clock.advance(0)
        subject.client.answers.pop(0).errback(ZeroDivisionError())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        subject.told()
        subject.pass_seconds(1)
        self.assertEqual([[ANN]], subject.told())

    def test_nothing_is_told_before_the_start_or_after_the_stop(self) -> None:
        subject = Subject()
        subject.come(ANN)
        subject.told()
        subject.heartbeats.stop()
        subject.come(BOB)
        subject.pass_seconds(100)
        self.assertEqual([], subject.told())
        self.assertEqual([], subject.clock.getDelayedCalls())
        subject.heartbeats.start()
        subject.pass_seconds(0)
        self.assertEqual([[BOB, ANN]], subject.told())


class ConvergenceTests(SynchronousTestCase):
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("come"), st.sampled_from([ANN, BOB, CYD])),
                st.tuples(st.just("leave"), st.sampled_from([ANN, BOB, CYD])),
                st.tuples(st.just("pass"), st.sampled_from([0, 0.3, 5, 29, 31])),
                st.tuples(st.just("answers"), st.booleans()),
            ),
            max_size=30,
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_whatever_happened_all_who_are_there_are_told_of_in_time_and_nobody_else(
        self, steps: list[tuple[str, Any]]
    ) -> None:
        subject = Subject()
        for step, argument in steps:
            if step == "come":
                subject.come(argument)
            elif step == "leave" and argument in subject.members:
                subject.leave(argument)
            elif step == "pass":
                subject.pass_seconds(argument)
            elif step == "answers":
                subject.answers = argument
            subject.told()
        subject.answers = True
        # The longest pause, at most.
        subject.pass_seconds(3.1)
        subject.told()
        for _ in range(7):
            subject.pass_seconds(10)
            for member in (ANN, BOB, CYD):
                if member in subject.members:
                    age = subject.clock.seconds() - subject.heard[member]
                    self.assertLessEqual(age, 30.2)
            told = {member for members in subject.told() for member in members}
            self.assertEqual(set(), {member for member in told if member not in subject.members})
