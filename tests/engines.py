"""Engines with random weights, built once per test run however many tests ask for one.

Building is the slow part of the tests: ask for a specification another test already uses.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.checkpoints import CheckpointSpec, write_checkpoint
from tests.smolvlm_checkpoints import TiledSpec, write_tiled_checkpoint
from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_export.build import build_engine

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
    directory = Path(_folder().name) / str(built.cache_info().misses)
    usual = built(spec) if precision != "fp32" else None
    checkpoint = usual.checkpoint if usual else write_checkpoint(directory / "checkpoint", spec)
    pure_grad = spec in WITH_PURE_GRAD and precision == "fp32"
    manifest = build_engine(
        checkpoint, directory / "engine", name="llava-signs", precision=precision, pure_grad=pure_grad
    )
    return Built(checkpoint, directory / "engine", manifest)


@cache
def built_smolvlm(spec: TiledSpec, precision: str = "fp32") -> Built:
    """The engine of a SmolVLM checkpoint, gone when the test run ends."""
    directory = Path(_folder().name) / f"smolvlm-{built_smolvlm.cache_info().misses}"
    checkpoint = write_tiled_checkpoint(directory / "checkpoint", spec)
    manifest = build_engine(checkpoint, directory / "engine", name="llava-1.5", precision=precision)
    return Built(checkpoint, directory / "engine", manifest)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vicrop-engines-")
