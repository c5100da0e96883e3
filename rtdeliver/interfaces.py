"""The interfaces between the packages."""

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from zope.interface import Attribute, Interface

from rtdeliver.messages import (
    Acknowledgement,
    Announcement,
    Applied,
    Bookmark,
    Entry,
    HistoryPage,
    HistoryQuery,
    HopRecord,
    NodeStatus,
    OccupancyChange,
    OccupancyCheck,
    Presence,
    PresenceChange,
    PresenceHeartbeat,
    PresenceSweep,
    Receipt,
    Refreshed,
    Revocations,
    Route,
    Stored,
    Subscriptions,
    TopicMembers,
    TopicsChange,
    TopicViewers,
)
from rtdeliver.model import ConnectionId, FrontendRef, Item, Member, Place, Revocation, Topic


class IActor(Interface):
    """Something with a mailbox, which takes turns while the mailbox has work."""

    queued = Attribute("``True`` while it waits in a run queue; only the run queue sets it.")

    def turn() -> None:
        """Process the waiting work, in bounded time and without blocking.

        An exception ends the actor: the run queue logs it and calls `failed`.
        """

    def failed() -> None:
        """Called after a turn raised: release everything, and take no further turn."""


class IVisited(Interface):
    """Something that a timing wheel visits when it is due."""

    def visit(now: float) -> float | None:
        """Do what is due.

        :param now: the wheel's time in seconds.
        :return: seconds until the next visit, or ``None`` for no further one.
        """


class IStream(Interface):
    """The transport of one connection to its client."""

    def send(data: bytes) -> int:
        """Send as much of ``data`` as the stream takes without blocking.

        :return: how many bytes it took. After fewer than ``len(data)``, the owner must not send
            more until its ``writable`` is called, which happens once.
        :raises StreamLost: if the send finds that the client is gone. A loss that is found
            otherwise is reported by the owner's ``connectionLost`` alone.
        """

    def unsent_bytes() -> int:
        """Return how many of the bytes taken are still held here.

        The number shrinks as the client reads.
        """

    def close() -> None:
        """End the stream after all bytes that it took are sent.

        The owner's ``connectionLost`` is called once that is done, and never before this returns.
        """

    def abort() -> None:
        """End the stream at once, and drop the bytes that are not sent yet.

        The owner's ``connectionLost`` is called after this returns.
        """


class IStreamOwner(IProtocol):
    """The protocol above a stream."""

    def attached(stream: IStream) -> None:
        """Called once, before any other method, when ``stream`` is open."""

    def writable() -> None:
        """Called when the stream takes data again, after a ``send`` that took only a part."""


class IRoutingTable(Interface):
    """The routing table: topic -> frontends that have viewers of it.

    A frontend's rows are valid until its lease ends; every ``apply`` renews the lease. Every
    Deferred fails with `Unavailable` when the table cannot be reached.
    """

    def start() -> None:
        """Start to connect to the store that holds the table."""

    def stop() -> Deferred[None]:
        """Disconnect; fires when nothing is left open."""

    def missing() -> list[str]:
        """Return the reasons why the table cannot be reached; empty when it can be."""

    def apply(announcement: Announcement) -> Deferred[Applied]:
        """Change the rows of one frontend as the announcement says, all of them or none.

        Whoever asks any dispatcher for a route after this has fired, gets the changed rows.

        An announcement of a new incarnation replaces all rows of the node's old incarnation. A
        sequel never does so: it is a late announcement of a process that was itself replaced, and
        is ignored. An announcement with a lower ``sequence`` than the last one applied is ignored
        too. A part of a full announcement that does not follow the part before it makes the
        incarnation unknown.
        """

    def route(topic: Topic) -> Deferred[Route]:
        """Fires with the frontends that have viewers of ``topic`` and a valid lease."""

    def has_lease(frontend: FrontendRef) -> bool:
        """Return whether the last lease of ``frontend`` that was seen here still runs.

        It counts as running while nobody could renew it.
        """

    def viewers(topic: Topic) -> Deferred[Mapping[str, int]]:
        """Fires with the viewers of ``topic`` by node."""

    def topics(
        prefix: str, after: TopicViewers | None, limit: int
    ) -> Deferred[Sequence[TopicViewers]]:
        """Fires with topics that have viewers, those with most first, then by name.

        :param prefix: what the topics begin with.
        :param after: the topic before the first one; ``None`` to begin at the beginning. It is
            found by its number of viewers and its name, although it may have others now.
        :param limit: how many topics at most.
        """

    def nodes() -> Deferred[Sequence[NodeStatus]]:
        """Fires with every frontend that has a valid lease, by node name."""

    def forget(frontend: FrontendRef) -> Deferred[None]:
        """Remove this incarnation and its rows; does nothing if another has replaced it."""

    def overdue_changes() -> int:
        """Return how many changes made here were not acknowledged by all dispatchers in time.

        Those dispatchers cannot use the old rows any more, but must read them again.
        """


class IDispatcherClient(Interface):
    """What a frontend asks of the dispatchers."""

    def announce(announcement: Announcement) -> Deferred[Acknowledgement]:
        """Send the announcement to one dispatcher; fires with its answer.

        Fails with `RemoteFailure` if the dispatcher fails; the next call goes to another one.
        """

    def frontends() -> Deferred[Sequence[FrontendRef]]:
        """Fires with this datacenter's frontends that have a valid lease; fails like `announce`."""

    def revocations(after: Bookmark) -> Deferred[Revocations]:
        """Fires with a page of the revocations that the dispatchers keep; fails like `announce`."""

    def restore(revocations: Sequence[Revocation]) -> Deferred[None]:
        """Fires once the dispatchers keep these again; fails like `announce`."""

    def history(queries: Sequence[HistoryQuery]) -> Deferred[Sequence[HistoryPage | None]]:
        """Fires with a page for each query; fails like `announce`.

        ``None`` stands for a topic without history.
        """


class IHistory(Interface):
    """The events of the topics that have a history, in one order for each topic.

    A topic's events are numbered without gaps. A history keeps as many as the settings say, and for
    as long. Whoever stores an event has a claim: it delivers the event and calls `mark_delivered`
    before the claim ends. After that, the history gives the event to the next caller of `overdue`.

    Every Deferred fails with `Unavailable` when the store cannot be reached.
    """

    def keeps(topic: Topic) -> bool:
        """Return whether ``topic`` has a history."""

    def append(entries: Sequence[Entry]) -> Deferred[Sequence[Stored]]:
        """Store events of topics with history, in this order.

        :return: fires with each event and its position, in order. One whose id is stored already is
            not stored again, and has the position that it got then.

        Fails with `Unavailable`, too, and may have stored some, if the store is full.
        """

    def read(queries: Sequence[HistoryQuery]) -> Deferred[Sequence[HistoryPage | None]]:
        """Fires with a page for each query, and with ``None`` for topics without history.

        A page has as many events as the query or the settings allow, at least one if there is any.
        """

    def heads(topics: Sequence[Topic]) -> Deferred[Mapping[Topic, Place]]:
        """Fires with the places of the last events of those topics that have a history.

        For a topic that nothing is stored of, that is `BEGINNING`.
        """

    def overdue(limit: int) -> Deferred[Sequence[Stored]]:
        """Fires with events whose claims have ended, each topic's in order; the caller has them
        now.
        """

    def mark_delivered(stored: Sequence[Stored]) -> Deferred[None]:
        """Record that these were delivered, to all frontends that had viewers."""

    def clear(topic: Topic) -> Deferred[int]:
        """Remove all events of a topic; fires with how many there were."""


class IRevocationStore(Interface):
    """The revocations of a datacenter, which hold for its frontends.

    A store has the last one for each kind and name, until it does not hold any more. Every Deferred
    fails with `Unavailable` when the store cannot be reached.
    """

    def add(revocations: Sequence[Revocation]) -> Deferred[None]:
        """Keep these. One that is not later than what the store has for its name changes nothing.

        Fails with `Unavailable`, too, and may have kept some, if the store is full.
        """

    def after(bookmark: Bookmark) -> Deferred[Revocations]:
        """Fires with a page of what was added after ``bookmark``, in this order.

        If that is of another store, the page begins at the beginning.
        """

    def find(member: Member | None, token_id: str) -> Deferred[Sequence[Revocation]]:
        """Fires with those for a member and for a token; either may be missing or empty."""


class IPresenceClient(Interface):
    """How a frontend reports its members to the dispatchers."""

    def heartbeat(heartbeat: PresenceHeartbeat) -> Deferred[None]:
        """Fires once one dispatcher has recorded the heartbeat.

        Fails with `RemoteFailure` if the dispatcher fails; the next call goes to another one.
        """


class IPresenceStore(Interface):
    """Which members are online, and which changes of that are not published yet.

    A member goes online with its first heartbeat. It goes offline when no heartbeat has come for
    the heartbeat's own interval plus twice the grace time.

    The store records a change in the same step that decides it, and gives it to one caller. This
    caller has a claim: it publishes the change and calls `mark_published` before the claim ends.
    After that, the store gives the change to the next caller of `sweep`. The store keeps the last
    change of each member, and the one before it if that is not published either.

    Every Deferred fails with `Unavailable` when the store cannot be reached.
    """

    def heartbeat(heartbeat: PresenceHeartbeat) -> Deferred[Sequence[PresenceChange]]:
        """Record that members are online.

        :return: fires with the changes that the caller has to publish, in this order. If a member's
            last change to offline is not marked as published, it comes first, because it may never
            have been published.
        """

    def sweep(limit: int) -> Deferred[PresenceSweep]:
        """Check at most ``limit`` members; fires with the changes that the caller has to publish.

        A limit of 0 only tests whether the store can be reached.
        """

    def mark_published(changes: Sequence[PresenceChange]) -> Deferred[None]:
        """Record that these changes are published, and forget their members that are offline."""

    def presence(members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        """Fires with whether each of ``members`` is online, in their order."""


class IOccupancyStore(Interface):
    """Which topics have viewers by what was last told of them, and which changes are not told yet.

    The store compares that with the rows of the routing table. It records a change in the same step
    that decides it, and gives it to one caller. This caller has a claim: it publishes the change
    and calls `mark_published` before the claim ends. After that, the store gives the change to the
    next caller that looks at the topic. If a topic changes back meanwhile, the last change counts.

    Every Deferred fails with `Unavailable` when the store cannot be reached.
    """

    def check(topics: Sequence[Topic], *, may_vacate: bool) -> Deferred[OccupancyCheck]:
        """Look at these topics.

        :param may_vacate: ``False`` while frontends may not have renewed their leases yet; then no
            topic is found to have lost its viewers.
        """

    def sweep(limit: int, *, may_vacate: bool) -> Deferred[OccupancyCheck]:
        """Look at no more than ``limit`` topics, those that are due. Every occupied topic is due
        again and again, since its frontends may have died.
        """

    def mark_published(changes: Sequence[OccupancyChange]) -> Deferred[None]:
        """Record that these changes are published. Topics that are vacated are forgotten later."""


class IPlatform(Interface):
    """What an application asks of the platform, without knowing its nodes and datacenters."""

    def publish(topic: Topic, type: str, data: object) -> Deferred[None]:
        """Fires once a dispatcher has accepted the event.

        :param data: anything that can be written as JSON.

        Fails in bounded time with `RemoteFailure` or `Unavailable` if no dispatcher accepted it.
        Viewers see the event at most once, however many attempts it took.
        """

    def viewers(topic: Topic) -> Deferred[int]:
        """Fires with the number of viewers of ``topic``; fails like `publish`."""

    def presence(members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        """Fires with whether each of ``members`` is online, in order; fails like `publish`."""

    def disconnect(member: Member, reason: str) -> Deferred[None]:
        """Fires once the platform ends all streams of a member; fails like `publish`.

        Its tokens that were signed before are refused from then on.
        """


class IFrontendClient(Interface):
    """What a dispatcher asks of a frontend."""

    def deliver(frontend: FrontendRef, batch: Sequence[Item]) -> Deferred[None]:
        """Fires once the events are in the mailboxes of the frontend's viewers.

        Fails with `Unreachable` (no event arrived), `AnswerLost` (they may have arrived),
        `StaleIncarnation` (another process runs there now) or `AnsweredNo`.
        """

    def members(
        frontend: FrontendRef, topic: Topic, after: str, limit: int
    ) -> Deferred[TopicMembers]:
        """Fires with the members who watch ``topic`` there; fails with `RemoteFailure`.

        :param after: the name before the first one; empty to begin at the beginning.
        :param limit: how many members at most.
        """


class IPeerClient(Interface):
    """What a dispatcher asks of a peer datacenter."""

    def forward(batch: Sequence[Item]) -> Deferred[None]:
        """Fires once one dispatcher of the peer has started to deliver the events there.

        Fails with `Unreachable` (no event arrived), `AnswerLost` (they may have arrived) or
        `AnsweredNo`; the next call goes to another dispatcher of the peer.
        """

    def revocations(after: Bookmark) -> Deferred[Revocations]:
        """Fires with a page of the revocations that the peer keeps; fails with `RemoteFailure`."""


class IConnections(Interface):
    """Reads and changes the topics of connections."""

    def subscribe(id: ConnectionId, change: TopicsChange) -> Deferred[Subscriptions]:
        """Change the topics of a connection, and wait until a dispatcher confirms the new ones.

        The wait is bounded; topics that are not confirmed in time are ``pending`` in the result.
        A change whose sequence is not higher than that of the last one applied to this connection
        changes nothing, and fires with the topics that hold.
        Fails with `UnknownConnection` if no connection has this id or it ends meanwhile. Fails with
        `TooManyTopics`, and changes nothing, if the connection would have more topics than it may,
        and with `Unavailable` if all connections of its frontend together would.
        """

    def subscriptions(id: ConnectionId) -> Deferred[Subscriptions]:
        """Fires with the topics of a connection; fails with `UnknownConnection`."""

    def refresh(id: ConnectionId, token: str) -> Deferred[Refreshed]:
        """Let a connection go on with a new token: its grants and its expiry hold from now on.

        Topics that the new token names and the last one did not are added; those that it does not
        grant are removed, and none of their events is sent any more. The wait is that of
        `subscribe`.
        Fails with `UnknownConnection`, with `Unauthorized` if the token is refused, with
        `Forbidden` if it is for another member, and with `TooManyTopics` as `subscribe` does. Then
        the last token holds as before.
        """

    def receive(receipt: Receipt) -> Deferred[None]:
        """Note that a page has just received events.

        Fails with `UnknownConnection` if no connection has the id, and with `TooManyRequests` if
        this one has told a moment ago.
        """

    def look_for(id: ConnectionId) -> Deferred[None]:
        """Fail with `UnknownConnection` if no connection has this id, and fire otherwise.

        It is cheap, and so the connection's own frontend is not asked: it may fire although there
        is no such connection.
        """


class IOwnerClient(Interface):
    """What a frontend asks of another frontend, which owns a connection."""

    def connections(frontend: FrontendRef) -> IConnections:
        """Return the connections of ``frontend``; their calls can fail with `RemoteFailure` too."""


class IFrontendDeliveries(Interface):
    """The part of a frontend that dispatchers use."""

    def deliver(batch: Sequence[Item]) -> None:
        """Put each event into the mailbox of every viewer of its topic, in order.

        A control takes effect at once.

        An event whose topic and id were seen a short while ago is dropped, so a batch may be
        delivered twice.
        """

    def members(topic: Topic, after: str, limit: int) -> TopicMembers:
        """Return the members who watch ``topic``; see `IFrontendClient.members`."""


class IRecords(Interface):
    """Where the records of tracked events go, to be joined."""

    def write(records: Sequence[HopRecord]) -> Deferred[None]:
        """Fires once the records are where they are joined.

        Fails with `Unavailable` or `RemoteFailure` if they are not, or perhaps not.
        """
