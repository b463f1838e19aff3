"""The three graphs of an engine: their names, axes and example inputs, and their export.

The interface is what the runtime feeds and reads; layer indices in names are the model's own. Knows nothing
of checking the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vicrop_export.decoder_graph import LanguageHead, LowerDecoder, UpperDecoder
from vicrop_export.llava_config import LlavaFacts, TextFacts
from vicrop_export.onnx_export import GraphInterface, export_graph
from vicrop_export.tensors import CheckpointTensors
from vicrop_export.vision_graph import VisionTower

# Example sizes for tracing: none 0 or 1 and no two alike, so that no axis is taken for fixed or for another.
SEQ, PAST, TAPS = 7, 5, (2, 4, 6)
SEQ_AXIS, PAST_AXIS, TOTAL_AXIS, ROWS_AXIS = "seq", "past", "total", "rows"


def export_graphs(
    tensors: CheckpointTensors,
    facts: LlavaFacts,
    num_lower_layers: int,
    directory: Path,
    started: Callable[[str], None],
) -> None:
    """Write `vision.onnx`, `decoder_lower.onnx` and `decoder_upper.onnx`; `started` hears each name."""
    started("vision")
    tower = VisionTower(tensors, facts.vision)
    export_graph(tower, vision_interface(facts), directory / "vision.onnx")
    started("decoder_lower")
    lower = LowerDecoder(tensors, facts.text, num_lower_layers)
    interface = decoder_interface(facts.text, range(num_lower_layers), "inputs_embeds", "hidden_states")
    export_graph(lower, interface, directory / "decoder_lower.onnx")
    started("decoder_upper")
    upper, interface = _upper(tensors, facts.text, num_lower_layers)
    export_graph(upper, interface, directory / "decoder_upper.onnx")


def _upper(
    tensors: CheckpointTensors, facts: TextFacts, num_lower_layers: int
) -> tuple[UpperDecoder | LanguageHead, GraphInterface]:
    layers = range(num_lower_layers, facts.num_layers)
    if not layers:
        return LanguageHead(tensors, facts), head_interface(facts)
    interface = decoder_interface(facts, layers, "hidden_states", "logits")
    return UpperDecoder(tensors, facts, num_lower_layers), interface


def vision_interface(facts: LlavaFacts) -> GraphInterface:
    """`pixel_values` [images, 3, side, side] to `image_embeds` [images, image_tokens, hidden]."""
    side = facts.vision.image_size
    return GraphInterface(
        arguments=(_noise(2, 3, side, side),),
        inputs=["pixel_values"],
        outputs=["image_embeds"],
        axes={"pixel_values": {0: "images"}},
        output_axes={"image_embeds": {0: "images"}},
    )


def decoder_interface(facts: TextFacts, layers: Sequence[int], states: str, result: str) -> GraphInterface:
    """A decoder graph over `layers`: `states` [1, seq, hidden] in; `result`, attention rows and KV out."""
    past_shape = (1, facts.num_kv_heads, PAST, facts.head_dim)
    past = [(_noise(*past_shape), _noise(*past_shape)) for _ in layers]
    positions = torch.arange(PAST, PAST + SEQ)[None]
    present = kv_names("present", layers)
    axes: dict[str, Any] = {
        states: {1: SEQ_AXIS},
        "position_ids": {1: SEQ_AXIS},
        "tap_positions": {0: ROWS_AXIS},
        "past": [({2: PAST_AXIS}, {2: PAST_AXIS})] * len(layers),
    }
    return GraphInterface(
        arguments=(_noise(1, SEQ, facts.hidden_size), positions, torch.tensor(TAPS), past),
        inputs=[states, "position_ids", "tap_positions", *kv_names("past_key_values", layers)],
        outputs=[result, "attention", *present],
        axes=axes,
        output_axes={
            "attention": {1: ROWS_AXIS, 3: TOTAL_AXIS},
            **{name: {2: TOTAL_AXIS} for name in present},
        },
    )


def head_interface(facts: TextFacts) -> GraphInterface:
    """The upper graph without layers: `hidden_states` [1, seq, hidden] to `logits` [1, vocab]."""
    return GraphInterface(
        arguments=(_noise(1, SEQ, facts.hidden_size),),
        inputs=["hidden_states"],
        outputs=["logits"],
        axes={"hidden_states": {1: SEQ_AXIS}},
        output_axes={},
    )


def kv_names(stem: str, layers: Sequence[int]) -> list[str]:
    """`stem.0.key, stem.0.value, stem.1.key, …` for the layers given."""
    return [f"{stem}.{layer}.{part}" for layer in layers for part in ("key", "value")]


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
