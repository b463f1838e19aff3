"""One seeded random checkpoint, its engine, and a picture, shared by the tests of the runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.checkpoints import CheckpointSpec, write_checkpoint
from vicrop_engine import ViCropEngine
from vicrop_export.build import build_engine


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grouped-query attention, a centre-cropping processor, 4 layers: heatmaps come from layer 1."""
    spec = CheckpointSpec(seed=3, heads=4, kv_heads=2)
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), spec)


@pytest.fixture(scope="session")
def engine_directory(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine built from it."""
    directory = tmp_path_factory.mktemp("built") / "engine"
    build_engine(checkpoint, directory, name="random")
    return directory


@pytest.fixture
def engine(engine_directory: Path) -> ViCropEngine:
    """The engine, freshly opened: nothing cached, nothing counted."""
    return ViCropEngine.load(engine_directory)


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A seeded wide picture, larger than any crop window."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((900, 500), Image.Resampling.BICUBIC)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICROP_HOME", str(tmp_path / "vicrop-home"))
