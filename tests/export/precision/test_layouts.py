"""Each way to store a weight: what is stored stands for the weight, and the graph computes with just that."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from tests.products import run_product as product
from vicrop_export.precision import block_layout
from vicrop_export.precision.block_layout import Blocks
from vicrop_export.precision.layouts import Bytes, Half, Layout, Whole, float_nodes
from vicrop_export.precision.prefill_products import AsBytes, prefill_product

# Largest relative L2 distance of the stored weight, and of a product with rounded tokens, on normal noise.
LAYOUTS: dict[str, tuple[Layout, float, float]] = {
    "fp32": (Whole(), 0.0, 1e-6),
    "fp16": (Half(), 4e-4, 1e-6),
    "int8": (Bytes(), 0.024, 0.012),
    "int8, tokens of two bytes": (Bytes(fine_tokens=True), 0.012, 2e-4),
    "int8, both of two bytes": (Bytes(fine_tokens=True, fine_weights=True), 5e-5, 2e-4),
    "8 bits in blocks": (Blocks(8), 0.009, 0.012),
    "4 bits in blocks": (Blocks(4), 0.11, 0.012),
    "4 bits in small blocks": (Blocks(4, 32), 0.09, 0.012),
}


def distance(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("size", [(128, 48), (200, 33), (256, 64)], ids=str)
@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_graph_multiplies_with_the_stored_weight(kind: str, size: tuple[int, int]) -> None:
    layout, of_weight, of_product = LAYOUTS[kind]
    num_in, num_out = size
    weight = torch.randn(num_out, num_in, generator=torch.Generator().manual_seed(1))
    arrays = layout.encode(weight)
    decoded = layout.decode(arrays)[:num_in]
    assert decoded.shape == (num_in, num_out)
    assert distance(decoded, weight.t().numpy()) <= of_weight
    for rows in (1, 7):
        x = np.random.default_rng(rows).standard_normal((rows, num_in), np.float32)
        assert distance(product(layout.nodes, arrays, x, size, packs=True), x @ decoded) <= of_product


@pytest.mark.parametrize("size", [(128, 48), (200, 33), (256, 64)], ids=str)
@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_prompt_is_multiplied_with_the_same_weight(kind: str, size: tuple[int, int]) -> None:
    """Bytes as floats exactly; four bits as bytes to what rounding weights and tokens to bytes may cost."""
    layout = LAYOUTS[kind][0]
    twin = prefill_product(layout)
    if twin is None:
        assert layout in (Whole(), Half(), Bytes(), Blocks(8))
        return
    arrays = layout.encode(torch.randn(size[1], size[0], generator=torch.Generator().manual_seed(4)))
    decoded = layout.decode(arrays)[: size[0]]
    x = np.random.default_rng(9).standard_normal((7, size[0]), np.float32)
    limit = 0.035 if isinstance(twin, AsBytes) else 1e-6
    held = twin.encode(arrays, size[0]) if isinstance(twin, AsBytes) else arrays
    assert distance(product(twin.nodes, held, x, size, packs=True), x @ decoded) <= limit


@pytest.mark.parametrize("size", [(128, 48), (200, 33), (256, 64)], ids=str)
@pytest.mark.parametrize("kind", LAYOUTS)
def test_one_token_and_the_way_back_use_the_same_bytes(kind: str, size: tuple[int, int]) -> None:
    """Rounding of tokens is for the usual products; gradients are never rounded."""
    layout, _, of_product = LAYOUTS[kind]
    num_in, num_out = size
    arrays = layout.encode(torch.randn(num_out, num_in, generator=torch.Generator().manual_seed(2)))
    decoded = layout.decode(arrays)[:num_in]
    random = np.random.default_rng(3)
    row, column = (random.standard_normal(shape, np.float32) for shape in ((1, num_in), (num_out, 1)))
    forwards = product(layout.row_nodes, arrays, row, size)
    assert forwards.shape == (1, num_out)
    assert distance(forwards, row @ decoded) <= (of_product if isinstance(layout, Bytes) else 1e-6)
    back = product(layout.column_nodes, arrays, column, size)
    assert back.shape == (num_in, 1)
    assert distance(back, decoded @ column) <= 1e-6


@pytest.mark.parametrize("size", [(128, 48), (200, 33)], ids=str)
@pytest.mark.parametrize("kind", LAYOUTS)
def test_both_ways_with_the_stored_weight_as_floats(kind: str, size: tuple[int, int]) -> None:
    """What is widened for whole prompts is the weight that is stored, and tokens are not rounded."""
    layout = LAYOUTS[kind][0]
    arrays = layout.encode(torch.randn(size[1], size[0], generator=torch.Generator().manual_seed(2)))
    decoded = layout.decode(arrays)[: size[0]]
    for back, weight in ((False, decoded), (True, decoded.T)):
        x = np.random.default_rng(5).standard_normal((5, len(weight)), np.float32)
        got = product(partial(float_nodes, layout, back=back), arrays, x, size)
        assert distance(got, x @ weight) <= 1e-6


@pytest.mark.parametrize("kind", LAYOUTS)
def test_half_precision_checkpoints_and_zeros_are_stored_exactly_where_they_can_be(kind: str) -> None:
    layout = LAYOUTS[kind][0]
    arrays = layout.encode(torch.zeros(32, 128, dtype=torch.bfloat16))
    assert not layout.decode(arrays).any()
    assert all(np.isfinite(array.astype(np.float64)).all() for array in arrays.values())


def test_the_bits_a_layout_says_are_those_it_takes() -> None:
    weight = torch.randn(64, 256)
    for layout, _, _ in LAYOUTS.values():
        stored = sum(array.nbytes for array in layout.encode(weight).values())
        scales_per_output = 4 * 64 if isinstance(layout, Bytes) else 0
        assert stored - scales_per_output == layout.bits * weight.numel() / 8


def test_fine_weights_are_for_fine_tokens() -> None:
    with pytest.raises(ValueError, match="ask for fine_tokens as well"):
        Bytes(fine_weights=True)


def test_a_weight_beyond_float16_is_refused() -> None:
    assert Half().encode(torch.full((2, 2), 65504.0))[""].max() == 65504
    with pytest.raises(OverflowError, match="beyond float16's largest, 65504"):
        Half().encode(torch.full((2, 2), 1e5))


@pytest.mark.parametrize("width", [4, 8])
def test_a_large_weight_is_rounded_a_few_rows_at_a_time(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(70, 200, generator=torch.Generator().manual_seed(6))
    whole = Blocks(width).encode(weight)
    monkeypatch.setattr(block_layout, "AT_ONCE", 3 * 200 + 1)
    parts = Blocks(width).encode(weight)
    assert {ending: array.tobytes() for ending, array in parts.items()} == {
        ending: array.tobytes() for ending, array in whole.items()
    }
