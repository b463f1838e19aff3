"""Engines for cuda, built once for all tests here, on a seeded checkpoint and of the embedded model."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.engines import GROUPED_224, built
from vicrop_engine.engine_dir.registry import find_model
from vicrop_export import build
from vicrop_export.checks import agreement
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.onnx_files.exported import export_described

EMBEDDED = find_model("llava-signs")
COMPARED = 6  # questions a build here asks, instead of all
exported = cache(lambda checkpoint, name: {})


@cache
def seeded(precision: str) -> Path:
    """An engine of a small random checkpoint whose grouped-query decoder is cut in the middle."""
    return _build(built(GROUPED_224).checkpoint, precision, None)


@cache
def embedded(precision: str) -> Path:
    """An engine of the embedded model."""
    return _build(EMBEDDED.checkpoint, precision, EMBEDDED.layers)


def _build(checkpoint: Path, precision: str, layers: object) -> Path:
    """All of a real build, but that precisions of one checkpoint share what is exported."""
    output = Path(_folder().name) / checkpoint.parent.name / precision
    graphs = exported(checkpoint, "")

    def once(name: str, module: object, interface: GraphInterface) -> object:
        if name not in graphs:
            graphs[name] = export_described(name, module, interface)
        return graphs[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "MOST", COMPARED)
        patch.setattr(build, "export_described", once)
        build.build_engine(
            checkpoint, output, name="llava-signs", layers=layers, precision=precision, target="cuda"
        )
    return output


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vicrop-cuda-")
