"""Shows the figures of a benchmark as a table, as JSON and as a plot."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

Value = int | float | str
Series = Mapping[str, Sequence[tuple[float, float]]]

# The ticks of a latency plot.
_PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one benchmark.

    :param title: what was measured.
    :param settings: the load that was asked for.
    :param figures: what was measured; names end with the unit.
    :param percentiles: curves for the plot, by label: pairs of a percentile and milliseconds.
    :param throughput: curves for the plot, by label: pairs of a second and a number per second.
    """

    title: str
    settings: dict[str, Value]
    figures: dict[str, Value]
    percentiles: dict[str, list[tuple[float, float]]] = {}
    throughput: dict[str, list[tuple[float, float]]] = {}


def table(reports: Sequence[Report]) -> str:
    """Return settings and figures as a text table with a column for each report."""
    rows = [["", *(report.title for report in reports)]]
    for part in (_settings, _figures):
        names = dict.fromkeys(name for report in reports for name in part(report))
        rows.append([])
        rows += [
            [name, *(_text(part(report).get(name, "")) for report in reports)] for name in names
        ]
    widths = [max(map(len, column)) for column in zip(*filter(None, rows), strict=True)]
    return "\n".join(_line(row, widths) for row in rows) + "\n"


def to_json(reports: Sequence[Report]) -> bytes:
    """Return the reports as a list in indented JSON."""
    return msgspec.json.format(msgspec.json.encode(reports), indent=2) + b"\n"


def plot(reports: Sequence[Report], path: Path) -> None:
    """Draw latencies and throughput into a file; the ending of its name, SVG or PNG, is the format.

    :raises ImportError: if matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    latency, throughput = figure.subplots(1, 2)
    latency.set_xscale("log")
    _draw(latency, reports, lambda report: report.percentiles, x=_nines)
    latency.set_xticks([_nines(at) for at in _PERCENTILES], [f"{at:g}" for at in _PERCENTILES])
    latency.minorticks_off()
    latency.set(xlabel="percentile", ylabel="milliseconds")
    _draw(throughput, reports, lambda report: report.throughput, x=float)
    throughput.set(xlabel="second", ylabel="per second")
    figure.savefig(path)


def _settings(report: Report) -> Mapping[str, Value]:
    return report.settings


def _figures(report: Report) -> Mapping[str, Value]:
    return report.figures


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    if not cells:
        return ""
    values = "".join(
        f"  {cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True)
    )
    return f"{cells[0]:<{widths[0]}}{values}".rstrip()


def _nines(percentile: float) -> float:
    """Spread the percentiles near 100, the most important ones, over a logarithmic axis."""
    return 100 / (100 - min(percentile, 99.9999))


def _draw(
    axes: Any,
    reports: Sequence[Report],
    series: Callable[[Report], Series],
    x: Callable[[float], float],
) -> None:
    for report in reports:
        for label, points in series(report).items():
            axes.plot([x(at) for at, _ in points], [value for _, value in points], label=label)
    if axes.has_data():
        axes.legend()
        axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
    axes.grid(visible=True, alpha=0.3)
