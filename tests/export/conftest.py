"""Small checkpoints to spoil, and the ways to spoil them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints import CheckpointSpec, write_checkpoint, write_json

SMALL = CheckpointSpec(hidden=32, layers=2, vision_hidden=16, vision_layers=2, image_size=56)
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def _pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("pristine") / "checkpoint", SMALL)


@pytest.fixture
def checkpoint(_pristine: Path, tmp_path: Path) -> Path:
    """A whole small checkpoint of this test's own, in one safetensors file."""
    return Path(shutil.copytree(_pristine, tmp_path / "checkpoint"))


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change one JSON document in place."""
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    write_json(path, document)


def edit_weights(checkpoint: Path, change: Callable[[Tensors], object]) -> None:
    """Change the tensors of a checkpoint in one file."""
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
