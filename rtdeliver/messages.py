"""What frontends, dispatchers and applications tell each other."""

from collections.abc import Mapping, Sequence

import msgspec

from rtdeliver.model import ConnectionId, FrontendRef, Member, Topic


class TopicsChange(msgspec.Struct, frozen=True):
    """What a viewer wants to watch from now on, and what no longer."""

    add: tuple[Topic, ...]
    remove: tuple[Topic, ...]


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What a frontend tells the dispatchers of its viewers.

    :param counts: viewers by topic; 0 takes the row out.
    :param full: whether ``counts`` replaces all that this frontend had.
    :param lease_seconds: how long the rows stand without another announcement; 0 takes the
        whole frontend out.
    :param sequence: grows with each announcement of an incarnation, so that one which was
        delayed on the way cannot undo a later one. 0 is always applied.
    :param after: the sequence of the last announcement that was acknowledged. A routing table
        that has not applied so much has lost something, and asks for all.
    """

    frontend: FrontendRef
    counts: Mapping[Topic, int]
    full: bool = False
    lease_seconds: float
    sequence: int = 0
    after: int = 0

    @property
    def is_sequel(self) -> bool:
        """Whether it makes sense only where its incarnation is known."""
        return self.lease_seconds == 0 or (self.after > 0 and not self.full)


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an announcement.

    :param full: the routing table knew nothing of this incarnation before, and asks it to announce
        all.
    """

    lease_seconds: float
    full: bool = False


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A frontend as the routing table knows it."""

    frontend: FrontendRef
    topics: int
    viewers: int
    lease_seconds_left: float


class PresenceHeartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """What a frontend tells of the members that have streams at it.

    :param members: at most as many as one request may name; a frontend with more sends several.
    :param heartbeat_seconds: when each of them is told of again, if the stream still stands.
    """

    members: Sequence[Member]
    heartbeat_seconds: float


class Presence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether a member is there.

    :param heartbeat_at: when it was last told of, in milliseconds since the epoch; ``None`` when
        it is not there.
    """

    member: Member
    online: bool
    heartbeat_at: int | None = None


class PresenceChange(msgspec.Struct, frozen=True, kw_only=True):
    """A member came or went.

    :param at: when that was decided, in milliseconds since the epoch; later for each further
        change of a member.
    """

    member: Member
    online: bool
    at: int

    @property
    def status(self) -> str:
        return "online" if self.online else "offline"

    @property
    def id(self) -> str:
        """Names the change, whoever publishes it, so that viewers see it once."""
        return f"{self.at}-0-{self.status}"


class PresenceSweep(msgspec.Struct, frozen=True, kw_only=True):
    """What was found when a store was looked through.

    :param next_seconds: until there may be more to do; ``None`` when nobody is there.
    """

    changes: Sequence[PresenceChange]
    next_seconds: float | None


class Subscriptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """The topics of a connection, and those among them that no dispatcher has confirmed."""

    connection: ConnectionId
    topics: Sequence[Topic]
    pending: Sequence[Topic] = ()
