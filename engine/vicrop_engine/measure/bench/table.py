"""A report as text: a table of the runs, and their ratios."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from vicrop_engine.measure.bench.figures import Figures, Spread, spread
from vicrop_engine.measure.bench.report import LOAD, Report, latencies
from vicrop_engine.measure.bench.workload import HIGH_RES, SHORT

RATIOS = {
    "throughput": "answers a second, {load} ÷ one at a time",
    "processor": "processor time an answer, one at a time ÷ {load}",
    "short_p95": "p95 of short ones, {load} ÷ alone",
    "short_p50": "median of short ones, {load} ÷ alone",
}
REUSED = {
    "prefix": "prefix",
    "image_embeds": "image embeds",
    "general": "general row",
    "shared": "an answer on its way",
}


def run_table(report: Report) -> Table:
    """A column for each run."""
    table = Table(title="milliseconds, but where it says otherwise", title_justify="left")
    table.add_column("")
    made = report.figures
    for name in made:
        table.add_column(name, justify="right")
    for title, cells in _rows(report, list(made.values())):
        if any(cells):
            table.add_row(title, *cells)
    return table


def ratio_lines(report: Report) -> Iterator[str]:
    """The ratios, one a line."""
    titles = {name: RATIOS[name].format(load=LOAD) for name in report.ratios}
    width = max(map(len, titles.values()), default=0)
    for name, ratio in report.ratios.items():
        yield f"{titles[name]:<{width}}  {ratio:.2f}"


def _rows(report: Report, made: list[Figures]) -> Iterator[tuple[str, list[str]]]:
    yield "answers a second", [f"{each.throughput:.1f}" for each in made]
    yield "answers", [f"{each.answers} of {each.requests}" for each in made]
    yield from _percentiles("end to end", [each.latency for each in made])
    yield from _percentiles("first token", [each.ttft for each in made])
    yield from _percentiles("queued", [each.queued for each in made])
    for kind in (SHORT, HIGH_RES) if latencies(report.runs[LOAD], HIGH_RES) else ():
        by_kind = [latencies(each, kind) for each in report.runs.values()]
        yield from _percentiles(f"{kind} ones", [spread(seconds) for seconds in by_kind])
    yield "processor time an answer", ["" if not each.processor else _ms(each.processor) for each in made]
    for name, title in REUSED.items():
        yield f"reused {title}", [f"{each.reused[name]:.0%}" if each.reused[name] else "" for each in made]
    yield "errors", [", ".join(f"{count} {kind}" for kind, count in each.errors.items()) for each in made]


def _percentiles(title: str, spreads: list[Spread | None]) -> Iterator[tuple[str, list[str]]]:
    for name in ("p50", "p95", "p99"):
        yield f"{title}, {name}", ["" if each is None else _ms(getattr(each, name)) for each in spreads]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}" if seconds < 1 else f"{1e3 * seconds:.0f}"
