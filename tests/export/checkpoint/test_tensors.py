"""Tensors by one name, whichever way and in however many files they are stored; damaged files refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.checkpoints import CheckpointSpec, write_checkpoint
from tests.export.conftest import SMALL, Tensors, edit_weights
from vicrop_engine.errors import CheckpointError
from vicrop_export.checkpoint.locate import locate
from vicrop_export.checkpoint.tensors import INDEX, WEIGHTS, CheckpointTensors
from vicrop_export.checks.reference import run_reference
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.plan import make_plan
from vicrop_export.quiet import quiet

QUERY = "language_model.layers.0.self_attn.q_proj.weight"
STORED_QUERY = "language_model.model.layers.0.self_attn.q_proj.weight"


def refer(checkpoint: Path) -> None:
    """Have transformers run the checkpoint as a build does."""
    with quiet():
        plan = make_plan(locate(checkpoint), name="x", layers=None, precision="fp32", target="cpu")
        run_reference(CheckpointTensors(checkpoint, canonical_name), plan.family, plan.probe())


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("language_model.model.embed_tokens.weight", "language_model.embed_tokens.weight"),
        ("model.language_model.embed_tokens.weight", "language_model.embed_tokens.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("vision_tower.vision_model.pre_layrnorm.bias", "vision_tower.pre_layrnorm.bias"),
        ("model.vision_tower.vision_model.pre_layrnorm.bias", "vision_tower.pre_layrnorm.bias"),
        ("model.vision_tower.pre_layrnorm.bias", "vision_tower.pre_layrnorm.bias"),
        ("multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
        ("model.multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
    ],
)
def test_one_name_for_each_tensor(stored: str, name: str) -> None:
    assert canonical_name(stored) == name


@pytest.mark.parametrize(
    "other",
    [replace(SMALL, naming="model"), replace(SMALL, shards=3), replace(SMALL, naming="model", shards=2)],
    ids=["newer names", "three shards", "newer names, two shards"],
)
def test_every_way_of_storing_gives_the_same_tensors(
    other: CheckpointSpec, checkpoint: Path, tmp_path: Path
) -> None:
    one, two = (
        CheckpointTensors(checkpoint, canonical_name),
        CheckpointTensors(write_checkpoint(tmp_path / "other", other), canonical_name),
    )
    names = sorted(one.names())
    assert names == sorted(two.names())
    assert len(names) > 50
    assert all(torch.equal(one.get(name), two.get(name)) for name in names)
    assert all(one.shape(name) == two.shape(name) == tuple(one.get(name).shape) for name in names)


def test_half_precision_is_read_as_float32(checkpoint: Path, tmp_path: Path) -> None:
    whole = CheckpointTensors(checkpoint, canonical_name)
    for dtype in (torch.float16, torch.bfloat16):
        half = CheckpointTensors(
            write_checkpoint(tmp_path / str(dtype), replace(SMALL, dtype=dtype)), canonical_name
        )
        assert half.get(QUERY).dtype == torch.float32
        assert torch.equal(half.get(QUERY), whole.get(QUERY).to(dtype).to(torch.float32))
        assert half.stored(QUERY).dtype == dtype
        assert half.shape(QUERY) == whole.shape(QUERY)


def test_the_single_file_comes_before_an_index(checkpoint: Path) -> None:
    """As transformers has it, or the graphs and the reference would be two models."""
    (checkpoint / INDEX).write_text('{"weight_map": {"a": "nowhere.safetensors"}}')
    assert QUERY in CheckpointTensors(checkpoint, canonical_name)
    refer(checkpoint)


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_files_that_were_cut_short(keep: int, checkpoint: Path) -> None:
    path = checkpoint / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors is not a whole safetensors file .* fetch it"
    ):
        CheckpointTensors(checkpoint, canonical_name)


@pytest.mark.parametrize(
    "stored",
    [STORED_QUERY, "language_model.lm_head.weight", "vision_tower.vision_model.pre_layrnorm.bias"],
)
def test_a_missing_tensor(stored: str, checkpoint: Path) -> None:
    edit_weights(checkpoint, lambda tensors: tensors.pop(stored))
    name = canonical_name(stored)
    with pytest.raises(CheckpointError, match=rf"no tensor '{name}' in its safetensors files; wanted"):
        CheckpointTensors(checkpoint, canonical_name).get(name)
    with pytest.raises(CheckpointError, match=rf"1 tensors are missing, the first is '.*{name}'; wanted"):
        refer(checkpoint)


def test_a_tensor_of_another_shape(checkpoint: Path) -> None:
    def reshape(tensors: Tensors) -> None:
        tensors[STORED_QUERY] = torch.zeros(7, 32)

    edit_weights(checkpoint, reshape)
    words = (
        rf"tensor '.*{QUERY}' is \(7, 32\) and config\.json makes it \(32, 32\); the files are not from one"
    )
    with pytest.raises(CheckpointError, match=words):
        refer(checkpoint)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantised_weights(dtype: torch.dtype, checkpoint: Path) -> None:
    def quantise(tensors: Tensors) -> None:
        tensors[STORED_QUERY] = torch.zeros(32, 32).to(dtype)

    edit_weights(checkpoint, quantise)
    with pytest.raises(
        CheckpointError, match=f"is {dtype}; quantised checkpoints are not read, wanted float32"
    ):
        CheckpointTensors(checkpoint, canonical_name).get(QUERY)
