"""The localizer models of the tests, built once per test run however many tests ask for one."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.external import checkpoints
from vicrop_engine import cli
from vicrop_engine.engine_dir.files import hash_file
from vicrop_engine.engine_dir.parsing import parse
from vicrop_engine.engine_dir.registry import ToolName
from vicrop_engine.external.manifest import SETTINGS, ToolManifest, write_tool

WRITERS: dict[ToolName, Callable[[Path], Path]] = {
    "clip": checkpoints.write_clip,
    "yolo": checkpoints.write_yolos,
    "sam": checkpoints.write_sam,
}
SIZES = ((900, 500), (300, 700), (64, 61), (9, 7))


@cache
def checkpoint(kind: ToolName) -> Path:
    """A seeded checkpoint; never change it, copy it."""
    return WRITERS[kind](Path(_folder().name) / f"{kind}-checkpoint")


@cache
def tool(kind: ToolName) -> Path:
    """The directory that the command line builds from `checkpoint(kind)`; never change it, copy it."""
    directory = Path(_folder().name) / kind
    assert cli.main(["build", kind, "--checkpoint", str(checkpoint(kind)), "-o", str(directory)]) == 0
    return directory


def picture(size: tuple[int, int]) -> Image.Image:
    """A seeded picture of this width and height with detail at several scales."""
    coarse, fine = (
        np.random.default_rng([*size, cells]).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        for cells in (5, 40)
    )
    layers = [Image.fromarray(values).resize(size, Image.Resampling.BICUBIC) for values in (coarse, fine)]
    return Image.blend(*layers, 0.4)


def with_settings(kind: ToolName, place: Path, **changes: Any) -> Path:
    """A copy of the built directory with other values in its settings, and a manifest that says so."""
    directory = Path(shutil.copytree(tool(kind), place))
    settings = json.loads((directory / SETTINGS).read_text()) | changes
    (directory / SETTINGS).write_text(json.dumps(settings))
    manifest = read_tool_as_is(directory)
    files = {**manifest.files, SETTINGS: hash_file(directory / SETTINGS)}
    write_tool(directory, replace(manifest, files=files))
    return directory


def read_tool_as_is(directory: Path) -> ToolManifest:
    """The manifest, without comparing it with the files."""
    return parse(ToolManifest, json.loads((directory / "manifest.json").read_text()), "manifest")


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vicrop-tools-")
