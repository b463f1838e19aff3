"""Pictures packed of several inputs and an extra row, on engines for cuda: rows stay on the device."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engines import NEXTS, built_next
from tests.parity.family_checks import picture
from vicrop_engine import ViCropEngine
from vicrop_engine.images.seen import Way
from vicrop_engine.model.decoder_on_device import DeviceDecoder
from vicrop_export.build import build_engine
from vicrop_export.checks import agreement
from vicrop_export.checks.parity import relative_l2

QUESTION = "What is written on the red sign?"
EMBEDS, HEATMAP = 0.005, 0.03  # of float16


@pytest.fixture(scope="module")
def on_device(tmp_path_factory: pytest.TempPathFactory) -> ViCropEngine:
    made = built_next(NEXTS["mistral, grouped heads"])
    engine = tmp_path_factory.mktemp("packed") / "engine"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "MOST", 2)  # questions a build here asks, instead of all
        build_engine(made.checkpoint, engine, name="llava-1.5", precision="fp16", target="cuda")
    return ViCropEngine.load(engine, provider="cpu")


@pytest.fixture(scope="module")
def on_host() -> ViCropEngine:
    return ViCropEngine.load(built_next(NEXTS["mistral, grouped heads"]).engine, threads=1)


def test_several_pictures_of_one_run_are_packed_each_by_itself(
    on_device: ViCropEngine, on_host: ViCropEngine
) -> None:
    seen = [
        on_host.model.family.see(picture(name), Way(one=one)).inputs
        for name, one in (("wide", False), ("square", False), ("tall", True))
    ]
    got, wanted = on_device.model.vision.embed_all(seen), on_host.model.vision.embed_all(seen)
    for one, other, inputs in zip(got, wanted, seen, strict=True):
        rows = on_device.model.device.host(one)
        assert rows.shape[1] == len(inputs.picked)
        assert relative_l2(rows.astype(np.float32), other) <= EMBEDS


@pytest.mark.parametrize("name", ["square", "640 x 481"])
def test_it_finds_what_the_cpu_engine_finds(
    name: str, on_device: ViCropEngine, on_host: ViCropEngine
) -> None:
    assert isinstance(on_device.model.decoder, DeviceDecoder)
    got, wanted = (one.ask(picture(name), QUESTION, max_new_tokens=3) for one in (on_device, on_host))
    assert got.heatmap is not None
    assert wanted.heatmap is not None
    assert relative_l2(got.heatmap, wanted.heatmap) <= HEATMAP
    assert (got.crop_box, got.tokens, got.notices) == (wanted.crop_box, wanted.tokens, wanted.notices)
    assert got.token_ids[0] == wanted.token_ids[0]
    assert got.first_token_ids[0] == wanted.first_token_ids[0]
