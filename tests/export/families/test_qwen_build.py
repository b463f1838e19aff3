"""Whole builds of Qwen checkpoints: every precision passes its own comparisons; products are counted."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.export.families.precisions import Precisions
from tests.qwen_checkpoints import write_qwen_checkpoint
from tests.qwen_documents import QwenSpec
from vicrop_engine.engine_dir.flops import num_flops
from vicrop_engine.engine_dir.manifest import Manifest, read_manifest
from vicrop_engine.families.qwen.tables import PATCHES
from vicrop_export.families.qwen.interface import COLS, ROWS
from vicrop_export.families.table import read_family

SPECS = {
    "qwen2.5-vl": QwenSpec(
        seed=11, hidden=96, heads=6, kv_heads=2, layers=3, vision_layers=2, full_layers=(1,)
    ),
    "qwen3-vl": QwenSpec(
        "qwen3_vl", seed=12, head_dim=32, layers=3, tied=True, vision_layers=3, tapped_layers=(0, 2)
    ),
}
COMPARED = 2  # questions a build here asks, instead of all
HIGHEST = {"fp32": 2e-5, "fp16": 0.01, "int8": 0.2, "int4": 0.7}  # of any figure, relative L2


BUILDS = {
    family: Precisions(partial(write_qwen_checkpoint, spec=spec), "own", COMPARED)
    for family, spec in SPECS.items()
}


def engine(family: str, precision: str, target: str = "cpu") -> tuple[Path, Manifest]:
    """The directory of a family's engine and its manifest."""
    return BUILDS[family].engine(precision, target)


@pytest.mark.parametrize("precision", HIGHEST)
@pytest.mark.parametrize("family", SPECS)
def test_every_precision_passes_its_own_comparisons(family: str, precision: str) -> None:
    directory, manifest = engine(family, precision)
    assert read_manifest(directory) == manifest
    assert (manifest.family.name, manifest.family.most_inputs) == (family, 1)
    assert manifest.crop.window == 224
    parity, exact = manifest.parity, manifest.float32_parity
    assert max(parity.image_embeds, parity.attention, parity.logits) <= HIGHEST[precision]
    if precision != "int4":  # whose likeliest token, that the loss is of, may be another on random weights
        assert parity.gradient is not None
        assert parity.gradient <= HIGHEST[precision]
    assert exact is not None
    assert max(exact.image_embeds, exact.logits) <= 1e-5
    assert (manifest.agreement is None) == (precision == "fp32")


@pytest.mark.parametrize(("family", "precision"), [("qwen2.5-vl", "int4"), ("qwen3-vl", "fp16")])
def test_engines_for_cuda_pass_theirs(family: str, precision: str) -> None:
    _, manifest = engine(family, precision, "cuda")
    parity = manifest.parity
    assert max(parity.image_embeds, parity.attention, parity.logits) <= HIGHEST[precision]
    assert manifest.agreement is not None


@pytest.mark.parametrize("family", SPECS)
def test_products_of_a_picture_are_counted(family: str) -> None:
    """What transformers' tower multiplies; padding of windows is ours alone."""
    _, manifest = engine(family, "fp32")
    own = read_family(BUILDS[family].checkpoint)
    model: Any = own.reference.from_pretrained(BUILDS[family].checkpoint, attn_implementation="eager")
    picture = {name: torch.from_numpy(array) for name, array in own.picture().arrays.items()}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        own.image_features(model, picture)
    assert manifest.multiply_adds is not None
    windows = len(picture["window_rows"]) if "window_rows" in picture else 0
    sizes = {"patches": ROWS * COLS * PATCHES, "windows": windows}
    ours: float = num_flops(manifest.multiply_adds["vision"], sizes)
    if windows:
        slots = windows * picture["window_rows"].shape[1]
        held = (picture["window_rows"] < sizes["patches"]).sum(1).square().sum().item()
        layers = SPECS[family].vision_layers - len(SPECS[family].full_layers)
        padding = slots * picture["window_rows"].shape[1] - held
        ours -= 4 * layers * padding * SPECS[family].vision_hidden
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.001)
