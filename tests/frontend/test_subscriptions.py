"""Tests of rtdeliver.frontend.subscriptions."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import TooManyTopics, Unavailable
from rtdeliver.frontend.subscriptions import SubscriptionTable
from rtdeliver.model import Topic
from tests.fakes import PlainGroup

A, B, C, D, E, F, G = ALL = [Topic(f"live:{name}") for name in "abcdefg"]
LIMIT = 3
ROOM = 5


class SubscriptionTableTests(SynchronousTestCase):
    """One behaviour at a time."""

    def setUp(self) -> None:
        self.told: list[tuple[Topic, int]] = []
        self.table: SubscriptionTable[str, PlainGroup] = SubscriptionTable(
            group=PlainGroup,
            changed=lambda topic: self.told.append((topic, self.table.count(topic))),
            topics_per_viewer=LIMIT,
            max_topics=ROOM,
        )

    def test_a_new_table_is_empty(self) -> None:
        self.assertEqual(0, len(self.table))
        self.assertEqual({}, self.table.counts())
        self.assertEqual([], list(self.table.viewers(A)))
        self.assertEqual([], self.table.topics("ann"))

    def test_a_change_is_told_once_the_count_has_changed(self) -> None:
        self.table.change("ann", add=[A])
        self.table.change("bob", add=[A])
        self.table.change("ann", remove=[A])
        self.assertEqual([(A, 1), (A, 2), (A, 1)], self.told)

    def test_adding_twice_and_removing_what_is_not_there_tell_nothing(self) -> None:
        self.table.change("ann", add=[A, A])
        self.table.change("ann", add=[A], remove=[B])
        self.assertEqual([(A, 1)], self.told)
        self.assertEqual([A], self.table.topics("ann"))

    def test_a_topic_that_is_removed_and_added_stays(self) -> None:
        self.table.change("ann", add=[A])
        self.table.change("ann", remove=[A], add=[A])
        self.assertEqual([(A, 1)], self.told)

    def test_too_many_topics_change_nothing(self) -> None:
        self.table.change("ann", add=[A, B, C])
        self.told.clear()
        self.assertRaises(TooManyTopics, self.table.change, "ann", add=[D])
        self.assertRaises(TooManyTopics, self.table.change, "bob", add=[A, B, C, D])
        self.assertEqual([A, B, C], self.table.topics("ann"))
        self.assertEqual({A: 1, B: 1, C: 1}, self.table.counts())
        self.assertEqual([], self.told)

    def test_removing_makes_room_within_one_change(self) -> None:
        self.table.change("ann", add=[A, B, C])
        self.table.change("ann", add=[D], remove=[A])
        self.assertEqual([B, C, D], self.table.topics("ann"))

    def test_more_topics_than_there_is_room_for_change_nothing(self) -> None:
        self.table.change("ann", add=[A, B])
        self.table.change("bob", add=[C, D])
        self.told.clear()
        self.assertRaises(Unavailable, self.table.change, "cid", add=[A, E, F])
        self.assertEqual([], self.told)
        self.assertEqual((4, 1), (self.table.topic_count, self.table.refused))
        self.table.change("cid", add=[A, B, E])
        self.assertEqual(ROOM, self.table.topic_count)

    def test_topics_that_others_watch_need_no_room(self) -> None:
        self.table.change("ann", add=[A, B, C])
        self.table.change("bob", add=[D, E])
        self.table.change("cid", add=[A, D, E])
        self.assertEqual(ROOM, self.table.topic_count)

    def test_the_last_viewer_of_a_topic_makes_room_within_one_change(self) -> None:
        self.table.change("ann", add=[A, B, C])
        self.table.change("bob", add=[C, D, E])
        self.assertRaises(Unavailable, self.table.change, "bob", add=[F], remove=[C])
        self.table.change("bob", add=[F], remove=[D])
        self.assertEqual([C, E, F], self.table.topics("bob"))

    def test_a_viewer_that_leaves_makes_room(self) -> None:
        self.table.change("ann", add=[A, B, C])
        self.table.change("bob", add=[D, E])
        self.assertFalse(self.table.has_room([F]))
        self.table.drop("bob")
        self.assertTrue(self.table.has_room([F, G]))
        self.table.change("cid", add=[F, G])

    def test_dropping_a_viewer_again_changes_nothing(self) -> None:
        self.table.change("ann", add=[A, B])
        self.told.clear()
        self.table.drop("ann")
        self.table.drop("ann")
        self.assertEqual([(A, 0), (B, 0)], self.told)
        self.assertEqual(0, len(self.table))

    def test_viewers_come_in_the_order_in_which_they_subscribed(self) -> None:
        for viewer in ("cid", "ann", "bob"):
            self.table.change(viewer, add=[A])
        self.table.change("ann", remove=[A])
        self.table.change("ann", add=[A])
        self.assertEqual(["cid", "bob", "ann"], list(self.table.viewers(A)))

    def test_a_table_against_a_list_of_pairs(self) -> None:
        run_state_machine_as_test(
            TableAgainstPairs, settings=settings(deadline=None, max_examples=60)
        )


VIEWERS = st.sampled_from(["ann", "bob", "cid"])
TOPICS = st.lists(st.sampled_from(ALL), max_size=5)


class TableAgainstPairs(RuleBasedStateMachine):
    """The same changes in a table and in a plain list of pairs, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[str, Topic]] = []
        self.told: list[tuple[Topic, int]] = []
        self.table: SubscriptionTable[str, PlainGroup] = SubscriptionTable(
            group=PlainGroup,
            changed=lambda topic: self.told.append((topic, self.table.count(topic))),
            topics_per_viewer=LIMIT,
            max_topics=ROOM,
        )

    @rule(viewer=VIEWERS, add=TOPICS, remove=TOPICS)
    def change(self, viewer: str, add: list[Topic], remove: list[Topic]) -> None:
        held = self.topics(viewer)
        wanted = (held - set(remove)) | set(add)
        others = {topic for v, topic in self.pairs if v != viewer}
        try:
            self.table.change(viewer, add=add, remove=remove)
        except TooManyTopics:
            assert len(wanted) > LIMIT
            assert self.told == []
            return
        except Unavailable:
            assert len(others | wanted) > ROOM
            assert self.told == []
            return
        assert len(wanted) <= LIMIT
        assert len(others | wanted) <= ROOM
        self.become(viewer, held, wanted)

    @rule(viewer=VIEWERS)
    def drop(self, viewer: str) -> None:
        held = self.topics(viewer)
        self.table.drop(viewer)
        self.become(viewer, held, set())

    @invariant()
    def both_tell_the_same(self) -> None:
        topics = {topic for _, topic in self.pairs}
        assert len(self.table) == len(self.pairs)
        assert self.table.topic_count == len(topics)
        assert self.table.counts() == {topic: self.count(topic) for topic in topics}
        for topic in ALL:
            assert self.table.count(topic) == self.count(topic)
            assert list(self.table.viewers(topic)) == [v for v, t in self.pairs if t == topic]
        for viewer in ("ann", "bob", "cid"):
            assert self.table.topics(viewer) == sorted(self.topics(viewer))

    def become(self, viewer: str, held: set[Topic], wanted: set[Topic]) -> None:
        self.pairs = [pair for pair in self.pairs if pair[0] != viewer or pair[1] in wanted]
        self.pairs.extend((viewer, topic) for topic in wanted - held)
        assert sorted(self.told) == [(topic, self.count(topic)) for topic in sorted(held ^ wanted)]
        self.told.clear()

    def topics(self, viewer: str) -> set[Topic]:
        return {topic for v, topic in self.pairs if v == viewer}

    def count(self, topic: Topic) -> int:
        return sum(t == topic for _, t in self.pairs)
