"""What finding the crop costs, by method: the time up to the crop pass beyond a plain answer.

    python benchmarks/method_costs.py                                # fp32, int8, int4 at mid-size, 7 runs
    python benchmarks/method_costs.py --precision fp32 --runs 15
    python benchmarks/method_costs.py --operations                   # counted from the graphs, one run each
    python benchmarks/method_costs.py --target cuda --precision fp16 int4     # on a GPU, by the clock

The model is the mid-size one of setting.py (12 layers of width 1024, 336 px, random weights). In
every run each method and a plain answer take their turn on a new picture of their own, so nothing is reused;
medians of processor time are printed, on one core unless told otherwise; with a target for GPUs the time by
the clock, of the methods that it has. The last rows are the prepass in
four tiles against four passes through the lower layers with the vision tower, made one by one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from PIL import Image
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.setting import MID_SIZE, QUESTION, noise
from tests.checkpoints import write_checkpoint
from vicrop_engine import ViCropEngine
from vicrop_engine import engine as engine_module
from vicrop_engine.counters import GraphRun
from vicrop_engine.engine_dir.flops import VISION, num_flops
from vicrop_engine.timing import Stopwatch
from vicrop_export.build import build_engine

METHODS = {
    "cpu": ("rel-att", "target", "carve", "grad-att", "pure-grad"),
    "cuda": ("rel-att", "target", "carve"),
}
CLOCKS = {"cpu": time.process_time, "cuda": time.perf_counter}
PRECISIONS = {"cpu": ("fp32", "int8", "int4"), "cuda": ("fp16", "int8", "int4")}
NEW_TOKENS = 5


class UntilCrop(Stopwatch):
    """Remembers the time at which the crop pass began, by the clock of the target."""

    began = 0.0
    clock = staticmethod(time.process_time)

    def enter(self, stage: str) -> None:
        """As every stopwatch; entering the crop's vision is what is waited for."""
        if stage == "crop_vision" and UntilCrop.began == 0.0:
            UntilCrop.began = UntilCrop.clock()
        super().enter(stage)


def main() -> None:
    """Build what is missing, run in turn, print medians."""
    options = _options()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="vicrop-method-costs-"))
    checkpoint = directory / "checkpoint"
    if not (checkpoint / "model.safetensors").exists():
        write_checkpoint(checkpoint, MID_SIZE)
    UntilCrop.clock = staticmethod(CLOCKS[options.target])
    methods = METHODS[options.target]
    settings = {"target": options.target, "pure_grad": "pure-grad" in methods}
    for precision in options.precision or PRECISIONS[options.target]:
        path = directory / f"{options.target}-{precision}"
        if not path.exists():
            build_engine(checkpoint, path, name="llava-signs", precision=precision, **settings)
        device = None if options.target == "cpu" else options.device
        engine = ViCropEngine.load(path, threads=options.threads, cache_bytes=0, device=device)
        if options.operations:
            Console(width=110).print(operations(engine, precision, methods))
            continue
        Console(width=110).print(costs(engine, precision, options.runs, methods))


def costs(engine: ViCropEngine, precision: str, runs: int, methods: Sequence[str]) -> Table:
    """Median seconds of a plain answer, of each method up to its crop pass, and of tiles."""
    pictures = _pictures()
    seconds: dict[str, list[float]] = {}
    for _ in range(runs + 1):
        seconds.setdefault("plain answer", []).append(_plain(engine, next(pictures)))
        for method in methods:
            seconds.setdefault(method, []).append(_until_crop(engine, next(pictures), method))
        seconds.setdefault("tile by tile", []).append(_by_parts(engine, pictures))
        seconds.setdefault("four tiles", []).append(_tiles(engine, next(pictures)))
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    plain = medians["plain answer"]
    table = Table("until the crop pass", "s", "beyond a plain answer", title=f"{precision}, {runs} runs")
    for name in ("plain answer", *methods):
        table.add_row(name, f"{medians[name]:.3f}", f"{medians[name] / plain - 1:+.1%}")
    parts = medians["tile by tile"]
    table.add_row("4 × (vision and lower layers)", f"{parts:.3f}", "")
    table.add_row(
        "rel-att in 4 tiles", f"{medians['four tiles']:.3f}", f"{medians['four tiles'] / parts:.2f} ×"
    )
    return table


UNNAMED = "What does it say?"  # names nothing: target asks the model


def operations(engine: ViCropEngine, precision: str, methods: Sequence[str]) -> Table:
    """Operations of a plain answer, and what each method adds to it up to the crop pass, by the graphs."""
    pictures = _pictures()
    table = Table("until the crop pass", "GFLOP", "of a plain answer", title=precision)
    for question, asked in ((QUESTION, methods), (UNNAMED, ("target",))):
        runs = _runs(engine, next(pictures), question, "none")
        plain = _counted(engine, runs)
        own = _counted(engine, [run for run in runs if run.axes.get("seq") != 1])  # all but decode steps
        table.add_row(f"plain answer: {question}", f"{plain / 1e9:.2f}", "")
        for method in asked:
            runs = _runs(engine, next(pictures), question, method)
            crop = max(number for number, run in enumerate(runs) if VISION in run.graphs)
            added = _counted(engine, runs[:crop]) - own
            table.add_row(f"+ {method}", f"{added / 1e9:.2f}", f"{added / plain:+.2%}")
    return table


def _runs(engine: ViCropEngine, picture: Image.Image, question: str, method: str) -> list[GraphRun]:
    with engine.tally.watching() as runs:
        engine.ask(picture, question, method=method, high_res="off", max_new_tokens=NEW_TOKENS)
    return runs


def _counted(engine: ViCropEngine, runs: Sequence[GraphRun]) -> int:
    """Operations, two for every multiply-add."""
    terms = engine.manifest.multiply_adds
    assert terms is not None, "operations are counted when an engine is built"
    return sum(num_flops(terms[graph], run.axes) for run in runs for graph in run.graphs)


def _plain(engine: ViCropEngine, picture: Image.Image) -> float:
    start = UntilCrop.clock()
    engine.ask(picture, QUESTION, method="none", max_new_tokens=NEW_TOKENS)
    return UntilCrop.clock() - start


def _until_crop(engine: ViCropEngine, picture: Image.Image, method: str) -> float:
    """The first answer, the heatmap and the window; the crop pass that follows is not counted."""
    with mock.patch.object(engine_module, "Stopwatch", UntilCrop):
        UntilCrop.began, start = 0.0, UntilCrop.clock()
        engine.ask(picture, QUESTION, method=method, high_res="off", max_new_tokens=NEW_TOKENS)
    return UntilCrop.began - start


def _by_parts(engine: ViCropEngine, pictures: Iterator[Image.Image]) -> float:
    """Four pictures as large as a tile, each located by itself."""
    start = UntilCrop.clock()
    for _ in range(4):
        engine.locate(next(pictures), QUESTION, high_res="off")
    return UntilCrop.clock() - start


def _tiles(engine: ViCropEngine, picture: Image.Image) -> float:
    """The picture itself goes through the vision tower once as well: the answers continue from it."""
    large = picture.resize((2048, 2048))
    start = UntilCrop.clock()
    engine.locate(large, QUESTION, high_res="on")
    return UntilCrop.clock() - start


def _pictures() -> Iterator[Image.Image]:
    number = 0
    while True:
        number += 1
        yield noise(number)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", choices=METHODS, default="cpu")
    parser.add_argument("--device", type=int, default=0, help="number of the GPU")
    parser.add_argument("--precision", nargs="+", help="else all of the target that are of interest")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--operations", action="store_true", help="count instead of taking the time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="keep checkpoint and engines here and use them again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
