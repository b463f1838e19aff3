"""Engines with random weights, built once per test run however many tests ask for one.

Building is the slow part of the tests: ask for a specification another test already uses.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.checkpoints import CheckpointSpec, write_checkpoint
from vicrop_engine.manifest import Manifest
from vicrop_export.build import build_engine

STRETCH_168 = CheckpointSpec(seed=11, image_size=168, feature_layer=-1, processor="exact")


@dataclass(frozen=True)
class Built:
    """A checkpoint, the engine built from it (never change either, copy them) and its manifest."""

    checkpoint: Path
    engine: Path
    manifest: Manifest


@cache
def built(spec: CheckpointSpec) -> Built:
    """The engine of this specification, gone when the test run ends."""
    directory = Path(_folder().name) / str(built.cache_info().misses)
    checkpoint = write_checkpoint(directory / "checkpoint", spec)
    manifest = build_engine(checkpoint, directory / "engine", name="llava-signs")
    return Built(checkpoint, directory / "engine", manifest)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vicrop-engines-")
