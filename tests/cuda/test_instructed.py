"""A vision part of two stages on an engine for cuda: embeds stay there, what makes cells comes back."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engines import BLIPS, built_blip
from tests.parity.family_checks import picture
from vicrop_engine import ViCropEngine
from vicrop_engine.images.seen import Way
from vicrop_engine.model.decoder_on_device import DeviceDecoder
from vicrop_engine.runtime.device import DeviceTensor
from vicrop_export.build import build_engine
from vicrop_export.checks import agreement
from vicrop_export.checks.parity import relative_l2

KIND = "every other layer looks"
QUESTION = "What is written on the red sign?"
EMBEDS, HEATMAP = 0.005, 0.03  # of float16


@pytest.fixture(scope="module")
def on_device(tmp_path_factory: pytest.TempPathFactory) -> ViCropEngine:
    made = built_blip(BLIPS[KIND])
    engine = tmp_path_factory.mktemp("instructed") / "engine"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "MOST", 2)  # questions a build here asks, instead of all
        build_engine(made.checkpoint, engine, name="llava-1.5", precision="fp16", target="cuda")
    return ViCropEngine.load(engine, provider="cpu")


@pytest.fixture(scope="module")
def on_host() -> ViCropEngine:
    return ViCropEngine.load(built_blip(BLIPS[KIND]).engine, threads=1)


def test_both_stages_give_what_the_hosts_give(on_device: ViCropEngine, on_host: ViCropEngine) -> None:
    seen = on_host.model.family.see(picture("wide"), Way())
    asked = seen.asked(on_host.model.prompts.one_image(QUESTION, seen.layout).instruction)
    [got], [wanted] = (engine.model.image_embeds([asked]) for engine in (on_device, on_host))
    assert isinstance(got.states, DeviceTensor)
    assert got.mixer is not None
    assert wanted.mixer is not None
    rows = on_device.model.device.host(got.states)
    assert relative_l2(rows.astype(np.float32), np.asarray(wanted.states)) <= EMBEDS
    assert relative_l2(got.mixer, wanted.mixer) <= EMBEDS


@pytest.mark.parametrize(("name", "high_res"), [("square", "off"), ("640 x 481", "off"), ("wide", "on")])
def test_it_finds_what_the_cpu_engine_finds(
    name: str, high_res: str, on_device: ViCropEngine, on_host: ViCropEngine
) -> None:
    assert isinstance(on_device.model.decoder, DeviceDecoder)
    image = picture(name) if high_res == "off" else picture(name).resize((1500, 1100))
    got, wanted = (
        one.ask(image, QUESTION, max_new_tokens=3, high_res=high_res) for one in (on_device, on_host)
    )
    assert got.heatmap is not None
    assert wanted.heatmap is not None
    assert relative_l2(got.heatmap, wanted.heatmap) <= HEATMAP
    assert (got.crop_box, got.tokens) == (wanted.crop_box, wanted.tokens)
    assert got.token_ids[0] == wanted.token_ids[0]
    on_device.check_integrity()
