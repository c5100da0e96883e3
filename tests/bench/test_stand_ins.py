from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.http_load import Head, Messages
from rtdeliver.bench.latency import LatencyHistogram
from rtdeliver.bench.machine import BenchError
from rtdeliver.bench.stand_ins import Counts, Frontend

MILLISECOND = 1_000_000


def event(number: int, at: int = 0) -> bytes:
    return b'{"topic":"a","type":"message","id":"1","at":1,"data":{"n":%d,"t":%d,"pad":"x"}}' % (
        number,
        at,
    )


class FrontendTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.latencies = LatencyHistogram()
        self.frontend = Frontend(incarnation="me", producers=2, latencies=self.latencies)

    def deliver(
        self,
        *lines: bytes,
        line: str = "POST /deliver HTTP/1.1",
        fields: Mapping[str, str] | None = None,
        now: int = 0,
    ) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        told = {"rt-incarnation": "me"} if fields is None else dict(fields)
        text = self.frontend.answer(Head(line, told, 0), b"\n".join(lines), now)
        [(head, body)] = Messages().feed(text)
        return head.status, body

    def test_events_of_a_delivery_are_counted_and_it_is_answered_with_their_number(self) -> None:
        self.assertEqual(self.deliver(event(0), event(2), event(1)), (202, b'{"delivered":3}\n'))
        self.assertEqual(self.frontend.counts, Counts(received=3, posts=1))

    def test_an_event_that_comes_twice_is_received_once(self) -> None:
        self.deliver(event(0), event(2))
        self.deliver(event(2))
        self.assertEqual(self.frontend.counts, Counts(received=2, misplaced=1, posts=2))

    def test_an_event_after_a_later_one_of_its_producer_is_misplaced(self) -> None:
        self.deliver(event(5), event(2), event(3))
        self.assertEqual(self.frontend.counts, Counts(received=2, misplaced=1, posts=1))

    def test_one_that_is_missing_is_not_made_up_for(self) -> None:
        self.deliver(event(0), event(4))
        self.assertEqual(self.frontend.counts.received, 2)

    def test_a_gap_is_no_event(self) -> None:
        self.deliver(b'{"topic":"a","lost":3}', event(0), b'{"topic":"b","lost":1}')
        self.assertEqual(self.frontend.counts, Counts(received=1, gaps=4, posts=1))

    def test_each_event_has_the_latency_from_its_own_time(self) -> None:
        late = 100 * MILLISECOND
        self.deliver(event(0, at=0), event(2, at=0), event(1, at=late - MILLISECOND), now=late)
        self.assertEqual(len(self.latencies), 3)
        self.assertApproximates(self.latencies.percentile_ms(10), 1, 0.05)
        self.assertApproximates(self.latencies.percentile_ms(60), 100, 2)

    def test_a_delivery_to_another_process_is_refused_and_nothing_of_it_counted(self) -> None:
        for fields in ({}, {"rt-incarnation": "other"}):
            status, _ = self.deliver(event(0), fields=fields)
            self.assertEqual(status, 410)
        self.assertEqual(self.frontend.counts, Counts(refused=2))

    def test_only_deliveries_are_taken(self) -> None:
        for line in ("GET /deliver HTTP/1.1", "POST /deliverance HTTP/1.1", "POST / HTTP/1.1"):
            status, _ = self.deliver(event(0), line=line)
            self.assertEqual(status, 404)
        self.assertEqual(self.frontend.counts, Counts(refused=3))

    def test_what_no_load_published_is_an_error(self) -> None:
        for line in (b"{", b'{"data":{"n":1}}', b'{"data":{"n":"1","t":0}}', event(0)[:-1]):
            with self.assertRaises(BenchError):
                self.deliver(line)
        self.assertEqual(self.frontend.counts.received, 0)
