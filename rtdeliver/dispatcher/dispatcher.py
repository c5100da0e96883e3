"""What a dispatcher does: accept events, deliver each where it has viewers, tell the peers."""

from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rtdeliver.actor import RunQueue
from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import Deliveries
from rtdeliver.deferreds import flush
from rtdeliver.dispatcher.links import Links
from rtdeliver.dispatcher.peers import Peers
from rtdeliver.errors import Unavailable
from rtdeliver.event_ids import EventIds
from rtdeliver.interfaces import IFrontendClient, IRoutingTable
from rtdeliver.messages import Acknowledgement, Announcement, NodeStatus
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import Event, FrontendRef, Gap, Topic
from rtdeliver.wire import Draft, encode_event

log = Logger()


class TopicStatus(msgspec.Struct, frozen=True):
    """Who watches a topic in this datacenter."""

    topic: Topic
    viewers: int
    frontends: Sequence[str]


class Dispatcher:
    """Routes events; it keeps nothing that another dispatcher would miss.

    :param peers: the other datacenters, to which goes what is published here.
    """

    def __init__(
        self,
        *,
        routing_table: IRoutingTable,
        frontends: IFrontendClient,
        settings: Deliveries,
        peers: Peers,
        clock: IReactorTime,
        run_queue: RunQueue,
        new_backoff: Callable[[], Backoff],
    ) -> None:
        self._routing_table = routing_table
        self._clock = clock
        self._ids = EventIds(clock=clock)
        self._links = Links(
            client=frontends,
            settings=settings,
            clock=clock,
            run_queue=run_queue,
            new_backoff=new_backoff,
            stale=self._forget,
        )
        self._peers = peers
        self._sweep_seconds = settings.sweep_seconds
        self._sweep = LoopingCall(self._close_dead_links)
        self._sweep.clock = clock
        self._published = 0

    def start(self) -> None:
        """Begin to reach the routing table, and to look after the links."""
        self._routing_table.start()
        self._sweep.start(self._sweep_seconds, now=False)

    async def stop(self, flush_seconds: float) -> None:
        """Deliver and forward what waits, for ``flush_seconds`` at most, and close the links."""
        if self._sweep.running:
            self._sweep.stop()
        await flush(self._waiting_events, at_most_seconds=flush_seconds, clock=self._clock)
        self._links.close()
        self._peers.close()
        await self._routing_table.stop()

    async def publish(self, drafts: Sequence[Draft]) -> list[Event]:
        """Accept events and start their delivery here, and then in the peer datacenters.

        They go to each place in this order. Nothing waits for a peer.

        :raises Unavailable: if the routing table cannot be reached; nothing is published then.
        """
        at = int(self._clock.seconds() * 1000)
        events = [encode_event(draft, id=draft.id or self._ids.next(), at=at) for draft in drafts]
        await self.deliver_local(events)
        self._peers.post(*events)
        self._published += len(events)
        return events

    async def deliver_local(self, batch: Sequence[Event | Gap]) -> None:
        """Deliver events to the frontends of this datacenter that have viewers of them.

        A gap is told to the same frontends. Nothing goes on from here to another datacenter.

        :raises Unavailable: if the routing table cannot be reached; nothing is delivered then.
        """
        shares: dict[FrontendRef, list[Event | Gap]] = {}
        routes = {
            topic: [
                shares.setdefault(frontend, [])
                for frontend in await self._routing_table.frontends(topic)
            ]
            for topic in {item.topic: None for item in batch}
        }
        for item in batch:
            for share in routes[item.topic]:
                share.append(item)
        for frontend, share in shares.items():
            self._links.post(frontend, *share)

    async def announce(self, announcement: Announcement) -> Acknowledgement:
        """Take over what a frontend tells of its viewers.

        :raises Unavailable: if the routing table cannot be reached.
        """
        if announcement.lease_seconds == 0:
            await self._routing_table.forget(announcement.frontend)
            return Acknowledgement(lease_seconds=0)
        known = await self._routing_table.apply(announcement)
        return Acknowledgement(lease_seconds=announcement.lease_seconds, full=not known)

    async def topic(self, topic: Topic) -> TopicStatus:
        """Tell who watches ``topic`` in this datacenter."""
        viewers = await self._routing_table.viewers(topic)
        return TopicStatus(topic=topic, viewers=sum(viewers.values()), frontends=sorted(viewers))

    def nodes(self) -> Deferred[Sequence[NodeStatus]]:
        """Fires with the frontends of this datacenter."""
        return self._routing_table.nodes()

    def missing(self) -> list[str]:
        """What keeps this dispatcher from taking events; empty when it is ready."""
        return self._routing_table.missing()

    def samples(self) -> list[Sample]:
        return [
            counter("published", "Events accepted from producers.", self._published),
            *self._links.samples(),
            *self._peers.samples(),
        ]

    def _waiting_events(self) -> int:
        return self._links.waiting_events + self._peers.waiting_events

    def _forget(self, frontend: FrontendRef) -> None:
        log.info(
            "{node} runs as another process than {incarnation} now",
            node=frontend.node,
            incarnation=frontend.incarnation,
        )
        self._routing_table.forget(frontend).addErrback(
            lambda failure: log.warn(
                "{node} was not forgotten: {e}", node=frontend.node, e=failure.value
            )
        )

    async def _close_dead_links(self) -> None:
        try:
            nodes = await self._routing_table.nodes()
        except Unavailable:
            # Links are kept as the cached rows are; the routing table tells of it in the log.
            return
        except Exception:
            log.failure("the links were not looked after")
            return
        self._links.retain([node.frontend for node in nodes])
