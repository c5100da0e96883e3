"""Stand-ins that keep the promises of rtdeliver.interfaces, for tests without sockets."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, IProtocol, IReactorTime, ITransport
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import URI, FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from twisted.web.resource import IResource
from zope.interface import implementer

from rtdeliver.actor import RunQueue
from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import (
    Deliveries,
    Forwards,
    History,
    HistoryClass,
    Http,
    Latency,
    Retry,
    Routing,
    Viewers,
)
from rtdeliver.config.sections import Presence as PresenceSettings
from rtdeliver.deferreds import as_deferred
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.dispatcher.peers import Peers
from rtdeliver.dispatcher.producers import Producers
from rtdeliver.dispatcher.tracking import Tracking
from rtdeliver.errors import AnsweredNo, StreamLost, Unavailable, Unreachable
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.frontend.resume import FRESH, Resume
from rtdeliver.grants import EVERYTHING, Patterns
from rtdeliver.history.classes import HistoryClasses
from rtdeliver.history.memory import MemoryHistory
from rtdeliver.http.client import NodeClient
from rtdeliver.http.failover import Failover, Order, last_good
from rtdeliver.interfaces import (
    IActor,
    IDispatcherClient,
    IFrontendClient,
    IHistory,
    IPeerClient,
    IPresenceClient,
    IPresenceStore,
    IRevocationStore,
    IRoutingTable,
    IStream,
    IStreamOwner,
)
from rtdeliver.messages import (
    Acknowledgement,
    Announcement,
    Applied,
    Bookmark,
    HistoryPage,
    HistoryQuery,
    HopRecord,
    NodeStatus,
    Presence,
    PresenceChange,
    PresenceHeartbeat,
    PresenceSweep,
    Revocations,
    Route,
    TopicMembers,
    TopicViewers,
)
from rtdeliver.model import ConnectionId, Event, FrontendRef, Item, Member, Revocation, Topic
from rtdeliver.revocations.memory import MemoryRevocationStore
from rtdeliver.tokens import Identify, Identity
from rtdeliver.wheel import TimingWheel
from rtdeliver.wire import Draft, encode_event
from tests.chunked import ChunkDecoder


@implementer(IStream)
class RecordingStream:
    """Takes what is sent, up to ``room`` bytes, and keeps it send by send.

    The client reads, and the stream is lost, when the test says so.

    :param owner: may be given later, before the stream takes less than it is sent.
    """

    def __init__(self, owner: IStreamOwner | None = None, room: int = 1 << 30) -> None:
        self.owner = owner
        self.sends: list[bytes] = []
        self.room = room
        self.closed = False
        self.aborted = False
        self.lost = False
        self._kernel_holds = 0
        self._is_full = False

    @property
    def data(self) -> bytes:
        """All that was taken."""
        return b"".join(self.sends)

    @property
    def contents(self) -> list[bytes]:
        """What was in the head and in the chunks that were taken, send by send."""
        decoder, data = ChunkDecoder(), self.data
        head_bytes = 0
        if data.startswith(b"H"):
            head, end, _ = data.partition(b"\r\n\r\n")
            head_bytes = len(head + end)
        contents = []
        for sent in self.sends:
            contents.append(sent[:head_bytes] + decoder.feed(sent[head_bytes:]))
            head_bytes = max(0, head_bytes - len(sent))
        return contents

    @property
    def content(self) -> bytes:
        """All of `contents`."""
        return b"".join(self.contents)

    def send(self, data: bytes) -> int:
        assert not self._is_full, "nothing may be sent before `writable`"
        if self.lost:
            raise StreamLost("the peer is gone")
        taken = min(self.room, len(data))
        self.room -= taken
        self.sends.append(data[:taken])
        self._kernel_holds += taken
        self._is_full = taken < len(data)
        return taken

    def unsent_bytes(self) -> int:
        return self._kernel_holds

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def read(self, room: int) -> None:
        """Let the client read, so that ``room`` bytes are taken from now on."""
        self.room = room
        self.read_little(room)
        if self._is_full and room:
            self._is_full = False
            assert self.owner is not None
            self.owner.writable()

    def read_little(self, size: int) -> None:
        """Let the client read ``size`` bytes, which is too little for the stream to take more."""
        self._kernel_holds = max(0, self._kernel_holds - size)

    def lose(self) -> None:
        """The stream is gone, as its owner is told; idempotent."""
        if not self.lost:
            self.lost = True
            assert self.owner is not None
            self.owner.connectionLost(Failure(ConnectionDone()))


class PromptStream(RecordingStream):
    """Ends as a socket does: its owner is told in the next iteration of the reactor."""

    owner: IStreamOwner

    def __init__(self, owner: IStreamOwner, clock: IReactorTime, room: int = 1 << 30) -> None:
        super().__init__(owner, room)
        self._clock = clock

    def close(self) -> None:
        super().close()
        self._clock.callLater(0, self.lose)

    def abort(self) -> None:
        super().abort()
        self._clock.callLater(0, self.lose)


@implementer(IStreamOwner, IProtocol)
class RecordingOwner:
    """Notes what its stream tells it."""

    def __init__(self) -> None:
        self.streams: list[IStream] = []
        self.received = b""
        self.writables = 0
        self.losses: list[Failure] = []

    def attached(self, stream: IStream) -> None:
        self.streams.append(stream)

    def makeConnection(self, transport: ITransport) -> None:
        raise AssertionError("the transport was connected to a protocol before")

    def connectionMade(self) -> None:
        raise AssertionError("the transport was connected to a protocol before")

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def writable(self) -> None:
        self.writables += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.losses.append(reason)

    def logPrefix(self) -> str:
        return "RecordingOwner"


@implementer(IActor)
class RecordingActor:
    """Notes its turns in a list that several may share."""

    def __init__(self, name: str, turns: list[str]) -> None:
        self.name = name
        self.queued = False
        self.ended = False
        self._turns = turns

    def turn(self) -> None:
        self._turns.append(self.name)

    def failed(self) -> None:
        self.ended = True


@implementer(IDispatcherClient)
class TableDispatcherClient:
    """Applies announcements to a routing table, as a dispatcher does, with no wire between."""

    def __init__(
        self,
        routing_table: IRoutingTable,
        revocations: IRevocationStore | None = None,
        history: IHistory | None = None,
    ) -> None:
        self.routing_table = routing_table
        self.histories = history or memory_history(Clock())
        self.store = revocations or MemoryRevocationStore(max_revocations=1000, now=lambda: 0)
        self.announcements: list[Announcement] = []

    def frontends(self) -> Deferred[Sequence[FrontendRef]]:
        found = self.routing_table.nodes()
        return found.addCallbacks(lambda nodes: [node.frontend for node in nodes], _answer_no)

    @as_deferred
    async def announce(self, announcement: Announcement) -> Acknowledgement:
        self.announcements.append(announcement)
        try:
            applied = await self.routing_table.apply(announcement)
            heads = await self.histories.heads(announcement.watched)
        except Unavailable as error:
            raise AnsweredNo(error.status, error.message) from None
        return Acknowledgement(
            lease_seconds=announcement.lease_seconds,
            full=not applied.known and not applied.replaced,
            replaced=applied.replaced,
            restored=applied.restored,
            heads={topic: str(place) for topic, place in heads.items()},
        )

    def revocations(self, after: Bookmark) -> Deferred[Revocations]:
        return self.store.after(after).addErrback(_answer_no)

    def restore(self, revocations: Sequence[Revocation]) -> Deferred[None]:
        return self.store.add(revocations).addErrback(_answer_no)

    def history(self, queries: Sequence[HistoryQuery]) -> Deferred[Sequence[HistoryPage | None]]:
        return self.histories.read(queries).addErrback(_answer_no)


def _answer_no(failure: Failure) -> NoReturn:
    failure.trap(Unavailable)
    raise AnsweredNo(Unavailable.status, str(failure.value))


@implementer(IDispatcherClient)
class ScriptedDispatcherClient:
    """Notes announcements, and answers each when and how the test says.

    ``listings`` are the answers to those who ask for the frontends, and ``pages`` to those who ask
    for revocations. Without ``pages``, these are what was given back. ``queries`` are the questions
    for histories, and ``readings`` their answers.
    """

    def __init__(self) -> None:
        self.announcements: list[Announcement] = []
        self.pages: list[Deferred[Revocations]] = []
        self.bookmarks: list[Bookmark] = []
        self.restored: list[Revocation] = []
        self._store = MemoryRevocationStore(max_revocations=1000, now=lambda: 0)
        self.answers: list[Deferred[Acknowledgement]] = []
        self.listings: list[Deferred[Sequence[FrontendRef]]] = []
        self.queries: list[Sequence[HistoryQuery]] = []
        self.readings: list[Deferred[Sequence[HistoryPage | None]]] = []

    def announce(self, announcement: Announcement) -> Deferred[Acknowledgement]:
        self.announcements.append(announcement)
        answer: Deferred[Acknowledgement] = Deferred()
        self.answers.append(answer)
        return answer

    def frontends(self) -> Deferred[Sequence[FrontendRef]]:
        self.listings.append(Deferred())
        return self.listings[-1]

    def revocations(self, after: Bookmark) -> Deferred[Revocations]:
        self.bookmarks.append(after)
        if self.pages:
            return self.pages.pop(0)
        return self._store.after(after)

    def restore(self, revocations: Sequence[Revocation]) -> Deferred[None]:
        self.restored.extend(revocations)
        return self._store.add(revocations)

    def history(self, queries: Sequence[HistoryQuery]) -> Deferred[Sequence[HistoryPage | None]]:
        self.queries.append(queries)
        self.readings.append(Deferred())
        return self.readings[-1]


@implementer(IPresenceClient)
class ScriptedPresenceClient:
    """Notes heartbeats, and answers each when and how the test says."""

    def __init__(self) -> None:
        self.heartbeats: list[PresenceHeartbeat] = []
        self.answers: list[Deferred[None]] = []

    def heartbeat(self, heartbeat: PresenceHeartbeat) -> Deferred[None]:
        self.heartbeats.append(heartbeat)
        answer: Deferred[None] = Deferred()
        self.answers.append(answer)
        return answer


@implementer(IRoutingTable)
class FailingRoutingTable:
    """A routing table that cannot be reached."""

    def start(self) -> None:
        """It has nothing to connect to."""

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def missing(self) -> list[str]:
        return ["the table is away"]

    def apply(self, announcement: Announcement) -> Deferred[Applied]:
        return fail(Unavailable("the table is away"))

    def route(self, topic: Topic) -> Deferred[Route]:
        return fail(Unavailable("the table is away"))

    def has_lease(self, frontend: FrontendRef) -> bool:
        return False

    def overdue_changes(self) -> int:
        return 0

    def viewers(self, topic: Topic) -> Deferred[Mapping[str, int]]:
        return fail(Unavailable("the table is away"))

    def topics(
        self, prefix: str, after: TopicViewers | None, limit: int
    ) -> Deferred[Sequence[TopicViewers]]:
        return fail(Unavailable("the table is away"))

    def nodes(self) -> Deferred[Sequence[NodeStatus]]:
        return fail(Unavailable("the table is away"))

    def forget(self, frontend: FrontendRef) -> Deferred[None]:
        return fail(Unavailable("the table is away"))


@implementer(IPresenceStore)
class FailingPresenceStore:
    """A store of presence that cannot be reached."""

    def heartbeat(self, heartbeat: PresenceHeartbeat) -> Deferred[Sequence[PresenceChange]]:
        return fail(Unavailable("the store is away"))

    def sweep(self, limit: int) -> Deferred[PresenceSweep]:
        return fail(Unavailable("the store is away"))

    def mark_published(self, changes: Sequence[PresenceChange]) -> Deferred[None]:
        return fail(Unavailable("the store is away"))

    def presence(self, members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        return fail(Unavailable("the store is away"))


@implementer(IFrontendClient)
class ScriptedFrontendClient:
    """Notes deliveries, and answers each when and how the test says.

    ``viewers`` are those of each frontend, by its node; one that is not there does not answer.
    """

    def __init__(self) -> None:
        self.viewers: dict[str, Callable[[Topic, str, int], TopicMembers]] = {}
        self.deliveries: list[tuple[FrontendRef, list[Item]]] = []
        self.answers: list[Deferred[None]] = []
        self.answer_at_once = False

    def members(
        self, frontend: FrontendRef, topic: Topic, after: str, limit: int
    ) -> Deferred[TopicMembers]:
        if frontend.node not in self.viewers:
            return fail(Unreachable(f"nobody is at {frontend.node}"))
        return succeed(self.viewers[frontend.node](topic, after, limit))

    def deliver(self, frontend: FrontendRef, batch: Sequence[Item]) -> Deferred[None]:
        self.deliveries.append((frontend, list(batch)))
        if self.answer_at_once:
            return succeed(None)
        answer: Deferred[None] = Deferred()
        self.answers.append(answer)
        return answer


@implementer(IPeerClient)
class ScriptedPeerClient:
    """Notes forwards, and answers each when and how the test says.

    ``pages`` are its revocations, one after the other. Without them, ``read`` returns the pages.
    """

    def __init__(self, read: Callable[[Bookmark], Deferred[Revocations]] | None = None) -> None:
        self._read = read or MemoryRevocationStore(max_revocations=1000, now=lambda: 0).after
        self.pages: list[Deferred[Revocations]] = []
        self.bookmarks: list[Bookmark] = []
        self.forwards: list[list[Item]] = []
        self.answers: list[Deferred[None]] = []
        self.answer_at_once = False

    def revocations(self, after: Bookmark) -> Deferred[Revocations]:
        self.bookmarks.append(after)
        if self.pages:
            return self.pages.pop(0)
        return self._read(after)

    def forward(self, batch: Sequence[Item]) -> Deferred[None]:
        self.forwards.append(list(batch))
        if self.answer_at_once:
            return succeed(None)
        answer: Deferred[None] = Deferred()
        self.answers.append(answer)
        return answer


@implementer(IBodyProducer)
class WholeBody:
    """Writes at once what Twisted's producer writes in later iterations of the reactor."""

    def __init__(self, producer: FileBodyProducer) -> None:
        self._body: bytes = producer._inputFile.read()
        self.length = len(self._body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It is over already."""

    def resumeProducing(self) -> None:
        """It is over already."""

    def stopProducing(self) -> None:
        """It is over already."""


@implementer(IAgent)
class MemoryAgent:
    """Sends requests to resources in memory, by host; a host may be an error instead.

    What a resource answers later comes by `flush`.
    """

    def __init__(self, hosts: Mapping[str, IResource | Exception]) -> None:
        self.hosts = dict(hosts)
        self.requests: list[str] = []
        self._waiting: list[RequestTraversalAgent] = []

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        self.requests.append(uri.decode())
        host = self.hosts[URI.fromBytes(uri).netloc.decode()]
        if isinstance(host, Exception):
            return fail(host)
        body = bodyProducer
        if isinstance(body, FileBodyProducer):
            body = WholeBody(body)
        agent = RequestTraversalAgent(host)
        self._waiting.append(agent)
        answer: Deferred[IResponse] = agent.request(method, uri, headers, body)
        return answer

    def flush(self) -> None:
        """Bring what was answered to those who asked."""
        for agent in self._waiting:
            agent.flush()


class Viewer:
    """A browser, as far as a frontend can tell: it connects, and keeps what it is sent."""

    def __init__(
        self,
        frontend: Frontend,
        clock: IReactorTime,
        *topics: Topic,
        resume: Resume = FRESH,
        identity: Identity | None = None,
    ) -> None:
        self._clock = clock
        frontend.connect(
            topics,
            identity=identity,
            resume=resume,
            head=lambda: b"HTTP/1.1 200 OK\r\n\r\n",
            attach=self._attach,
        )

    def _attach(self, owner: IStreamOwner) -> None:
        self.stream = PromptStream(owner, self._clock)
        owner.attached(self.stream)

    @property
    def frames(self) -> list[tuple[str, Any]]:
        """The name and the data of each frame so far; nothing without the head before them."""
        head, _, body = self.stream.content.decode().partition("\r\n\r\n")
        assert head in ("", "HTTP/1.1 200 OK"), head
        frames = []
        for block in body.split("\n\n")[:-1]:
            lines = [line for line in block.split("\n") if line != ":"]
            fields = dict(line.split(": ", 1) for line in lines)
            frames.append((fields.get("event", "message"), json.loads(fields["data"])))
        return frames

    @property
    def ids(self) -> list[str]:
        """The ids of the published events so far."""
        return [data["id"] for name, data in self.frames if name == "message"]

    def control(self, name: str) -> list[Any]:
        """The data of the control frames of this name so far."""
        return [data for event, data in self.frames if event == name]

    @property
    def id(self) -> ConnectionId:
        """Its connection's id, once it was greeted."""
        id: ConnectionId = self.control("connected")[0]["connection"]
        return id


class PlainGroup:
    """The viewers of a topic, and nothing that they are sent."""

    def __init__(self, _: Topic) -> None:
        self._viewers: dict[str, None] = {}

    def join(self, viewer: str) -> None:
        self._viewers[viewer] = None

    def leave(self, viewer: str) -> None:
        del self._viewers[viewer]

    def __len__(self) -> int:
        return len(self._viewers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._viewers)


def new_event(id: str, topic: Topic, data: bytes = b"1") -> Event:
    """An event as a dispatcher makes it."""
    return encode_event(Draft(topic=topic, type="like", data=data, id=None), id=id, at=1000)


HISTORY = History(topics={"conv:*": HistoryClass(events=100, seconds=3600)})
NOTHING_TRACKED = Latency(receipts_one_in=0, track_one_in=0)


def new_frontend(
    clock: IReactorTime,
    dispatchers: IDispatcherClient,
    *,
    incarnation: str = "first",
    max_connections: int = 1000,
    mailbox_bytes: int = 1 << 20,
    mailbox_events: int = 1000,
    topics: int = 1000,
    presence: IPresenceClient | None = None,
    latency: Latency = NOTHING_TRACKED,
    history: History = HISTORY,
    record: Callable[[HopRecord], None] = lambda _: None,
    public_topics: Patterns = EVERYTHING.subscribe,
    identify: Identify | None = None,
) -> Frontend:
    """A frontend ``n1`` that takes five topics a connection and confirms within two seconds."""
    return Frontend(
        settings=Viewers(
            topics_per_connection=5,
            topics=topics,
            mailbox_bytes=mailbox_bytes,
            mailbox_events=mailbox_events,
            send_bytes=1 << 20,
        ),
        routing=Routing(),
        presence_settings=PresenceSettings(batch_members=100),
        latency=latency,
        history=history,
        public_topics=public_topics,
        identify=identify,
        record=record,
        node="n1",
        max_connections=max_connections,
        incarnation=incarnation,
        dispatchers=dispatchers,
        presence=presence or ScriptedPresenceClient(),
        new_backoff=new_backoff,
        clock=clock,
        now=clock.seconds,
        run_queue=RunQueue(clock=clock, slice_seconds=1),
        wheel=TimingWheel(clock=clock, tick_seconds=0.25),
    )


def new_backoff(min_seconds: float = 0.1, max_seconds: float = 3) -> Backoff:
    """Pauses without jitter."""
    return Backoff(Retry(min_seconds=min_seconds, max_seconds=max_seconds), draw=max)


def new_client(agent: IAgent, clock: IReactorTime, *, secret: str = "") -> NodeClient:
    """A client that waits five seconds, and takes answers of 64 KiB."""
    settings = Http(request_seconds=5, internal_body_bytes=65_536)
    return NodeClient(agent=agent, clock=clock, settings=settings, secret=secret)


def new_failover(
    *urls: str, clock: IReactorTime, order: Order = last_good, avoid_seconds: float = 3
) -> Failover:
    """Servers at these URLs."""
    return Failover(urls=urls, order=order, avoid_seconds=avoid_seconds, clock=clock)


def memory_history(clock: IReactorTime, now: Callable[[], float] | None = None) -> IHistory:
    """A history of the topics ``conv:*``."""
    return MemoryHistory(
        classes=HistoryClasses(HISTORY.topics),
        settings=HISTORY,
        clock=clock,
        now=clock.seconds if now is None else now,
    )


def new_dispatcher(
    clock: IReactorTime,
    routing_table: IRoutingTable,
    frontends: IFrontendClient,
    peers: Mapping[str, IPeerClient] | None = None,
    now: Callable[[], float] | None = None,
    latency: Latency = NOTHING_TRACKED,
    record: Callable[[HopRecord], None] = lambda _: None,
    revocations: IRevocationStore | None = None,
    history: IHistory | None = None,
    changed: Callable[[Iterable[Topic]], None] = lambda _: None,
) -> Dispatcher:
    """A dispatcher that sweeps every five seconds.

    :param now: the wall clock; ``clock`` if it is not given.
    """
    now = clock.seconds if now is None else now
    run_queue = RunQueue(clock=clock, slice_seconds=1)
    return Dispatcher(
        routing_table=routing_table,
        revocations=revocations or MemoryRevocationStore(max_revocations=1000, now=now),
        history=history,
        history_settings=HISTORY,
        frontends=frontends,
        read_peers_seconds=5,
        settings=Deliveries(mailbox_bytes=1 << 20, mailbox_events=1000, batch_events=100),
        peers=Peers(
            clients=peers or {},
            settings=Forwards(mailbox_bytes=1 << 20, mailbox_events=1000, batch_events=100),
            clock=clock,
            run_queue=run_queue,
            new_backoff=new_backoff,
        ),
        changed=changed,
        tracking=Tracking(settings=latency, peers=peers or {}, record=record, now=now),
        clock=clock,
        now=now,
        run_queue=run_queue,
        new_backoff=new_backoff,
    )


def new_producers(identify: Identify | None = None) -> Producers:
    """What checks the tokens of producers; nothing is revoked."""
    store = MemoryRevocationStore(max_revocations=1, now=lambda: 0)
    return Producers(identify=identify, revocations=store)
