"""Tests of rtdeliver.likes.platform, against a dispatcher's own routes in memory."""

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource

from rtdeliver.config.sections import Access, Presence, Publishing
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.dispatcher.routes import (
    add_control_routes,
    add_dispatcher_routes,
    add_watchers_routes,
    dispatcher_posts,
)
from rtdeliver.dispatcher.watchers import Watchers
from rtdeliver.errors import AnsweredNo, AnswerLost, RemoteFailure, Unreachable
from rtdeliver.http.failover import at_random
from rtdeliver.http.routes import add_posts, new_app
from rtdeliver.interfaces import IPlatform, IRoutingTable
from rtdeliver.likes.platform import HttpPlatform
from rtdeliver.model import Member, Topic
from rtdeliver.presence.presence import PresenceTracker
from rtdeliver.presence.routes import add_presence_routes
from tests.contracts.platform import DispatcherPlatformContract
from tests.dispatcher.test_client import Fixed, Silent
from tests.fakes import MemoryAgent, ScriptedFrontendClient, new_client, new_failover, new_producers

RED = Topic("live:red")
LIMITS = Publishing(event_bytes=10_000, batch_events=10, batch_bytes=100_000)
TIMEOUT_SECONDS = 5
SHUN_SECONDS = 10
# So often that what is drawn at random is drawn for sure.
MANY = 64


def good() -> Fixed:
    return Fixed(200, b'{"viewers":3}')


class HttpPlatformContractTests(DispatcherPlatformContract, SynchronousTestCase):
    """The contract, with a dispatcher's routes at the other end."""

    implementation = HttpPlatform

    def make_platform(
        self, dispatcher: Dispatcher, routing_table: IRoutingTable, presence: PresenceTracker
    ) -> IPlatform:
        app = new_app()
        add_posts(app, dispatcher_posts(dispatcher, new_producers(), LIMITS))
        add_dispatcher_routes(app, dispatcher, self.clock.seconds)
        add_control_routes(app, dispatcher, Access(), self.clock.seconds)
        watchers = Watchers(routing_table=routing_table, frontends=ScriptedFrontendClient())
        add_watchers_routes(app, dispatcher, watchers)
        add_presence_routes(app, presence, Presence(batch_members=10))
        return HttpPlatform(
            dispatchers=new_failover("http://d1:8090", clock=self.clock, order=at_random),
            client=new_client(MemoryAgent({"d1:8090": app.resource()}), self.clock),
            now=self.clock.seconds,
        )


class HttpPlatformTestCase(SynchronousTestCase):
    """Has a platform of some dispatchers, named d0 and so on."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_417_956)

    def use(self, *hosts: IResource | Exception, secret: str = "") -> None:
        self.agent = MemoryAgent({f"d{number}:8090": host for number, host in enumerate(hosts)})
        self.platform = HttpPlatform(
            dispatchers=new_failover(
                *(f"http://d{number}:8090/" for number in range(len(hosts))),
                clock=self.clock,
                order=at_random,
                avoid_seconds=SHUN_SECONDS,
            ),
            client=new_client(self.agent, self.clock, secret=secret),
            now=self.clock.seconds,
        )

    def publish(self) -> Deferred[None]:
        return self.platform.publish(RED, "like", {"likes": 3})

    def asked(self) -> list[str]:
        """The hosts that were asked since the last look."""
        hosts = [url.removeprefix("http://")[:2] for url in self.agent.requests]
        self.agent.requests.clear()
        return hosts

    def asked_by(self, answer: Deferred[Any]) -> list[str]:
        """The hosts that were asked for one answer, which was had."""
        self.successResultOf(answer)
        return self.asked()

    def shun(self, host: str) -> None:
        """Have all others answer until this one was asked, and failed."""
        while host not in self.asked_by(self.publish()):
            pass


class RequestTests(HttpPlatformTestCase):
    """What one dispatcher is asked."""

    def test_an_event_is_one_post_with_an_id(self) -> None:
        dispatcher = Fixed(202)
        self.use(dispatcher)
        self.successResultOf(self.publish())
        [request] = dispatcher.requests
        self.assertEqual((request.method, request.path), (b"POST", b"/publish"))
        self.assertEqual(request.getHeader("Content-Type"), "application/json")
        self.assertIsNone(request.getHeader("Authorization"))
        event = json.loads(dispatcher.bodies[0])
        self.assertTrue(event.pop("id").startswith("1795417956000-0-"))
        self.assertEqual(event, {"topic": "live:red", "type": "like", "data": {"likes": 3}})

    def test_the_secret_goes_with_it(self) -> None:
        dispatcher = good()
        self.use(dispatcher, secret="open sesame")
        self.successResultOf(self.publish())
        self.successResultOf(self.platform.viewers(RED))
        fields = [request.getHeader("Authorization") for request in dispatcher.requests]
        self.assertEqual(fields, ["Bearer open sesame"] * 2)

    def test_questions_are_asked_by_get(self) -> None:
        self.use(good())
        self.successResultOf(self.platform.viewers(RED))
        self.use(Fixed(200, b"[]"))
        self.successResultOf(self.platform.presence([Member("ann"), Member("bob")]))
        self.assertEqual(self.agent.requests, ["http://d0:8090/presence?member=ann&member=bob"])

    def test_an_answer_leaves_no_timer(self) -> None:
        self.use(good())
        self.successResultOf(self.publish())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ChoiceTests(HttpPlatformTestCase):
    """Which of several dispatchers is asked."""

    def test_each_event_goes_to_one_drawn_at_random(self) -> None:
        self.use(good(), good(), good())
        asked = [self.asked_by(self.publish()) for _ in range(MANY)]
        self.assertEqual({len(hosts) for hosts in asked}, {1})
        self.assertEqual({hosts[0] for hosts in asked}, {"d0", "d1", "d2"})

    def test_after_any_failure_another_one_is_asked(self) -> None:
        for failing in (
            ConnectError(),
            DNSLookupError(),
            OSError("broken"),
            Fixed(503, b'{"error":"unavailable"}'),
            Fixed(500),
            Fixed(200, b"x" * 100_000),
            Fixed(200, b"nonsense"),
            Fixed(200, b"[]"),
            Fixed(200),
        ):
            self.use(failing, good())
            ways = set()
            for _ in range(MANY):
                answer = self.platform.viewers(RED)
                self.assertEqual(self.successResultOf(answer), 3)
                ways.add(tuple(self.asked()))
                self.clock.advance(SHUN_SECONDS + 1)
            self.assertEqual(ways, {("d0", "d1"), ("d1",)})

    def test_one_that_is_silent_is_left_when_its_time_is_over(self) -> None:
        self.use(Silent(), Silent(), good())
        self.agent.hosts["d2:8090"] = Silent()
        answer = self.publish()
        for number in (1, 2):
            self.assertEqual(len(self.agent.requests), number)
            self.clock.advance(TIMEOUT_SECONDS - 0.1)
            self.assertEqual(len(self.agent.requests), number)
            self.clock.advance(0.1)
        self.assertNoResult(answer)
        self.assertEqual(sorted(self.asked()), ["d0", "d1", "d2"])
        self.clock.advance(TIMEOUT_SECONDS)
        self.failureResultOf(answer, AnswerLost)
        self.assertEqual((self.asked(), self.clock.getDelayedCalls()), ([], []))

    def test_an_event_has_the_same_id_in_each_attempt_and_another_one_the_next_time(self) -> None:
        dispatchers = [Fixed(503), Fixed(200, b"x" * 100_000), Fixed(500)]
        self.use(*dispatchers)
        for _ in range(2):
            self.failureResultOf(self.publish(), RemoteFailure)
        attempts = [[json.loads(body)["id"] for body in host.bodies] for host in dispatchers]
        self.assertEqual(attempts, [attempts[0]] * 3)
        self.assertEqual(len(set(attempts[0])), 2)

    def test_what_is_wrong_with_a_request_is_not_laid_at_the_door_of_dispatchers(self) -> None:
        for status in (400, 413):
            self.use(*[Fixed(status, b"{}") for _ in range(3)])
            failure = self.failureResultOf(self.publish(), AnsweredNo)
            self.assertEqual((failure.value.status, len(self.agent.requests)), (status, 1))

    def test_nobody_is_asked_about_no_member(self) -> None:
        self.use(good())
        self.assertEqual(self.successResultOf(self.platform.presence([])), [])
        self.assertEqual(self.agent.requests, [])

    def test_where_none_answers_each_is_asked_once_and_the_last_failure_is_told(self) -> None:
        self.use(ConnectError(), ConnectError(), ConnectError())
        self.failureResultOf(self.publish(), Unreachable)
        self.assertEqual(sorted(self.asked()), ["d0", "d1", "d2"])
        self.use(Fixed(503))
        failure = self.failureResultOf(self.publish(), AnsweredNo)
        self.assertEqual(failure.value.status, 503)

    def test_what_is_no_answer_to_the_question_is_a_failure_of_the_dispatcher(self) -> None:
        for body in (b"", b"{}", b"[1]", b'{"viewers":"many"}', b'{"member":"ann"}', b"\xff"):
            self.use(Fixed(200, body))
            self.failureResultOf(self.platform.viewers(RED), RemoteFailure)
            self.failureResultOf(self.platform.presence([Member("ann")]), RemoteFailure)


class ShunTests(HttpPlatformTestCase):
    """How one that has failed is asked after the others."""

    def setUp(self) -> None:
        super().setUp()
        self.use(ConnectError(), good(), good())
        self.shun("d0")
        self.agent.hosts["d0:8090"] = good()

    def test_it_is_not_asked_while_another_one_answers(self) -> None:
        self.clock.advance(SHUN_SECONDS - 0.1)
        asked = [self.asked_by(self.publish()) for _ in range(MANY)]
        self.assertEqual({tuple(hosts) for hosts in asked}, {("d1",), ("d2",)})

    def test_it_is_asked_last_where_no_other_answers(self) -> None:
        for host in ("d1", "d2"):
            self.agent.hosts[f"{host}:8090"] = Fixed(503)
        asked = self.asked_by(self.publish())
        self.assertEqual((len(asked), asked[-1]), (3, "d0"))

    def test_it_is_drawn_again_when_its_time_is_over(self) -> None:
        self.clock.advance(SHUN_SECONDS)
        asked = [self.asked_by(self.publish()) for _ in range(MANY)]
        self.assertEqual({tuple(hosts) for hosts in asked}, {("d0",), ("d1",), ("d2",)})

    def test_it_is_drawn_again_when_it_has_answered(self) -> None:
        for host in ("d1", "d2"):
            self.agent.hosts[f"{host}:8090"] = ConnectError()
        self.successResultOf(self.publish())
        self.asked()
        asked = [self.asked_by(self.publish()) for _ in range(MANY)]
        self.assertEqual({tuple(hosts) for hosts in asked}, {("d0",)})

    def test_questions_and_events_shun_alike(self) -> None:
        asked = [self.asked_by(self.platform.viewers(RED)) for _ in range(MANY)]
        self.assertEqual({tuple(hosts) for hosts in asked}, {("d1",), ("d2",)})


class LogTests(HttpPlatformTestCase):
    def failures_logged(self, times: int) -> int:
        """How many lines the log has of so many events in a row that nobody took."""
        with capturedLogs() as lines:
            for _ in range(times):
                self.failureResultOf(self.publish(), Unreachable)
        return len([line for line in lines if line.get("url") == "http://d0:8090"])

    def test_one_that_fails_is_told_of_once_while_it_is_shunned(self) -> None:
        self.use(ConnectError())
        self.assertEqual(self.failures_logged(5), 1)
        self.assertEqual(self.failures_logged(5), 0)
        self.clock.advance(SHUN_SECONDS + 1)
        self.assertEqual(self.failures_logged(5), 1)
