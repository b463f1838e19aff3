"""Last stages: the projector learns the symbolic embedding, then all parts learn real pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from architecture import GRID, INPUT_SIDE, PatchHead, SymbolMap, encode_patches, make_model, to_pixels
from language_stage import CROP_QUESTIONS, QUESTIONS, ask_about, pointing_by_layer
from packing import Packed, loss_and_hits, pack, predicted_first, run_packed
from questions import Question
from symbolic import one_hot
from torch import Tensor
from tower_stage import IGNORED, draw_tower_sample, patch_labels, random_crop, tower_loss
from training import Optimisers, Stage, load_module, run_stage
from transformers import LlavaForConditionalGeneration
from world import Scene, Window, make_scene, render_input

SMALL, READABLE = 4.0, 8.0  # text height at the model's input: below SMALL unreadable, from READABLE readable
AUXILIARY_WEIGHT = 0.5
TOWER_JOINS = 0.35  # share of the picture stage after which the tower trains too
TOWER_RATE = 0.25


def train_projector(stage: Stage, directory: Path) -> None:
    """Regress the symbol map's embedding of each patch's labels from the frozen tower's features."""
    model = _load(stage, directory)
    symbols = SymbolMap()
    load_module(directory / "language.pt", "symbols", symbols)
    projector = model.model.multi_modal_projector
    optimisers = Optimisers([(projector, 1.0)], stage)

    def step_once(step: int, rng: np.random.Generator) -> dict[str, float]:
        samples = [draw_tower_sample(rng) for _ in range(stage.batch)]
        labels = np.stack([label for _, label in samples]).reshape(-1, 3)
        sure = torch.from_numpy((labels != IGNORED).all(1))
        on_sign = torch.from_numpy(labels[:, 0] != labels[:, 0].max())
        with torch.no_grad():
            features = encode_patches(model, to_pixels([picture for picture, _ in samples]))
            wanted = symbols(torch.from_numpy(one_hot(np.maximum(labels, 0))))
        got = projector(features).flatten(0, 1)
        errors = (got - wanted).square().mean(1) / wanted[sure].var()
        loss = errors[sure & on_sign].mean() + 0.3 * errors[sure & ~on_sign].mean()
        loss.backward()
        return {"loss": loss.item()}

    run_stage(stage, directory, {"projector": projector}, optimisers, step_once)


@dataclass(frozen=True)
class PictureBatch:
    """Scenes with their questions, the input pictures, and one crop per question (or none)."""

    scenes: list[Scene]
    questions: list[list[Question]]
    pixels: Tensor  # [pictures, 3, side, side]
    crops: Tensor | None  # [pictures * questions, 3, side, side]
    labels: Tensor  # [pictures (+ crops), patches, 3]


def draw_pictures(rng: np.random.Generator, batch: int, with_crop: bool) -> PictureBatch:
    """`batch` pictures with six questions each, or half as many with two questions and a crop for each."""
    count, batch = (CROP_QUESTIONS, batch // 2) if with_crop else (QUESTIONS, batch)
    scenes: list[Scene] = []
    questions, crops, windows = [], [], []
    while len(scenes) < batch:
        scene = make_scene(rng, INPUT_SIDE, text_range=(2.2, 24.0) if rng.random() < 0.6 else (5.0, 24.0))
        if len(scene.signs) < 2:
            continue
        asked = ask_about(rng, list(scene.signs), count, 0 if with_crop and rng.random() < 0.7 else 1)
        scenes.append(scene)
        questions.append(asked)
        if with_crop:
            windows += [(scene, _crop_for(rng, scene, question.sign)) for question in asked]
    windows_all = [(scene, scene.window) for scene in scenes] + windows
    pictures = [np.asarray(render_input(scene, window, INPUT_SIDE)) for scene, window in windows_all]
    crops = pictures[batch:]
    labels = torch.from_numpy(np.stack([patch_labels(scene, window) for scene, window in windows_all]))
    return PictureBatch(
        scenes, questions, to_pixels(pictures[:batch]), to_pixels(crops) if crops else None, labels
    )


def _crop_for(rng: np.random.Generator, scene: Scene, sign: int) -> Window:
    """Mostly a window on the asked sign; now and then one elsewhere, as a wrong heatmap gives."""
    missed = sign < 0 or rng.random() < 0.25
    return random_crop(rng, scene, None if missed else sign)


def train_pictures(stage: Stage, directory: Path) -> None:
    """Train on real questions; the tower is frozen at first and then joins with its auxiliary loss."""
    model = _load(stage, directory)
    load_module(directory / "projector.pt", "projector", model.model.multi_modal_projector)
    tower, head = model.model.vision_tower, PatchHead()
    load_module(directory / "tower.pt", "head", head)
    rest = [(m, 0.35) for m in (model.model.language_model, model.lm_head, model.model.multi_modal_projector)]
    optimisers = Optimisers([*rest, (tower, TOWER_RATE), (head, TOWER_RATE)], stage)

    def step_once(step: int, rng: np.random.Generator) -> dict[str, float]:
        batch = draw_pictures(rng, stage.batch, with_crop=step % 2 == 1)
        joined = step >= TOWER_JOINS * stage.steps
        with torch.set_grad_enabled(joined):
            pixels = batch.pixels if batch.crops is None else torch.cat([batch.pixels, batch.crops])
            features = encode_patches(model, pixels)
        embeds = model.model.multi_modal_projector(features)
        packed = pack(batch.questions, bare=False)
        image, crops = embeds[: len(batch.scenes)], None
        if batch.crops is not None:
            crops = embeds[len(batch.scenes) :].unflatten(0, packed.last.shape)
        hidden, _ = run_packed(model, packed, image, crops)
        loss, hits = loss_and_hits(model, hidden, packed)
        scores = {"loss": loss.item(), **accuracy_by_size(batch, hits)}
        if joined:
            auxiliary, tower_scores = tower_loss(head(features), batch.labels)
            loss = loss + AUXILIARY_WEIGHT * auxiliary
            scores |= {f"tower_{name}": value for name, value in tower_scores.items()}
        loss.backward()  # type: ignore[no-untyped-call]
        if crops is None:
            scores["blind"] = blindness(batch.questions, predicted_first(model, hidden, packed))
            if step % stage.log_every == 0:
                few = Packed(packed.ids[:8], packed.labels[:8], packed.last[:8])
                scores |= pointing_by_layer(model, few, image[:8].detach(), asked_patches(batch)[:8])
        return scores

    modules = {"model": model, "head": head}
    run_stage(stage, directory, modules, optimisers, step_once)


def size_class(height: float) -> str:
    """Name of a text height at the model's input."""
    return "small" if height < SMALL else "medium" if height < READABLE else "readable"


def accuracy_by_size(batch: PictureBatch, hits: Tensor) -> dict[str, float]:
    """Share of right answers to questions for a text, by its height at the model's input, and to others."""
    kind = "crop" if batch.crops is not None else "read"
    groups: dict[str, list[bool]] = {}
    for scene, questions, row in zip(batch.scenes, batch.questions, hits.tolist(), strict=True):
        for question, hit in zip(questions, row, strict=True):
            if question.sign >= 0 and question.answer.isdigit():
                height = scene.signs[question.sign].text_height_in(scene.window, INPUT_SIDE)
                groups.setdefault(f"{kind}_{size_class(height)}", []).append(hit)
            else:
                groups.setdefault("other", []).append(hit)
    return {name: float(np.mean(values)) for name, values in groups.items()}


def blindness(questions: list[list[Question]], predicted: Tensor) -> float:
    """Share of pictures whose questions for different signs all get one answer."""
    blind = []
    for asked, answers in zip(questions, predicted.tolist(), strict=True):
        by_sign = {
            q.sign: a for q, a in zip(asked, answers, strict=True) if q.sign >= 0 and q.answer.isdigit()
        }
        texts = {q.sign: q.answer for q in asked if q.sign >= 0 and q.answer.isdigit()}
        if len(set(texts.values())) > 1:
            blind.append(len(set(by_sign.values())) == 1)
    return float(np.mean(blind)) if blind else 0.0


def asked_patches(batch: PictureBatch) -> Tensor:
    """Bool [pictures, questions, patches]: the patches that each asked sign's box touches."""
    marks = np.zeros((len(batch.scenes), len(batch.questions[0]), GRID, GRID), bool)
    for i, (scene, questions) in enumerate(zip(batch.scenes, batch.questions, strict=True)):
        for j, question in enumerate(questions):
            if question.sign >= 0 and question.answer.isdigit():
                x0, y0, x1, y1 = scene.signs[question.sign].box
                cols = slice(int(x0 * GRID / scene.width), int(np.ceil(x1 * GRID / scene.width)))
                rows = slice(int(y0 * GRID / scene.height), int(np.ceil(y1 * GRID / scene.height)))
                marks[i, j, rows, cols] = True
    return torch.from_numpy(marks.reshape(*marks.shape[:2], -1))


def _load(stage: Stage, directory: Path) -> LlavaForConditionalGeneration:
    model = make_model(stage.seed)
    load_module(directory / "tower.pt", "tower", model.model.vision_tower)
    load_module(directory / "language.pt", "decoder", model.model.language_model)
    load_module(directory / "language.pt", "lm_head", model.lm_head)
    return model
