"""Which weight gets which layout: by its place in the model, and by what more bits would cost."""

from __future__ import annotations

import pytest

from vicrop_export.precision.block_layout import Blocks
from vicrop_export.precision.layouts import Bytes, Half, Layout, Whole
from vicrop_export.precision.rules import PRECISIONS, SPARE

LAYER = "language_model.layers.{}.{}.weight"
FINE, FINEST = Bytes(fine_tokens=True), Bytes(fine_tokens=True, fine_weights=True)
LOWER = 3  # of the layers; the highest heatmap layer is 2
# By precision: vision tower, queries up to the heatmap, values before it, values in it, queries above, head.
PLACES: dict[str, tuple[Layout, ...]] = {
    "fp32": (Whole(),) * 6,
    "fp16": (Half(),) * 6,
    "int8": (FINEST, FINEST, FINE, Bytes(), Bytes(), Blocks(8)),
    "int4": (FINE, FINE, FINE, Blocks(4), Blocks(4), Blocks(8)),
}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_decides_the_crop_is_kept_more_exactly(precision: str) -> None:
    names = (
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
        LAYER.format(2, "self_attn.q_proj"),
        LAYER.format(1, "self_attn.v_proj"),
        LAYER.format(2, "self_attn.v_proj"),
        LAYER.format(3, "self_attn.k_proj"),
        "lm_head.weight",
    )
    rules = PRECISIONS[precision]
    assert tuple(rules.layout(name, LOWER) for name in names) == PLACES[precision]
    assert rules.layout("multi_modal_projector.linear_1.weight", LOWER) == PLACES[precision][0]
    assert rules.layout("language_model.embed_tokens.weight", LOWER) == PLACES[precision][5]


def test_large_models_in_int4_have_four_bits_below_the_heatmap_too() -> None:
    """Exactly when eight would cost more than SPARE bytes; queries and keys keep them whatever it costs."""
    rules = PRECISIONS["int4"]
    most = int(SPARE * 8 / (FINE.bits - Blocks(4).bits))
    value, query = LAYER.format(0, "mlp.up_proj"), LAYER.format(0, "self_attn.q_proj")
    above, norm = LAYER.format(2, "mlp.up_proj"), LAYER.format(0, "input_layernorm")
    for outputs, wanted in ((most // 64, FINE), (most // 64 + 1, Blocks(4))):
        shapes = {value: (outputs, 64), query: (outputs, 6400), above: (outputs, 6400), norm: (64,)}
        fitted = rules.fitted(shapes, LOWER)
        assert fitted.layout(value, LOWER) == wanted
        assert fitted.layout(query, LOWER) == FINE
        assert fitted.layout(above, LOWER) == Blocks(4)


def test_other_precisions_are_the_same_for_any_size() -> None:
    shapes = {LAYER.format(0, "mlp.up_proj"): (1 << 20, 1 << 20)}
    for precision in ("fp32", "fp16", "int8"):
        assert PRECISIONS[precision].fitted(shapes, LOWER) == PRECISIONS[precision]
