"""The contract of IRecords, for every implementation."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from rtdeliver.errors import RemoteFailure, Unavailable
from rtdeliver.interfaces import IRecords
from rtdeliver.messages import HopRecord
from tests.contracts.contract import SynchronousContract

AT = 1_795_417_956_553
RECORDS = [
    HopRecord(stage="published", id="a", type="like", at=AT, ages=((0.2, 1),), frontends=("n1",)),
    HopRecord(stage="sent", id="b", type="like", at=AT, ages=((1.0, 2), (3.5, 1)), node="n1",
              incarnation="first", part=2, left=1),
]  # fmt: skip


class RecordsContract(SynchronousContract):
    """To be mixed into a SynchronousTestCase that says where records are written."""

    interface = IRecords

    def make_records(self) -> IRecords:
        """Return what writes records to a place of the test's own."""
        raise NotImplementedError

    def make_away(self) -> IRecords | None:
        """Return what writes to a place that cannot be reached; ``None`` if there is no such."""
        raise NotImplementedError

    def let_be_answered(self) -> None:
        """Let happen what has to happen before an answer is there."""

    def written(self) -> Sequence[HopRecord]:
        """Return the records that have come, in any order."""
        raise NotImplementedError

    def subject(self) -> IRecords:
        return self.records

    def setUp(self) -> None:
        self.records = self.make_records()

    def write(self, records: IRecords) -> Deferred[None]:
        written: Deferred[None] = records.write(RECORDS)
        self.let_be_answered()
        return written

    def test_records_are_there_when_it_fires(self) -> None:
        self.successResultOf(self.write(self.records))
        self.assertEqual(sorted(self.written(), key=lambda record: record.id), RECORDS)

    def test_a_place_that_is_away_is_a_failure(self) -> None:
        away = self.make_away()
        if away is not None:
            self.failureResultOf(self.write(away), RemoteFailure, Unavailable)
