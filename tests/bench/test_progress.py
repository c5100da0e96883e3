"""A line on a terminal that tells how far a measurement is."""

import io

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.progress import Progress


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


class ProgressTests(SynchronousTestCase):
    def test_it_is_drawn_on_a_terminal_and_taken_away(self) -> None:
        terminal = Terminal()
        progress = Progress(terminal)
        progress.update(4, 4, "connecting")
        self.assertEqual(terminal.getvalue(), f"\r[{'#' * 24}] 100% connecting")
        progress.close()
        last = terminal.getvalue().split("\r")[-2:]
        self.assertEqual((last[0].strip(), last[1]), ("", ""))

    def test_a_shorter_line_covers_the_one_before(self) -> None:
        terminal = Terminal()
        progress = Progress(terminal)
        progress.update(1, 1, "something long")
        progress.update(1, 1, "short")
        _, long, short = terminal.getvalue().split("\r")
        self.assertEqual(len(long), len(short))

    def test_nothing_is_drawn_elsewhere_or_when_it_is_to_be_quiet(self) -> None:
        file, terminal = io.StringIO(), Terminal()
        for progress in (Progress(file), Progress(terminal, quiet=True)):
            progress.update(1, 1, "connecting")
            progress.close()
        self.assertEqual(file.getvalue() + terminal.getvalue(), "")

    def test_nothing_to_do_is_all_done(self) -> None:
        terminal = Terminal()
        Progress(terminal).update(0, 0, "nothing")
        self.assertIn("100%", terminal.getvalue())
