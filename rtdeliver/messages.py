"""What frontends, dispatchers and applications tell each other."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from rtdeliver.model import ConnectionId, Event, FrontendRef, Member, Place, Revocation, Topic


class TopicsChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """The topics that a viewer starts to watch, and those that it stops watching.

    :param sequence: grows with each change of a connection, so that a delayed change cannot undo a
        later one. ``None`` is always applied.
    """

    add: tuple[Topic, ...]
    remove: tuple[Topic, ...]
    sequence: int | None = None


class Receipt(msgspec.Struct, frozen=True):
    """What a page tells of events that it has just received.

    :param round_trip_ms: how long a request of this page and its answer take.
    :param events: their ids.
    """

    connection: ConnectionId
    round_trip_ms: float
    events: tuple[str, ...]


class Announcement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a frontend tells the dispatchers of its viewers.

    A full announcement of many topics comes in parts, in this order: part 0 is ``full``, and all
    parts but the last one have ``more``. With the last part, it has replaced all earlier rows.

    :param counts: viewers by topic; 0 removes the row.
    :param held: viewers by topic that a dispatcher has acknowledged before. A routing table that
        lacks such a row has lost it, adds it again, and says so.
    :param full: whether ``counts`` replaces all rows of this frontend.
    :param part: the number of this part.
    :param more: whether further parts follow.
    :param lease_seconds: how long the rows are valid without another announcement; 0 removes the
        whole frontend.
    :param sequence: grows with each announcement of an incarnation, so that a delayed announcement
        cannot undo a later one. 0 is always applied.
    :param after: the sequence of the last acknowledged announcement. A routing table that has not
        applied that one has lost something, and asks for a full announcement.
    """

    frontend: FrontendRef
    counts: Mapping[Topic, int]
    held: Mapping[Topic, int] = {}
    full: bool = False
    part: int = 0
    more: bool = False
    lease_seconds: float
    sequence: int = 0
    after: int = 0

    @property
    def watched(self) -> list[Topic]:
        """The topics in it that have viewers."""
        return [*(topic for topic, viewers in self.counts.items() if viewers), *self.held]

    @property
    def is_sequel(self) -> bool:
        """Whether it only makes sense to a table that knows its incarnation."""
        return self.lease_seconds == 0 or ((self.after > 0 or self.part > 0) and not self.full)


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What a routing table has made of an announcement.

    :param known: whether the table has everything that this incarnation has announced so far;
        otherwise it needs a full announcement.
    :param replaced: whether another process has taken this one's place as the node.
    :param restored: the topics whose rows the table had lost, and has again.
    """

    known: bool
    replaced: bool = False
    restored: tuple[Topic, ...] = ()


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to an announcement.

    :param full: whether the routing table lacks rows of this incarnation, and asks for a full
        announcement.
    :param replaced: whether another process announces itself as the same node.
    :param restored: the topics whose rows the routing table had lost.
    :param heads: the positions of the last events of those topics in the announcement that have a
        history; an empty one if nothing is stored. Further events are delivered. ``None`` if the
        dispatcher keeps no history at all.
    :param received_at: when the dispatcher received the announcement, by its wall clock, in seconds
        since the epoch; 0 if it does not say so.
    :param answered_at: when it answered.
    """

    lease_seconds: float
    full: bool = False
    replaced: bool = False
    restored: tuple[Topic, ...] = ()
    heads: Mapping[Topic, str] | None = None
    received_at: float = 0
    answered_at: float = 0


class Route(msgspec.Struct, frozen=True):
    """Where the events of a topic go.

    :param frontends: those that have viewers of the topic.
    :param certain: whether these are surely all. It is ``False`` while the routing table cannot be
        reached, and until it is settled after a loss.
    """

    frontends: Sequence[FrontendRef]
    certain: bool = True


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A frontend as the routing table knows it."""

    frontend: FrontendRef
    topics: int
    viewers: int
    lease_seconds_left: float


class TopicViewers(msgspec.Struct, frozen=True):
    """How many viewers a topic has in this datacenter."""

    topic: Topic
    viewers: int

    @property
    def place(self) -> tuple[int, str]:
        """Where it comes in a list: the topics with most viewers first, then by name."""
        return -self.viewers, self.topic


class TopicMembers(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who watches a topic at one frontend.

    :param members: in order, each once.
    :param anonymous: how many viewers are no members, over all pages.
    :param more: whether there are members after these.
    """

    members: tuple[Member, ...]
    anonymous: int
    more: bool = False


class PresenceHeartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A frontend's report of the members that have streams at it.

    :param members: at most as many as one request may name; a frontend with more sends several
        reports.
    :param heartbeat_seconds: the time to the next report of each member whose stream is still open.
    """

    members: Sequence[Member]
    heartbeat_seconds: float


class Presence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether a member is online.

    :param heartbeat_at: when its last heartbeat came, in milliseconds since the epoch; ``None``
        when the member is offline.
    """

    member: Member
    online: bool
    heartbeat_at: int | None = None


class PresenceChange(msgspec.Struct, frozen=True, kw_only=True):
    """A member went online or offline.

    :param at: when the store decided that, in milliseconds since the epoch. It is later for each
        further change of the same member.
    """

    member: Member
    online: bool
    at: int

    @property
    def status(self) -> str:
        return "online" if self.online else "offline"

    @property
    def id(self) -> str:
        """The event's id, the same whoever publishes the change, so that viewers see it once."""
        return f"{self.at}-0-{self.status}"


class OccupancyChange(msgspec.Struct, frozen=True):
    """A topic got its first viewer in a datacenter, or lost its last one.

    :param at: when the store decided that, in milliseconds since the epoch. It is later for each
        further change of the same topic.
    """

    topic: Topic
    occupied: bool
    at: int

    @property
    def status(self) -> str:
        return "occupied" if self.occupied else "vacated"

    @property
    def id(self) -> str:
        """The event's id, the same whoever publishes the change, so that viewers see it once."""
        return f"{self.at}-0-{self.status}"


class OccupancyCheck(msgspec.Struct, frozen=True):
    """What a look at some topics has found.

    :param changes: those that the caller has to publish.
    :param next_seconds: seconds until another look may find more; ``None`` when no topic is known.
    """

    changes: Sequence[OccupancyChange]
    next_seconds: float | None


class PresenceSweep(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep of a presence store found.

    :param next_seconds: seconds until the next sweep may find more; ``None`` when the store has no
        members.
    """

    changes: Sequence[PresenceChange]
    next_seconds: float | None


class Subscriptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """The topics of a connection, and those among them that no dispatcher has confirmed."""

    connection: ConnectionId
    topics: Sequence[Topic]
    pending: Sequence[Topic] = ()


class Refreshed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a new token has made of a connection.

    :param topics: those that it watches now.
    :param removed: those that it watched and that the new token does not grant.
    :param expires_at: when the stream ends now, in seconds since the epoch.
    :param expires_in_seconds: the time until then, for clients whose clocks may be wrong.
    :param pending: those of ``topics`` that no dispatcher has confirmed.
    """

    connection: ConnectionId
    topics: Sequence[Topic]
    removed: Sequence[Topic]
    expires_at: float
    expires_in_seconds: float
    pending: Sequence[Topic] = ()


class Bookmark(msgspec.Struct, frozen=True):
    """How far somebody has read a store of revocations.

    :param store: the name of the store; it has another one once it has lost something. Empty for
        somebody who has read nothing.
    :param entry: the number of the last entry read.
    """

    store: str = ""
    entry: int = 0


class Revocations(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a store of revocations has after a bookmark.

    :param bookmark: behind these.
    :param more: whether there are others.
    """

    revocations: tuple[Revocation, ...]
    bookmark: Bookmark
    more: bool = False


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for events in the history of a topic. At most one of the first four is given.

    :param since: for those after this place. If that is of another topic, or of another history of
        the topic, for those that were stored since that time, less an overlap.
    :param at: for those that were stored since this time, less an overlap; in milliseconds since
        the epoch.
    :param rewind: for so many, the last ones.
    :param before: for the last ones before this place; `END` for the last ones of all.
    :param limit: how many events at most.
    """

    topic: Topic
    since: Place | None = None
    at: int | None = None
    rewind: int | None = None
    before: Place | None = None
    limit: int


END = Place(2**53 - 1, 0, "")
"""After the last event."""

LOST_UNKNOWN = -1
"""In place of a number: nobody knows how many."""


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive events in the history of a topic.

    :param start: the place after which they come.
    :param lost: how many events between what was asked for and ``start`` are not kept any more.
    :param head: the place of the last event that was stored.
    """

    events: tuple[Event, ...]
    start: Place
    head: Place
    lost: int = 0

    @property
    def last(self) -> int:
        """The number of the last event in it."""
        return self.start.number + len(self.events)


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that is to be stored.

    :param event: without a position.
    :param may_repeat: whether it may come again, so that its id must be remembered.
    :param is_own: whether it was published in this datacenter, so that peers are to be sent it.
    """

    event: Event
    may_repeat: bool
    is_own: bool = True


class Stored(msgspec.Struct, frozen=True, gc=False):
    """An event that is stored.

    :param event: with its position.
    :param repeated: whether it was stored before.
    :param is_own: see `Entry`.
    """

    event: Event
    repeated: bool = False
    is_own: bool = True


HopStage = Literal["published", "forwarded", "delivered", "sent", "received"]
"""What has happened to a tracked event."""


class HopRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one process records of a tracked event that passes it.

    :param stage: ``published`` (a dispatcher has accepted it), ``forwarded`` (a dispatcher of a
        peer has it), ``delivered`` (a frontend has it), ``sent`` or ``received`` (its viewers).
    :param at: when the event was accepted, in milliseconds since the epoch.
    :param ages: how old the event was then, in milliseconds, and how many times: once at one
        process, and once for each viewer that it was sent to or that received it.
    :param datacenter: of the process; empty if it has no name.
    :param node: the frontend; empty for a dispatcher.
    :param incarnation: of the frontend.
    :param part: the number of this record among those of one frontend and stage.
    :param frontends: the nodes to which a dispatcher delivers the event.
    :param peers: the datacenters to which a dispatcher forwards it.
    :param viewers: how many viewers it had at the frontend when it was delivered.
    :param left: how many viewers ended before they were sent it. Only in ``sent``.
    """

    stage: HopStage
    id: str
    type: str
    at: int
    ages: tuple[tuple[float, int], ...]
    datacenter: str = ""
    node: str = ""
    incarnation: str = ""
    part: int = 0
    frontends: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    viewers: int = 0
    left: int = 0
