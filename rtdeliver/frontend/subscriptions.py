"""Which viewers of this process watch which topics."""

import sys
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from rtdeliver.errors import TooManyTopics, Unavailable
from rtdeliver.model import Topic

V = TypeVar("V", bound=Hashable)


class Group(Protocol[V]):
    """The viewers of one topic, in the order in which they subscribed."""

    def join(self, viewer: V) -> None: ...

    def leave(self, viewer: V) -> None: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[V]: ...


G = TypeVar("G", bound=Group[Any])


class SubscriptionTable(Generic[V, G]):
    """Maps each topic to its viewers, and each viewer to its topics.

    :param changed: called with a topic after the number of its viewers has changed.
    :param group: makes the group of a topic that gets its first viewer.
    :param topics_per_viewer: how many topics one viewer may watch.
    :param max_topics: how many different topics all viewers together may watch.
    """

    def __init__(
        self,
        *,
        group: Callable[[Topic], G],
        changed: Callable[[Topic], None],
        topics_per_viewer: int,
        max_topics: int,
    ) -> None:
        self._group = group
        self._changed = changed
        self._topics_per_viewer = topics_per_viewer
        self._max_topics = max_topics
        self._groups: dict[Topic, G] = {}
        self._topics: dict[V, set[Topic]] = {}
        self._subscriptions = 0
        self.refused = 0
        """How many viewers and changes found no room for their topics."""

    def __len__(self) -> int:
        """How many subscriptions there are, over all viewers."""
        return self._subscriptions

    def change(self, viewer: V, *, add: Iterable[Topic] = (), remove: Iterable[Topic] = ()) -> None:
        """Remove ``remove`` from the topics of ``viewer``, then add ``add``; both or neither.

        A removed topic that it does not have, or an added one that it has, changes nothing.

        :raises TooManyTopics: if the viewer would have too many topics.
        :raises Unavailable: if all viewers together would have too many.
        """
        held = frozenset(self._topics.get(viewer, ()))
        wanted = held.difference(remove).union(add)
        self.check_count(len(wanted))
        added, removed = wanted - held, held - wanted
        self.check_room(added, removed)
        for topic in sorted(added):
            self._add(viewer, topic)
        for topic in sorted(removed):
            self._remove(viewer, topic)

    def check_count(self, topics: int) -> None:
        """Raise `TooManyTopics` if ``topics`` are more than one viewer may watch."""
        if topics > self._topics_per_viewer:
            raise TooManyTopics(
                f"a connection may have at most {self._topics_per_viewer} topics, not {topics}"
            )

    def check_room(self, added: Collection[Topic], removed: Collection[Topic] = ()) -> None:
        """Raise `Unavailable`, and count that, if there would be too many different topics.

        :param added: different topics that a viewer is to watch.
        :param removed: different topics that this viewer has, and is not to watch any more.
        """
        if not self.has_room(added, removed):
            self.refused += 1
            raise Unavailable(
                f"the viewers of this frontend watch {self._max_topics} topics already"
                " (viewers.topics); try again later, or connect to another frontend"
            )

    def has_room(self, added: Collection[Topic], removed: Collection[Topic] = ()) -> bool:
        """Return whether all viewers together may watch these, too; parameters as above."""
        groups = self._groups
        topics = len(groups) + sum(topic not in groups for topic in added)
        if topics <= self._max_topics:
            return True
        return topics - sum(len(groups[topic]) == 1 for topic in removed) <= self._max_topics

    def drop(self, viewer: V) -> None:
        """Remove ``viewer`` from all topics; nothing happens if it is unknown."""
        for topic in self.topics(viewer):
            self._remove(viewer, topic)

    @property
    def topic_count(self) -> int:
        """How many topics have viewers."""
        return len(self._groups)

    def group(self, topic: Topic) -> G | None:
        """The viewers of ``topic``, if there are any."""
        return self._groups.get(topic)

    def viewers(self, topic: Topic) -> list[V]:
        """The viewers of ``topic``, in the order in which they subscribed."""
        return list(self._groups.get(topic, ()))

    def count(self, topic: Topic) -> int:
        """How many viewers ``topic`` has."""
        return len(self._groups.get(topic, ()))

    def counts(self) -> dict[Topic, int]:
        """The number of viewers of each topic that has any."""
        return {topic: len(group) for topic, group in self._groups.items()}

    def each_count(self) -> Iterator[tuple[Topic, int]]:
        """Yield topics with the number of their viewers; topics may come and go meanwhile."""
        for topic in list(self._groups):
            yield topic, self.count(topic)

    def topics(self, viewer: V) -> list[Topic]:
        """The topics of ``viewer``, sorted."""
        return sorted(self._topics.get(viewer, ()))

    def _add(self, viewer: V, topic: Topic) -> None:
        # All viewers of a topic share one string, instead of keeping one from each request.
        topic = Topic(sys.intern(topic))
        group = self._groups.get(topic)
        if group is None:
            group = self._groups[topic] = self._group(topic)
        group.join(viewer)
        self._topics.setdefault(viewer, set()).add(topic)
        self._subscriptions += 1
        self._changed(topic)

    def _remove(self, viewer: V, topic: Topic) -> None:
        group, topics = self._groups[topic], self._topics[viewer]
        group.leave(viewer)
        topics.remove(topic)
        if not len(group):
            del self._groups[topic]
        if not topics:
            del self._topics[viewer]
        self._subscriptions -= 1
        self._changed(topic)
