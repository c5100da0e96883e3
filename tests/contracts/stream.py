"""The contract of IStream, for every implementation."""

import itertools

from rtdeliver.errors import StreamLost
from rtdeliver.interfaces import IStream
from tests.contracts.contract import SynchronousContract
from tests.fakes import RecordingOwner

CHUNK_BYTES = 1000


class StreamContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that says how a stream is made, and plays its client.

    A stream is to take some chunks, and then less than all of one, while its client reads nothing.
    """

    interface = IStream

    def make_stream(self, owner: RecordingOwner) -> IStream:
        """Return a stream whose client is there and reads nothing; its owner was told of it."""
        raise NotImplementedError

    def read(self, size: int) -> None:
        """Let the client read until it has had ``size`` bytes in all, and no more."""
        raise NotImplementedError

    def received(self) -> bytes:
        """Return what the client has read so far."""
        raise NotImplementedError

    def has_ended(self) -> bool:
        """Whether the client has found the end of the stream where it read on."""
        raise NotImplementedError

    def leave(self) -> None:
        """Let the client leave without reading on; nobody has noticed yet."""
        raise NotImplementedError

    def settle(self) -> None:
        """Let happen what happens without the client reading."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.owner = RecordingOwner()
        self.stream = self.make_stream(self.owner)
        self.numbers = itertools.count()

    def subject(self) -> IStream:
        return self.stream

    def chunk(self, size: int = CHUNK_BYTES) -> bytes:
        """Return so many bytes that can be told from those of all other chunks."""
        mark = b"<%d>" % next(self.numbers)
        return mark + b"." * (size - len(mark))

    def send(self, data: bytes) -> bytes:
        """Send, and return what was taken."""
        taken = self.stream.send(data)
        self.assertTrue(0 <= taken <= len(data), taken)
        return data[:taken]

    def fill(self) -> bytes:
        """Send chunks until one is not taken whole; return all that was taken."""
        taken = b""
        for _ in range(1000):
            chunk = self.chunk()
            part = self.send(chunk)
            taken += part
            if part != chunk:
                return taken
        raise AssertionError("it takes everything, though the client reads nothing")

    def read_on(self, taken: bytes) -> None:
        """Let the client read all that was taken, and check that it is that."""
        self.read(len(taken))
        self.assertEqual(taken, self.received())
        self.settle()

    def test_its_owner_was_told_of_it_once_and_of_nothing_else(self) -> None:
        self.settle()
        self.assertEqual([self.stream], self.owner.streams)
        self.assertEqual((0, []), (self.owner.writables, self.owner.losses))

    def test_what_is_taken_comes_in_order(self) -> None:
        self.read_on(self.send(b"first") + self.send(b", ") + self.send(self.chunk()))

    def test_who_was_not_refused_anything_is_not_told_that_it_may_send(self) -> None:
        self.read_on(self.send(self.chunk()))
        self.assertEqual(0, self.owner.writables)

    def test_it_takes_some_and_then_less_while_the_client_reads_nothing(self) -> None:
        self.assertGreater(len(self.fill()), CHUNK_BYTES)
        self.settle()
        self.assertEqual(0, self.owner.writables)

    def test_its_owner_is_told_once_when_it_takes_data_again(self) -> None:
        self.read_on(self.fill())
        self.assertEqual(1, self.owner.writables)

    def test_nothing_is_lost_or_repeated_where_less_was_taken(self) -> None:
        taken = self.fill()
        self.read_on(taken)
        taken += self.send(self.chunk())
        self.read_on(taken)

    def test_it_may_take_less_again_and_again(self) -> None:
        taken = b""
        for times in range(1, 4):
            taken += self.fill()
            self.read_on(taken)
            self.assertEqual(times, self.owner.writables)

    def test_what_is_held_for_the_client_shrinks_while_it_reads(self) -> None:
        taken = self.fill()
        self.settle()
        held = [self.stream.unsent_bytes()]
        for part in (3, 2, 1):
            self.read(len(taken) // part)
            self.settle()
            held.append(self.stream.unsent_bytes())
        self.assertEqual(sorted(set(held), reverse=True), held)
        self.assertEqual(0, held[-1])

    def test_it_ends_after_all_that_was_taken_has_been_sent(self) -> None:
        taken = self.send(self.chunk())
        self.stream.close()
        self.assertEqual([], self.owner.losses)
        self.read(len(taken) + 1)
        self.assertEqual(taken, self.received())
        self.assertTrue(self.has_ended())
        self.settle()
        self.assertEqual(1, len(self.owner.losses))

    def test_its_owner_is_told_of_the_end_that_it_asks_for_later_and_once(self) -> None:
        self.fill()
        self.stream.abort()
        self.assertEqual([], self.owner.losses)
        self.settle()
        self.assertEqual(1, len(self.owner.losses))
        self.assertEqual(0, self.owner.writables)

    def test_it_may_be_aborted_after_it_was_closed(self) -> None:
        self.fill()
        self.stream.close()
        self.stream.abort()
        self.settle()
        self.assertEqual(1, len(self.owner.losses))

    def test_a_client_that_has_left_is_found_by_a_send_or_told_to_the_owner(self) -> None:
        self.leave()
        found = False
        try:
            self.send(self.chunk())
        except StreamLost:
            found = True
        self.settle()
        self.assertTrue(found or self.owner.losses)

    def test_after_a_send_that_found_the_client_gone_the_owner_can_end_it(self) -> None:
        self.leave()
        try:
            self.send(self.chunk())
        except StreamLost:
            self.stream.abort()
        self.settle()
        self.assertEqual(1, len(self.owner.losses))
