"""The fakes of tests.fakes keep the contracts of what they stand in for.

What answers when the test says so is answered here as the other end would.
"""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.actor import RunQueue
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.errors import AnsweredNo, Refusal
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.interfaces import (
    IActor,
    IDispatcherClient,
    IFrontendClient,
    IHistory,
    IPeerClient,
    IPresenceClient,
    IPresenceStore,
    IRoutingTable,
    IStream,
    IStreamOwner,
)
from rtdeliver.presence.presence import PresenceTracker
from tests.contracts.actor import ActorContract
from tests.contracts.contract import fired_with
from tests.contracts.dispatcher_client import DispatcherClientContract
from tests.contracts.frontend_client import FrontendClientContract
from tests.contracts.peer_client import PeerClientContract
from tests.contracts.presence_client import PresenceClientContract
from tests.contracts.presence_store import AwayPresenceStoreContract
from tests.contracts.routing_table import AwayRoutingTableContract
from tests.contracts.stream import StreamContract
from tests.contracts.stream_owner import StreamOwnerContract
from tests.fakes import (
    FailingPresenceStore,
    FailingRoutingTable,
    PromptStream,
    RecordingActor,
    RecordingOwner,
    RecordingStream,
    ScriptedDispatcherClient,
    ScriptedFrontendClient,
    ScriptedPeerClient,
    ScriptedPresenceClient,
    TableDispatcherClient,
)

ROOM_BYTES = 2500
"""How much a stream takes while its client reads nothing."""


def as_answer(failure: Failure) -> Failure:
    """What a refusal is to one who asked from afar."""
    refusal = failure.value
    if isinstance(refusal, Refusal) and refusal.status != 410:
        return Failure(AnsweredNo(refusal.status, refusal.message))
    return failure


class RecordingStreamTests(StreamContract, SynchronousTestCase):
    """The test plays the kernel, which ends a stream some time after it is asked to."""

    implementation: type = RecordingStream
    stream: RecordingStream

    def make_stream(self, owner: RecordingOwner) -> IStream:
        stream = self.new_stream(owner)
        owner.attached(stream)
        self.has_read = 0
        return stream

    def new_stream(self, owner: IStreamOwner) -> RecordingStream:
        return RecordingStream(owner, ROOM_BYTES)

    def read(self, size: int) -> None:
        there = len(self.stream.data)
        more = min(size, there) - self.has_read
        self.has_read += more
        if self.has_read == there:
            self.stream.read(ROOM_BYTES)
        else:
            self.stream.read_little(more)

    def received(self) -> bytes:
        return self.stream.data[: self.has_read]

    def has_ended(self) -> bool:
        return self.stream.closed and self.has_read == len(self.stream.data)

    def leave(self) -> None:
        self.stream.lose()

    def settle(self) -> None:
        if self.stream.closed or self.stream.aborted:
            self.stream.lose()


class PromptStreamTests(RecordingStreamTests):
    implementation = PromptStream

    def new_stream(self, owner: IStreamOwner) -> RecordingStream:
        self.clock = Clock()
        return PromptStream(owner, self.clock, ROOM_BYTES)

    def settle(self) -> None:
        self.clock.advance(0)


class RecordingOwnerTests(StreamOwnerContract, SynchronousTestCase):
    implementation = RecordingOwner

    def make_owner(self) -> IStreamOwner:
        return RecordingOwner()

    def offer(self) -> bytes:
        return b""


class RecordingActorTests(ActorContract, SynchronousTestCase):
    implementation = RecordingActor

    def make_actor(self, run_queue: RunQueue, clock: Clock) -> IActor:
        self.turns_taken: list[str] = []
        return RecordingActor("a", self.turns_taken)

    def give_work(self) -> None:
        self.run_queue.add(self.actor)

    def work_done(self) -> int:
        return len(self.turns_taken)


class TableDispatcherClientTests(DispatcherClientContract, SynchronousTestCase):
    implementation = TableDispatcherClient

    def make_client(
        self,
        dispatcher: Dispatcher,
        routing_table: IRoutingTable,
        history: IHistory,
    ) -> IDispatcherClient:
        return TableDispatcherClient(routing_table, history=history)


class ScriptedDispatcherClientTests(DispatcherClientContract, SynchronousTestCase):
    implementation = ScriptedDispatcherClient

    def make_client(
        self,
        dispatcher: Dispatcher,
        routing_table: IRoutingTable,
        history: IHistory,
    ) -> IDispatcherClient:
        self.dispatcher = dispatcher
        self.answering_table = routing_table
        self.scripted = ScriptedDispatcherClient()
        return self.scripted

    def let_be_answered(self) -> None:
        for announcement, answer in zip(
            self.scripted.announcements, self.scripted.answers, strict=True
        ):
            announced = Deferred.fromCoroutine(self.dispatcher.announce(announcement))
            announced.addErrback(as_answer).chainDeferred(answer)
        for listing in self.scripted.listings:
            TableDispatcherClient(self.answering_table).frontends().chainDeferred(listing)
        for queries, reading in zip(self.scripted.queries, self.scripted.readings, strict=True):
            self.history.read(queries).chainDeferred(reading)
        for told in (
            self.scripted.announcements,
            self.scripted.answers,
            self.scripted.listings,
            self.scripted.queries,
            self.scripted.readings,
        ):
            told.clear()


class ScriptedPresenceClientTests(PresenceClientContract, SynchronousTestCase):
    implementation = ScriptedPresenceClient

    def setUp(self) -> None:
        self.scripted: list[tuple[ScriptedPresenceClient, PresenceTracker]] = []
        super().setUp()

    def make_client(self, presence: PresenceTracker) -> IPresenceClient:
        client = ScriptedPresenceClient()
        self.scripted.append((client, presence))
        return client

    def let_be_answered(self) -> None:
        for client, presence in self.scripted:
            for heartbeat, answer in zip(client.heartbeats, client.answers, strict=True):
                noted = Deferred.fromCoroutine(presence.heartbeat(heartbeat))
                noted.addErrback(as_answer).chainDeferred(answer)


class ScriptedFrontendClientTests(FrontendClientContract, SynchronousTestCase):
    implementation = ScriptedFrontendClient

    def make_client(self, frontend: Frontend) -> IFrontendClient:
        self.scripted = ScriptedFrontendClient()
        self.scripted.viewers["n1"] = frontend.members
        return self.scripted

    def let_be_answered(self) -> None:
        deliveries = zip(self.scripted.deliveries, self.scripted.answers, strict=True)
        for (frontend, batch), answer in list(deliveries):
            try:
                self.frontend.check_incarnation(frontend.incarnation)
            except Refusal:
                answer.errback()
            else:
                self.frontend.deliver(batch)
                answer.callback(None)
        self.scripted.deliveries.clear()
        self.scripted.answers.clear()


class ScriptedPeerClientTests(PeerClientContract, SynchronousTestCase):
    implementation = ScriptedPeerClient

    def make_client(self, dispatcher: Dispatcher) -> IPeerClient:
        self.dispatcher = dispatcher
        self.scripted = ScriptedPeerClient(
            lambda after: Deferred.fromCoroutine(dispatcher.revocations(after))
        )
        return self.scripted

    def let_be_answered(self) -> None:
        for batch, answer in zip(self.scripted.forwards, self.scripted.answers, strict=True):
            taken = Deferred.fromCoroutine(self.dispatcher.deliver_local(batch))
            taken.addCallbacks(lambda _: None, as_answer).chainDeferred(answer)
        self.scripted.forwards.clear()
        self.scripted.answers.clear()


class FailingRoutingTableTests(AwayRoutingTableContract, SynchronousTestCase):
    implementation = FailingRoutingTable

    def make_table(self) -> IRoutingTable:
        return FailingRoutingTable()

    def get(self, deferred: Deferred[object]) -> object:
        return fired_with(deferred)


class FailingPresenceStoreTests(AwayPresenceStoreContract, SynchronousTestCase):
    implementation = FailingPresenceStore

    def make_store(self) -> IPresenceStore:
        return FailingPresenceStore()

    def get(self, deferred: Deferred[object]) -> object:
        return fired_with(deferred)
