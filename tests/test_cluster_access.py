"""Whatever happens on the way, no stream is sent what its viewer may not watch."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import (
    Deliveries,
    Forwards,
    History,
    Latency,
    Presence,
    Routing,
    Viewers,
)
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.dispatcher.peers import Peers
from rtdeliver.dispatcher.tracking import Tracking
from rtdeliver.errors import Refusal, Unavailable
from rtdeliver.frontend.chunked import contents
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.grants import NOTHING, grants, patterns
from rtdeliver.interfaces import IStreamOwner
from rtdeliver.messages import Bookmark, Revocations, TopicsChange
from rtdeliver.model import (
    ConnectionId,
    Item,
    Member,
    MemberTopics,
    Revocation,
    Topic,
)
from rtdeliver.revocations.memory import MemoryRevocationStore
from rtdeliver.tokens import Identity, TokenKey, TokenRevoked
from rtdeliver.wheel import TimingWheel
from rtdeliver.wire import Draft
from tests.cluster import (
    BrowserStream,
    First,
    Network,
    Process,
    SimulatedDispatchers,
    SimulatedFrontends,
    Store,
    StoreConnection,
    Weather,
)
from tests.fakes import ScriptedPresenceClient, new_backoff

KEY = TokenKey(b"k" * 32)
FRONTENDS, DISPATCHERS = ("n1", "n2"), ("d1", "d2")
PUBLIC = ("live:*",)
TOPICS = [Topic(name) for name in ("live:a", "conv:a", "conv:ab", "secret")]
MEMBERS = [Member("ann"), Member("bob"), None]
GRANTS: list[tuple[str, ...]] = [(), ("conv:*",), ("conv:a",), ("*b",), ("*",)]
CALM_SECONDS = 60


def matches(pattern: str, text: str) -> bool:
    """Whether ``pattern`` matches, by its definition."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return matches(pattern[1:], text) or (bool(text) and matches(pattern, text[1:]))
    return bool(text) and pattern[0] == text[0] and matches(pattern[1:], text[1:])


class Watcher:
    """A viewer, and what it may watch by what its frontend has been told.

    :ivar ended: whether its frontend was told to end its stream.
    """

    def __init__(self, world: "World", process: Process[Frontend], identity: Identity) -> None:
        self.world = world
        self.process = process
        self.identity = identity
        self.given: set[Topic] = set()
        self.ended = False
        self.gone = False
        self.id: ConnectionId | None = None
        self.stream: BrowserStream | None = None

    def connect(self, topics: Sequence[Topic]) -> None:
        permissions = self.process.role.permissions
        try:
            identity = permissions.identify(KEY.sign(self.identity))
        except TokenRevoked:
            self.gone = True
            return
        if isinstance(identity, Deferred):
            identity.addCallbacks(
                lambda found: self._connect(topics, found), lambda _: self._leave()
            )
        else:
            self._connect(topics, identity)

    def _leave(self) -> None:
        self.gone = True

    def _connect(self, topics: Sequence[Topic], identity: Identity) -> None:
        try:
            self.process.role.connect(
                topics, identity=identity, head=lambda: b"H\r\n\r\n", attach=self._attach
            )
        except Refusal:
            self.gone = True

    def _attach(self, owner: IStreamOwner) -> None:
        self.stream = BrowserStream(
            owner,
            process=self.process,
            offered=self._note,
            ended=self._leave,
            complain=self.world.complaints.append,
        )
        owner.attached(self.stream)

    def _note(self, data: bytes) -> None:
        if data.startswith(b"H"):
            data = data.partition(b"\r\n\r\n")[2]
        for block in contents(data).split(b"\n\n"):
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
            if b"data" not in fields:
                continue
            told: Any = json.loads(fields[b"data"])
            if fields.get(b"event") == b"connected":
                self.id = told["connection"]
            if fields.get(b"event") in (b"disconnected", b"expired"):
                self.gone = True
            if b"event" not in fields:
                self.world.sent += 1
                self._check(Topic(told["topic"]))

    def _check(self, topic: Topic) -> None:
        allowed = (*PUBLIC, *self.identity.grants.subscribe.texts)
        if self.ended:
            self.world.complaints.append(f"{topic} was sent after the end")
        if topic not in self.given and not any(matches(text, topic) for text in allowed):
            self.world.complaints.append(f"{topic} was sent, and {allowed} does not cover it")

    # What is asked.

    def subscribe(self, topics: Sequence[Topic]) -> None:
        if self.id is not None and not self.gone:
            change = TopicsChange(add=tuple(topics), remove=())
            self.process.role.subscribe(self.id, change).addErrback(lambda _: None)

    def refresh(self, identity: Identity) -> None:
        if self.id is None or self.gone:
            return
        failures: list[Failure] = []
        self.process.role.refresh(self.id, KEY.sign(identity)).addErrback(failures.append)
        if failures:
            failures[0].trap(Refusal)
            return
        if identity.member != self.identity.member:
            self.world.complaints.append("a token of another member was taken")
        self.identity = identity

    def hear(self, item: Item) -> None:
        """Note what its frontend is told."""
        if isinstance(item, Revocation) and self._is_meant(item):
            self.ended = True
        elif isinstance(item, MemberTopics) and item.member == self.identity.member:
            self.given.difference_update(item.remove)
            self.given.update(item.add)

    def _is_meant(self, item: Revocation) -> bool:
        if item.kind == "connection":
            return item.name == self.id
        if item.kind == "token":
            return item.name == self.identity.token_id
        issued_at = self.identity.issued_at
        assert issued_at is not None
        return item.name == self.identity.member and int(issued_at) * 1000 <= item.at


class World:
    """Two dispatchers, two frontends, and what they share."""

    def __init__(self, seed: int) -> None:
        self.complaints: list[str] = []
        self.sent = 0
        self.clock = Clock()
        self.clock.rightNow = 1_795_417_956.0
        self.store = Store(self.clock)
        self.revocations = MemoryRevocationStore(max_revocations=1000, now=self.clock.seconds)
        self.processes: dict[str, Process[Any]] = {}
        self.network = Network(clock=self.clock, processes=self.processes, seed=random.Random(seed))
        self.watchers: list[Watcher] = []
        self._numbers = Counter[str]()
        now = self.clock.seconds()
        for node in DISPATCHERS:
            hub: Process[Dispatcher] = Process(
                node=node, incarnation=node, now=now, build=self._build_dispatcher
            )
            self.processes[node] = hub
            hub.role.start()
        for node in FRONTENDS:
            process: Process[Frontend] = Process(
                node=node, incarnation=node, now=now, build=self._build_frontend
            )
            self.processes[node] = process
            process.role.start(f"http://{node}:8081")
        self.pass_seconds(1)

    def _build_frontend(self, process: Process[Frontend]) -> Frontend:
        return Frontend(
            settings=Viewers(topics_per_connection=5),
            routing=Routing(lease_seconds=5, announce_seconds=1),
            presence_settings=Presence(batch_members=10),
            latency=Latency(),
            history=History(),
            public_topics=patterns(PUBLIC),
            identify=lambda token: KEY.check(token, now=self.clock.seconds()),
            record=lambda _: None,
            node=process.node,
            max_connections=100,
            incarnation=process.incarnation,
            dispatchers=_Listening(self, process=process, nodes=DISPATCHERS, network=self.network),
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
            history=None,
            history_settings=History(),
            revocations=self.revocations,
            frontends=SimulatedFrontends(
                process=process,
                network=self.network,
                delivered=lambda frontend, batch: self.hear(frontend.node, batch),
            ),
            settings=Deliveries(),
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

    def hear(self, node: str, items: Sequence[Item]) -> None:
        """Note what a frontend is about to be told. Events of the same batch go first."""
        for watcher in self.watchers:
            if watcher.process.node == node:
                for item in items:
                    watcher.hear(item)

    def identity(self, member: Member | None, allowed: tuple[str, ...], number: int) -> Identity:
        return Identity(
            member,
            expires_at=self.clock.seconds() + 3600,
            grants=grants(patterns(allowed), NOTHING.publish),
            issued_at=self.clock.seconds(),
            token_id=f"t{number}",
        )

    def watcher(self, number: int) -> Watcher | None:
        return self.watchers[number % len(self.watchers)] if self.watchers else None

    # What happens.

    def act(self, step: Sequence[Any]) -> None:
        name, *arguments = step
        getattr(self, f"_{name}")(*arguments)

    def _connect(self, node: str, member: Any, allowed: Any, token: int, topics: Any) -> None:
        process = self.processes[node]
        watcher = Watcher(self, process, self.identity(member, allowed, token))
        self.watchers.append(watcher)
        process.take(lambda: watcher.connect(topics))

    def _subscribe(self, who: int, topics: Sequence[Topic]) -> None:
        watcher = self.watcher(who)
        if watcher is not None:
            watcher.process.take(lambda: watcher.subscribe(topics))

    def _refresh(self, who: int, member: Any, allowed: Any, token: int) -> None:
        watcher = self.watcher(who)
        if watcher is not None:
            identity = self.identity(member, allowed, token)
            watcher.process.take(lambda: watcher.refresh(identity))

    def _revoke(self, node: str, kind: Any, who: int) -> None:
        names = {"member": MEMBERS[who % 2], "token": f"t{who % 4}"}
        watcher = self.watcher(who)
        name = names.get(kind) or (watcher and watcher.id)
        if name:
            at = int(self.clock.seconds() * 1000)
            order = Revocation(kind=kind, name=name, at=at, until=at + 3_600_000)
            self._call(node, lambda hub: hub.control(order))

    def _give(self, node: str, who: int, add: Sequence[Topic], remove: Sequence[Topic]) -> None:
        member = MEMBERS[who % 2]
        assert member is not None
        change = MemberTopics(member=member, add=tuple(add), remove=tuple(remove))
        self._call(node, lambda hub: hub.control(change))

    def _publish(self, node: str, topic: Topic) -> None:
        self._numbers[node] += 1
        draft = Draft(topic=topic, type="like", data=b"1", id=f"{node}-{self._numbers[node]}")
        self._call(node, lambda hub: hub.publish([draft]))

    def _call(self, node: str, call: Any) -> None:
        process = self.processes[node]

        def start() -> None:
            called = Deferred.fromCoroutine(call(process.role))
            called.addErrback(lambda failure: failure.trap(Unavailable))

        process.take(start)

    def _weather(self, caller: str, callee: str, weather: Weather) -> None:
        self.network.change(caller, callee, weather)

    def _pause(self, node: str) -> None:
        self.processes[node].pause()

    def _resume(self, node: str, first: First) -> None:
        self.processes[node].resume(self.clock.seconds(), first)

    def pass_seconds(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        while (due := self._due_at()) is not None and due <= end:
            self._move_to(max(due, self.clock.seconds()))
        self._move_to(end)

    def calm_down(self) -> None:
        self.network.clear()
        for process in self.processes.values():
            process.resume(self.clock.seconds(), First.CALLS)
        self.pass_seconds(CALM_SECONDS)

    def _due_at(self) -> float | None:
        due = [process.due_at() for process in self.processes.values()]
        if self.clock.calls:
            due.append(self.clock.calls[0].getTime())
        return min((at for at in due if at is not None), default=None)

    def _move_to(self, now: float) -> None:
        self.clock.rightNow = now
        self.clock.advance(0)
        for process in self.processes.values():
            process.move_to(now)


class _Listening(SimulatedDispatchers):
    """Also tells the world what a frontend reads of revocations."""

    def __init__(self, world: World, **options: Any) -> None:
        super().__init__(**options)
        self._world = world

    def revocations(self, after: Bookmark) -> Deferred[Revocations]:
        def hear(page: Revocations) -> Revocations:
            self._world.hear(self._process.node, page.revocations)
            return page

        return super().revocations(after).addCallback(hear)


NODES = st.sampled_from([*FRONTENDS, *DISPATCHERS])
HUBS = st.sampled_from(DISPATCHERS)
PLACES = st.sampled_from(FRONTENDS)
SOME = st.lists(st.sampled_from(TOPICS), max_size=3, unique=True)
WHO = st.integers(0, 7)
TOKEN = st.integers(0, 3)
STEPS = st.one_of(
    st.tuples(
        st.just("connect"), PLACES, st.sampled_from(MEMBERS), st.sampled_from(GRANTS), TOKEN, SOME
    ),
    st.tuples(st.just("subscribe"), WHO, SOME),
    st.tuples(st.just("refresh"), WHO, st.sampled_from(MEMBERS), st.sampled_from(GRANTS), TOKEN),
    st.tuples(st.just("revoke"), HUBS, st.sampled_from(["member", "token", "connection"]), WHO),
    st.tuples(st.just("give"), HUBS, WHO, SOME, SOME),
    *[st.tuples(st.just("publish"), HUBS, st.sampled_from(TOPICS))] * 3,
    st.tuples(st.just("weather"), HUBS, PLACES, st.sampled_from(Weather)),
    st.tuples(st.just("pause"), NODES),
    st.tuples(st.just("resume"), NODES, st.sampled_from(First)),
)
PAUSES = st.sampled_from([0, 0, 0.002, 0.3, 2, 8])


class AccessDecisionsTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.tuples(STEPS, PAUSES), min_size=15, max_size=50), st.integers(0, 99))
    def test_no_event_is_sent_that_the_grants_of_the_moment_do_not_cover(
        self, steps: list[tuple[Any, float]], seed: int
    ) -> None:
        world = World(seed)
        for step, seconds in steps:
            world.act(step)
            world.pass_seconds(seconds)
        world.calm_down()
        for topic in TOPICS:
            world.act(("publish", "d1", topic))
        world.pass_seconds(5)
        self.assertEqual([], world.complaints)
        for watcher in world.watchers:
            self.assertTrue(
                watcher.gone or not self._is_revoked(world, watcher), "a revoked stream goes on"
            )

    def _is_revoked(self, world: World, watcher: Watcher) -> bool:
        page = self.successResultOf(world.revocations.after(Bookmark()))
        return any(watcher._is_meant(item) for item in page.revocations)

    def test_the_world_sends_what_is_granted(self) -> None:
        """Without this, the other test would pass where nothing is sent."""
        world = World(1)
        world.act(("connect", "n1", MEMBERS[0], ("conv:*",), 0, [TOPICS[1]]))
        world.act(("connect", "n2", MEMBERS[1], (), 1, [TOPICS[0]]))
        world.pass_seconds(1)
        for topic in TOPICS:
            world.act(("publish", "d2", topic))
        world.pass_seconds(1)
        self.assertEqual((2, []), (world.sent, world.complaints))
        world.act(("refresh", 0, MEMBERS[0], (), 0))
        world.act(("give", "d1", 1, [TOPICS[3]], []))
        world.pass_seconds(1)
        for topic in TOPICS:
            world.act(("publish", "d2", topic))
        world.pass_seconds(1)
        self.assertEqual((4, []), (world.sent, world.complaints))
        world.act(("revoke", "d1", "member", 1))
        world.pass_seconds(1)
        self.assertEqual([False, True], [watcher.gone for watcher in world.watchers])

    def test_the_world_complains(self) -> None:
        world = World(1)
        world.act(("connect", "n1", MEMBERS[0], ("conv:*",), 0, [TOPICS[1]]))
        world.pass_seconds(1)
        [watcher] = world.watchers
        watcher.identity = world.identity(MEMBERS[0], (), 0)
        world.act(("publish", "d1", TOPICS[1]))
        world.pass_seconds(1)
        self.assertEqual(1, len(world.complaints))
