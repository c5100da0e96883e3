"""What a dispatcher does: accept events, deliver them to frontends, forward them to peers."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rtdeliver.actor import RunQueue
from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import Deliveries, History
from rtdeliver.deferreds import flush
from rtdeliver.dispatcher.histories import Histories
from rtdeliver.dispatcher.links import Links, Ticket
from rtdeliver.dispatcher.peers import Peers
from rtdeliver.dispatcher.revocation_exchange import RevocationExchange
from rtdeliver.dispatcher.tracking import Tracking
from rtdeliver.dispatcher.uncertain import UncertainDeliveries
from rtdeliver.errors import Unavailable
from rtdeliver.event_ids import EventIds
from rtdeliver.interfaces import IFrontendClient, IHistory, IRevocationStore, IRoutingTable
from rtdeliver.messages import (
    Acknowledgement,
    Announcement,
    Bookmark,
    Entry,
    HistoryPage,
    HistoryQuery,
    NodeStatus,
    Revocations,
    Stored,
)
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import (
    Control,
    Event,
    FrontendRef,
    Gap,
    Item,
    Member,
    MemberTopics,
    Revocation,
    Topic,
)
from rtdeliver.wire import Draft, encode_event, without_position

log = Logger()

_CONTROLS = (Revocation, MemberTopics)


class TopicStatus(msgspec.Struct, frozen=True):
    """Who watches a topic in this datacenter."""

    topic: Topic
    viewers: int
    frontends: Sequence[str]


class Published(msgspec.Struct, frozen=True, gc=False):
    """An event that was accepted.

    :param event: with its position, if its topic has a history.
    :param repeated: whether it was accepted before; then nothing was done.
    """

    event: Event
    repeated: bool = False


_Routed = tuple[Mapping[Topic, Sequence[FrontendRef]], Sequence[Ticket]]
"""The frontends with viewers of each topic of a batch, and the links that deliver it."""


class Dispatcher:
    """Routes events. It keeps nothing that another dispatcher would miss.

    :param history: the store that all dispatchers of the datacenter share; ``None`` if no topic has
        a history.
    :param revocations: the store that all dispatchers of the datacenter share.
    :param peers: the other datacenters. All events that are published here are forwarded to them,
        and so are all controls.
    :param read_peers_seconds: the longest time between two readings of a peer's revocations.
    :param changed: called with the topics whose numbers of viewers a frontend has announced.
    :param tracking: is told of all events that are routed.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        routing_table: IRoutingTable,
        history: IHistory | None,
        history_settings: History,
        revocations: IRevocationStore,
        frontends: IFrontendClient,
        settings: Deliveries,
        read_peers_seconds: float,
        peers: Peers,
        changed: Callable[[Iterable[Topic]], None],
        tracking: Tracking,
        clock: IReactorTime,
        now: Callable[[], float],
        run_queue: RunQueue,
        new_backoff: Callable[[], Backoff],
    ) -> None:
        self._routing_table = routing_table
        self._revocations = revocations
        self._clock = clock
        self._now = now
        self._ids = EventIds(now=now)
        self._links = Links(
            client=frontends,
            settings=settings,
            clock=clock,
            run_queue=run_queue,
            new_backoff=new_backoff,
            stale=self._forget,
        )
        self._histories = Histories(
            history=history,
            deliver=self._deliver_overdue,
            settings=history_settings,
            clock=clock,
        )
        self._keeps = history is not None
        self._uncertain = UncertainDeliveries(
            settings=settings,
            route=routing_table.route,
            post=self._links.post,
            has_history=self._histories.keep,
            clock=clock,
        )
        self._peers = peers
        self._exchange = RevocationExchange(
            peers=peers.clients,
            keep=revocations.add,
            read_seconds=read_peers_seconds,
            clock=clock,
            new_backoff=new_backoff,
        )
        self._changed = changed
        self._tracking = tracking
        self._sweep_seconds = settings.sweep_seconds
        self._sweep = LoopingCall(self._close_dead_links)
        self._sweep.clock = clock
        self._published = 0
        self._controlled = 0

    def start(self) -> None:
        """Connect to the routing table, and begin to close the links to dead frontends."""
        self._routing_table.start()
        self._exchange.start()
        self._sweep.start(self._sweep_seconds, now=False)
        self._histories.start()

    async def flush(self, seconds: float) -> None:
        """Deliver and forward waiting events, for so many seconds at most."""
        if self._sweep.running:
            self._sweep.stop()
        self._exchange.stop()
        self._uncertain.stop()
        self._histories.stop()
        await self._uncertain.settle()
        await flush(self._waiting_events, at_most_seconds=seconds, clock=self._clock)
        await self._histories.mark_delivered()

    async def stop(self) -> None:
        """Close the links, and leave the routing table. To be called after `flush`."""
        self._links.close()
        self._peers.close()
        await self._routing_table.stop()

    async def publish(self, drafts: Sequence[Draft]) -> list[Published]:
        """Accept events, start their delivery in this datacenter, then forward them to the peers.

        Those of topics with history are stored first. Each frontend and each peer is sent the
        events in the order of ``drafts``. The call does not wait for the peers.

        :raises Unavailable: if the routing table cannot be reached, and then nothing is published;
            or if the store cannot, and then what is in other stores may be published.
        """
        at = int(self._now() * 1000)
        events = [encode_event(draft, id=draft.id or self._ids.next(), at=at) for draft in drafts]
        if not (self._keeps and self._histories.keep_any(events)):
            # What is usual comes first: this costs as little as it can.
            routes, _ = await self._deliver(events)
            self._tracking.publish(events, routes)
            self._peers.post(*events)
            self._published += len(events)
            return [Published(event) for event in events]
        published, stored = await self._store(
            events, [draft.id is not None for draft in drafts], is_own=True
        )
        fresh = [each.event for each in published if not each.repeated]
        self._tracking.publish(fresh, await self._deliver_new(fresh, stored))
        self._peers.post(
            *(event for event, each in zip(events, published, strict=True) if not each.repeated)
        )
        self._published += len(fresh)
        return published

    async def deliver_local(self, batch: Sequence[Item]) -> None:
        """Deliver events to the frontends of this datacenter that have viewers of their topics.

        A gap goes to the frontends with viewers of its topic, as an event does, and a control to
        all frontends. Nothing is forwarded to another datacenter.

        :raises Unavailable: if the routing table cannot be reached. Then no event is delivered.
        """
        controls = [item for item in batch if isinstance(item, _CONTROLS)]
        rest: Sequence[Any] = batch
        if controls:
            await self._control(controls)
            rest = [item for item in batch if not isinstance(item, _CONTROLS)]
        stored: Sequence[Stored] = ()
        if self._histories.keep_any(rest):
            # The positions of another datacenter mean nothing here.
            events = [without_position(item) for item in rest if isinstance(item, Event)]
            gaps = [item for item in rest if isinstance(item, Gap)]
            published, stored = await self._store(events, [True] * len(events), is_own=False)
            rest = [*gaps, *(each.event for each in published if not each.repeated)]
        self._tracking.forward(rest, await self._deliver_new(rest, stored))

    async def control(self, *controls: Control) -> None:
        """Tell all frontends of all datacenters about viewers.

        Revocations are kept, so that frontends and datacenters that cannot be reached now learn of
        them later. A change of topics is for the streams that are open now.

        :raises Unavailable: if the store or the routing table cannot be reached. Then perhaps
            nobody was told.
        """
        await self._control(controls)
        self._peers.post(*controls)
        self._controlled += len(controls)

    async def disconnect(self, member: Member, reason: str, *, keep_seconds: float) -> None:
        """End all streams of a member, and refuse its tokens that were signed before.

        :param keep_seconds: how long that holds.
        :raises Unavailable: as `control` does.
        """
        at = int(self._now() * 1000)
        until = at + round(keep_seconds * 1000)
        await self.control(
            Revocation(kind="member", name=member, reason=reason, at=at, until=until)
        )

    async def revocations(self, after: Bookmark) -> Revocations:
        """Return a page of what this datacenter keeps of revocations.

        :raises Unavailable: if the store cannot be reached.
        """
        return await self._revocations.after(after)

    async def restore(self, revocations: Sequence[Revocation]) -> None:
        """Keep revocations that a frontend has, because the store has lost them.

        :raises Unavailable: if the store cannot be reached.
        """
        await self._revocations.add(revocations)

    async def publish_here(self, drafts: Sequence[Draft]) -> None:
        """Accept events that concern this datacenter alone, and start their delivery.

        :raises Unavailable: if the routing table cannot be reached. Then nothing is published.
        """
        at = int(self._now() * 1000)
        events = [encode_event(draft, id=draft.id or self._ids.next(), at=at) for draft in drafts]
        published, stored = await self._store(
            events, [draft.id is not None for draft in drafts], is_own=False
        )
        fresh = [each.event for each in published if not each.repeated]
        self._tracking.forward(fresh, await self._deliver_new(fresh, stored))
        self._published += len(fresh)

    async def announce(self, announcement: Announcement) -> Acknowledgement:
        """Apply a frontend's announcement to the routing table.

        :raises Unavailable: if the routing table cannot be reached.
        """
        if announcement.lease_seconds == 0:
            await self._routing_table.forget(announcement.frontend)
            return Acknowledgement(lease_seconds=0)
        applied = await self._routing_table.apply(announcement)
        if announcement.counts:
            self._changed(announcement.counts)
        return Acknowledgement(
            lease_seconds=announcement.lease_seconds,
            full=not applied.known and not applied.replaced,
            replaced=applied.replaced,
            restored=applied.restored,
            heads=await self._histories.heads(announcement.watched),
        )

    async def topic(self, topic: Topic) -> TopicStatus:
        """Return who watches ``topic`` in this datacenter."""
        viewers = await self._routing_table.viewers(topic)
        return TopicStatus(topic=topic, viewers=sum(viewers.values()), frontends=sorted(viewers))

    async def read_history(self, queries: Sequence[HistoryQuery]) -> Sequence[HistoryPage | None]:
        """Return a page for each query; ``None`` for a topic without history.

        :raises Unavailable: if the store cannot be reached.
        """
        return await self._histories.read(queries)

    async def clear_history(self, topic: Topic) -> int:
        """Remove all events in the history of a topic, and return how many there were.

        :raises Unavailable: if the store cannot be reached.
        """
        return await self._histories.clear(topic)

    def nodes(self) -> Deferred[Sequence[NodeStatus]]:
        """Fires with the frontends of this datacenter."""
        return self._routing_table.nodes()

    def missing(self) -> list[str]:
        """What keeps this dispatcher from accepting events; empty when it is ready."""
        return self._routing_table.missing()

    def counts(self) -> Mapping[str, Callable[[], int]]:
        """Return how many events were published, delivered, forwarded, dropped; cheap to call."""
        return {
            "published": lambda: self._published,
            "delivered": self._links.delivered,
            "forwarded": self._peers.forwarded,
            "dropped": lambda: self._links.dropped() + self._peers.dropped(),
        }

    def losses(self) -> Mapping[str, int]:
        """Return how much was lost, by what and why; cheap to call."""
        losses = {**self._links.losses(), **self._peers.losses()}
        return {f"events ({reason})": count for reason, count in losses.items()}

    def status(self) -> Mapping[str, Any]:
        """Return the state of the links to frontends and to peers."""
        return {"links": self._links.status(), "peers": self._peers.status()}

    def samples(self) -> list[Sample]:
        return [
            counter("published", "Events accepted from producers.", self._published),
            counter(
                "controls",
                "Disconnects, and changes of members' topics, accepted from backends.",
                self._controlled,
            ),
            counter(
                "changes_overdue",
                "Changes of the routing table that some dispatcher did not acknowledge in time.",
                self._routing_table.overdue_changes(),
            ),
            *self._links.samples(),
            *self._uncertain.samples(),
            *self._histories.samples(),
            *self._peers.samples(),
        ]

    async def _control(self, controls: Sequence[Control]) -> None:
        """Keep revocations, and deliver controls to all frontends of this datacenter."""
        revocations = [control for control in controls if isinstance(control, Revocation)]
        if revocations:
            await self._revocations.add(revocations)
        for node in await self._routing_table.nodes():
            self._links.post(node.frontend, *controls)

    async def _store(
        self, events: Sequence[Event], may_repeat: Sequence[bool], *, is_own: bool
    ) -> tuple[list[Published], list[Stored]]:
        """Store events of topics with history.

        :return: all events in their order, and those that are stored now.
        """
        published = [Published(event) for event in events]
        entries = {
            index: Entry(event=event, may_repeat=may_repeat[index], is_own=is_own)
            for index, event in enumerate(events)
            if self._histories.keep(event.topic)
        }
        if not entries:
            return published, []
        stored = await self._histories.store(list(entries.values()))
        for index, each in zip(entries, stored, strict=True):
            published[index] = Published(each.event, each.repeated)
        return published, [each for each in stored if not each.repeated]

    async def _deliver_new(
        self, batch: Sequence[Event | Gap], stored: Sequence[Stored]
    ) -> Mapping[Topic, Sequence[FrontendRef]]:
        """Start the delivery of a batch, and return the routes of its topics.

        :param stored: those events of the batch that are stored. They are delivered some time,
            whatever fails.
        """
        try:
            routes, tickets = await self._deliver(batch)
        except Unavailable:
            if len(stored) < len(batch):
                raise
            return {}
        if stored:
            self._histories.note(stored, tickets)
        return routes

    async def _deliver_overdue(self, stored: Sequence[Stored]) -> None:
        events = [each.event for each in stored]
        _, tickets = await self._deliver(events)
        self._histories.note(stored, tickets)
        self._peers.post(*(without_position(each.event) for each in stored if each.is_own))

    async def _deliver(self, batch: Sequence[Event | Gap]) -> _Routed:
        """Start the delivery of a batch in this datacenter."""
        shares: dict[FrontendRef, list[Event | Gap]] = {}
        shares_by_topic: dict[Topic, list[list[Event | Gap]]] = {}
        routes: dict[Topic, Sequence[FrontendRef]] = {}
        uncertain: dict[Topic, Sequence[FrontendRef]] = {}
        for topic in {item.topic: None for item in batch}:
            route = await self._routing_table.route(topic)
            routes[topic] = route.frontends
            shares_by_topic[topic] = [shares.setdefault(f, []) for f in route.frontends]
            if not route.certain:
                uncertain[topic] = route.frontends
        if uncertain:
            self._note_uncertain(batch, uncertain)
        for item in batch:
            for share in shares_by_topic[item.topic]:
                share.append(item)
        tickets = [self._links.post(frontend, *share) for frontend, share in shares.items()]
        return routes, tickets

    def _note_uncertain(
        self, batch: Sequence[Event | Gap], routes: Mapping[Topic, Sequence[FrontendRef]]
    ) -> None:
        events = Counter[Topic]()
        for item in batch:
            events[item.topic] += item.lost if isinstance(item, Gap) else 1
        for topic, frontends in routes.items():
            self._uncertain.note(topic, events[topic], frontends)

    def _waiting_events(self) -> int:
        return self._links.waiting_events + self._peers.waiting_events

    def _forget(self, frontend: FrontendRef) -> None:
        log.info(
            "{node}: another process has replaced {incarnation}",
            node=frontend.node,
            incarnation=frontend.incarnation,
        )
        self._routing_table.forget(frontend).addErrback(
            lambda failure: log.warn(
                "{node} could not be removed from the routing table: {e}",
                node=frontend.node,
                e=failure.value,
            )
        )

    async def _close_dead_links(self) -> None:
        try:
            nodes = await self._routing_table.nodes()
        except Unavailable:
            # Keep the links, as the routing table keeps its cached rows. It logs the failure.
            return
        except Exception:
            log.failure("the links to dead frontends could not be closed")
            return
        alive = {node.frontend for node in nodes}
        self._links.retain(lambda link: link in alive or self._routing_table.has_lease(link))
