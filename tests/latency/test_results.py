"""What joined records have shown, and what operators are told of it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Latency
from rtdeliver.errors import BadRequest
from rtdeliver.latency.results import SLOT_SECONDS, Hop, Results, Series, Trace, Verdict
from rtdeliver.latency.summary import Summary

NOW = 1_795_417_955.0
AT = int(NOW * 1000)
SERIES = Series("like", "published", "sent", "dc1", "dc2")
RECEIVED = Series("like", "published", "received", "dc1", "dc1")


def trace(id: str, age_ms: float, *missing: str, at: int = AT) -> Trace:
    hops = (Hop("published", "dc1", "", 0.1, 0.1, 1), Hop("sent", "dc1", "n1", 1.0, age_ms, 3))
    return Trace(id, "like", at, age_ms, hops, missing)


class ResultsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.results = Results()

    def test_results_are_told_by_the_time_of_acceptance(self) -> None:
        for seconds in (0, 30, 120):
            self.results.add(AT - seconds * 1000, SERIES, [(1.0, 1)])
            self.results.judge(AT - seconds * 1000, "like", Verdict(published=1))
        for seconds, expected in ((0, 1), (60, 2), (300, 3)):
            since = AT - seconds * 1000
            self.assertEqual(len(self.results.ages(since)[SERIES]), expected)
            self.assertEqual(self.results.verdicts(since)["like"].published, expected)

    def test_a_verdict_takes_the_place_of_an_earlier_one(self) -> None:
        earlier = Verdict(published=1, watched=1, missing=1)
        self.results.judge(AT, "like", earlier)
        later = Verdict(published=1, watched=1, delivered=1, sent=1)
        self.results.judge(AT, "like", later, instead=earlier)
        self.assertEqual(self.results.verdicts(AT), {"like": later})

    def test_the_slowest_events_are_kept_and_the_incomplete_ones(self) -> None:
        self.results.trace(trace("quick", 0.5, "sent to 1 of 2 at n1"))
        for number in range(200):
            self.results.trace(trace(str(number), number))
        traces = self.results.traces(AT)
        self.assertEqual([t.id for t in traces[:3]], ["199", "198", "197"])
        self.assertEqual(len(traces), 11)
        self.assertEqual(traces[-1].id, "quick")

    def test_an_event_has_one_trace(self) -> None:
        self.results.trace(trace("a", 5, "delivered at n1"))
        self.results.trace(trace("a", 7))
        self.assertEqual(self.results.traces(AT), [trace("a", 7)])

    def test_old_results_are_forgotten(self) -> None:
        self.results.add(AT, SERIES, [(1.0, 1)])
        self.results.add(AT + SLOT_SECONDS * 1000, SERIES, [(2.0, 1)])
        self.results.forget_before(AT + SLOT_SECONDS * 1000)
        self.assertEqual(self.results.ages(0)[SERIES].items(), ((2.0, 1),))

    def test_results_of_several_are_added(self) -> None:
        for age, verdict in ((1.0, Verdict(published=1)), (2.0, Verdict(published=2))):
            other = Results()
            other.add(AT, SERIES, [(age, 1)])
            other.judge(AT, "like", verdict)
            other.trace(trace(str(age), age))
            self.results.merge(other)
        self.assertEqual(self.results.ages(AT)[SERIES].items(), ((1.0, 1), (2.0, 1)))
        self.assertEqual(self.results.verdicts(AT), {"like": Verdict(published=3)})
        self.assertEqual([t.id for t in self.results.traces(AT)], ["2.0", "1.0"])

    @given(
        ages=st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 10**5)), max_size=20),
        missing=st.lists(st.text(), max_size=3),
    )
    def test_results_can_be_stored(self, ages: list[tuple[int, float]], missing: list[str]) -> None:
        results = Results()
        for at, age in ages:
            results.add(at, SERIES, [(age, 1)])
            results.judge(at, "like", Verdict(published=1, missing=1))
            results.trace(trace(str(at), age, *missing, at=at))
        read = Results.decode(results.encode())
        self.assertEqual(
            {series: spread.counts for series, spread in read.ages(0).items()},
            {series: spread.counts for series, spread in results.ages(0).items()},
        )
        self.assertEqual(read.verdicts(0), results.verdicts(0))
        self.assertEqual(read.traces(0), results.traces(0))

    def test_anything_else_is_refused(self) -> None:
        for data in (b"", b"\x01", b"[]"):
            self.assertRaises(BadRequest, Results.decode, data)


class SummaryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.results = Results()
        self.summary = Summary(
            results=lambda since: self.results.since(since),
            settings=Latency(objective_ms=75, objective_share=0.9),
            now=lambda: NOW,
        )

    def tell(self) -> dict[str, Any]:
        return self.summary.tell(self.results)

    def test_percentiles_are_told_for_a_minute_and_for_five(self) -> None:
        self.results.add(AT, SERIES, [(float(age), 1) for age in range(1, 101)])
        self.results.add(AT - 120_000, SERIES, [(1000.0, 900)])
        minute, five = self.tell()["stages"]
        self.assertEqual(
            minute,
            {
                "seconds": 60,
                "type": "like",
                "from": "published",
                "to": "sent",
                "origin": "dc1",
                "target": "dc2",
                "count": 100,
                "p50_ms": 50.0,
                "p90_ms": 90.0,
                "p99_ms": 99.0,
            },
        )
        self.assertEqual((five["seconds"], five["count"], five["p50_ms"]), (300, 1000, 1000.0))

    def test_completeness_is_told_by_type(self) -> None:
        self.results.judge(AT, "like", Verdict(2, 2, 1, 1, 0, 1))
        expected = {"type": "like", "published": 2, "watched": 2, "delivered": 1, "sent": 1,
                    "received": 0, "missing": 1}  # fmt: skip
        self.assertEqual(
            self.tell()["completeness"],
            [{"seconds": 60, **expected}, {"seconds": 300, **expected}],
        )

    def test_the_slowest_events_are_told_with_each_hop(self) -> None:
        self.results.trace(trace("a", 5.0, "sent to 1 of 4 at n1"))
        told = self.tell()
        [slowest] = told["slowest"]
        self.assertEqual(told["incomplete"], [slowest])
        self.assertEqual(slowest["missing"], ["sent to 1 of 4 at n1"])
        self.assertEqual(
            slowest["hops"][1],
            {"stage": "sent", "datacenter": "dc1", "node": "n1", "first_ms": 1.0, "last_ms": 5.0,
             "times": 3},
        )  # fmt: skip

    def test_the_objective_is_met_while_most_receipts_are_quick(self) -> None:
        for slow, met in ((10, True), (11, False)):
            self.results = Results()
            self.results.add(AT, RECEIVED, [(75.0, 100 - slow), (76.0, slow)])
            objective = self.tell()["objective"]
            self.assertEqual(objective["met"], met)
            self.assertEqual(objective["measured_ms"], 75.0 if met else 76.0)
            self.assertEqual(objective["count"], 100)
            self.assertEqual(self.sample("latency_objective_met"), int(met))

    def test_the_objective_is_met_while_nothing_is_received(self) -> None:
        self.results.add(AT - 120_000, RECEIVED, [(1000.0, 1)])
        objective = self.tell()["objective"]
        self.assertTrue(objective["met"])
        self.assertIsNone(objective["measured_ms"])

    def test_the_status_is_told_of_the_last_minute_only(self) -> None:
        self.results.add(AT, SERIES, [(20.0, 1)])
        self.results.add(AT - 120_000, SERIES, [(30.0, 1)])
        self.results.judge(AT, "like", Verdict(published=1))
        self.results.judge(AT - 120_000, "like", Verdict(published=1))
        told = self.summary.brief()
        [stage] = told["stages"]
        [complete] = told["completeness"]
        self.assertEqual((stage["count"], stage["p50_ms"]), (1, 20.0))
        self.assertEqual(complete["published"], 1)
        self.assertTrue(told["objective"]["met"])

    def test_the_last_minute_is_exposed_in_seconds(self) -> None:
        self.results.add(AT, SERIES, [(20.0, 1)])
        self.assertEqual(self.sample("latency_seconds"), 0.02)

    def sample(self, name: str) -> float:
        return next(sample.value for sample in self.summary.samples() if sample.name == name)
