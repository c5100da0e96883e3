"""Tests of rtdeliver.frontend.interest."""

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.config.sections import Routing
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.errors import AnswerLost, Unavailable, Unreachable
from rtdeliver.frontend.interest import Interest
from rtdeliver.frontend.subscriptions import SubscriptionTable
from rtdeliver.interfaces import IDispatcherClient, IHistory, IRoutingTable
from rtdeliver.messages import (
    Acknowledgement,
    Announcement,
    Applied,
    Bookmark,
    HistoryPage,
    HistoryQuery,
    Revocations,
)
from rtdeliver.model import FrontendRef, Revocation, Topic
from rtdeliver.revocations.memory import MemoryRevocationStore
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.contracts.dispatcher_client import DispatcherClientContract
from tests.fakes import (
    PlainGroup,
    ScriptedDispatcherClient,
    TableDispatcherClient,
    memory_history,
    new_backoff,
)

N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")
RED, GREEN, BLUE = (Topic(f"live:{name}") for name in ("red", "green", "blue"))
SETTINGS = Routing(announce_seconds=3, lease_seconds=30, confirm_seconds=2)


def pass_seconds(clock: Clock, seconds: float) -> None:
    """Let time pass, with each call at its very moment."""
    end = clock.seconds() + seconds
    while calls := [call for call in clock.getDelayedCalls() if call.getTime() <= end]:
        clock.advance(max(0.0, min(call.getTime() for call in calls) - clock.seconds()))
    clock.advance(end - clock.seconds())


class Node:
    """A frontend's table and its interest, without streams."""

    def __init__(self, client: Any, clock: Clock) -> None:
        self.table: SubscriptionTable[str, PlainGroup] = SubscriptionTable(
            group=PlainGroup,
            changed=lambda topic: self.interest.changed(topic),
            topics_per_viewer=100,
            max_topics=100_000,
        )
        self.heads: list[tuple[list[Topic], Mapping[Topic, str] | None]] = []
        self.lapses: list[tuple[float, list[Topic]]] = []
        self.interest = Interest(
            wanted=self.table.count,
            all_wanted=self.table.counts,
            acknowledged=lambda topics, heads: self.heads.append((sorted(topics), heads)),
            lapsed=lambda topics: self.lapses.append((clock.seconds(), sorted(topics))),
            client=client,
            clock=clock,
            settings=SETTINGS,
            backoff=new_backoff(),
        )

    def toggle(self, viewer: str, topic: Topic) -> None:
        if topic in self.table.topics(viewer):
            self.table.change(viewer, remove=[topic])
        else:
            self.table.change(viewer, add=[topic])


class InterestTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.client = ScriptedDispatcherClient()
        node = Node(self.client, self.clock)
        self.table, self.interest, self.lapses = node.table, node.interest, node.lapses

    def started(self, *topics: Topic) -> None:
        """Start with a viewer of each topic, known to the dispatchers; forget the talk of it."""
        self.table.change("ann", add=topics)
        self.interest.start(N1)
        self.pass_seconds(0)
        self.answer()
        self.client.announcements.clear()

    def answer(self, *, full: bool = False) -> None:
        self.client.answers.pop(0).callback(Acknowledgement(lease_seconds=30, full=full))

    def fail_announcement(self, error: Exception | None = None) -> None:
        self.client.answers.pop(0).errback(error or AnswerLost("no answer came"))

    def pass_seconds(self, seconds: float) -> None:
        pass_seconds(self.clock, seconds)

    def told(self) -> list[dict[Topic, int]]:
        """The counts of the announcements so far, which are forgotten then."""
        counts = [dict(announcement.counts) for announcement in self.client.announcements]
        self.client.announcements.clear()
        return counts


class AnnouncingTests(InterestTestCase):
    """What is announced, and when."""

    def test_nothing_is_announced_before_the_start(self) -> None:
        self.table.change("ann", add=[RED])
        self.pass_seconds(60)
        self.assertEqual([], self.client.announcements)
        self.assertFalse(self.interest.answered)

    def test_the_first_announcement_tells_all(self) -> None:
        self.table.change("ann", add=[RED, GREEN])
        self.table.change("bob", add=[RED])
        self.interest.start(N1)
        self.pass_seconds(0)
        [announcement] = self.client.announcements
        self.assertEqual(
            Announcement(
                frontend=N1, counts={RED: 2, GREEN: 1}, full=True, lease_seconds=30, sequence=1
            ),
            announcement,
        )
        self.assertFalse(self.interest.answered)
        self.answer()
        self.assertTrue(self.interest.answered)

    def test_the_first_viewer_of_a_topic_is_announced_at_once(self) -> None:
        self.started(RED)
        self.table.change("bob", add=[GREEN])
        self.pass_seconds(0)
        [announcement] = self.client.announcements
        self.assertEqual({GREEN: 1}, announcement.counts)
        self.assertFalse(announcement.full)

    def test_the_leaving_of_the_last_one_is_announced_at_once(self) -> None:
        self.started(RED, GREEN)
        self.table.change("ann", remove=[RED])
        self.pass_seconds(0)
        self.assertEqual([{RED: 0}], self.told())

    def test_further_viewers_wait_for_the_renewal_of_the_lease(self) -> None:
        self.started(RED, GREEN)
        self.table.change("bob", add=[RED])
        self.pass_seconds(2.9)
        self.assertEqual([], self.told())
        self.pass_seconds(0.1)
        self.assertEqual([{RED: 2}], self.told())

    def test_the_lease_is_renewed_without_a_change(self) -> None:
        self.started(RED)
        for _ in range(3):
            self.pass_seconds(3)
            [announcement] = self.client.announcements
            self.assertEqual(30, announcement.lease_seconds)
            self.assertEqual([{}], self.told())
            self.answer()

    def test_the_lease_is_renewed_by_what_is_announced_at_once(self) -> None:
        self.started()
        self.pass_seconds(2)
        self.table.change("ann", add=[RED])
        self.pass_seconds(0)
        self.answer()
        self.told()
        self.pass_seconds(2.9)
        self.assertEqual([], self.told())
        self.pass_seconds(0.1)
        self.assertEqual([{}], self.told())

    def test_a_count_that_is_what_it_was_is_not_announced(self) -> None:
        self.started(RED)
        self.table.change("bob", add=[RED])
        self.table.change("bob", remove=[RED])
        self.pass_seconds(3)
        self.assertEqual([{}], self.told())

    def test_a_burst_is_announced_in_one(self) -> None:
        self.started()
        topics = [Topic(f"live:{number}") for number in range(90)]
        for viewer in range(10):
            self.table.change(str(viewer), add=topics)
        self.pass_seconds(0)
        self.assertEqual([dict.fromkeys(topics, 10)], self.told())

    def test_one_announcement_is_in_flight_at_a_time(self) -> None:
        self.started()
        self.table.change("ann", add=[RED])
        self.pass_seconds(0)
        self.table.change("ann", add=[GREEN])
        self.table.change("bob", add=[BLUE])
        self.pass_seconds(60)
        self.assertEqual([{RED: 1}], self.told())
        self.answer()
        self.pass_seconds(0)
        self.assertEqual([{GREEN: 1, BLUE: 1}], self.told())

    def test_a_change_in_flight_is_announced_at_once_after_it(self) -> None:
        self.started()
        self.table.change("ann", add=[RED])
        self.pass_seconds(0)
        self.table.change("ann", remove=[RED])
        self.answer()
        self.pass_seconds(0)
        self.assertEqual([{RED: 1}, {RED: 0}], self.told())

    def test_a_count_that_changes_in_flight_is_announced_later(self) -> None:
        self.started()
        self.table.change("ann", add=[RED])
        self.pass_seconds(0)
        self.table.change("bob", add=[RED])
        self.table.change("cid", add=[RED])
        self.answer()
        self.pass_seconds(3)
        self.assertEqual([{RED: 1}, {RED: 3}], self.told())

    def test_the_sequence_grows(self) -> None:
        self.started()
        for _ in range(3):
            self.pass_seconds(3)
            self.answer()
        self.assertEqual([2, 3, 4], [told.sequence for told in self.client.announcements])

    def test_a_dispatcher_that_asks_for_all_gets_all_at_once(self) -> None:
        self.started(RED, GREEN)
        self.pass_seconds(3)
        self.answer(full=True)
        self.assertFalse(self.interest.answered)
        self.table.change("ann", remove=[GREEN])
        self.pass_seconds(0)
        renewal, everything = self.client.announcements
        self.assertEqual((False, {}), (renewal.full, renewal.counts))
        self.assertEqual((True, {RED: 1}), (everything.full, everything.counts))
        self.answer()
        self.assertTrue(self.interest.answered)

    def test_who_was_forgotten_is_told_once_all_is_known_again(self) -> None:
        self.started(RED)
        self.pass_seconds(3)
        self.answer(full=True)
        self.pass_seconds(0)
        self.assertEqual([], self.lapses)
        self.fail_announcement()
        self.pass_seconds(0.1)
        self.answer()
        self.assertEqual([(3.1, [RED])], self.lapses)
        self.pass_seconds(3)
        self.answer()
        self.assertEqual([(3.1, [RED])], self.lapses)

    def test_who_was_never_known_was_not_forgotten(self) -> None:
        self.table.change("ann", add=[RED])
        self.interest.start(N1)
        self.pass_seconds(0)
        self.fail_announcement()
        self.pass_seconds(0.1)
        self.answer()
        self.assertEqual([], self.lapses)

    def test_a_dispatcher_that_asks_for_all_again_is_not_told_without_a_pause(self) -> None:
        self.table.change("ann", add=[RED])
        self.interest.start(N1)
        self.pass_seconds(0)
        self.answer(full=True)
        self.pass_seconds(0)
        self.assertEqual(1, len(self.client.announcements))


class FailingTests(InterestTestCase):
    """Dispatchers that do not answer."""

    def test_the_pauses_grow_up_to_a_bound(self) -> None:
        self.started()
        self.pass_seconds(3)
        for pause in (0.1, 0.2, 0.4, 0.8, 1.6, 3, 3, 3):
            self.client.announcements.clear()
            self.fail_announcement()
            self.pass_seconds(pause - 0.01)
            self.assertEqual([], self.client.announcements)
            self.pass_seconds(0.02)
            self.assertEqual(1, len(self.client.announcements))

    def test_an_answer_ends_the_pauses(self) -> None:
        self.started()
        self.pass_seconds(3)
        for _ in range(5):
            self.fail_announcement()
            self.pass_seconds(3)
        self.answer()
        self.assertTrue(self.interest.answered)
        self.pass_seconds(3)
        self.client.announcements.clear()
        self.fail_announcement()
        self.pass_seconds(0.11)
        self.assertEqual(1, len(self.client.announcements))

    def test_nobody_is_in_a_hurry_while_nothing_answers(self) -> None:
        self.started()
        self.pass_seconds(3)
        for _ in range(6):
            self.fail_announcement()
            self.pass_seconds(3)
        self.fail_announcement()
        self.told()
        self.table.change("ann", add=[RED])
        self.pass_seconds(2.9)
        self.assertEqual([], self.told())
        self.pass_seconds(0.2)
        self.assertEqual([{RED: 1}], self.told())

    def test_what_was_not_answered_is_announced_again_with_what_came_since(self) -> None:
        self.started(RED)
        self.table.change("ann", add=[GREEN], remove=[RED])
        self.pass_seconds(0)
        self.table.change("ann", add=[BLUE])
        self.fail_announcement()
        self.pass_seconds(1)
        self.assertEqual([{RED: 0, GREEN: 1}, {RED: 0, GREEN: 1, BLUE: 1}], self.told())

    def test_a_change_that_was_taken_back_is_announced_where_the_answer_was_lost(self) -> None:
        self.started(RED)
        self.table.change("ann", remove=[RED])
        self.pass_seconds(0)
        self.table.change("ann", add=[RED])
        self.fail_announcement()
        self.pass_seconds(1)
        self.assertEqual([{RED: 0}, {RED: 1}], self.told())

    def test_all_is_announced_until_it_is_answered(self) -> None:
        self.table.change("ann", add=[RED])
        self.interest.start(N1)
        self.pass_seconds(0)
        self.table.change("ann", add=[GREEN], remove=[RED])
        self.fail_announcement(Unreachable("nobody there"))
        self.pass_seconds(1)
        first, second = self.client.announcements
        self.assertTrue(first.full and second.full)
        self.assertEqual({GREEN: 1}, second.counts)

    def test_it_is_not_answered_after_a_failure(self) -> None:
        self.started(RED)
        self.pass_seconds(3)
        self.fail_announcement()
        self.assertFalse(self.interest.answered)
        self.assertEqual([RED], self.interest.unconfirmed([RED]))
        self.pass_seconds(1)
        self.answer()
        self.assertTrue(self.interest.answered)
        self.assertEqual([], self.interest.unconfirmed([RED]))

    def test_a_fault_of_this_process_is_logged_and_passes(self) -> None:
        self.started()
        self.pass_seconds(3)
        self.fail_announcement(ZeroDivisionError())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.client.announcements.clear()
        self.pass_seconds(1)
        self.assertEqual(1, len(self.client.announcements))


class ConfirmingTests(InterestTestCase):
    """What a subscriber waits for."""

    def test_what_is_announced_is_confirmed_at_once(self) -> None:
        self.started(RED, GREEN)
        self.assertEqual([], self.successResultOf(self.interest.confirmed([RED, GREEN])))

    def test_no_topics_need_no_confirmation(self) -> None:
        self.assertEqual([], self.successResultOf(self.interest.confirmed([])))

    def test_a_new_topic_is_confirmed_by_the_answer(self) -> None:
        self.started(RED)
        self.table.change("ann", add=[GREEN])
        confirmed = self.interest.confirmed([RED, GREEN])
        self.pass_seconds(1)
        self.assertNoResult(confirmed)
        self.answer()
        self.assertEqual([], self.successResultOf(confirmed))

    def test_the_answer_to_an_earlier_announcement_confirms_nothing(self) -> None:
        self.started()
        self.table.change("ann", add=[RED])
        self.pass_seconds(0)
        self.table.change("ann", add=[GREEN])
        confirmed = self.interest.confirmed([GREEN])
        self.answer()
        self.pass_seconds(0)
        self.assertNoResult(confirmed)
        self.answer()
        self.assertEqual([], self.successResultOf(confirmed))

    def test_a_topic_whose_end_is_in_flight_is_not_confirmed(self) -> None:
        self.started(RED)
        self.table.change("ann", remove=[RED])
        self.pass_seconds(0)
        self.table.change("ann", add=[RED])
        confirmed = self.interest.confirmed([RED])
        self.assertNoResult(confirmed)
        self.answer()
        self.assertNoResult(confirmed)
        self.pass_seconds(0)
        self.answer()
        self.assertEqual([], self.successResultOf(confirmed))

    def test_a_topic_whose_changed_count_is_in_flight_is_still_confirmed(self) -> None:
        self.started(RED)
        self.table.change("bob", add=[RED])
        self.pass_seconds(3)
        self.assertEqual([{RED: 2}], self.told())
        self.assertEqual([], self.interest.unconfirmed([RED]))
        self.assertEqual([], self.successResultOf(self.interest.confirmed([RED])))

    def test_a_topic_whose_changed_count_was_lost_is_confirmed_and_announced_again(self) -> None:
        self.started(RED)
        self.table.change("bob", add=[RED])
        self.pass_seconds(3)
        self.fail_announcement()
        self.pass_seconds(0.1)
        self.assertEqual([{RED: 2}, {RED: 2}], self.told())
        self.answer()
        self.assertEqual([], self.interest.unconfirmed([RED]))

    def test_the_topics_that_are_not_confirmed_in_time_are_pending(self) -> None:
        self.started(RED)
        self.table.change("ann", add=[GREEN])
        confirmed = self.interest.confirmed([RED, GREEN])
        self.pass_seconds(1.9)
        self.assertNoResult(confirmed)
        self.pass_seconds(0.2)
        self.assertEqual([GREEN], self.successResultOf(confirmed))

    def test_a_late_answer_finds_nobody_waiting(self) -> None:
        self.started()
        self.table.change("ann", add=[RED])
        confirmed = self.interest.confirmed([RED])
        self.pass_seconds(2.1)
        self.successResultOf(confirmed)
        self.answer()
        self.assertEqual([], self.interest.unconfirmed([RED]))

    def test_nothing_is_confirmed_while_no_dispatcher_answers(self) -> None:
        self.started(RED)
        self.pass_seconds(3)
        self.fail_announcement()
        confirmed = self.interest.confirmed([RED])
        self.pass_seconds(1)
        self.assertNoResult(confirmed)
        self.answer()
        self.assertEqual([], self.successResultOf(confirmed))

    def test_who_waits_leaves_no_timer_behind(self) -> None:
        self.started()
        self.table.change("ann", add=[RED])
        confirmed = [self.interest.confirmed([RED]) for _ in range(10)]
        self.pass_seconds(0)
        self.answer()
        for each in confirmed:
            self.successResultOf(each)
        # The renewal of the lease alone.
        self.assertEqual(1, len(self.clock.getDelayedCalls()))


class LeavingTests(InterestTestCase):
    """The end of a frontend."""

    def leave(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.interest.leave())

    def test_leaving_takes_all_out_and_is_the_last_word(self) -> None:
        self.started(RED)
        left = self.leave()
        [last] = self.client.announcements
        self.assertEqual((0, True, {}), (last.lease_seconds, last.full, last.counts))
        self.assertEqual(2, last.sequence)
        self.assertNoResult(left)
        self.answer()
        self.successResultOf(left)
        self.table.change("ann", add=[GREEN])
        self.pass_seconds(60)
        self.assertEqual([last], self.client.announcements)

    def test_leaving_waits_for_what_is_in_flight(self) -> None:
        self.started(RED)
        self.table.change("ann", add=[GREEN])
        self.pass_seconds(0)
        left = self.leave()
        self.assertEqual([{GREEN: 1}], self.told())
        self.answer()
        self.assertEqual([{}], self.told())
        self.assertNoResult(left)
        self.answer()
        self.successResultOf(left)

    def test_leaving_is_tried_once(self) -> None:
        self.started(RED)
        left = self.leave()
        self.fail_announcement()
        self.successResultOf(left)
        self.pass_seconds(60)
        self.assertEqual(1, len(self.client.announcements))

    def test_who_never_came_does_not_leave(self) -> None:
        self.successResultOf(self.leave())
        self.assertEqual([], self.client.announcements)

    def test_leaving_takes_out_what_the_routing_table_holds(self) -> None:
        routing_table = MemoryRoutingTable(clock=self.clock)
        node = Node(TableDispatcherClient(routing_table), self.clock)
        node.table.change("ann", add=[RED])
        node.interest.start(N1)
        self.pass_seconds(0)
        self.assertEqual((N1,), self.successResultOf(routing_table.route(RED)).frontends)
        self.successResultOf(Deferred.fromCoroutine(node.interest.leave()))
        self.assertEqual((), self.successResultOf(routing_table.route(RED)).frontends)
        self.assertEqual([], self.successResultOf(routing_table.nodes()))


class Weather(enum.Enum):
    """What becomes of announcements: when they are applied and when answered, in seconds."""

    FINE = (0.0, 0.01)
    SLOW = (1.5, 2.5)
    REFUSED = (None, 0.0)
    LOST = (None, 5.0)
    ANSWER_LOST = (0.0, 5.0)
    OVERTAKEN = (5.3, 5.0)
    LONG_OVERTAKEN = (40.0, 5.0)


@implementer(IDispatcherClient)
class UnreliableDispatchers:
    """Dispatchers that share a routing table, on a network that loses, delays and reorders."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.weather = Weather.FINE
        self._store = MemoryRevocationStore(max_revocations=10, now=clock.seconds)
        self.histories = memory_history(clock)
        self.restart()

    def restart(self) -> None:
        """Begin again with an empty routing_table; what was on the way is lost."""
        self.routing_table: IRoutingTable = MemoryRoutingTable(clock=self._clock)
        self.emptied = True

    def change_weather(self, weather: Weather) -> None:
        self.weather = weather

    def announce(self, announcement: Announcement) -> Deferred[Acknowledgement]:
        if self.weather is Weather.REFUSED:
            return fail(Unreachable("nobody there"))
        applied_after, answered_after = self.weather.value
        answer: Deferred[Acknowledgement] = Deferred()
        known: list[Applied] = []
        if applied_after is not None:
            self._clock.callLater(applied_after, self._apply, announcement, known)
        heard = self.weather in (Weather.FINE, Weather.SLOW)
        told = known if heard else []
        self._clock.callLater(answered_after, self._answer, answer, told, announcement)
        return answer

    def frontends(self) -> Deferred[Sequence[FrontendRef]]:
        return TableDispatcherClient(self.routing_table).frontends()

    def revocations(self, after: Bookmark) -> Deferred[Revocations]:
        return self._store.after(after)

    def restore(self, revocations: Sequence[Revocation]) -> Deferred[None]:
        return self._store.add(revocations)

    def history(self, queries: Sequence[HistoryQuery]) -> Deferred[Sequence[HistoryPage | None]]:
        return self.histories.read(queries)

    def holds(self, topic: Topic) -> bool:
        return N1 in result_of(self.routing_table.route(topic)).frontends

    def _apply(self, announcement: Announcement, known: list[Applied]) -> None:
        applied = self.routing_table.apply(announcement)
        applied.addCallbacks(known.append, lambda failure: failure.trap(Unavailable))
        self.emptied = self.emptied and not announcement.full

    def _answer(
        self, answer: Deferred[Acknowledgement], known: list[Applied], announcement: Announcement
    ) -> None:
        if known:
            heads = result_of(self.histories.heads(announcement.watched))
            answer.callback(
                Acknowledgement(
                    lease_seconds=announcement.lease_seconds,
                    full=not known[0].known,
                    heads={topic: str(place) for topic, place in heads.items()},
                )
            )
        else:
            answer.errback(AnswerLost("no answer came"))


def result_of(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addCallback(results.append)
    return results[0]


WATCHED = st.sampled_from([RED, GREEN])
STEPS = st.one_of(
    st.tuples(st.just("toggle"), st.sampled_from(["ann", "bob"]), WATCHED),
    st.tuples(st.just("toggle"), st.just("ann"), st.just(RED)),
    st.tuples(st.just("drop"), st.just("ann")),
    st.tuples(st.just("pass"), st.sampled_from([0, 0.01, 0.1, 1, 3])),
    st.tuples(st.just("pass"), st.sampled_from([6, 20, 40])),
    st.tuples(st.just("confirm"), WATCHED),
    st.tuples(st.just("weather"), st.sampled_from(Weather)),
    st.tuples(st.just("restart")),
)


class UnreliableDispatchersTests(DispatcherClientContract, SynchronousTestCase):
    """What holds in fine weather."""

    implementation = UnreliableDispatchers

    def make_client(
        self,
        dispatcher: Dispatcher,
        routing_table: IRoutingTable,
        history: IHistory,
    ) -> IDispatcherClient:
        client = UnreliableDispatchers(self.clock)
        client.routing_table = routing_table
        client.histories = history
        return client

    def let_be_answered(self) -> None:
        self.clock.advance(0.01)


class ConvergingTests(SynchronousTestCase):
    """The goal, whatever happens on the way."""

    @settings(deadline=None, max_examples=200)
    @given(st.lists(STEPS, min_size=12, max_size=40))
    @example(
        [
            ("toggle", "ann", RED),
            ("weather", Weather.LONG_OVERTAKEN),
            ("pass", 1),
            ("weather", Weather.FINE),
            ("pass", 6),
            ("toggle", "ann", GREEN),
            ("pass", 1),
            ("restart",),
            ("weather", Weather.LOST),
            ("pass", 30),
            ("pass", 6),
            ("pass", 3),
        ]
    )
    @example(
        [
            ("toggle", "ann", RED),
            ("pass", 1),
            ("weather", Weather.ANSWER_LOST),
            ("toggle", "ann", RED),
            ("pass", 0),
            ("toggle", "ann", RED),
            ("weather", Weather.FINE),
            ("pass", 6),
        ]
    )
    def test_the_routing_table_becomes_what_the_table_is_and_no_confirmation_is_false(
        self, steps: list[tuple[Any, ...]]
    ) -> None:
        clock = Clock()
        dispatchers = UnreliableDispatchers(clock)
        node = Node(dispatchers, clock)
        node.interest.start(N1)
        false: list[Topic] = []

        def check(pending: list[Topic], topic: Topic) -> None:
            if not pending and not dispatchers.emptied and not dispatchers.holds(topic):
                false.append(topic)

        actions: dict[str, Callable[..., object]] = {
            "toggle": node.toggle,
            "drop": node.table.drop,
            "pass": lambda seconds: pass_seconds(clock, seconds),
            "confirm": lambda topic: node.interest.confirmed([topic]).addCallback(check, topic),
            "weather": dispatchers.change_weather,
            "restart": dispatchers.restart,
        }
        for name, *arguments in steps:
            actions[name](*arguments)
            for topic in (RED, GREEN):
                check(node.interest.unconfirmed([topic]), topic)
            self.assertEqual([], false, "confirmed, and not in the routing_table")
        dispatchers.change_weather(Weather.FINE)
        pass_seconds(clock, 60)
        for topic in (RED, GREEN):
            viewers = node.table.count(topic)
            self.assertEqual(
                {"n1": viewers} if viewers else {},
                self.successResultOf(dispatchers.routing_table.viewers(topic)),
            )
        self.assertTrue(node.interest.answered)
        self.assertEqual([], node.interest.unconfirmed(node.table.counts()))
        self.assertEqual([], false, "confirmed, and not in the routing_table")

    def test_a_frontend_that_was_not_heard_for_longer_than_its_lease_announces_all(self) -> None:
        clock = Clock()
        dispatchers = UnreliableDispatchers(clock)
        node = Node(dispatchers, clock)
        node.table.change("ann", add=[RED])
        node.interest.start(N1)
        pass_seconds(clock, 1)
        self.assertTrue(dispatchers.holds(RED))
        dispatchers.change_weather(Weather.LOST)
        pass_seconds(clock, 40)
        self.assertFalse(dispatchers.holds(RED))
        dispatchers.change_weather(Weather.FINE)
        pass_seconds(clock, 10)
        self.assertTrue(dispatchers.holds(RED))

    def test_an_announcement_that_is_overtaken_undoes_nothing(self) -> None:
        clock = Clock()
        dispatchers = UnreliableDispatchers(clock)
        node = Node(dispatchers, clock)
        node.table.change("ann", add=[RED])
        node.interest.start(N1)
        pass_seconds(clock, 1)
        dispatchers.change_weather(Weather.OVERTAKEN)
        node.table.change("ann", remove=[RED])
        pass_seconds(clock, 0)
        dispatchers.change_weather(Weather.FINE)
        node.table.change("ann", add=[RED])
        for _ in range(100):
            pass_seconds(clock, 0.1)
            self.assertTrue(dispatchers.holds(RED))

    def test_an_empty_routing_table_is_filled_with_the_next_renewal(self) -> None:
        clock = Clock()
        dispatchers = UnreliableDispatchers(clock)
        node = Node(dispatchers, clock)
        node.table.change("ann", add=[RED])
        node.interest.start(N1)
        pass_seconds(clock, 1)
        dispatchers.restart()
        pass_seconds(clock, 3.1)
        self.assertTrue(dispatchers.holds(RED))
