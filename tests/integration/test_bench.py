"""Every benchmark, small, with real processes; nothing is timed."""

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
from twisted.trial.unittest import SkipTest, TestCase

from rtdeliver.bench.events import Schedule
from rtdeliver.bench.machine import BenchError, children
from rtdeliver.bench.nchan import installed
from rtdeliver.bench.processes import Child
from rtdeliver.bench.reading import Finish, Measure, Outcome, ReaderPlan, read_streams
from rtdeliver.bench.report import Report
from rtdeliver.bench.tally import Window
from tests.integration.roles import ROOT, RoleProcess, eventually, is_running

_DEADLINE_SECONDS = 120


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hi\n\n"
_SCHEDULE = Schedule(topics=["red"], rate=100, data_bytes=80, seconds=3)


def rtbench(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a benchmark to its end."""
    return subprocess.run(
        [sys.executable, "-m", "rtdeliver.bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        timeout=_DEADLINE_SECONDS,
        check=False,
    )


def measured(*arguments: str) -> list[Report]:
    """Return what a benchmark reports."""
    ended = rtbench(*arguments, "--json", "-")
    assert ended.returncode == 0, ended.stderr.decode()
    return msgspec.json.decode(ended.stdout, type=list[Report])


def number(report: Report, name: str) -> float:
    """Return a figure that is a number."""
    figure = report.figures[name]
    assert isinstance(figure, int | float), figure
    return figure


FEW = ("--viewers", "30", "--rate", "40", "--seconds", "1", "--warmup-seconds", "1")


class FanOutTests(TestCase):
    def assert_all_came(self, report: Report, *, streams: int, events: int) -> None:
        figures = report.figures
        self.assertEqual(figures["published"], events)
        self.assertEqual(figures["received"], streams * events)
        for fault in ("lost", "duplicated", "out_of_order", "gap_frames", "streams_ended"):
            self.assertEqual(figures[fault], 0, fault)
        self.assertGreater(number(report, "p50_ms"), 0)
        self.assertLessEqual(number(report, "p50_ms"), number(report, "max_ms"))

    def test_every_event_comes_to_every_viewer(self) -> None:
        (report,) = measured("fanout", *FEW)
        self.assert_all_came(report, streams=30, events=80)
        self.assertGreaterEqual(number(report, "events_per_send"), 1)

    def test_viewers_may_watch_several_topics_in_several_readers(self) -> None:
        (report,) = measured("fanout", *FEW, "--topics", "3", "--readers", "2")
        # Ten viewers of each topic.
        self.assertEqual(report.figures["lost"], 0)
        self.assertEqual(report.figures["received"], 10 * 80)

    def test_the_limit_of_the_machine_is_measured_by_the_same_readers(self) -> None:
        ours, limit = measured("fanout", "--limit", *FEW, "--topics", "2")
        for report in (ours, limit):
            self.assertEqual(report.figures["lost"], 0)
            self.assertEqual(report.figures["received"], 15 * 80)
        self.assertGreaterEqual(number(limit, "events_per_send"), 1)
        self.assertGreater(number(ours, "p90_ms_times_limit"), 0)

    def test_a_table_and_a_plot_are_made(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "plot.svg")
            ended = rtbench("limit", *FEW, "--plot", str(path))
            self.assertEqual((ended.returncode, ended.stderr), (0, b""))
            self.assertIn(b"deliveries_per_second", ended.stdout)
            self.assertIn(b"</svg>", path.read_bytes())


class HoldTests(TestCase):
    def test_streams_are_held_by_several_processes_and_a_crowd_returns(self) -> None:
        held, storm = measured(
            *("hold", "--viewers", "60", "--workers", "2"),
            *("--storm", "40", "--others", "10", "--storm-seconds", "2"),
        )
        self.assertEqual(held.figures["received"], 60)
        self.assertLessEqual(number(held, "first_ms"), number(held, "last_ms"))
        self.assertGreater(number(storm, "reconnect_per_second"), 0)
        for figures in (held.figures, storm.figures):
            self.assertEqual((figures["lost"], figures["streams_ended"]), (0, 0))


class CompareTests(TestCase):
    def test_nchan_is_measured_side_by_side_with_ours(self) -> None:
        try:
            installed()
        except BenchError as error:
            raise SkipTest(str(error)) from None
        ours, theirs = measured(
            "compare", "--viewers", "20", "--rates", "40", "--seconds", "1", "--rounds", "1"
        )
        for report in (ours, theirs):
            self.assertEqual(report.figures["sustained_rate"], 40)
            self.assertEqual(report.figures["lost_at_40"], 0)
        self.assertEqual((ours.title, theirs.title), ("rtdeliver", "nchan"))


class ReaderTests(TestCase):
    """What a reader makes of streams that are cut, repeated and shuffled."""

    def read(self, *pieces: bytes, published: int, seconds: float = _DEADLINE_SECONDS) -> Outcome:
        """Return what a reader counts whose one stream receives these pieces."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            plan = ReaderPlan(
                url=f"http://127.0.0.1:{listener.getsockname()[1]}/connect?topic=",
                topics=["red"],
                first=0,
                streams=1,
                sources=["127.0.0.9"],
                in_flight=1,
                open_seconds=_DEADLINE_SECONDS,
            )
            with Child("reader", read_streams, plan) as reader:
                stream, (address, _) = listener.accept()
                with stream:
                    self.assertEqual(address, "127.0.0.9")
                    self.assertIn(b"GET /connect?topic=red HTTP/1.1", stream.recv(65536))
                    stream.sendall(_HEAD[:20])
                    stream.sendall(_HEAD[20:])
                    self.assertEqual(reader.receive(_DEADLINE_SECONDS).streams, 1)
                    measure = Measure(Window(0, 1))
                    self.assertEqual(reader.ask(measure, _DEADLINE_SECONDS), measure)
                    for piece in pieces:
                        stream.sendall(piece)
                    outcome = reader.ask(Finish({0: published}, seconds), _DEADLINE_SECONDS)
        assert isinstance(outcome, Outcome)
        return outcome

    def test_events_are_put_together_from_pieces(self) -> None:
        data = b":\n" + b"".join(map(_SCHEDULE.frame, range(300)))
        pieces = [data[at : at + 701] for at in range(0, len(data), 701)]
        outcome = self.read(*pieces, published=300)
        self.assertEqual((outcome.received, outcome.lost, outcome.twice), (300, 0, 0))
        self.assertEqual((outcome.out_of_order, outcome.gaps, outcome.ended), (0, 0, 0))
        # Those of the first second are in the window.
        self.assertEqual(len(outcome.latency), 100)

    def test_repeats_and_wrong_order_are_counted(self) -> None:
        gap = b'event: gap\ndata: {"lost":null,"topics":["red"]}\n\n'
        frames = [_SCHEDULE.frame(event) for event in (0, 1, 1, 3, 2, 4)]
        outcome = self.read(*frames[:3], gap, *frames[3:], published=5)
        self.assertEqual((outcome.received, outcome.lost, outcome.twice), (5, 0, 1))
        self.assertEqual((outcome.out_of_order, outcome.gaps), (1, 1))

    def test_what_never_came_is_lost_and_a_stream_may_end(self) -> None:
        outcome = self.read(_SCHEDULE.frame(0), _SCHEDULE.frame(2), published=4, seconds=2)
        self.assertEqual((outcome.received, outcome.lost), (2, 2))

    def test_what_is_no_event_ends_the_measurement(self) -> None:
        with self.assertRaisesRegex(BenchError, "is no event"):
            self.read(b"data: hello\n\n", published=1)


class FailureTests(TestCase):
    """What becomes of a benchmark that cannot go on."""

    def test_a_server_that_is_not_there_is_told_in_one_line(self) -> None:
        urls = [
            word
            for name in ("dispatcher", "frontend", "frontend-metrics")
            for word in (f"--{name}", "http://127.0.0.1:1")
        ]
        ended = rtbench("fanout", *FEW, *urls)
        self.assertEqual((ended.returncode, ended.stdout), (1, b""))
        self.assertEqual(ended.stderr.count(b"\n"), 1, ended.stderr)
        self.assertIn(b"refused", ended.stderr.lower())

    def test_a_role_that_does_not_start_is_told_by_its_last_line(self) -> None:
        role = RoleProcess("rtdispatcher", "--listen", "nonsense")
        self.addCleanup(role.stop)
        with self.assertRaisesRegex(
            BenchError, r"^rtdispatcher did not start: .*nonsense"
        ) as found:
            role.wait_ready()
        self.assertNotIn("\n", str(found.exception))
        self.assertEqual(found.exception.__notes__, [role.output])

    def test_a_benchmark_that_is_killed_leaves_nothing_behind(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "rtdeliver.bench", "fanout", "--viewers", "5"], cwd=ROOT
        ) as bench:
            # Two roles, a reader, a producer, and one that looks after resources.
            eventually(lambda: len(children(bench.pid)) == 5, "all is started")
            started = children(bench.pid)
            bench.kill()
        eventually(lambda: not any(map(is_running, started)), "all has ended")
