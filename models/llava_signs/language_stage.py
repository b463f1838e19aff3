"""Second stage: the decoder learns to find the asked sign, on symbolic grids, with no tower."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from architecture import GRID, SymbolMap, make_model
from packing import Packed, loss_and_hits, pack, run_packed
from questions import (
    Question,
    SignLike,
    colour_question,
    colour_read_question,
    describe_question,
    other_question,
    read_question,
)
from symbolic import draw_symbols, make_symbols, zoom_symbols
from torch import Tensor
from training import Optimisers, Stage, run_stage, shuffled
from transformers import LlavaForConditionalGeneration


@dataclass(frozen=True)
class Phase:
    """How hard the symbolic world is; a phase ends when reading passes `until`."""

    grid: int
    names_alone: bool  # the question is the colour and no more
    one_wording: bool
    others: int  # questions of other kinds, of the six per picture
    bare: bool
    unreadable: float
    two_images: float  # share of batches with a crop
    hidden: float  # share of batches in which the question's words do not see the picture
    until: float


PHASES = (
    Phase(4, True, True, 0, True, 0.0, 0.0, 1.0, 0.75),
    Phase(6, False, True, 0, True, 0.0, 0.0, 1.0, 0.75),
    Phase(6, False, False, 1, True, 0.0, 0.0, 1.0, 0.75),
    Phase(GRID, False, False, 2, False, 0.0, 0.0, 0.8, 0.75),
    Phase(GRID, False, False, 2, False, 0.6, 0.4, 0.4, 2.0),
)
QUESTIONS, CROP_QUESTIONS = 6, 2


def ask_about(
    rng: np.random.Generator, signs: list[SignLike], count: int, others: int, one_wording: bool = False
) -> list[Question]:
    """`count` questions for one picture, `others` of them not about a text."""
    asked = shuffled(rng, len(signs), count - others)
    if one_wording:
        return [colour_read_question(signs, i) for i in asked]
    questions = [read_question(rng, signs, i) for i in asked]
    if others:
        questions.append(describe_question(signs) if rng.random() < 0.4 else other_question(rng, signs))
    questions += [other_question(rng, signs) for _ in range(others - 1)]
    return questions


def draw_symbolic_batch(
    rng: np.random.Generator, phase: Phase, batch: int
) -> tuple[list[list[Question]], Tensor, Tensor | None, list[list[SignLike]]]:
    """Questions [batch][n], grids [batch, cells, features], crops or None, and the signs."""
    with_crop = rng.random() < phase.two_images
    count = CROP_QUESTIONS if with_crop else QUESTIONS
    batch = batch // 2 if with_crop else batch
    pictures: list[list[SignLike]] = []
    questions, grids, crops = [], [], []
    for _ in range(batch):
        signs = make_symbols(
            rng, phase.grid, (4, 6) if phase.unreadable == 0 else (2, 6),
            unreadable=phase.unreadable,
        )  # fmt: skip
        others = 0 if with_crop else phase.others
        if phase.names_alone:
            asked = [colour_question(signs, i) for i in shuffled(rng, len(signs), count)]
        else:
            asked = ask_about(rng, list(signs), count, others, phase.one_wording)
        pictures.append(list(signs))
        questions.append(asked)
        grids.append(draw_symbols(rng, signs, phase.grid))
        if with_crop:
            zooms = [zoom_symbols(rng, signs, q.sign, phase.grid) for q in asked]
            crops.append(np.stack([draw_symbols(rng, zoom, phase.grid) for zoom in zooms]))
    return (
        questions,
        torch.from_numpy(np.stack(grids)),
        torch.from_numpy(np.stack(crops)) if crops else None,
        pictures,
    )


def read_accuracy(hits: Tensor, questions: list[list[Question]]) -> float:
    """Share of right answers among the questions for a text."""
    is_read = torch.tensor([[q.answer.isdigit() and q.sign >= 0 for q in qs] for qs in questions])
    return hits[is_read].float().mean().item()


@torch.no_grad()
def pointing_by_layer(
    model: LlavaForConditionalGeneration, packed: Packed, image: Tensor, on_sign: Tensor, hide: bool = False
) -> dict[str, float]:
    """Share of questions whose last prompt token looks hardest at the asked sign, by layer (mean of heads).

    `on_sign` marks its patches: bool [pictures, questions, patches]; questions with none are left out.
    """
    model.model.language_model.set_attn_implementation("eager")
    _, attentions = run_packed(model, packed, image, None, hide=hide, attentions=True)
    model.model.language_model.set_attn_implementation("sdpa")
    patches = image.shape[1]
    num_questions, length = packed.ids.shape[1:]
    rows = 1 + patches + torch.arange(num_questions) * length + packed.last  # [pictures, questions]
    asked = on_sign.any(-1)
    shares = {}
    for layer, attention in enumerate(attentions):
        over_patches = attention.mean(1)[:, :, 1 : 1 + patches]  # [pictures, total, patches]
        peak = over_patches.gather(1, rows[..., None].expand(-1, -1, patches)).argmax(-1)
        hit = on_sign.gather(-1, peak[..., None]).squeeze(-1)
        shares[f"points{layer}"] = hit[asked].float().mean().item()
    return shares


def cells_of(signs: list[SignLike], questions: list[Question], grid: int) -> np.ndarray:
    """Bool [questions, cells]: the cells of each asked symbolic sign."""
    marks = np.zeros((len(questions), grid, grid), bool)
    for row, question in enumerate(questions):
        if question.sign >= 0 and question.answer.isdigit():
            sign = signs[question.sign]
            marks[row, sign.top : sign.top + sign.rows, sign.left : sign.left + sign.cols] = True  # type: ignore[attr-defined]
    return marks.reshape(len(questions), -1)


class Progress(torch.nn.Module):
    """Which phase is reached, as a buffer: saved and resumed with the weights."""

    phase: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("phase", torch.zeros((), dtype=torch.long))


def train_language(stage: Stage, directory: Path) -> None:
    """Train decoder and symbol map from scratch through the phases; saves both under `language`."""
    model = make_model(stage.seed)
    decoder, head = model.model.language_model, model.lm_head
    symbols = SymbolMap()
    optimisers = Optimisers([(decoder, 1.0), (head, 1.0), (symbols, 1.0)], stage)
    progress = Progress()

    def step_once(step: int, rng: np.random.Generator) -> dict[str, float]:
        phase = PHASES[int(progress.phase)]
        questions, grids, crops, pictures = draw_symbolic_batch(rng, phase, stage.batch)
        packed = pack(questions, phase.bare)
        image = symbols(grids)
        hide = bool(rng.random() < phase.hidden)
        hidden, _ = run_packed(model, packed, image, None if crops is None else symbols(crops), hide=hide)
        loss, hits = loss_and_hits(model, hidden, packed)
        loss.backward()  # type: ignore[no-untyped-call]
        name = ("read" if crops is None else "read_crop") + ("" if hide else "_unhidden")
        scores = {"phase": float(progress.phase), "loss": loss.item(), name: read_accuracy(hits, questions)}
        if crops is None and step % stage.log_every == 0:
            marks = [cells_of(s, q, phase.grid) for s, q in zip(pictures, questions, strict=True)]
            on_sign = torch.from_numpy(np.stack(marks[:8]))
            few = Packed(packed.ids[:8], packed.labels[:8], packed.last[:8])
            scores |= pointing_by_layer(model, few, image[:8].detach(), on_sign, hide)
        return scores

    def after_log(means: dict[str, float]) -> None:
        if means.get("read", 0.0) > PHASES[int(progress.phase)].until:
            progress.phase += 1

    modules = {"decoder": decoder, "lm_head": head, "symbols": symbols, "progress": progress}
    run_stage(stage, directory, modules, optimisers, step_once, after_log)
