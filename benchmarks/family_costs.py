"""Other families at their true sizes, with random weights: building, and both answers against a plain one.

LLaVA-NeXT has its true tiles and tokens on a smaller tower and decoder; InstructBLIP its true input, queries
and Q-Former layers, all narrower.

    python benchmarks/family_costs.py --model smolvlm2-256m --runs 3
    python benchmarks/family_costs.py --model qwen2.5-vl-3b --precision int4 --directory qwen   # keeps them

Building and each way of asking run in processes of their own, whose peak memory is told. The picture is 1024
x 768 pixels. Times are processor time of one question on an engine that has seen nothing, after a question
about a small picture; operations are those of the graphs that ran. Answers have five tokens.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SMALL, SIZE, ANSWER = (128, 96), (1024, 768), 5
Ways = dict[str, dict[str, Any]]
PLAIN = "plain"
OF_TILES: Ways = {
    PLAIN: {"method": "none"},
    "both answers": {},
    "picture in one tile, plain": {"method": "none", "picture_tiles": "one"},
    "picture in one tile, both answers": {"picture_tiles": "one"},
}
OF_PACKED: Ways = {
    PLAIN: {"method": "none"},
    "both answers": {},
    "both answers, crop its base alone": {"crop_tiles": "one"},
    "both answers, grad-att": {"method": "grad-att"},
}
OF_INSTRUCTIONS: Ways = {
    PLAIN: {"method": "none"},
    "both answers": {},
    "final answer alone": {"first_answer": False},
    "both answers, grad-att": {"method": "grad-att"},
}
OF_OWN_SIZES: Ways = {
    PLAIN: {"method": "none"},
    "both answers": {},
    "both answers, grad-att": {"method": "grad-att"},
    "both answers, crop scaled up to 448 x 448": {"crop_min_pixels": 448**2},
    "both answers, 256 cells at most": {"max_pixels": 256 * 28**2},
}


@dataclass(frozen=True)
class Model:
    """A published model: where its `spec` and the `writer` of its checkpoint are, and the ways to ask in."""

    documents: str
    spec: str
    module: str
    writer: str
    ways: Ways


MODELS = {
    "smolvlm2-256m": Model(
        "smolvlm_checkpoints", "SMOLVLM2_256M", "smolvlm_checkpoints", "write_tiled_checkpoint", OF_TILES
    ),
    "llava-next-mistral-7b": Model(
        "next_checkpoints", "MID_SIZE", "next_checkpoints", "write_next_checkpoint", OF_PACKED
    ),
    "instructblip-7b": Model(
        "blip_checkpoints", "MID_SIZE", "blip_checkpoints", "write_blip_checkpoint", OF_INSTRUCTIONS
    ),
    "qwen2.5-vl-3b": Model(
        "qwen_documents", "QWEN2_5_VL_3B", "qwen_checkpoints", "write_qwen_checkpoint", OF_OWN_SIZES
    ),
    "qwen3-vl-2b": Model(
        "qwen_documents", "QWEN3_VL_2B", "qwen_checkpoints", "write_qwen_checkpoint", OF_OWN_SIZES
    ),
}


def main() -> None:
    """Write the checkpoint, build it, ask each way in turn, print medians and ratios."""
    options = _options()
    if options.step:
        print(json.dumps({"build": run_build, "ask": run_ask}[options.step](options)))
        return
    sys.path.insert(0, str(ROOT))
    from benchmarks.setting import setting, setting_line

    directory = options.directory or Path(tempfile.mkdtemp(prefix="vicrop-family-"))
    if not (directory / "checkpoint").is_dir():
        write_checkpoint(options.model, directory / "checkpoint")
    print(setting_line(setting(options.threads)))
    if not (directory / options.precision).is_dir():
        built = _step(options, directory, "build")
        print(f"build in {options.precision}: {built['seconds']:.0f} s, peak {built['peak'] / 1e9:.2f} GB")
    ways = [name for name in MODELS[options.model].ways if name in {PLAIN, *options.ways} or not options.ways]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(options.runs):
        for name in ways:
            runs[name].append(_step(options, directory, "ask", "--way", name))
    plain = statistics.median(run["seconds"] for run in runs[PLAIN])
    for name, made in runs.items():
        seconds, peak = (statistics.median(run["seconds"] for run in made), max(run["peak"] for run in made))
        share = made[0]["flops"] / runs[PLAIN][0]["flops"]
        print(
            f"{name}: {seconds:.2f} s of processor time ({seconds / plain:.2f} x, by operations {share:.2f} "
            f"x), peak {peak / 1e9:.2f} GB; by stage {_stages(made)}"
        )


def _stages(runs: Sequence[dict[str, Any]]) -> str:
    """Median seconds by the clock of each stage."""
    names = list(runs[0]["stages"])
    return ", ".join(
        f"{name} {statistics.median(run['stages'].get(name, 0.0) for run in runs):.2f}" for name in names
    )


def run_build(options: argparse.Namespace) -> dict[str, float]:
    """Seconds and peak bytes of a build."""
    from vicrop_export.build import build_engine

    start = time.perf_counter()
    build_engine(
        options.directory / "checkpoint",
        options.directory / options.precision,
        name=options.model,
        precision=options.precision,
    )
    return {"seconds": time.perf_counter() - start, "peak": _peak()}


def run_ask(options: argparse.Namespace) -> dict[str, Any]:
    """Processor seconds, peak bytes, operations and stages of one question."""
    import numpy as np
    from PIL import Image

    from vicrop_engine import ViCropEngine
    from vicrop_engine.engine_dir.flops import num_flops

    engine = ViCropEngine.load(
        options.directory / options.precision, threads=options.threads, huge_pages=False
    )
    random = np.random.default_rng(1)
    pictures = [
        Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(size)
        for size in (SMALL, SIZE)
    ]
    asked = {"max_new_tokens": ANSWER, "high_res": "off", **MODELS[options.model].ways[options.way]}
    engine.ask(pictures[0], "What colour is the door?", **asked)
    start = time.process_time()
    with engine.tally.watching() as ran:
        answer = engine.ask(pictures[1], "What is written on the red sign?", **asked)
    seconds, counted = time.process_time() - start, engine.manifest.multiply_adds or {}
    flops = sum(num_flops(counted.get(graph, {}), run.axes) for run in ran for graph in run.graphs)
    return {"seconds": seconds, "peak": _peak(), "flops": flops, "stages": answer.timings}


def write_checkpoint(name: str, directory: Path) -> None:
    """A model's published sizes with a stand-in tokenizer."""
    sys.path.insert(0, str(ROOT))
    model = MODELS[name]
    spec = getattr(import_module(f"tests.{model.documents}"), model.spec)
    getattr(import_module(f"tests.{model.module}"), model.writer)(directory, spec)


def _peak() -> float:
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def _step(options: argparse.Namespace, directory: Path, step: str, *more: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--step", step, "--directory", str(directory), *more]
    command += ["--precision", options.precision, "--threads", str(options.threads)]
    command += ["--model", options.model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="smolvlm2-256m")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--directory", type=Path, help="a directory to keep checkpoint and engines in")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=[], help="those to ask in beside plain; else all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--step", choices=("build", "ask"), help=argparse.SUPPRESS)
    parser.add_argument("--way", default=PLAIN, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
