"""Tests of rtdeliver.frontend.difference."""

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Routing
from rtdeliver.frontend.difference import Difference
from rtdeliver.messages import Announcement
from rtdeliver.model import FrontendRef, Topic

N1 = FrontendRef(node="n1", url="http://10.0.0.5:8081", incarnation="first")
RED, GREEN, BLUE = (Topic(f"live:{name}") for name in ("red", "green", "blue"))


class DifferenceTestCase(SynchronousTestCase):
    settings = Routing(part_topics=2, announce_seconds=3, compare_seconds=9)

    def setUp(self) -> None:
        self.viewers: dict[Topic, int] = {}
        self.difference = Difference(
            wanted=lambda topic: self.viewers.get(topic, 0),
            all_wanted=lambda: self.viewers,
            settings=self.settings,
        )

    def set(self, topic: Topic, viewers: int) -> None:
        if viewers:
            self.viewers[topic] = viewers
        else:
            self.viewers.pop(topic, None)
        self.difference.changed(topic)

    def next(self, *, repeats: bool = False) -> Announcement:
        return self.difference.next(N1, repeats=repeats)

    def acknowledge_all(self) -> list[Announcement]:
        """Announce until there is nothing urgent left."""
        told = []
        while self.difference.is_urgent:
            told.append(self.next())
            self.difference.acknowledge(told[-1])
        return told


class PartTests(DifferenceTestCase):
    """What does not fit into one announcement."""

    def test_all_topics_are_announced_in_parts(self) -> None:
        for number in range(5):
            self.set(Topic(f"t{number}"), number + 1)
        first, second, third = self.acknowledge_all()
        self.assertEqual(
            [(True, 0, True), (False, 1, True), (False, 2, False)], parts(first, second, third)
        )
        self.assertEqual([1, 2, 3], [told.sequence for told in (first, second, third)])
        self.assertEqual([0, 1, 2], [told.after for told in (first, second, third)])
        self.assertEqual(self.viewers, {**first.counts, **second.counts, **third.counts})
        self.assertFalse(self.difference.everything)
        self.assertTrue(all(self.difference.is_confirmed(topic) for topic in self.viewers))

    def test_nothing_is_confirmed_before_the_last_part(self) -> None:
        for topic in (RED, GREEN, BLUE):
            self.set(topic, 1)
        self.difference.acknowledge(self.next())
        self.assertFalse(self.difference.is_confirmed(RED))

    def test_a_part_that_fails_begins_all_again(self) -> None:
        for topic in (RED, GREEN, BLUE):
            self.set(topic, 1)
        self.difference.acknowledge(self.next())
        self.difference.fail(self.next())
        self.assertEqual([(True, 0, True), (False, 1, False)], parts(*self.acknowledge_all()))

    def test_what_changes_between_the_parts_is_announced_after_them(self) -> None:
        for topic in (RED, GREEN, BLUE):
            self.set(topic, 1)
        first = self.next()
        self.difference.acknowledge(first)
        ended = next(iter(first.counts))
        new = Topic("new")
        self.set(ended, 0)
        self.set(new, 1)
        _, last = self.acknowledge_all()
        self.assertEqual({new: 1, ended: 0}, last.counts)
        self.assertTrue(self.difference.is_confirmed(new))
        self.assertFalse(self.difference.is_confirmed(ended))

    def test_a_topic_that_ends_before_its_part_is_announced_as_ended(self) -> None:
        for topic in (RED, GREEN, BLUE):
            self.set(topic, 1)
        first = self.next()
        self.difference.acknowledge(first)
        [late] = {RED, GREEN, BLUE}.difference(first.counts)
        self.set(late, 0)
        self.assertEqual({late: 0}, self.next().counts)

    def test_new_viewers_come_before_the_ends_of_topics(self) -> None:
        for number in range(4):
            self.set(Topic(f"old{number}"), 1)
        self.acknowledge_all()
        for number in range(4):
            self.set(Topic(f"old{number}"), 0)
        self.set(RED, 1)
        told = self.acknowledge_all()
        self.assertIn(RED, told[0].counts)
        self.assertEqual([2, 2, 1], [len(part.counts) for part in told])

    def test_large_topics_fill_an_announcement_sooner(self) -> None:
        self.difference = Difference(
            wanted=lambda topic: self.viewers.get(topic, 0),
            all_wanted=lambda: self.viewers,
            settings=Routing(part_bytes=1000),
        )
        for number in range(4):
            self.set(Topic(f"{number}" * 400), 1)
        self.set(Topic("x" * 1024), 1)
        self.assertEqual([2, 2, 1], [len(told.counts) for told in self.acknowledge_all()])


class RepeatTests(DifferenceTestCase):
    """Acknowledged topics are announced again by and by."""

    settings = Routing(announce_seconds=3, compare_seconds=9)

    def test_each_topic_is_repeated_once_in_a_round(self) -> None:
        for number in range(9):
            self.set(Topic(f"t{number}"), 1)
        self.acknowledge_all()
        for _ in range(3):
            repeated = [self.next(repeats=True).held for _ in range(3)]
            self.assertEqual([3, 3, 3], [len(held) for held in repeated])
            self.assertEqual(self.viewers, merged(repeated))

    def test_nothing_is_repeated_between_the_renewals(self) -> None:
        self.set(RED, 1)
        self.acknowledge_all()
        self.assertEqual({}, self.next().held)

    def test_what_has_changed_is_not_repeated_as_it_was(self) -> None:
        self.set(RED, 1)
        self.set(GREEN, 1)
        self.acknowledge_all()
        self.set(RED, 2)
        told = self.next(repeats=True)
        self.assertEqual({RED: 2}, told.counts)
        self.assertNotIn(RED, told.held)

    def test_without_topics_nothing_is_repeated(self) -> None:
        self.acknowledge_all()
        self.assertEqual({}, self.next(repeats=True).held)


def parts(*announcements: Announcement) -> list[tuple[bool, int, bool]]:
    return [(told.full, told.part, told.more) for told in announcements]


def merged(counts: Iterable[object]) -> dict[object, object]:
    return {topic: viewers for each in counts for topic, viewers in dict(each).items()}  # type: ignore[call-overload]
