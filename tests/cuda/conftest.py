"""What the tests of engines for cuda share; they run on the processor, through the code that a GPU runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cuda.builds import seeded
from vicrop_engine import ViCropEngine


@pytest.fixture
def engine() -> ViCropEngine:
    """The seeded engine in float16, freshly opened: nothing cached, nothing counted."""
    return ViCropEngine.load(seeded("fp16"), provider="cpu")


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A seeded wide picture, larger than any crop window."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((900, 500), Image.Resampling.BICUBIC)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICROP_HOME", str(tmp_path / "vicrop-home"))
