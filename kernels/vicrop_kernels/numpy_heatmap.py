"""The heatmaps in NumPy: head and layer means of relative or gradient-weighted attention.

Their truths are `definition.heatmap` and `definition.gradient_heatmap`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vicrop_kernels.definition import FLOOR

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.floating]  # float16, 32 or 64


def heatmap(question: Rows, general: Rows, rows: int, cols: int, weights: Rows | None = None) -> Floats:
    """Relative attention maps, float32 [batch, rows, cols].

    `question` and `general` are attention rows [batch, layers, heads, patches] with patches = rows * cols;
    `weights` [layers] sum to one and are equal when not given. Raises ValueError on shapes that do not agree.
    """
    _demand_shapes(question, general, rows * cols)
    asked = question.mean(axis=2, dtype=np.float64)  # [batch, layers, patches]
    usual = general.mean(axis=2, dtype=np.float64)
    ratio = asked / np.maximum(usual, FLOOR)
    return _merged(ratio, rows, cols, weights)


def gradient_heatmap(
    attention: Rows, gradient: Rows, rows: int, cols: int, weights: Rows | None = None
) -> Floats:
    """Attention times its gradient where that is above zero, float32 [batch, rows, cols].

    Shapes and `weights` are those of `heatmap`. Raises ValueError on shapes that do not agree.
    """
    _demand_shapes(attention, gradient, rows * cols)
    helpful = attention * np.maximum(gradient, 0.0, dtype=np.float64)
    return _merged(helpful.mean(axis=2), rows, cols, weights)


def _demand_shapes(one: Rows, other: Rows, patches: int) -> None:
    if one.shape != other.shape or one.ndim != 4 or one.shape[3] != patches:
        raise ValueError(f"got rows {one.shape} and {other.shape}, wanted [batch, layers, heads, {patches}]")


def _merged(maps: npt.NDArray[np.float64], rows: int, cols: int, weights: Rows | None) -> Floats:
    """[batch, layers, patches] to [batch, rows, cols]; equal weights when none are given."""
    batch, layers = maps.shape[:2]
    shares = np.full(layers, 1.0 / layers) if weights is None else np.asarray(weights, np.float64)
    merged = np.tensordot(maps, shares, axes=([1], [0]))
    return np.ascontiguousarray(merged.reshape(batch, rows, cols), np.float32)
