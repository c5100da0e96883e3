"""How the records of a process are written: in batches, beside its work, within a bound."""

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rtdeliver.config.sections import Latency
from rtdeliver.errors import RemoteFailure, Unavailable
from rtdeliver.interfaces import IRecords
from rtdeliver.messages import HopRecord
from rtdeliver.metrics import Sample, counter, gauge

log = Logger()

MAX_RECORDS = 500
"""How many records are written at a time."""


class Recorder:
    """Takes the records of tracked events, and writes them every ``write_seconds``.

    What could not be written is written again the next time. If too many records wait, the oldest
    are dropped.

    :param records: where they are written.
    """

    def __init__(self, *, records: IRecords, settings: Latency, clock: IReactorTime) -> None:
        self._records = records
        self._settings = settings
        self._waiting: deque[HopRecord] = deque()
        self._before: list[Callable[[], None]] = []
        self._fails = False
        self._recorded = 0
        self._dropped = 0
        self._loop = LoopingCall(self._write_all)
        self._loop.clock = clock

    def record(self, record: HopRecord) -> None:
        """Write ``record`` soon."""
        self._recorded += 1
        self._waiting.append(record)
        self._make_room()

    def before_writing(self, call: Callable[[], None]) -> None:
        """Call this before each time that records are written. It may record more."""
        self._before.append(call)

    def start(self) -> None:
        """Begin to write."""
        self._loop.start(self._settings.write_seconds, now=False).addErrback(
            lambda failure: log.failure("records are written no longer", failure)
        )

    def stop(self) -> Deferred[None]:
        """Write what waits, once, and no more."""
        if self._loop.running:
            self._loop.stop()
        return Deferred.fromCoroutine(self._write_all())

    def samples(self) -> list[Sample]:
        return [
            counter("records", "Records of tracked events.", self._recorded),
            gauge("records_waiting", "Records that wait to be written.", len(self._waiting)),
            counter(
                "records_dropped",
                "Records that were dropped, since too many waited to be written.",
                self._dropped,
            ),
        ]

    async def _write_all(self) -> None:
        for call in self._before:
            call()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MAX_RECORDS, len(self._waiting)))]
            try:
                await self._records.write(batch)
            except (RemoteFailure, Unavailable) as error:
                self._waiting.extendleft(reversed(batch))
                self._make_room()
                if not self._fails:
                    log.warn("records of tracked events cannot be written: {e}", e=error)
                self._fails = True
                return
            self._fails = False

    def _make_room(self) -> None:
        while len(self._waiting) > self._settings.waiting_records:
            self._waiting.popleft()
            self._dropped += 1
