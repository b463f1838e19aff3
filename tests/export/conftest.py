"""Small checkpoints to spoil, the ways to spoil them, and builds that skip the slow step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints import CheckpointSpec, write_checkpoint, write_json
from tests.engines import STRETCH_168, built
from vicrop_export import build
from vicrop_export.checkpoint.described import DescribedTensors
from vicrop_export.families.table import read_family
from vicrop_export.modules.interfaces import graph_modules
from vicrop_export.onnx_files.exported import ExportedGraph, export_described
from vicrop_export.quiet import quiet

SMALL = CheckpointSpec(hidden=32, layers=2, vision_hidden=16, vision_layers=2, image_size=56)
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def _pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("pristine") / "checkpoint", SMALL)


@pytest.fixture
def checkpoint(_pristine: Path, tmp_path: Path) -> Path:
    """A whole small checkpoint of this test's own, in one safetensors file."""
    return Path(shutil.copytree(_pristine, tmp_path / "checkpoint"))


@cache
def exported(*, in_place: bool = True) -> dict[str, ExportedGraph]:
    """The graphs of STRETCH_168 cut where its engine is cut, exported once for all tests."""
    made = built(STRETCH_168)
    model = read_family(made.checkpoint)
    tensors = DescribedTensors(made.checkpoint, model.canonical_name)
    modules = graph_modules(tensors, model, made.manifest.decoder.num_lower_layers, in_place=in_place)
    with quiet():
        return {graph[0]: export_described(*graph) for graph in modules}


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds of STRETCH_168 with its usual cut need not export; all else of a build is real."""
    monkeypatch.setattr(build, "export_described", lambda name, *_: exported()[name])


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
