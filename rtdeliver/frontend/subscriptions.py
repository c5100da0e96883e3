"""Who watches what, in this process."""

import sys
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Generic, TypeVar

from rtdeliver.errors import TooManyTopics
from rtdeliver.model import Topic

V = TypeVar("V", bound=Hashable)


class SubscriptionTable(Generic[V]):
    """Topics and their viewers, both ways.

    :param changed: called with a topic after the number of its viewers has changed.
    :param topics_per_viewer: how many topics one viewer may have.
    """

    def __init__(self, *, changed: Callable[[Topic], None], topics_per_viewer: int) -> None:
        self._changed = changed
        self._topics_per_viewer = topics_per_viewer
        self._viewers: dict[Topic, dict[V, None]] = {}
        self._topics: dict[V, set[Topic]] = {}
        self._subscriptions = 0

    def __len__(self) -> int:
        """How many subscriptions there are, over all viewers."""
        return self._subscriptions

    def change(self, viewer: V, *, add: Iterable[Topic] = (), remove: Iterable[Topic] = ()) -> None:
        """Take ``remove`` from the topics of ``viewer``, then add ``add``; both or neither.

        Removing what it does not have and adding what it has change nothing.

        :raises TooManyTopics: if it would have more than it may.
        """
        held = frozenset(self._topics.get(viewer, ()))
        wanted = held.difference(remove).union(add)
        self.check_count(len(wanted))
        for topic in sorted(wanted - held):
            self._add(viewer, topic)
        for topic in sorted(held - wanted):
            self._remove(viewer, topic)

    def check_count(self, topics: int) -> None:
        """Raise `TooManyTopics` if one viewer may not have so many topics."""
        if topics > self._topics_per_viewer:
            raise TooManyTopics(f"a connection has at most {self._topics_per_viewer} topics")

    def drop(self, viewer: V) -> None:
        """Forget ``viewer``, which may be unknown."""
        for topic in self.topics(viewer):
            self._remove(viewer, topic)

    @property
    def topic_count(self) -> int:
        """How many topics have viewers."""
        return len(self._viewers)

    def viewers(self, topic: Topic) -> Collection[V]:
        """The viewers of ``topic``, in the order in which they came; a live view."""
        return self._viewers.get(topic, ())

    def count(self, topic: Topic) -> int:
        """How many viewers ``topic`` has."""
        return len(self._viewers.get(topic, ()))

    def counts(self) -> dict[Topic, int]:
        """The number of viewers of each topic that has any."""
        return {topic: len(viewers) for topic, viewers in self._viewers.items()}

    def topics(self, viewer: V) -> list[Topic]:
        """The topics of ``viewer``, sorted."""
        return sorted(self._topics.get(viewer, ()))

    def _add(self, viewer: V, topic: Topic) -> None:
        # One string object for all viewers of a topic, not one from each request.
        topic = Topic(sys.intern(topic))
        self._viewers.setdefault(topic, {})[viewer] = None
        self._topics.setdefault(viewer, set()).add(topic)
        self._subscriptions += 1
        self._changed(topic)

    def _remove(self, viewer: V, topic: Topic) -> None:
        viewers, topics = self._viewers[topic], self._topics[viewer]
        del viewers[viewer]
        topics.remove(topic)
        if not viewers:
            del self._viewers[topic]
        if not topics:
            del self._topics[viewer]
        self._subscriptions -= 1
        self._changed(topic)
