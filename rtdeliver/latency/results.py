"""What joined records have shown, by the time at which the events were accepted."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from rtdeliver.errors import BadRequest
from rtdeliver.spread import Spread

SLOT_SECONDS = 5
KEPT_SECONDS = 300
"""For how long results are kept."""

_SLOWEST = 10
_INCOMPLETE = 20


class Series(msgspec.Struct, frozen=True, array_like=True):
    """A way between two stages.

    :param type: of the events.
    :param start: the stage where the way begins.
    :param end: the stage where it ends.
    :param origin: the datacenter where the events were published.
    :param target: the datacenter where they arrived.
    """

    type: str
    start: str
    end: str
    origin: str
    target: str


class Verdict(msgspec.Struct, frozen=True, array_like=True):
    """Whether an event came where it had to, or how many did.

    :param watched: it had viewers.
    :param delivered: all frontends that have viewers of it, got it.
    :param sent: it was sent to all viewers, but for those that left.
    :param received: some viewer said that it received it.
    :param missing: it had viewers, and was not delivered or not sent.
    """

    published: int = 0
    watched: int = 0
    delivered: int = 0
    sent: int = 0
    received: int = 0
    missing: int = 0


class Hop(msgspec.Struct, frozen=True, array_like=True):
    """A stage that an event has passed at one process.

    :param first_ms: how old the event was then; at a frontend's viewers, at the first one.
    :param last_ms: the same for the last one.
    :param times: at how many viewers.
    """

    stage: str
    datacenter: str
    node: str
    first_ms: float
    last_ms: float
    times: int


class Trace(msgspec.Struct, frozen=True, array_like=True):
    """The way of one event.

    :param age_ms: how old it was at the last hop.
    :param missing: what did not come, in words.
    """

    id: str
    type: str
    at: int
    age_ms: float
    hops: tuple[Hop, ...]
    missing: tuple[str, ...]


class Slot(msgspec.Struct):
    """The results for the events that were accepted within a few seconds."""

    ages: dict[Series, Spread] = {}
    verdicts: dict[str, Verdict] = {}
    traces: dict[str, Trace] = {}

    def trace(self, trace: Trace) -> None:
        self.traces[trace.id] = trace
        if len(self.traces) > 2 * (_SLOWEST + _INCOMPLETE):
            self.traces = {kept.id: kept for kept in worst(self.traces.values())}


class _Saved(msgspec.Struct, array_like=True):
    """A slot, as it is encoded."""

    number: int
    ages: list[tuple[Series, list[tuple[float, int]]]]
    verdicts: dict[str, Verdict]
    traces: list[Trace]

    def slot(self) -> Slot:
        return Slot(
            ages={series: Spread(counts) for series, counts in self.ages},
            verdicts=self.verdicts,
            traces={trace.id: trace for trace in self.traces},
        )


_decoder = msgspec.msgpack.Decoder(list[_Saved])


class Results:
    """Ages by series, verdicts by type, and the ways of the slowest and of the incomplete events.

    Everything is kept by the time at which the events were accepted, for `KEPT_SECONDS`.

    :ivar slots: by number, one for each `SLOT_SECONDS`.
    """

    def __init__(self, slots: Mapping[int, Slot] = MappingProxyType({})) -> None:
        self.slots = dict(slots)

    def add(self, at: int, series: Series, ages: Iterable[tuple[float, int]]) -> None:
        """Count ages, in milliseconds, of an event that was accepted at ``at``."""
        spreads = self._slot(at).ages
        if series not in spreads:
            spreads[series] = Spread()
        spreads[series].add_all(ages)

    def judge(self, at: int, type: str, verdict: Verdict, instead: Verdict = Verdict()) -> None:  # noqa: B008
        """Count the verdict on an event, instead of an earlier one on the same event."""
        verdicts = self._slot(at).verdicts
        verdicts[type] = _sum(verdicts.get(type, Verdict()), verdict, instead)

    def trace(self, trace: Trace) -> None:
        """Keep the way of an event, if it is among the worst, instead of an earlier one of it."""
        self._slot(trace.at).trace(trace)

    def merge(self, other: "Results") -> None:
        """Add what ``other`` has."""
        for number, slot in other.slots.items():
            at = number * SLOT_SECONDS * 1000
            for series, spread in slot.ages.items():
                self.add(at, series, spread.items())
            for kind, verdict in slot.verdicts.items():
                self.judge(at, kind, verdict)
            for trace in slot.traces.values():
                self.trace(trace)

    def since(self, at: float) -> "Results":
        """Return the results of the events that were accepted then or later."""
        first = _slot_number(at)
        return Results({n: slot for n, slot in self.slots.items() if n >= first})

    def forget_before(self, at: float) -> None:
        """Drop what was accepted before ``at``, in milliseconds since the epoch."""
        oldest = _slot_number(at)
        self.slots = {number: slot for number, slot in self.slots.items() if number >= oldest}

    def ages(self, since: float) -> dict[Series, Spread]:
        """Return the ages of the events that were accepted at ``since`` or later, by series."""
        found: dict[Series, Spread] = {}
        for slot in self._since(since):
            for series, spread in slot.ages.items():
                found.setdefault(series, Spread()).add_all(spread.items())
        return found

    def verdicts(self, since: float) -> dict[str, Verdict]:
        """Return the verdicts on the events that were accepted since then, by type."""
        found: dict[str, Verdict] = {}
        for slot in self._since(since):
            for kind, verdict in slot.verdicts.items():
                found[kind] = _sum(found.get(kind, Verdict()), verdict)
        return found

    def traces(self, since: float) -> list[Trace]:
        """Return the ways of the worst events that were accepted since then."""
        return worst([trace for slot in self._since(since) for trace in slot.traces.values()])

    def encode(self) -> bytes:
        """Return everything as bytes, for `decode`."""
        return msgspec.msgpack.encode(
            [
                _Saved(
                    number,
                    [(series, list(spread.items())) for series, spread in slot.ages.items()],
                    slot.verdicts,
                    worst(slot.traces.values()),
                )
                for number, slot in self.slots.items()
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> "Results":
        """Return what `encode` has encoded.

        :raises BadRequest: if it is something else.
        """
        try:
            return cls({saved.number: saved.slot() for saved in _decoder.decode(data)})
        except msgspec.MsgspecError as error:
            raise BadRequest(f"these are no results: {error}") from None

    def _slot(self, at: float) -> Slot:
        number = _slot_number(at)
        if number not in self.slots:
            self.slots[number] = Slot()
        return self.slots[number]

    def _since(self, at: float) -> Iterator[Slot]:
        first = _slot_number(at)
        return (slot for number, slot in self.slots.items() if number >= first)


def worst(traces: Iterable[Trace]) -> list[Trace]:
    """Return the slowest events, slowest first, then the latest of the incomplete ones."""
    found = list(traces)
    slowest = sorted(found, key=lambda trace: -trace.age_ms)[:_SLOWEST]
    incomplete = sorted((t for t in found if t.missing), key=lambda trace: -trace.at)
    return list({trace.id: trace for trace in [*slowest, *incomplete[:_INCOMPLETE]]}.values())


def _slot_number(at: float) -> int:
    return int(at // (SLOT_SECONDS * 1000))


def _sum(first: Verdict, second: Verdict, less: Verdict = Verdict()) -> Verdict:  # noqa: B008
    parts: list[Sequence[Any]] = [msgspec.structs.astuple(each) for each in (first, second, less)]
    return Verdict(*(a + b - c for a, b, c in zip(*parts, strict=True)))
