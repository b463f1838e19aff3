"""Uncertainty and concentration by hand, and which crop tokens are kept."""

from __future__ import annotations

import numpy as np
import pytest

from vicrop_engine.images.geometry import Grid, whole_grid
from vicrop_engine.model.states import ImageEmbeds
from vicrop_engine.model.token_pruning import most_distinct, with_fewer
from vicrop_engine.vicrop.when import answer_uncertainty, heatmap_concentration


@pytest.mark.parametrize(
    ("probabilities", "wanted"),
    [((1.0, 1e-30, 1e-30), 0.0), ((0.4, 0.4, 0.2), 1.0), ((0.1, 0.2, 0.7), 0.5), ((0.25,) * 4, 1.0)],
)
def test_doubt_by_hand(probabilities: tuple[float, ...], wanted: float) -> None:
    logits = np.log(np.array(probabilities)) + 300
    assert answer_uncertainty(logits.astype(np.float32)) == pytest.approx(wanted, abs=1e-4)


def test_focus_by_hand() -> None:
    grid = whole_grid(3, 4, (40, 30))
    one = np.zeros((3, 4), np.float32)
    assert heatmap_concentration(one, grid) == 0
    assert heatmap_concentration(one + 7, grid) == pytest.approx(0)
    one[1, 2] = 5
    assert heatmap_concentration(one, grid) == pytest.approx(1)
    one[0, 0] = 5
    assert heatmap_concentration(one, grid) == pytest.approx(np.log(6) / np.log(12))


def test_focus_is_of_the_cells_that_saw_the_picture() -> None:
    padded = Grid(4, 4, 0, -10, 10, 10, first_row=1, last_row=3, first_col=0, last_col=4)
    values = np.zeros((4, 4), np.float32)
    values[1:3] = 3
    assert heatmap_concentration(values, padded) == pytest.approx(0)
    assert heatmap_concentration(values, Grid(4, 4, 0, 0, 10, 10, 1, 2, 1, 2)) == 0


def test_the_most_distinct_tokens_keep_their_order() -> None:
    embeds = np.zeros((6, 2), np.float32)
    embeds[4], embeds[1], embeds[2] = (9, 0), (0, 3), (1, 0)
    places = np.arange(18).reshape(3, 6)

    def kept(number: int) -> list[int]:
        found = most_distinct(ImageEmbeds(np.stack((embeds, 2 * embeds)), places), number)
        chosen: list[int] = np.asarray(found.offsets)[0].tolist()
        np.testing.assert_array_equal(found.states, np.stack((embeds, 2 * embeds))[:, chosen])
        np.testing.assert_array_equal(found.offsets, places[:, chosen])
        return chosen

    assert kept(2) == [1, 4]
    assert kept(3) == [1, 2, 4]
    assert kept(4) == [0, 1, 2, 4]
    assert kept(6) == [0, 1, 2, 3, 4, 5]


def test_only_image_tokens_are_cut() -> None:
    assert with_fewer((9, 9, 9, 4, 4, 5, 9, 9, 9), 9, 2) == (9, 9, 4, 4, 5, 9, 9)
    assert with_fewer((9, 9, 5), 9, 3) == (9, 9, 5)
