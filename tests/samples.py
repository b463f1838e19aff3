"""Records of a made-up engine, for tests that need no graphs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from vicrop_engine.engine_dir.files import FileEntry
from vicrop_engine.engine_dir.manifest import SCHEMA_VERSION, Manifest
from vicrop_engine.engine_dir.records import (
    CropSettings,
    DecoderGeometry,
    FamilyRecord,
    ModelSource,
    Parity,
    Preprocessing,
    Prompts,
    SpecialTokens,
    VisionGeometry,
)
from vicrop_engine.images.geometry import whole_grid
from vicrop_engine.images.seen import Layout
from vicrop_engine.runtime.interfaces import Tensor

PREPROCESSING = Preprocessing(
    "shortest_edge", 168, 168, 3, True, 168, 168, 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), fit="pad"
)
TEMPLATE = "USER: {question} Answer the question using a single word or phrase.\nASSISTANT:"
PROMPTS = Prompts(
    question=f"<image>\n{TEMPLATE}",
    two_image_question=f"<image><image>\n{TEMPLATE}",
    general_question="Write a general description of the image.",
    image_placeholder="<image>",
)


def layout(tokens: int, placeholder: str = "<image>") -> Layout:
    """A picture's tokens in one run, square cells row by row."""
    side = math.isqrt(tokens)
    return Layout(placeholder, (tokens,), whole_grid(side, side, (side, side)), tuple(range(side * side)))


MANIFEST = Manifest(
    schema=SCHEMA_VERSION,
    model=ModelSource("sample", "checkpoint", None),
    family=FamilyRecord("llava-1.5", {}),
    precision="fp32",
    target="cpu",
    vision=VisionGeometry(168, 14, 12, 12, 144, 0),
    decoder=DecoderGeometry(4, 2, 4, 2, 12, 48, 454, 2048),
    tokens=SpecialTokens(1, (2,), 448),
    prompts=PROMPTS,
    crop=CropSettings(168, (1,)),
    parity=Parity(1e-7, 2e-7, 3e-7),
    files={"vision.onnx": FileEntry(3, "00")},
    versions={"torch": "2.13.0"},
)


@dataclass
class FakeGraph:
    """A bound graph that computes nothing."""

    buffers: dict[str, Tensor] = field(default_factory=dict)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Tensor]:
        """Nothing."""
        return {}


def write_examples(directory: Path, picture: Image.Image, boxes: Sequence[tuple[int, int, int, int]]) -> Path:
    """A list of examples on one picture, one for each box."""
    picture.save(directory / "picture.png")
    question = "What is written on the red sign?"
    examples = [{"image": "picture.png", "question": question, "box": list(box)} for box in boxes]
    path = directory / "examples.json"
    path.write_text(json.dumps(examples))
    return path
