"""SmolVLM2-256M at its true size, with random weights: building, and both answers against a plain one.

    python benchmarks/smolvlm.py --runs 3
    python benchmarks/smolvlm.py --precision int8 --directory smolvlm   # keeps the checkpoint and the engines

Building and each way of asking run in processes of their own, whose peak memory is told. The picture is 1024
x 768 pixels: 13 tiles, and the crop is one. Times are processor time of one question on an engine that has
seen nothing, after a question about another picture; answers have five tokens.
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SIZE, ANSWER = (1024, 768), 5
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"method": "none"},
    "both answers": {},
    "picture in one tile, plain": {"method": "none", "picture_tiles": "one"},
    "picture in one tile, both answers": {"picture_tiles": "one"},
}


def main() -> None:
    """Write the checkpoint, build it, ask each way in turn, print medians and ratios."""
    options = _options()
    if options.step:
        print(json.dumps({"build": run_build, "ask": run_ask}[options.step](options)))
        return
    sys.path.insert(0, str(ROOT))
    from benchmarks.setting import setting, setting_line

    directory = options.directory or Path(tempfile.mkdtemp(prefix="vicrop-smolvlm-"))
    if not (directory / "checkpoint").is_dir():
        write_checkpoint(directory / "checkpoint")
    print(setting_line(setting(options.threads)))
    built = _step(options, directory, "build")
    print(f"build in {options.precision}: {built['seconds']:.0f} s, peak {built['peak'] / 1e9:.2f} GB")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for _ in range(options.runs):
        for name in WAYS:
            runs[name].append(_step(options, directory, "ask", "--way", name))
    plain = statistics.median(run["seconds"] for run in runs["plain"])
    for name, made in runs.items():
        seconds = statistics.median(run["seconds"] for run in made)
        peak = max(run["peak"] for run in made)
        print(
            f"{name}: {seconds:.2f} s of processor time ({seconds / plain:.2f} x), peak {peak / 1e9:.2f} GB"
        )


def run_build(options: argparse.Namespace) -> dict[str, float]:
    """Seconds and peak bytes of a build."""
    from vicrop_export.build import build_engine

    start = time.perf_counter()
    build_engine(
        options.directory / "checkpoint",
        options.directory / options.precision,
        name="smolvlm2-256m",
        precision=options.precision,
    )
    return {"seconds": time.perf_counter() - start, "peak": _peak()}


def run_ask(options: argparse.Namespace) -> dict[str, float]:
    """Processor seconds and peak bytes of one question."""
    import numpy as np
    from PIL import Image

    from vicrop_engine import ViCropEngine

    engine = ViCropEngine.load(
        options.directory / options.precision, threads=options.threads, huge_pages=False
    )
    random = np.random.default_rng(1)
    pictures = [
        Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(SIZE) for _ in range(2)
    ]
    asked = {"max_new_tokens": ANSWER, **WAYS[options.way]}
    engine.ask(pictures[0], "What colour is the door?", **asked)
    start = time.process_time()
    engine.ask(pictures[1], "What is written on the red sign?", **asked)
    return {"seconds": time.process_time() - start, "peak": _peak()}


def write_checkpoint(directory: Path) -> None:
    """The published sizes of SmolVLM2-256M with a stand-in tokenizer of as many rows."""
    sys.path.insert(0, str(ROOT))
    from tests.smolvlm_checkpoints import SMOLVLM2_256M, write_tiled_checkpoint

    write_tiled_checkpoint(directory, SMOLVLM2_256M)


def _peak() -> float:
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def _step(options: argparse.Namespace, directory: Path, step: str, *more: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--step", step, "--directory", str(directory), *more]
    command += ["--precision", options.precision, "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--directory", type=Path, help="a directory to keep checkpoint and engines in")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--step", choices=("build", "ask"), help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, default="plain", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
