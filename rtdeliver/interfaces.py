"""The promises that the packages make to each other."""

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from zope.interface import Attribute, Interface

from rtdeliver.messages import (
    Acknowledgement,
    Announcement,
    NodeStatus,
    Presence,
    PresenceChange,
    PresenceHeartbeat,
    PresenceSweep,
    Subscriptions,
    TopicsChange,
)
from rtdeliver.model import ConnectionId, Event, FrontendRef, Gap, Member, Topic


class IActor(Interface):
    """Something with a mailbox, which is given a turn while there is work in it."""

    queued = Attribute("``True`` while it waits in a run queue; the run queue alone sets it.")

    def turn() -> None:
        """Process what piled up, in bounded time, without waiting.

        An exception ends the actor: the run queue logs it and calls `failed`.
        """

    def failed() -> None:
        """A turn raised an exception: let go of everything, take no further turn."""


class IVisited(Interface):
    """Something that a timing wheel looks at from time to time."""

    def visit(now: float) -> float | None:
        """Do what is due.

        :param now: the wheel's time in seconds.
        :return: seconds until the next visit, or ``None`` for no further one.
        """


class IStream(Interface):
    """The way to one client, below a connection."""

    def send(data: bytes) -> int:
        """Hand over as much of ``data`` as is taken without waiting.

        :return: how many bytes were taken. When fewer than ``len(data)``, nothing more must be
            sent until the owner's ``writable`` is called, which happens once.
        :raises StreamLost: if the client is gone.
        """

    def unsent_bytes() -> int:
        """How many bytes the kernel still holds for the client; it shrinks while one reads."""

    def close() -> None:
        """End the stream after what was taken has been sent."""

    def abort() -> None:
        """End the stream at once and drop what was not sent."""


class IStreamOwner(IProtocol):
    """The protocol above a stream."""

    def attached(stream: IStream) -> None:
        """``stream`` is open; called once, before all else."""

    def writable() -> None:
        """The stream takes data again, after a ``send`` that took less than all."""


class IRoutingTable(Interface):
    """The routing table: topic -> frontends that have viewers of it.

    A frontend's rows stand as long as its lease, which every ``apply`` renews. Every Deferred
    fails with `Unavailable` when the table cannot be reached.
    """

    def start() -> None:
        """Begin to connect to where the table is."""

    def stop() -> Deferred[None]:
        """Disconnect; fires when nothing is left open."""

    def missing() -> list[str]:
        """What keeps the table from being reached; empty when it can be."""

    def apply(announcement: Announcement) -> Deferred[bool]:
        """Make the rows of one frontend what the announcement says, at once or not at all.

        Another incarnation of the same node is replaced whole, but by no sequel: that comes late,
        of a process which was replaced. It is ignored, and so is one with a lower ``sequence``
        than the last one applied.

        :return: fires with whether this incarnation had been announced in full before, or is now.
        """

    def frontends(topic: Topic) -> Deferred[Sequence[FrontendRef]]:
        """Fires with the frontends that have viewers of ``topic`` and a valid lease."""

    def viewers(topic: Topic) -> Deferred[Mapping[str, int]]:
        """Fires with the viewers of ``topic`` by node."""

    def nodes() -> Deferred[Sequence[NodeStatus]]:
        """Fires with every frontend that has a valid lease, by node name."""

    def forget(frontend: FrontendRef) -> Deferred[None]:
        """Take out this incarnation and its rows; nothing happens if another has replaced it."""


class IDispatcherClient(Interface):
    """What a frontend asks of the dispatchers."""

    def announce(announcement: Announcement) -> Deferred[Acknowledgement]:
        """Fires with the answer of any one dispatcher.

        Fails with `RemoteFailure` if none was had; the next call goes to another dispatcher.
        """

    def frontends() -> Deferred[Sequence[FrontendRef]]:
        """Fires with the frontends of this datacenter that have a valid lease; fails likewise."""


class IPresenceClient(Interface):
    """What a frontend asks of the dispatchers for its members."""

    def heartbeat(heartbeat: PresenceHeartbeat) -> Deferred[None]:
        """Fires once any one dispatcher has noted it.

        Fails with `RemoteFailure` if none did; the next call goes to another dispatcher.
        """


class IPresenceStore(Interface):
    """Who is there, and which changes of that nobody has published yet.

    A member is online from the first heartbeat on, and goes offline when none came for the
    heartbeat's own interval and twice a grace. A change is recorded in the step that decides it,
    and given to one caller, who publishes it and calls `mark_published` before a claim runs out.
    After that, it is given to whoever sweeps next. Of each member the last change is kept, and the
    one before it where that was not published either.

    Every Deferred fails with `Unavailable` when the store cannot be reached.
    """

    def heartbeat(heartbeat: PresenceHeartbeat) -> Deferred[Sequence[PresenceChange]]:
        """Note that members are there.

        :return: fires with what the caller has to publish, in this order. Of a member whose going
            offline is not marked as published, that is the first, since it may not have been.
        """

    def sweep(limit: int) -> Deferred[PresenceSweep]:
        """Decide for ``limit`` members at most, and fire with what the caller has to publish.

        A limit of 0 only finds out whether the store can be reached.
        """

    def mark_published(changes: Sequence[PresenceChange]) -> Deferred[None]:
        """Note that these have been published. Members who are offline are forgotten then."""

    def presence(members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        """Fires with whether each of ``members`` is online, in their order."""


class IPlatform(Interface):
    """What an application asks of the platform; it knows no frontends and no datacenters."""

    def publish(topic: Topic, type: str, data: object) -> Deferred[None]:
        """Fires once a dispatcher has accepted the event.

        :param data: anything that can be written as JSON.

        Fails with `RemoteFailure` or `Unavailable` if none did, in bounded time. Viewers see the
        event once at most, however often it had to be tried.
        """

    def viewers(topic: Topic) -> Deferred[int]:
        """Fires with how many watch ``topic``; fails likewise."""

    def presence(members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        """Fires with whether each of ``members`` is there, in their order; fails likewise."""


class IFrontendClient(Interface):
    """What a dispatcher asks of a frontend."""

    def deliver(frontend: FrontendRef, batch: Sequence[Event | Gap]) -> Deferred[None]:
        """Fires once the events are in the mailboxes of the frontend's viewers.

        Fails with `Unreachable` (nothing arrived), `AnswerLost` (it may have),
        `StaleIncarnation` (another process runs there now) or `AnsweredNo`.
        """


class IPeerClient(Interface):
    """What a dispatcher asks of a peer datacenter."""

    def forward(batch: Sequence[Event | Gap]) -> Deferred[None]:
        """Fires once any one dispatcher of the peer has begun to deliver the events there.

        Fails with `Unreachable` (nothing was taken), `AnswerLost` (it may have been) or
        `AnsweredNo`; the next call goes to another dispatcher of the peer.
        """


class IConnections(Interface):
    """Where the topics of connections are changed."""

    def subscribe(id: ConnectionId, change: TopicsChange) -> Deferred[Subscriptions]:
        """Change the topics of a connection, and wait for a dispatcher's word on the new ones.

        Fails with `UnknownConnection` if there is none with this id, or it ended meanwhile, and
        with `TooManyTopics` if it would have more than it may; nothing is changed then.
        """

    def subscriptions(id: ConnectionId) -> Deferred[Subscriptions]:
        """Fires with the topics of a connection; fails with `UnknownConnection`."""


class IOwnerClient(Interface):
    """What a frontend asks of another that owns a connection."""

    def connections(frontend: FrontendRef) -> IConnections:
        """The connections of ``frontend``; every call fails with `RemoteFailure` too."""


class IFrontendDeliveries(Interface):
    """Where a frontend takes deliveries."""

    def deliver(batch: Sequence[Event | Gap]) -> None:
        """Put each event into the mailbox of every viewer of its topic, in order.

        An event whose topic and id were seen a short while ago is dropped, so a batch may be
        delivered twice.
        """
