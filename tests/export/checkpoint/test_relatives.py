"""The checkpoints in circulation, at two layers and small widths: each builds, and agrees with transformers.

The build itself compares every layer with transformers and fails above 1e-4; the tests assert that it did.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import CheckpointSpec, write_checkpoint, write_json
from vicrop_export.build import build_engine
from vicrop_export.families.llava.facts import read_facts

SMALL = CheckpointSpec(
    hidden=64, heads=8, kv_heads=8, layers=2, vision_hidden=32, vision_layers=2, image_size=56
)
Change = Callable[[Path, dict[str, Any]], None]


def as_published(_directory: Path, _config: dict[str, Any]) -> None:
    """Nothing is changed."""


def mistral(_directory: Path, config: dict[str, Any]) -> None:
    """BakLLaVA: a Mistral decoder with a sliding window shorter than its positions."""
    text = config["text_config"]
    text.update(model_type="mistral", sliding_window=512)
    for key in ("attention_bias", "mlp_bias", "pretraining_tp"):
        text.pop(key, None)


def padded_vocabulary(_directory: Path, config: dict[str, Any]) -> None:
    """A pad token among rows of the table that the tokenizer does not have."""
    config["pad_token_id"] = config["text_config"]["vocab_size"] - 1


def no_patch_size(directory: Path, _config: dict[str, Any]) -> None:
    """An older processor file, without patch size and feature strategy."""
    write_json(directory / "processor_config.json", {"processor_class": "LlavaProcessor"})


KINDS: dict[str, tuple[CheckpointSpec, Change]] = {
    "7B": (SMALL, as_published),
    "13B": (replace(SMALL, hidden=80, heads=10, kv_heads=10, shards=6), as_published),
    "Mistral, grouped-query": (replace(SMALL, kv_heads=2, rope_theta=1e6), mistral),
    "padded vocabulary": (replace(SMALL, image_token_key="image_token_id"), padded_vocabulary),
    "newer names, older processor": (replace(SMALL, naming="model"), no_patch_size),
    "class token kept": (replace(SMALL, strategy="full"), as_published),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_built_and_agrees_with_transformers(kind: str, tmp_path: Path) -> None:
    spec, change = KINDS[kind]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", spec)
    config = json.loads((checkpoint / "config.json").read_text())
    change(checkpoint, config)
    write_json(checkpoint / "config.json", config)
    manifest = build_engine(checkpoint, tmp_path / "engine", name="llava-1.5")
    assert max(manifest.parity.image_embeds, manifest.parity.attention, manifest.parity.logits) < 1e-4
    assert manifest.float32_parity is not None
    assert manifest.vision.image_tokens == 16 + (spec.strategy == "full")
    assert manifest.vision.patch_offset == int(spec.strategy == "full")
    assert manifest.decoder.num_kv_heads == spec.kv_heads


def test_a_sliding_window_bounds_the_context(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, replace(SMALL, kv_heads=2))
    config = json.loads((checkpoint / "config.json").read_text())
    mistral(checkpoint, config)
    write_json(checkpoint / "config.json", config)
    assert read_facts(checkpoint).text.context_length == 512
