"""Where records are written, without Redis."""

from collections.abc import Sequence

from klein import Klein
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rtdeliver.config.sections import Latency
from rtdeliver.errors import Unavailable
from rtdeliver.http.routes import new_app
from rtdeliver.interfaces import IRecords
from rtdeliver.latency.clients import HttpRecords, LocatedRecords
from rtdeliver.latency.local import LocalJoiner
from rtdeliver.latency.recorder import MAX_RECORDS
from rtdeliver.latency.routes import add_records_route
from rtdeliver.messages import HopRecord
from tests.contracts.records import RECORDS, RecordsContract
from tests.fakes import MemoryAgent, new_client, new_failover


@implementer(IRecords)
class KeptRecords:
    """Keeps records, or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self.kept: list[HopRecord] = []
        self._fails = fails

    def write(self, records: Sequence[HopRecord]) -> Deferred[None]:
        if self._fails:
            return fail(Unavailable("away"))
        self.kept.extend(records)
        return succeed(None)


class KeptRecordsTests(RecordsContract, SynchronousTestCase):
    implementation = KeptRecords

    def make_records(self) -> IRecords:
        self.kept = KeptRecords()
        return self.kept

    def make_away(self) -> IRecords:
        return KeptRecords(fails=True)

    def written(self) -> Sequence[HopRecord]:
        return self.kept.kept


class LocatedRecordsTests(RecordsContract, SynchronousTestCase):
    implementation = LocatedRecords

    def make_records(self) -> IRecords:
        self.kept = KeptRecords()
        return LocatedRecords(datacenter="", records=self.kept)

    def make_away(self) -> IRecords:
        return LocatedRecords(datacenter="", records=KeptRecords(fails=True))

    def written(self) -> Sequence[HopRecord]:
        return self.kept.kept

    def test_each_record_says_where_it_is_from(self) -> None:
        located = LocatedRecords(datacenter="dc1", records=self.kept)
        self.successResultOf(located.write(RECORDS))
        self.assertEqual([record.datacenter for record in self.kept.kept], ["dc1", "dc1"])


class HttpRecordsTests(RecordsContract, SynchronousTestCase):
    """The contract, with a dispatcher's route at the other end."""

    implementation = HttpRecords

    def setUp(self) -> None:
        self.clock = Clock()
        super().setUp()

    def make_records(self) -> IRecords:
        self.kept = KeptRecords()
        return self.client(self.kept)

    def make_away(self) -> IRecords:
        return self.client(KeptRecords(fails=True))

    def client(self, kept: IRecords) -> IRecords:
        app: Klein = new_app()
        add_records_route(app, kept)
        return HttpRecords(
            dispatchers=new_failover("http://d1:8090", clock=self.clock),
            client=new_client(MemoryAgent({"d1:8090": app.resource()}), self.clock),
        )

    def written(self) -> Sequence[HopRecord]:
        return self.kept.kept

    def test_as_many_as_a_process_writes_at_a_time_are_accepted(self) -> None:
        self.successResultOf(self.records.write([RECORDS[0]] * MAX_RECORDS))
        self.assertEqual(len(self.kept.kept), MAX_RECORDS)


class LocalJoinerTests(RecordsContract, SynchronousTestCase):
    implementation = LocalJoiner

    def make_records(self) -> IRecords:
        self.clock = Clock()
        self.wall = Clock()
        self.wall.advance(RECORDS[0].at / 1000)
        self.joiner = LocalJoiner(
            datacenter="", settings=Latency(), clock=self.clock, now=self.wall.seconds
        )
        return self.joiner

    def make_away(self) -> None:
        return None

    def written(self) -> Sequence[HopRecord]:
        joined = {
            sample.labels["stage"]: sample.value
            for sample in self.joiner.samples()
            if sample.name == "joined_records"
        }
        return [record for record in RECORDS for _ in range(int(joined[record.stage]))]

    def test_events_are_settled_when_it_is_time(self) -> None:
        self.joiner.start()
        self.successResultOf(self.joiner.write(RECORDS[:1]))
        self.assertEqual(self.joiner.own_results().verdicts(0), {})
        self.clock.pump([0.5] * 21)
        self.assertEqual(self.joiner.own_results().verdicts(0)["like"].missing, 1)
        self.successResultOf(self.joiner.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
