"""Tests of rtdeliver.dispatcher.peers, alone and between datacenters in memory."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.error import ConnectError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from twisted.web.resource import IResource
from twisted.web.server import Request
from zope.interface import implementer

from rtdeliver.actor import RunQueue
from rtdeliver.config.sections import Forwards, Publishing
from rtdeliver.dispatcher.client import HttpPeerClient
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.dispatcher.peers import Peers
from rtdeliver.dispatcher.routes import dispatcher_posts
from rtdeliver.errors import AnsweredNo, AnswerLost, Unreachable
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.http.routes import add_posts, new_app
from rtdeliver.interfaces import IFrontendClient, IPeerClient
from rtdeliver.messages import Bookmark, Revocations, TopicMembers
from rtdeliver.model import Event, FrontendRef, Gap, Item, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.wire import Draft
from tests.contracts.frontend_client import FrontendClientContract
from tests.fakes import (
    MemoryAgent,
    ScriptedPeerClient,
    TableDispatcherClient,
    Viewer,
    new_backoff,
    new_client,
    new_dispatcher,
    new_event,
    new_failover,
    new_frontend,
    new_producers,
)

RED, GREEN = Topic("live:red"), Topic("live:green")
LIMITS = Publishing(event_bytes=1000, batch_events=100, batch_bytes=10_000)


def ids(batch: Sequence[Item]) -> list[str | tuple[Topic, int]]:
    """The ids of events, and what gaps tell."""
    assert all(isinstance(item, Event | Gap) for item in batch)
    return [
        item.id if isinstance(item, Event) else (item.topic, item.lost)
        for item in batch
        if isinstance(item, Event | Gap)
    ]


@implementer(IPeerClient)
class RaisingPeerClient:
    """Breaks the promise that whatever goes wrong is in the Deferred."""

    def forward(self, batch: Sequence[Item]) -> Deferred[None]:
        raise ZeroDivisionError

    def revocations(self, after: Bookmark) -> Deferred[Revocations]:
        raise ZeroDivisionError


class PeersTests(SynchronousTestCase):
    """The ways to two peers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.dc2, self.dc3 = ScriptedPeerClient(), ScriptedPeerClient()
        self.peers = self.new_peers({"dc2": self.dc2, "dc3": self.dc3})

    def new_peers(self, clients: Mapping[str, IPeerClient], mailbox_events: int = 100) -> Peers:
        return Peers(
            clients=clients,
            settings=Forwards(mailbox_events=mailbox_events),
            clock=self.clock,
            run_queue=RunQueue(clock=self.clock, slice_seconds=1),
            new_backoff=new_backoff,
        )

    def post(self, *numbers: int, topic: Topic = RED) -> None:
        for number in numbers:
            self.peers.post(new_event(str(number), topic))

    def forwarded(self, client: ScriptedPeerClient) -> list[list[str | tuple[Topic, int]]]:
        self.clock.advance(0)
        return [ids(batch) for batch in client.forwards]

    def samples(self) -> dict[str, float]:
        return {
            ".".join([sample.name, *sample.labels.values()]): sample.value
            for sample in self.peers.samples()
            if sample.value
        }

    def test_every_event_goes_to_every_peer_in_order(self) -> None:
        self.post(1, 2)
        self.post(3, topic=GREEN)
        for client in (self.dc2, self.dc3):
            self.assertEqual([["1", "2", "3"]], self.forwarded(client))

    def test_nothing_is_forwarded_before_the_next_turn(self) -> None:
        self.post(1)
        self.assertEqual([], self.dc2.forwards)

    def test_a_peer_that_is_away_holds_up_no_other(self) -> None:
        self.dc3.answer_at_once = True
        self.post(1)
        self.forwarded(self.dc2)
        self.dc2.answers.pop().errback(Unreachable("refused"))
        self.post(2)
        self.assertEqual([["1"], ["2"]], self.forwarded(self.dc3))
        self.assertEqual([["1"]], self.forwarded(self.dc2))
        self.clock.advance(0.1)
        self.assertEqual([["1"], ["1"]], self.forwarded(self.dc2))
        self.dc2.answers.pop().callback(None)
        self.assertEqual([["1"], ["1"], ["2"]], self.forwarded(self.dc2))

    def test_a_full_mailbox_drops_its_oldest_which_the_peer_is_told(self) -> None:
        self.peers = self.new_peers({"dc2": self.dc2}, mailbox_events=3)
        self.post(1)
        self.forwarded(self.dc2)
        self.post(2, 3, topic=GREEN)
        self.post(4, 5, 6)
        self.assertEqual(4, self.peers.waiting_events)
        self.dc2.answers.pop().callback(None)
        self.assertEqual([["1"], [(GREEN, 2), "4", "5", "6"]], self.forwarded(self.dc2))
        self.assertEqual(2, self.samples()["dropped.dispatcher.peer_full"])

    def test_closing_drops_what_waits_and_what_comes_later(self) -> None:
        self.post(1, 2)
        self.peers.close()
        self.post(3)
        self.assertEqual([], self.forwarded(self.dc2))
        self.assertEqual({"dropped.dispatcher.peer_closed": 6}, self.samples())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_turn_that_fails_ends_one_link_and_the_next_event_begins_another(self) -> None:
        self.peers = self.new_peers({"broken": RaisingPeerClient(), "dc3": self.dc3})
        self.dc3.answer_at_once = True
        for number in (1, 2):
            self.post(number)
            self.clock.advance(0)
        self.assertEqual([["1"], ["2"]], self.forwarded(self.dc3))
        self.assertEqual(2, self.samples()["dropped.dispatcher.peer_failed"])
        self.assertEqual(0, self.peers.waiting_events)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_all_is_told_to_operators(self) -> None:
        self.post(1, 2)
        self.clock.advance(0)
        self.dc3.answers.pop().callback(None)
        self.dc2.answers.pop().errback(AnswerLost("no answer came"))
        self.clock.advance(0)
        size = new_event("1", RED).size
        self.assertEqual(
            {
                "forwarded.dc3": 2,
                "forwards.dc2": 2,
                "forwards.dc3": 1,
                "forwards_repeated.dc2": 1,
                "mailbox_events.peer": 2,
                "mailbox_bytes.peer": 2 * size,
            },
            self.samples(),
        )
        self.dc2.answers.pop().errback(AnsweredNo(500, "internal_error"))
        self.assertEqual(2, self.samples()["dropped.dispatcher.peer_refused"])

    def test_a_reason_is_told_also_while_nothing_was_dropped(self) -> None:
        told = {
            sample.labels["reason"] for sample in self.peers.samples() if "reason" in sample.labels
        }
        self.assertEqual(
            {"peer_full", "peer_answer_lost", "peer_refused", "peer_closed", "peer_failed"}, told
        )


@implementer(IFrontendClient)
class OneFrontendClient:
    """Delivers to the one frontend that there is, with no wire between."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend

    def deliver(self, frontend: FrontendRef, batch: Sequence[Item]) -> Deferred[None]:
        def take() -> None:
            self._frontend.check_incarnation(frontend.incarnation)
            self._frontend.deliver(batch)

        return execute(take)

    def members(
        self, frontend: FrontendRef, topic: Topic, after: str, limit: int
    ) -> Deferred[TopicMembers]:
        return execute(self._frontend.members, topic, after, limit)


class OneFrontendClientTests(FrontendClientContract, SynchronousTestCase):
    implementation = OneFrontendClient

    def make_client(self, frontend: Frontend) -> IFrontendClient:
        return OneFrontendClient(frontend)


_REQUESTS = 300
OUTCOMES: dict[str, tuple[bool, Exception | None]] = {
    "answered": (True, None),
    "refused": (False, ConnectError()),
    "lost on the way": (False, ResponseNeverReceived([])),
    "lost on the way back": (True, ResponseNeverReceived([])),
}


@implementer(IAgent)
class LossyAgent:
    """Passes requests on, or loses them or their answers.

    :param outcome: called with the URL of each request; one of `OUTCOMES`.
    """

    def __init__(self, inner: MemoryAgent, outcome: Callable[[str], str]) -> None:
        self._inner = inner
        self._outcome = outcome
        self._requests = 0

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        # Where events went round and round, the test should fail and not go on for ever.
        outcome = self._outcome(uri.decode()) if self._requests < _REQUESTS else "refused"
        self._requests += 1
        arrives, error = OUTCOMES[outcome]
        if arrives:
            answer = self._inner.request(method, uri, headers, bodyProducer)
            return answer if error is None else answer.addCallback(lambda _: Failure(error))
        return fail(error)


class Datacenter:
    """Two dispatchers with one routing table, and one frontend."""

    def __init__(self, number: int, numbers: Sequence[int], agent: IAgent, clock: Clock) -> None:
        routing_table = MemoryRoutingTable(clock=clock)
        self.frontend = new_frontend(
            clock, TableDispatcherClient(routing_table), mailbox_events=10_000
        )
        self.frontend.start("http://10.0.0.5:8081")
        self.dispatchers = [
            new_dispatcher(
                clock,
                routing_table,
                OneFrontendClient(self.frontend),
                {
                    f"dc{peer}": HttpPeerClient(
                        dispatchers=new_failover(
                            *(f"http://dc{peer}.{place}:8090" for place in (0, 1)), clock=clock
                        ),
                        client=new_client(agent, clock),
                        reader=new_client(agent, clock),
                    )
                    for peer in numbers
                    if peer != number
                },
            )
            for _ in (0, 1)
        ]

    def dropped(self) -> float:
        """Events that its dispatchers lost, on the way to peers or to the frontend."""
        return sum(
            sample.value
            for dispatcher in self.dispatchers
            for sample in dispatcher.samples()
            if sample.name == "dropped"
        )


def routes_of(dispatcher: Dispatcher) -> IResource:
    app = new_app()
    add_posts(app, dispatcher_posts(dispatcher, new_producers(), LIMITS))
    resource: IResource = app.resource()
    return resource


class World:
    """Datacenters of which every one peers with every other, each with a viewer of RED."""

    def __init__(self, outcome: Callable[[str], str] = lambda _: "answered") -> None:
        self.clock = Clock()
        self.agent = MemoryAgent({})
        lossy = LossyAgent(self.agent, outcome)
        numbers = (1, 2, 3)
        self.datacenters = [Datacenter(number, numbers, lossy, self.clock) for number in numbers]
        for number, datacenter in zip(numbers, self.datacenters, strict=True):
            for place, dispatcher in enumerate(datacenter.dispatchers):
                self.agent.hosts[f"dc{number}.{place}:8090"] = routes_of(dispatcher)
        self.viewers = [Viewer(dc.frontend, self.clock, RED) for dc in self.datacenters]
        self.clock.advance(0)
        self._numbers = itertools.count()

    def publish(self, datacenter: int, dispatcher: int = 0, topic: Topic = RED) -> str:
        """Publish one event, and return its id."""
        id = str(next(self._numbers))
        draft = Draft(topic=topic, type="like", data=b"1", id=id)
        role = self.datacenters[datacenter].dispatchers[dispatcher]
        published = Deferred.fromCoroutine(role.publish([draft]))
        assert published.called
        return id

    def settle(self) -> None:
        """Let pass what it takes until nothing waits."""
        self.clock.pump([0.1] * 100)


class DatacentersTests(SynchronousTestCase):
    """Events cross from datacenter to datacenter once."""

    def test_an_event_reaches_every_viewer_once(self) -> None:
        world = World()
        published = [world.publish(n % 3, n % 2) for n in range(30)]
        world.settle()
        for viewer in world.viewers:
            self.assertEqual(sorted(published), sorted(viewer.ids))
        forwards = [url for url in world.agent.requests if url.endswith("/forward")]
        self.assertEqual(6 * 2, len(forwards))

    def test_the_events_of_a_dispatcher_come_in_order(self) -> None:
        world = World()
        for _ in range(20):
            published = [world.publish(0) for _ in range(5)]
            world.clock.advance(0)
            self.assertEqual(published, world.viewers[2].ids[-5:])

    def test_a_topic_without_viewers_costs_the_frontends_nothing(self) -> None:
        world = World()
        world.publish(0, topic=GREEN)
        world.settle()
        for viewer in world.viewers:
            self.assertEqual([], viewer.ids)

    def test_a_forward_whose_answer_was_lost_goes_to_the_next_and_is_seen_once(self) -> None:
        outcomes = iter(["lost on the way back", *["answered"] * 10])
        world = World(lambda _: next(outcomes))
        id = world.publish(0)
        world.settle()
        self.assertEqual(
            [f"http://dc2.{place}:8090/forward" for place in (0, 1)],
            [url for url in world.agent.requests if url.startswith("http://dc2")],
        )
        self.assertEqual([[id]] * 3, [viewer.ids for viewer in world.viewers])

    def test_a_peer_whose_first_dispatcher_is_dead_is_reached_by_the_next(self) -> None:
        world = World(lambda url: "refused" if "dc2.0" in url else "answered")
        published = [world.publish(0)]
        world.settle()
        published.append(world.publish(0))
        world.settle()
        self.assertEqual([published] * 3, [viewer.ids for viewer in world.viewers])
        self.assertEqual(0, world.datacenters[0].dropped())

    def test_what_was_dropped_on_the_way_is_told_to_the_viewers_there(self) -> None:
        outcome = "refused"
        world = World(lambda url: outcome if "dc2" in url else "answered")
        published = []
        for _ in range(12):
            published += [world.publish(0) for _ in range(100)]
            world.clock.advance(0)
        world.settle()
        self.assertEqual(published, world.viewers[2].ids)
        self.assertEqual([], world.viewers[1].ids)
        outcome = "answered"
        world.settle()
        received = world.viewers[1].ids
        self.assertEqual(published[-1], received[-1])
        dropped = sum(datacenter.dropped() for datacenter in world.datacenters)
        self.assertGreaterEqual(dropped, 100)
        self.assertEqual(len(published), len(received) + dropped)
        self.assertEqual(dropped, sum(gap["lost"] for gap in world.viewers[1].control("gap")))
        for viewer in (world.viewers[0], world.viewers[2]):
            self.assertEqual([], viewer.control("gap"))

    def test_a_peer_that_cannot_reach_its_table_is_asked_again(self) -> None:
        world = World()
        for place in (0, 1):
            world.agent.hosts[f"dc2.{place}:8090"] = _unavailable()
        id = world.publish(0)
        world.settle()
        self.assertEqual([], world.viewers[1].ids)
        world.agent.hosts["dc2.0:8090"] = routes_of(world.datacenters[1].dispatchers[0])
        world.settle()
        self.assertEqual([id], world.viewers[1].ids)
        self.assertEqual(0, world.datacenters[0].dropped())

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 2), st.integers(0, 1), st.integers(1, 5), st.sampled_from([0, 0.2])
            ),
            max_size=20,
        ),
        st.lists(st.sampled_from(sorted(OUTCOMES)), max_size=60),
    )
    def test_whatever_is_lost_an_event_comes_once_or_is_counted(
        self, steps: list[tuple[int, int, int, float]], outcomes: list[str]
    ) -> None:
        script: Iterator[str] = itertools.chain(outcomes, itertools.repeat("answered"))
        world = World(lambda _: next(script))
        published = 0
        for datacenter, dispatcher, events, seconds in steps:
            for _ in range(events):
                world.publish(datacenter, dispatcher)
                published += 1
            world.clock.advance(seconds)
        world.settle()
        missing = 0
        for viewer in world.viewers:
            self.assertEqual(len(set(viewer.ids)), len(viewer.ids))
            missing += published - len(viewer.ids)
        self.assertLessEqual(missing, sum(dc.dropped() for dc in world.datacenters))


def _unavailable() -> IResource:
    app = new_app()

    @app.route("/forward", methods=["POST"])
    def forward(request: Request) -> bytes:
        request.setResponseCode(503)
        return b'{"error":"unavailable","message":"the table is away"}'

    resource: IResource = app.resource()
    return resource
