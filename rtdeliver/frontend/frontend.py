"""What a frontend does: connect viewers, change their topics, send them delivered events."""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from rtdeliver.actor import RunQueue
from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import History, Latency, Presence, Routing, Viewers
from rtdeliver.deferreds import as_deferred
from rtdeliver.errors import BadRequest, Forbidden, RemoteFailure, StaleIncarnation, Unavailable
from rtdeliver.frontend import sse
from rtdeliver.frontend.ages import EventAges, Passage, Stage
from rtdeliver.frontend.chunked import chunk
from rtdeliver.frontend.connection import Connection
from rtdeliver.frontend.controls import Controls
from rtdeliver.frontend.feed import Feed, Frames
from rtdeliver.frontend.histories import Histories, Resumed
from rtdeliver.frontend.interest import Interest
from rtdeliver.frontend.members import Members
from rtdeliver.frontend.permissions import Permissions
from rtdeliver.frontend.presence_heartbeats import PresenceHeartbeats
from rtdeliver.frontend.receipts import Receipts
from rtdeliver.frontend.recent import RecentEvents
from rtdeliver.frontend.resume import FRESH, Resume
from rtdeliver.frontend.revocation_reader import RevocationReader
from rtdeliver.frontend.subscriptions import SubscriptionTable
from rtdeliver.frontend.supervisor import Supervisor
from rtdeliver.frontend.top_topics import TopTopics
from rtdeliver.frontend.tracking import TrackedEvent, Tracking
from rtdeliver.grants import Patterns
from rtdeliver.histogram import Histogram
from rtdeliver.interfaces import (
    IConnections,
    IDispatcherClient,
    IFrontendDeliveries,
    IPresenceClient,
    IStreamOwner,
)
from rtdeliver.messages import (
    HistoryPage,
    HistoryQuery,
    HopRecord,
    Receipt,
    Refreshed,
    Subscriptions,
    TopicMembers,
    TopicsChange,
)
from rtdeliver.metrics import HistogramSample, Sample, counter, gauge
from rtdeliver.model import ConnectionId, Control, Event, FrontendRef, Gap, Item, Member, Topic
from rtdeliver.revoked import Revoked
from rtdeliver.tokens import Identify, Identity
from rtdeliver.wheel import TimingWheel

log = Logger()

# Frames of one topic are joined up to this size before they are posted to its feed, so that a full
# feed drops a part of a batch and not all of it.
_FRAMES_BYTES = 32768


@implementer(IFrontendDeliveries, IConnections)
class Frontend:
    """A node that holds streams.

    :param node: the name of this frontend among all frontends.
    :param incarnation: the name of this process among all that run as the same node.
    :param max_connections: the largest number of streams at a time.
    :param public_topics: the topics that anybody may watch.
    :param identify: returns what a token proves; ``None`` without a key.
    :param record: takes the records of tracked events.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        settings: Viewers,
        routing: Routing,
        presence_settings: Presence,
        latency: Latency,
        history: History,
        node: str,
        incarnation: str,
        max_connections: int,
        dispatchers: IDispatcherClient,
        presence: IPresenceClient,
        public_topics: Patterns,
        identify: Identify | None,
        record: Callable[[HopRecord], None],
        new_backoff: Callable[[], Backoff],
        clock: IReactorTime,
        now: Callable[[], float],
        run_queue: RunQueue,
        wheel: TimingWheel,
    ) -> None:
        self._settings = settings
        self._now = now
        self._dispatchers = dispatchers
        self._revoked = Revoked()
        self._revocations = RevocationReader(
            client=dispatchers,
            revoked=self._revoked,
            came=lambda revocations: self._controls.revoke(revocations),
            settings=routing,
            clock=clock,
            now=now,
            backoff=new_backoff(),
        )
        self.permissions = Permissions(
            public_topics=public_topics,
            identify=identify,
            revoked=self._revoked,
            known=self._revocations.known,
        )
        """What viewers may watch here."""
        self._node = node
        self._incarnation = incarnation
        next_number = count(1).__next__
        self._table: SubscriptionTable[Connection, Feed[Connection]] = SubscriptionTable(
            group=lambda topic: Feed(topic, settings, next_number),
            changed=lambda topic: self._interest.changed(topic),
            topics_per_viewer=settings.topics_per_connection,
            max_topics=settings.topics,
        )
        self._interest = Interest(
            wanted=self._table.count,
            all_wanted=self._table.counts,
            acknowledged=lambda topics, heads: self._histories.note_heads(topics, heads),
            lapsed=self._report_unknown_gaps,
            client=dispatchers,
            clock=clock,
            settings=routing,
            backoff=new_backoff(),
        )
        self._ages = EventAges(now)
        run_queue.after_slices(self._ages.flush)
        self._tracking = Tracking(
            settings=latency,
            node=node,
            incarnation=incarnation,
            record=record,
            clock=clock,
            now=now,
        )
        self._receipts = Receipts(
            settings=latency, ages=self._ages, received=self._tracking.receive, clock=clock
        )
        self._supervisor = Supervisor(
            node=node,
            max_connections=max_connections,
            settings=settings,
            clock=clock,
            now=now,
            run_queue=run_queue,
            wheel=wheel,
            sent_passages=self._ages.sent,
            ended=self._ended,
        )
        self._members: Members[Connection] = Members()
        self._controls = Controls(
            table=self._table,
            members=self._members,
            supervisor=self._supervisor,
            revoked=self._revoked,
            confirmed=self._interest.confirmed,
        )
        self._presence_heartbeats = PresenceHeartbeats(
            members=self._members,
            client=presence,
            clock=clock,
            settings=presence_settings,
            backoff=new_backoff(),
        )
        self._histories = Histories(
            feed_of=self._table.group,
            post=self._post,
            client=dispatchers,
            settings=history,
            send_bytes=settings.send_bytes,
            known_seconds=routing.confirm_seconds,
            clock=clock,
            new_backoff=new_backoff,
        )
        self._recent = RecentEvents(settings=settings, clock=clock)
        self._top_topics = TopTopics(counts=self._table.each_count, clock=clock)
        self._delivered = 0
        self._repeated = 0

    def use_max_connections(self, max_connections: int) -> None:
        """Take so many streams from now on; those that are open stay."""
        self._supervisor.max_connections = max_connections

    def start(self, url: str) -> None:
        """Announce to the dispatchers that this frontend accepts deliveries at ``url``."""
        self._interest.start(FrontendRef(node=self._node, url=url, incarnation=self._incarnation))
        self._presence_heartbeats.start()
        self._revocations.start()

    def write_records(self) -> None:
        """Record what has become of tracked events since the last time."""
        self._ages.flush()
        self._tracking.flush()

    def drain(self, seconds: float) -> Deferred[None]:
        """Accept no new streams, and end all streams, spread over ``seconds``."""
        return self._supervisor.drain(seconds)

    async def leave(self) -> None:
        """Remove this frontend from the routing table."""
        self._presence_heartbeats.stop()
        self._revocations.stop()
        await self._interest.leave()

    def missing(self) -> list[str]:
        """What keeps this frontend from accepting viewers; empty when it is ready."""
        missing = self._interest.missing()
        busy = self._supervisor.busy
        return missing if busy is None else [*missing, f"this frontend is {busy}"]

    def busy(self, topics: Sequence[Topic] = (), *, starting: bool = False) -> bytes | None:
        """The frame for a viewer of ``topics`` that is refused now, or ``None`` if it may come.

        :param starting: whether it is not known yet if the viewer may come.
        """
        reason = self._supervisor.busy or ("starting" if starting else None)
        if reason is None:
            try:
                self._table.check_room(set(topics))
            except Unavailable:
                reason = "full"
        return None if reason is None else self._supervisor.busy_frame(reason)

    def connect(
        self,
        topics: Sequence[Topic],
        *,
        identity: Identity | None = None,
        resume: Resume = FRESH,
        heartbeat: bytes = sse.HEARTBEAT,
        head: Callable[[], bytes],
        attach: Callable[[IStreamOwner], None],
    ) -> None:
        """Open a stream for a viewer of ``topics``.

        The first frame is sent once a dispatcher has confirmed the topics, or after
        ``confirm_seconds``. It lists unconfirmed topics as pending. The client misses no event of
        a confirmed topic after this frame.

        :param identity: who the viewer is; ``None`` for an anonymous viewer.
        :param resume: what the client has had before. It is sent what it missed of topics with
            history, and is told of which topics it may have lost events.
        :param heartbeat: the frame that the viewer gets while there is nothing else.
        :param head: returns what is sent before the first frame, the head of the response. It is
            called once nothing can be refused any more.
        :param attach: gives the transport to the connection.
        :raises Forbidden: if the viewer may not watch all topics; then nothing has happened yet.
        :raises TooManyTopics: if there are too many topics; nothing has happened then, too.
        :raises Unavailable: if `busy` does not return ``None``; nothing has happened then, too.
        """
        self.permissions.check(topics, identity)
        topics = list(dict.fromkeys([*(identity.topics if identity else ()), *topics]))
        self._table.check_count(len(topics))
        self._table.check_room(topics)
        first = head()
        connection = self._supervisor.start(attach, identity, heartbeat)
        if connection.member is not None and self._members.add(connection.member, connection):
            self._presence_heartbeats.came(connection.member)
        self._table.change(connection, add=topics)
        confirmed = self._confirmed(topics)
        if resume is FRESH:
            opened = confirmed.addCallback(self._open, connection, first)
        else:
            opened = Deferred.fromCoroutine(
                self._go_on(confirmed, connection, topics, resume, first)
            )
        opened.addErrback(
            lambda failure: log.failure("the first frame of a stream could not be sent", failure)
        )

    @as_deferred
    async def subscribe(self, id: ConnectionId, change: TopicsChange) -> Subscriptions:
        connection = self._supervisor.open_connection(id)
        self.permissions.check(change.add, connection.identity, connection.given)
        if change.sequence is None or change.sequence > connection.sequence:
            self._table.change(connection, add=change.add, remove=change.remove)
            if change.sequence is not None:
                connection.sequence = change.sequence
            awaited = change.add
        else:
            # It was overtaken, or comes again.
            awaited = tuple(set(change.add).intersection(self._table.topics(connection)))
        await self._confirmed(awaited)
        return self._subscriptions(id)

    @as_deferred
    async def refresh(self, id: ConnectionId, token: str) -> Refreshed:
        self._supervisor.open_connection(id)
        identity = self.permissions.identify(token)
        if isinstance(identity, Deferred):
            identity = await identity
        connection = self._supervisor.open_connection(id)
        if identity.member != connection.member:
            raise Forbidden("the token is for another member than the one whose stream this is")
        before = connection.identity.topics if connection.identity else ()
        added = [topic for topic in identity.topics if topic not in before]
        removed = self.permissions.not_allowed(
            self._table.topics(connection), identity, connection.given
        )
        self._table.change(connection, add=added, remove=removed)
        self._supervisor.renew(connection, identity)
        await self._confirmed(added)
        subscriptions = self._subscriptions(id)
        return Refreshed(
            connection=id,
            topics=subscriptions.topics,
            removed=removed,
            expires_at=identity.expires_at,
            expires_in_seconds=round(identity.expires_at - self._now(), 1),
            pending=subscriptions.pending,
        )

    def subscriptions(self, id: ConnectionId) -> Deferred[Subscriptions]:
        return execute(self._subscriptions, id)

    def receive(self, receipt: Receipt) -> Deferred[None]:
        return execute(self._receive, receipt)

    def _receive(self, receipt: Receipt) -> None:
        self._supervisor.connection(receipt.connection)
        self._receipts.receive(receipt)

    def look_for(self, id: ConnectionId) -> Deferred[None]:
        return execute(self._supervisor.connection, id).addCallback(lambda _: None)

    def _subscriptions(self, id: ConnectionId) -> Subscriptions:
        topics = self._table.topics(self._supervisor.connection(id))
        return Subscriptions(connection=id, topics=topics, pending=tuple(self._pending(topics)))

    def _confirmed(self, topics: Sequence[Topic]) -> Deferred[list[Topic]]:
        """Wait until dispatchers deliver these topics here, and it is known which have a history.

        :return: fires with those of which that is still not so after a while.
        """
        confirmed = self._interest.confirmed(topics)
        if not self._histories.unknown(topics):
            return confirmed
        known = confirmed.addCallback(
            lambda pending: self._histories.known(set(topics).difference(pending))
        )
        return known.addCallback(lambda _: self._pending(topics))

    def _pending(self, topics: Sequence[Topic]) -> list[Topic]:
        pending = self._interest.unconfirmed(topics)
        unknown = self._histories.unknown(topics)
        return [*pending, *set(unknown).difference(pending)] if unknown else pending

    def check_incarnation(self, incarnation: str) -> None:
        """Raise `StaleIncarnation` unless ``incarnation`` names this process."""
        if not incarnation:
            raise BadRequest(
                "the Rt-Incarnation header is missing; it names the process to deliver to"
            )
        if incarnation != self._incarnation:
            raise StaleIncarnation(
                "the delivery is for another process of this node than the one that runs here"
            )

    def deliver(self, batch: Sequence[Item]) -> None:
        self._ages.observe(
            Stage.DELIVERED, Counter(event.at for event in batch if isinstance(event, Event))
        )
        controls: list[Control] = []
        self._post(self._unseen(batch, controls))
        if controls:
            self._controls.take(controls)

    async def read_history(
        self, query: HistoryQuery, identity: Identity | None
    ) -> HistoryPage | None:
        """Return a page of the history of a topic; ``None`` if it has none.

        :raises Forbidden: if the viewer may not watch the topic.
        :raises Unavailable: if no dispatcher answers.
        """
        self.permissions.check([query.topic], identity)
        try:
            [page] = await self._dispatchers.history([query])
        except RemoteFailure:
            raise Unavailable("no dispatcher can read the history now; try again later") from None
        return page

    def members(self, topic: Topic, after: str, limit: int) -> TopicMembers:
        names: set[Member] = set()
        anonymous = 0
        for viewer in self._table.viewers(topic):
            if viewer.member is None:
                anonymous += 1
            elif viewer.member > after:
                names.add(viewer.member)
        found = heapq.nsmallest(limit, names)
        return TopicMembers(tuple(found), anonymous, more=len(names) > len(found))

    @property
    def ages(self) -> Mapping[str, Histogram]:
        """How old events were at each stage."""
        return self._ages.histograms

    def counts(self) -> Mapping[str, Callable[[], int]]:
        """Return how many events were delivered to here, sent and dropped; cheap to call."""
        return {
            "delivered": lambda: self._delivered,
            "sent": self._supervisor.sent,
            "dropped": self._supervisor.dropped,
        }

    def losses(self) -> Mapping[str, int]:
        """Return how much was lost, by what and why; cheap to call."""
        return self._supervisor.losses()

    def status(self) -> Mapping[str, Any]:
        """Return how many streams there are, and the topics with most viewers."""
        return {
            "connections": len(self._supervisor),
            "connections_max": self._supervisor.max_connections,
            "lease_seconds_left": round(self._interest.lease_seconds_left, 1),
            "topics": self._top_topics.tell(),
        }

    def samples(self) -> list[Sample | HistogramSample]:
        return [
            gauge("subscriptions", "Topics watched, over all connections.", len(self._table)),
            gauge("topics", "Topics with viewers.", self._table.topic_count),
            counter(
                "topics_refused",
                "Viewers and changes refused, since too many topics have viewers.",
                self._table.refused,
            ),
            counter("delivered", "Events delivered to frontends.", self._delivered, at="frontend"),
            counter(
                "repeated",
                "Events not sent again, since they had been delivered before.",
                self._repeated,
            ),
            *self._ages.samples(),
            *self._receipts.samples(),
            *self._tracking.samples(),
            *self._recent.samples(),
            *self._histories.samples(),
            *self._controls.samples(),
            *self._supervisor.samples(),
            gauge("members", "Members with streams.", len(self._members)),
            *self._presence_heartbeats.samples(),
        ]

    def _ended(self, connection: Connection) -> None:
        self._table.drop(connection)
        member = connection.member
        if member is not None and self._members.discard(member, connection):
            self._presence_heartbeats.left(member)

    def _report_unknown_gaps(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            feed = self._table.group(topic)
            # What is missing of a history was seen when the dispatcher told its last event.
            if feed is not None and feed.past is None:
                self._report_gap(topic, 0)

    def _report_gap(self, topic: Topic, lost: int) -> None:
        for viewer in self._table.viewers(topic):
            viewer.miss(topic, lost)

    async def _go_on(
        self,
        confirmed: Deferred[list[Topic]],
        connection: Connection,
        topics: Sequence[Topic],
        resume: Resume,
        head: bytes,
    ) -> None:
        """Open the stream of a viewer that has had events before, or wants some first."""
        pending = await confirmed
        resumed = Resumed()
        if resume.wants_history:
            delivered = [topic for topic in topics if topic not in pending]
            resumed = await self._histories.resume(connection, delivered, resume)
        lost = [topic for topic in topics if topic not in resumed.resumed]
        if resume.comes_back:
            for topic in lost:
                connection.miss(topic, 0)
        self._open(
            pending,
            connection,
            head,
            resumed=resumed.resumed,
            lost=lost if resume.comes_back else None,
        )

    def _open(
        self,
        pending: Collection[Topic],
        connection: Connection,
        head: bytes,
        *,
        resumed: Sequence[Topic] = (),
        lost: Sequence[Topic] | None = None,
    ) -> None:
        topics = self._table.topics(connection)
        frame = sse.connected_frame(
            connection.id,
            topics=topics,
            pending=list(pending),
            resumed=resumed,
            lost=lost,
            heads=self._histories.heads(topics),
            heartbeat_seconds=self._settings.heartbeat_seconds,
            receipts_one_in=self._receipts.one_in,
            expires_in_seconds=None
            if connection.identity is None
            else connection.identity.expires_at - self._now(),
            reconnect_seconds=self._settings.reconnect_seconds,
        )
        connection.open(head + chunk(frame))

    def _post(self, events: Iterable[Event]) -> None:
        for frames in self._frames(events):
            feed = self._table.group(frames.topic)
            if feed is not None:
                feed.post(frames)

    def _frames(self, events: Iterable[Event]) -> Iterator[Frames]:
        """Make frames of each run of events of the same topic, if the topic has viewers here."""
        run: list[Event] = []
        tracked: list[TrackedEvent] = []
        size = 0
        for event in events:
            if run and (event.topic != run[0].topic or size >= _FRAMES_BYTES):
                yield _frames_of(run, tracked)
                run, tracked, size = [], [], 0
            viewers = self._table.count(event.topic)
            followed = self._tracking.deliver(event, viewers)
            if followed is not None:
                tracked.append(followed)
            if viewers:
                self._receipts.note(event)
                run.append(event)
                size += event.size
        if run:
            yield _frames_of(run, tracked)

    def _unseen(self, batch: Iterable[Item], controls: list[Control]) -> Iterator[Event]:
        """Yield the events that may be sent now.

        :param controls: gets the controls of the batch.
        """
        for item in batch:
            if isinstance(item, Event):
                self._delivered += 1
                if item.position:
                    feed = self._table.group(item.topic)
                    if feed is not None:
                        yield from self._histories.admit(feed, item)
                elif self._recent.seen(item):
                    self._repeated += 1
                else:
                    feed = self._table.group(item.topic)
                    if feed is not None and feed.past is not None:
                        self._histories.insert(feed)
                    yield item
            elif isinstance(item, Gap):
                if not item.stored or not self._histories.repair(item.topic):
                    self._report_gap(item.topic, item.lost)
            else:
                controls.append(item)


def _frames_of(run: Sequence[Event], tracked: Sequence[TrackedEvent]) -> Frames:
    return Frames(
        data=b"".join([sse.event_frame(event) for event in run]),
        events=len(run),
        topic=run[0].topic,
        passage=Passage(run[0].at, tuple(tracked)),
    )
