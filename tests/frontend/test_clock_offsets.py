"""How far the dispatchers' clocks are thought to be from a frontend's."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.frontend.clock_offsets import ClockOffsets
from rtdeliver.messages import Acknowledgement

D1, D2 = "http://10.0.0.1:8090", "http://10.0.0.2:8090"
SECONDS = st.floats(0, 1)


class Exchanges:
    """Announcements between a frontend, whose clock is right, and dispatchers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_417_956)
        self.offsets = ClockOffsets(self.clock.seconds)

    def announce(
        self, ahead: float, *, there: float = 0.001, back: float = 0.001, dispatcher: str = D1
    ) -> None:
        """Announce to a dispatcher whose clock is ahead, and which takes 20 ms to answer."""
        sent_at = self.clock.seconds()
        self.clock.advance(there)
        received_at = self.clock.seconds() + ahead
        self.clock.advance(0.02)
        answered_at = self.clock.seconds() + ahead
        self.clock.advance(back)
        answer = Acknowledgement(lease_seconds=30, received_at=received_at, answered_at=answered_at)
        self.offsets.note(dispatcher, sent_at, answer)


class ClockOffsetsTests(SynchronousTestCase):
    @given(ahead=st.floats(-100, 100), there=SECONDS, back=SECONDS)
    def test_an_offset_is_wrong_by_half_the_way_at_most(
        self, ahead: float, there: float, back: float
    ) -> None:
        exchanges = Exchanges()
        exchanges.announce(ahead, there=there, back=back)
        error = exchanges.offsets.offset_seconds(D1) - ahead
        self.assertLessEqual(abs(error), (there + back) / 2 + 1e-5)

    def test_the_shortest_of_the_last_exchanges_is_believed(self) -> None:
        exchanges = Exchanges()
        exchanges.announce(0.1)
        for _ in range(7):
            exchanges.announce(0.1, there=0.9)
        self.assertAlmostEqual(exchanges.offsets.offset_seconds(D1), 0.1, places=5)
        exchanges.announce(0.1, there=0.9)
        self.assertAlmostEqual(exchanges.offsets.offset_seconds(D1), 0.1 + 0.4495, places=5)

    def test_each_dispatcher_has_an_offset(self) -> None:
        exchanges = Exchanges()
        exchanges.announce(0.02)
        exchanges.announce(-0.03, dispatcher=D2)
        found = {s.labels["dispatcher"]: round(s.value, 5) for s in exchanges.offsets.samples()}
        self.assertEqual(found, {D1: 0.02, D2: -0.03})

    def test_a_dispatcher_that_does_not_tell_the_time_has_none(self) -> None:
        offsets = ClockOffsets(Clock().seconds)
        offsets.note(D1, 0, Acknowledgement(lease_seconds=30))
        self.assertEqual(offsets.samples(), [])

    def test_a_large_offset_is_logged_once_until_it_is_small_again(self) -> None:
        exchanges = Exchanges()
        with capturedLogs() as logs:
            for ahead in (0.049, 0.2, 0.2, *[0.0] * 8, -0.3):
                exchanges.announce(ahead, there=0.001)
        lines = [formatEvent(event) for event in logs]
        self.assertEqual(len(lines), 2)
        self.assertIn(f"{D1} is 0.200 s ahead of", lines[0])
        self.assertIn("0.300 s behind", lines[1])
