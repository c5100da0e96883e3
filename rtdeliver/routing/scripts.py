"""The scripts of the routing table in Redis, with what they return decoded."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from rtdeliver.messages import Announcement, Applied, NodeStatus, TopicViewers
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.scripts import read_script

_APPLY = read_script("rtdeliver.routing", "common", "apply")
_FORGET = read_script("rtdeliver.routing", "common", "forget")
_TAKE_OUT = read_script("rtdeliver.routing", "common", "take_out")
_ROW = read_script("rtdeliver.routing", "row")
_TOPICS = read_script("rtdeliver.routing", "topics")
_NODES = read_script("rtdeliver.routing", "nodes")


class RowEntry(msgspec.Struct, frozen=True):
    """A node in a row.

    :param frontend: ``None`` if the node is dead.
    :param known: whether the node has been announced in full.
    """

    node: str
    viewers: int
    frontend: FrontendRef | None
    known: bool
    lease_seconds: float


class Row(msgspec.Struct, frozen=True):
    """The row of a topic, and the state of the table.

    :param table: names this table among all that this Redis ever had; empty if nobody has announced
        anything yet.
    :param young_seconds: for how long frontends may still announce to this table, if it is new,
        what another one had.
    :param lost: whether frontends had announced themselves before this table was begun.
    """

    entries: Sequence[RowEntry]
    table: bytes
    young_seconds: float
    lost: bool


class RoutingScripts:
    """Runs the scripts. Every call raises `Unavailable` if Redis cannot be reached.

    :param young_seconds: for how long a new table is young.
    """

    def __init__(self, redis: RedisConnection, *, young_seconds: float) -> None:
        self._redis = redis
        self._young_milliseconds = round(young_seconds * 1000)

    async def apply(self, announcement: Announcement, token: str) -> tuple[Applied, int]:
        """Apply an announcement.

        :param token: comes first in the message about changed rows.
        :return: what was applied, and how many connections are sent that message.
        """
        frontend = announcement.frontend
        known, replaced, listeners, *restored = await self._redis.run(
            _APPLY,
            frontend.node,
            frontend.url,
            frontend.incarnation,
            announcement.sequence,
            announcement.after,
            round(announcement.lease_seconds * 1000),
            int(announcement.full),
            int(announcement.is_sequel),
            announcement.part,
            int(announcement.more),
            token,
            self._young_milliseconds,
            len(announcement.counts),
            *_flat(announcement.counts),
            *_flat(announcement.held),
        )
        applied = Applied(
            known=bool(known),
            replaced=bool(replaced),
            restored=tuple(Topic(topic.decode()) for topic in restored),
        )
        return applied, listeners

    async def forget(self, node: str, incarnation: str) -> None:
        """Remove an incarnation of a node; a dead node is removed whatever its incarnation."""
        await self._redis.run(_FORGET, node, incarnation)

    async def take_out(self) -> bool:
        """Take nodes out of some of the rows that they have left; return whether there are more."""
        return bool(await self._redis.run(_TAKE_OUT))

    async def row(self, topic: Topic, further: Sequence[str] = ()) -> Row:
        """Read the row of a topic.

        :param further: nodes to return too, whether or not the row has them.
        """
        table, young_milliseconds, lost, *entries = await self._redis.run(_ROW, topic, *further)
        return Row(
            entries=[
                RowEntry(
                    node=name.decode(),
                    viewers=int(viewers),
                    frontend=_frontend(name, url, incarnation) if url else None,
                    known=known == b"1",
                    lease_seconds=milliseconds / 1000,
                )
                for name, viewers, url, incarnation, known, milliseconds in entries
            ],
            table=table,
            young_seconds=young_milliseconds / 1000,
            lost=bool(lost),
        )

    async def topics(
        self, node: str, cursor: str, prefix: str
    ) -> tuple[str, Sequence[TopicViewers]]:
        """Read some of the topics of a node, with their viewers at all nodes.

        A topic that several nodes have is returned for each of them.

        :param cursor: what the last call returned, or ``0`` to begin; it returns ``0`` at the end.
        """
        next_cursor, *found = await self._redis.run(_TOPICS, node, cursor, prefix)
        pairs = zip(found[::2], found[1::2], strict=True)
        topics = [TopicViewers(Topic(topic.decode()), int(viewers)) for topic, viewers in pairs]
        return next_cursor.decode(), topics

    async def nodes(self) -> tuple[list[NodeStatus], list[str]]:
        """Return the nodes that are alive, by name, and the names of the dead ones."""
        alive, dead = [], []
        for name, viewers, url, incarnation, topics, milliseconds in await self._redis.run(_NODES):
            if url:
                alive.append(
                    NodeStatus(
                        frontend=_frontend(name, url, incarnation),
                        topics=topics,
                        viewers=int(viewers),
                        lease_seconds_left=milliseconds / 1000,
                    )
                )
            else:
                dead.append(name.decode())
        return sorted(alive, key=lambda status: status.frontend.node), dead


def _flat(counts: Mapping[Topic, int]) -> Iterator[str | int]:
    for topic, count in counts.items():
        yield topic
        yield count


def _frontend(name: bytes, url: bytes, incarnation: bytes) -> FrontendRef:
    return FrontendRef(node=name.decode(), url=url.decode(), incarnation=incarnation.decode())
