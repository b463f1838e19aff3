"""LLaVA-NeXT in every precision for the processor: its own comparisons, and heatmaps like float32's."""

from __future__ import annotations

import pytest

from tests.engines import NEXTS, built_next
from tests.families.common import QUESTION
from tests.parity.family_checks import picture
from vicrop_engine import ViCropEngine
from vicrop_export.checks.parity import relative_l2

SPEC = NEXTS["mistral, grouped heads"]
HIGHEST = {"fp16": 0.01, "int8": 0.15, "int4": 0.6}  # of any figure, relative L2


@pytest.mark.parametrize("precision", HIGHEST)
def test_every_precision_passes_its_own_comparisons(precision: str) -> None:
    made = built_next(SPEC, precision)
    parity, exact = made.manifest.parity, made.manifest.float32_parity
    assert 0 < max(parity.image_embeds, parity.attention, parity.logits) <= HIGHEST[precision]
    assert exact is not None
    assert max(exact.image_embeds, exact.logits) <= 1e-5
    assert made.manifest.agreement is not None
    whole, own = (ViCropEngine.load(each.engine, threads=1) for each in (built_next(SPEC, "fp32"), made))
    got, wanted = (each.ask(picture("wide"), QUESTION, max_new_tokens=1) for each in (own, whole))
    assert got.heatmap is not None
    assert wanted.heatmap is not None
    assert 0 < relative_l2(got.heatmap, wanted.heatmap) <= HIGHEST[precision]
    assert got.tokens == wanted.tokens
