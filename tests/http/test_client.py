"""How connections to other nodes begin; the rest is in tests/integration/test_http_client.py."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, NoRouteError
from twisted.internet.error import ConnectionRefusedError as ConnectionRefused
from twisted.internet.error import TimeoutError as ConnectionTimedOut
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Http
from rtdeliver.errors import Refused, Unreachable
from rtdeliver.http.client import NodeClient, make_agent


class ConnectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.client = NodeClient(
            agent=make_agent(self.reactor, Http(request_seconds=3)),
            clock=self.reactor,
            settings=Http(request_seconds=5),
            secret="",
        )

    def get(self, url: str) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.client.get(url))

    def fail_to_connect(self, error: Exception) -> None:
        [(_, _, factory, _, _)] = self.reactor.tcpClients
        # As a connector of a real reactor does.
        factory.doStart()
        factory.clientConnectionFailed(self.reactor.connectors[-1], Failure(error))
        factory.doStop()

    def test_an_address_that_refuses_is_known_at_once_to_be_away(self) -> None:
        for scheme in ("http", "https"):
            with self.subTest(scheme):
                self.reactor.tcpClients.clear()
                answer = self.get(f"{scheme}://10.0.0.5:8090/")
                [(host, port, _, timeout, _)] = self.reactor.tcpClients
                self.assertEqual((host, port, timeout), ("10.0.0.5", 8090, 3))
                self.assertNoResult(answer)
                self.fail_to_connect(ConnectionRefused())
                self.failureResultOf(answer, Refused)

    def test_an_address_that_does_not_answer_has_not_refused(self) -> None:
        for error in (ConnectError(), ConnectionTimedOut(), NoRouteError()):
            self.reactor.tcpClients.clear()
            answer = self.get("http://10.0.0.5:8090/")
            self.fail_to_connect(error)
            failure = self.failureResultOf(answer, Unreachable)
            self.assertNotIsInstance(failure.value, Refused)

    def test_nothing_of_that_is_in_the_log(self) -> None:
        with capturedLogs() as logged:
            answer = self.get("http://127.0.0.1:8090/")
            self.fail_to_connect(ConnectionRefused())
        self.failureResultOf(answer, Unreachable)
        self.assertEqual(logged, [])
