"""Training machinery: resumed runs equal unbroken ones, Muon is orthogonal, labels lie under their signs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from architecture import GRID, INPUT_SIDE
from muon import orthogonalise
from torch import nn
from tower_stage import IGNORED, NONE, patch_labels, random_crop
from training import Optimisers, Stage, load_module, rate, run_stage, shuffled
from world import DIGITS, make_scene


class Layers(nn.Module):
    """One matrix that Muon takes and one bias that AdamW takes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(4, 6)])


def train(directory: Path, stop_after: int | None = None) -> dict[str, torch.Tensor]:
    """Push outputs to zero for ten steps, or break off; gives the weights that were saved."""
    stage = Stage("tower", 10, 4, 0.3, 0.3, seed=3, log_every=5, save_every=2)
    module = Layers()

    def step_once(step: int, rng: np.random.Generator) -> dict[str, float]:
        if step == stop_after:
            raise KeyboardInterrupt
        inputs = torch.eye(4) + 0.1 * torch.from_numpy(rng.normal(size=(4, 4)).astype(np.float32))
        loss = module.layers[0](inputs).square().mean()
        loss.backward()
        return {"loss": loss.item()}

    run_stage(stage, directory, {"module": module}, Optimisers([(module, 1.0)], stage), step_once)
    loaded = Layers()
    load_module(directory / "tower.pt", "module", loaded)
    return loaded.state_dict()


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", stop_after=5)
    resumed = train(tmp_path / "broken")
    fresh = Layers().state_dict()
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight, rtol=0, atol=0)
        assert (fresh[name] != weight).any()
    lines = [json.loads(line) for line in (tmp_path / "whole" / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10]
    assert lines[1]["loss"] < lines[0]["loss"]


def test_a_stage_that_was_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run that stage first"):
        load_module(tmp_path / "tower.pt", "tower", Layers())


def test_orthogonalised_updates_have_singular_values_near_one() -> None:
    matrices = torch.randn(3, 16, 48, generator=torch.Generator().manual_seed(2))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_the_learning_rate_warms_up_holds_and_falls() -> None:
    rates = [rate(step, 1000) for step in range(1000)]
    assert rates[0] < 0.05
    assert rates[100] == rates[500] == 1.0
    assert rates[-1] == pytest.approx(0.02)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[100:]))


def test_shuffled_uses_each_once_before_any_again() -> None:
    drawn = list(shuffled(np.random.default_rng(0), 4, 8))
    assert sorted(drawn[:4]) == sorted(drawn[4:]) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(6))
def test_labels_lie_under_their_signs(seed: int) -> None:
    scene = make_scene(np.random.default_rng(seed), INPUT_SIDE, text_range=(6.0, 20.0))
    labels = patch_labels(scene, scene.window).reshape(GRID, GRID, 3)
    for sign in scene.signs:
        row, col = int(sign.y / scene.height * GRID), int(sign.x / scene.width * GRID)
        assert tuple(labels[row, col]) == (sign.colour, sign.shape, DIGITS.index(sign.text))
    covered = sum(sign.side**2 for sign in scene.signs) / (scene.width * scene.height)
    assert (labels.reshape(-1, 3) == NONE).all(1).mean() > 1 - 4 * covered - 0.2


def test_unreadable_text_is_labelled_as_none() -> None:
    scene = make_scene(np.random.default_rng(2), INPUT_SIDE, text_range=(2.2, 2.6))
    labels = patch_labels(scene, scene.window)
    on_signs = labels[(labels[:, 0] != NONE[0]) & (labels[:, 0] != IGNORED)]
    assert len(on_signs) > 0
    assert (on_signs[:, 2] == NONE[2]).all()


@pytest.mark.parametrize("seed", range(6))
def test_random_crops_lie_inside_and_hold_their_sign(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = make_scene(rng, INPUT_SIDE)
    for index, sign in enumerate(scene.signs):
        x0, y0, x1, y1 = random_crop(rng, scene, index)
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= scene.width
        assert y1 <= scene.height
        assert x0 <= sign.x <= x1
        assert y0 <= sign.y <= y1
        assert all(side == int(side) for side in (x0, y0, x1, y1))
