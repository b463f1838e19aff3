"""Whole builds of a SmolVLM checkpoint: every precision passes its own comparisons; products are counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import SmolVLMForConditionalGeneration

from tests.export.families.precisions import Precisions
from tests.smolvlm_checkpoints import TiledSpec, write_tiled_checkpoint
from vicrop_engine.engine_dir.flops import num_flops
from vicrop_engine.engine_dir.manifest import read_manifest
from vicrop_engine.engine_dir.records import FamilyRecord

SPEC = TiledSpec(seed=4, hidden=144, heads=9, kv_heads=3, layers=3, tied=True)
COMPARED = 6  # questions a build here asks, instead of all
HIGHEST = {"fp32": 2e-5, "fp16": 0.01, "int8": 0.15, "int4": 0.6}  # of any figure, relative L2


BUILDS = Precisions(lambda place: write_tiled_checkpoint(place, SPEC), "smolvlm2-256m", COMPARED)
engine = BUILDS.engine


@pytest.mark.parametrize("precision", HIGHEST)
def test_every_precision_passes_its_own_comparisons(precision: str) -> None:
    directory, manifest = engine(precision)
    assert read_manifest(directory) == manifest
    assert manifest.family == FamilyRecord("smolvlm", {"longest_edge": 256}, most_inputs=17)
    assert (manifest.model.name, manifest.crop.source) == ("smolvlm2-256m", "scaled, not measured")
    parity, exact = manifest.parity, manifest.float32_parity
    assert max(parity.image_embeds, parity.attention, parity.logits) <= HIGHEST[precision]
    if precision != "int4":  # whose likeliest token, that the loss is of, may be another on random weights
        assert parity.gradient is not None
        assert parity.gradient <= HIGHEST[precision]
    assert exact is not None
    assert max(exact.image_embeds, exact.logits) <= 1e-5
    assert (manifest.agreement is None) == (precision == "fp32")


def test_products_are_counted_for_a_tile() -> None:
    _, manifest = engine("fp32")
    model: Any = SmolVLMForConditionalGeneration.from_pretrained(
        BUILDS.checkpoint, attn_implementation="eager"
    )
    tiles = torch.randn(1, 3, 3, SPEC.side, SPEC.side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.get_image_features(pixel_values=tiles)
    assert manifest.multiply_adds is not None
    ours = num_flops(manifest.multiply_adds["vision"], {"images": 3})
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.001)
