"""One engine with random weights and one picture, shared by the tests of the runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.engines import GROUPED_224, built
from vicrop_engine import ViCropEngine

# Also a parity test's: centre-cropping processor, 16 x 16 patches, 4 layers, heatmap from layer 1.
SPEC = GROUPED_224


@pytest.fixture(scope="session")
def engine_directory() -> Path:
    """The engine; never change it, copy it."""
    return built(SPEC).engine


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
