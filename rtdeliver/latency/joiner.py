"""How the records of an event are joined, in whatever order they come."""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Generic, TypeVar

from rtdeliver.config.sections import Latency
from rtdeliver.latency.results import KEPT_SECONDS, Hop, Results, Series, Trace, Verdict
from rtdeliver.messages import HopRecord
from rtdeliver.metrics import Sample, counter

T = TypeVar("T")

STAGES = ("published", "forwarded", "delivered", "sent", "received")

# How many types a joiner tells apart. Events of further ones count as this one.
_TYPES = 100
_FURTHER_TYPE = "(other)"

_Process = tuple[str, str, str]
"""The datacenter, the node and the incarnation of a frontend."""


class _Joining(Generic[T]):
    """What is known of an event.

    :ivar begun_at: when its first record came.
    :ivar tokens: of its records.
    :ivar parts: its records, without repeated ones.
    :ivar published: the record with which it began. Before that has come, nothing is joined.
    :ivar origin: the datacenter where it was published.
    :ivar joined: what was counted of it in the results.
    :ivar is_settled: whether what did not come yet is missing.
    :ivar verdict: the one that counts in the results.
    :ivar missing: what has not come, in words.
    """

    __slots__ = (
        "at",
        "begun_at",
        "deliveries",
        "forwards",
        "id",
        "is_settled",
        "joined",
        "missing",
        "origin",
        "parts",
        "published",
        "sent",
        "tokens",
        "type",
        "verdict",
    )

    def __init__(self, record: HopRecord, *, type: str, begun_at: float) -> None:
        self.id = record.id
        self.type = type
        self.at = record.at
        self.begun_at = begun_at
        self.tokens: list[T] = []
        self.parts: dict[tuple[str, str, str, str, int], HopRecord] = {}
        self.published: HopRecord | None = None
        self.origin = ""
        self.forwards: dict[str, HopRecord] = {}
        self.deliveries: dict[_Process, HopRecord] = {}
        self.sent: defaultdict[_Process, list[HopRecord]] = defaultdict(list)
        self.joined: list[tuple[Series, tuple[tuple[float, int], ...]]] = []
        self.is_settled = False
        self.verdict = Verdict()
        self.missing: tuple[str, ...] = ()


class Joiner(Generic[T]):
    """Joins the records of each event, and keeps what that shows as `results`.

    An event is settled after ``settle_seconds``: what did not come counts as missing from then on,
    until it comes. After ``window_seconds`` the event is closed, and what comes later is counted as
    late and no more.

    :param datacenters: those whose records come to here. What goes to others is not waited for.
    :param events: how many events are joined at a time.
    :param now: the time, in seconds of any clock that measures durations.
    :param counts: where records are counted; those of several joiners may be the same.
    :ivar results: of all events.
    :ivar closed: of those that are closed.
    """

    def __init__(
        self,
        *,
        settings: Latency,
        datacenters: Collection[str],
        events: int,
        now: float,
        counts: "JoinerCounts",
    ) -> None:
        self._settle_seconds = settings.settle_seconds
        self._window_seconds = settings.window_seconds
        self._datacenters = frozenset(datacenters)
        self._most_events = events
        self._now = now
        self.results = Results()
        self.closed = Results()
        self.counts = counts
        self._events: OrderedDict[str, _Joining[T]] = OrderedDict()
        self._unsettled: OrderedDict[str, _Joining[T]] = OrderedDict()
        # When the events were closed that were closed within the last window.
        self._gone: OrderedDict[str, float] = OrderedDict()
        self._released: list[T] = []
        self._types: set[str] = set()

    def __len__(self) -> int:
        return len(self._events)

    def restore(self, closed: Results) -> None:
        """Begin with the results of events that another joiner has closed."""
        self.closed.merge(closed)
        self.results.merge(closed)

    def add(self, record: HopRecord, token: T) -> None:
        """Join a record.

        :param token: `advance` returns it once the record is needed no longer.
        """
        event = self._event_of(record)
        if event is None:
            self._released.append(token)
            return
        event.tokens.append(token)
        key = (record.stage, *_process(record), record.part)
        if key in event.parts:
            self.counts.repeated += 1
            return
        event.parts[key] = record
        self.counts.records[record.stage] += 1
        if event.published is not None:
            self._join(event, record)
        elif record.stage == "published":
            event.published = record
            event.origin = record.datacenter
            for part in event.parts.values():
                self._join(event, part)
        if event.is_settled:
            self._judge(event)

    def advance(self, now: float, at: float) -> list[T]:
        """Settle and close the events that are due.

        :param now: the time by the clock of the constructor's.
        :param at: the wall clock, in milliseconds since the epoch.
        :return: the tokens of records that are needed no longer.
        """
        self._now = now
        for event in _take_until(self._unsettled, now - self._settle_seconds):
            event.is_settled = True
            self._judge(event)
        for event in _take_until(self._events, now - self._window_seconds):
            self._close(event)
        while self._gone and next(iter(self._gone.values())) <= now - self._window_seconds:
            self._gone.popitem(last=False)
        for results in (self.results, self.closed):
            results.forget_before(at - (KEPT_SECONDS + self._window_seconds) * 1000)
        released, self._released = self._released, []
        return released

    def _event_of(self, record: HopRecord) -> _Joining[T] | None:
        """Return the event of a record; ``None`` if the record is not to be joined."""
        event = self._events.get(record.id)
        if event is not None:
            return event
        if record.id in self._gone:
            self.counts.late += 1
            return None
        if len(self._events) >= self._most_events:
            self.counts.dropped += 1
            return None
        event = _Joining(record, type=self._known_type(record.type), begun_at=self._now)
        self._events[record.id] = self._unsettled[record.id] = event
        return event

    def _known_type(self, type: str) -> str:
        if type not in self._types and len(self._types) >= _TYPES:
            return _FURTHER_TYPE
        self._types.add(type)
        return type

    def _join(self, event: _Joining[T], record: HopRecord) -> None:
        """Count the ways whose later end to come is ``record``."""
        process = _process(record)
        if record.stage != "published":
            self._count(event, "published", record)
        match record.stage:
            case "forwarded":
                event.forwards[record.datacenter] = record
                for delivery in event.deliveries.values():
                    if delivery.datacenter == record.datacenter:
                        self._count(event, "forwarded", delivery, since=record)
            case "delivered":
                event.deliveries[process] = record
                if record.datacenter in event.forwards:
                    forward = event.forwards[record.datacenter]
                    self._count(event, "forwarded", record, since=forward)
                for sent in event.sent.get(process, ()):
                    self._count(event, "delivered", sent, since=record)
            case "sent":
                event.sent[process].append(record)
                if process in event.deliveries:
                    self._count(event, "delivered", record, since=event.deliveries[process])

    def _count(
        self, event: _Joining[T], start: str, end: HopRecord, since: HopRecord | None = None
    ) -> None:
        """Count a way to ``end``.

        :param since: the record with which the way begins. Without it, the way begins when the
            event was accepted.
        """
        shift = since.ages[0][0] if since is not None and since.ages else 0.0
        ages = tuple((age - shift, times) for age, times in end.ages)
        if ages:
            series = Series(event.type, start, end.stage, event.origin, end.datacenter)
            event.joined.append((series, ages))
            self.results.add(event.at, series, ages)

    def _judge(self, event: _Joining[T]) -> None:
        if event.published is None:
            return
        routes = {**event.forwards, event.origin: event.published}
        missing = self._missing(event, routes)
        stages = {stage for stage, _ in missing}
        watched = any(route.frontends for route in routes.values())
        delivered = watched and stages <= {"sent"}
        verdict = Verdict(
            published=1,
            watched=int(watched),
            delivered=int(delivered),
            sent=int(delivered and not stages),
            received=int(any(part.stage == "received" for part in event.parts.values())),
            missing=int(bool(missing)),
        )
        self.results.judge(event.at, event.type, verdict, instead=event.verdict)
        event.verdict = verdict
        event.missing = tuple(text for _, text in missing)
        self.results.trace(_trace(event))

    def _missing(
        self, event: _Joining[T], routes: Mapping[str, HopRecord]
    ) -> list[tuple[str, str]]:
        """Return what should have come and did not: the stage, and the words for it.

        :param routes: the records that tell where the event is delivered, by datacenter.
        """
        missing = [
            ("forwarded", f"forwarded to {peer}")
            for peer in routes[event.origin].peers
            if peer in self._datacenters and peer not in event.forwards
        ]
        there = {(datacenter, node) for datacenter, node, _ in event.deliveries}
        missing += [
            ("delivered", f"delivered at {_place(datacenter, node)}")
            for datacenter, route in routes.items()
            for node in route.frontends
            if (datacenter, node) not in there
        ]
        for process, delivery in event.deliveries.items():
            sent = event.sent.get(process, ())
            settled = sum(_times(record) + record.left for record in sent)
            if settled < delivery.viewers:
                lacking = delivery.viewers - settled
                where = _place(delivery.datacenter, delivery.node)
                missing.append(("sent", f"sent to {lacking} of {delivery.viewers} at {where}"))
        return missing

    def _close(self, event: _Joining[T]) -> None:
        self._unsettled.pop(event.id, None)
        self._gone[event.id] = self._now
        if len(self._gone) > self._most_events:
            self._gone.popitem(last=False)
        self._released.extend(event.tokens)
        if event.published is None:
            self.counts.unmatched += len(event.parts)
            return
        if not event.is_settled:
            self._judge(event)
        self.counts.closed += 1
        self.counts.missing += event.verdict.missing
        for series, ages in event.joined:
            self.closed.add(event.at, series, ages)
        self.closed.judge(event.at, event.type, event.verdict)
        self.closed.trace(_trace(event))


class JoinerCounts:
    """Counts over one or several joiners of a process.

    :ivar records: that were joined, by stage.
    :ivar repeated: records that had come before.
    :ivar late: records of events that were closed.
    :ivar unmatched: records of events that were closed without the record with which they began.
    :ivar dropped: records of events that were too many to join.
    :ivar unreadable: records that another version has written.
    :ivar closed: events.
    :ivar missing: events among these that did not come where they had to.
    """

    def __init__(self) -> None:
        self.records: Counter[str] = Counter(dict.fromkeys(STAGES, 0))
        self.repeated = 0
        self.late = 0
        self.unmatched = 0
        self.dropped = 0
        self.unreadable = 0
        self.closed = 0
        self.missing = 0

    def samples(self) -> list[Sample]:
        return [
            *(
                counter("joined_records", "Records joined, by stage.", times, stage=stage)
                for stage, times in self.records.items()
            ),
            *(
                counter("unjoined_records", "Records not joined, by reason.", times, reason=reason)
                for reason, times in (
                    ("repeated", self.repeated),
                    ("late", self.late),
                    ("unmatched", self.unmatched),
                    ("too_many_events", self.dropped),
                    ("unreadable", self.unreadable),
                )
            ),
            counter("joined_events", "Events whose records are all joined.", self.closed),
            counter(
                "incomplete_events",
                "Events among these that did not come to all of their viewers.",
                self.missing,
            ),
        ]


def _take_until(events: OrderedDict[str, _Joining[T]], until: float) -> Iterator[_Joining[T]]:
    """Take out the events that began until then; they are in the order in which they began."""
    while events:
        event = next(iter(events.values()))
        if event.begun_at > until:
            return
        del events[event.id]
        yield event


def _process(record: HopRecord) -> _Process:
    return record.datacenter, record.node, record.incarnation


def _times(record: HopRecord) -> int:
    return sum(times for _, times in record.ages)


def _place(datacenter: str, node: str) -> str:
    return f"{node} ({datacenter})" if datacenter else node


def _trace(event: _Joining[T]) -> Trace:
    hops: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for part in event.parts.values():
        hops.setdefault((part.stage, part.datacenter, part.node), []).extend(part.ages)
    ordered = sorted(hops.items(), key=lambda item: STAGES.index(item[0][0]))
    return Trace(
        id=event.id,
        type=event.type,
        at=event.at,
        age_ms=max((age for _, ages in ordered for age, _ in ages), default=0.0),
        hops=tuple(
            Hop(
                *place,
                min((age for age, _ in ages), default=0.0),
                max((age for age, _ in ages), default=0.0),
                sum(times for _, times in ages),
            )
            for place, ages in ordered
        ),
        missing=event.missing,
    )
