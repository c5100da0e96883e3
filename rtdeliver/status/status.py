"""What a process tells of itself to a person on call."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rtdeliver.histogram import Histogram
from rtdeliver.metrics import Sample, Source, versions
from rtdeliver.status.history import LastMinute, Rates
from rtdeliver.status.warnings import RecentWarnings

log = Logger()

# To sum up over all connections takes some time, so it is done that often at most.
_FIGURES_SECONDS = 5.0

_FIGURES = frozenset(
    {
        *("connections", "connections_max", "subscriptions", "topics", "members"),
        "presence_changes",
        *("links", "uncertain_topics", "recent_events"),
        *("mailbox_events", "mailbox_bytes", "run_queue_actors", "reactor_lag_seconds"),
        *("redis_connected", "waiting_connections", "clock_offset_seconds"),
        *("joined_partitions", "joining_events", "records_waiting"),
    }
)
"""The metrics that are told as they are."""


class StatusParts:
    """What the parts of a process have to tell; roles add to it.

    :ivar counts: return numbers that only grow and cost nothing to read, by name. They are told by
        the second.
    :ivar ages: durations, by name.
    :ivar tell: return further fields of the status.
    """

    def __init__(self) -> None:
        self.counts: dict[str, Callable[[], int]] = {}
        self.ages: dict[str, Histogram] = {}
        self.tell: list[Callable[[], Mapping[str, Any]]] = []


class Status:
    """Collects what the parts of a process tell.

    :param role: the name of the role.
    :param node: the name of this process.
    :param missing: returns what keeps the process from serving.
    :param sources: return the process's metrics.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        role: str,
        node: str,
        parts: StatusParts,
        missing: Callable[[], list[str]],
        sources: Iterable[Source],
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self._parts = parts
        self._missing = missing
        self._sources = list(sources)
        self._clock = clock
        self._now = now
        self._fixed = {"role": role, "node": node, **versions()}
        self._started_at = now()
        self._began = clock.seconds()
        self._rates = Rates(parts.counts)
        self._ages = LastMinute(parts.ages)
        self._warnings = RecentWarnings()
        self._figures: list[dict[str, Any]] = []
        self._figures_until = clock.seconds()
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to note how counts grow, and what is logged."""
        self._warnings.start()
        self._loop.start(1).addErrback(
            lambda failure: log.failure("the status is noted no longer", failure)
        )

    def stop(self) -> None:
        """Note nothing more."""
        if self._loop.running:
            self._loop.stop()
            self._warnings.stop()

    def tell(self) -> dict[str, Any]:
        """Return everything, as values that can be written as JSON."""
        missing = self._missing()
        told: dict[str, Any] = {
            **self._fixed,
            "at": round(self._now(), 3),
            "started_at": round(self._started_at),
            "uptime_seconds": round(self._clock.seconds() - self._began),
            "ready": not missing,
            "missing": missing,
            "per_second": self._rates.per_second(),
            "history": self._rates.history(),
            "ages": self._ages.tell(),
            "figures": self._current_figures(),
        }
        for part in self._parts.tell:
            told.update(part())
        told["warnings"] = self._warnings.tell()
        return told

    def _current_figures(self) -> list[dict[str, Any]]:
        if self._clock.seconds() >= self._figures_until:
            self._figures_until = self._clock.seconds() + _FIGURES_SECONDS
            self._figures = [
                {"name": sample.name, "value": sample.value, **sample.labels}
                for source in self._sources
                for sample in source()
                if isinstance(sample, Sample) and sample.name in _FIGURES
            ]
        return self._figures

    def _tick(self) -> None:
        self._rates.tick()
        self._ages.tick()
