"""The torch modules against transformers, over the kinds of checkpoint there are; no ONNX, so it is quick."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.checkpoints import CheckpointSpec, write_checkpoint
from vicrop_export.checkpoint.locate import locate
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checks.parity import relative_l2
from vicrop_export.checks.reference import Reference, run_reference
from vicrop_export.families.llava.facts import read_facts
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.families.llava.vision import VisionTower
from vicrop_export.modules.decoder import LanguageHead, LowerDecoder, UpperDecoder, causal_bias
from vicrop_export.plan import Plan, make_plan
from vicrop_export.quiet import quiet

SMALL = CheckpointSpec(hidden=32, layers=3, vision_hidden=16, vision_layers=3, image_size=56)
# Float32 alone moves these figures by up to 4e-6; a wrong layer, mask or head order moves them above 1e-2.
TOLERANCE = 2e-5
KINDS = {
    "published": replace(SMALL, seed=1),
    "newer names, three shards": replace(SMALL, seed=2, naming="model", shards=3),
    "grouped-query": replace(SMALL, seed=3, kv_heads=2),
    "one KV head, tied, biases": replace(SMALL, seed=4, kv_heads=1, tie_word_embeddings=True, biases=True),
    "last feature layer": replace(SMALL, seed=5, feature_layer=-1),
    "first hidden state, class token kept": replace(SMALL, seed=6, feature_layer=0, strategy="full"),
    "three feature layers": replace(SMALL, seed=7, feature_layer=(-3, -2, 3)),
    "layers kept with class tokens": replace(SMALL, seed=8, feature_layer=(-1, 1), strategy="full"),
    "other rope base, half precision": replace(SMALL, seed=9, rope_theta=500000.0, dtype=torch.float16),
    "image token under its other key": replace(SMALL, seed=10, image_token_key="image_token_id"),
    "side not a whole number of patches": replace(SMALL, seed=11, image_size=60),
}


def plan_of(directory: Path, layers: tuple[int, ...]) -> Plan:
    with quiet():
        return make_plan(locate(directory), name="x", layers=layers, precision="fp32", target="cpu")


def reference_of(plan: Plan) -> Reference:
    with quiet():
        return run_reference(
            CheckpointTensors(plan.checkpoint.directory, plan.family.canonical_name),
            plan.family,
            plan.probe(),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_modules_agree_with_transformers(kind: str, tmp_path: Path) -> None:
    plan = plan_of(write_checkpoint(tmp_path, KINDS[kind]), layers=(1,))
    reference, probe, facts = reference_of(plan), plan.probe(), plan.family.text
    tensors = CheckpointTensors(tmp_path, canonical_name)
    pixels = torch.from_numpy(probe.picture.arrays["pixel_values"])
    embeds = VisionTower(tensors, read_facts(tmp_path).vision)(pixels)[0]
    assert embeds.shape == (plan.vision.image_tokens, facts.hidden_size)
    assert relative_l2(embeds[None].numpy(), reference.image_embeds) < TOLERANCE

    inputs = tensors.get("language_model.embed_tokens.weight")[probe.ids]
    inputs[torch.tensor(probe.ids) == probe.image_token] = embeds
    length = len(probe.ids)
    taps = torch.tensor([0, 5, length - 1])
    none = [(torch.zeros(1, 0, facts.num_kv_heads, facts.head_dim),) * 2] * facts.num_layers
    positions = torch.arange(length)[None]
    bias, last = causal_bias(length, 0), torch.tensor([length - 1])
    lower = LowerDecoder(tensors, facts, 2, in_place=False)
    upper = UpperDecoder(tensors, facts, 2, in_place=False)
    hidden, lower_rows, *_ = lower(inputs[None], positions, taps, bias, none[:2])
    logits, upper_rows, *_ = upper(hidden, positions, taps, bias, last, none[2:])
    rows = torch.cat((lower_rows, upper_rows)).numpy()
    assert rows.shape == (facts.num_layers, 3, facts.num_heads, length)
    assert relative_l2(rows, reference.attention[:, taps.numpy()]) < TOLERANCE
    assert relative_l2(logits.numpy()[0], reference.logits[-1]) < TOLERANCE


def test_lower_layers_alone_hold_all_that_the_head_needs(tmp_path: Path) -> None:
    plan = plan_of(write_checkpoint(tmp_path, SMALL), layers=(2,))
    assert plan.decoder.num_lower_layers == plan.decoder.num_layers
    tensors, facts = CheckpointTensors(tmp_path, canonical_name), plan.family.text
    inputs = torch.randn(1, 5, facts.hidden_size, generator=torch.Generator().manual_seed(0))
    none = [(torch.zeros(1, 0, facts.num_kv_heads, facts.head_dim),) * 2] * facts.num_layers
    positions, last, bias = torch.arange(5)[None], torch.tensor([4]), causal_bias(5, 0)
    whole = LowerDecoder(tensors, facts, 3, in_place=False)(inputs, positions, last, bias, none)
    split = LowerDecoder(tensors, facts, 2, in_place=False)(inputs, positions, last, bias, none[:2])
    upper = UpperDecoder(tensors, facts, 2, in_place=False)
    logits = upper(split[0], positions, last, bias, last, none[2:])[0]
    head = LanguageHead(tensors, facts)(whole[0], last)
    np.testing.assert_allclose(head.numpy(), logits.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["published", "last feature layer", "three feature layers"])
def test_no_more_vision_layers_than_the_features_need(kind: str, tmp_path: Path) -> None:
    spec = KINDS[kind]
    write_checkpoint(tmp_path, spec)
    wanted = {-2: spec.vision_layers - 1, -1: spec.vision_layers, (-3, -2, 3): 3}[spec.feature_layer]
    tower = VisionTower(CheckpointTensors(tmp_path, canonical_name), read_facts(tmp_path).vision)
    assert len(tower.layers) == wanted
