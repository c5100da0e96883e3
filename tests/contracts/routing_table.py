"""The contract of IRoutingTable, for every implementation."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from rtdeliver.errors import Unavailable
from rtdeliver.interfaces import IRoutingTable
from rtdeliver.messages import Announcement, Applied, Route, TopicViewers
from rtdeliver.model import FrontendRef, Topic
from tests.contracts.contract import Contract

LEASE_SECONDS = 30.0
RED, GREEN, BLUE = (Topic(f"live:{name}") for name in ("red", "green", "blue"))
N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")
N1_AGAIN = FrontendRef(node="n1", url="http://10.0.0.5:9081", incarnation="second")
N2 = FrontendRef(node="n2", url="http://10.0.0.6:8081", incarnation="other")


def announcement(
    frontend: FrontendRef,
    counts: Mapping[Topic, int],
    *,
    held: Mapping[Topic, int] | None = None,
    full: bool = False,
    part: int = 0,
    more: bool = False,
    lease_seconds: float = LEASE_SECONDS,
    sequence: int = 0,
    after: int = 0,
) -> Announcement:
    return Announcement(
        frontend=frontend,
        counts=counts,
        held=held or {},
        full=full,
        part=part,
        more=more,
        lease_seconds=lease_seconds,
        sequence=sequence,
        after=after,
    )


class RoutingTableContract(Contract):
    """To be mixed into a test case, which says how a routing table is made and how time passes."""

    interface = IRoutingTable
    routing_table: IRoutingTable

    def make_table(self) -> IRoutingTable:
        """Return an empty routing table."""
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Let so much time pass for the routing table."""
        raise NotImplementedError

    def get(self, deferred: Deferred[Any]) -> Any:
        """Return what ``deferred`` fires with, or raise what it fails with."""
        raise NotImplementedError

    def settle(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition()`` is true."""
        assert condition()

    # Short for the tests below.

    def apply(self, *announcements: Announcement) -> list[bool]:
        """Apply announcements; return for each whether its incarnation is known."""
        return [self.get(self.routing_table.apply(told)).known for told in announcements]

    def frontends(self, topic: Topic) -> set[FrontendRef]:
        route: Route = self.get(self.routing_table.route(topic))
        assert route.certain
        found = route.frontends
        assert len(found) == len(set(found)), found
        return set(found)

    def viewers(self, topic: Topic) -> dict[str, int]:
        return dict(self.get(self.routing_table.viewers(topic)))

    def nodes(self) -> list[tuple[FrontendRef, int, int]]:
        return [(n.frontend, n.topics, n.viewers) for n in self.get(self.routing_table.nodes())]

    def subject(self) -> IRoutingTable:
        return self.routing_table

    def setUp(self) -> None:
        self.routing_table = self.make_table()

    def test_nothing_keeps_it_from_being_reached(self) -> None:
        assert self.routing_table.missing() == []

    def test_an_empty_table_knows_nobody(self) -> None:
        assert self.frontends(RED) == set()
        assert self.viewers(RED) == {}
        assert self.nodes() == []

    # Lists of topics.

    def topics(
        self, prefix: str = "", after: TopicViewers | None = None, limit: int = 100
    ) -> list[tuple[str, int]]:
        found = self.get(self.routing_table.topics(prefix, after, limit))
        return [(topic.topic, topic.viewers) for topic in found]

    def test_topics_are_listed_by_viewers_and_then_by_name(self) -> None:
        self.apply(
            announcement(N1, {RED: 12, GREEN: 1, BLUE: 5, Topic("chat"): 1}, full=True),
            announcement(N2, {RED: 3, GREEN: 4, Topic("li\u2603"): 2}, full=True),
        )
        everything = [(RED, 15), (BLUE, 5), (GREEN, 5), ("li\u2603", 2), ("chat", 1)]
        assert self.topics() == everything
        assert self.topics("live:") == [(RED, 15), (BLUE, 5), (GREEN, 5)]
        assert self.topics("li\u2603") == [("li\u2603", 2)]
        assert self.topics("nothing") == []
        assert self.topics(limit=2) == everything[:2]
        for begin in range(4):
            topic, viewers = everything[begin]
            after = TopicViewers(Topic(topic), viewers)
            assert self.topics(after=after, limit=2) == everything[begin + 1 : begin + 3]

    def test_topics_without_viewers_or_with_those_of_a_dead_frontend_are_not_listed(self) -> None:
        self.apply(
            announcement(N1, {RED: 1, GREEN: 1}, full=True, lease_seconds=5),
            announcement(N2, {RED: 3, BLUE: 1}, full=True),
        )
        self.apply(announcement(N2, {BLUE: 0}))
        self.advance(5.1)
        assert self.topics() == [(RED, 3)]

    def test_very_many_topics_are_listed_once_each(self) -> None:
        counts = {Topic(f"t{number:04}"): number % 7 + 1 for number in range(2500)}
        self.apply(announcement(N1, counts, full=True), announcement(N2, counts, full=True))
        listed = self.topics("t", limit=3000)
        assert len(listed) == 2500
        assert sum(viewers for _, viewers in listed) == 2 * sum(counts.values())
        first = self.topics("t", limit=300)
        assert first == listed[:300]

    # Rows.

    def test_a_topic_leads_to_the_frontends_that_have_viewers_of_it(self) -> None:
        self.apply(
            announcement(N1, {RED: 12, GREEN: 1}, full=True),
            announcement(N2, {RED: 3}, full=True),
        )
        assert self.frontends(RED) == {N1, N2}
        assert self.frontends(GREEN) == {N1}
        assert self.frontends(BLUE) == set()
        assert self.viewers(RED) == {"n1": 12, "n2": 3}
        assert self.viewers(GREEN) == {"n1": 1}

    def test_a_topic_may_have_any_characters(self) -> None:
        topics = [
            Topic(text) for text in (" ", "a b", "{x}*?[1]", "ä€😀", '"\\', "x" * 1024, "007")
        ]
        self.apply(announcement(N1, dict.fromkeys(topics, 1), full=True))
        for topic in topics:
            assert self.frontends(topic) == {N1}, topic
        assert self.nodes() == [(N1, len(topics), len(topics))]

    def test_nodes_are_told_by_name_with_what_they_have(self) -> None:
        self.apply(
            announcement(N2, {RED: 3}, full=True),
            announcement(N1, {RED: 12, GREEN: 1}, full=True),
        )
        assert self.nodes() == [(N1, 2, 13), (N2, 1, 3)]

    def test_a_frontend_without_viewers_is_a_node(self) -> None:
        self.apply(announcement(N1, {}, full=True))
        assert self.nodes() == [(N1, 0, 0)]

    def test_a_count_replaces_the_one_before(self) -> None:
        self.apply(announcement(N1, {RED: 1, GREEN: 2}, full=True), announcement(N1, {RED: 5}))
        assert self.viewers(RED) == {"n1": 5}
        assert self.viewers(GREEN) == {"n1": 2}

    def test_zero_takes_a_row_out(self) -> None:
        self.apply(
            announcement(N1, {RED: 1, GREEN: 2}, full=True),
            announcement(N2, {RED: 1}, full=True),
            announcement(N1, {RED: 0}),
        )
        assert self.frontends(RED) == {N2}
        assert self.viewers(RED) == {"n2": 1}
        assert self.nodes() == [(N1, 1, 2), (N2, 1, 1)]

    def test_zero_for_a_row_that_is_not_there_changes_nothing(self) -> None:
        self.apply(announcement(N1, {RED: 1}, full=True), announcement(N1, {GREEN: 0}))
        assert self.frontends(GREEN) == set()
        assert self.nodes() == [(N1, 1, 1)]

    def test_the_same_announcement_again_changes_nothing(self) -> None:
        told = announcement(N1, {RED: 2, GREEN: 0}, full=True, sequence=3)
        self.apply(told, told)
        assert self.viewers(RED) == {"n1": 2}
        assert self.nodes() == [(N1, 1, 2)]

    # Announcements in full.

    def test_a_full_announcement_replaces_all_rows_of_its_frontend(self) -> None:
        self.apply(
            announcement(N1, {RED: 1, GREEN: 1}, full=True),
            announcement(N2, {RED: 1}, full=True),
            announcement(N1, {GREEN: 2, BLUE: 3}, full=True),
        )
        assert self.frontends(RED) == {N2}
        assert self.viewers(GREEN) == {"n1": 2}
        assert self.viewers(BLUE) == {"n1": 3}
        assert self.nodes() == [(N1, 2, 5), (N2, 1, 1)]

    def test_an_empty_full_announcement_takes_all_rows_out(self) -> None:
        self.apply(announcement(N1, {RED: 1}, full=True), announcement(N1, {}, full=True))
        assert self.frontends(RED) == set()
        assert self.nodes() == [(N1, 0, 0)]

    def test_zero_in_a_full_announcement_is_no_row(self) -> None:
        self.apply(announcement(N1, {RED: 0, GREEN: 1}, full=True))
        assert self.frontends(RED) == set()
        assert self.nodes() == [(N1, 1, 1)]

    def test_it_tells_whether_it_has_been_told_all(self) -> None:
        assert self.apply(announcement(N1, {RED: 1})) == [False]
        assert self.apply(announcement(N1, {})) == [False]
        assert self.apply(announcement(N1, {RED: 1}, full=True)) == [True]
        assert self.apply(announcement(N1, {GREEN: 1})) == [True]
        assert self.apply(announcement(N1, {})) == [True]

    def test_rows_are_used_before_it_has_been_told_all(self) -> None:
        self.apply(announcement(N1, {RED: 1}))
        assert self.frontends(RED) == {N1}

    # Sequence.

    def test_an_announcement_that_was_overtaken_is_ignored(self) -> None:
        self.apply(
            announcement(N1, {RED: 1}, full=True, sequence=1),
            announcement(N1, {RED: 5}, sequence=3),
            announcement(N1, {RED: 0, GREEN: 7}, sequence=2),
        )
        assert self.viewers(RED) == {"n1": 5}
        assert self.frontends(GREEN) == set()

    def test_a_full_announcement_that_was_overtaken_is_ignored(self) -> None:
        known = self.apply(
            announcement(N1, {GREEN: 1}, sequence=5),
            announcement(N1, {RED: 1}, full=True, sequence=4),
        )
        assert known == [False, False]
        assert self.frontends(RED) == set()
        assert self.frontends(GREEN) == {N1}

    def test_one_that_is_ignored_is_answered_as_if_it_was_applied(self) -> None:
        known = self.apply(
            announcement(N1, {}, full=True, sequence=5), announcement(N1, {RED: 1}, sequence=4)
        )
        assert known == [True, True]

    def test_one_that_is_ignored_does_not_renew_the_lease(self) -> None:
        self.apply(announcement(N1, {RED: 1}, full=True, sequence=2))
        self.advance(LEASE_SECONDS - 5)
        self.apply(announcement(N1, {}, sequence=1))
        self.advance(10)
        assert self.frontends(RED) == set()

    def test_sequences_need_not_be_consecutive(self) -> None:
        self.apply(
            announcement(N1, {RED: 1}, full=True, sequence=10),
            announcement(N1, {RED: 2}, sequence=1000000),
        )
        assert self.viewers(RED) == {"n1": 2}

    def test_one_without_a_sequence_is_always_applied(self) -> None:
        self.apply(
            announcement(N1, {RED: 1}, full=True, sequence=7),
            announcement(N1, {RED: 2}),
            announcement(N1, {RED: 3}, sequence=6),
        )
        assert self.viewers(RED) == {"n1": 2}

    def test_a_table_that_lacks_what_was_acknowledged_asks_for_all(self) -> None:
        known = self.apply(
            announcement(N1, {RED: 1}, full=True, sequence=3, after=0),
            announcement(N1, {GREEN: 1}, sequence=8, after=7),
            announcement(N1, {}, sequence=9, after=8),
            announcement(N1, {BLUE: 1}, full=True, sequence=10, after=8),
            announcement(N1, {}, sequence=11, after=10),
        )
        assert known == [True, False, False, True, True]
        assert self.frontends(RED) == set()

    def test_each_frontend_has_a_sequence_of_its_own(self) -> None:
        self.apply(
            announcement(N1, {RED: 1}, full=True, sequence=100),
            announcement(N2, {RED: 1}, full=True, sequence=1),
        )
        assert self.frontends(RED) == {N1, N2}

    # Incarnations.

    def test_another_incarnation_replaces_the_first_whole(self) -> None:
        known = self.apply(
            announcement(N1, {RED: 5, GREEN: 5}, full=True, sequence=100),
            announcement(N1_AGAIN, {RED: 1}, sequence=1),
        )
        assert known == [True, False]
        assert self.frontends(RED) == {N1_AGAIN}
        assert self.viewers(RED) == {"n1": 1}
        assert self.frontends(GREEN) == set()
        assert self.nodes() == [(N1_AGAIN, 1, 1)]

    def test_what_is_late_of_a_replaced_incarnation_changes_nothing(self) -> None:
        known = self.apply(
            announcement(N1, {RED: 5}, full=True, sequence=1),
            announcement(N1_AGAIN, {RED: 1}, full=True, sequence=1),
            announcement(N1, {GREEN: 5}, sequence=2, after=1),
            announcement(N1, {}, full=True, sequence=3, after=1, lease_seconds=0),
            announcement(N1_AGAIN, {}, sequence=2, after=1),
        )
        assert known == [True, True, False, False, True]
        assert self.viewers(RED) == {"n1": 1}
        assert self.frontends(GREEN) == set()
        assert self.nodes() == [(N1_AGAIN, 1, 1)]

    def test_a_process_that_was_replaced_by_mistake_comes_back_with_all(self) -> None:
        known = self.apply(
            announcement(N1, {RED: 5}, full=True, sequence=1),
            announcement(N1_AGAIN, {RED: 1}, full=True, sequence=1),
            announcement(N1, {}, sequence=2, after=1),
            announcement(N1, {RED: 5}, full=True, sequence=3, after=1),
        )
        assert known == [True, True, False, True]
        assert self.frontends(RED) == {N1}

    # Leases.

    def test_rows_stand_as_long_as_the_lease(self) -> None:
        self.apply(announcement(N1, {RED: 1}, full=True))
        self.advance(LEASE_SECONDS - 5)
        assert self.frontends(RED) == {N1}
        assert self.viewers(RED) == {"n1": 1}
        assert len(self.nodes()) == 1
        self.advance(10)
        assert self.frontends(RED) == set()
        assert self.viewers(RED) == {}
        assert self.nodes() == []

    def test_every_announcement_renews_the_lease_of_all_rows(self) -> None:
        self.apply(announcement(N1, {RED: 1}, full=True))
        for _ in range(4):
            self.advance(LEASE_SECONDS - 5)
            assert self.apply(announcement(N1, {})) == [True]
        assert self.frontends(RED) == {N1}

    def test_a_lease_may_become_shorter(self) -> None:
        self.apply(
            announcement(N1, {RED: 1}, full=True),
            announcement(N1, {}, lease_seconds=LEASE_SECONDS / 3),
        )
        self.advance(LEASE_SECONDS / 2)
        assert self.frontends(RED) == set()

    def test_a_lease_ends_for_its_frontend_only(self) -> None:
        self.apply(announcement(N1, {RED: 1}, full=True))
        self.advance(LEASE_SECONDS / 2)
        self.apply(announcement(N2, {RED: 1}, full=True))
        self.advance(LEASE_SECONDS / 2 + 5)
        assert self.frontends(RED) == {N2}
        assert self.nodes() == [(N2, 1, 1)]

    def test_a_frontend_whose_lease_has_ended_begins_anew(self) -> None:
        self.apply(announcement(N1, {RED: 1, GREEN: 1}, full=True, sequence=9))
        self.advance(LEASE_SECONDS + 5)
        assert self.apply(announcement(N1, {GREEN: 2}, sequence=10)) == [False]
        assert self.frontends(RED) == set()
        assert self.viewers(GREEN) == {"n1": 2}
        assert self.nodes() == [(N1, 1, 2)]

    def test_the_end_of_the_lease_is_told(self) -> None:
        self.apply(announcement(N1, {RED: 1}, full=True))
        self.advance(10)
        [node] = self.get(self.routing_table.nodes())
        assert LEASE_SECONDS - 15 < node.lease_seconds_left <= LEASE_SECONDS - 10

    # Forgetting.

    def test_a_frontend_that_is_forgotten_has_no_rows(self) -> None:
        self.apply(
            announcement(N1, {RED: 1, GREEN: 1}, full=True), announcement(N2, {RED: 1}, full=True)
        )
        assert self.get(self.routing_table.forget(N1)) is None
        assert self.frontends(RED) == {N2}
        assert self.frontends(GREEN) == set()
        assert self.nodes() == [(N2, 1, 1)]

    def test_a_frontend_that_is_forgotten_begins_anew(self) -> None:
        self.apply(announcement(N1, {RED: 1}, full=True, sequence=9))
        self.get(self.routing_table.forget(N1))
        assert self.apply(announcement(N1, {GREEN: 1}, sequence=1)) == [False]
        assert self.frontends(RED) == set()
        assert self.frontends(GREEN) == {N1}

    def test_forgetting_again_or_a_stranger_changes_nothing(self) -> None:
        self.get(self.routing_table.forget(N1))
        self.apply(announcement(N1, {RED: 1}, full=True))
        self.get(self.routing_table.forget(N2))
        assert self.frontends(RED) == {N1}
        self.get(self.routing_table.forget(N1))
        self.get(self.routing_table.forget(N1))
        assert self.nodes() == []

    def test_forgetting_an_incarnation_leaves_the_one_that_replaced_it(self) -> None:
        self.apply(
            announcement(N1, {RED: 1}, full=True), announcement(N1_AGAIN, {RED: 2}, full=True)
        )
        self.get(self.routing_table.forget(N1))
        assert self.frontends(RED) == {N1_AGAIN}
        assert self.viewers(RED) == {"n1": 2}

    # Full announcements in parts.

    def test_a_full_announcement_in_parts_replaces_all(self) -> None:
        self.apply(announcement(N1, {RED: 1, GREEN: 1}, full=True, sequence=1))
        parts = (
            announcement(N1, {BLUE: 2}, full=True, more=True, sequence=2, after=1),
            announcement(N1, {GREEN: 3}, part=1, more=True, sequence=3, after=2),
            announcement(N1, {}, part=2, sequence=4, after=3),
        )
        assert self.apply(*parts) == [True, True, True]
        assert self.frontends(RED) == set()
        assert self.viewers(GREEN) == {"n1": 3}
        assert self.viewers(BLUE) == {"n1": 2}
        assert self.nodes() == [(N1, 2, 5)]

    def test_rows_stay_until_the_last_part_has_come(self) -> None:
        self.apply(
            announcement(N1, {RED: 1}, full=True, sequence=1),
            announcement(N1, {BLUE: 2}, full=True, more=True, sequence=2, after=1),
        )
        assert self.frontends(RED) == {N1}
        assert self.frontends(BLUE) == {N1}

    def test_a_topic_may_end_between_the_parts(self) -> None:
        self.apply(
            announcement(N1, {RED: 1}, full=True, more=True, sequence=1),
            announcement(N1, {RED: 0, GREEN: 1}, part=1, sequence=2, after=1),
        )
        assert self.frontends(RED) == set()
        assert self.frontends(GREEN) == {N1}

    def test_a_part_that_does_not_follow_the_one_before_it_asks_for_all(self) -> None:
        self.apply(announcement(N1, {RED: 1}, full=True, more=True, sequence=1))
        assert self.apply(announcement(N1, {GREEN: 1}, part=2, sequence=3, after=2)) == [False]
        assert self.apply(announcement(N1, {GREEN: 1}, full=True, sequence=4)) == [True]

    def test_a_part_at_a_table_that_lacks_the_others_asks_for_all(self) -> None:
        assert self.apply(announcement(N1, {GREEN: 1}, part=1, sequence=3, after=2)) == [False]
        assert self.apply(announcement(N1, {}, sequence=4)) == [False]

    def test_between_the_parts_it_does_not_have_all(self) -> None:
        self.apply(
            announcement(N1, {RED: 1}, full=True, sequence=1),
            announcement(N1, {RED: 1}, full=True, more=True, sequence=2),
        )
        assert self.apply(announcement(N1, {}, sequence=3)) == [False]

    def test_thousands_of_topics_leave_by_and_by(self) -> None:
        many = [Topic(f"many:{number}") for number in range(2500)]
        for sequence, begin in enumerate(range(0, 2500, 1000), 1):
            part = dict.fromkeys(many[begin : begin + 1000], 1)
            more = begin < 2000
            told = announcement(
                N1, part, full=begin == 0, part=begin // 1000, more=more, sequence=sequence
            )
            assert self.apply(told) == [True]
        assert self.nodes() == [(N1, 2500, 2500)]
        assert self.apply(announcement(N1, {many[7]: 1}, full=True, sequence=9)) == [True]
        assert self.nodes() == [(N1, 1, 1)]
        self.settle(lambda: not any(self.viewers(many[number]) for number in (0, 8, 1200, 2499)))
        assert self.viewers(many[7]) == {"n1": 1}
        # Another incarnation has none of what the first one has left.
        self.apply(announcement(N1_AGAIN, {many[8]: 1}, full=True))
        assert self.frontends(many[8]) == {N1_AGAIN}
        self.settle(lambda: self.frontends(many[7]) == set())

    # Rows that were lost.

    def test_rows_that_are_there_are_not_restored(self) -> None:
        self.apply(announcement(N1, {RED: 1, GREEN: 1}, full=True, sequence=1))
        told = announcement(N1, {GREEN: 0}, held={RED: 1}, sequence=2, after=1)
        assert self.get(self.routing_table.apply(told)) == Applied(known=True, restored=())
        assert self.nodes() == [(N1, 1, 1)]

    def test_a_row_that_is_missing_is_restored(self) -> None:
        self.apply(announcement(N1, {RED: 1}, full=True, sequence=1))
        told = announcement(N1, {}, held={RED: 1, GREEN: 2}, sequence=2, after=1)
        assert self.get(self.routing_table.apply(told)) == Applied(known=True, restored=(GREEN,))
        assert self.viewers(GREEN) == {"n1": 2}
        assert self.nodes() == [(N1, 2, 3)]

    # Two processes of one name.

    def test_a_process_that_was_replaced_is_told_so(self) -> None:
        self.apply(
            announcement(N1, {RED: 1}, full=True, sequence=1),
            announcement(N1_AGAIN, {GREEN: 1}, full=True, sequence=1),
        )
        told = self.get(self.routing_table.apply(announcement(N1, {}, sequence=2, after=1)))
        assert told == Applied(known=False, replaced=True)
        assert self.frontends(GREEN) == {N1_AGAIN}

    def test_a_process_whose_successor_is_gone_is_asked_for_all(self) -> None:
        self.apply(
            announcement(N1, {RED: 1}, full=True, sequence=1),
            announcement(N1_AGAIN, {GREEN: 1}, full=True, sequence=1),
        )
        self.advance(LEASE_SECONDS)
        told = self.get(self.routing_table.apply(announcement(N1, {}, sequence=2, after=1)))
        assert told == Applied(known=False, replaced=False)

    # Leases.

    def test_a_lease_that_was_announced_here_is_known(self) -> None:
        assert not self.routing_table.has_lease(N1)
        self.apply(announcement(N1, {RED: 1}, full=True))
        assert self.routing_table.has_lease(N1)
        assert not self.routing_table.has_lease(N2)
        self.advance(LEASE_SECONDS)
        assert not self.routing_table.has_lease(N1)

    def test_no_change_is_overdue(self) -> None:
        self.apply(announcement(N1, {RED: 1}, full=True))
        assert self.routing_table.overdue_changes() == 0


class AwayRoutingTableContract(Contract):
    """What holds while the table cannot be reached; to be mixed into a test case likewise."""

    interface = IRoutingTable
    routing_table: IRoutingTable

    def make_table(self) -> IRoutingTable:
        """Return a routing table that cannot be reached."""
        raise NotImplementedError

    def get(self, deferred: Deferred[Any]) -> Any:
        """Return what ``deferred`` fires with, or raise what it fails with."""
        raise NotImplementedError

    def subject(self) -> IRoutingTable:
        return self.routing_table

    def setUp(self) -> None:
        self.routing_table = self.make_table()

    def test_it_says_that_something_is_missing(self) -> None:
        assert self.routing_table.missing()

    def test_everything_fails(self) -> None:
        for ask in (
            lambda: self.routing_table.apply(announcement(N1, {RED: 1}, full=True)),
            lambda: self.routing_table.route(RED),
            lambda: self.routing_table.viewers(RED),
            lambda: self.routing_table.nodes(),
            lambda: self.routing_table.topics("", None, 10),
            lambda: self.routing_table.forget(N1),
        ):
            with pytest.raises(Unavailable):
                self.get(ask())

    def test_it_can_be_stopped(self) -> None:
        assert self.get(self.routing_table.stop()) is None
