"""The contract of IStreamOwner, for every implementation."""

from twisted.internet.interfaces import IProtocol
from zope.interface.verify import verifyObject

from rtdeliver.interfaces import IStreamOwner
from tests.contracts.contract import SynchronousContract
from tests.fakes import RecordingStream

ENDLESS = 1 << 30


class StreamOwnerContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that says how an owner is made.

    Its stream fails the test where the owner sends before it is told that it may.
    """

    interface = IStreamOwner

    def make_owner(self) -> IStreamOwner:
        """Return an owner that has no stream yet."""
        raise NotImplementedError

    def offer(self) -> bytes:
        """Give the owner more to send, let it send that, and return what the client is to get."""
        raise NotImplementedError

    def received(self) -> bytes:
        """Return what the client has got."""
        return self.stream.data

    def setUp(self) -> None:
        self.owner = self.make_owner()
        self.stream = RecordingStream(self.owner, room=1)
        self.owner.attached(self.stream)

    def subject(self) -> IStreamOwner:
        return self.owner

    def test_it_is_a_protocol(self) -> None:
        self.assertTrue(verifyObject(IProtocol, self.owner))

    def test_it_sends_no_more_before_the_stream_is_writable_and_loses_nothing(self) -> None:
        offered = self.offer() + self.offer()
        self.stream.read(1)
        offered += self.offer()
        self.stream.read(ENDLESS)
        offered += self.offer()
        self.assertEqual(offered, self.received())

    def test_what_the_client_sends_harms_nothing(self) -> None:
        self.stream.read(ENDLESS)
        self.owner.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(self.offer(), self.received())

    def test_it_sends_nothing_once_the_stream_is_lost(self) -> None:
        self.offer()
        before = list(self.stream.sends)
        self.stream.lose()
        self.offer()
        self.assertEqual(before, self.stream.sends)
