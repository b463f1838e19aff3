"""Packed questions: each sees what it would see alone; a hidden picture is seen by the last token only."""

from __future__ import annotations

import pytest
import torch
from architecture import make_model
from packing import loss_and_hits, pack, run_packed
from questions import Question
from transformers import LlavaForConditionalGeneration

QUESTIONS = [
    [Question("What is written on the red sign?", "7", 0), Question("How many signs are there?", "3")],
    [Question("Is there a blue sign?", "no"), Question("What does the green circle say?", "1", 1)],
]
PATCHES = 9


@pytest.fixture(scope="module")
def model() -> LlavaForConditionalGeneration:
    return make_model(seed=5).eval()


def embeds(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("with_crops", [False, True])
@torch.no_grad()
def test_packed_equals_one_by_one(model: LlavaForConditionalGeneration, with_crops: bool) -> None:
    image = embeds(2, PATCHES, 128)
    crops = embeds(2, 2, PATCHES, 128) if with_crops else None
    packed = pack(QUESTIONS, bare=False)
    together, _ = run_packed(model, packed, image, crops)
    decoder = model.model.language_model
    bos = decoder.embed_tokens(torch.tensor([[1]]))
    for i, questions in enumerate(QUESTIONS):
        for j in range(len(questions)):
            text = decoder.embed_tokens(packed.ids[i, j])[None]
            parts = [bos, image[i : i + 1], *([] if crops is None else [crops[i, j][None]]), text]
            alone = decoder(inputs_embeds=torch.cat(parts, 1)).last_hidden_state[0, -text.shape[1] :]
            torch.testing.assert_close(together[i, j], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_hidden_pictures_reach_only_the_last_token(model: LlavaForConditionalGeneration) -> None:
    packed = pack(QUESTIONS, bare=False)
    first, second = (
        run_packed(model, packed, scale * embeds(2, PATCHES, 128), None, hide=True)[0]
        for scale in (1.0, -1.0)
    )
    for i in range(2):
        for j in range(2):
            last = int(packed.last[i, j])
            torch.testing.assert_close(first[i, j, :last], second[i, j, :last])
            assert (first[i, j, last] - second[i, j, last]).abs().max() > 1e-3


@torch.no_grad()
def test_hits_are_whole_answers(model: LlavaForConditionalGeneration) -> None:
    packed = pack([[Question("Write a general description of the image.", "red blue signs")]], bare=False)
    hidden, _ = run_packed(model, packed, embeds(1, PATCHES, 128), None)
    _, hits = loss_and_hits(model, hidden, packed)
    assert not hits.item()
    is_answer = packed.labels >= 0
    said = packed.labels.clone()
    said[is_answer] = model.lm_head(hidden[is_answer]).argmax(-1)
    right = type(packed)(packed.ids, said, packed.last)
    loss, hits = loss_and_hits(model, hidden, right)
    assert hits.item()
    assert loss.item() > 0
