"""Several questions behind one image prefix, as one sequence with a block mask.

Layout: BOS, first picture's patches, then per question [crop's patches] and the question with its answer.
Positions restart after the first picture, so each question sees exactly what it would see alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from questions import BARE_PROMPT, PROMPT, Question
from torch import Tensor
from transformers import LlavaForConditionalGeneration
from vocabulary import BOS, EOS, PAD, build_tokenizer

IGNORED = -100


@dataclass(frozen=True)
class Packed:
    """Token ids and labels of the questions [pictures, questions, length]; `last` is each prompt's end."""

    ids: Tensor
    labels: Tensor
    last: Tensor  # [pictures, questions]


@cache
def _tokenizer():  # type: ignore[no-untyped-def]
    return build_tokenizer()


@cache
def _prompt_ids(question: str, bare: bool) -> tuple[int, ...]:
    text = (BARE_PROMPT if bare else PROMPT).format(question=question)
    return tuple(_tokenizer().encode(text, add_special_tokens=False).ids)


@cache
def _answer_ids(answer: str) -> tuple[int, ...]:
    ids = _tokenizer().encode(answer, add_special_tokens=False).ids
    return (*ids, _tokenizer().token_to_id(EOS))


def pack(questions: Sequence[Sequence[Question]], bare: bool) -> Packed:
    """Token ids of every picture's questions, padded on the right to one length."""
    pad = _tokenizer().token_to_id(PAD)
    rows = [[(_prompt_ids(q.text, bare), _answer_ids(q.answer)) for q in qs] for qs in questions]
    length = max(len(p) + len(a) for row in rows for p, a in row) - 1  # the EOS is predicted, never read
    ids = torch.full((len(rows), len(rows[0]), length), pad)
    labels = torch.full_like(ids, IGNORED)
    last = torch.zeros(ids.shape[:2], dtype=torch.long)
    for i, row in enumerate(rows):
        for j, (prompt, answer) in enumerate(row):
            ids[i, j, : len(prompt) + len(answer) - 1] = torch.tensor((*prompt, *answer[:-1]))
            labels[i, j, len(prompt) - 1 : len(prompt) + len(answer) - 1] = torch.tensor(answer)
            last[i, j] = len(prompt) - 1
    return Packed(ids, labels, last)


@cache
def _allowed_and_positions(prefix: int, questions: int, block: int) -> tuple[Tensor, Tensor]:
    """Who may look at whom [total, total], and the positions [1, total]."""
    total = prefix + questions * block
    owner = torch.cat([torch.full((prefix,), -1), torch.arange(questions).repeat_interleave(block)])
    causal = torch.ones(total, total).tril().bool()
    allowed = causal & ((owner[:, None] == owner[None]) | (owner[None] == -1))
    positions = torch.cat([torch.arange(prefix), (prefix + torch.arange(block)).repeat(questions)])
    return allowed, positions[None]


def _hide_pictures(allowed: Tensor, packed: Packed, prefix: int, crop: int) -> Tensor:
    """Keep every picture from the question's own tokens, all but the last: [pictures, 1, total, total]."""
    questions, length = packed.ids.shape[1:]
    in_block = torch.arange(crop + length) - crop
    is_question = (in_block >= 0) & (in_block < packed.last[..., None])  # [pictures, questions, block]
    is_question = torch.cat(
        [torch.zeros(len(packed.ids), prefix, dtype=torch.bool), is_question.flatten(1)], 1
    )
    is_picture = torch.cat([torch.arange(prefix) > 0, (in_block < 0).repeat(questions)])
    return (allowed & ~(is_question[:, :, None] & is_picture))[:, None]


def run_packed(
    model: LlavaForConditionalGeneration,
    packed: Packed,
    image: Tensor,
    crops: Tensor | None,
    *,
    hide: bool = False,
    attentions: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Last hidden states of the questions' tokens [pictures, questions, length, hidden]; attention if asked.

    Args:
        image: embeds of the first pictures, [pictures, patches, hidden].
        crops: embeds of one crop per question, [pictures, questions, patches, hidden], or None.
        hide: keep the pictures from the question's words, so that the last token has to look for itself.
    """
    decoder = model.model.language_model
    num_pictures, num_questions, length = packed.ids.shape
    text = decoder.embed_tokens(packed.ids)
    blocks = text if crops is None else torch.cat([crops, text], 2)
    bos = decoder.embed_tokens(torch.full((num_pictures, 1), _tokenizer().token_to_id(BOS)))
    embeds = torch.cat([bos, image, blocks.flatten(1, 2)], 1)
    prefix = 1 + image.shape[1]
    allowed, positions = _allowed_and_positions(prefix, num_questions, blocks.shape[2])
    allowed = (
        _hide_pictures(allowed, packed, prefix, blocks.shape[2] - length) if hide else allowed[None, None]
    )
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    output = decoder(
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=positions,
        use_cache=False,
        output_attentions=attentions,
    )
    hidden: Tensor = output.last_hidden_state[:, 1 + image.shape[1] :].unflatten(
        1, (num_questions, blocks.shape[2])
    )
    return hidden[:, :, -length:], output.attentions if attentions else ()


def loss_and_hits(
    model: LlavaForConditionalGeneration, hidden: Tensor, packed: Packed
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy over answer tokens, and which questions are answered right throughout."""
    is_answer = packed.labels != IGNORED
    logits, wanted = model.lm_head(hidden[is_answer]), packed.labels[is_answer]
    wrong = torch.zeros_like(packed.labels)
    wrong[is_answer] = (logits.argmax(-1) != wanted).long()
    return torch.nn.functional.cross_entropy(logits, wanted), wrong.sum(-1) == 0


@torch.no_grad()
def predicted_first(model: LlavaForConditionalGeneration, hidden: Tensor, packed: Packed) -> Tensor:
    """The first answer token of every question: [pictures, questions]."""
    index = packed.last[..., None, None].expand(-1, -1, 1, hidden.shape[-1])
    first: Tensor = model.lm_head(hidden.gather(2, index).squeeze(2)).argmax(-1)
    return first
