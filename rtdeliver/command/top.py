"""Shows the status of a process in the terminal, again and again."""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rtdeliver.command.failure import CommandError
from rtdeliver.command.http import ask
from rtdeliver.http.access import read_secrets

_CLEAR = "\x1b[H\x1b[2J"
_BARS = " ▁▂▃▄▅▆▇█"
_TOPICS = 10
_WARNINGS = 5


class Top:
    NAME = "top"
    HELP = "shows the status of a process, again and again"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "url",
            metavar="URL",
            nargs="?",
            default="http://127.0.0.1:8090",
            help="of an internal listener; %(default)s by default",
        )
        parser.add_argument("--secret-file", metavar="FILE", help="the listener's --secret-file")
        parser.add_argument(
            "--seconds", type=float, default=2, help="between two looks; %(default)s by default"
        )
        parser.add_argument("--once", action="store_true", help="look once, and end")

    @staticmethod
    def run(options: argparse.Namespace) -> None:
        if options.seconds <= 0:
            raise CommandError("--seconds must be more than 0")
        secrets = read_secrets(options.secret_file)
        secret = secrets[0] if secrets else ""
        while True:
            size = shutil.get_terminal_size()
            lines = list(screen(fetch(options.url, secret), size.columns))
            if options.once:
                print("\n".join(lines))
                return
            shown = "\n".join(lines[: size.lines - 1])
            print((_CLEAR if sys.stdout.isatty() else "") + shown, flush=True)
            time.sleep(options.seconds)


def fetch(url: str, secret: str) -> dict[str, Any]:
    """Return the status that a process tells.

    :raises CommandError: if it tells none.
    """
    headers = {"Accept": "application/json"}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    status: dict[str, Any] = ask(url, "GET", "/status", None, headers)
    return status


def screen(status: dict[str, Any], columns: int) -> Iterator[str]:
    """Yield the lines that show a status."""
    state = "ready" if status["ready"] else f"NOT READY: {'; '.join(status['missing'])}"
    yield cut(
        f"{status['role']} {status['node']}  {state}  up {status['uptime_seconds']} s"
        f"  rtdeliver {status['version']}",
        columns,
    )
    yield ""
    if "connections" in status:
        count = f"{status['connections']:>12,} of {status['connections_max']:,}"
        yield cut(f"{'connections':<12}{count}", columns)
    for name, rate in status["per_second"].items():
        label = f"{name}/s"
        yield cut(f"{label:<12}{rate:>12,.1f}  {plot(status['history'][name])}", columns)
    for title, rows in _tables(status):
        if rows:
            yield ""
            yield from (cut(line, columns) for line in table(title, rows))
    if status["warnings"]:
        yield ""
        yield "last warnings"
        for warning in status["warnings"][:_WARNINGS]:
            at = time.strftime("%H:%M:%S", time.localtime(warning["at"]))
            yield cut(f"{at} {printable(warning['text'])}", columns)


def _tables(status: dict[str, Any]) -> Iterator[tuple[Sequence[str], list[Sequence[Any]]]]:
    percentiles = ("p50_ms", "p90_ms", "p99_ms")
    yield (
        ("age, ms", "events", "p50", "p90", "p99"),
        [
            (stage, told["count"], *(told[key] for key in percentiles))
            for stage, told in status["ages"].items()
        ],
    )
    yield (
        ("frontend", "connections", "topics", "sent/s", "dropped/s", "p90 ms", "lease s"),
        [
            (
                row["node"],
                *(row.get(key) for key in ("connections", "topics", "sent_per_second")),
                *(row.get(key) for key in ("dropped_per_second", "sent_p90_ms")),
                row["lease_seconds_left"],
            )
            for row in status.get("frontends", [])
        ],
    )
    yield (
        ("way, ms", "times", "p50", "p90", "p99"),
        [
            (f"{row['type']} {row['from']} {row['origin']} > {row['to']} {row['target']}",
             row["count"], *(row[key] for key in percentiles))
            for row in status.get("stages", [])
        ],
    )  # fmt: skip
    yield (
        ("complete", "published", "watched", "delivered", "sent", "received", "missing"),
        [
            tuple(row[key] for key in ("type", "published", "watched", "delivered", "sent",
                                       "received", "missing"))
            for row in status.get("completeness", [])
        ],
    )  # fmt: skip
    topics = status.get("hot_topics") or status.get("topics", [])
    yield ("topic", "viewers"), [(row["topic"], row["viewers"]) for row in topics[:_TOPICS]]
    yield (
        ("link to", "state", "events wait", "bytes wait"),
        [
            (row["to"], row["state"], row["waiting_events"], row["waiting_bytes"])
            for row in [*status.get("links", []), *status.get("peers", [])]
        ],
    )


def table(title: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Yield the lines of a table; its first column is a text."""
    cells = [list(title), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *others in cells:
        numbers = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join((f"{first:<{widths[0]}}", *numbers))


def plot(values: Sequence[int]) -> str:
    """Return one character for each of the last seconds."""
    most = max([1, *values])
    return "".join(_BARS[round(value / most * (len(_BARS) - 1))] for value in values[-60:])


def cut(line: str, columns: int) -> str:
    """Return a line that fits the terminal."""
    return line if len(line) <= columns else f"{line[: columns - 1]}…"


def printable(text: str) -> str:
    """Return a text without what would change the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
