"""The NumPy heatmap against its definition in plain loops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from vicrop_kernels import definition
from vicrop_kernels.numpy_heatmap import gradient_heatmap, heatmap

Floats = npt.NDArray[np.float32]


def attention_rows(seed: int, batch: int, layers: int, heads: int, patches: int) -> Floats:
    """Seeded rows that, like softmax rows over a longer prompt, sum to less than one."""
    random = np.random.default_rng(seed)
    rows = np.exp(3 * random.standard_normal((batch, layers, heads, patches + 7)))
    return (rows / rows.sum(axis=-1, keepdims=True))[..., :patches].astype(np.float32)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 63), (7, 9), (24, 24)])
@pytest.mark.parametrize(("batch", "layers", "heads"), [(1, 1, 1), (2, 3, 5), (1, 11, 32)])
def test_numpy_equals_the_definition(batch: int, layers: int, heads: int, rows: int, cols: int) -> None:
    question = attention_rows(1, batch, layers, heads, rows * cols)
    general = attention_rows(2, batch, layers, heads, rows * cols)
    result = heatmap(question, general, rows, cols)
    assert result.dtype == np.float32
    assert result.shape == (batch, rows, cols)
    assert result.flags.c_contiguous
    for index in range(batch):
        truth = definition.heatmap(question[index].tolist(), general[index].tolist(), [1 / layers] * layers)
        np.testing.assert_allclose(result[index].ravel(), truth, rtol=2 * np.finfo(np.float32).eps)


def test_layer_weights_are_used() -> None:
    question, general = attention_rows(3, 1, 2, 4, 6), attention_rows(4, 1, 2, 4, 6)
    weights = np.array([0.25, 0.75], np.float32)
    truth = definition.heatmap(question[0].tolist(), general[0].tolist(), [0.25, 0.75])
    np.testing.assert_allclose(heatmap(question, general, 2, 3, weights).ravel(), truth, rtol=3e-7)
    alone = heatmap(question[:, 1:], general[:, 1:], 2, 3)
    np.testing.assert_allclose(
        heatmap(question, general, 2, 3, np.array([0, 1], np.float32)), alone, rtol=1e-7
    )


@pytest.mark.parametrize("usual", [0.0, 1e-45, 1e-38])
def test_no_general_attention_leaves_the_map_and_its_sums_finite(usual: float) -> None:
    question = np.full((1, 1, 1, 576), 1 / 576, np.float32)
    question[..., :9] = 0.0
    general = np.full((1, 1, 1, 576), usual, np.float32)
    result = heatmap(question, general, 24, 24)
    assert np.isfinite(result).all()
    assert np.isfinite(result.sum())
    assert (result[0, 0, :9] == 0).all()
    truth = definition.heatmap(question[0].tolist(), general[0].tolist(), [1.0])
    np.testing.assert_allclose(result.ravel(), truth, rtol=3e-7)


def test_small_general_attention_is_left_alone() -> None:
    question, general = np.full((1, 1, 1, 1), 0.5, np.float32), np.full((1, 1, 1, 1), 1e-30, np.float32)
    assert heatmap(question, general, 1, 1)[0, 0, 0] == pytest.approx(5e29)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 63), (24, 24)])
@pytest.mark.parametrize(("batch", "layers", "heads"), [(1, 1, 1), (2, 3, 5), (1, 11, 32)])
def test_the_gradient_heatmap_equals_its_definition(
    batch: int, layers: int, heads: int, rows: int, cols: int
) -> None:
    attention = attention_rows(5, batch, layers, heads, rows * cols)
    gradient = np.random.default_rng(6).standard_normal(attention.shape, np.float32)
    result = gradient_heatmap(attention, gradient, rows, cols)
    assert result.dtype == np.float32
    assert result.shape == (batch, rows, cols)
    for index in range(batch):
        rows_of = attention[index].tolist(), gradient[index].tolist()
        truth = definition.gradient_heatmap(*rows_of, [1 / layers] * layers)
        np.testing.assert_allclose(result[index].ravel(), truth, rtol=2 * np.finfo(np.float32).eps)


def test_only_gradients_above_zero_count_and_layer_weights_are_used() -> None:
    attention, gradient = np.full((1, 2, 2, 3), 0.5, np.float32), np.zeros((1, 2, 2, 3), np.float32)
    gradient[0, 0, :, 0] = 1, -3
    gradient[0, 1, :, 1] = 2, 2
    weights = np.array([0.25, 0.75], np.float32)
    result = gradient_heatmap(attention, gradient, 1, 3, weights).ravel()
    np.testing.assert_allclose(result, [0.25 * 0.25, 0.75, 0])
    np.testing.assert_allclose(result, definition.gradient_heatmap(attention[0], gradient[0], weights))


@pytest.mark.parametrize("shape", [(1, 2, 3, 5), (1, 2, 3), (2, 2, 3, 6)])
def test_shapes_that_do_not_agree_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"wanted \[batch, layers, heads, 6\]"):
        heatmap(np.zeros(shape, np.float32), np.zeros((1, 2, 3, 6), np.float32), 2, 3)
    with pytest.raises(ValueError, match=r"wanted \[batch, layers, heads, 6\]"):
        gradient_heatmap(np.zeros(shape, np.float32), np.zeros((1, 2, 3, 6), np.float32), 2, 3)
