"""The heatmap in NumPy: head and layer means and the guarded ratio. Its truth is `definition.heatmap`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vicrop_kernels.definition import FLOOR

Floats = npt.NDArray[np.float32]


def heatmap(question: Floats, general: Floats, rows: int, cols: int, weights: Floats | None = None) -> Floats:
    """Relative attention maps, float32 [batch, rows, cols].

    `question` and `general` are attention rows [batch, layers, heads, patches] with patches = rows * cols;
    `weights` [layers] sum to one and are equal when not given. Raises ValueError on shapes that do not agree.
    """
    if question.shape != general.shape or question.ndim != 4 or question.shape[3] != rows * cols:
        raise ValueError(
            f"got rows {question.shape} and {general.shape}, wanted [batch, layers, heads, {rows * cols}]"
        )
    batch, layers = question.shape[:2]
    if weights is None:
        weights = np.full(layers, 1.0 / layers)
    asked = question.mean(axis=2, dtype=np.float64)  # [batch, layers, patches]
    usual = general.mean(axis=2, dtype=np.float64)
    ratio = asked / np.maximum(usual, FLOOR)
    merged = np.tensordot(ratio, np.asarray(weights, np.float64), axes=([1], [0]))
    return np.ascontiguousarray(merged.reshape(batch, rows, cols), np.float32)
