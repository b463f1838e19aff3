"""The heatmap operator in every implementation against its definition in plain float64 loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.kernels.operator_cases import (
    MODES,
    OPERATORS,
    RATIOS,
    SIZES,
    TYPED,
    TYPES,
    attention,
    by_definition,
    in_torch,
    random_arguments,
    random_rows,
    rows_for,
    whole_picture,
)
from vicrop_kernels.arguments import Arguments, Cells, Mode, PictureGrid, Tiles
from vicrop_kernels.definition import FLOOR

BATCHES, PICTURES_PER_BATCH = 80, 25
ROUNDING = float(np.finfo(np.float32).eps) / 2  # a heatmap is float32, however it was computed
on_all = pytest.mark.parametrize("name", OPERATORS)


def relative_error(got: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(got - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize("patches", SIZES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "kind"), TYPED)
def test_within_twice_the_error_of_plain_pytorch(name: str, kind: str, mode: Mode, patches: int) -> None:
    rows, cols = SIZES[patches]
    arguments = Arguments(rows, cols, (whole_picture(rows, cols, (1100, 700)),), 100, RATIOS, mode)
    first, second = rows_for(np.random.default_rng(patches), mode, (1, 2, 5, patches), kind)
    truth, boxes = by_definition(first, second, arguments)
    heatmap, window = OPERATORS[name](first, second, arguments)
    plain = in_torch(first, second, mode).to(torch.float64).numpy()
    allowed = 2 * max(relative_error(plain.reshape(truth.shape), truth), ROUNDING)
    assert relative_error(heatmap, truth) <= allowed
    assert window == boxes


@pytest.mark.parametrize("seed", range(BATCHES))
def test_windows_of_two_thousand_random_cases_are_the_definition_s(seed: int) -> None:
    """Pictures of all shapes, padded or not, whole or in tiles, and rows of all types, half with ties."""
    assert BATCHES * PICTURES_PER_BATCH == 2000
    random = np.random.default_rng([11, seed])
    layers, kind = int(random.choice([1, 1, 2])), list(TYPES)[seed % len(TYPES)]
    arguments = random_arguments(random, PICTURES_PER_BATCH, layers)
    first, second = random_rows(random, arguments, layers, int(random.integers(1, 6)), kind)
    truth, boxes = by_definition(first, second, arguments)
    for name, operator in OPERATORS.items():
        known = (name, kind) in TYPED
        heatmap, window = operator(
            *((first, second) if known else (first.float(), second.float())), arguments
        )
        np.testing.assert_allclose(heatmap, truth, rtol=1e-5, atol=1e-6 * np.abs(truth).max(), err_msg=name)
        assert window == boxes, name


def test_the_random_cases_are_not_all_whole_pictures() -> None:
    searched = 0
    for seed in range(BATCHES):
        random = np.random.default_rng([11, seed])
        arguments = random_arguments(random, PICTURES_PER_BATCH, int(random.choice([1, 1, 2])))
        searched += sum(
            2 * arguments.window < min(picture.size) and picture.inside != Cells(0, 1, 0, 1)
            for picture in arguments.pictures
        )
    assert searched > 800


@on_all
@pytest.mark.parametrize("kind", ["permuted", "sliced", "every other patch", "expanded"])
def test_rows_lie_as_they_like_and_what_lies_between_is_not_read(name: str, kind: str) -> None:
    random = np.random.default_rng(5)
    arguments = Arguments(
        5, 6, tuple(whole_picture(5, 6, size) for size in [(600, 500), (90, 900)]), 60, RATIOS
    )
    first, second = rows_for(random, "relative", (2, 2, 3, 30))
    if kind == "expanded":
        first, second = first[:1].expand(2, 2, 3, 30), second[:, :1].expand(2, 2, 3, 30)
    wanted = OPERATORS[name](first.contiguous(), second.contiguous(), arguments)
    poisoned = torch.full((3, 4, 5, 80), torch.nan)
    for values in (first, second) if kind != "expanded" else ():
        if kind == "permuted":
            view = poisoned.permute(1, 2, 0, 3)[1:3, 2:4, :, 7:37]
        elif kind == "sliced":
            view = poisoned[1:, 1:3, 1:4, 9:39]
        else:
            view = poisoned[:2, ::2, ::2, 3:63:2]
        view.copy_(values)
        first, second = (view, second) if values is first else (first, view)
        poisoned = torch.full((3, 4, 5, 80), torch.nan)
    heatmap, window = OPERATORS[name](first, second, arguments)
    np.testing.assert_array_equal(heatmap, wanted[0])
    assert window == wanted[1]


@on_all
def test_ties_go_to_the_first_column_then_the_first_row_then_the_first_size(name: str) -> None:
    grid = torch.full((6, 6), 0.01)
    grid[4, 1] = grid[1, 3] = grid[2, 1] = 0.3
    arguments = Arguments(6, 6, (whole_picture(6, 6, (600, 600)),), 100, (1.0, 1.1))
    rows = grid.reshape(1, 1, 1, 36)
    _, window = OPERATORS[name](rows, torch.full_like(rows, 0.1), arguments)
    assert window == [(100, 200, 200, 300)]


@on_all
@pytest.mark.parametrize("seed", range(4))
def test_mirrored_maps_tie_exactly(name: str, seed: int) -> None:
    """Sums rounded in float32 would tell a window from its mirror image by the order they are added in."""
    values = attention(np.random.default_rng(seed), (1, 1, 1, 17 * 16)).reshape(17, 16)
    values = values + values.flip(1)
    rows, arguments = (
        values.reshape(1, 1, 1, -1),
        Arguments(17, 16, (whole_picture(17, 16, (1600, 1700)),), 500, RATIOS),
    )
    _, window = OPERATORS[name](rows, torch.ones_like(rows), arguments)
    x0, _, x1, _ = window[0]
    assert x0 + x1 <= 1600
    assert window == by_definition(rows, torch.ones_like(rows), arguments)[1]


@on_all
@pytest.mark.parametrize("usual", [0.0, 1e-45, 1e-38])
def test_no_general_attention_leaves_everything_finite(name: str, usual: float) -> None:
    first, second = torch.full((1, 2, 3, 64), 1 / 64), torch.full((1, 2, 3, 64), usual)
    first[..., 10] = 0
    arguments = Arguments(8, 8, (whole_picture(8, 8, (800, 800)),), 100, RATIOS)
    heatmap, window = OPERATORS[name](first, second, arguments)
    assert np.isfinite(heatmap).all()
    assert np.isfinite(heatmap.sum())
    assert heatmap[0, 0, 0] == pytest.approx(1 / 64 / max(usual, FLOOR), rel=1e-6)
    assert heatmap[0, 1, 2] == 0
    assert window == by_definition(first, second, arguments)[1]


@on_all
def test_padding_is_zero_and_never_found(name: str) -> None:
    lies = PictureGrid((600, 200), 0.0, -200.0, 50.0, 50.0, Cells(4, 8, 0, 12))
    values = torch.full((12, 12), 0.001)
    values[:4] = values[8:] = 0.1
    values[5, 9] = 0.005
    rows, arguments = values.reshape(1, 1, 1, -1), Arguments(12, 12, (lies,), 100, RATIOS)
    heatmap, window = OPERATORS[name](rows, torch.ones_like(rows), arguments)
    assert not heatmap[0, :4].any()
    assert not heatmap[0, 8:].any()
    np.testing.assert_array_equal(heatmap[0, 4:8], values[4:8])
    x0, y0, x1, y1 = window[0]
    assert x0 <= 475 <= x1
    assert y0 <= 75 <= y1


@on_all
def test_tiles_are_put_together_row_by_row_each_over_its_mean(name: str) -> None:
    kept = Cells(0, 2, 1, 4)
    tiles = Tiles(2, 3, kept, over_mean=True)
    arguments = Arguments(2, 4, (whole_picture(4, 9, (900, 400)),), 100, (1.0,), tiles=tiles)
    first = torch.arange(1.0, 6 * 8 + 1).reshape(6, 1, 1, 8)
    first[5] = 0
    heatmap, _ = OPERATORS[name](first, torch.ones_like(first), arguments)
    for number in range(6):
        down, across = divmod(number, 3)
        tile = heatmap[0, 2 * down : 2 * down + 2, 3 * across : 3 * across + 3]
        values = first[number].reshape(2, 4)[:, 1:].numpy()
        np.testing.assert_allclose(tile, values / (values.mean() or 1), rtol=1e-6)
    plain = replace(arguments, tiles=replace(tiles, over_mean=False))
    heatmap, _ = OPERATORS[name](first, torch.ones_like(first), plain)
    np.testing.assert_array_equal(heatmap[0, 2:, :3], first[3].reshape(2, 4)[:, 1:])


@on_all
def test_a_large_map_of_many_tiles(name: str) -> None:
    tiles = Tiles(2, 3, over_mean=True)
    arguments = Arguments(24, 24, (whole_picture(48, 72, (3000, 2000)),), 336, RATIOS, tiles=tiles)
    first, second = rows_for(np.random.default_rng(8), "relative", (6, 1, 2, 576))
    truth, boxes = by_definition(first, second, arguments)
    heatmap, window = OPERATORS[name](first, second, arguments)
    np.testing.assert_allclose(heatmap, truth, rtol=1e-5)
    assert window == boxes


@on_all
def test_a_picture_within_its_first_window_is_its_own_crop(name: str) -> None:
    first, second = rows_for(np.random.default_rng(9), "relative", (1, 1, 2, 36))
    arguments = Arguments(6, 6, (whole_picture(6, 6, (300, 200)),), 336, RATIOS)
    assert OPERATORS[name](first, second, arguments)[1] == [(0, 0, 300, 200)]


@on_all
@pytest.mark.parametrize("shape", [(1, 2, 3, 5), (1, 2, 3), (2, 2, 3, 6), (1, 0, 3, 6)])
def test_rows_that_do_not_agree_are_refused(name: str, shape: tuple[int, ...]) -> None:
    arguments = Arguments(2, 3, (whole_picture(2, 3, (300, 200)),), 100, RATIOS)
    with pytest.raises(ValueError, match=r"wanted twice \[1, layers, heads, 6\]"):
        OPERATORS[name](torch.zeros(shape), torch.zeros(shape), arguments)
    with pytest.raises(ValueError, match="one for each of 2 layers"):
        OPERATORS[name](*[torch.ones(1, 2, 1, 6)] * 2, replace(arguments, weights=(1.0,)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "relativ"}, "'relativ', wanted one of"),
        ({"pictures": ()}, "no picture"),
        ({"rows": 0}, "0 x 3"),
        ({"rows": 2000, "cols": 2000}, "4000000 cells, wanted at most 1048576"),
        ({"ratios": ()}, "at least one ratio"),
        ({"window": 0}, "window 0"),
        ({"tiles": Tiles(kept=Cells(0, 3, 0, 3))}, "wanted cells of it"),
        ({"pictures": (PictureGrid((9, 9), 0, 0, 3, 4.5, Cells(1, 1, 0, 3)),)}, "of a map of 2 x 3"),
        ({"pictures": (PictureGrid((9, 9), 0, 0, 0, 4.5),)}, "above zero"),
    ],
)
def test_arguments_without_sense_are_refused(wrong: dict[str, object], message: str) -> None:
    right = Arguments(2, 3, (whole_picture(2, 3, (300, 200)),), 100, RATIOS)
    with pytest.raises(ValueError, match=message):
        replace(right, **wrong)  # type: ignore[arg-type]
