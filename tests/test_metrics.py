"""How counts become Prometheus text."""

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.histogram import Histogram
from rtdeliver.metrics import Exposition, Sample, counter, dropped, gauge, histogram


def ours(exposition: Exposition) -> dict[str, float]:
    """Return the rtdeliver samples of a scrape by name, with their labels sorted."""
    found = {}
    for family in text_string_to_metric_families(exposition.text().decode()):
        for sample in family.samples:
            if sample.name.startswith("rtdeliver_"):
                labels = ",".join(
                    f"{name}={value}" for name, value in sorted(sample.labels.items())
                )
                found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


class ExpositionTests(SynchronousTestCase):
    def test_a_counter_ends_in_total_and_a_gauge_does_not(self) -> None:
        exposition = Exposition(
            [lambda: [counter("sent", "Sent.", 3), gauge("links", "Links.", 2)]]
        )
        self.assertEqual(ours(exposition), {"rtdeliver_sent_total{}": 3, "rtdeliver_links{}": 2})
        text = exposition.text()
        self.assertIn(b"# HELP rtdeliver_sent_total Sent.\n", text)
        self.assertIn(b"# TYPE rtdeliver_sent_total counter\n", text)
        self.assertIn(b"# TYPE rtdeliver_links gauge\n", text)

    def test_samples_of_one_name_from_several_rooms_are_one_family(self) -> None:
        exposition = Exposition(
            [
                lambda: [gauge("mailbox_bytes", "Bytes.", 1, actor="link")],
                lambda: [gauge("mailbox_bytes", "Bytes.", 2, actor="connection")],
            ]
        )
        self.assertEqual(
            ours(exposition),
            {
                "rtdeliver_mailbox_bytes{actor=link}": 1,
                "rtdeliver_mailbox_bytes{actor=connection}": 2,
            },
        )
        self.assertEqual(exposition.text().count(b"# TYPE rtdeliver_mailbox_bytes "), 1)

    def test_a_label_stands_under_its_own_name_whatever_the_order(self) -> None:
        exposition = Exposition(
            [lambda: [counter("c", "C.", 1, a="1", b="2"), counter("c", "C.", 2, b="4", a="3")]]
        )
        self.assertEqual(
            ours(exposition), {"rtdeliver_c_total{a=1,b=2}": 1, "rtdeliver_c_total{a=3,b=4}": 2}
        )

    def test_a_label_may_be_any_text(self) -> None:
        exposition = Exposition([lambda: [gauge("g", "G.", 1, peer='a"b\\c\nd')]])
        self.assertEqual(ours(exposition), {'rtdeliver_g{peer=a"b\\c\nd}': 1})

    def test_durations_are_buckets_that_add_up(self) -> None:
        durations = Histogram()
        for seconds in (0.0001, 0.010, 0.010, 7200):
            durations.observe(seconds)
        found = ours(Exposition([lambda: [histogram("age", "Ages.", durations, stage="sent")]]))
        expected = {
            "rtdeliver_age_bucket{le=0.0005,stage=sent}": 1,
            "rtdeliver_age_bucket{le=60.11,stage=sent}": 3,
            "rtdeliver_age_bucket{le=+Inf,stage=sent}": 4,
            "rtdeliver_age_count{stage=sent}": 4,
            "rtdeliver_age_sum{stage=sent}": 7200.0201,
        }
        self.assertEqual({name: found[name] for name in expected}, expected)

    def test_each_scrape_asks_anew(self) -> None:
        samples: list[Sample] = []
        exposition = Exposition([lambda: samples])
        self.assertEqual(ours(exposition), {})
        samples.append(counter("sent", "Sent.", 1))
        self.assertEqual(ours(exposition), {"rtdeliver_sent_total{}": 1})
        samples[0] = counter("sent", "Sent.", 5)
        self.assertEqual(ours(exposition), {"rtdeliver_sent_total{}": 5})

    def test_drops_are_told_apart_by_place_and_reason(self) -> None:
        exposition = Exposition([lambda: [dropped(4, at="frontend", reason="mailbox_full")]])
        self.assertEqual(
            ours(exposition), {"rtdeliver_dropped_total{at=frontend,reason=mailbox_full}": 4}
        )

    def test_the_process_is_measured_too(self) -> None:
        text = Exposition([]).text()
        for name in (b"process_resident_memory_bytes", b"process_open_fds", b"python_info"):
            self.assertIn(b"\n" + name, text)

    def test_two_expositions_in_one_process_are_apart(self) -> None:
        first = Exposition([lambda: [gauge("g", "G.", 1)]])
        second = Exposition([lambda: [gauge("g", "G.", 2)]])
        self.assertEqual((ours(first), ours(second)), ({"rtdeliver_g{}": 1}, {"rtdeliver_g{}": 2}))
