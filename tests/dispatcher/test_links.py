"""Tests of rtdeliver.dispatcher.links."""

import itertools
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.actor import RunQueue
from rtdeliver.config.sections import Deliveries
from rtdeliver.dispatcher.link import Link, LinkCounts
from rtdeliver.dispatcher.links import Links
from rtdeliver.errors import AnsweredNo, AnswerLost, StaleIncarnation, Unreachable
from rtdeliver.interfaces import IActor, IFrontendClient
from rtdeliver.messages import TopicMembers
from rtdeliver.model import Event, FrontendRef, Gap, Item, Topic
from tests.contracts.actor import ActorContract
from tests.fakes import ScriptedFrontendClient, new_backoff

RED, GREEN = Topic("live:red"), Topic("live:green")
N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")
N1_AGAIN = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="second")
N2 = FrontendRef(node="n2", url="http://10.0.0.6:8081", incarnation="other")
ENDLESS = 1 << 30


def event(number: int, topic: Topic = RED, size: int = 10) -> Event:
    return Event(topic=topic, id=str(number), line=b"." * size)


def nobody(_: FrontendRef) -> bool:
    return False


def ids(batch: Sequence[Item]) -> list[str | tuple[Topic, int]]:
    """The ids of events, and what gaps tell."""
    assert all(isinstance(item, Event | Gap) for item in batch)
    return [
        item.id if isinstance(item, Event) else (item.topic, item.lost)
        for item in batch
        if isinstance(item, Event | Gap)
    ]


@implementer(IFrontendClient)
class RaisingClient:
    """Breaks the promise that whatever goes wrong is in the Deferred."""

    def __init__(self) -> None:
        self.calls = 0

    def deliver(self, frontend: FrontendRef, batch: Sequence[Item]) -> Deferred[None]:
        self.calls += 1
        raise ZeroDivisionError

    def members(
        self, frontend: FrontendRef, topic: Topic, after: str, limit: int
    ) -> Deferred[TopicMembers]:
        raise ZeroDivisionError


class Subject:
    """Links with their surroundings, and what came of them."""

    def __init__(
        self,
        client: Any = None,
        *,
        mailbox_bytes: int = ENDLESS,
        mailbox_events: int = ENDLESS,
        batch_events: int = 100,
        batch_bytes: int = ENDLESS,
    ) -> None:
        self.clock = Clock()
        self.client = client or ScriptedFrontendClient()
        self.stale: list[FrontendRef] = []
        self.links = Links(
            client=self.client,
            settings=Deliveries(
                mailbox_bytes=mailbox_bytes,
                mailbox_events=mailbox_events,
                batch_events=batch_events,
                batch_bytes=batch_bytes,
            ),
            clock=self.clock,
            run_queue=RunQueue(clock=self.clock, slice_seconds=1),
            new_backoff=new_backoff,
            stale=self.stale.append,
        )

    def post(self, *numbers: int, to: FrontendRef = N1, topic: Topic = RED, size: int = 10) -> None:
        for number in numbers:
            self.links.post(to, event(number, topic, size))

    def turns(self) -> None:
        self.clock.advance(0)

    def pass_seconds(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds / 0.05))

    def answer(self, error: Exception | None = None) -> None:
        """Answer the oldest delivery, and let be done what follows from it at once."""
        answer = self.client.answers.pop(0)
        if error is None:
            answer.callback(None)
        else:
            answer.errback(error)
        self.turns()

    def delivered(self) -> list[list[str | tuple[Topic, int]]]:
        """The batches so far, which are forgotten then."""
        batches = [ids(batch) for _, batch in self.client.deliveries]
        self.client.deliveries.clear()
        return batches

    def samples(self) -> dict[str, float]:
        return {
            ".".join([sample.name, *sample.labels.values()]): sample.value
            for sample in self.links.samples()
        }

    def dropped(self) -> dict[str, float]:
        """Events dropped, by reason; none where it was none."""
        prefix = "dropped.dispatcher."
        return {
            name.removeprefix(prefix): value
            for name, value in self.samples().items()
            if name.startswith(prefix) and value
        }


class LinkContractTests(ActorContract, SynchronousTestCase):
    implementation = Link

    def make_actor(self, run_queue: RunQueue, clock: Clock) -> IActor:
        self.numbers = itertools.count()
        self.counts = LinkCounts()
        self.link = Link(
            name="n1",
            send=lambda _: succeed(None),
            settings=Deliveries(),
            clock=clock,
            run_queue=run_queue,
            backoff=new_backoff(),
            counts=self.counts,
            broken=lambda link: link.close("failed"),
            left=lambda _: None,
        )
        return self.link

    def give_work(self) -> None:
        self.link.post(event(next(self.numbers)))

    def work_done(self) -> int:
        return self.counts.delivered


class DeliveringTests(SynchronousTestCase):
    """While all goes well."""

    def test_an_event_is_delivered_in_the_next_turn(self) -> None:
        subject = Subject()
        subject.post(1)
        self.assertEqual([], subject.client.deliveries)
        subject.turns()
        self.assertEqual([(N1, [event(1)])], subject.client.deliveries)

    def test_what_gathered_is_one_batch_in_order(self) -> None:
        subject = Subject()
        subject.post(1, 2)
        subject.post(3, topic=GREEN)
        subject.post(4)
        subject.turns()
        self.assertEqual([["1", "2", "3", "4"]], subject.delivered())

    def test_one_batch_is_in_flight_and_the_rest_gathers(self) -> None:
        subject = Subject()
        subject.post(1)
        subject.turns()
        subject.post(2, 3)
        subject.turns()
        subject.post(4)
        subject.pass_seconds(60)
        self.assertEqual([["1"]], subject.delivered())
        subject.answer()
        self.assertEqual([["2", "3", "4"]], subject.delivered())

    def test_nothing_is_delivered_where_nothing_waits(self) -> None:
        subject = Subject()
        subject.post(1)
        subject.turns()
        subject.answer()
        subject.pass_seconds(60)
        self.assertEqual([["1"]], subject.delivered())

    def test_a_batch_is_bounded_by_events(self) -> None:
        subject = Subject(batch_events=3)
        subject.client.answer_at_once = True
        subject.post(*range(8))
        subject.turns()
        self.assertEqual(
            [["0", "1", "2"], ["3", "4", "5"], ["6", "7"]],
            subject.delivered(),
        )

    def test_a_batch_is_bounded_by_bytes(self) -> None:
        subject = Subject(batch_bytes=25)
        subject.client.answer_at_once = True
        subject.post(1, 2, 3)
        subject.post(4, size=100)
        subject.post(5)
        subject.turns()
        self.assertEqual([["1", "2"], ["3"], ["4"], ["5"]], subject.delivered())

    def test_a_gap_is_told_before_the_events(self) -> None:
        subject = Subject()
        subject.post(1)
        subject.links.post(N1, Gap(topic=RED, lost=2))
        subject.links.post(N1, Gap(topic=RED, lost=3))
        subject.turns()
        self.assertEqual([[(RED, 5), "1"]], subject.delivered())
        self.assertEqual({}, subject.dropped())

    def test_a_gap_is_told_by_itself_where_no_event_follows(self) -> None:
        subject = Subject()
        subject.links.post(N1, Gap(topic=RED, lost=2))
        subject.turns()
        self.assertEqual([[(RED, 2)]], subject.delivered())

    def test_each_frontend_has_a_link_of_its_own(self) -> None:
        subject = Subject()
        subject.post(1)
        subject.post(2, to=N2)
        subject.turns()
        subject.post(3)
        subject.post(4, to=N2)
        subject.client.answers.pop().callback(None)
        subject.turns()
        self.assertEqual([["1"], ["2"], ["4"]], subject.delivered())
        self.assertEqual(2, len(subject.links))


class FailingTests(SynchronousTestCase):
    """A frontend that does not take what it is sent."""

    def setUp(self) -> None:
        self.subject = Subject()
        self.subject.post(1, 2)
        self.subject.turns()
        self.subject.post(3)
        self.subject.delivered()

    def test_a_batch_that_did_not_arrive_is_sent_after_a_pause_before_the_rest(self) -> None:
        self.subject.answer(Unreachable("refused"))
        self.assertEqual([], self.subject.delivered())
        self.subject.pass_seconds(0.15)
        self.assertEqual([["1", "2"]], self.subject.delivered())
        self.subject.answer()
        self.assertEqual([["3"]], self.subject.delivered())
        self.assertEqual({}, self.subject.dropped())

    def test_the_pauses_grow_up_to_a_bound_and_end_with_an_answer(self) -> None:
        for pause in (0.1, 0.2, 0.4, 0.8, 1.6, 3, 3):
            self.subject.answer(Unreachable("refused"))
            self.subject.pass_seconds(pause - 0.05)
            self.assertEqual([], self.subject.delivered())
            self.subject.pass_seconds(0.1)
            self.assertEqual([["1", "2"]], self.subject.delivered())
        self.subject.answer()
        self.assertEqual([["3"]], self.subject.delivered())
        self.subject.answer(Unreachable("refused"))
        self.subject.pass_seconds(0.15)
        self.assertEqual([["3"]], self.subject.delivered())

    def test_nothing_is_sent_during_a_pause(self) -> None:
        for _ in range(6):
            self.subject.answer(Unreachable("refused"))
            self.subject.pass_seconds(3)
        self.subject.answer(Unreachable("refused"))
        self.subject.delivered()
        self.subject.post(4)
        self.subject.pass_seconds(2.9)
        self.assertEqual([], self.subject.delivered())

    def test_a_batch_whose_answer_was_lost_is_repeated_at_once(self) -> None:
        self.subject.answer(AnswerLost("no answer came"))
        self.assertEqual([["1", "2"]], self.subject.delivered())
        self.subject.answer()
        self.assertEqual([["3"]], self.subject.delivered())
        self.assertEqual({}, self.subject.dropped())
        self.assertEqual(1, self.subject.samples()["deliveries_repeated"])

    def test_a_batch_is_repeated_once_and_then_dropped_and_told(self) -> None:
        self.subject.answer(AnswerLost("no answer came"))
        self.subject.answer(AnswerLost("no answer came"))
        self.assertEqual({"answer_lost": 2}, self.subject.dropped())
        self.subject.delivered()
        self.subject.pass_seconds(0.15)
        self.assertEqual([[(RED, 2), "3"]], self.subject.delivered())

    def test_each_batch_may_be_repeated(self) -> None:
        for _ in range(2):
            self.subject.answer(AnswerLost("no answer came"))
            self.subject.answer()
        self.assertEqual([["1", "2"], ["3"], ["3"]], self.subject.delivered())

    def test_a_batch_that_could_not_be_repeated_waits_for_it(self) -> None:
        self.subject.answer(AnswerLost("no answer came"))
        self.subject.answer(Unreachable("refused"))
        self.subject.delivered()
        self.subject.pass_seconds(0.15)
        self.assertEqual([["1", "2"]], self.subject.delivered())
        self.subject.answer(AnswerLost("no answer came"))
        self.assertEqual({"answer_lost": 2}, self.subject.dropped())

    def test_a_batch_is_not_repeated_when_frontends_may_have_forgotten_it(self) -> None:
        self.subject.answer(AnswerLost("no answer came"))
        self.subject.delivered()
        repeats = 0
        for _ in range(20):
            self.subject.answer(Unreachable("refused"))
            self.subject.pass_seconds(3.05)
            if self.subject.dropped():
                break
            self.assertEqual([["1", "2"]], self.subject.delivered())
            repeats += 1
        self.assertEqual({"answer_lost": 2}, self.subject.dropped())
        self.assertIn(repeats, range(8, 12))
        self.assertEqual([[(RED, 2), "3"]], self.subject.delivered())

    def test_a_batch_that_did_not_arrive_may_wait_for_long(self) -> None:
        for _ in range(20):
            self.subject.answer(Unreachable("refused"))
            self.subject.pass_seconds(3.05)
        self.assertEqual({}, self.subject.dropped())
        self.assertEqual([["1", "2"]] * 20, self.subject.delivered())

    def test_a_batch_that_is_refused_is_dropped_and_told(self) -> None:
        self.subject.answer(AnsweredNo(400, "bad_event"))
        self.assertEqual({"refused": 2}, self.subject.dropped())
        self.assertEqual([], self.subject.delivered())
        self.subject.pass_seconds(0.15)
        self.assertEqual([[(RED, 2), "3"]], self.subject.delivered())

    def test_what_was_lost_is_told_even_if_nothing_follows(self) -> None:
        self.subject.answer()
        self.subject.answer(AnsweredNo(500, "internal_error"))
        self.subject.delivered()
        self.subject.pass_seconds(0.15)
        self.assertEqual([[(RED, 1)]], self.subject.delivered())

    def test_a_gap_that_did_not_arrive_is_told_again(self) -> None:
        self.subject.answer(AnsweredNo(500, "internal_error"))
        self.subject.pass_seconds(0.15)
        self.subject.answer(AnsweredNo(500, "internal_error"))
        self.subject.delivered()
        self.subject.pass_seconds(0.3)
        self.assertEqual([[(RED, 3)]], self.subject.delivered())

    def test_gaps_are_told_by_topic(self) -> None:
        self.subject.post(4, topic=GREEN)
        self.subject.answer()
        self.subject.answer(AnsweredNo(500, "internal_error"))
        self.subject.delivered()
        self.subject.pass_seconds(0.15)
        self.assertEqual([[(RED, 1), (GREEN, 1)]], self.subject.delivered())

    def test_a_stale_one_is_closed_and_told_of(self) -> None:
        self.subject.answer(StaleIncarnation("another process runs here"))
        self.assertEqual([N1], self.subject.stale)
        self.assertEqual(0, len(self.subject.links))
        self.assertEqual({"stale_incarnation": 3}, self.subject.dropped())
        self.subject.pass_seconds(60)
        self.assertEqual([], self.subject.delivered())

    def test_a_fault_of_this_process_ends_the_link_and_not_the_frontend(self) -> None:
        self.subject.answer(ZeroDivisionError())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual([], self.subject.stale)
        self.assertEqual({"failed": 3}, self.subject.dropped())
        self.subject.post(4)
        self.subject.turns()
        self.assertEqual([[(RED, 3), "4"]], self.subject.delivered())

    def test_a_turn_that_fails_ends_the_link_and_the_next_event_begins_another(self) -> None:
        client = RaisingClient()
        subject = Subject(client)
        subject.post(1, 2)
        subject.turns()
        self.assertEqual({"failed": 2}, subject.dropped())
        self.assertEqual(0, subject.links.waiting_events)
        subject.post(3)
        subject.turns()
        self.assertEqual(2, client.calls)
        self.assertEqual({"failed": 3}, subject.dropped())
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))


class OverflowTests(SynchronousTestCase):
    """A mailbox that is full."""

    def test_a_full_mailbox_drops_its_oldest_and_tells_before_the_rest(self) -> None:
        subject = Subject(mailbox_events=3)
        subject.post(1)
        subject.turns()
        subject.post(2, 3, 4, 5, 6)
        self.assertEqual({"link_full": 2}, subject.dropped())
        subject.answer()
        self.assertEqual([["1"], [(RED, 2), "4", "5", "6"]], subject.delivered())

    def test_a_gap_is_told_once(self) -> None:
        subject = Subject(mailbox_events=1)
        subject.post(1, 2)
        subject.turns()
        subject.answer()
        subject.post(3)
        subject.turns()
        self.assertEqual([[(RED, 1), "2"], ["3"]], subject.delivered())

    def test_what_is_in_flight_counts_and_is_not_dropped(self) -> None:
        subject = Subject(mailbox_bytes=50)
        subject.post(1, 2, 3)
        subject.turns()
        subject.post(4, 5, 6)
        self.assertEqual({"link_full": 1}, subject.dropped())
        self.assertEqual(50, subject.samples()["mailbox_bytes.link"])
        subject.answer(Unreachable("refused"))
        subject.pass_seconds(0.15)
        subject.answer()
        self.assertEqual(
            [["1", "2", "3"], ["1", "2", "3"], [(RED, 1), "5", "6"]], subject.delivered()
        )


class ClosingTests(SynchronousTestCase):
    """The ends of links, and what they count."""

    def test_a_link_to_another_incarnation_replaces_the_first(self) -> None:
        subject = Subject()
        subject.post(1, 2)
        subject.post(3, to=N1_AGAIN)
        subject.turns()
        # The viewers of the first process are perhaps at the second by now.
        self.assertEqual(
            [(N1_AGAIN, [Gap(topic=RED, lost=2), event(3)])], subject.client.deliveries
        )
        self.assertEqual(1, len(subject.links))
        self.assertEqual({"stale_incarnation": 2}, subject.dropped())
        self.assertEqual([], subject.stale)

    def test_links_to_frontends_whose_lease_has_ended_are_closed(self) -> None:
        subject = Subject()
        subject.post(1)
        subject.post(2, to=N2)
        subject.links.retain(lambda frontend: frontend == N2)
        subject.turns()
        self.assertEqual([["2"]], subject.delivered())
        self.assertEqual({"lease_ended": 1}, subject.dropped())
        self.assertEqual(1, len(subject.links))

    def test_a_link_to_an_earlier_incarnation_is_not_retained(self) -> None:
        subject = Subject()
        subject.post(1)
        subject.links.retain(lambda frontend: frontend == N1_AGAIN)
        self.assertEqual(0, len(subject.links))

    def test_the_next_link_to_a_node_tells_of_what_the_closed_one_lost(self) -> None:
        subject = Subject()
        subject.post(1, 2)
        subject.links.retain(nobody)
        subject.post(3, to=N2)
        subject.post(4, to=N1_AGAIN)
        subject.turns()
        self.assertEqual(
            [(N2, [event(3)]), (N1_AGAIN, [Gap(topic=RED, lost=2), event(4)])],
            subject.client.deliveries,
        )

    def test_what_fails_after_its_link_was_closed_is_told_too(self) -> None:
        subject = Subject()
        subject.post(1)
        subject.turns()
        subject.links.retain(nobody)
        subject.answer(Unreachable("refused"))
        subject.post(2)
        subject.turns()
        self.assertEqual([Gap(topic=RED, lost=1), event(2)], subject.client.deliveries[-1][1])

    def test_closing_drops_what_waits(self) -> None:
        subject = Subject()
        subject.post(1, 2)
        subject.post(3, to=N2)
        subject.links.close()
        subject.turns()
        self.assertEqual([], subject.delivered())
        self.assertEqual({"closed": 3}, subject.dropped())
        self.assertEqual(0, len(subject.links))
        self.assertEqual(0, subject.links.waiting_events)

    def test_what_was_in_flight_when_it_closed_and_arrived_is_delivered(self) -> None:
        subject = Subject()
        subject.post(1, 2)
        subject.turns()
        subject.post(3)
        subject.links.retain(nobody)
        subject.answer()
        self.assertEqual({"lease_ended": 1}, subject.dropped())
        self.assertEqual(2, subject.samples()["delivered.dispatcher"])

    def test_what_was_in_flight_when_it_closed_and_failed_is_dropped_for_the_same_reason(
        self,
    ) -> None:
        for error in (
            Unreachable("refused"),
            AnswerLost("no answer came"),
            AnsweredNo(500, "internal_error"),
            StaleIncarnation("another process runs here"),
        ):
            subject = Subject()
            subject.post(1, 2)
            subject.turns()
            subject.post(3)
            subject.links.retain(nobody)
            subject.answer(error)
            subject.pass_seconds(10)
            self.assertEqual({"lease_ended": 3}, subject.dropped(), error)
            self.assertEqual([["1", "2"]], subject.delivered(), error)

    def test_a_late_410_does_not_close_the_link_to_the_next_incarnation(self) -> None:
        subject = Subject()
        subject.post(1)
        subject.turns()
        subject.post(2, to=N1_AGAIN)
        subject.turns()
        subject.answer(StaleIncarnation("another process runs here"))
        subject.answer()
        subject.post(3, to=N1_AGAIN)
        subject.turns()
        subject.answer()
        subject.turns()
        self.assertEqual([["1"], ["2"], [(RED, 1)], ["3"]], subject.delivered())

    def test_closing_during_a_pause_leaves_no_timer(self) -> None:
        subject = Subject()
        subject.post(1)
        subject.turns()
        subject.answer(Unreachable("refused"))
        subject.links.close()
        self.assertEqual({"closed": 1}, subject.dropped())
        self.assertEqual([], subject.clock.getDelayedCalls())

    def test_all_is_told_to_operators(self) -> None:
        subject = Subject(batch_events=2)
        subject.post(1, 2, 3)
        subject.post(4, to=N2)
        subject.turns()
        samples = subject.samples()
        self.assertEqual(2, samples["links"])
        self.assertEqual(2, samples["deliveries"])
        self.assertEqual(4, samples["mailbox_events.link"])
        self.assertEqual(40, samples["mailbox_bytes.link"])
        subject.answer()
        self.assertEqual(2, subject.samples()["delivered.dispatcher"])
        self.assertEqual(2, subject.links.waiting_events)


class Receiver:
    """A frontend's view: what came, without repeats, and how much was told to be lost."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.told = 0
        self.untold: list[int] = []

    def take(self, batch: Sequence[Item]) -> None:
        for item in batch:
            if isinstance(item, Gap):
                self.told += item.lost
            elif isinstance(item, Event) and int(item.id) not in self.received:
                if int(item.id) - len(self.received) > self.told:
                    self.untold.append(int(item.id))
                self.received.append(int(item.id))


ANSWERS = {
    "arrived": (True, None),
    "unreachable": (False, Unreachable("refused")),
    "lost on the way": (False, AnswerLost("no answer came")),
    "lost on the way back": (True, AnswerLost("no answer came")),
    "refused": (False, AnsweredNo(500, "internal_error")),
}
STEPS = st.one_of(
    st.tuples(st.just("post"), st.integers(1, 20)),
    st.tuples(st.just("post"), st.integers(1, 20)),
    st.tuples(st.just("answer"), st.sampled_from(sorted(ANSWERS))),
    st.tuples(st.just("answer"), st.sampled_from(sorted(ANSWERS))),
    st.tuples(st.just("pass"), st.sampled_from([0.0, 0.1, 1.0])),
)


class AccountingTests(SynchronousTestCase):
    """Whatever is answered."""

    @settings(deadline=None)
    @given(
        st.lists(STEPS, max_size=60),
        st.integers(1, 6),
        st.integers(10, 80),
        # A link keeps gaps of as many topics as a batch has events.
        st.integers(2, 4),
    )
    def test_events_arrive_in_order_and_none_is_lost_without_count_and_gap(
        self,
        steps: list[tuple[str, Any]],
        mailbox_events: int,
        mailbox_bytes: int,
        batch_events: int,
    ) -> None:
        subject = Subject(
            mailbox_events=mailbox_events, mailbox_bytes=mailbox_bytes, batch_events=batch_events
        )
        receiver = Receiver()
        posted = 0
        for step, value in [*steps, *[("answer", "arrived"), ("pass", 3.0)] * 10]:
            if step == "post":
                subject.post(posted, size=value, topic=RED if value % 2 else GREEN)
                posted += 1
            elif step == "pass":
                subject.clock.advance(value)
            elif subject.client.answers:
                arrives, error = ANSWERS[value]
                if arrives:
                    receiver.take(subject.client.deliveries[-1][1])
                subject.answer(error)
            subject.turns()
            self.check(subject, posted)
        self.assertEqual(0, subject.links.waiting_events)
        self.assertEqual(sorted(receiver.received), receiver.received)
        self.assertEqual([], receiver.untold)
        missing = posted - len(receiver.received)
        self.assertLessEqual(missing, receiver.told)
        self.assertLessEqual(missing, sum(subject.dropped().values()))

    def check(self, subject: Subject, posted: int) -> None:
        self.assertLessEqual(len(subject.client.answers), 1)
        self.assertEqual(
            posted,
            subject.samples()["delivered.dispatcher"]
            + sum(subject.dropped().values())
            + subject.links.waiting_events,
        )
