"""First stage: the vision tower learns colour, shape and digit under every patch, by a throw-away head."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from architecture import (
    GRID,
    INPUT_SIDE,
    NUM_COLOURS,
    NUM_SHAPES,
    NUM_TEXTS,
    PatchHead,
    encode_patches,
    make_model,
    to_pixels,
)
from torch import Tensor
from training import Optimisers, Stage, run_stage
from world import DIGITS, Scene, Window, make_scene, render_input

IGNORED = -100
READABLE, UNREADABLE = 5.0, 3.5  # text height at the input: learnt as its digit above, as "none" below
GROUP_WEIGHTS = (0.5, 1.0, 2.0)  # colour is easy, a digit is hard
EASY_STEPS, EASY_TEXT, TEXT = 700, (7.0, 11.0), (5.5, 16.0)  # at first only crowded scenes, texts of one size
NONE = (NUM_COLOURS - 1, NUM_SHAPES - 1, NUM_TEXTS - 1)


def patch_labels(scene: Scene, window: Window) -> np.ndarray:
    """Classes [patches, 3] of colour, shape and text; IGNORED where a patch is neither of the two."""
    labels = np.tile(np.array(NONE), (GRID, GRID, 1))
    best = np.zeros((GRID, GRID))
    edges = np.arange(GRID + 1)
    cell_w, cell_h = (window[2] - window[0]) / GRID, (window[3] - window[1]) / GRID
    for sign in scene.signs:
        x0, y0, x1, y1 = sign.box
        left, right = (x0 - window[0]) / cell_w, (x1 - window[0]) / cell_w
        top, bottom = (y0 - window[1]) / cell_h, (y1 - window[1]) / cell_h
        across = np.clip(np.minimum(edges[1:], right) - np.maximum(edges[:-1], left), 0, 1)
        down = np.clip(np.minimum(edges[1:], bottom) - np.maximum(edges[:-1], top), 0, 1)
        overlap = down[:, None] * across[None]
        needed = min(0.3, 0.5 * (right - left) * (bottom - top))
        height = sign.text_height_in(window, INPUT_SIDE)
        text = DIGITS.index(sign.text) if height >= READABLE else NONE[2] if height < UNREADABLE else IGNORED
        if left < 0 or top < 0 or right > GRID or bottom > GRID:
            text = IGNORED
        sure = (overlap >= needed) & (overlap > best)
        unsure = (overlap >= 0.3 * needed) & ~sure & (best == 0)
        labels[sure] = (sign.colour, sign.shape, text)
        labels[unsure] = IGNORED
        best = np.where(sure, overlap, best)
    return labels.reshape(-1, 3)


def tower_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy over the three groups, background counted at a fifth; accuracies on signs."""
    total = logits.new_zeros(())
    scores: dict[str, float] = {}
    start = 0
    for group, (name, size) in enumerate(
        (("colour", NUM_COLOURS), ("shape", NUM_SHAPES), ("text", NUM_TEXTS))
    ):
        part, wanted = logits[..., start : start + size].flatten(0, -2), labels[..., group].flatten()
        weight = torch.ones(size)
        weight[-1] = 0.2
        loss = torch.nn.functional.cross_entropy(part, wanted, weight, ignore_index=IGNORED)
        total = total + GROUP_WEIGHTS[group] * loss
        known = (wanted >= 0) & (wanted != size - 1)
        scores[name] = (part.argmax(-1)[known] == wanted[known]).float().mean().item() if known.any() else 0.0
        start += size
    return total, scores


def draw_tower_sample(rng: np.random.Generator, easy: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """An input picture and its labels: mostly crowded scenes, some ordinary ones, some crops."""
    kind = 0.0 if easy else rng.random()
    if kind < 0.7:
        scene = make_scene(
            rng, INPUT_SIDE, num_signs=(10, 18), text_range=EASY_TEXT if easy else TEXT, repeat_colours=True
        )
    else:
        scene = make_scene(rng, INPUT_SIDE)
    window = random_crop(rng, scene) if kind > 0.85 else scene.window
    return np.asarray(render_input(scene, window, INPUT_SIDE)), patch_labels(scene, window)


def random_crop(rng: np.random.Generator, scene: Scene, sign: int | None = None) -> Window:
    """A window of the sizes the crop search uses, with a sign (by default any) somewhere inside."""
    chosen = scene.signs[int(rng.integers(len(scene.signs))) if sign is None else sign]
    side = min(INPUT_SIDE * float(rng.uniform(1.0, 2.0)), scene.width, scene.height)
    room = max(0.0, (side - chosen.side) / 2)
    x = chosen.x + rng.uniform(-1, 1) * room - side / 2
    y = chosen.y + rng.uniform(-1, 1) * room - side / 2
    x, y = min(max(x, 0), scene.width - side), min(max(y, 0), scene.height - side)
    left, top = math.floor(x), math.floor(y)
    return float(left), float(top), float(left + math.floor(side)), float(top + math.floor(side))


def train_tower(stage: Stage, directory: Path) -> None:
    """Train tower and head from scratch; saves both under `tower`."""
    model = make_model(stage.seed)
    tower, head = model.model.vision_tower, PatchHead()
    optimisers = Optimisers([(tower, 1.0), (head, 1.0)], stage)

    def step_once(step: int, rng: np.random.Generator) -> dict[str, float]:
        samples = [draw_tower_sample(rng, easy=step < EASY_STEPS) for _ in range(stage.batch)]
        labels = torch.from_numpy(np.stack([label for _, label in samples]))
        logits = head(encode_patches(model, to_pixels([picture for picture, _ in samples])))
        loss, scores = tower_loss(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": loss.item(), **scores}

    run_stage(stage, directory, {"tower": tower, "head": head}, optimisers, step_once)
