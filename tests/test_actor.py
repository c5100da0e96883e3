"""Bounded mailboxes and fair turns."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.actor import Mailbox, MailboxLimits, RunQueue
from rtdeliver.config.sections import LinkSettings
from rtdeliver.interfaces import IActor
from tests.contracts.actor import ActorContract
from tests.fakes import RecordingActor


class Parcel(NamedTuple):
    """An item of a mailbox, unlike any other by its number."""

    number: int
    size: int


class NaiveMailbox:
    """What a mailbox promises, counted anew each time."""

    def __init__(self, limits: MailboxLimits) -> None:
        self.items: list[Parcel] = []
        self.held_bytes = 0
        self._limits = limits

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)

    def put(self, item: Parcel) -> list[Parcel]:
        dropped = []
        self.items.append(item)
        while len(self.items) > 1 and (
            self.held_bytes + self.size > self._limits.mailbox_bytes
            or len(self.items) > self._limits.mailbox_events
        ):
            dropped.append(self.items.pop(0))
        return dropped

    def take(self, *, at_most_bytes: int, at_most_events: int) -> list[Parcel]:
        within = [
            count
            for count in range(len(self.items) + 1)
            if sum(item.size for item in self.items[:count]) <= at_most_bytes
            and count <= at_most_events
        ]
        count = max([*within, min(1, len(self.items))])
        taken, self.items = self.items[:count], self.items[count:]
        return taken

    def clear(self) -> list[Parcel]:
        items, self.items = self.items, []
        return items


def limits(mailbox_bytes: int, mailbox_events: int) -> MailboxLimits:
    return LinkSettings(mailbox_bytes=mailbox_bytes, mailbox_events=mailbox_events)


small = st.integers(0, 12)
bounds = st.builds(limits, st.integers(1, 20), st.integers(1, 8))
parcels = st.builds(Parcel, st.integers(0, 1 << 40), small)
operations = st.one_of(
    st.tuples(st.just("put"), parcels),
    st.tuples(st.just("take"), st.tuples(small, small)),
    st.tuples(st.just("clear"), st.none()),
    st.tuples(st.just("hold"), small),
)


def apply(mailbox: Mailbox[Parcel] | NaiveMailbox, name: str, argument: Any) -> object:
    if name == "hold":
        mailbox.held_bytes = argument
        return None
    if name == "take":
        return mailbox.take(at_most_bytes=argument[0], at_most_events=argument[1])
    if name == "clear":
        return mailbox.clear()
    return list(mailbox.put(argument))


class MailboxTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(bounds, st.lists(operations, max_size=30))
    def test_a_mailbox_does_what_a_naive_one_does(
        self, bound: MailboxLimits, steps: list[tuple[str, Any]]
    ) -> None:
        mailbox: Mailbox[Parcel] = Mailbox(bound)
        naive = NaiveMailbox(bound)
        for name, argument in steps:
            self.assertEqual(apply(mailbox, name, argument), apply(naive, name, argument))
            self.assertEqual((len(mailbox), mailbox.size), (len(naive.items), naive.size))
        self.assertEqual(mailbox.clear(), naive.clear())

    @settings(deadline=None)
    @given(bounds, small, st.lists(parcels))
    def test_what_is_put_in_stays_within_the_bound_but_for_a_single_item(
        self, bound: MailboxLimits, held_bytes: int, puts: list[Parcel]
    ) -> None:
        mailbox: Mailbox[Parcel] = Mailbox(bound)
        mailbox.held_bytes = held_bytes
        for item in puts:
            mailbox.put(item)
            if len(mailbox) > 1:
                self.assertLessEqual(mailbox.size + held_bytes, bound.mailbox_bytes)
                self.assertLessEqual(len(mailbox), bound.mailbox_events)

    def test_a_full_mailbox_drops_its_oldest(self) -> None:
        mailbox: Mailbox[Parcel] = Mailbox(limits(10, 3))
        first, second, third = (Parcel(number, 1) for number in range(3))
        for item in (first, second, third):
            self.assertFalse(mailbox.put(item))
        large = Parcel(4, 9)
        self.assertEqual(mailbox.put(large), [first, second])
        self.assertEqual(mailbox.clear(), [third, large])

    def test_an_item_larger_than_the_bound_passes_alone(self) -> None:
        mailbox: Mailbox[Parcel] = Mailbox(limits(10, 5))
        large = Parcel(2, 1000)
        mailbox.put(Parcel(1, 1))
        self.assertEqual(mailbox.put(large), [Parcel(1, 1)])
        self.assertEqual(mailbox.take(at_most_bytes=10, at_most_events=1), [large])

    def test_what_its_owner_holds_counts_towards_the_bound(self) -> None:
        mailbox: Mailbox[Parcel] = Mailbox(limits(10, 100))
        mailbox.held_bytes = 5
        mailbox.put(Parcel(1, 4))
        self.assertFalse(mailbox.put(Parcel(2, 1)))
        self.assertEqual(mailbox.put(Parcel(3, 1)), [Parcel(1, 4)])

    def test_nothing_comes_from_an_empty_mailbox(self) -> None:
        mailbox: Mailbox[Parcel] = Mailbox(limits(10, 2))
        self.assertEqual(mailbox.take(at_most_bytes=0, at_most_events=0), [])
        self.assertEqual(mailbox.clear(), [])


@implementer(IActor)
class ScriptedActor:
    """Takes time in each turn, then asks for turns of the actors that its script names."""

    def __init__(self, name: int, turn: Callable[[int], None]) -> None:
        self.name = name
        self.queued = False
        self._turn = turn

    def turn(self) -> None:
        self._turn(self.name)

    def failed(self) -> None:
        """Its script is at an end."""


@implementer(IActor)
class FailingActor:
    """Raises an exception in its turns, and if so told when it has to end."""

    def __init__(self, ending_fails: bool = False) -> None:
        self.queued = False
        self.ends = 0
        self._ending_fails = ending_fails

    def turn(self) -> None:
        raise ZeroDivisionError("a turn failed")

    def failed(self) -> None:
        self.ends += 1
        if self._ending_fails:
            raise ZeroDivisionError("the end failed")


class ScriptedActorTests(ActorContract, SynchronousTestCase):
    implementation = ScriptedActor

    def make_actor(self, run_queue: RunQueue, clock: Clock) -> IActor:
        self.turns_taken: list[int] = []
        return ScriptedActor(1, self.turns_taken.append)

    def give_work(self) -> None:
        self.run_queue.add(self.actor)

    def work_done(self) -> int:
        return len(self.turns_taken)


class Reactor:
    """A clock whose time passes in turns, with a reader that wants its share of iterations."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.iterations: list[list[int]] = [[]]

    def work(self, milliseconds: int) -> None:
        """Let a turn take so long."""
        self.clock.rightNow += milliseconds
        self.iterations[-1].append(milliseconds)

    def run(self, run_queue: RunQueue) -> None:
        """Iterate until no actor waits."""

        def read() -> None:
            if len(run_queue):
                self.iterations.append([])
                self.clock.callLater(0, read)

        self.clock.callLater(0, read)
        self.clock.advance(0)


class RunQueueTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(
        scripts=st.lists(
            st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=4), min_size=6, max_size=6
        ),
        costs=st.lists(st.integers(0, 7), min_size=6, max_size=6),
        first=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    )
    def test_turns_come_in_the_order_of_asking_so_nobody_waits_more_than_a_round(
        self, scripts: list[list[list[int]]], costs: list[int], first: list[int]
    ) -> None:
        reactor = Reactor()
        run_queue = RunQueue(clock=reactor.clock, slice_seconds=5)
        asked: list[int] = []
        turns: list[int] = []
        # For each turn asked for, how many had been taken by then.
        taken_before: list[int] = []

        def ask(names: Sequence[int]) -> None:
            for name in names:
                if not actors[name].queued:
                    asked.append(name)
                    taken_before.append(len(turns))
                run_queue.add(actors[name])

        def turn(name: int) -> None:
            turns.append(name)
            reactor.work(costs[name])
            if scripts[name]:
                ask(scripts[name].pop(0))

        actors = [ScriptedActor(name, turn) for name in range(6)]
        ask(first)
        reactor.run(run_queue)
        self.assertEqual(turns, asked)
        for place, start in enumerate(taken_before):
            meanwhile = turns[start:place]
            self.assertEqual(len(meanwhile), len(set(meanwhile)), "it waited for a second round")

    @settings(deadline=None)
    @given(costs=st.lists(st.integers(0, 7), min_size=1, max_size=40))
    def test_an_iteration_of_the_reactor_ends_turns_after_a_slice_and_not_before(
        self, costs: list[int]
    ) -> None:
        reactor = Reactor()
        run_queue = RunQueue(clock=reactor.clock, slice_seconds=5)
        for cost in costs:
            run_queue.add(ScriptedActor(cost, reactor.work))
        reactor.run(run_queue)
        self.assertEqual([cost for taken in reactor.iterations for cost in taken], costs)
        for taken in reactor.iterations:
            self.assertLess(sum(taken[:-1]), 5)
        for taken in reactor.iterations[:-1]:
            self.assertGreaterEqual(sum(taken), 5)

    def test_an_actor_that_waits_for_a_turn_takes_one_however_often_it_asks(self) -> None:
        clock = Clock()
        run_queue = RunQueue(clock=clock, slice_seconds=1)
        turns: list[str] = []
        actor = RecordingActor("a", turns)
        run_queue.add(actor)
        run_queue.add(actor)
        self.assertEqual((actor.queued, len(run_queue)), (True, 1))
        clock.advance(0)
        self.assertEqual((turns, actor.queued, len(run_queue)), (["a"], False, 0))

    def test_no_turn_is_taken_before_the_reactor_gives_one(self) -> None:
        clock = Clock()
        turns: list[str] = []
        RunQueue(clock=clock, slice_seconds=1).add(RecordingActor("a", turns))
        self.assertEqual(turns, [])

    def test_who_is_in_a_hurry_takes_the_first_turn_of_an_iteration_at_once(self) -> None:
        clock = Clock()
        run_queue = RunQueue(clock=clock, slice_seconds=1)
        turns: list[str] = []
        for name in ("a", "b", "c"):
            run_queue.hurry(RecordingActor(name, turns))
        self.assertEqual(turns, ["a"])
        clock.advance(0)
        self.assertEqual(turns, ["a", "b", "c"])
        run_queue.hurry(RecordingActor("d", turns))
        self.assertEqual(turns, ["a", "b", "c", "d"])

    def test_who_is_in_a_hurry_does_not_overtake_those_who_wait(self) -> None:
        clock = Clock()
        run_queue = RunQueue(clock=clock, slice_seconds=1)
        turns: list[str] = []
        run_queue.add(RecordingActor("a", turns))
        run_queue.hurry(RecordingActor("b", turns))
        self.assertEqual(turns, [])
        clock.advance(0)
        self.assertEqual(turns, ["a", "b"])

    def test_a_call_follows_each_slice_of_turns(self) -> None:
        reactor, turns = Reactor(), []
        run_queue = RunQueue(clock=reactor.clock, slice_seconds=5)
        run_queue.after_slices(lambda: turns.append("after"))
        for name in "abc":
            run_queue.add(RecordingActor(name, turns))
        reactor.clock.advance(0)
        self.assertEqual(turns, ["a", "b", "c", "after"])

    def test_an_idle_run_queue_has_no_timer(self) -> None:
        clock = Clock()
        run_queue = RunQueue(clock=clock, slice_seconds=1)
        self.assertEqual(clock.getDelayedCalls(), [])
        run_queue.add(RecordingActor("a", []))
        run_queue.add(RecordingActor("b", []))
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        clock.advance(0)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_an_actor_whose_turn_raises_is_ended_and_the_others_go_on(self) -> None:
        clock = Clock()
        run_queue = RunQueue(clock=clock, slice_seconds=1)
        turns: list[str] = []
        failing = FailingActor()
        before, after = RecordingActor("before", turns), RecordingActor("after", turns)
        for actor in (before, failing, after):
            run_queue.add(actor)
        clock.advance(0)
        self.assertEqual(turns, ["before", "after"])
        self.assertEqual((failing.ends, before.ended, after.ended), (1, False, False))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_an_actor_that_fails_while_ending_hurts_nobody(self) -> None:
        clock = Clock()
        run_queue = RunQueue(clock=clock, slice_seconds=1)
        turns: list[str] = []
        failing = FailingActor(ending_fails=True)
        run_queue.add(failing)
        run_queue.add(RecordingActor("after", turns))
        clock.advance(0)
        self.assertEqual((failing.ends, turns), (1, ["after"]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_a_failed_turn_that_took_a_slice_ends_the_iteration_too(self) -> None:
        reactor = Reactor()
        run_queue = RunQueue(clock=reactor.clock, slice_seconds=5)

        def fail(milliseconds: int) -> None:
            reactor.work(milliseconds)
            raise ZeroDivisionError

        run_queue.add(ScriptedActor(5, fail))
        run_queue.add(ScriptedActor(1, reactor.work))
        reactor.run(run_queue)
        self.assertEqual(reactor.iterations, [[5], [1]])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_turns_and_failures_are_counted(self) -> None:
        clock = Clock()
        run_queue = RunQueue(clock=clock, slice_seconds=1)
        run_queue.add(RecordingActor("a", []))
        run_queue.add(FailingActor())
        clock.advance(0)
        self.flushLoggedErrors(ZeroDivisionError)
        run_queue.add(RecordingActor("b", []))
        self.assertEqual(
            {(sample.kind, sample.name): sample.value for sample in run_queue.samples()},
            {
                ("counter", "turns"): 2,
                ("counter", "failed_turns"): 1,
                ("gauge", "run_queue_actors"): 1,
            },
        )
