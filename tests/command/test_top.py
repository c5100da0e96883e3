"""What `rtdeliver top` shows of a status."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.command.top import cut, plot, printable, screen, table
from rtdeliver.histogram import Histogram
from rtdeliver.status.history import LastMinute, Rates

STATUS: dict[str, Any] = {
    "role": "rtfrontend",
    "node": "n1",
    "version": "1.0",
    "ready": False,
    "missing": ["no dispatcher answers"],
    "uptime_seconds": 61,
    "connections": 1234,
    "connections_max": 20_000,
    "per_second": {"sent": 1500.0},
    "history": {"sent": [0, 750, 1500]},
    "ages": {"sent": {"count": 5, "p50_ms": 1.5, "p90_ms": 2.0, "p99_ms": None}},
    "frontends": [{"node": "n2", "lease_seconds_left": 29.5}],
    "topics": [{"topic": "live:\x1b[31mred", "viewers": 7}],
    "links": [{"to": "n1", "state": "idle", "waiting_events": 2, "waiting_bytes": 99}],
    "warnings": [{"at": 1_795_417_956, "text": "n1 is late\n\x1b[2J"}],
}


class TopTests(SynchronousTestCase):
    def shown(self, columns: int = 200, **status: Any) -> str:
        return "\n".join(screen({**STATUS, **status}, columns))

    def test_it_shows_what_is_told(self) -> None:
        shown = self.shown()
        for expected in (
            "rtfrontend n1  NOT READY: no dispatcher answers  up 61 s",
            "connections        1,234 of 20,000",
            "sent/s           1,500.0   ▄█",
            "n2                  -",
            "n1        idle            2          99",
        ):
            self.assertIn(expected, shown)

    def test_nothing_that_others_have_named_changes_the_terminal(self) -> None:
        self.assertNotIn("\x1b", self.shown())
        self.assertEqual(printable("a\x1b[31m\nb\u202e"), "a [31m b ")

    def test_no_line_is_wider_than_the_terminal(self) -> None:
        for columns in (20, 40, 80):
            lines = self.shown(columns).splitlines()
            self.assertLessEqual(max(map(len, lines)), columns)
        self.assertEqual(cut("abcdef", 4), "abc…")

    def test_a_process_without_anything_is_shown_too(self) -> None:
        histograms = LastMinute({"sent": Histogram()})
        shown = self.shown(
            ages=histograms.tell(), history=Rates({}).history(), per_second={}, warnings=[],
            frontends=[], topics=[], links=[],
        )  # fmt: skip
        self.assertIn("sent", shown)
        self.assertNotIn("last warnings", shown)

    def test_columns_are_as_wide_as_they_need_to_be(self) -> None:
        self.assertEqual(
            list(table(("a", "b"), [("long", 1), ("x", 1234.56)])),
            ["a           b", "long        1", "x     1,234.6"],
        )

    def test_a_plot_has_a_character_a_second_for_a_minute(self) -> None:
        self.assertEqual(plot([0, 1, 2]), " ▄█")
        self.assertEqual(plot([]), "")
        self.assertEqual(len(plot([5] * 100)), 60)
