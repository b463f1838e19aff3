"""The embedded picture put to the embedded model: what a first look at the product shows.

Knows where the package keeps the picture and its question; the answering is the engine's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vicrop_engine.image import open_picture
from vicrop_engine.models import find_model, resolve
from vicrop_engine.result import Answer
from vicrop_engine.vicrop import ViCropEngine

DEMO_MODEL = "llava-signs"


@dataclass(frozen=True)
class Demo:
    """The embedded picture, its question, what is written there, and what the engine made of it."""

    image: Image.Image
    question: str
    expected: str
    answer: Answer


def demo_question() -> tuple[Path, dict[str, str]]:
    """The embedded picture's file, and its "question" with the right "answer"."""
    home = find_model(DEMO_MODEL).home
    return home / "demo.png", json.loads((home / "demo.json").read_text(encoding="utf-8"))


def run_demo() -> Demo:
    """Ask the embedded model about the embedded picture. Needs neither a network nor torch."""
    path, document = demo_question()
    picture = open_picture(path)
    engine = ViCropEngine.load(resolve(DEMO_MODEL))
    answer = engine.ask(picture.image, document["question"])
    return Demo(picture.image, document["question"], document["answer"], answer)
