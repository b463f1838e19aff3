"""Graphs of Qwen checkpoints against transformers, pictures of any shape, and controls that fail."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.export.families.test_smolvlm import plan_of
from tests.qwen_checkpoints import write_qwen_checkpoint
from tests.qwen_documents import QwenSpec
from vicrop_engine.arrays import Ints
from vicrop_export.build import write_graphs
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checks.parity import measure_parity, relative_l2
from vicrop_export.checks.reference import Reference, run_reference
from vicrop_export.families.qwen.interface import noise_picture
from vicrop_export.families.qwen.names import canonical_name
from vicrop_export.modules.decoder import LowerDecoder, UpperDecoder, causal_bias
from vicrop_export.onnx_files.exported import export_described
from vicrop_export.plan import Plan
from vicrop_export.probe import Picture, Probe
from vicrop_export.quiet import quiet
from vicrop_export.targets import modules_of

SMALL = QwenSpec(layers=4, vision_layers=2, full_layers=(1,))
KINDS = {
    "2.5, grouped heads": QwenSpec(),
    "2.5, tied, plain names, shards": QwenSpec(
        seed=1, heads=4, kv_heads=4, layers=4, tied=True, naming="plain", shards=3, window=84
    ),
    "2.5, one KV head, all windows": QwenSpec(
        seed=2, hidden=96, heads=6, kv_heads=1, layers=3, vision_heads=4, vision_layers=3, full_layers=()
    ),
    "2, grouped heads": QwenSpec("qwen2_vl", seed=3, layers=4, vision_layers=3),
    "2, tied, plain names, shards": QwenSpec(
        "qwen2_vl", seed=4, heads=4, kv_heads=4, tied=True, naming="plain", shards=2, vision_intermediate=96
    ),
    "3, wide heads": QwenSpec("qwen3_vl", seed=6, head_dim=32),
    "3, tied, plain names, shards": QwenSpec(
        "qwen3_vl", seed=7, heads=4, kv_heads=4, layers=5, tied=True, naming="plain", shards=3, table=5
    ),
    "3, one KV head, two taps": QwenSpec(
        "qwen3_vl", seed=8, hidden=96, heads=6, kv_heads=1, layers=3, vision_layers=5, tapped_layers=(1, 4)
    ),
}
SHAPES = {"square": (6, 6), "wide": (3, 11), "tall": (9, 2), "one cell": (1, 1), "a strip": (1, 13)}
EMBEDS, ROWS, LOGITS, GRADIENT = 1e-5, 2e-5, 1e-5, 2e-5  # relative L2 from transformers


def picture_of(plan: Plan, rows: int, cols: int) -> Picture:
    settings = plan.images.settings
    return noise_picture(settings["patch"], settings["window"], settings["table"], rows, cols)


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_agree_with_transformers_on_pictures_of_any_shape(kind: str, tmp_path: Path) -> None:
    """Exported, and run in ONNX Runtime: image embeddings, rows of every layer, logits, grad-att."""
    plan = plan_of(write_qwen_checkpoint(tmp_path / "checkpoint", KINDS[kind]))
    tensors = DescribedTensors(plan.checkpoint.directory, plan.family.canonical_name)
    with quiet():
        graphs = [export_described(*graph) for graph in modules_of(plan, tensors)]
    write_graphs(tmp_path, plan, graphs, tensors, lambda *_: None)
    for rows, cols in SHAPES.values():
        probe = plan.probe(picture_of(plan, rows, cols))
        run = partial(run_reference, first_position=len(probe.prefix), gradient_layer=min(plan.layers))
        with quiet():
            reference = run(tensors, plan.family, probe)
        parity = measure_parity(tmp_path, plan.decoder, probe, reference)
        assert parity.image_embeds <= EMBEDS
        assert parity.attention <= ROWS
        assert parity.logits <= LOGITS
        assert parity.gradient is not None
        assert parity.gradient <= GRADIENT


CONTROLS = {
    "positions on one axis": ("2.5, grouped heads", 0.1),
    "positions on one axis, interleaved": ("3, wide heads", 0.1),
    "the other's axes": ("2.5, grouped heads", 0.05),
    "the other's axes, interleaved": ("3, wide heads", 0.05),
    "nothing added": ("3, wide heads", 0.1),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_what_is_wrong_on_purpose_is_far_from_transformers(control: str, tmp_path: Path) -> None:
    kind, least = CONTROLS[control]
    plan = plan_of(write_qwen_checkpoint(tmp_path, KINDS[kind]))
    tensors, probe = CheckpointTensors(tmp_path, canonical_name), plan.probe()
    with quiet():
        reference = run_reference(tensors, plan.family, probe)
    text, positions, added = plan.family.text, probe.positions, True
    assert worst_row(plan, tensors, probe, reference) <= ROWS
    if control.startswith("positions"):
        positions = np.tile(np.arange(positions.shape[1]), (3, 1))
    elif control.startswith("the other"):
        rope = text.rope
        text = replace(text, rope=replace(rope, interleaved=not rope.interleaved))
    else:
        added = False
    far = worst_row(plan, tensors, probe, reference, text=text, positions=positions, added=added)
    assert far > least


def worst_row(
    plan: Plan,
    tensors: CheckpointTensors,
    probe: Probe,
    reference: Reference,
    *,
    text: Any = None,
    positions: Ints | None = None,
    added: bool = True,
) -> float:
    """The worst layer's attention rows of the decoder's modules, on transformers' own image embeddings."""
    text, length = text or plan.family.text, len(probe.ids)
    embeds = torch.zeros(1 + text.added_embeds, length, text.hidden_size)
    embeds[0] = tensors.get("language_model.embed_tokens.weight")[probe.ids]
    embeds[:, torch.from_numpy(probe.is_image)] = torch.from_numpy(reference.image_embeds)
    if not added:
        embeds[1:] = 0
    cut, none = plan.decoder.num_lower_layers, torch.zeros(1, 0, text.num_kv_heads, text.head_dim)
    places = torch.from_numpy(probe.positions if positions is None else positions)
    shared = places, torch.arange(length), causal_bias(length, 0)
    past = [(none, none)] * text.num_layers
    hidden, rows, *_ = LowerDecoder(tensors, text, cut, in_place=False)(embeds, *shared, past[:cut])
    upper = UpperDecoder(tensors, text, cut, in_place=False)
    _, others, *_ = upper(hidden, *shared, torch.tensor([length - 1]), past[cut:])
    pairs = zip(torch.cat((rows, others)).numpy(), reference.attention, strict=True)
    return max(relative_l2(one, other) for one, other in pairs)
