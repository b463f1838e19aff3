"""`ask` against the published flow on transformers, both answers, on a random mid-size model, in turn.

    python benchmarks/against_published.py                            # all methods, fp32, int8 and int4
    python benchmarks/against_published.py --precision int4 --methods rel-att --runs 3 --new-tokens 5

The published flow is written plainly: four whole passes with eager attention. The fast baseline makes the
same passes with fused attention (SDPA) and logits of the last token alone; it is for rel-att, for the
published gradients want eager attention. The model has 12 layers of width 1024 and sees 336 px. Every run
asks about another picture, so that nothing is kept between runs. Time is processor time on one core, which
other work disturbs less; --threads 2 and more takes the clock. Answers and windows of float32 have to be
equal, or nothing is reported; those of lower precisions may differ, and how many agree is printed. Writes
OUT.json and OUT.png. Needs the extras [cpu,build] and the checkout.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bars import Bar, draw_bars
from benchmarks.setting import (
    QUESTION,
    add_options,
    chunks,
    demand_equal,
    mid_size,
    noise,
    setting,
    setting_line,
    took,
    write_json,
)
from vicrop_engine import ViCropEngine
from vicrop_export.checks.published import METHODS, Published

PLAIN, FAST = "published, eager", "the same, SDPA"
COLOURS, ENGINE = {PLAIN: 0, FAST: 1}, 2
Outputs = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
Ask = Callable[..., Any]


def main() -> None:
    """Build what is missing, run in turn, print, write and draw."""
    options = _options()
    torch.set_num_threads(options.threads)
    engines = {}
    for precision in options.precision:
        checkpoint, path = mid_size(options.directory, precision, pure_grad=True)
        engines[precision] = ViCropEngine.load(path, threads=options.threads, cache_bytes=0)
    flows = {PLAIN: Published(checkpoint), FAST: Published(checkpoint, fast=True)}
    results = {method: measure(flows, engines, method, options) for method in options.methods}
    facts = setting(options.threads)
    Console(width=110).print(table(results, setting_line(facts)))
    write_json(options.out, facts, results)
    _draw(options.out.with_suffix(".png"), results, setting_line(facts))


def measure(
    flows: dict[str, Published], engines: dict[str, ViCropEngine], method: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Seconds by whom, and how many of the answers and windows agree with the published flow's.

    Raises OutputsDiffer where float32's do not.
    """
    layer = next(iter(engines.values())).manifest.crop.layers[0]
    asks: dict[str, Ask] = {
        name: partial(flow.ask, layer=layer, method=method)
        for name, flow in flows.items()
        if name == PLAIN or method == "rel-att"
    }
    for precision, engine in engines.items():
        asks[f"engine, {precision}"] = partial(engine.ask, method=method, compat="mllms-know")
    clock = time.process_time if options.threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in asks}
    agree = dict.fromkeys(asks, 0)
    for run in range(options.runs + 1):  # the first of each warms up and is not counted
        image, outputs = noise(run), {}
        for name, ask in asks.items():
            call = partial(ask, image, QUESTION, max_new_tokens=options.new_tokens)
            spent, made = took(clock, call)
            outputs[name] = _outputs(made)
            seconds[name].append(spent)
            agree[name] += outputs[name] == outputs[PLAIN]
        exact = {name: made for name, made in outputs.items() if name in (PLAIN, FAST, "engine, fp32")}
        demand_equal(f"answers and windows by {method} on picture {run}", exact)
    rounds = options.runs + 1
    return {name: {**chunks(seconds[name][1:]), "agree": agree[name] / rounds} for name in asks}


def table(results: dict[str, Any], caption: str) -> Table:
    """Seconds, how many times less than the published flow's, and agreement."""
    made = Table("method", "by", "median s", "least s", "published ÷", "SDPA ÷", "agree", caption=caption)
    for method, rows in results.items():
        for name, row in rows.items():
            times = [
                f"{rows[other]['least'] / row['least']:.2f}" if other in rows else ""
                for other in (PLAIN, FAST)
            ]
            seconds = f"{row['median']:.3f}", f"{row['least']:.3f}"
            made.add_row(method, name, *seconds, *times, f"{row['agree']:.0%}")
    return made


def _draw(path: Path, results: dict[str, Any], caption: str) -> None:
    groups = []
    for method, rows in results.items():
        base = rows[PLAIN]["least"]
        groups.append(
            (
                method,
                [
                    Bar(
                        name,
                        row["least"],
                        f"{row['least']:.2f} s, {base / row['least']:.1f} x",
                        COLOURS.get(name, ENGINE),
                    )
                    for name, row in rows.items()
                ],
            )
        )
    draw_bars(path, "Both answers to one question: seconds, and how many times faster", caption, groups)


def _outputs(made: Any) -> Outputs:
    """Token ids of both answers and the window, of the engine or the published flow."""
    if hasattr(made, "token_ids"):
        return made.first_token_ids, made.token_ids, made.crop_box
    return made.first_ids, made.ids, made.crop_box


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8", "int4"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--new-tokens", type=int, default=5)
    add_options(parser, "against-published")
    return parser.parse_args()


if __name__ == "__main__":
    main()
