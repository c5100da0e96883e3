"""The routing table in the memory of one dispatcher."""

from collections.abc import Mapping, Sequence

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rtdeliver.interfaces import IRoutingTable
from rtdeliver.messages import Announcement, Applied, NodeStatus, Route, TopicViewers
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.routing.most_viewed import MostViewed


class _Node(msgspec.Struct):
    """A frontend, and its part of the table.

    :param known: whether the table has all that this incarnation has announced.
    :param parts: how many parts of a full announcement were applied; 0 if none is under way.
    :param staged: the topics in these parts.
    """

    frontend: FrontendRef
    lease_ends_at: float
    counts: dict[Topic, int]
    sequence: int = 0
    known: bool = False
    parts: int = 0
    staged: set[Topic] = set()


@implementer(IRoutingTable)
class MemoryRoutingTable:
    """Serves a single dispatcher.

    A node whose lease has ended is removed by the next call that meets it.
    """

    def __init__(self, *, clock: IReactorTime) -> None:
        self._clock = clock
        self._nodes: dict[str, _Node] = {}
        self._rows: dict[Topic, dict[str, FrontendRef]] = {}

    def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def missing(self) -> list[str]:
        return []

    def apply(self, announcement: Announcement) -> Deferred[Applied]:
        if self._is_late(announcement):
            return succeed(Applied(known=False, replaced=True))
        node = self._node_of(announcement)
        if node.sequence < announcement.after:
            node.known = False
        if announcement.sequence and announcement.sequence <= node.sequence:
            return succeed(Applied(known=node.known))
        node.sequence = announcement.sequence or node.sequence
        node.lease_ends_at = self._clock.seconds() + announcement.lease_seconds
        restored = tuple(topic for topic in announcement.held if topic not in node.counts)
        for topic, count in {**announcement.held, **announcement.counts}.items():
            self._set_row(node, topic, count)
        in_order = self._stage(node, announcement)
        return succeed(Applied(known=node.known or in_order, restored=restored))

    def route(self, topic: Topic) -> Deferred[Route]:
        self._remove_dead(self._rows.get(topic, ()))
        return succeed(Route(tuple(self._rows.get(topic, {}).values())))

    def has_lease(self, frontend: FrontendRef) -> bool:
        node = self._nodes.get(frontend.node)
        return (
            node is not None
            and node.frontend == frontend
            and node.lease_ends_at > self._clock.seconds()
        )

    def viewers(self, topic: Topic) -> Deferred[Mapping[str, int]]:
        self._remove_dead(self._rows.get(topic, ()))
        return succeed(
            {node: self._nodes[node].counts[topic] for node in self._rows.get(topic, ())}
        )

    def topics(
        self, prefix: str, after: TopicViewers | None, limit: int
    ) -> Deferred[Sequence[TopicViewers]]:
        self._remove_dead(self._nodes)
        best = MostViewed(after, limit)
        for topic, row in self._rows.items():
            if topic.startswith(prefix):
                viewers = sum(self._nodes[node].counts[topic] for node in row)
                best.add(TopicViewers(topic, viewers))
        return succeed(best.found())

    def nodes(self) -> Deferred[Sequence[NodeStatus]]:
        self._remove_dead(self._nodes)
        now = self._clock.seconds()
        return succeed(
            [
                NodeStatus(
                    frontend=node.frontend,
                    topics=len(node.counts),
                    viewers=sum(node.counts.values()),
                    lease_seconds_left=round(node.lease_ends_at - now, 3),
                )
                for _, node in sorted(self._nodes.items())
            ]
        )

    def forget(self, frontend: FrontendRef) -> Deferred[None]:
        node = self._nodes.get(frontend.node)
        if node is not None and node.frontend.incarnation == frontend.incarnation:
            self._remove(node)
        return succeed(None)

    def overdue_changes(self) -> int:
        return 0

    def _stage(self, node: _Node, announcement: Announcement) -> bool:
        """Take the next part of a full announcement.

        :return: whether ``announcement`` is such a part.
        """
        if announcement.full:
            node.known, node.parts, node.staged = False, 0, set()
        elif not announcement.part:
            return False
        elif announcement.part != node.parts:
            node.known = False
            return False
        node.parts += 1
        node.staged.update(topic for topic, count in announcement.counts.items() if count)
        if not announcement.more:
            for topic in node.counts.keys() - node.staged:
                self._set_row(node, topic, 0)
            node.known, node.parts, node.staged = True, 0, set()
        return True

    def _is_late(self, announcement: Announcement) -> bool:
        """Whether ``announcement`` is from a process that another has replaced."""
        frontend = announcement.frontend
        self._remove_dead([frontend.node])
        node = self._nodes.get(frontend.node)
        return node is not None and node.frontend != frontend and announcement.is_sequel

    def _node_of(self, announcement: Announcement) -> _Node:
        frontend = announcement.frontend
        node = self._nodes.get(frontend.node)
        if node is not None and node.frontend != frontend:
            self._remove(node)
            node = None
        if node is None:
            node = _Node(frontend=frontend, lease_ends_at=0.0, counts={})
            self._nodes[frontend.node] = node
        return node

    def _set_row(self, node: _Node, topic: Topic, count: int) -> None:
        name = node.frontend.node
        if count:
            node.counts[topic] = count
            self._rows.setdefault(topic, {})[name] = node.frontend
        elif node.counts.pop(topic, 0):
            row = self._rows[topic]
            del row[name]
            if not row:
                del self._rows[topic]

    def _remove_dead(self, names: Mapping[str, object] | Sequence[str] | tuple[()]) -> None:
        now = self._clock.seconds()
        dead = [
            self._nodes[name]
            for name in names
            if name in self._nodes and self._nodes[name].lease_ends_at <= now
        ]
        for node in dead:
            self._remove(node)

    def _remove(self, node: _Node) -> None:
        for topic in list(node.counts):
            self._set_row(node, topic, 0)
        del self._nodes[node.frontend.node]
