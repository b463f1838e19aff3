"""Pictures of their own size on engines for cuda: positions by axis and added slices stay on the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.engines import QWENS, built_qwen
from vicrop_engine import ViCropEngine
from vicrop_engine.model.decoder_on_device import DeviceDecoder
from vicrop_export.build import build_engine
from vicrop_export.checks.parity import relative_l2

QUESTION, OTHER = "What is written on the red sign?", "How many people are there?"
HEATMAP = 0.03  # of float16; positions counted by row are further than a twentieth away


@pytest.mark.parametrize("name", ["qwen2.5, grouped heads", "qwen3, sharded"])
def test_it_finds_what_the_cpu_engine_finds(name: str, tmp_path: Path) -> None:
    made = built_qwen(QWENS[name])
    build_engine(made.checkpoint, tmp_path / "engine", name="llava-1.5", precision="fp16", target="cuda")
    coarse = np.random.default_rng(3).integers(0, 256, (17, 17, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((700, 500), Image.Resampling.BICUBIC)
    on_device = ViCropEngine.load(tmp_path / "engine", provider="cpu")
    assert isinstance(on_device.model.decoder, DeviceDecoder)
    on_host = ViCropEngine.load(made.engine)
    for question in (QUESTION, OTHER):
        got, wanted = (one.ask(picture, question, max_new_tokens=3) for one in (on_device, on_host))
        assert got.heatmap is not None
        assert wanted.heatmap is not None
        assert relative_l2(got.heatmap, wanted.heatmap) <= HEATMAP
        assert got.crop_box == wanted.crop_box
        assert got.token_ids[0] == wanted.token_ids[0]
        assert got.first_token_ids[0] == wanted.first_token_ids[0]
        assert got.tokens == wanted.tokens
