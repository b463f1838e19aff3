"""Qwen checkpoints: what is read of them, and what is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.export.conftest import edit_json, edit_weights
from tests.export.families.test_smolvlm import plan_of
from tests.qwen_checkpoints import write_qwen_checkpoint
from tests.qwen_documents import SPECIALS, QwenSpec
from vicrop_engine.engine_dir.records import DecoderGeometry, Preprocessing, VisionGeometry
from vicrop_engine.errors import CheckpointError, SettingError
from vicrop_export.build import build_engine
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.qwen.names import canonical_name
from vicrop_export.families.table import read_family
from vicrop_export.modules.decoder import LowerDecoder

SMALL = QwenSpec(layers=4, vision_layers=2, full_layers=(1,))


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    """A whole small checkpoint of this test's own."""
    return write_qwen_checkpoint(tmp_path / "qwen", SMALL)


def test_a_plan_says_what_the_engine_has_to_know(qwen: Path) -> None:
    plan = plan_of(qwen)
    assert plan.family.name == "qwen2.5-vl"
    assert plan.vision == VisionGeometry(168, 28, 6, 6, 48, 0)
    assert plan.images.settings == {
        "patch": 14,
        "min_pixels": 4 * 28**2,
        "max_pixels": 48 * 28**2,
        "window": 4,
        "table": 0,
    }
    assert plan.preprocessing == Preprocessing(
        "exact",
        168,
        168,
        3,
        False,
        168,
        168,
        1 / 255,
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    )
    assert plan.decoder == DecoderGeometry(4, 3, 4, 2, 16, 64, plan.family.text.vocab_size, 8192, 3, 0)
    assert (plan.layers, plan.layer_source) == ((2,), "scaled, not measured")
    assert (plan.begin, plan.family.window, plan.images.most_inputs) == (None, 224, 1)
    end, rest = (int(plan.tokenizer.token_to_id(text) or 0) for text in ("<|im_end|>", "<|endoftext|>"))
    assert plan.end_tokens((rest,)) == (rest, end)
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    asked = "{question} Answer the question using a single word or phrase.<|im_end|>\n<|im_start|>assistant\n"
    assert plan.prompts.question == f"{system}<|im_start|>user\n{image}{asked}"
    assert plan.prompts.two_image_question == f"{system}<|im_start|>user\n{2 * image}{asked}"
    assert plan.prompts.general_question == "Write a general description of the image."


def test_the_newer_generation_differs_in_these(tmp_path: Path) -> None:
    plan = plan_of(write_qwen_checkpoint(tmp_path, replace(SMALL, kind="qwen3_vl", tapped_layers=(0, 1))))
    assert plan.family.name == "qwen3-vl"
    assert plan.images.settings["patch"] == 16
    assert (plan.images.settings["window"], plan.images.settings["table"]) == (0, 8)
    assert plan.prompts.question.startswith("<|im_start|>user\n<|vision_start|>")
    assert (plan.decoder.position_axes, plan.decoder.added_embeds) == (3, 2)


@pytest.mark.parametrize(
    ("kind", "num_layers", "layer", "source"),
    [
        ("qwen2_5_vl", 36, 22, "published"),
        ("qwen2_5_vl", 28, 17, "scaled, not measured"),
        ("qwen2_vl", 36, 22, "scaled, not measured"),
        ("qwen3_vl", 28, 17, "scaled, not measured"),
        ("qwen3_vl", 36, 22, "scaled, not measured"),
    ],
)
def test_only_one_default_layer_was_published(
    kind: Any, num_layers: int, layer: int, source: str, tmp_path: Path
) -> None:
    spec = replace(SMALL, kind=kind, layers=num_layers, hidden=32, vision_layers=1, tapped_layers=(0,))
    family = read_family(write_qwen_checkpoint(tmp_path, replace(spec, full_layers=(0,))))
    assert family.default_layer == (layer, source)


def test_layers_below_what_a_picture_adds_are_in_the_lower_graph(tmp_path: Path) -> None:
    spec = QwenSpec("qwen3_vl", seed=6, head_dim=32, layers=4)
    plan = plan_of(write_qwen_checkpoint(tmp_path, spec), layers="0")
    assert plan.decoder.num_lower_layers == 3
    with pytest.raises(CheckpointError, match="got 2 lower layers, wanted at least 3"):
        LowerDecoder(CheckpointTensors(tmp_path, canonical_name), plan.family.text, 2)


def test_more_pixels_than_attention_is_bounded_for_are_not_seen(qwen: Path) -> None:
    edit_json(qwen / "preprocessor_config.json", lambda document: document.update(max_pixels=16384 * 28**2))
    plan = plan_of(qwen)
    assert plan.images.settings["max_pixels"] == 1280 * 28**2
    assert plan.vision == VisionGeometry(35 * 28, 28, 35, 35, 1280, 0)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("visual.blocks.0.attn.qkv.weight", "vision_tower.blocks.0.attn.qkv.weight"),
        ("model.visual.blocks.0.attn.qkv.weight", "vision_tower.blocks.0.attn.qkv.weight"),
        ("visual.merger.ln_q.weight", "multi_modal_projector.ln_q.weight"),
        (
            "model.visual.deepstack_merger_list.1.norm.bias",
            "multi_modal_projector.deepstack.1.norm.bias",
        ),
        ("model.visual.pos_embed.weight", "vision_tower.position_embedding.weight"),
        ("model.layers.3.mlp.up_proj.weight", "language_model.layers.3.mlp.up_proj.weight"),
        ("model.language_model.norm.weight", "language_model.norm.weight"),
        ("model.norm.weight", "language_model.norm.weight"),
        ("model.embed_tokens.weight", "language_model.embed_tokens.weight"),
        ("language_model.embed_tokens.weight", "language_model.embed_tokens.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_one_name_for_each_tensor(stored: str, name: str) -> None:
    assert canonical_name(stored) == name


CONFIGS: dict[str, tuple[Mapping[str, Any], str]] = {
    "a mixture of experts": ({"model_type": "qwen3_vl_moe"}, "mixture of experts, .* choose a dense"),
    "a sliding window": (
        {"text_config": {"use_sliding_window": True}},
        "use_sliding_window is True, wanted false",
    ),
    "no sections": (
        {"text_config": {"rope_scaling": {"type": "default"}}},
        r"mrope_section is \(\), wanted three numbers that are 8 together",
    ),
    "sections of another head": (
        {"text_config": {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}},
        r"mrope_section is \(16, 24, 24\), wanted three numbers that are 8",
    ),
    "larger cells": ({"vision_config": {"spatial_merge_size": 4}}, "spatial_merge_size is 4, wanted 2"),
    "heads no rotation fits": ({"vision_config": {"num_heads": 3}}, "num_heads is 3, wanted a divisor"),
    "another width": ({"vision_config": {"out_hidden_size": 32}}, "output is 32, wanted the decoder's 64"),
    "a window below a cell": ({"vision_config": {"window_size": 14}}, "window_size is 14, wanted 28 pixels"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_what_the_graphs_lack_is_refused_by_name(case: str, qwen: Path) -> None:
    values, words = CONFIGS[case]

    def change(document: dict[str, Any]) -> None:
        for key, value in values.items():
            document[key] = {**document[key], **value} if isinstance(value, dict) else value

    edit_json(qwen / "config.json", change)
    with pytest.raises(CheckpointError, match=words):
        read_family(qwen)


PROCESSORS: dict[str, tuple[dict[str, Any], str]] = {
    "no resize": ({"do_resize": False}, "do_resize is False, wanted true"),
    "other patches": ({"patch_size": 16}, "patch_size is 16, wanted 14, the tower's"),
    "other cells": ({"merge_size": 1}, "merge_size is 1, wanted 2, the tower's"),
    "less than a cell": ({"min_pixels": 4, "max_pixels": 100}, "size is .* wanted from 784 pixels upwards"),
    "upside down": ({"min_pixels": 10**6, "max_pixels": 10**5}, "size is .* wanted from 784"),
    "another kind": ({"image_processor_type": "CLIPImageProcessor"}, "CLIPImageProcessor is not supported"),
}


@pytest.mark.parametrize("case", PROCESSORS)
def test_processors_that_cut_otherwise_are_refused(case: str, qwen: Path) -> None:
    values, words = PROCESSORS[case]
    edit_json(qwen / "preprocessor_config.json", lambda document: document.update(values))
    with pytest.raises(CheckpointError, match=words):
        plan_of(qwen)


@pytest.mark.parametrize("token", ["<|im_start|>", "<|vision_start|>", "<|vision_end|>"])
def test_a_tokenizer_without_the_tokens_of_pictures_is_refused(token: str, tmp_path: Path) -> None:
    left = tuple(text for text in SPECIALS if text != token)
    checkpoint = write_qwen_checkpoint(tmp_path, replace(SMALL, special_tokens=left))
    with pytest.raises(CheckpointError, match=r"does not encode '.*' as one token, .* take"):
        plan_of(checkpoint)


@pytest.mark.parametrize("name", ["self_attn.q_proj.bias", "self_attn.k_norm.weight"])
def test_a_bias_or_norm_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    kind: Any = "qwen3_vl" if "norm" in name else "qwen2_5_vl"
    checkpoint = write_qwen_checkpoint(tmp_path / "a", replace(SMALL, kind=kind, tapped_layers=(0,)))

    def drop(tensors: dict[str, Tensor]) -> None:
        del tensors[f"model.language_model.layers.1.{name}"]

    edit_weights(checkpoint, drop)
    with pytest.raises(CheckpointError, match=rf"1 tensors are missing, the first is '.*\.1\.{name}'"):
        build_engine(checkpoint, tmp_path / "engine", name="x")
    assert not (tmp_path / "engine").exists()


def test_pure_grad_is_refused_before_any_work(qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"pure-grad cannot be built .* family 'qwen2\.5-vl'"):
        build_engine(qwen, tmp_path / "engine", name="x", pure_grad=True)
    assert not (tmp_path / "engine").exists()
