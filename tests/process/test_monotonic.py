"""Tests of rtdeliver.process.monotonic, with the reactor of Twisted that the roles run in.

A Twisted that reads the time in another way fails here first.
"""

import time

from twisted.internet.base import ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReactorTime
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock, LoopingCall
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from zope.interface.verify import verifyObject

from rtdeliver.config.sections import Http
from rtdeliver.http.intake import Intake
from rtdeliver.http.site import BoundedSite
from rtdeliver.process.monotonic import measure_monotonic_time


class MeasureMonotonicTimeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(7)
        self.called: list[float] = []

    def new_reactor(self, kind: type[ReactorBase] = EPollReactor) -> ReactorBase:
        """Return a reactor on ``clock`` that does not run; a test moves it on with `advance`."""
        reactor = kind()
        self.addCleanup(reactor.disconnectAll)
        measure_monotonic_time(reactor, self.clock.seconds)
        return reactor

    def advance(self, reactor: ReactorBase, seconds: float) -> None:
        self.clock.advance(seconds)
        reactor.runUntilCurrent()

    def note(self) -> None:
        self.called.append(self.clock.seconds())

    def test_all_that_a_reactor_does_with_time_is_by_the_given_clock(self) -> None:
        for kind in (EPollReactor, SelectReactor):
            with self.subTest(kind.__name__):
                self.called.clear()
                reactor = self.new_reactor(kind)
                begin = self.clock.seconds()
                call = reactor.callLater(10, self.note)
                self.assertEqual(call.getTime(), begin + 10)
                self.assertEqual(reactor.timeout(), 10)
                self.advance(reactor, 4)
                self.assertEqual((reactor.timeout(), reactor.seconds()), (6, begin + 4))
                call.reset(10)
                self.advance(reactor, 9)
                self.assertEqual((self.called, reactor.timeout()), ([], 1))
                call.reset(0.5)
                self.assertEqual(reactor.timeout(), 0.5)
                self.advance(reactor, 0.5)
                self.assertEqual(self.called, [begin + 13.5])
                self.assertIsNone(reactor.timeout())
                self.assertTrue(verifyObject(IReactorTime, reactor))

    def test_looping_calls_follow_it(self) -> None:
        reactor = self.new_reactor()
        loop = LoopingCall(self.note)
        loop.clock = reactor
        loop.start(2, now=False)
        for _ in range(6):
            self.advance(reactor, 1)
        loop.stop()
        self.assertEqual(self.called, [9, 11, 13])

    def test_the_time_limits_of_the_http_server_follow_it(self) -> None:
        reactor = self.new_reactor()
        site = BoundedSite(
            Resource(),
            body_bytes=1,
            idle_seconds=60,
            intake=Intake(Http(), listeners="public"),
            reactor=reactor,
        )
        site.buildProtocol(None).callLater(60, self.note)
        self.advance(reactor, 59.9)
        self.assertEqual(self.called, [])
        self.advance(reactor, 0.1)
        self.assertEqual(len(self.called), 1)

    def test_the_default_is_a_clock_that_cannot_be_set(self) -> None:
        reactor = EPollReactor()
        self.addCleanup(reactor.disconnectAll)
        measure_monotonic_time(reactor)
        begin = time.monotonic()
        self.assertLessEqual(begin, reactor.seconds())
        self.assertLessEqual(reactor.seconds(), time.monotonic())
        self.assertFalse(time.get_clock_info("monotonic").adjustable)

    def test_a_call_that_is_scheduled_by_the_wall_clock_is_an_error(self) -> None:
        """It would be due in decades."""
        reactor = EPollReactor()
        self.addCleanup(reactor.disconnectAll)
        reactor.callLater(1, self.note)
        self.assertRaises(RuntimeError, measure_monotonic_time, reactor)
