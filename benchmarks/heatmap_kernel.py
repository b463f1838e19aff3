"""The heatmap operator: NumPy against the published double loop, and on a GPU Triton against plain PyTorch.

    python benchmarks/heatmap_kernel.py
    python benchmarks/heatmap_kernel.py --runs 50 --json heatmap_kernel.json

LLaVA-1.5's shapes: 32 heads, 24 x 24 patches, a picture of 2000 x 1500, window 336. Processor time, the
least of the runs; on a GPU the time between two events, the median. Nothing is reported unless every
implementation finds the definition's windows on these rows first; else the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import heatmap_in_torch
from vicrop_engine.images.geometry import whole_grid
from vicrop_engine.vicrop.crop import find_box
from vicrop_kernels import definition, numpy_operator, numpy_search
from vicrop_kernels.arguments import Arguments, PictureGrid
from vicrop_kernels.placement import Box

Floats = NDArray[np.float32]
SIDE, SIZE, WINDOW, HEADS = 24, (2000, 1500), 336, 32
RATIOS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
CHECKED = 20  # rows on which windows must be the definition's
MOST_MS, LEAST_FASTER = 1.0, 20.0  # what is wanted of the NumPy implementation


def main() -> None:
    """Check, measure, print and write."""
    options = _options()
    wrong = mismatches()
    if wrong:
        raise SystemExit(f"not measured: {', '.join(wrong)} differ from the definition; run tests/kernels")
    figures = on_processor(options.runs)
    if torch.cuda.is_available():
        figures |= on_gpu(options.runs)
    table = Table("what", "ms", title=f"{SIDE} x {SIDE} patches on {SIZE[0]} x {SIZE[1]} pixels")
    for name, seconds in figures.items():
        table.add_row(name, f"{1000 * seconds:.3f}")
    loop = figures["search: published double loop"]
    faster = {name: loop / seconds for name, seconds in figures.items() if name.startswith("search: NumPy")}
    whole = 1000 * figures["NumPy, 1 layer"]
    console = Console()
    console.print(table)
    for name, times in faster.items():
        console.print(f"{name}: {times:.0f} times faster than the loop (wanted {LEAST_FASTER:.0f})")
    console.print(f"rows to window in {whole:.2f} ms (wanted under {MOST_MS:.0f})")
    if options.json is not None:
        document = {"seconds": figures, "search_times_faster": faster, "gpu": _gpu()}
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    if min(faster.values()) < LEAST_FASTER or whole > MOST_MS:
        sys.exit("slower than wanted")


def arguments_for(batch: int = 1) -> Arguments:
    """A batch of pictures of the measured size."""
    lies = PictureGrid(SIZE, 0.0, 0.0, SIZE[0] / SIDE, SIZE[1] / SIDE)
    return Arguments(SIDE, SIDE, (lies,) * batch, WINDOW, RATIOS)


def rows(seed: int, layers: int = 1, batch: int = 1) -> tuple[Floats, Floats]:
    """Seeded attention rows of question and general prompt, [batch, layers, heads, patches]."""
    values = np.exp(2 * np.random.default_rng(seed).standard_normal((2, batch, layers, HEADS, SIDE * SIDE)))
    shares = (values / (1.1 * values.sum(axis=-1, keepdims=True))).astype(np.float32)
    return shares[0], shares[1]


def published_search(heatmap: Floats) -> Box:
    """The search of arXiv 2502.17422 as published: every window summed by itself, x outside and y inside."""
    cell_width, cell_height = SIZE[0] / SIDE, SIZE[1] / SIDE
    best_score, best = -np.inf, (0, 0, 0, 0, 1.0)
    for ratio in RATIOS:
        across = min(int(WINDOW * ratio / cell_width), SIDE)
        down = min(int(WINDOW * ratio / cell_height), SIDE)
        sums = np.zeros((SIDE - down + 1, SIDE - across + 1))
        top, at = -np.inf, (0, 0)
        for x in range(SIDE - across + 1):
            for y in range(SIDE - down + 1):
                sums[y, x] = heatmap[y : y + down, x : x + across].sum()
                if sums[y, x] > top:
                    top, at = sums[y, x], (x, y)
        x, y = at
        near = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
        beside = [sums[b, a] for a, b in near if 0 <= a < sums.shape[1] and 0 <= b < sums.shape[0]]
        score = (top - np.mean(beside)) / (across * down)
        if score > best_score:
            best_score, best = float(score), (x, y, across, down, ratio)
    x, y, across, down, ratio = best
    half = int(WINDOW * ratio // 2)
    x0, x1 = _span(int(x * cell_width + cell_width * across / 2), half, SIZE[0])
    y0, y1 = _span(int(y * cell_height + cell_height * down / 2), half, SIZE[1])
    return x0, y0, x1, y1


def _span(centre: int, half: int, length: int) -> tuple[int, int]:
    centre = min(max(centre, half), length - half)
    return max(0, centre - half), min(length, centre + half)


def mismatches() -> list[str]:
    """Implementations that find another window than the definition on one of the checked rows."""
    arguments, wrong = arguments_for(), set()
    for seed in range(CHECKED):
        first, second = rows(seed)
        ((_, box),) = definition.locate(first.tolist(), second.tolist(), arguments)
        heatmap, window = numpy_operator.locate(first, second, arguments)
        found = {"NumPy": tuple(window[0].tolist()), "the published loop": published_search(heatmap[0])}
        found["the engine's search"] = find_box(
            heatmap[0], whole_grid(SIDE, SIDE, SIZE), SIZE, WINDOW, RATIOS
        )
        on_torch = torch.from_numpy(first), torch.from_numpy(second)
        found["plain PyTorch"] = tuple(heatmap_in_torch.locate(*on_torch, arguments)[1][0].tolist())
        if torch.cuda.is_available():
            found["Triton"] = _by_triton(first, second, arguments)
        wrong |= {name for name, other in found.items() if other != box}
    return sorted(wrong)


def _by_triton(first: Floats, second: Floats, arguments: Arguments) -> tuple[int, ...]:
    from vicrop_kernels.triton_operator import locate

    _, window = locate(torch.from_numpy(first).cuda(), torch.from_numpy(second).cuda(), arguments)
    return tuple(window[0].tolist())


def on_processor(runs: int) -> dict[str, float]:
    """Seconds of processor time."""
    torch.set_num_threads(1)
    arguments, grid = arguments_for(), whole_grid(SIDE, SIDE, SIZE)
    first, second = rows(0)
    many_first, many_second = rows(0, layers=20)
    (heatmap,) = numpy_operator.heatmaps(first, second, arguments)
    lies = arguments.pictures[0]
    measured: dict[str, Callable[[], object]] = {
        "search: published double loop": lambda: published_search(heatmap),
        "search: NumPy, exact": lambda: numpy_search.find_box(heatmap, arguments, lies),
        "search: NumPy, sums as published": lambda: find_box(heatmap, grid, SIZE, WINDOW, RATIOS),
        "NumPy, 1 layer": lambda: numpy_operator.locate(first, second, arguments),
        "NumPy, 20 layers": lambda: numpy_operator.locate(many_first, many_second, arguments),
        "plain PyTorch on the processor, 1 layer": lambda: heatmap_in_torch.locate(
            torch.from_numpy(first), torch.from_numpy(second), arguments
        ),
    }
    return {name: _least(call, runs) for name, call in measured.items()}


def on_gpu(runs: int) -> dict[str, float]:
    """Seconds between events: one launch of Triton, and the same in plain PyTorch."""
    from vicrop_kernels.triton_operator import HeatmapOperator

    figures: dict[str, float] = {}
    device = torch.device("cuda", torch.cuda.current_device())
    for layers, batch in ((1, 1), (20, 1), (1, 8)):
        operator = HeatmapOperator(arguments_for(batch), layers, device)
        first, second = (torch.from_numpy(one).to(device).half() for one in rows(0, layers, batch))
        name = f"{layers} layers, batch {batch}"
        plain = partial(heatmap_in_torch.locate, first, second, operator.arguments)
        figures[f"Triton, rows to window, {name}"] = _median(partial(operator, first, second), runs)
        figures[f"plain PyTorch, rows to window, {name}"] = _median(plain, runs)
    return figures


def _least(call: Callable[[], object], runs: int) -> float:
    """The least processor time of one call."""
    best = float("inf")
    for _ in range(runs + 1):
        start = time.process_time()
        for _ in range(10):
            call()
        best = min(best, (time.process_time() - start) / 10)
    return best


def _median(call: Callable[[], object], runs: int) -> float:
    """The median time on the GPU."""
    times = []
    for _ in range(runs + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return float(np.median(times[3:]))


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--json", type=Path, metavar="OUT.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
