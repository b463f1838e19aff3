"""Requests to the embedded model at more and more clients, beside the engine fed one at a time.

    python benchmarks/serving.py                                   # float32 and int8, 1 to 32 clients
    python benchmarks/serving.py --precision int8 --clients 8 --requests 512 --repeats 5

Four questions a picture. Then a quarter of the pictures in tiles, at half the rate that eight clients reach:
what the short requests take, beside what they take alone. Every cell is the median of the repeats, and every
answer is compared with the one given one by one: where one differs, nothing is reported. Writes OUT.json.
Needs the extras [cpu,build] for the int8 engine. Throughput is by the clock: run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vicrop_engine.builder import build_model
from vicrop_engine.engine_dir.registry import find_model
from vicrop_engine.examples import signs
from vicrop_engine.measure.bench.loops import Loop, closed_loop, open_loop
from vicrop_engine.measure.bench.report import LOAD, SINGLE, Report
from vicrop_engine.measure.bench.session import Trial, bench_engine
from vicrop_engine.measure.bench.workload import Workload, draw_queries
from vicrop_engine.vicrop.params import AskParams

MODEL = "llava-signs"
PARAMS = AskParams(method="rel-att", max_new_tokens=20)
USUAL_CLIENTS = 8
Row = dict[str, float]


def main() -> None:
    """Measure, print and write."""
    options = _options()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="vicrop-serving-") as folder:
        for precision in options.precision:
            engine = find_model(MODEL).shipped_engine
            if precision != "fp32":
                engine = Path(folder) / precision
                build_model(find_model(MODEL), engine, precision=precision)
            rows = {clients: _closed(engine, clients, options) for clients in options.clients}
            usual = rows.get(USUAL_CLIENTS, next(iter(rows.values())))
            mixed = _mixed(engine, usual["answers a second"] / 2, options)
            found[precision] = {"clients": rows, "mixed": mixed}
            _print(precision, rows, mixed)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _closed(engine: Path, clients: int, options: argparse.Namespace) -> Row:
    workload = Workload(options.requests, 4, clients)
    return _median([_closed_row(_measured(engine, workload, closed_loop(clients))) for _ in _times(options)])


def _mixed(engine: Path, rate: float, options: argparse.Namespace) -> Row:
    workload = Workload(options.requests, 4, USUAL_CLIENTS, high_res_share=0.25)
    reports = [_measured(engine, workload, open_loop(rate, 0), rate) for _ in _times(options)]
    return {"a second": rate, **_median([report.ratios for report in reports])}


def _measured(engine: Path, workload: Workload, loop: Loop, rate: float | None = None) -> Report:
    asked = signs()
    trial = Trial(lambda fresh: draw_queries(workload, asked, fresh=fresh), loop, PARAMS)
    facts = {"load": {"rate": rate}}
    return Report(facts, bench_engine(engine, None, trial, lambda text: print(text, file=sys.stderr)))


def _closed_row(report: Report) -> Row:
    load, single = report.figures[LOAD], report.figures[SINGLE]
    assert load.latency is not None, "checked before it is reported"
    assert load.ttft is not None, "of every answer"
    return {
        "answers a second": load.throughput,
        "one at a time": single.throughput,
        "ratio": report.ratios["throughput"],
        "ratio of processor time": report.ratios["processor"],
        "p50, ms": 1e3 * load.latency.p50,
        "p95, ms": 1e3 * load.latency.p95,
        "first token p50, ms": 1e3 * load.ttft.p50,
    }


def _median(rows: list[Row]) -> Row:
    return {name: median(row[name] for row in rows) for name in rows[0]}


def _times(options: argparse.Namespace) -> range:
    return range(options.repeats)


def _print(precision: str, rows: dict[int, Row], mixed: Row) -> None:
    table = Table(title=f"{MODEL}, {precision}", title_justify="left")
    for title in ("clients", *next(iter(rows.values()))):
        table.add_column(title, justify="right")
    for clients, row in rows.items():
        table.add_row(str(clients), *(f"{value:.2f}" for value in row.values()))
    console = Console()
    console.print(table)
    console.print(
        f"a quarter of the pictures in tiles, {mixed['a second']:.1f} questions a second: short ones take "
        f"{mixed['short_p50']:.2f} times (median), {mixed['short_p95']:.2f} times (p95) what they take alone"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("serving.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
