"""The routing table in the memory of one dispatcher."""

from collections.abc import Mapping, Sequence

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rtdeliver.interfaces import IRoutingTable
from rtdeliver.messages import Announcement, NodeStatus
from rtdeliver.model import FrontendRef, Topic


class _Node(msgspec.Struct):
    """A frontend, and its part of the table.

    :param known: whether this incarnation has been announced in full.
    """

    frontend: FrontendRef
    lease_ends_at: float
    counts: dict[Topic, int]
    sequence: int = 0
    known: bool = False


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

    def apply(self, announcement: Announcement) -> Deferred[bool]:
        if self._is_late(announcement):
            return succeed(False)
        node = self._node_of(announcement)
        if node.sequence < announcement.after:
            node.known = False
        if announcement.sequence and announcement.sequence <= node.sequence:
            return succeed(node.known)
        node.sequence = announcement.sequence or node.sequence
        node.lease_ends_at = self._clock.seconds() + announcement.lease_seconds
        node.known = node.known or announcement.full
        if announcement.full:
            for topic in node.counts.keys() - announcement.counts.keys():
                self._set_row(node, topic, 0)
        for topic, count in announcement.counts.items():
            self._set_row(node, topic, count)
        return succeed(node.known)

    def frontends(self, topic: Topic) -> Deferred[Sequence[FrontendRef]]:
        self._remove_dead(self._rows.get(topic, ()))
        return succeed(tuple(self._rows.get(topic, {}).values()))

    def viewers(self, topic: Topic) -> Deferred[Mapping[str, int]]:
        self._remove_dead(self._rows.get(topic, ()))
        return succeed(
            {node: self._nodes[node].counts[topic] for node in self._rows.get(topic, ())}
        )

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
