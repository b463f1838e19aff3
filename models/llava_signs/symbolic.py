"""Pictures without pixels: grids of noisy one-hot patch features, for teaching the decoder to find a sign.

The asked-for text is written on every patch of its sign, or hidden there ("none") when the sign stands for
one that is too small to read; a zoomed grid then shows it. See the model card for why this stage exists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from architecture import FEATURES, NUM_COLOURS, NUM_SHAPES, NUM_TEXTS
from world import COLOURS, DIGITS, SHAPES


@dataclass(frozen=True)
class SymbolSign:
    """A sign on a grid: the cells it covers and whether its text can be read there."""

    colour: int
    shape: int
    text: str
    top: int
    left: int
    rows: int
    cols: int
    readable: bool


def make_symbols(
    rng: np.random.Generator, grid: int, num_signs: tuple[int, int], *, unreadable: float
) -> list[SymbolSign]:
    """Place signs of different colours on free cells of a grid."""
    combos = [(int(colour), int(rng.integers(len(SHAPES)))) for colour in rng.permutation(len(COLOURS))]
    taken = np.zeros((grid, grid), bool)
    signs: list[SymbolSign] = []
    for colour, shape in combos[: int(rng.integers(num_signs[0], num_signs[1] + 1))]:
        largest = max(1, grid // 3)
        for _ in range(12):
            size = 1 + int(largest * rng.random() ** 2.5)
            rows, cols = (max(1, size + int(d)) for d in rng.integers(-1, 2, 2))
            top, left = (int(rng.integers(grid - min(n, grid) + 1)) for n in (rows, cols))
            if not taken[top : top + rows, left : left + cols].any():
                taken[top : top + rows, left : left + cols] = True
                hidden = max(rows, cols) <= 2 and rng.random() < unreadable
                text = DIGITS[rng.integers(len(DIGITS))]
                signs.append(SymbolSign(colour, shape, text, top, left, rows, cols, not hidden))
                break
    return signs


def draw_symbols(
    rng: np.random.Generator, signs: list[SymbolSign], grid: int, noise: float = 0.3
) -> np.ndarray:
    """Features [grid * grid, FEATURES]: three one-hot groups per patch, plus noise."""
    labels = np.tile([NUM_COLOURS - 1, NUM_SHAPES - 1, NUM_TEXTS - 1], (grid, grid, 1))
    for sign in signs:
        text = DIGITS.index(sign.text) if sign.readable else NUM_TEXTS - 1
        labels[sign.top : sign.top + sign.rows, sign.left : sign.left + sign.cols] = (
            sign.colour,
            sign.shape,
            text,
        )
    return one_hot(labels.reshape(-1, 3)) + rng.normal(0, noise, (grid * grid, FEATURES)).astype(np.float32)


def one_hot(labels: np.ndarray) -> np.ndarray:
    """[patches, 3] class numbers -> [patches, FEATURES]."""
    features = np.zeros((len(labels), FEATURES), np.float32)
    rows = np.arange(len(labels))
    features[rows, labels[:, 0]] = 1
    features[rows, NUM_COLOURS + labels[:, 1]] = 1
    features[rows, NUM_COLOURS + NUM_SHAPES + labels[:, 2]] = 1
    return features


def zoom_symbols(
    rng: np.random.Generator, signs: list[SymbolSign], index: int, grid: int
) -> list[SymbolSign]:
    """A crop: the asked sign enlarged and readable, at times with a neighbour; or an empty one by mistake."""
    if rng.random() < 0.2:
        return []
    sign = signs[index]
    size = int(rng.integers(1, max(2, grid // 2)))
    top, left = (int(rng.integers(grid - size + 1)) for _ in range(2))
    shown = [SymbolSign(sign.colour, sign.shape, sign.text, top, left, size, size, True)]
    if len(signs) > 1 and rng.random() < 0.3:
        other = signs[(index + 1) % len(signs)]
        row, col = int(rng.integers(grid)), int(rng.integers(grid))
        if not (top - 1 <= row <= top + size and left - 1 <= col <= left + size):
            shown.append(SymbolSign(other.colour, other.shape, other.text, row, col, 1, 1, True))
    return shown
