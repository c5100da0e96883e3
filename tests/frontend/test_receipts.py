"""What pages tell of when they received events."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Latency
from rtdeliver.errors import TooManyRequests
from rtdeliver.frontend.ages import EventAges, Stage
from rtdeliver.frontend.receipts import Receipts
from rtdeliver.messages import Receipt
from rtdeliver.model import ConnectionId, Event, Topic
from rtdeliver.sampling import is_sampled

AT = 1_795_417_956_553
ANN, BOB = ConnectionId("n1-ann"), ConnectionId("n1-bob")


def event(id: str) -> Event:
    return Event(topic=Topic("live:red"), id=id, line=b"{}", at=AT)


class ReceiptsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(AT / 1000)
        self.ages = EventAges(self.clock.seconds)
        self.received: list[tuple[str, float]] = []
        self.receipts = self.new_receipts()

    def new_receipts(self, one_in: int = 1, events: int = 100) -> Receipts:
        return Receipts(
            settings=Latency(receipts_one_in=one_in, receipts_events=events),
            ages=self.ages,
            received=lambda name, age_ms: self.received.append((name, age_ms)),
            clock=self.clock,
        )

    def receive(self, *ids: str, connection: ConnectionId = ANN, round_trip_ms: float = 0) -> None:
        self.receipts.receive(
            Receipt(connection=connection, round_trip_ms=round_trip_ms, events=ids)
        )

    def unknown(self) -> float:
        [sample] = self.receipts.samples()
        return sample.value

    def test_an_event_was_received_half_a_round_trip_before_the_request(self) -> None:
        self.receipts.note(event("a"))
        self.clock.advance(0.5)
        self.receive("a", round_trip_ms=200)
        self.assertTrue(0.4 <= self.ages.quantile(Stage.RECEIVED, 1) < 0.44)
        self.assertEqual(self.unknown(), 0)

    def test_an_event_that_was_not_delivered_lately_is_counted_apart(self) -> None:
        self.receipts = self.new_receipts(events=2)
        for id in "abc":
            self.receipts.note(event(id))
        self.receive("a", "b", "nothing")
        self.assertEqual(self.unknown(), 2)

    def test_a_connection_tells_once_a_second(self) -> None:
        self.receipts.note(event("a"))
        self.receive("a")
        self.receive("a", connection=BOB)
        error = self.assertRaises(TooManyRequests, self.receive, "a")
        self.assertEqual(error.headers, {"Retry-After": "1"})
        self.clock.advance(1)
        self.receive("a")

    def test_a_sample_is_chosen_by_a_checksum_of_the_id(self) -> None:
        self.receipts = self.new_receipts(one_in=10, events=1000)
        ids = [f"{AT}-{number}-k2x9qa" for number in range(1000)]
        for id in ids:
            self.receipts.note(event(id))
        for id in ids:
            self.clock.advance(1)
            self.receive(id)
        chosen = [id for id in ids if is_sampled(id, 10)]
        self.assertEqual(self.unknown(), 1000 - len(chosen))
        self.assertTrue(50 < len(chosen) < 200)

    def test_without_a_sample_nothing_is_remembered(self) -> None:
        self.receipts = self.new_receipts(one_in=0)
        self.receipts.note(event("a"))
        self.receive("a")
        self.assertEqual(self.unknown(), 1)
