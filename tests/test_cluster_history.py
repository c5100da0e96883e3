"""Topics with history in a datacenter, in any weather: what each viewer gets is what is stored.

`HistoryMachine` lets dispatchers die between any two steps, frontends restart, and viewers come and
go. Whatever happens, a viewer's events of a topic are consecutive ones of the store, in its order,
but for where a gap says that some are missing.
"""

import json
import random
import sys
from collections.abc import Iterator, Sequence
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
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import (
    Deliveries,
    Forwards,
    History,
    HistoryClass,
    Latency,
    Presence,
    Routing,
    Viewers,
)
from rtdeliver.dispatcher.dispatcher import Dispatcher, Published
from rtdeliver.dispatcher.peers import Peers
from rtdeliver.dispatcher.tracking import Tracking
from rtdeliver.errors import Unavailable
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.frontend.resume import FRESH, Resume, resume_of
from rtdeliver.grants import EVERYTHING
from rtdeliver.history.classes import HistoryClasses
from rtdeliver.history.memory import MemoryHistory
from rtdeliver.interfaces import IHistory, IStreamOwner
from rtdeliver.model import Place, Topic, check_position
from rtdeliver.revocations.memory import MemoryRevocationStore
from rtdeliver.wheel import TimingWheel
from rtdeliver.wire import Draft
from tests.cluster import (
    BrowserStream,
    First,
    HistoryConnection,
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
from tests.test_cluster import ErrorLog

FRONTENDS = ("n1", "n2")
DISPATCHERS = ("d1", "d2")
TOPICS = (Topic("conv:1"), Topic("conv:2"))
KEPT = 12
HISTORY = History(
    topics={"conv:*": HistoryClass(events=KEPT, seconds=100_000)},
    page_events=5,
    claim_seconds=2,
    sweep_seconds=0.5,
    give_up_seconds=4,
    cache_seconds=1,
)
STREAMS = Viewers(
    topics_per_connection=len(TOPICS), mailbox_bytes=1500, mailbox_events=4, send_bytes=600
)
LINKS = Deliveries(batch_events=3, batch_bytes=2000, mailbox_bytes=3000, mailbox_events=9)
BACK_SECONDS = 0.7
REPEATED_SECONDS = Routing().compare_seconds + 20
"""Within this time, a frontend has announced all its topics again."""
PLENTY = 1 << 30


class Log:
    """What a viewer has had of one topic, and what is wrong with it.

    :param exact: whether events come once only; otherwise some may come again after a reconnect.
    """

    def __init__(self, topic: Topic, *, exact: bool) -> None:
        self.topic = topic
        self.last: Place | None = None
        self.count = 0
        self._exact = exact
        self._repeats = False
        self._again = False
        self._may_begin_up_to: Place | None = None
        self.lost: int | None = None
        """How many events were told as lost since the last one; 0 if nobody knows."""

    def connected(self, head: Place, *, lost: bool) -> None:
        """Note that a stream begins, when this is the place of the last event."""
        self._repeats = True
        if lost:
            self.lost = 0
        if self.last is None:
            self._may_begin_up_to = head

    def gap(self, lost: int | None) -> None:
        self.lost = 0 if lost is None or self.lost == 0 else lost + (self.lost or 0)

    def event(self, place: Place) -> str | None:
        """Take an event; return what is wrong."""
        before, self.last = self.last, place
        lost, self.lost = self.lost, None
        self.count += 1
        if before is None:
            head = self._may_begin_up_to
            if head is None or lost is not None or head.tag != place.tag:
                return None
            began_late = place.number > head.number + 1
            return f"began at {place}, but it was connected at {head}" if began_late else None
        if before.tag != place.tag:
            return None if lost == 0 else f"{place} came after {before}, and no loss was told"
        if place.number <= before.number:
            # A viewer that was told of an unknown loss may be sent again what it has.
            self._again = self._again or lost == 0
            if not self._again and (self._exact or not self._repeats):
                return f"{place} came after {before}"
            self.last = before
            self.lost = lost
            return None
        self._again = False
        missing = place.number - before.number - 1
        if lost == 0 or missing == (lost or 0):
            return None
        return f"{missing} before {place} are missing, told was {lost}"


class Viewer:
    """A page that reconnects when its stream ends.

    :param tells_places: whether it tells the position of each topic, as rtdeliver.js does, or only
        the last id, as an EventSource does.
    """

    def __init__(
        self, cluster: "HistoryCluster", topics: Sequence[Topic], *, tells_places: bool
    ) -> None:
        self._cluster = cluster
        self._topics = topics
        self._tells_places = tells_places
        exact = tells_places or len(topics) == 1
        self.logs = {topic: Log(topic, exact=exact) for topic in topics}
        self.stream: BrowserStream | None = None
        self._last_id = ""

    def connect(self, node: str) -> None:
        process: Process[Frontend] = self._cluster.processes[node]
        self._process = process
        self._waits = True
        if process.state is ProcessState.DEAD:
            self._come_back()
        else:
            process.take(lambda: self._connect(process))

    def read(self, room: int) -> None:
        if self.stream is not None and not self.stream.lost:
            self.stream.read(room)

    def leave(self) -> None:
        """Reconnect."""
        if self.stream is not None:
            self.stream.lose()

    def _connect(self, process: Process[Frontend]) -> None:
        self._waits = False
        if process.role.busy() is not None:
            self._come_back()
            return
        process.role.connect(self._topics, resume=self._resume(), head=bytes, attach=self._attach)

    def _resume(self) -> Resume:
        if not self._last_id:
            return FRESH
        places = [str(log.last) for log in self.logs.values() if log.last is not None]
        return resume_of(
            last_event_id="" if self._tells_places else self._last_id,
            since=places if self._tells_places else [],
            rewind="",
            topics=len(self._topics),
        )

    def _attach(self, owner: IStreamOwner) -> None:
        self.stream = BrowserStream(
            owner,
            process=self._process,
            offered=lambda _: self._note_heads(),
            ended=self._come_back,
            complain=self._cluster.complaints.append,
        )
        self._heads: dict[Topic, Place] = {}
        self._had_bytes = 0
        owner.attached(self.stream)

    def _note_heads(self) -> None:
        """Note the last events when the stream is opened."""
        self._heads = self._heads or {topic: self._cluster.head(topic) for topic in self.logs}

    def _come_back(self) -> None:
        self.note()
        self.stream = None
        self._waits = False
        self._cluster.clock.callLater(BACK_SECONDS, self._reconnect)

    def _reconnect(self) -> None:
        alive = self._cluster.alive_frontends()
        if alive:
            self.connect(self._cluster.random.choice(alive))
        else:
            self._come_back()

    def killed(self, process: Process[Any]) -> None:
        """The process has died; what was offered and not read has not come."""
        if self._process is process and (self.stream is not None or self._waits):
            if self.stream is not None:
                self.stream.lost = True
            self._come_back()

    def note(self) -> None:
        """Note what has come. Of a frame that is not complete, a browser makes nothing."""
        if self.stream is None:
            return
        complete, end, _ = self.stream.content[self._had_bytes :].rpartition(b"\n\n")
        self._had_bytes += len(complete + end)
        for name, id, fields in frames(complete.decode()):
            if name == "connected":
                lost = {*fields.get("lost", ()), *fields.get("pending", ())}
                for topic, log in self.logs.items():
                    log.connected(self._heads[topic], lost=topic in lost)
            elif name == "gap":
                for topic in fields["topics"]:
                    alone = len(fields["topics"]) == 1
                    self.logs[topic].gap(fields["lost"] if alone else None)
            elif name == "message":
                self._last_id = id
                wrong = self.logs[fields["topic"]].event(check_position(id))
                if wrong:
                    self._cluster.complaints.append(wrong)


def frames(text: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the name, the id and the data of each frame."""
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line not in ("", ":")]
        if lines:
            fields = dict(line.split(": ", 1) for line in lines)
            yield fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"])


class HistoryCluster:
    """Two frontends, two dispatchers, a store, and viewers; ``complaints`` stays empty."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.complaints: list[str] = []
        self.clock = Clock()
        self.clock.rightNow = 1_795_417_956.0
        self.store = Store(self.clock, self._new_history)
        self.processes: dict[str, Process[Any]] = {}
        self.network = Network(clock=self.clock, processes=self.processes, seed=self.random)
        self.viewers: list[Viewer] = []
        self.accepted: list[tuple[Topic, str, int]] = []
        self._runs = dict.fromkeys((*DISPATCHERS, *FRONTENDS), 0)
        self._emptied = 0
        self._published = 0
        for node in self._runs:
            self.start(node)

    def start(self, node: str) -> None:
        """Run ``node`` as a new process, in place of the one before."""
        self.kill(node)
        self._runs[node] += 1
        frontend = node in FRONTENDS
        process: Process[Any] = Process(
            node=node,
            incarnation=f"{node}.{self._runs[node]}",
            now=self.clock.seconds(),
            build=self._build_frontend if frontend else self._build_dispatcher,
        )
        self.processes[node] = process
        if frontend:
            process.role.start(f"http://{node}:8081")
        else:
            process.role.start()

    def kill(self, node: str) -> None:
        process = self.processes.get(node)
        if process is not None and process.state is not ProcessState.DEAD:
            process.kill()
            for viewer in self.viewers:
                viewer.killed(process)

    def alive_frontends(self) -> list[str]:
        return [n for n in FRONTENDS if self.processes[n].state is ProcessState.RUNNING]

    def view(self, topics: Sequence[Topic], *, tells_places: bool) -> None:
        viewer = Viewer(self, topics, tells_places=tells_places)
        self.viewers.append(viewer)
        viewer.connect(self.random.choice(FRONTENDS))

    def head(self, topic: Topic) -> Place:
        head: Place = result_of(self.store.history.heads([topic]))[topic]
        return head

    def publish(self, node: str, topic: Topic, times: int = 1) -> None:
        self._published += 1
        id = f"e{self._published}"
        drafts = [Draft(topic=topic, type="m", data=b"1", id=f"{id}-{n}") for n in range(times)]
        process: Process[Dispatcher] = self.processes[node]

        def accepted(published: Sequence[Published]) -> None:
            self.accepted += [(topic, each.event.id, self._emptied) for each in published]

        def begin() -> None:
            Deferred.fromCoroutine(process.role.publish(drafts)).addCallbacks(
                accepted, lambda failure: failure.trap(Unavailable)
            )

        process.take(begin)

    def empty_store(self) -> None:
        """Begin again, as a Redis without a file does."""
        self._emptied += 1
        self.store.empty()

    def pass_seconds(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        for _ in range(100_000):
            due = self._due_at()
            if due is None or due > end:
                break
            self._move_to(max(due, self.clock.seconds()))
        else:
            raise AssertionError("time does not pass")
        self._move_to(end)

    def calm_down(self) -> None:
        """Let all that hampers end."""
        self.network.clear()
        self.store.state = StoreState.PROMPT
        for node, process in list(self.processes.items()):
            process.resume(self.clock.seconds(), First.CALLS)
            if process.state is ProcessState.DEAD:
                self.start(node)
        for viewer in self.viewers:
            viewer.read(PLENTY)

    def _new_history(self) -> IHistory:
        return MemoryHistory(
            classes=HistoryClasses(HISTORY.topics),
            settings=HISTORY,
            clock=self.clock,
            now=self.clock.seconds,
        )

    def _build_frontend(self, process: Process[Frontend]) -> Frontend:
        return Frontend(
            settings=STREAMS,
            routing=Routing(),
            presence_settings=Presence(),
            latency=Latency(),
            history=HISTORY,
            public_topics=EVERYTHING.subscribe,
            identify=None,
            record=lambda _: None,
            node=process.node,
            max_connections=100,
            incarnation=process.incarnation,
            dispatchers=SimulatedDispatchers(
                process=process, nodes=DISPATCHERS, network=self.network
            ),
            presence=ScriptedPresenceClient(),
            new_backoff=new_backoff,
            clock=process.clock,
            now=process.clock.seconds,
            run_queue=process.run_queue,
            wheel=TimingWheel(clock=process.clock, tick_seconds=0.25),
        )

    def _build_dispatcher(self, process: Process[Dispatcher]) -> Dispatcher:
        return Dispatcher(
            routing_table=StoreConnection(store=self.store, process=process, swept=lambda _: None),
            history=HistoryConnection(store=self.store, process=process),
            history_settings=HISTORY,
            revocations=MemoryRevocationStore(max_revocations=10, now=process.clock.seconds),
            frontends=SimulatedFrontends(
                process=process, network=self.network, delivered=lambda *_: None
            ),
            settings=LINKS,
            read_peers_seconds=5,
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


SOMEONE = st.integers(0, 5)
PAUSES = st.sampled_from([0.0, 0.0005, 0.001, 0.0015, 0.01, 0.1, 0.15, 0.5, 1.0, 3.0, 6.0])


class HistoryMachine(RuleBasedStateMachine):
    """Lets anything happen at any time."""

    cluster: HistoryCluster

    def __init__(self) -> None:
        super().__init__()
        self.log = ErrorLog()
        globalLogPublisher.addObserver(self.log)

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        self.cluster = HistoryCluster(seed)
        self.cluster.pass_seconds(1)
        self.cluster.view(TOPICS[:1], tells_places=False)
        self.cluster.view(TOPICS, tells_places=False)
        self.cluster.view(TOPICS, tells_places=True)
        self.cluster.pass_seconds(1)

    @rule(topics=st.sampled_from([TOPICS, TOPICS[:1], TOPICS[1:]]), tells_places=st.booleans())
    def view(self, topics: Sequence[Topic], tells_places: bool) -> None:
        if len(self.cluster.viewers) < 6:
            self.cluster.view(topics, tells_places=tells_places)

    @rule(number=SOMEONE, room=st.sampled_from([None, 0, 300, 1500, PLENTY]))
    def read_or_leave(self, number: int, room: int | None) -> None:
        viewer = self.cluster.viewers[number % len(self.cluster.viewers)]
        viewer.leave() if room is None else viewer.read(room)

    @rule(
        node=st.sampled_from(DISPATCHERS),
        topics=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=4),
        times=st.integers(1, 5),
        seconds=PAUSES,
    )
    def publish(self, node: str, topics: list[Topic], times: int, seconds: float) -> None:
        for topic in topics:
            self.cluster.publish(node, topic, times)
        self.cluster.pass_seconds(seconds)

    @rule(topic=st.sampled_from(TOPICS), times=st.integers(1, 3), seconds=PAUSES)
    def publish_at_both(self, topic: Topic, times: int, seconds: float) -> None:
        for _ in range(times):
            for node in DISPATCHERS:
                self.cluster.publish(node, topic)
        self.cluster.pass_seconds(seconds)

    @rule(seconds=PAUSES)
    def pass_seconds(self, seconds: float) -> None:
        self.cluster.pass_seconds(seconds)

    @rule(node=st.sampled_from([*FRONTENDS, *DISPATCHERS]))
    def restart(self, node: str) -> None:
        self.cluster.start(node)

    @rule(node=st.sampled_from([*FRONTENDS, *DISPATCHERS]))
    def kill(self, node: str) -> None:
        self.cluster.kill(node)

    @rule(node=st.sampled_from([*FRONTENDS, *DISPATCHERS]), first=st.sampled_from(First))
    def pause_or_go_on(self, node: str, first: First) -> None:
        process = self.cluster.processes[node]
        if process.state is ProcessState.RUNNING:
            process.pause()
        else:
            process.resume(self.cluster.clock.seconds(), first)

    @rule(state=st.sampled_from([None, *StoreState]))
    def change_store(self, state: StoreState | None) -> None:
        if state is None:
            self.cluster.empty_store()
        else:
            self.cluster.store.state = state

    @rule(node=st.sampled_from(FRONTENDS), weather=st.sampled_from(Weather))
    def change_weather(self, node: str, weather: Weather) -> None:
        for dispatcher in DISPATCHERS:
            self.cluster.network.change(node, dispatcher, weather)
            self.cluster.network.change(dispatcher, node, weather)

    @rule()
    def clear_weather(self) -> None:
        self.cluster.network.clear()

    @invariant()
    def nothing_is_wrong(self) -> None:
        for viewer in self.cluster.viewers:
            viewer.note()
        assert not self.cluster.complaints, self.cluster.complaints
        assert not self.log.errors, self.log.errors[0]

    def teardown(self) -> None:
        globalLogPublisher.removeObserver(self.log)
        if sys.exc_info()[0] is None and hasattr(self, "cluster"):
            self.check_end()

    def check_end(self) -> None:
        """In fine weather, every viewer gets everything."""
        cluster = self.cluster
        cluster.calm_down()
        cluster.pass_seconds(REPEATED_SECONDS)
        for viewer in cluster.viewers:
            viewer.read(PLENTY)
        cluster.pass_seconds(10)
        self.nothing_is_wrong()
        for topic, log in self.logs():
            # Nothing has to come after it to make it come.
            head = cluster.head(topic)
            if log.last is not None and log.last.tag == head.tag and log.lost is None:
                assert log.last == head, (topic, log.last, head)
        for topic, node in product(TOPICS, DISPATCHERS):
            cluster.publish(node, topic)
        cluster.pass_seconds(10)
        self.nothing_is_wrong()
        for topic, log in self.logs():
            assert log.last == cluster.head(topic), (topic, log.last, cluster.head(topic))

    def logs(self) -> Iterator[tuple[Topic, Log]]:
        for viewer in self.cluster.viewers:
            yield from viewer.logs.items()


class HistoryClusterTests(SynchronousTestCase):
    def test_each_viewer_gets_what_is_stored_and_is_told_of_what_is_missing(self) -> None:
        run_state_machine_as_test(
            HistoryMachine,
            settings=settings(deadline=None, max_examples=100, stateful_step_count=40),
        )
