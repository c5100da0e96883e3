"""Frontends, dispatchers, the table that they share and the network between them, in any weather.

`ClusterMachine` does to a datacenter what an operator fears, in any order; whatever it did, the
datacenter comes to itself, and accounts for what was lost meanwhile.
"""

import enum
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.config.sections import (
    Deliveries,
    Forwards,
    History,
    Latency,
    Presence,
    Routing,
    Viewers,
)
from rtdeliver.dispatcher.dispatcher import Dispatcher, Published
from rtdeliver.dispatcher.peers import Peers
from rtdeliver.dispatcher.tracking import Tracking
from rtdeliver.errors import Unavailable
from rtdeliver.frontend.connection import Connection
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.grants import EVERYTHING
from rtdeliver.metrics import Sample
from rtdeliver.model import Event, FrontendRef, Item, Topic
from rtdeliver.revocations.memory import MemoryRevocationStore
from rtdeliver.wheel import TimingWheel
from rtdeliver.wire import Draft
from tests.cluster import (
    LATE_SECONDS,
    Browser,
    First,
    Network,
    Process,
    ProcessState,
    SimulatedDispatchers,
    SimulatedFrontends,
    Store,
    StoreConnection,
    StoreState,
    Weather,
    result_of,
)
from tests.fakes import ScriptedPresenceClient, new_backoff

FRONTENDS = ("n1", "n2", "n3")
DISPATCHERS = ("d1", "d2")
TOPICS = tuple(Topic(f"live:{name}") for name in ("red", "green", "blue"))
LEASE_SECONDS = 30
RETRY_SECONDS = 3
STREAMS = Viewers(
    topics_per_connection=len(TOPICS),
    reconnect_seconds=RETRY_SECONDS,
    mailbox_bytes=2000,
    mailbox_events=8,
    send_bytes=1000,
)
BATCH_EVENTS = 4
LINKS = Deliveries(
    batch_events=BATCH_EVENTS, batch_bytes=1000, mailbox_bytes=2000, mailbox_events=12
)
# Of the largest item that a mailbox may take beyond its bound: a batch, as frames.
SPARE_BYTES = BATCH_EVENTS * 200
PLENTY = 1 << 30


def build_frontend(process: Process[Frontend], network: Network) -> Frontend:
    return Frontend(
        settings=STREAMS,
        routing=Routing(lease_seconds=LEASE_SECONDS),
        presence_settings=Presence(batch_members=10),
        latency=Latency(),
        history=History(),
        public_topics=EVERYTHING.subscribe,
        identify=None,
        record=lambda _: None,
        node=process.node,
        max_connections=6,
        incarnation=process.incarnation,
        dispatchers=SimulatedDispatchers(process=process, nodes=DISPATCHERS, network=network),
        presence=ScriptedPresenceClient(),
        new_backoff=new_backoff,
        clock=process.clock,
        now=process.clock.seconds,
        run_queue=process.run_queue,
        wheel=TimingWheel(clock=process.clock, tick_seconds=0.25),
    )


def build_dispatcher(
    process: Process[Dispatcher], routing_table: StoreConnection, frontends: SimulatedFrontends
) -> Dispatcher:
    return Dispatcher(
        routing_table=routing_table,
        history=None,
        history_settings=History(),
        revocations=MemoryRevocationStore(max_revocations=1000, now=process.clock.seconds),
        frontends=frontends,
        read_peers_seconds=5,
        settings=LINKS,
        peers=Peers(
            clients={},
            settings=Forwards(),
            clock=process.clock,
            run_queue=process.run_queue,
            new_backoff=new_backoff,
        ),
        changed=lambda _: None,
        tracking=Tracking(
            settings=Latency(), peers=(), record=lambda _: None, now=process.clock.seconds
        ),
        clock=process.clock,
        now=process.clock.seconds,
        run_queue=process.run_queue,
        new_backoff=new_backoff,
    )


class Account:
    """What became of each event on its way from a dispatcher's answer to the viewers.

    All is by incarnation. ``routed``: the events that a dispatcher accepted while the table had
    this frontend for their topic, with the dispatcher and the moment. ``arrived``: those that
    reached the frontend. ``posted``: to how many viewers the frontend had to send them.
    ``closed``: those that waited in a link when it was closed, because the lease of the frontend
    had ended or another process was in its place; the dispatcher counts them, and tells the next
    process of the node.
    """

    def __init__(self) -> None:
        self.moment = 0
        self.routed: dict[str, list[tuple[Event, str, int]]] = {}
        self.routed_by: Counter[str] = Counter()
        self.arrived: dict[str, set[Event]] = {}
        self.posted: Counter[str] = Counter()
        self.closed: dict[str, set[Event]] = {}
        self._nodes: dict[str, str] = {}

    def route(self, event: Event, dispatcher: str, frontends: Sequence[FrontendRef]) -> None:
        self.moment += 1
        for frontend in frontends:
            for other, node in self._nodes.items():
                if node == frontend.node and other != frontend.incarnation:
                    self._close(dispatcher, other)
            self._nodes[frontend.incarnation] = frontend.node
            self.routed.setdefault(frontend.incarnation, []).append(
                (event, dispatcher, self.moment)
            )
            self.routed_by[dispatcher] += 1

    def sweep(self, dispatcher: str, lives: Callable[[str], bool]) -> None:
        for incarnation in self.routed:
            if not lives(incarnation):
                self._close(dispatcher, incarnation)

    def arrive(self, frontend: str, event: Event, viewers: int) -> None:
        arrived = self.arrived.setdefault(frontend, set())
        if event not in arrived:
            arrived.add(event)
            self.posted[frontend] += viewers

    def owed(self, browser: Browser, alive: set[str]) -> Iterator[Event]:
        """The events that ``browser`` had to be sent or told as lost, and was not sent."""
        frontend = browser.process.incarnation
        arrived, closed = (of.get(frontend, set()) for of in (self.arrived, self.closed))
        for event, dispatcher, moment in self.routed.get(frontend, []):
            if (
                browser.since.get(event.topic, self.moment) < moment
                and (event.topic, event.id) not in browser.received
                and (event in arrived or (dispatcher in alive and event not in closed))
            ):
                yield event

    def unknown(self, browser: Browser) -> Iterator[Topic]:
        """The topics of which ``browser`` missed events that were dropped with their link."""
        frontend = browser.process.incarnation
        for event, _, moment in self.routed.get(frontend, []):
            if (
                browser.since.get(event.topic, self.moment) < moment
                and (event.topic, event.id) not in browser.received
                and event in self.closed.get(frontend, set())
            ):
                yield event.topic

    def _close(self, dispatcher: str, frontend: str) -> None:
        arrived = self.arrived.get(frontend, set())
        self.closed.setdefault(frontend, set()).update(
            event
            for event, router, _ in self.routed.get(frontend, [])
            if router == dispatcher and event not in arrived
        )


class Fate(enum.Enum):
    """What may happen to a process."""

    KILLED = "it ends at once"
    RESTARTED = "it ends at once, and another runs in its place"
    DRAINED = "it ends in order, if it is a frontend's"
    PAUSED = "it stands still"
    RESUMED_BY_TIMERS = "it goes on with what became due"
    RESUMED_BY_CALLS = "it goes on with what has come in"


class Cluster:
    """A datacenter: three frontends, two dispatchers, a store, and browsers.

    ``complaints`` is what was seen to be wrong; it stays empty.
    """

    def __init__(self, seed: int) -> None:
        self.complaints: list[str] = []
        self.clock = Clock()
        self.clock.rightNow = 1_795_417_956.0
        self.store = Store(self.clock)
        self.processes: dict[str, Process[Any]] = {}
        self.network = Network(clock=self.clock, processes=self.processes, seed=random.Random(seed))
        self.account = Account()
        self.browsers: list[Browser] = []
        self._connections: dict[str, StoreConnection] = {}
        self._numbers: Counter[str] = Counter()
        self._runs: Counter[str] = Counter()
        self._visits: Counter[str] = Counter()
        for node in (*DISPATCHERS, *FRONTENDS):
            self.start(node)

    # What happens.

    def start(self, node: str) -> None:
        """Run ``node`` as a new process, in place of the one before."""
        self.kill(node)
        self._runs[node] += 1
        incarnation = f"{node}.{self._runs[node]}"
        now = self.clock.seconds()
        if node in FRONTENDS:
            frontend: Process[Frontend] = Process(
                node=node,
                incarnation=incarnation,
                now=now,
                build=lambda process: build_frontend(process, self.network),
            )
            self.processes[node] = frontend
            frontend.role.start(f"http://{node}:8081")
        else:
            dispatcher: Process[Dispatcher] = Process(
                node=node, incarnation=incarnation, now=now, build=self._build_dispatcher
            )
            self.processes[node] = dispatcher
            dispatcher.role.start()

    def kill(self, node: str) -> None:
        """End the process of ``node``; its viewers come back a while later, somewhere else."""
        if node in self.processes:
            process = self.processes[node]
            for browser in self.browsers_of(process):
                self.clock.callLater(RETRY_SECONDS, self._reconnect, list(browser.since))
            self.browsers = [b for b in self.browsers if b.process is not process]
            process.kill()

    def drain(self, node: str) -> None:
        """Let a frontend end in order."""
        process: Process[Frontend] = self.processes[node]

        def leave(_: None) -> None:
            left = Deferred.fromCoroutine(process.role.leave())
            left.addBoth(lambda _: process.kill())

        def drain() -> None:
            process.role.drain(1).addCallback(leave)

        process.take(drain)

    def befall(self, node: str, fate: Fate) -> None:
        process = self.processes[node]
        now = self.clock.seconds()
        match fate:
            case Fate.KILLED:
                self.kill(node)
            case Fate.RESTARTED:
                self.start(node)
            case Fate.DRAINED:
                if node in FRONTENDS:
                    self.drain(node)
            case Fate.PAUSED:
                process.pause()
            case Fate.RESUMED_BY_TIMERS:
                process.resume(now, First.TIMERS)
            case Fate.RESUMED_BY_CALLS:
                process.resume(now, First.CALLS)

    def connect(self, node: str, topics: Sequence[Topic]) -> None:
        process: Process[Frontend] = self.processes[node]
        self._visits[node] += 1
        if process.state is not ProcessState.DEAD:
            self.browsers.append(
                Browser(
                    process=process,
                    topics=topics,
                    moment=lambda: self.account.moment,
                    complain=self.complaints.append,
                )
            )

    def publish(self, node: str, topic: Topic) -> None:
        """Publish the next event of a dispatcher."""
        process: Process[Dispatcher] = self.processes[node]
        process.take(lambda: self._publish(process, topic))

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, with everything at its very moment."""
        end = self.clock.seconds() + seconds
        rounds = 0
        while (due := self._due_at()) is not None and due <= end:
            self._move_to(max(due, self.clock.seconds()))
            rounds += 1
            assert rounds < 100_000, "time does not pass"
        self._move_to(end)

    def calm_down(self) -> None:
        """Let all that hampers end."""
        self.network.clear()
        self.store.state = StoreState.PROMPT
        for node, process in list(self.processes.items()):
            process.resume(self.clock.seconds(), First.CALLS)
            if node in DISPATCHERS and process.state is ProcessState.DEAD:
                self.start(node)
        for browser in self.browsers:
            browser.read(PLENTY)

    # What is seen.

    def running(self, *nodes: str) -> list[Process[Any]]:
        return [
            process
            for node, process in self.processes.items()
            if node in nodes and process.state is ProcessState.RUNNING
        ]

    def browsers_of(self, process: Process[Frontend]) -> list[Browser]:
        return [b for b in self.browsers if b.process is process and b.here]

    def counts(self, process: Process[Frontend]) -> Counter[Topic]:
        """What the table of a frontend has to be, by topic."""
        return Counter(topic for browser in self.browsers_of(process) for topic in browser.since)

    def sample(self, process: Process[Any], name: str, **labels: str) -> float:
        samples: list[Sample] = process.role.samples()
        return sum(
            sample.value
            for sample in samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def _build_dispatcher(self, process: Process[Dispatcher]) -> Dispatcher:
        routing_table = self._connections[process.incarnation] = StoreConnection(
            store=self.store,
            process=process,
            swept=lambda lives: self.account.sweep(process.incarnation, lives),
        )
        frontends = SimulatedFrontends(
            process=process, network=self.network, delivered=self._note_delivered
        )
        return build_dispatcher(process, routing_table, frontends)

    def _reconnect(self, topics: Sequence[Topic]) -> None:
        alive = [n for n in FRONTENDS if self.processes[n].state is not ProcessState.DEAD]
        if alive:
            self.connect(min(alive, key=self._visits.__getitem__), topics)

    def _publish(self, process: Process[Dispatcher], topic: Topic) -> None:
        incarnation = process.incarnation
        self._numbers[incarnation] += 1
        id = f"{incarnation}-{self._numbers[incarnation]}"
        draft = Draft(topic=topic, type="like", data=b"1", id=id)

        def accepted(published: Sequence[Published]) -> None:
            self.account.route(
                published[0].event, incarnation, self._connections[incarnation].routes
            )

        Deferred.fromCoroutine(process.role.publish([draft])).addCallbacks(
            accepted, lambda failure: failure.trap(Unavailable)
        )

    def _note_delivered(self, frontend: FrontendRef, batch: Sequence[Item]) -> None:
        process = self.processes[frontend.node]
        if process.incarnation != frontend.incarnation:
            self.complaints.append(
                f"{process.incarnation} took what was for {frontend.incarnation}"
            )
        counts = self.counts(process)
        for item in batch:
            if isinstance(item, Event):
                self.account.arrive(frontend.incarnation, item, counts[item.topic])

    def _due_at(self) -> float | None:
        due = [process.due_at() for process in self.processes.values()]
        if self.clock.calls:
            due.append(self.clock.calls[0].getTime())
        return min((at for at in due if at is not None), default=None)

    def _move_to(self, now: float) -> None:
        self.clock.rightNow = now
        self.clock.advance(0)
        for process in list(self.processes.values()):
            process.move_to(now)


NODES = st.sampled_from([*FRONTENDS, *DISPATCHERS])
SOME_TOPICS = st.lists(st.sampled_from(TOPICS), max_size=3, unique=True)
SOMEONE = st.integers(0, 17)
SOME_FRONTENDS = st.sampled_from([FRONTENDS, *((node,) for node in FRONTENDS)])
SOME_DISPATCHERS = st.sampled_from([DISPATCHERS, *((node,) for node in DISPATCHERS)])
PAUSES = st.sampled_from([0.0, 0.0005, 0.01, 0.15, 1.0, 3.0, 6.0, 12.0, 31.0])


@implementer(ILogObserver)
class ErrorLog:
    """Notes what is logged as an error, with its traceback."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        if event["log_level"] in (LogLevel.error, LogLevel.critical):
            failure: Failure | None = event.get("log_failure")
            text = failure.getTraceback() if failure else ""
            self.errors.append(f"{formatEvent(event)}\n{text}")


class ClusterMachine(RuleBasedStateMachine):
    """Lets anything happen at any time, and looks at everything after it."""

    cluster: Cluster

    def __init__(self) -> None:
        super().__init__()
        self.log = ErrorLog()
        globalLogPublisher.addObserver(self.log)

    def someone(self, number: int) -> list[Browser]:
        browsers = [browser for browser in self.cluster.browsers if browser.here]
        return [browsers[number % len(browsers)]] if browsers else []

    @initialize(
        seed=st.integers(0, 2**16),
        homes=st.lists(st.tuples(st.sampled_from(FRONTENDS), SOME_TOPICS), min_size=3, max_size=6),
    )
    def begin(self, seed: int, homes: list[tuple[str, list[Topic]]]) -> None:
        self.cluster = Cluster(seed)
        for node, topics in homes:
            self.cluster.connect(node, topics)
        self.cluster.pass_seconds(1)

    @rule(node=st.sampled_from(FRONTENDS), topics=SOME_TOPICS)
    def connect(self, node: str, topics: list[Topic]) -> None:
        self.cluster.connect(node, topics)

    @rule(number=SOMEONE, add=SOME_TOPICS, remove=SOME_TOPICS)
    def change_topics(self, number: int, add: list[Topic], remove: list[Topic]) -> None:
        for browser in self.someone(number):
            browser.change(add, remove)

    @rule(number=SOMEONE, room=st.sampled_from([None, 0, 0, 1, 300, 1500, PLENTY]))
    def read_or_leave(self, number: int, room: int | None) -> None:
        for browser in self.someone(number):
            browser.leave() if room is None else browser.read(room)

    @rule(
        node=st.sampled_from(DISPATCHERS),
        topics=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=3),
        times=st.integers(1, 6),
        seconds=PAUSES,
    )
    def publish(self, node: str, topics: list[Topic], times: int, seconds: float) -> None:
        for topic in topics * times:
            self.cluster.publish(node, topic)
        self.pass_seconds(seconds)

    @rule(seconds=PAUSES)
    def pass_seconds(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.cluster.pass_seconds(1)
            self.what_is_confirmed_is_so()
        self.cluster.pass_seconds(seconds % 1)

    @rule(node=NODES, fate=st.sampled_from(Fate))
    def befall(self, node: str, fate: Fate) -> None:
        self.cluster.befall(node, fate)

    @rule(state=st.sampled_from([None, *StoreState]))
    def change_store(self, state: StoreState | None) -> None:
        if state is None:
            self.cluster.store.empty()
        else:
            self.cluster.store.state = state

    @rule(frontends=SOME_FRONTENDS, dispatchers=SOME_DISPATCHERS, weather=st.sampled_from(Weather))
    def announce_in(
        self, frontends: Sequence[str], dispatchers: Sequence[str], weather: Weather
    ) -> None:
        for caller, callee in product(frontends, dispatchers):
            self.cluster.network.change(caller, callee, weather)

    @rule(frontends=SOME_FRONTENDS, dispatchers=SOME_DISPATCHERS, weather=st.sampled_from(Weather))
    def deliver_in(
        self, frontends: Sequence[str], dispatchers: Sequence[str], weather: Weather
    ) -> None:
        for caller, callee in product(dispatchers, frontends):
            self.cluster.network.change(caller, callee, weather)

    @rule()
    def clear_weather(self) -> None:
        self.cluster.network.clear()

    @invariant()
    def nothing_is_wrong(self) -> None:
        """Nobody gets an event twice, too early in its row or unasked, and no actor fails."""
        self.cluster.pass_seconds(0)
        assert not self.cluster.complaints, self.cluster.complaints
        assert not self.log.errors, self.log.errors[0]
        for process in self.cluster.processes.values():
            assert process.failed_turns() == 0, process.node

    @invariant()
    def mailboxes_are_within_their_bounds(self) -> None:
        for browser in self.cluster.browsers:
            if browser.stream is not None:
                topics = len(TOPICS)
                owner = browser.stream.owner
                assert isinstance(owner, Connection)
                assert owner.mailbox_events <= topics * STREAMS.mailbox_events
                assert owner.mailbox_bytes <= (topics + 1) * (STREAMS.mailbox_bytes + SPARE_BYTES)
        for process in self.cluster.running(*DISPATCHERS):
            links = self.cluster.sample(process, "links")
            events = self.cluster.sample(process, "mailbox_events", actor="link")
            size = self.cluster.sample(process, "mailbox_bytes", actor="link")
            assert events <= links * (LINKS.mailbox_events + BATCH_EVENTS)
            assert size <= links * (LINKS.mailbox_bytes + SPARE_BYTES)

    @invariant()
    def what_is_confirmed_is_so(self) -> None:
        """A topic that is not pending has its row, unless the store lost what it had."""
        self.cluster.store.observe()
        for process in self.cluster.running(*FRONTENDS):
            if process.incarnation in self.cluster.store.whole:
                for browser in self.cluster.browsers_of(process):
                    self.check_confirmed(browser)

    def check_confirmed(self, browser: Browser) -> None:
        if browser.id is None:
            return
        told = result_of(browser.process.role.subscriptions(browser.id))
        assert sorted(browser.since) == list(told.topics)
        for topic in set(told.topics).difference(told.pending):
            routes = result_of(self.cluster.store.routing_table.route(topic)).frontends
            assert browser.process.incarnation in [ref.incarnation for ref in routes], topic

    def teardown(self) -> None:
        globalLogPublisher.removeObserver(self.log)
        # What failed before is told, and not what came of it.
        if sys.exc_info()[0] is None and hasattr(self, "cluster"):
            self.check_end()

    def check_end(self) -> None:
        """In fine weather, all becomes well, and what was lost is accounted for."""
        cluster = self.cluster
        cluster.calm_down()
        cluster.pass_seconds(LATE_SECONDS + LEASE_SECONDS * 2)
        for browser in cluster.browsers:
            browser.read(PLENTY)
        cluster.pass_seconds(1)
        self.check_routing_table()
        self.check_account()
        self.check_publishing()
        self.nothing_is_wrong()

    def check_routing_table(self) -> None:
        cluster, routing_table = self.cluster, self.cluster.store.routing_table
        alive = cluster.running(*FRONTENDS)
        counts = {process.node: cluster.counts(process) for process in alive}
        for topic in TOPICS:
            viewers = {node: count[topic] for node, count in counts.items() if count[topic]}
            assert result_of(routing_table.viewers(topic)) == viewers, topic
            routes = result_of(routing_table.route(topic)).frontends
            assert {ref.incarnation for ref in routes} == {
                cluster.processes[node].incarnation for node in viewers
            }
            assert len(routes) == len(viewers)
        assert [
            (status.frontend.incarnation, status.topics, status.viewers)
            for status in result_of(routing_table.nodes())
        ] == [
            (process.incarnation, len(counts[process.node]), counts[process.node].total())
            for process in sorted(alive, key=lambda process: process.node)
        ]
        for process in alive:
            assert process.role.missing() in ([], ["this frontend is full"])
            for browser in cluster.browsers_of(process):
                self.check_confirmed(browser)

    def check_account(self) -> None:
        """Each event was received, or told as lost, or counted as dropped.

        For dispatchers, by the counters alone: what was routed is what was delivered and what was
        dropped. For viewers, by name: an event that a living dispatcher routed to the viewer's
        frontend since the viewer watches, and that never came, is one of those which its gap
        frames told, for each topic and in all. This leaves out two kinds: of what a dispatcher
        that died still held, nobody can tell; of what waited in a link that was closed as the
        table lacked the frontend at two sweeps, or had an earlier process in its place, nobody
        knows how much it was, and a gap frame says that. Both kinds are in again if the frontend
        has got them.

        Gap frames may tell more than was lost: an answer may be lost after the event came.
        """
        cluster = self.cluster
        for process in cluster.running(*DISPATCHERS):
            assert cluster.sample(process, "mailbox_events", actor="link") == 0
            delivered = cluster.sample(process, "delivered")
            dropped = cluster.sample(process, "dropped", at="dispatcher")
            assert cluster.account.routed_by[process.incarnation] == delivered + dropped
        for process in cluster.running(*FRONTENDS):
            assert cluster.sample(process, "mailbox_events", actor="connection") == 0
            sent = cluster.sample(process, "sent")
            dropped = cluster.sample(process, "dropped", at="frontend")
            assert cluster.account.posted[process.incarnation] == sent + dropped
        alive = {process.incarnation for process in cluster.running(*DISPATCHERS)}
        for browser in cluster.browsers:
            owed = Counter(event.topic for event in cluster.account.owed(browser, alive))
            assert owed <= browser.told, (owed, browser.told)
            assert owed.total() <= browser.told_in_all
            assert browser.warned.issuperset(cluster.account.unknown(browser))

    def check_publishing(self) -> None:
        """An event for each topic from each dispatcher reaches all its viewers, and once."""
        cluster = self.cluster
        # The first events after a loss make links, which tell what was lost with earlier ones.
        self.publish_everywhere()
        before = {browser: set(browser.received) for browser in cluster.browsers}
        told = {browser: browser.told_in_all for browser in cluster.browsers}
        self.publish_everywhere()
        for process in cluster.running(*FRONTENDS):
            for browser in cluster.browsers_of(process):
                new = Counter(topic for topic, _ in browser.received - before[browser])
                assert new == dict.fromkeys(browser.since, len(DISPATCHERS))
                assert browser.told_in_all == told[browser]

    def publish_everywhere(self) -> None:
        """Publish an event for each topic at each dispatcher, and let it arrive."""
        for node in DISPATCHERS:
            for topic in TOPICS:
                self.cluster.publish(node, topic)
        self.cluster.pass_seconds(1)


class ClusterTests(SynchronousTestCase):
    """Nodes that know each other by what they say, and not by what they are."""

    def test_the_routing_table_becomes_what_the_tables_are_and_every_event_is_accounted_for(
        self,
    ) -> None:
        run_state_machine_as_test(
            ClusterMachine,
            settings=settings(deadline=None, max_examples=80, stateful_step_count=40),
        )

    def test_a_table_that_is_lost_and_filled_again_costs_nothing_that_waits(self) -> None:
        cluster = Cluster(seed=0)
        cluster.connect("n1", [TOPICS[0]])
        cluster.pass_seconds(1)
        cluster.network.change("d1", "n1", Weather.LOST)
        cluster.publish("d1", TOPICS[0])
        cluster.pass_seconds(3)
        # A sweep comes before the frontend's next announcement.
        cluster.store.empty()
        cluster.pass_seconds(1.5)
        cluster.network.clear()
        cluster.pass_seconds(30)
        [browser] = cluster.browsers
        self.assertEqual({(TOPICS[0], "d1.1-1")}, browser.received)
