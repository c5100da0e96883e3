"""The topics with most viewers, out of any number of topics."""

import heapq
from collections.abc import Sequence

from rtdeliver.messages import TopicViewers


class MostViewed:
    """Keeps the first topics of a list, in bounded memory.

    :param after: the topic before the first one; ``None`` to begin at the beginning.
    :param limit: how many topics at most.
    """

    def __init__(self, after: TopicViewers | None, limit: int) -> None:
        self._after = None if after is None else after.place
        self._limit = limit
        # By name, since a topic may be added twice.
        self._kept: dict[str, TopicViewers] = {}

    def add(self, topic: TopicViewers) -> None:
        """Keep a topic if it is among the first so far."""
        if self._after is None or topic.place > self._after:
            self._kept[topic.topic] = topic
            if len(self._kept) >= 4 * self._limit + 100:
                self._kept = {kept.topic: kept for kept in self.found()}

    def found(self) -> Sequence[TopicViewers]:
        """Return the first topics, in order."""
        return heapq.nsmallest(self._limit, self._kept.values(), key=lambda topic: topic.place)
