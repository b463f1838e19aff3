"""`ask` against the published flow on transformers, both answers, on a random mid-size model: times in turn.

    python benchmarks/against_reference.py                          # fp32, int8 and int4, 5 runs each
    python benchmarks/against_reference.py --precision int4 --runs 3 --new-tokens 5

The model has 12 layers of width 1024 and sees 336 px. Every run asks about another picture, so nothing is
cached between runs; engine and published flow take turns on the same pictures. Medians are printed, with the
engine's stages; with `--threads 1` processor time too, which other work on the machine disturbs less. Needs
the extras [cpu,build] and the checkout.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.checkpoints import CheckpointSpec, write_checkpoint
from tests.parity.published_flow import PublishedFlow
from vicrop_engine import ViCropEngine
from vicrop_engine.backend import usable_cores
from vicrop_export.build import build_engine

QUESTION = "What is written on the red sign next to the door?"
MID_SIZE = CheckpointSpec(
    seed=7,
    image_size=336,
    vision_hidden=320,
    vision_layers=8,
    vision_heads=5,
    hidden=1024,
    intermediate=2816,
    layers=12,
    heads=16,
    kv_heads=16,
)


def main() -> None:
    """Build what is missing, run in turn, print medians in seconds."""
    options = _options()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="vicrop-against-reference-"))
    checkpoint = directory / "checkpoint"
    if not (checkpoint / "model.safetensors").exists():
        write_checkpoint(checkpoint, MID_SIZE)
    threads = options.threads or usable_cores()
    torch.set_num_threads(threads)
    published = PublishedFlow(checkpoint)
    for precision in options.precision:
        engine_directory = directory / f"engine-{precision}"
        if not engine_directory.exists():
            build_engine(checkpoint, engine_directory, name="llava-signs", precision=precision)
        engine = ViCropEngine.load(engine_directory, threads=threads)
        (layer,) = engine.manifest.crop.layers
        theirs: list[Took] = []
        ours: list[Took] = []
        stages: list[dict[str, float]] = []
        for run in range(options.runs + 1):  # the first of each warms up and is not counted
            image, keywords = noise(run), {"max_new_tokens": options.new_tokens}
            theirs.append(took(partial(published.ask, image, QUESTION, layer=layer, **keywords)))
            ours.append(took(partial(engine.ask, image, QUESTION, compat="mllms-know", **keywords)))
            stages.append(ours[-1].result.timings)
        report(precision, theirs[1:], ours[1:], stages[1:])


@dataclass(frozen=True)
class Took:
    """Seconds by the clock and of processor time, and what came of it."""

    wall: float
    processor: float
    result: Any


def took(call: Callable[[], Any]) -> Took:
    """Run and measure."""
    wall, processor = time.perf_counter(), time.process_time()
    result = call()
    return Took(time.perf_counter() - wall, time.process_time() - processor, result)


def report(
    precision: str, theirs: Sequence[Took], ours: Sequence[Took], stages: Sequence[dict[str, float]]
) -> None:
    """Medians by the clock and of processor time, then of the engine's stages."""
    for name in ("wall", "processor"):
        slow, quick = (statistics.median(getattr(run, name) for run in runs) for runs in (theirs, ours))
        print(f"{precision} {name}: published {slow:.3f} s, engine {quick:.3f} s: {slow / quick:.2f}x")
    medians = {stage: statistics.median(run[stage] for run in stages) for stage in stages[0]}
    print("  " + ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in medians.items()), flush=True)


def noise(seed: int) -> Image.Image:
    """A seeded picture of 1024 x 768 pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((1024, 768), Image.Resampling.BICUBIC)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8", "int4"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=5)
    parser.add_argument("--threads", type=int, help="cores for both; else all there are")
    parser.add_argument("--directory", type=Path, help="keep checkpoint and engines here and use them again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
