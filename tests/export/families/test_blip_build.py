"""Whole builds of an InstructBLIP checkpoint: every precision passes its comparisons."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import InstructBlipForConditionalGeneration

from tests.blip_checkpoints import BlipSpec, write_blip_checkpoint
from tests.export.families.precisions import Precisions
from tests.parity.family_checks import QUESTION, picture
from vicrop_engine import ViCropEngine
from vicrop_engine.engine_dir.flops import num_flops
from vicrop_engine.engine_dir.manifest import ENCODERS, read_manifest
from vicrop_export.checks.parity import relative_l2

SPEC = BlipSpec(seed=4, hidden=64, layers=3, tied=True, qformer_layers=4, vision_layers=2)
FLOAT, FLOAT16, INT8 = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "INT8"))
COMPARED = 4  # questions a build here asks, instead of all
HIGHEST = {"fp32": 2e-5, "fp16": 0.01, "int8": 0.15, "int4": 0.6}  # of any figure, relative L2


BUILDS = Precisions(lambda place: write_blip_checkpoint(place, SPEC), "instructblip-7b", COMPARED)
engine = BUILDS.engine


@pytest.mark.parametrize("precision", HIGHEST)
def test_every_precision_passes_its_own_comparisons(precision: str) -> None:
    directory, manifest = engine(precision)
    assert read_manifest(directory) == manifest
    assert (manifest.model.name, manifest.encoders) == ("instructblip-7b", ENCODERS)
    parity, exact = manifest.parity, manifest.float32_parity
    assert max(parity.image_embeds, parity.attention, parity.logits) <= HIGHEST[precision]
    assert exact is not None
    assert max(exact.image_embeds, exact.logits) <= 1e-5
    assert (manifest.agreement is None) == (precision == "fp32")
    whole, own = (ViCropEngine.load(each, threads=1) for each in (engine("fp32")[0], directory))
    for method in ("rel-att", "grad-att")[: 1 + (precision != "int4")]:  # whose likeliest token is another
        got, wanted = (each.ask(picture("wide"), QUESTION, method=method).heatmap for each in (own, whole))
        assert got is not None
        assert wanted is not None
        assert relative_l2(got, wanted) <= 2 * HIGHEST[precision]


@pytest.mark.parametrize(("precision", "kind"), [("fp32", FLOAT), ("fp16", FLOAT16), ("int8", INT8)])
def test_the_second_stage_is_stored_as_the_precision_says(precision: str, kind: int) -> None:
    """All weights of its products, and with a twin for other processors where the tower has one."""
    directory, manifest = engine(precision)
    graph = onnx.load(directory / "instructed.onnx", load_external_data=False).graph
    kinds = [weight.data_type for weight in graph.initializer if len(weight.dims) == 2]
    tables = 2  # of words and positions, which nothing multiplies with
    assert kinds.count(kind) >= SPEC.qformer_layers * 6
    assert len([each for each in kinds if each != kind]) <= tables
    assert ("instructed.wide" in (manifest.twins or {})) == (precision == "int8")


def test_products_are_counted() -> None:
    _, manifest = engine("fp32")
    model: Any = InstructBlipForConditionalGeneration.from_pretrained(
        BUILDS.checkpoint, attn_implementation="eager"
    )
    pixels = torch.randn(1, 3, SPEC.side, SPEC.side, generator=torch.Generator().manual_seed(0))
    counted = manifest.multiply_adds
    assert counted is not None
    for read in (5, 40):
        ids = torch.ones(1, read, dtype=torch.int64)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.get_image_features(pixel_values=pixels, qformer_input_ids=ids)
        small, both = SPEC.qformer_hidden, SPEC.queries + read
        unread = 2 * (
            read * 6 * small**2 + 2 * read * both * small
        )  # text is needed no more in the last layer
        ours = num_flops(counted["vision"], {"images": 1})
        ours += num_flops(counted["instructed"], {"instruction": read})
        assert ours + unread == pytest.approx(counter.get_total_flops(), rel=0.001)
