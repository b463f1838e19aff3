"""What a benchmark says about itself (machine, versions, commit), its model, and where its figures go."""

from __future__ import annotations

import json
import platform
import subprocess
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from tests.checkpoints import CheckpointSpec, write_checkpoint
from vicrop_engine.runtime.onnx_runtime import package_version
from vicrop_engine.runtime.processor import processor_name
from vicrop_export.build import build_engine

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("vicrop-engine", "onnxruntime", "torch", "transformers", "numpy")
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
Result = TypeVar("Result")


class OutputsDiffer(Exception):
    """What was to be compared gave different outputs, so that nothing is reported."""


def setting(threads: int) -> dict[str, Any]:
    """Machine, versions and commit."""
    commit = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    said = subprocess.run(commit, capture_output=True, text=True, check=False)
    return {
        "processor": processor_name(),
        "system": platform.platform(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: package_version(name) for name in PACKAGES},
        "commit": said.stdout.strip() or "unknown",
    }


def setting_line(facts: Mapping[str, Any]) -> str:
    """The same in one line."""
    versions = ", ".join(f"{name} {found}" for name, found in facts["versions"].items())
    cores = f"{facts['threads']} core{'s' if facts['threads'] > 1 else ''} of {facts['processor']}"
    return f"{cores}; {versions}; commit {facts['commit']}"


def add_options(parser: ArgumentParser, name: str) -> None:
    """Where to keep what is built, and where to leave the figures."""
    parser.add_argument("--directory", type=Path, help="keep checkpoint and engines here and use them again")
    parser.add_argument("--out", type=Path, default=Path(name), help="OUT.json and OUT.png are written")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)


def write_json(out: Path, facts: Mapping[str, Any], results: Any) -> None:
    """One document of the setting and the results."""
    document = {**facts, "results": results}
    out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def mid_size(
    directory: Path | None, precision: str, spec: CheckpointSpec = MID_SIZE, **settings: Any
) -> tuple[Path, Path]:
    """Checkpoint and engine of a specification, built unless they are in `directory`."""
    directory = directory or Path(tempfile.mkdtemp(prefix="vicrop-benchmark-"))
    checkpoint, engine = directory / "checkpoint", directory / f"engine-{precision}"
    if not (checkpoint / "model.safetensors").exists():
        write_checkpoint(checkpoint, spec)
    if not engine.exists():
        build_engine(checkpoint, engine, name="llava-signs", precision=precision, **settings)
    return checkpoint, engine


def noise(seed: int, size: tuple[int, int] = (1024, 768)) -> Image.Image:
    """A seeded picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def took(clock: Callable[[], float], call: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds by the clock, and what came of it."""
    start = clock()
    result = call()
    return clock() - start, result


def demand_equal(what: str, outputs: Mapping[str, object]) -> None:
    """Raises OutputsDiffer unless all are equal."""
    if len(set(map(repr, outputs.values()))) > 1:
        raise OutputsDiffer(f"{what} differ, so nothing is reported: {dict(outputs)}")


def chunks(values: Sequence[float]) -> dict[str, float]:
    """Median and least of some seconds."""
    return {"median": float(np.median(values)), "least": float(min(values))}
