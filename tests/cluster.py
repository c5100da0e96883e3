"""A datacenter without machines: processes, a network, a store and browsers, all on clocks.

What runs in the processes is real; what is between them is made here, and does what a test says.
"""

import enum
import json
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from rtdeliver.actor import RunQueue
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.errors import AnsweredNo, AnswerLost, Refusal, Unavailable, Unreachable
from rtdeliver.frontend.chunked import contents
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.interfaces import (
    IDispatcherClient,
    IFrontendClient,
    IHistory,
    IRoutingTable,
    IStreamOwner,
)
from rtdeliver.messages import (
    Acknowledgement,
    Announcement,
    Applied,
    Bookmark,
    Entry,
    HistoryPage,
    HistoryQuery,
    NodeStatus,
    Revocations,
    Route,
    Stored,
    TopicMembers,
    TopicsChange,
    TopicViewers,
)
from rtdeliver.model import ConnectionId, FrontendRef, Item, Place, Revocation, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.fakes import PromptStream, memory_history

REQUEST_SECONDS = 5
"""How long a caller waits for an answer."""

LATE_SECONDS = 20
"""How long an announcement may be on its way; longer than anybody waits."""

T = TypeVar("T")
R = TypeVar("R", Dispatcher, Frontend)


def result_of(deferred: Deferred[T]) -> T:
    """What ``deferred`` has fired with."""
    results: list[T] = []
    deferred.addCallback(results.append)
    return results[0]


class ProcessState(enum.Enum):
    RUNNING = "it does what is due"
    PAUSED = "it stands still; what reaches it waits in the kernel"
    DEAD = "it never does anything again"


class First(enum.Enum):
    """What a process that was paused turns to."""

    TIMERS = "what became due"
    CALLS = "what has come in"


class Process(Generic[R]):
    """One run of a node.

    It has a clock of its own, which stands still while the process does, and then jumps.

    :param incarnation: names it among all processes that ever ran.
    :param build: makes its role.
    """

    def __init__(
        self, *, node: str, incarnation: str, now: float, build: Callable[["Process[R]"], R]
    ) -> None:
        self.node = node
        self.incarnation = incarnation
        self.state = ProcessState.RUNNING
        self.clock = Clock()
        self.clock.rightNow = now
        self.run_queue = RunQueue(clock=self.clock, slice_seconds=1)
        self._waiting: deque[Callable[[], None]] = deque()
        self.role: R = build(self)

    def take(self, call: Callable[[], None]) -> None:
        """Let ``call`` happen in this process, as soon as it may."""
        if self.state is ProcessState.RUNNING:
            call()
        elif self.state is ProcessState.PAUSED:
            self._waiting.append(call)

    def move_to(self, now: float) -> None:
        """Let everything happen that is due by ``now``."""
        if self.state is ProcessState.RUNNING:
            self.clock.rightNow = now
            due = self.due_at()
            if due is not None and due <= now:
                self.clock.advance(0)

    def pause(self) -> None:
        if self.state is ProcessState.RUNNING:
            self.state = ProcessState.PAUSED

    def resume(self, now: float, first: First) -> None:
        """Go on; the time is ``now`` all at once."""
        if self.state is not ProcessState.PAUSED:
            return
        self.state = ProcessState.RUNNING
        self.clock.rightNow = now
        if first is First.TIMERS:
            self.clock.advance(0)
        while self._waiting:
            self._waiting.popleft()()

    def kill(self) -> None:
        self.state = ProcessState.DEAD
        self._waiting.clear()

    def due_at(self) -> float | None:
        """When something is to happen here next."""
        if self.state is ProcessState.RUNNING and self.clock.calls:
            return self.clock.calls[0].getTime()
        return None

    def failed_turns(self) -> float:
        """How many turns ended their actor."""
        return next(s.value for s in self.run_queue.samples() if s.name == "failed_turns")


class Weather(enum.Enum):
    """What becomes of a call: after how many seconds it arrives, and the answer after that.

    ``None`` is never.
    """

    FINE = (0.001, 0.001)
    SLOW = (1.0, 1.5)
    REFUSED = ()
    LOST = (None, None)
    ANSWERS_LOST = (0.001, None)
    ANSWERS_LATE = (0.001, REQUEST_SECONDS + 0.5)
    OVERTAKEN = (LATE_SECONDS, None)
    CHANGEABLE = "another for each call"


_FATES = [weather for weather in Weather if weather is not Weather.CHANGEABLE]


class Network:
    """Carries calls from node to node, each with the fate that the weather between them brings.

    A caller gives up after `REQUEST_SECONDS`. What has reached a process by then waits there, be
    the process paused. What has not is carried on if ``persistent``, as by a balancer that holds
    requests; otherwise the caller has closed the connection, and it never arrives.

    :param processes: the last one of each node.
    """

    def __init__(
        self, *, clock: Clock, processes: Mapping[str, Process[Any]], seed: random.Random
    ) -> None:
        self._clock = clock
        self._processes = processes
        self._random = seed
        self._weather: dict[tuple[str, str], Weather] = {}

    def change(self, caller: str, callee: str, weather: Weather) -> None:
        """Let ``weather`` be between two nodes, in one direction."""
        self._weather[caller, callee] = weather

    def clear(self) -> None:
        """Let the weather be fine everywhere."""
        self._weather.clear()

    def call(
        self,
        caller: Process[Any],
        callee: str,
        request: Callable[[Any], Deferred[T]],
        *,
        persistent: bool,
    ) -> Deferred[T]:
        """Let the role of ``callee`` carry out ``request``; fires in ``caller``."""
        call = _Call(
            caller=caller, callee=callee, request=request, persistent=persistent, clock=self._clock
        )
        fate = self._fate(caller.node, callee)
        if fate is Weather.REFUSED:
            call.answer_in(0.001, Failure(Unreachable(f"no way to {callee}")))
        elif fate.value[0] is not None:
            there, back = fate.value
            self._clock.callLater(there, self._arrive, call, back)
        return call.answer

    def _arrive(self, call: "_Call[Any]", back: float | None) -> None:
        process = self._processes.get(call.callee)
        if process is None or process.state is ProcessState.DEAD:
            call.answer_in(0, Failure(Unreachable(f"nobody is at {call.callee}")))
        elif call.persistent or call.awaited():
            process.take(lambda: call.carry_out(process, back))

    def _fate(self, caller: str, callee: str) -> Weather:
        weather = self._weather.get((caller, callee), Weather.FINE)
        return self._random.choice(_FATES) if weather is Weather.CHANGEABLE else weather


class _Call(Generic[T]):
    """A request on its way, and its answer."""

    def __init__(
        self,
        *,
        caller: Process[Any],
        callee: str,
        request: Callable[[Any], Deferred[T]],
        persistent: bool,
        clock: Clock,
    ) -> None:
        self.callee = callee
        self.persistent = persistent
        self.answer: Deferred[T] = Deferred()
        self._caller = caller
        self._request = request
        self._clock = clock
        self._limit = caller.clock.callLater(
            REQUEST_SECONDS, self.answer.errback, AnswerLost(f"{callee} did not answer in time")
        )

    def awaited(self) -> bool:
        """Whether the caller still waits."""
        return self._limit.active()

    def carry_out(self, process: Process[Any], back: float | None) -> None:
        self._request(process.role).addErrback(_as_answer).addBoth(
            lambda result: self.answer_in(back, result)
        )

    def answer_in(self, seconds: float | None, result: T | Failure) -> None:
        if seconds is not None:
            self._clock.callLater(seconds, self._caller.take, lambda: self._hear(result))

    def _hear(self, result: T | Failure) -> None:
        if self.awaited():
            self._limit.cancel()
            self.answer.callback(result)


def _as_answer(failure: Failure) -> Failure:
    """What a refusal is to the one who called over HTTP; a 410 keeps its meaning."""
    error = failure.value
    if isinstance(error, Refusal) and error.status != 410:
        return Failure(AnsweredNo(error.status, error.message))
    return failure


@implementer(IDispatcherClient)
class SimulatedDispatchers:
    """Calls one dispatcher until it fails, then the next."""

    def __init__(
        self, *, process: Process[Frontend], nodes: Sequence[str], network: Network
    ) -> None:
        self._process = process
        self._nodes = deque(nodes)
        self._network = network

    def announce(self, announcement: Announcement) -> Deferred[Acknowledgement]:
        return self._call(
            lambda dispatcher: Deferred.fromCoroutine(dispatcher.announce(announcement))
        )

    def frontends(self) -> Deferred[Sequence[FrontendRef]]:
        return self._call(lambda dispatcher: dispatcher.nodes()).addCallback(
            lambda nodes: [status.frontend for status in nodes]
        )

    def revocations(self, after: Bookmark) -> Deferred[Revocations]:
        return self._call(lambda dispatcher: Deferred.fromCoroutine(dispatcher.revocations(after)))

    def restore(self, revocations: Sequence[Revocation]) -> Deferred[None]:
        return self._call(
            lambda dispatcher: Deferred.fromCoroutine(dispatcher.restore(revocations))
        )

    def history(self, queries: Sequence[HistoryQuery]) -> Deferred[Sequence[HistoryPage | None]]:
        return self._call(
            lambda dispatcher: Deferred.fromCoroutine(dispatcher.read_history(queries))
        )

    def _call(self, request: Callable[[Dispatcher], Deferred[T]]) -> Deferred[T]:
        return self._network.call(
            self._process, self._nodes[0], request, persistent=True
        ).addErrback(self._turn_away)

    def _turn_away(self, failure: Failure) -> Failure:
        self._nodes.rotate(-1)
        return failure


@implementer(IFrontendClient)
class SimulatedFrontends:
    """Calls the frontend that is where the reference says.

    :param delivered: called with the frontend's name and the batch before it is delivered.
    """

    def __init__(
        self,
        *,
        process: Process[Dispatcher],
        network: Network,
        delivered: Callable[[FrontendRef, Sequence[Item]], None],
    ) -> None:
        self._process = process
        self._network = network
        self._delivered = delivered

    def deliver(self, frontend: FrontendRef, batch: Sequence[Item]) -> Deferred[None]:
        def take(role: Frontend) -> None:
            role.check_incarnation(frontend.incarnation)
            self._delivered(frontend, batch)
            role.deliver(batch)

        return self._network.call(
            self._process, frontend.node, lambda role: execute(take, role), persistent=False
        )

    def members(
        self, frontend: FrontendRef, topic: Topic, after: str, limit: int
    ) -> Deferred[TopicMembers]:
        return self._network.call(
            self._process,
            frontend.node,
            lambda role: execute(role.members, topic, after, limit),
            persistent=False,
        )


class StoreState(enum.Enum):
    """How the store answers: seconds until then."""

    PROMPT = 0.0
    SLOW = 0.2
    DEAF = 1.0
    AWAY = None


class Store:
    """What the dispatchers share, as they share a Redis.

    It also knows what a frontend cannot: ``whole`` has the incarnations of which it has had
    everything, and lost nothing since.
    """

    def __init__(self, clock: Clock, new_history: Callable[[], IHistory] | None = None) -> None:
        self.clock = clock
        self._new_history = new_history or (lambda: memory_history(clock))
        self.state = StoreState.PROMPT
        self.whole: set[str] = set()
        self._applied: Counter[str] = Counter()
        self.empty()

    def empty(self) -> None:
        """Begin again, as after a restart without a file."""
        self.routing_table = MemoryRoutingTable(clock=self.clock)
        self.history = self._new_history()
        self.whole.clear()

    def apply(self, announcement: Announcement) -> Deferred[Applied]:
        self.observe()
        applied = self.routing_table.apply(announcement)
        self.observe()
        incarnation = announcement.frontend.incarnation
        if announcement.sequence > self._applied[incarnation]:
            self._applied[incarnation] = announcement.sequence
            if announcement.full:
                self.whole.add(incarnation)
        return applied

    def observe(self) -> None:
        """Note whose lease has ended."""
        statuses = result_of(self.routing_table.nodes())
        self.whole.intersection_update(status.frontend.incarnation for status in statuses)


class StoreAccess:
    """The way of one process to the store: answers come in the order of the questions."""

    def __init__(self, *, store: Store, process: Process[Dispatcher]) -> None:
        self._store = store
        self._process = process
        self._busy_until = 0.0

    def ask(self, question: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Let the store answer a question in its state."""
        state, clock = self._store.state, self._store.clock
        if state is StoreState.AWAY:
            return fail(Unavailable("the store is away"))
        now = clock.seconds()
        if state is StoreState.PROMPT and now > self._busy_until:
            return question()
        answer: Deferred[T] = Deferred()
        seconds = max(now + state.value, self._busy_until + 0.0001) - now
        self._busy_until = now + seconds

        def carry_out() -> None:
            result = result_of(question())
            clock.callLater(seconds / 2, self._process.take, lambda: tell(result))

        def tell(result: T) -> None:
            if state is StoreState.DEAF:
                answer.errback(Unavailable("the store did not answer in time"))
            else:
                answer.callback(result)

        clock.callLater(seconds / 2, carry_out)
        return answer


@implementer(IHistory)
class HistoryConnection:
    """The way of one dispatcher to the histories in the store."""

    def __init__(self, *, store: Store, process: Process[Dispatcher]) -> None:
        self._store = store
        self._access = StoreAccess(store=store, process=process)

    def keeps(self, topic: Topic) -> bool:
        return self._store.history.keeps(topic)

    def append(self, entries: Sequence[Entry]) -> Deferred[Sequence[Stored]]:
        return self._access.ask(lambda: self._store.history.append(entries))

    def read(self, queries: Sequence[HistoryQuery]) -> Deferred[Sequence[HistoryPage | None]]:
        return self._access.ask(lambda: self._store.history.read(queries))

    def heads(self, topics: Sequence[Topic]) -> Deferred[Mapping[Topic, Place]]:
        return self._access.ask(lambda: self._store.history.heads(topics))

    def overdue(self, limit: int) -> Deferred[Sequence[Stored]]:
        return self._access.ask(lambda: self._store.history.overdue(limit))

    def mark_delivered(self, stored: Sequence[Stored]) -> Deferred[None]:
        return self._access.ask(lambda: self._store.history.mark_delivered(stored))

    def clear(self, topic: Topic) -> Deferred[int]:
        return self._access.ask(lambda: self._store.history.clear(topic))


@implementer(IRoutingTable)
class StoreConnection:
    """The way of one dispatcher to the store: answers come in the order of the questions.

    ``routes`` are the frontends that the last answered question for a topic's had as its answer.

    :param swept: called after each answer to the question for all nodes, with a function that tells
        whether the lease of an incarnation runs.
    """

    def __init__(
        self,
        *,
        store: Store,
        process: Process[Dispatcher],
        swept: Callable[[Callable[[str], bool]], None],
    ) -> None:
        self.routes: Sequence[FrontendRef] = ()
        self._store = store
        self._process = process
        self._swept = swept
        self._ask = StoreAccess(store=store, process=process).ask
        self._leases: dict[FrontendRef, float] = {}

    def start(self) -> None:
        """There is nothing to connect to."""

    def stop(self) -> Deferred[None]:
        return execute(lambda: None)

    def missing(self) -> list[str]:
        return ["the store is away"] if self._store.state is StoreState.AWAY else []

    def apply(self, announcement: Announcement) -> Deferred[Applied]:
        def note(applied: Applied) -> Applied:
            if not applied.replaced:
                ends_at = self._process.clock.seconds() + announcement.lease_seconds
                self._leases[announcement.frontend] = ends_at
            return applied

        return self._ask(lambda: self._store.apply(announcement)).addCallback(note)

    def route(self, topic: Topic) -> Deferred[Route]:
        def keep(route: Route) -> Route:
            self.routes = route.frontends
            return route

        return self._ask(lambda: self._store.routing_table.route(topic)).addCallback(keep)

    def has_lease(self, frontend: FrontendRef) -> bool:
        return self._leases.get(frontend, 0.0) > self._process.clock.seconds()

    def overdue_changes(self) -> int:
        return 0

    def viewers(self, topic: Topic) -> Deferred[Mapping[str, int]]:
        return self._ask(lambda: self._store.routing_table.viewers(topic))

    def topics(
        self, prefix: str, after: TopicViewers | None, limit: int
    ) -> Deferred[Sequence[TopicViewers]]:
        return self._ask(lambda: self._store.routing_table.topics(prefix, after, limit))

    def nodes(self) -> Deferred[Sequence[NodeStatus]]:
        def tell(nodes: Sequence[NodeStatus]) -> Sequence[NodeStatus]:
            now = self._process.clock.seconds()
            for node in nodes:
                self._leases[node.frontend] = now + node.lease_seconds_left
            leases = {ref.incarnation: ref for ref in self._leases}
            self._swept(lambda name: name in leases and self.has_lease(leases[name]))
            return nodes

        return self._ask(lambda: self._store.routing_table.nodes()).addCallback(tell)

    def forget(self, frontend: FrontendRef) -> Deferred[None]:
        return self._ask(lambda: self._store.routing_table.forget(frontend))


class BrowserStream(PromptStream):
    """A stream to a browser, which may stop reading.

    :param offered: called with what is sent, once, whether it is taken now or later.
    :param ended: called when the stream is gone.
    :param complain: called with what is wrong.
    """

    def __init__(
        self,
        owner: Any,
        *,
        process: Process[Frontend],
        offered: Callable[[bytes], None],
        ended: Callable[[], None],
        complain: Callable[[str], None],
    ) -> None:
        super().__init__(owner, process.clock)
        self._complain = complain
        self._offered = offered
        self._ended = ended
        self._rest = b""

    def send(self, data: bytes) -> int:
        if self._rest and data != self._rest:
            self._complain("what was not taken does not come first, and alone")
        taken = super().send(data)
        if not self._rest:
            self._offered(data)
        self._rest = data[taken:]
        return taken

    def lose(self) -> None:
        if not self.lost:
            self._ended()
        super().lose()


class Browser:
    """A viewer, who knows what it watches and notes what it is sent.

    ``since`` tells for each of its topics the moment from which on it watches, as the number
    that ``moment`` gave then; ``told`` how many events were told as lost, by topic, since.
    ``warned`` has the topics of which it was told that nobody knows how many were lost.

    :param complain: called with what is wrong.
    """

    def __init__(
        self,
        *,
        process: Process[Frontend],
        topics: Sequence[Topic],
        moment: Callable[[], int],
        complain: Callable[[str], None],
    ) -> None:
        self.process = process
        self.id: ConnectionId | None = None
        self.stream: BrowserStream | None = None
        self.here = False
        self.since: dict[Topic, int] = {}
        self.told: Counter[Topic] = Counter()
        self.told_in_all = 0
        self.warned: set[Topic] = set()
        self.received: set[tuple[Topic, str]] = set()
        self._moment = moment
        self._complain = complain
        self._last: dict[tuple[Topic, str], int] = {}
        self._topics = topics
        process.take(self._connect)

    def change(self, add: Sequence[Topic], remove: Sequence[Topic]) -> None:
        """Ask for other topics, if it was greeted."""
        self.process.take(lambda: self._change(add, remove))

    def read(self, room: int) -> None:
        """Read ``room`` bytes, and no more."""
        self.process.take(lambda: self._read(room))

    def leave(self) -> None:
        self.process.take(self._leave)

    def _connect(self) -> None:
        if self.process.role.busy() is None:
            self.here = True
            self._watch(self._topics)
            self.process.role.connect(self._topics, head=bytes, attach=self._attach)

    def _attach(self, owner: IStreamOwner) -> None:
        self.stream = BrowserStream(
            owner,
            process=self.process,
            offered=self._note,
            ended=self._ended,
            complain=self._complain,
        )
        owner.attached(self.stream)

    def _change(self, add: Sequence[Topic], remove: Sequence[Topic]) -> None:
        if self.here and self.id is not None:
            for topic in set(remove).difference(add):
                self.since.pop(topic, None)
            self._watch(add)
            change = TopicsChange(add=tuple(add), remove=tuple(remove))
            self.process.role.subscribe(self.id, change).addErrback(
                lambda failure: failure.trap(Refusal)
            )

    def _read(self, room: int) -> None:
        if self.stream is not None and not self.stream.lost:
            self.stream.read(room)

    def _leave(self) -> None:
        if self.stream is not None:
            self.stream.lose()

    def _ended(self) -> None:
        self.here = False
        self.since.clear()

    def _watch(self, topics: Sequence[Topic]) -> None:
        for topic in topics:
            if topic not in self.since:
                self.since[topic] = self._moment()
                self.told[topic] = 0

    def _note(self, data: bytes) -> None:
        for name, fields in _frames(contents(data).decode()):
            if name == "connected":
                self.id = fields["connection"]
            elif name == "gap":
                lost = fields["lost"]
                self.told_in_all += lost or 0
                self.told.update(dict.fromkeys(fields["topics"], lost or 0))
                self.warned.update(() if lost else fields["topics"])
            elif name == "message":
                self._note_event(fields["topic"], fields["id"])

    def _note_event(self, topic: Topic, id: str) -> None:
        dispatcher, number = id.rsplit("-", 1)
        last = self._last.get((topic, dispatcher), -1)
        if topic not in self.since:
            self._complain(f"{id} of {topic} came, which is not watched")
        elif (topic, id) in self.received:
            self._complain(f"{id} of {topic} came twice")
        elif int(number) <= last:
            self._complain(f"{id} of {topic} came after number {last}")
        self._last[topic, dispatcher] = int(number)
        self.received.add((topic, id))


def _frames(text: str) -> Iterator[tuple[str, Any]]:
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line not in ("", ":")]
        if lines:
            fields = dict(line.split(": ", 1) for line in lines)
            yield fields.get("event", "message"), json.loads(fields["data"])
