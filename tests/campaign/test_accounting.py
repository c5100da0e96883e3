"""The account of histories that are made by hand."""

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.campaign.accounting import (
    HELD_UP_SECONDS,
    IN_FLIGHT_SECONDS,
    Account,
    account,
)
from tests.campaign.history import (
    Accepted,
    Disturbance,
    Drops,
    GapTold,
    History,
    Key,
    Kill,
    Receipt,
)
from tests.campaign.matching import LATE_SECONDS

RED, GREEN = "live:red", "live:green"


def accepted(
    number: int,
    *,
    topic: str = RED,
    began: float | None = None,
    dispatcher: int = 0,
    producer: str = "p",
) -> Accepted:
    """An event that was published at second ``began``: at the one of its number, if not given."""
    at = float(number) if began is None else began
    return Accepted(Key(producer, number), topic, dispatcher, at, at, at + 0.1)


def receipt(event: Accepted, *, dispatcher: int | None = None) -> Receipt:
    place = event.dispatcher if dispatcher is None else dispatcher
    return Receipt(event.key, event.topic, place, event.accepted)


def stream(
    *received: Accepted,
    topics: Sequence[str] = (RED,),
    gaps: Sequence[GapTold] = (),
    since: float = 0,
    until: float | None = None,
    frontend: int = 0,
) -> History:
    """A stream that was subscribed from ``since`` to ``until``."""
    history = History("v", frontend, since)
    history.confirm(topics, since)
    if until is not None:
        history.end(until)
    history.receipts += map(receipt, received)
    history.gaps += gaps
    return history


def gap(lost: int | None, *topics: str, at: float = 10) -> GapTold:
    return GapTold(lost, frozenset(topics or (RED,)), at)


EVENTS = [accepted(number) for number in (1, 2, 3, 4)]


def judge(
    *histories: History,
    events: Sequence[Accepted] = EVENTS,
    kills: Sequence[Kill] = (),
    disturbances: Sequence[Disturbance] = (),
    drops: Drops | None = None,
) -> Account:
    return account(
        events, histories, kills=kills, disturbances=disturbances, drops=drops or Drops()
    )


def lost(sum: Account) -> list[int]:
    """The numbers of the events that nobody knows of."""
    return [loss.event.key.number for loss in sum.unaccounted]


class AccountTests(SynchronousTestCase):
    """Four events of one producer, and one stream."""

    def test_all_that_is_due_is_received(self) -> None:
        sum = judge(stream(*EVENTS), stream(*EVENTS))
        self.assertEqual((sum.accepted, sum.due, sum.received), (4, 8, 8))
        self.assertTrue(sum.is_clean)

    def test_what_is_missing_in_silence_is_unaccounted(self) -> None:
        sum = judge(stream(*EVENTS[:1], *EVENTS[3:]))
        self.assertEqual((sum.due, sum.received, lost(sum)), (4, 2, [2, 3]))
        self.assertFalse(sum.is_clean)

    def test_the_last_event_is_due_too(self) -> None:
        self.assertEqual(lost(judge(stream(*EVENTS[:3]))), [4])

    def test_an_event_of_another_topic_is_not_due(self) -> None:
        self.assertEqual(judge(stream(topics=[GREEN])).due, 0)

    def test_an_event_whose_publish_began_before_the_subscription_is_not_due(self) -> None:
        sum = judge(stream(*EVENTS[2:], since=2.05))
        self.assertEqual((sum.due, sum.received, lost(sum)), (2, 2, []))

    def test_such_an_event_may_come_all_the_same(self) -> None:
        self.assertTrue(judge(stream(*EVENTS, since=2.05)).is_clean)

    def test_what_may_have_been_late_when_the_stream_ended_is_undecided(self) -> None:
        until = EVENTS[2].accepted + LATE_SECONDS - 0.5
        sum = judge(stream(EVENTS[0], until=until))
        self.assertEqual((lost(sum), len(sum.undecided)), ([2], 2))

    def test_nothing_is_due_after_the_viewer_unsubscribed(self) -> None:
        history = stream(EVENTS[0], EVENTS[1])
        history.give_up([RED], 2.5)
        self.assertEqual(judge(history).due, 2)

    def test_what_is_published_between_two_subscriptions_is_not_due(self) -> None:
        history = stream(EVENTS[0], EVENTS[3])
        history.give_up([RED], 1.5)
        history.confirm([RED], 3.5)
        sum = judge(history)
        self.assertEqual((sum.due, sum.received), (2, 2))

    def test_a_second_confirmation_changes_nothing(self) -> None:
        history = stream(EVENTS[0], EVENTS[3])
        history.confirm([RED], 3.5)
        self.assertEqual(lost(judge(history)), [2, 3])

    def test_an_event_that_comes_again_is_twice(self) -> None:
        sum = judge(stream(*EVENTS, EVENTS[1]))
        self.assertEqual([disorder.receipt.key.number for disorder in sum.twice], [2])
        self.assertEqual((sum.out_of_order, sum.is_clean), ([], False))

    def test_each_of_two_streams_may_have_an_event(self) -> None:
        self.assertEqual(judge(stream(*EVENTS), stream(*EVENTS)).twice, [])

    def test_an_event_that_nobody_accepted_may_come_once(self) -> None:
        event = accepted(5)
        self.assertTrue(judge(stream(*EVENTS, event)).is_clean)
        self.assertEqual(len(judge(stream(*EVENTS, event, event)).twice), 1)

    def test_an_event_that_comes_after_a_later_one_is_out_of_order(self) -> None:
        first, second, third, fourth = EVENTS
        sum = judge(stream(first, third, second, fourth))
        self.assertEqual([disorder.receipt.key.number for disorder in sum.out_of_order], [2])
        self.assertFalse(sum.is_clean)

    def test_order_is_kept_along_one_dispatcher_topic_and_producer_only(self) -> None:
        for other in (
            accepted(2, dispatcher=1),
            accepted(2, topic=GREEN),
            accepted(2, producer="q"),
        ):
            later = accepted(3)
            history = stream(later, other, topics=[RED, GREEN])
            self.assertTrue(judge(history, events=[other, later]).is_clean)

    def test_what_comes_through_a_dispatcher_that_gave_no_answer_has_no_place(self) -> None:
        history = stream(*EVENTS[1:])
        history.receipts.append(receipt(EVENTS[0], dispatcher=1))
        self.assertTrue(judge(history).is_clean)


class GapTests(SynchronousTestCase):
    """Events 2 and 3 are missing."""

    def received_with(self, *gaps: GapTold, topics: Sequence[str] = (RED,)) -> History:
        return stream(EVENTS[0], EVENTS[3], gaps=gaps, topics=topics)

    def test_a_gap_tells_of_them(self) -> None:
        sum = judge(self.received_with(gap(2)), drops=Drops({0: 2}))
        self.assertEqual((sum.told, sum.is_clean), (2, True))

    def test_so_do_two_gaps(self) -> None:
        sum = judge(self.received_with(gap(1), gap(1)), drops=Drops({0: 2}))
        self.assertEqual((sum.told, sum.is_clean), (2, True))

    def test_a_gap_may_tell_of_more(self) -> None:
        sum = judge(self.received_with(gap(9)), drops=Drops({0: 9}))
        self.assertEqual((sum.told, sum.is_clean), (2, True))

    def test_a_gap_that_is_too_small_leaves_one_unaccounted(self) -> None:
        sum = judge(self.received_with(gap(1)), drops=Drops({0: 2}))
        self.assertEqual((sum.told, lost(sum)), (1, [2]))

    def test_a_gap_of_another_topic_tells_nothing(self) -> None:
        sum = judge(self.received_with(gap(2, GREEN), topics=[RED, GREEN]))
        self.assertEqual((sum.told, lost(sum)), (0, [2, 3]))

    def test_a_gap_of_another_stream_tells_nothing(self) -> None:
        sum = judge(self.received_with(), stream(*EVENTS, gaps=[gap(2)]))
        self.assertEqual(lost(sum), [2, 3])

    def test_a_gap_may_come_later_where_redis_fails_again_before_the_table_is_settled(self) -> None:
        late = EVENTS[1].accepted + LATE_SECONDS
        history = self.received_with(gap(2, at=late + 10))
        chain = [Disturbance("redis", 1, 3), Disturbance("d0-redis", late - 1, late + 1)]
        for disturbances, told in (
            (chain, True),
            (chain[:1], False),
            ([chain[0], Disturbance("d1-redis", late - 1, late + 1)], False),
            ([Disturbance("d0-redis", late + 5, late + 9)], False),
        ):
            sum = judge(history, disturbances=disturbances, drops=Drops({0: 2}))
            self.assertEqual(sum.is_clean, told)

    def test_a_gap_tells_nothing_of_what_is_published_later(self) -> None:
        sum = judge(self.received_with(gap(2, at=2.5)), drops=Drops({0: 2}))
        self.assertEqual((sum.told, lost(sum)), (1, [3]))

    def test_a_gap_tells_nothing_of_what_is_long_ago(self) -> None:
        at = EVENTS[1].accepted + LATE_SECONDS + 0.5
        for number in (2, None):
            sum = judge(self.received_with(gap(number, at=at)), drops=Drops({0: 2}))
            self.assertEqual(lost(sum), [2])

    def test_a_gap_without_a_number_tells_of_all_before_it(self) -> None:
        sum = judge(self.received_with(gap(None, at=2.5)))
        self.assertEqual((sum.told_without_number, lost(sum)), (1, [3]))
        sum = judge(self.received_with(gap(None)))
        self.assertEqual((sum.told_without_number, sum.is_clean), (2, True))

    def test_what_a_gap_tells_by_number_must_be_counted(self) -> None:
        history = self.received_with(gap(2))
        self.assertEqual(judge(history).uncounted, 2)
        sum = judge(history, drops=Drops({0: 1}))
        self.assertEqual((sum.uncounted, sum.is_clean), (1, False))
        self.assertEqual(judge(history, drops=Drops({1: 2})).uncounted, 2)
        self.assertEqual(judge(history, drops=Drops({0: 1}, {0: 1})).uncounted, 0)

    def test_a_dispatcher_counts_once_for_all_streams_of_a_frontend(self) -> None:
        histories = [self.received_with(gap(2)), self.received_with(gap(2))]
        self.assertEqual(judge(*histories, drops=Drops({0: 2})).uncounted, 0)
        histories[1].frontend = 1
        self.assertEqual(judge(*histories, drops=Drops({0: 2})).uncounted, 2)

    def test_a_killed_process_takes_its_counters_with_it(self) -> None:
        history = self.received_with(gap(2))
        for role in ("dispatcher", "frontend"):
            self.assertTrue(judge(history, kills=[Kill(role, 0, 50, 51)]).is_clean)
            self.assertEqual(judge(history, kills=[Kill(role, 1, 50, 51)]).uncounted, 2)


class KillTests(SynchronousTestCase):
    """The dispatcher is killed at second 4.5, after it has accepted all; its way was stalled."""

    KILLS = (Kill("dispatcher", 0, 4.5, 6),)
    STALLED = (Disturbance("deliveries-n0", 2, 5),)

    def test_the_last_events_may_die_with_it(self) -> None:
        sum = judge(stream(*EVENTS[:2]), kills=self.KILLS, disturbances=self.STALLED)
        self.assertEqual((sum.killed, sum.is_clean), (2, True))

    def test_what_was_overtaken_did_not(self) -> None:
        history = stream(EVENTS[0], EVENTS[2])
        sum = judge(history, kills=self.KILLS, disturbances=self.STALLED)
        self.assertEqual((sum.killed, lost(sum)), (1, [2]))

    def test_what_was_not_held_up_and_accepted_a_while_before_did_not(self) -> None:
        for place, began, ended in (("deliveries-n1", 2, 5), ("d1", 2, 5), ("d0", 6, 7)):
            sum = judge(
                stream(*EVENTS[:2]),
                kills=self.KILLS,
                disturbances=[Disturbance(place, began, ended)],
            )
            self.assertEqual((sum.killed, lost(sum)), (1, [3]))

    def test_what_was_held_up_and_accepted_long_before_did_not(self) -> None:
        for last in (IN_FLIGHT_SECONDS, HELD_UP_SECONDS):
            sum = judge(
                stream(EVENTS[0]),
                kills=[Kill("dispatcher", 0, 3.05 + last, 20)],
                disturbances=[Disturbance("d0", 1, 20)][: last == HELD_UP_SECONDS],
                events=EVENTS[:3],
            )
            self.assertEqual((sum.killed, lost(sum)), (1, [2]))

    def test_the_gaps_for_what_was_delivered_by_old_routes_may_die_with_it(self) -> None:
        history = stream(EVENTS[0], EVENTS[2], EVENTS[3])
        for place in ("redis", "d0-redis"):
            cut = [Disturbance(place, 1.5, 2.5)]
            sum = judge(history, kills=self.KILLS, disturbances=cut)
            self.assertEqual((sum.killed, sum.is_clean), (1, True))

    def test_what_was_delivered_by_other_routes_or_long_before_did_not(self) -> None:
        history = stream(EVENTS[0], EVENTS[2], EVENTS[3])
        for cut, killed in (
            (Disturbance("d1-redis", 1.5, 2.5), 4.5),
            (Disturbance("d0-redis", 5, 6), 5.5),
            (Disturbance("d0-redis", 1.5, 2.5), 2.6 + HELD_UP_SECONDS),
        ):
            kills = [Kill("dispatcher", 0, killed, 20)]
            sum = judge(history, kills=kills, disturbances=[cut])
            self.assertEqual((sum.killed, lost(sum)), (0, [2]))

    def test_its_gaps_die_with_it_too_where_redis_failed_again_meanwhile(self) -> None:
        history = stream(EVENTS[0], EVENTS[2], EVENTS[3])
        again = Disturbance("redis", 2 + HELD_UP_SECONDS, 3 + HELD_UP_SECONDS)
        kills = [Kill("dispatcher", 0, 4 + HELD_UP_SECONDS, 20)]
        for disturbances, killed in (([again], 1), ([], 0)):
            disturbances = [Disturbance("d0-redis", 1.5, 2.5), *disturbances]
            self.assertEqual(judge(history, kills=kills, disturbances=disturbances).killed, killed)

    def test_a_gap_tells_first_of_what_cannot_have_died(self) -> None:
        others = [accepted(number, began=5.5, dispatcher=1) for number in (5, 6)]
        sum = judge(
            stream(gaps=[gap(2, at=8)]),
            events=[*EVENTS[2:], *others],
            kills=[Kill("dispatcher", 1, 6, 8)],
            drops=Drops({0: 2}),
        )
        self.assertEqual((sum.told, sum.killed, sum.is_clean), (2, 2, True))

    def test_what_another_one_accepted_did_not(self) -> None:
        kills = [Kill("dispatcher", 1, 4.5, 6), Kill("frontend", 0, 4.5, 6)]
        self.assertEqual(len(judge(stream(*EVENTS[:2]), kills=kills).unaccounted), 2)

    def test_what_the_next_process_accepted_did_not(self) -> None:
        events = [*EVENTS, accepted(7)]
        sum = judge(stream(*EVENTS[:2]), events=events, kills=self.KILLS, disturbances=self.STALLED)
        self.assertEqual((sum.killed, lost(sum)), (2, [7]))

    def test_what_comes_of_the_next_process_overtakes_nothing(self) -> None:
        later = accepted(7)
        sum = judge(
            stream(*EVENTS[:2], later),
            events=[*EVENTS, later],
            kills=self.KILLS,
            disturbances=self.STALLED,
        )
        self.assertEqual((sum.killed, sum.is_clean), (2, True))

    def test_order_is_not_kept_from_one_process_to_the_next(self) -> None:
        later = accepted(7)
        history = stream(*EVENTS[:3], later, EVENTS[3])
        sum = judge(history, events=[*EVENTS, later], kills=self.KILLS, disturbances=self.STALLED)
        self.assertTrue(sum.is_clean)
