"""How the records of a process are written."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.config.sections import Latency
from rtdeliver.errors import AnswerLost, Unavailable
from rtdeliver.interfaces import IRecords
from rtdeliver.latency.recorder import MAX_RECORDS, Recorder
from rtdeliver.messages import HopRecord

AT = 1_795_417_956_553


def record(number: int) -> HopRecord:
    return HopRecord(stage="published", id=str(number), type="like", at=AT, ages=((0.0, 1),))


@implementer(IRecords)
class HangingRecords:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.answers: list[Deferred[None]] = []

    def write(self, records: Sequence[HopRecord]) -> Deferred[None]:
        self.batches.append([record.id for record in records])
        self.answers.append(Deferred())
        return self.answers[-1]


class RecorderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.records = HangingRecords()
        self.recorder = self.new_recorder(1000)
        self.recorder.start()

    def new_recorder(self, waiting: int) -> Recorder:
        return Recorder(
            records=self.records,
            settings=Latency(write_seconds=0.5, waiting_records=waiting),
            clock=self.clock,
        )

    def record(self, *numbers: int) -> None:
        for number in numbers:
            self.recorder.record(record(number))

    def samples(self) -> dict[str, float]:
        return {sample.name: sample.value for sample in self.recorder.samples()}

    def test_records_are_written_together_after_a_while(self) -> None:
        self.record(1, 2)
        self.clock.advance(0.4)
        self.assertEqual(self.records.batches, [])
        self.clock.advance(0.1)
        self.assertEqual(self.records.batches, [["1", "2"]])

    def test_a_second_write_waits_for_the_answer_to_the_first(self) -> None:
        self.record(1)
        self.clock.advance(0.5)
        self.record(2)
        self.clock.advance(5)
        self.assertEqual(len(self.records.batches), 1)
        self.records.answers[0].callback(None)
        self.clock.advance(0.5)
        self.assertEqual(self.records.batches, [["1"], ["2"]])

    def test_a_write_is_bounded(self) -> None:
        self.record(*range(MAX_RECORDS + 1))
        self.clock.advance(0.5)
        self.assertEqual([len(batch) for batch in self.records.batches], [MAX_RECORDS])
        self.records.answers[0].callback(None)
        self.assertEqual(self.records.batches[1], [str(MAX_RECORDS)])

    def test_what_was_not_written_is_written_the_next_time_in_its_place(self) -> None:
        for error in (Unavailable("away"), AnswerLost("away")):
            self.record(1, 2)
            self.clock.advance(0.5)
            self.record(3)
            self.records.answers[-1].errback(error)
            self.clock.advance(0.5)
            self.assertEqual(self.records.batches[-1], ["1", "2", "3"])
            self.records.answers[-1].callback(None)

    def test_the_oldest_of_too_many_are_dropped_and_counted(self) -> None:
        self.recorder = self.new_recorder(2)
        self.recorder.start()
        self.record(1, 2, 3)
        self.clock.advance(0.5)
        self.assertEqual(self.records.batches, [["2", "3"]])
        self.assertEqual(self.samples(), {"records": 3, "records_waiting": 0, "records_dropped": 1})

    def test_others_may_record_right_before_records_are_written(self) -> None:
        self.recorder.before_writing(lambda: self.record(7))
        self.clock.advance(0.5)
        self.assertEqual(self.records.batches, [["7"]])

    def test_at_the_end_what_waits_is_written_once(self) -> None:
        self.record(1)
        stopped = self.recorder.stop()
        self.assertEqual(self.records.batches, [["1"]])
        self.assertNoResult(stopped)
        self.records.answers[0].errback(Unavailable("away"))
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(self.clock.getDelayedCalls(), [])
