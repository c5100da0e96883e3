"""Which connections without a stream are kept."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.http.waiting import WaitingConnections
from tests.http.peers import SETTINGS, Peer, app, served


class Visitor:
    """A connection that notes that it was dropped."""

    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


class WaitingConnectionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.waiting = WaitingConnections(3)
        self.visitors = [Visitor() for _ in range(6)]

    def come(self, *numbers: int) -> None:
        for number in numbers:
            self.waiting.idle(self.visitors[number])

    def dropped(self) -> list[int]:
        return [number for number, visitor in enumerate(self.visitors) if visitor.dropped]

    def test_the_one_that_is_idle_for_longest_makes_room(self) -> None:
        self.come(0, 1, 2)
        self.assertEqual([], self.dropped())
        self.come(3, 4)
        self.assertEqual([0, 1], self.dropped())
        self.assertEqual(3, len(self.waiting))

    def test_one_with_a_request_is_kept_while_another_is_idle(self) -> None:
        self.come(0, 1, 2)
        self.waiting.busy(self.visitors[0])
        self.come(3)
        self.assertEqual([1], self.dropped())
        self.waiting.idle(self.visitors[0])
        self.come(4, 5)
        self.assertEqual([1, 2, 3], self.dropped())

    def test_where_none_is_idle_the_oldest_makes_room(self) -> None:
        self.come(0, 1, 2)
        for number in (2, 1, 0):
            self.waiting.busy(self.visitors[number])
        self.come(3)
        self.assertEqual([2], self.dropped())

    def test_one_that_is_gone_or_has_a_stream_takes_no_room(self) -> None:
        self.come(0, 1, 2)
        self.waiting.busy(self.visitors[1])
        self.waiting.gone(self.visitors[0])
        self.waiting.gone(self.visitors[1])
        self.waiting.gone(self.visitors[1])
        self.come(3, 4)
        self.assertEqual([], self.dropped())

    def test_it_is_told(self) -> None:
        self.come(0, 1, 2, 3)
        self.assertEqual(
            {
                "waiting_connections": 3,
                "waiting_connections_max": 3,
                "waiting_connections_dropped": 1,
            },
            {sample.name: sample.value for sample in self.waiting.samples()},
        )


class ChannelTests(SynchronousTestCase):
    """How the connections of a site come into it."""

    def setUp(self) -> None:
        self.waiting = WaitingConnections(2)

    def connect(self) -> Peer:
        return Peer(served(app()), settings=SETTINGS, waiting=self.waiting)

    def test_one_that_has_been_served_is_idle_again(self) -> None:
        first, second = self.connect(), self.connect()
        first.send("GET /hello HTTP/1.1")
        self.assertEqual(200, first.answer().status)
        self.connect()
        self.assertEqual((False, True), (first.is_aborted, second.is_aborted))

    def test_one_that_sends_a_request_is_not(self) -> None:
        first, second = self.connect(), self.connect()
        first.send_bytes(b"GET /hello")
        self.connect()
        self.assertEqual((False, True), (first.is_aborted, second.is_aborted))

    def test_one_that_leaves_makes_room(self) -> None:
        first, second = self.connect(), self.connect()
        first.leave()
        self.connect()
        self.assertFalse(second.is_aborted)
