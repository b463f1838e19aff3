"""How far an engine in low precision does what it does in float32, on the built-in pictures.

Asks both engines the same questions through the runtime itself. Knows answers, boxes and heatmaps; no graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.engine_dir.records import Agreement
from vicrop_engine.examples import signs
from vicrop_engine.images.cache import source_of
from vicrop_engine.model.model import Model
from vicrop_engine.model.opening import Place, open_model
from vicrop_engine.timing import Stopwatch
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.ask import opened_picture, run_ask
from vicrop_engine.vicrop.params import AskParams
from vicrop_engine.vicrop.planning import plan_request

MAX_NEW_TOKENS = 5
MOST, FEW = 1000, 6
SMALL_MODEL = 1 << 23  # layers times hidden size squared, up to which every question is asked
CACHE_BYTES = 1 << 28
SAME_BOX = 0.5  # intersection over union from which two boxes show the same


@dataclass(frozen=True)
class Compared:
    """One question's outcome: same text, intersection over union of the boxes, rel-L2 of the heatmaps."""

    same_answer: bool
    overlap: float
    heatmap: float


def measure_agreement(low: tuple[Path, Manifest], full: tuple[Path, Manifest]) -> Agreement:
    """Ask an engine and its float32 twin the built-in questions; neither has a manifest yet."""
    models = [
        open_model(*each, cache_bytes=CACHE_BYTES, place=Place("cpu"), digest="") for each in (low, full)
    ]
    found = []
    for picture, example in signs()[: num_questions(low[1])]:
        found.append(compare(*(_asked(model, picture, example.question) for model in models)))
    return Agreement(
        compared=f"with float32 on {len(found)} questions about the built-in pictures",
        answers=float(np.mean([each.same_answer for each in found])),
        boxes=float(np.mean([each.overlap >= SAME_BOX for each in found])),
        heatmaps=float(np.median([each.heatmap for each in found])),
    )


def num_questions(manifest: Manifest) -> int:
    """How many questions a build of this size may take time for."""
    decoder = manifest.decoder
    return MOST if decoder.num_layers * decoder.hidden_size**2 <= SMALL_MODEL else FEW


def _asked(model: Model, picture: Path, question: str) -> Answer:
    request, watch = plan_request(model, question, AskParams(max_new_tokens=MAX_NEW_TOKENS)), Stopwatch()
    opened = opened_picture(model, request, source_of(picture), watch)
    return run_ask(model, request, opened, watch)


def compare(got: Answer, wanted: Answer) -> Compared:
    """Compare two answers to one question; both must have looked."""
    assert got.crop_box is not None, "rel-att always gives a box"
    assert wanted.crop_box is not None, "rel-att always gives a box"
    overlap = intersection_over_union(got.crop_box, wanted.crop_box)
    if got.heatmap is None or wanted.heatmap is None:  # the picture is no larger than the window
        return Compared(got.answer == wanted.answer, overlap, 0.0)
    one, other = (heatmap.astype(np.float64) for heatmap in (got.heatmap, wanted.heatmap))  # may be enormous
    distance = np.linalg.norm(one - other) / np.linalg.norm(other)
    return Compared(got.answer == wanted.answer, overlap, float(distance))


def intersection_over_union(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Shared area of two boxes x0, y0, x1, y1 over the area they cover together."""
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (one, other)]
    return width * height / (sum(areas) - width * height)
