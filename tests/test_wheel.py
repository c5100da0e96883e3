"""Visits when they are due, by one timer."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.interfaces import IVisited
from rtdeliver.wheel import TimingWheel
from tests.contracts.visited import VisitedContract


@implementer(IVisited)
class RecordingVisited:
    """Notes when it is visited, and asks for a visit after each of ``intervals`` in turn."""

    def __init__(self, clock: Clock, *intervals: float) -> None:
        self.visits: list[float] = []
        self.told: list[float] = []
        self._clock = clock
        self._intervals = list(intervals)

    def visit(self, now: float) -> float | None:
        self.visits.append(self._clock.seconds())
        self.told.append(now)
        return self._intervals.pop(0) if self._intervals else None


class RecordingVisitedTests(VisitedContract, SynchronousTestCase):
    implementation = RecordingVisited

    def make_visited(self, clock: Clock) -> IVisited:
        return RecordingVisited(clock, 1, 2, 3, 4)

    def end(self) -> None:
        while self.visited.visit(self.clock.seconds()) is not None:
            pass


@implementer(IVisited)
class FailingVisited:
    """Raises an exception at each visit."""

    def __init__(self) -> None:
        self.visits = 0

    def visit(self, now: float) -> float | None:
        self.visits += 1
        raise ZeroDivisionError(f"visited at {now}")


class CountingClock(Clock):
    """Ends a test in which a timer is set again and again without time passing."""

    timers = 0

    def callLater(self, *args: Any, **kw: Any) -> IDelayedCall:
        self.timers += 1
        assert self.timers < 10_000, "the timer spins"
        return super().callLater(*args, **kw)


def pass_time(clock: Clock, seconds: float) -> None:
    """Let time pass with every timer on time."""
    end = clock.seconds() + seconds
    while clock.calls and clock.calls[0].getTime() <= end:
        clock.advance(clock.calls[0].getTime() - clock.seconds())
    clock.advance(end - clock.seconds())


class TimingWheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TimingWheel(clock=self.clock, tick_seconds=1)

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 100)), min_size=1, max_size=10))
    def test_a_visit_comes_when_it_is_due_to_the_precision_of_a_tick(
        self, additions: list[tuple[int, int]]
    ) -> None:
        clock = Clock()
        wheel = TimingWheel(clock=clock, tick_seconds=10)
        due = []
        for pause, seconds in additions:
            pass_time(clock, pause)
            visited = RecordingVisited(clock)
            wheel.add(visited, seconds)
            due.append((clock.seconds() + seconds, visited))
        pass_time(clock, 200)
        for at, visited in due:
            self.assertEqual(len(visited.visits), 1)
            self.assertLessEqual(abs(visited.visits[0] - at), 10, f"due at {at}")

    def test_a_visit_is_told_the_time_which_is_the_wheels(self) -> None:
        visited = RecordingVisited(self.clock)
        self.wheel.add(visited, 3)
        pass_time(self.clock, 5)
        self.assertEqual((visited.told, visited.visits), ([3], [3]))
        self.assertEqual(self.wheel.now, 3)

    def test_a_visit_is_repeated_after_what_it_asks_for(self) -> None:
        visited = RecordingVisited(self.clock, 2, 5, 1)
        self.wheel.add(visited, 3)
        pass_time(self.clock, 100)
        self.assertEqual(visited.visits, [3, 5, 10, 11])

    def test_a_visit_that_asks_for_none_is_the_last(self) -> None:
        visited = RecordingVisited(self.clock)
        self.wheel.add(visited, 1)
        pass_time(self.clock, 100)
        self.assertEqual(visited.visits, [1])

    def test_a_visit_due_at_once_comes_at_the_next_tick(self) -> None:
        visited = RecordingVisited(self.clock, 0, -5)
        self.wheel.add(visited, 0)
        self.assertEqual(visited.visits, [])
        pass_time(self.clock, 10)
        self.assertEqual(visited.visits, [1, 2, 3])

    def test_one_that_fails_is_logged_and_hurts_no_other(self) -> None:
        failing = FailingVisited()
        before, after = RecordingVisited(self.clock, 1), RecordingVisited(self.clock, 1)
        for visited in (before, failing, after):
            self.wheel.add(visited, 1)
        pass_time(self.clock, 5)
        self.assertEqual((before.visits, after.visits), ([1, 2], [1, 2]))
        self.assertEqual(failing.visits, 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_all_share_one_timer_which_stops_when_nothing_is_left(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for seconds in range(1, 6):
            self.wheel.add(RecordingVisited(self.clock), seconds)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        pass_time(self.clock, 5)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_wheel_that_stopped_goes_on_with_the_time_of_now(self) -> None:
        self.wheel.add(RecordingVisited(self.clock), 1)
        pass_time(self.clock, 1000)
        visited = RecordingVisited(self.clock)
        self.wheel.add(visited, 5)
        self.assertEqual(self.wheel.now, 1000)
        pass_time(self.clock, 10)
        self.assertEqual(visited.visits, [1005])

    def test_ticks_that_come_late_again_and_again_do_not_add_up(self) -> None:
        visited = RecordingVisited(self.clock)
        self.wheel.add(visited, 100)
        self.clock.pump([1.5] * 80)
        [at] = visited.visits
        self.assertLessEqual(abs(at - 100), 2.5)

    @settings(deadline=None)
    @given(tick_seconds=st.floats(0.01, 10), start=st.sampled_from([0, 0.1, 75.3, 1.7e9]))
    @example(tick_seconds=0.1, start=0)
    def test_the_timer_is_set_about_once_a_tick_however_long_a_tick_is(
        self, tick_seconds: float, start: float
    ) -> None:
        clock = CountingClock()
        clock.rightNow = start
        wheel = TimingWheel(clock=clock, tick_seconds=tick_seconds)
        visited = RecordingVisited(clock, *[tick_seconds * 10] * 100)
        wheel.add(visited, 0)
        clock.pump([tick_seconds] * 1000)
        self.assertGreater(len(visited.visits), 80)
        self.assertLess(clock.timers, 2100)

    def test_after_a_long_pause_of_the_process_everything_is_visited_once(self) -> None:
        often, seldom = RecordingVisited(self.clock, 10, 10), RecordingVisited(self.clock)
        self.wheel.add(often, 10)
        self.wheel.add(seldom, 500)
        self.clock.advance(100_000)
        self.assertEqual((often.visits, seldom.visits), ([100_000], [100_000]))
        pass_time(self.clock, 30)
        self.assertEqual(len(often.visits), 3)
        self.assertLessEqual(abs(often.visits[1] - 100_010), 1)

    def test_a_clock_that_is_set_back_loses_no_visit(self) -> None:
        visited = RecordingVisited(self.clock, 10)
        self.wheel.add(visited, 10)
        pass_time(self.clock, 5)
        self.clock.rightNow -= 3600
        # The timer itself waits for the hour to pass again.
        pass_time(self.clock, 3600)
        self.assertEqual(visited.visits, [])
        pass_time(self.clock, 7)
        self.assertEqual(len(visited.visits), 1)
        pass_time(self.clock, 11)
        self.assertEqual(len(visited.visits), 2)

    def test_a_visit_may_ask_for_visits_of_others(self) -> None:
        other = RecordingVisited(self.clock)
        wheel = self.wheel

        @implementer(IVisited)
        class Asking:
            def visit(self, now: float) -> None:
                wheel.add(other, 2)

        wheel.add(Asking(), 1)
        pass_time(self.clock, 10)
        self.assertEqual(other.visits, [3])
