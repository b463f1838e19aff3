"""The graphs of an engine: their names, modules, axes and example inputs.

The interface is what the runtime feeds and reads; layer indices in names are the model's own. Knows nothing
of ONNX files or of checking the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vicrop_engine.engine_dir.manifest import GRADIENT, INSTRUCTED, INSTRUCTED_GRADIENT
from vicrop_engine.engine_dir.records import VisionGeometry
from vicrop_engine.errors import CheckpointError
from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.modules.decoder import LanguageHead, LowerDecoder, UpperDecoder, causal_bias
from vicrop_export.modules.token_gradient import TokenGradient
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.ops.attention import HEAD_DIM_MULTIPLE

# Example sizes for tracing: none 0 or 1 and no two alike, so that no axis is taken for fixed or for another.
SEQ, PAST, CAPACITY, BATCH, TAPS = 7, 5, 19, 3, (2, 4, 6)
TAPPED = "tapped_states"
SEQ_AXIS, PAST_AXIS, TOTAL_AXIS, ROWS_AXIS, CAPACITY_AXIS = "seq", "past", "total", "rows", "capacity"
LOSSES_AXIS, ANSWERS_AXIS, BATCH_AXIS, QUERIES_AXIS = "losses", "answers", "batch", "queries"
INSTRUCTION_AXIS, SUFFIX_AXIS = "instruction", "suffix"
IN_PLACE_TARGETS = ("cpu", "cuda")


@dataclass(frozen=True)
class KVKind:
    """How keys and values come and go: in place, of a batch of sequences, of which type."""

    in_place: bool
    batched: bool
    cache: torch.dtype = torch.float32


class Stage(Protocol):
    """A second stage of the vision part."""

    def module(self, tensors: CheckpointTensors) -> nn.Module:
        """Its graph as a module."""

    def interface(self) -> GraphInterface:
        """The interface of its graph."""

    def gradient_module(self, tensors: CheckpointTensors) -> nn.Module:
        """The graph that goes back from a prompt's answer to what the stage looked at."""

    def gradient_interface(self) -> GraphInterface:
        """The interface of that graph."""


class Parts(Protocol):
    """What the graphs of a model are made of."""

    @property
    def text(self) -> TextFacts:
        """The language model."""

    @property
    def second_stage(self) -> Stage | None:
        """What follows the vision tower, if anything does."""

    def vision(self, tensors: CheckpointTensors, half: bool) -> nn.Module:
        """The vision tower; with `half` its attention is in float16."""

    def vision_interface(self, in_place: bool) -> GraphInterface:
        """The interface of its graph; if not for a target that works `in_place`, of standard operators."""


def graph_modules(
    tensors: CheckpointTensors,
    model: Parts,
    num_lower_layers: int,
    *,
    in_place: bool = True,
    half: bool = False,
    first_heatmap_layer: int | None = None,
    batched: bool = True,
) -> Iterator[tuple[str, nn.Module, GraphInterface]]:
    """Name, module and interface of each graph, in the order they are written, each made when wanted.

    These are `vision`, perhaps `instructed`, `decoder_lower`, `decoder_upper` and `grad_att`; the last has no
    weights of its own and begins at `first_heatmap_layer`, by default the last of the lower ones. Beside
    `instructed` there is `grad_instructed`, which has none either. Those that do not work `in_place` are of
    standard operators only: one picture at a time, no gradients, and with `half` attention and its KV cache
    in float16. Those that do also take the next tokens of several sequences, if `batched`.
    """
    kv = KVKind(in_place, in_place and batched, torch.float16 if half else torch.float32)
    facts = model.text
    yield "vision", model.vision(tensors, half), model.vision_interface(in_place)
    stage = model.second_stage
    if stage is not None:
        yield INSTRUCTED, stage.module(tensors), stage.interface()
    first = num_lower_layers - 1 if first_heatmap_layer is None else first_heatmap_layer
    lower = LowerDecoder(tensors, facts, num_lower_layers, first, in_place=in_place)
    yield "decoder_lower", lower, lower_interface(facts, num_lower_layers, kv)
    yield "decoder_upper", *_upper(tensors, facts, num_lower_layers, kv)
    if in_place:
        yield GRADIENT, TokenGradient(tensors, facts, first), gradient_interface(facts, first)
        if stage is not None:
            yield INSTRUCTED_GRADIENT, stage.gradient_module(tensors), stage.gradient_interface()


def writes_in_place(target: str, facts: TextFacts) -> bool:
    """Whether this target's graphs write KV buffers in place. Raises CheckpointError for sizes it lacks."""
    if target not in IN_PLACE_TARGETS:
        return False
    if facts.head_dim % HEAD_DIM_MULTIPLE:
        raise CheckpointError(
            f"the language model's head_dim is {facts.head_dim}, wanted a multiple of {HEAD_DIM_MULTIPLE}: "
            f"target {target!r} has attention for no other; choose another checkpoint"
        )
    return True


def _upper(
    tensors: CheckpointTensors, facts: TextFacts, num_lower_layers: int, kv: KVKind
) -> tuple[UpperDecoder | LanguageHead, GraphInterface]:
    if num_lower_layers == facts.num_layers:
        return LanguageHead(tensors, facts), head_interface(facts, kv.in_place)
    upper = UpperDecoder(tensors, facts, num_lower_layers, in_place=kv.in_place)
    return upper, upper_interface(facts, num_lower_layers, kv)


def pixel_interface(facts: TextFacts, geometry: VisionGeometry) -> GraphInterface:
    """A picture and prompts about it to `gradients` [losses, 3, side, side] of whole patches."""
    hidden, side = facts.hidden_size, geometry.image_size
    total = PAST + geometry.image_tokens + SEQ
    axes = {
        "pixel_values": {},
        "embeds_before": {1: "before"},
        "embeds_after": {1: "after"},
        "position_ids": {1: TOTAL_AXIS},
        "attention_bias": {2: TOTAL_AXIS, 3: TOTAL_AXIS},
        "ends": {0: LOSSES_AXIS},
    }
    embeds = _noise(1, PAST, hidden), _noise(1, SEQ, hidden)
    positions, ends = torch.arange(total)[None], torch.tensor([total - 4, total - 2, total - 1])
    return GraphInterface(
        arguments=(_noise(1, 3, side, side), *embeds, positions, causal_bias(total, 0), ends),
        inputs=list(axes),
        outputs=["gradients"],
        axes=axes,
        output_axes={"gradients": {0: LOSSES_AXIS}},
    )


def square_interface(
    geometry: VisionGeometry, *, one: bool = False, output: str = "image_embeds"
) -> GraphInterface:
    """Square inputs: `pixel_values` [images, 3, side, side] to `image_embeds` [images, image_tokens, hidden].

    With `one` there is always one image. A tower before a second stage has another `output`.
    """
    side, axis = geometry.image_size, {} if one else {0: "images"}
    return GraphInterface(
        arguments=(_noise(1 if one else 2, 3, side, side),),
        inputs=["pixel_values"],
        outputs=[output],
        axes={"pixel_values": axis},
        output_axes={output: axis},
    )


def lower_interface(facts: TextFacts, num_layers: int, kv: KVKind) -> GraphInterface:
    """The first layers: `inputs_embeds` [1 + added, seq, hidden] in; `hidden_states`, rows and KV out."""
    return _decoder_interface(facts, range(num_layers), kv, "inputs_embeds", "hidden_states")


def upper_interface(facts: TextFacts, first: int, kv: KVKind) -> GraphInterface:
    """Layers from `first` on: `hidden_states` [1, seq, hidden] in; `logits`, attention rows and KV out.

    In place, logits are of as many tokens as asked for; else of one.
    """
    layers = range(first, facts.num_layers)
    return _decoder_interface(facts, layers, kv, "hidden_states", "logits", answers=True)


def gradient_interface(facts: TextFacts, first: int) -> GraphInterface:
    """Layers from `first` on for one token: `tapped_states` [1, 1, hidden] to `attention` and `gradient`.

    `own_row` [1] is the row of the token's keys and values in the buffers, which are used whole: what the
    bias hides has to be finite.
    """
    layers = range(first, facts.num_layers)
    shape = (1, facts.num_kv_heads, CAPACITY, facts.head_dim)
    past = [(_noise(*shape), _noise(*shape)) for _ in layers]
    last, bias, capacity = torch.tensor([PAST - 1]), torch.zeros(1, 1, 1, CAPACITY), {2: CAPACITY_AXIS}
    axes: dict[str, Any] = {
        TAPPED: {},
        "position_ids": {},
        "attention_bias": {3: CAPACITY_AXIS},
        "own_row": {},
        "past": [(capacity, capacity)] * len(layers),
    }
    return GraphInterface(
        arguments=(_noise(1, 1, facts.hidden_size), _by_axis(last, facts), bias, last, past),
        inputs=[*(name for name in axes if name != "past"), *kv_names("past_key_values", layers)],
        outputs=["attention", "gradient"],
        axes=axes,
        output_axes={name: {2: CAPACITY_AXIS} for name in ("attention", "gradient")},
    )


def _token_axes(kv: KVKind) -> dict[str, dict[int, Any]]:
    """The free axes of what is fed of tokens beside their states."""
    bias = {2: QUERIES_AXIS if kv.batched else SEQ_AXIS, 3: TOTAL_AXIS}
    bias |= {0: BATCH_AXIS} if kv.batched else {}
    return {"position_ids": {1: SEQ_AXIS}, "tap_positions": {0: ROWS_AXIS}, "attention_bias": bias}


def _decoder_interface(
    facts: TextFacts,
    layers: Sequence[int],
    kv: KVKind,
    states: str,
    result: str,
    *,
    answers: bool = False,
) -> GraphInterface:
    """Buffers [batch, kv_heads, capacity, dim], or by token [1, past, kv_heads, dim] and [1, seq, …] out."""
    in_place, batch = kv.in_place, BATCH if kv.batched else 1
    rows, axis = (CAPACITY, {2: CAPACITY_AXIS}) if in_place else (PAST, {1: PAST_AXIS})
    axis |= {0: BATCH_AXIS} if kv.batched else {}
    kv_heads, dim = facts.num_kv_heads, facts.head_dim
    shape = (batch, kv_heads, rows, dim) if in_place else (1, rows, kv_heads, dim)
    past = [(_noise(*shape).to(kv.cache), _noise(*shape).to(kv.cache)) for _ in layers]
    positions = _by_axis(torch.arange(PAST, PAST + SEQ), facts)
    bias = causal_bias(SEQ, PAST).repeat(batch, 1, 1, 1)
    tapped, many = [] if answers else [TAPPED], in_place and answers
    answer = {"answer_position": torch.tensor([SEQ - 3, SEQ - 1] if many else [SEQ - 1])} if answers else {}
    present = kv_names("present", layers)
    axes: dict[str, Any] = {
        states: {1: SEQ_AXIS},
        **_token_axes(kv),
        **{name: {0: ANSWERS_AXIS} if many else {} for name in answer},
        "past": [(axis, axis)] * len(layers),
    }
    slices = 1 if answers else 1 + facts.added_embeds
    given = (_noise(slices, SEQ, facts.hidden_size), positions, torch.tensor(TAPS), bias)
    return GraphInterface(
        arguments=(*given, *answer.values(), past),
        inputs=[*(name for name in axes if name != "past"), *kv_names("past_key_values", layers)],
        outputs=[result, "attention", *tapped, *present],
        axes=axes,
        output_axes={
            **{name: {1: ROWS_AXIS} for name in tapped},
            **({result: {0: ANSWERS_AXIS}} if many else {}),
            "attention": {1: ROWS_AXIS, 3: TOTAL_AXIS},
            **{name: axis if in_place else {1: SEQ_AXIS} for name in present},
        },
    )


def head_interface(facts: TextFacts, in_place: bool = True) -> GraphInterface:
    """The upper graph without layers: `hidden_states` [1, seq, hidden] to `logits` [answers, vocab]."""
    answers = {0: ANSWERS_AXIS} if in_place else {}
    positions = torch.tensor([SEQ - 3, SEQ - 1] if in_place else [SEQ - 1])
    return GraphInterface(
        arguments=(_noise(1, SEQ, facts.hidden_size), positions),
        inputs=["hidden_states", "answer_position"],
        outputs=["logits"],
        axes={"hidden_states": {1: SEQ_AXIS}, "answer_position": answers},
        output_axes={"logits": answers},
    )


def kv_names(stem: str, layers: Sequence[int]) -> list[str]:
    """`stem.0.key, stem.0.value, stem.1.key, …` for the layers given."""
    return [f"{stem}.{layer}.{part}" for layer in layers for part in ("key", "value")]


def _by_axis(positions: Tensor, facts: TextFacts) -> Tensor:
    """[axes, tokens]: the same on every axis."""
    return positions[None].expand(facts.rope.num_axes, -1)


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
