"""How the records of an event are joined."""

from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Latency
from rtdeliver.latency.joiner import Joiner, JoinerCounts
from rtdeliver.latency.results import Results, Series, Verdict
from rtdeliver.messages import HopRecord
from rtdeliver.spread import Spread

AT = 1_795_417_956_553
SETTLE_SECONDS = 10.0
WINDOW_SECONDS = 60.0


def published(*frontends: str, peers: tuple[str, ...] = (), id: str = "a") -> HopRecord:
    return HopRecord(
        stage="published",
        id=id,
        type="like",
        at=AT,
        ages=((0.5, 1),),
        datacenter="dc1",
        frontends=frontends,
        peers=peers,
    )


def forwarded(*frontends: str, id: str = "a", age_ms: float = 20) -> HopRecord:
    return HopRecord(
        stage="forwarded",
        id=id,
        type="like",
        at=AT,
        ages=((age_ms, 1),),
        datacenter="dc2",
        frontends=frontends,
    )


def hop(
    stage: str,
    node: str,
    *ages: float,
    part: int = 0,
    datacenter: str = "dc1",
    id: str = "a",
    viewers: int = 0,
    left: int = 0,
) -> HopRecord:
    return HopRecord(
        stage=stage,  # type: ignore[arg-type]
        id=id,
        type="like",
        at=AT,
        ages=tuple((age, 1) for age in ages),
        datacenter=datacenter,
        node=node,
        incarnation="first",
        part=part,
        viewers=viewers,
        left=left,
    )


class JoinerTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        self.joiner = self.new_joiner()
        self.tokens = count()
        self.released: list[int] = []

    def new_joiner(self, events: int = 100) -> Joiner[int]:
        return Joiner(
            settings=Latency(settle_seconds=SETTLE_SECONDS, window_seconds=WINDOW_SECONDS),
            datacenters={"dc1", "dc2"},
            events=events,
            now=self.now,
            counts=JoinerCounts(),
        )

    def add(self, *records: HopRecord) -> None:
        for record in records:
            self.joiner.add(record, next(self.tokens))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.released += self.joiner.advance(self.now, AT)

    def ages(self, start: str, end: str, target: str = "dc1") -> tuple[tuple[float, int], ...]:
        """Return the ages from one stage to another of events from dc1."""
        series = Series("like", start, end, "dc1", target)
        return self.joiner.results.ages(AT).get(series, Spread()).items()

    def verdict(self) -> Verdict:
        return self.joiner.results.verdicts(AT).get("like", Verdict())

    def missing(self) -> tuple[str, ...]:
        [trace] = self.joiner.results.traces(AT)
        return trace.missing

    def count(self) -> dict[str, float]:
        """Return what was not joined, by reason."""
        found = {
            sample.labels["reason"]: sample.value
            for sample in self.joiner.counts.samples()
            if sample.name == "unjoined_records"
        }
        return {reason: value for reason, value in found.items() if value}


class JoiningTests(JoinerTestCase):
    def test_ages_count_from_the_acceptance_and_from_the_hop_before(self) -> None:
        self.add(
            published("n1", peers=("dc2",)),
            hop("delivered", "n1", 2, viewers=2),
            hop("sent", "n1", 3, 5, part=1),
            hop("received", "n1", 9, part=2),
            forwarded("n2"),
            hop("delivered", "n2", 24, datacenter="dc2", viewers=1),
        )
        self.assertEqual(self.ages("published", "delivered"), ((2.0, 1),))
        self.assertEqual(self.ages("published", "sent"), ((3.0, 1), (5.0, 1)))
        self.assertEqual(self.ages("delivered", "sent"), ((1.0, 1), (3.0, 1)))
        self.assertEqual(self.ages("published", "received"), ((9.0, 1),))
        self.assertEqual(self.ages("published", "forwarded", "dc2"), ((20.0, 1),))
        self.assertEqual(self.ages("forwarded", "delivered", "dc2"), ((4.0, 1),))
        self.assertEqual(self.ages("published", "delivered", "dc2"), ((24.0, 1),))

    def test_nothing_is_joined_before_the_record_with_which_an_event_began(self) -> None:
        self.add(hop("sent", "n1", 3, part=1), hop("delivered", "n1", 2, viewers=1))
        self.assertEqual(self.joiner.results.ages(AT), {})
        self.add(published("n1"))
        self.assertEqual(self.ages("delivered", "sent"), ((1.0, 1),))

    def test_what_came_everywhere_is_complete(self) -> None:
        self.add(
            published("n1"),
            hop("delivered", "n1", 2, viewers=2),
            hop("sent", "n1", 3, part=1, left=1),
        )
        self.assertEqual(self.verdict(), Verdict())
        self.wait(SETTLE_SECONDS)
        self.assertEqual(self.verdict(), Verdict(published=1, watched=1, delivered=1, sent=1))
        self.assertEqual(self.missing(), ())

    def test_an_event_without_viewers_lacks_nothing(self) -> None:
        self.add(published())
        self.wait(SETTLE_SECONDS)
        self.assertEqual(self.verdict(), Verdict(published=1))

    def test_what_did_not_come_is_named(self) -> None:
        for records, missing, delivered in (
            ([published("n1")], "delivered at n1 (dc1)", 0),
            ([published("n1"), hop("delivered", "n1", 2, viewers=2), hop("sent", "n1", 3, part=1)],
             "sent to 1 of 2 at n1 (dc1)", 1),
            ([published("n1"), hop("delivered", "n1", 2, viewers=2)],
             "sent to 2 of 2 at n1 (dc1)", 1),
            ([published("n1", peers=("dc2",)), hop("delivered", "n1", 2)], "forwarded to dc2", 0),
            ([published(), forwarded("n2")], "delivered at n2 (dc2)", 0),
        ):  # fmt: skip
            with self.subTest(missing=missing):
                self.setUp()
                self.add(*records)
                self.wait(SETTLE_SECONDS)
                verdict = Verdict(published=1, watched=1, delivered=delivered, missing=1)
                self.assertEqual(self.verdict(), verdict)
                self.assertEqual(self.missing(), (missing,))

    def test_a_datacenter_whose_records_go_elsewhere_is_not_waited_for(self) -> None:
        self.add(published(peers=("dc3",)))
        self.wait(SETTLE_SECONDS)
        self.assertEqual(self.verdict(), Verdict(published=1))

    def test_what_comes_after_it_was_missed_counts_after_all(self) -> None:
        self.add(published("n1"))
        self.wait(SETTLE_SECONDS)
        self.assertEqual(self.verdict().missing, 1)
        self.add(hop("delivered", "n1", 2, viewers=1))
        self.add(hop("sent", "n1", 3, part=1), hop("received", "n1", 4, part=2))
        self.assertEqual(
            self.verdict(), Verdict(published=1, watched=1, delivered=1, sent=1, received=1)
        )

    def test_what_comes_after_the_window_is_late(self) -> None:
        self.add(published("n1"))
        self.wait(WINDOW_SECONDS)
        self.add(hop("delivered", "n1", 2))
        self.assertEqual(self.count(), {"late": 1})
        self.assertEqual(self.verdict().missing, 1)

    def test_a_record_that_comes_again_is_counted_and_not_joined(self) -> None:
        self.add(published("n1"), *[hop("delivered", "n1", 2)] * 2)
        self.assertEqual(self.ages("published", "delivered"), ((2.0, 1),))
        self.assertEqual(self.count(), {"repeated": 1})

    def test_records_without_a_beginning_are_counted(self) -> None:
        self.add(hop("delivered", "n1", 2), hop("sent", "n1", 3, part=1))
        self.wait(WINDOW_SECONDS)
        self.assertEqual(self.count(), {"unmatched": 2})
        self.assertEqual(self.verdict(), Verdict())

    def test_the_records_of_too_many_events_are_dropped(self) -> None:
        self.joiner = self.new_joiner(events=1)
        self.add(published("n1"), published("n1", id="b"), hop("delivered", "n1", 2))
        self.assertEqual(self.count(), {"too_many_events": 1})
        self.wait(0)
        self.assertEqual(self.released, [1])

    def test_records_are_released_once_their_event_is_closed(self) -> None:
        self.add(published("n1"), *[hop("delivered", "n1", 2)] * 2)
        self.wait(WINDOW_SECONDS - 1)
        self.assertEqual(self.released, [])
        self.wait(1)
        self.assertEqual(self.released, [0, 1, 2])
        self.assertEqual(len(self.joiner), 0)

    def test_another_joiner_goes_on_with_what_was_closed_and_with_the_other_records(self) -> None:
        self.add(published("n1"), hop("delivered", "n1", 2))
        self.wait(WINDOW_SECONDS / 2)
        self.add(published("n1", id="b"), hop("delivered", "n1", 3, id="b"))
        self.wait(WINDOW_SECONDS / 2)
        before, closed = self.joiner.results, self.joiner.closed
        self.joiner = self.new_joiner()
        self.joiner.restore(Results.decode(closed.encode()))
        self.add(published("n1", id="b"), hop("delivered", "n1", 3, id="b"))
        self.wait(SETTLE_SECONDS)
        self.assertEqual(self.verdict(), before.verdicts(AT)["like"])
        self.assertEqual(self.ages("published", "delivered"), ((2.0, 1), (3.0, 1)))

    def test_types_are_told_apart_up_to_a_number(self) -> None:
        self.joiner = self.new_joiner(events=1000)
        for number in range(150):
            record = HopRecord(
                stage="published", id=str(number), type=f"t{number}", at=AT, ages=((0.0, 1),)
            )
            self.add(record)
        self.wait(SETTLE_SECONDS)
        verdicts = self.joiner.results.verdicts(AT)
        self.assertEqual(len(verdicts), 101)
        self.assertEqual(verdicts["(other)"].published, 50)


class Arrival(NamedTuple):
    """A record, and how long after the one before it comes."""

    seconds: float
    record: HopRecord


NODES = {"dc1": ("n1", "n2"), "dc2": ("n3",)}


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    """Draw records of a few events in any order: some missing, some repeated, some late."""
    records: list[HopRecord] = []
    for name in draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3)):
        peers = draw(st.sampled_from([(), ("dc2",), ("dc2", "dc9")]))
        records.append(published(*draw(subsets(NODES["dc1"])), peers=peers, id=name))
        records.append(forwarded(*draw(subsets(NODES["dc2"])), id=name))
        for datacenter, nodes in NODES.items():
            for node in nodes:
                records += draw(at_frontend(datacenter, node, name))
    chosen = draw(st.lists(st.sampled_from(records), max_size=30)) if records else []
    pauses = st.sampled_from([0, 1, SETTLE_SECONDS, WINDOW_SECONDS / 2, WINDOW_SECONDS])
    return [Arrival(draw(pauses), record) for record in chosen]


def subsets(nodes: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(nodes), unique=True)


@st.composite
def at_frontend(draw: st.DrawFn, datacenter: str, node: str, name: str) -> list[HopRecord]:
    viewers = draw(st.integers(0, 2))
    ages = st.lists(st.integers(5, 50).map(float), min_size=1, max_size=2)
    return [
        hop("delivered", node, draw(st.integers(1, 4).map(float)), datacenter=datacenter,
            viewers=viewers, id=name),
        *(hop("sent", node, *draw(ages), part=part, datacenter=datacenter, id=name,
              left=draw(st.integers(0, 1))) for part in (1, 2)),
        hop("received", node, *draw(ages), part=3, datacenter=datacenter, id=name),
    ]  # fmt: skip


class Model:
    """Joins as the contract says: at the end, with loops over everything."""

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self.events: list[list[HopRecord]] = []
        self.counts: Counter[str] = Counter()
        begun: dict[str, tuple[float, list[HopRecord]]] = {}
        closed: dict[str, float] = {}
        now = 0.0
        for seconds, record in arrivals:
            now += seconds
            for name, (begun_at, _) in list(begun.items()):
                if now >= begun_at + WINDOW_SECONDS:
                    del begun[name]
                    closed[name] = now
            if now - closed.get(record.id, -1e9) < WINDOW_SECONDS and record.id not in begun:
                self.counts["late"] += 1
                continue
            if record.id not in begun:
                begun[record.id] = (now, [])
                self.events.append(begun[record.id][1])
            _, records = begun[record.id]
            if any(key(record) == key(other) for other in records):
                self.counts["repeated"] += 1
            else:
                records.append(record)
        self.counts["unmatched"] = sum(len(e) for e in self.events if not first(e, "published"))

    def ages(self) -> dict[Series, Counter[float]]:
        found: dict[Series, Counter[float]] = {}

        def note(start: str, end: HopRecord, shift: float) -> None:
            series = Series("like", start, end.stage, "dc1", end.datacenter)
            for age, times in end.ages:
                found.setdefault(series, Counter())[age - shift] += times

        for event in self.complete():
            for end in event:
                if end.stage != "published":
                    note("published", end, 0)
                for start in event:
                    place = start.datacenter == end.datacenter
                    if place and (start.stage, end.stage) == ("forwarded", "delivered"):
                        note("forwarded", end, start.ages[0][0])
                    place = place and start.node == end.node
                    if place and (start.stage, end.stage) == ("delivered", "sent"):
                        note("delivered", end, start.ages[0][0])
        return found

    def verdict(self) -> Verdict:
        total: Counter[str] = Counter()
        for event in self.complete():
            [begin] = first(event, "published")
            forwards = first(event, "forwarded")
            due = {("dc1", node) for node in begin.frontends}
            due |= {("dc2", node) for forward in forwards for node in forward.frontends}
            came = {(d.datacenter, d.node): d.viewers for d in event if d.stage == "delivered"}
            sent = dict.fromkeys(came, 0)
            for record in event:
                place = (record.datacenter, record.node)
                if record.stage == "sent" and place in sent:
                    sent[place] += len(record.ages) + record.left
            forwarded = "dc2" not in begin.peers or bool(forwards)
            delivered = forwarded and due <= came.keys()
            complete = delivered and all(sent[p] >= viewers for p, viewers in came.items())
            everywhere = all(sent[p] >= viewers for p, viewers in came.items())
            total["published"] += 1
            total["watched"] += bool(due)
            total["delivered"] += bool(due) and delivered
            total["sent"] += bool(due) and complete
            total["received"] += bool(first(event, "received"))
            total["missing"] += not (delivered and everywhere)
        return Verdict(**total)

    def complete(self) -> list[list[HopRecord]]:
        return [event for event in self.events if first(event, "published")]


def key(record: HopRecord) -> tuple[str, str, str, int]:
    return record.stage, record.datacenter, record.node, record.part


def first(event: Sequence[HopRecord], stage: str) -> list[HopRecord]:
    return [record for record in event if record.stage == stage][:1]


class ModelTests(JoinerTestCase):
    @settings(max_examples=300)
    @given(arrivals=arrivals())
    def test_it_joins_what_the_model_joins(self, arrivals: list[Arrival]) -> None:
        self.setUp()
        for seconds, record in arrivals:
            self.wait(seconds)
            self.add(record)
        self.wait(WINDOW_SECONDS)
        model = Model(arrivals)
        for results in (self.joiner.results, self.joiner.closed):
            self.assertEqual(
                {series: spread.counts for series, spread in results.ages(AT).items()},
                model.ages(),
            )
            self.assertEqual(results.verdicts(AT).get("like", Verdict()), model.verdict())
        self.assertEqual(self.count(), {k: v for k, v in model.counts.items() if v})
        self.assertEqual(sorted(self.released), list(range(len(arrivals))))

    @settings(max_examples=100)
    @given(arrivals=arrivals(), times=st.integers(0, 30))
    def test_a_joiner_that_takes_over_at_any_time_ends_with_the_same(
        self, arrivals: list[Arrival], times: int
    ) -> None:
        arrivals = [Arrival(0, record) for _, record in arrivals]
        self.setUp()
        self.add(*(record for _, record in arrivals[:times]))
        self.wait(SETTLE_SECONDS)
        closed = self.joiner.closed
        self.joiner = self.new_joiner()
        self.joiner.restore(Results.decode(closed.encode()))
        self.add(*(record for _, record in arrivals))
        self.wait(WINDOW_SECONDS)
        model = Model(arrivals)
        self.assertEqual(self.joiner.closed.verdicts(AT).get("like", Verdict()), model.verdict())
