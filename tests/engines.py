"""Engines with random weights, built once per test run however many tests ask for one.

Building is the slow part of the tests: ask for a specification another test already uses.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

from tests.blip_checkpoints import BlipSpec, write_blip_checkpoint
from tests.checkpoints import CheckpointSpec, write_checkpoint
from tests.next_checkpoints import NextSpec, write_next_checkpoint
from tests.qwen_checkpoints import write_qwen_checkpoint
from tests.qwen_documents import QwenSpec
from tests.smolvlm_checkpoints import TiledSpec, write_tiled_checkpoint
from vicrop_engine.engine_dir.manifest import Manifest, read_manifest
from vicrop_export.build import build_engine
from vicrop_export.checks import agreement

SHARED = "VICROP_TEST_ENGINES"
FEW_QUESTIONS = 8  # that builds of families' engines compare answers on, instead of all
STRETCH_168 = CheckpointSpec(seed=11, image_size=168, feature_layer=-1, processor="exact")
GROUPED_224 = CheckpointSpec(seed=12, image_size=224, feature_layer=-2, heads=4, kv_heads=2, naming="model")
ONE_KV_HEAD_336 = CheckpointSpec(seed=13, image_size=336, feature_layer=-2, heads=4, kv_heads=1, layers=6)
MULTI_HEAD_336 = CheckpointSpec(
    seed=15, image_size=336, layers=2, vision_layers=2, feature_layer=(-2, -1), biases=True
)
SMOLVLMS = {
    "grouped heads": TiledSpec(seed=1),
    "tied, sharded, six layers": TiledSpec(
        seed=2, tied=True, shards=3, layers=6, heads=6, kv_heads=6, hidden=96
    ),
    "idefics3, plain names, one KV head": TiledSpec(
        seed=3, kind="idefics3", naming="plain", kv_heads=1, side=63, patch_size=7, scale=3, longest_edge=189
    ),
}
QWENS = {
    "qwen2.5, grouped heads": QwenSpec(seed=1, most_cells=96),
    "qwen2.5, tied, eight layers, plain names": QwenSpec(
        seed=2, tied=True, layers=8, heads=6, kv_heads=6, hidden=96, naming="plain", full_layers=(0, 2)
    ),
    "qwen2, sharded, one KV head": QwenSpec(kind="qwen2_vl", seed=3, shards=3, kv_heads=1),
    "qwen3, sharded": QwenSpec(kind="qwen3_vl", seed=4, shards=3),
    "qwen3, tied, eight layers, plain names": QwenSpec(
        kind="qwen3_vl",
        seed=5,
        tied=True,
        layers=8,
        head_dim=32,
        naming="plain",
        vision_layers=6,
        tapped_layers=(1, 3, 4),
        table=5,
        most_cells=64,
    ),
    "qwen3, one KV head": QwenSpec(kind="qwen3_vl", seed=6, kv_heads=1, heads=2, hidden=96),
}
NEXTS = {
    "mistral, grouped heads": NextSpec(seed=1),
    "vicuna, tied, sharded, six layers": NextSpec(
        "llama", seed=2, tied=True, layers=6, heads=6, kv_heads=6, hidden=96, naming="model", shards=3
    ),
    "vicuna, one KV head, a small context": NextSpec("llama", seed=3, kv_heads=1, context_length=250),
}
BLIPS = {
    "every other layer looks": BlipSpec(seed=1),
    "tied, sharded, no bias in the tower": BlipSpec(
        seed=2,
        tied=True,
        shards=3,
        layers=5,
        qformer_layers=4,
        heads=6,
        kv_heads=6,
        hidden=96,
        side=70,
        queries=5,
        vision_bias=False,
    ),
    "one KV head, every layer looks": BlipSpec(
        seed=3, kv_heads=1, side=84, queries=12, every=1, qformer_heads=4
    ),
}
WITH_PURE_GRAD = {GROUPED_224, ONE_KV_HEAD_336, MULTI_HEAD_336}


@dataclass(frozen=True)
class Built:
    """A checkpoint, the engine built from it (never change either, copy them) and its manifest."""

    checkpoint: Path
    engine: Path
    manifest: Manifest


@cache
def built(spec: CheckpointSpec, precision: str = "fp32") -> Built:
    """The engine of this specification, gone when the test run ends."""
    directory = _place(spec)
    pure_grad = spec in WITH_PURE_GRAD and precision == "fp32"
    return _built_once(
        directory,
        precision,
        lambda checkpoint: write_checkpoint(checkpoint, spec),
        lambda checkpoint, engine: build_engine(
            checkpoint, engine, name="llava-signs", precision=precision, pure_grad=pure_grad
        ),
    )


@cache
def built_smolvlm(spec: TiledSpec, precision: str = "fp32") -> Built:
    """The engine of a SmolVLM checkpoint, gone when the test run ends."""
    return _built_of_family(spec, precision, lambda checkpoint: write_tiled_checkpoint(checkpoint, spec))


@cache
def built_qwen(spec: QwenSpec, precision: str = "fp32") -> Built:
    """The engine of a Qwen checkpoint, gone when the test run ends."""
    return _built_of_family(spec, precision, lambda checkpoint: write_qwen_checkpoint(checkpoint, spec))


@cache
def built_next(spec: NextSpec, precision: str = "fp32") -> Built:
    """The engine of a LLaVA-NeXT checkpoint, gone when the test run ends."""
    return _built_of_family(spec, precision, lambda checkpoint: write_next_checkpoint(checkpoint, spec))


@cache
def built_blip(spec: BlipSpec, precision: str = "fp32") -> Built:
    """The engine of an InstructBLIP checkpoint, gone when the test run ends."""
    return _built_of_family(spec, precision, lambda checkpoint: write_blip_checkpoint(checkpoint, spec))


def _built_of_family(spec: object, precision: str, write: Callable[[Path], object]) -> Built:
    def build(checkpoint: Path, engine: Path) -> Manifest:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(agreement, "MOST", FEW_QUESTIONS)
            return build_engine(checkpoint, engine, name="llava-1.5", precision=precision)

    return _built_once(_place(spec), precision, write, build)


def _built_once(
    directory: Path,
    precision: str,
    write: Callable[[Path], object],
    build: Callable[[Path, Path], Manifest],
) -> Built:
    """Whoever comes first writes and builds, of all processes that run these tests."""
    checkpoint, engine = directory / "checkpoint", directory / precision
    with FileLock(f"{directory}.lock"):
        if not checkpoint.is_dir():
            write(checkpoint)
        manifest = read_manifest(engine) if engine.is_dir() else build(checkpoint, engine)
    return Built(checkpoint, engine, manifest)


def _place(spec: object) -> Path:
    """Where a specification's checkpoint and engines lie."""
    return _folder() / hashlib.sha256(repr(spec).encode()).hexdigest()[:16]


@cache
def _folder() -> Path:
    """One for all processes of a run in several; who started them takes it away."""
    shared = os.environ.get(SHARED)
    if shared is not None:
        return Path(shared)
    made = tempfile.TemporaryDirectory(prefix="vicrop-engines-")
    atexit.register(made.cleanup)
    return Path(made.name)


def share_with_workers() -> None:
    """Have the processes that this one starts take their engines from its own folder."""
    os.environ[SHARED] = str(_folder())
