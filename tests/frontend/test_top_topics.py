"""Which topics have the most viewers."""

from collections.abc import Iterator

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.frontend.top_topics import TopTopics
from rtdeliver.model import Topic


class TopTopicsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.looks = 0
        self.viewers: dict[str, int] = {}
        self.top = TopTopics(counts=self.counts, clock=self.clock)

    def counts(self) -> Iterator[tuple[Topic, int]]:
        for topic, viewers in list(self.viewers.items()):
            self.looks += 1
            yield Topic(topic), viewers

    def told(self) -> list[tuple[str, int]]:
        return [(row["topic"], row["viewers"]) for row in self.top.tell()]

    def test_the_top_topics_are_told_most_viewers_first(self) -> None:
        self.viewers = {f"t{number}": number for number in range(100)}
        self.top.tell()
        self.assertEqual(self.told()[:2], [("t99", 99), ("t98", 98)])
        self.assertEqual(len(self.told()), 20)

    def test_very_many_topics_are_looked_at_bit_by_bit(self) -> None:
        self.viewers = {f"t{number}": number for number in range(20_001)}
        self.top.tell()
        self.assertEqual(self.looks, 5_000)
        self.assertEqual(self.told(), [])
        self.clock.pump([0.05] * 4)
        self.assertEqual(self.told()[0], ("t20000", 20_000))

    def test_nothing_is_looked_at_while_nobody_asks(self) -> None:
        self.viewers = {"red": 1}
        self.top.tell()
        self.clock.advance(60)
        self.assertEqual(self.looks, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.viewers = {"red": 2}
        self.top.tell()
        self.assertEqual(self.told(), [("red", 2)])
