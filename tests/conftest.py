"""What every test runs under, without a network or a GPU, and the engine that most of them ask."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRITON_INTERPRET"] = "1"  # Triton asks when it is first imported, by torch or by a test

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.engines import GROUPED_224, built, share_with_workers
from vicrop_engine import ViCropEngine

# Also a parity test's: centre-cropping processor, 16 x 16 patches, 4 layers, heatmap from layer 1.
SPEC = GROUPED_224


def pytest_configure(config: pytest.Config) -> None:
    """Engines are built once, in however many processes the tests run."""
    if not hasattr(config, "workerinput"):
        share_with_workers()


@pytest.fixture(scope="session")
def engine_directory() -> Path:
    """The engine, with random weights; never change it, copy it."""
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
