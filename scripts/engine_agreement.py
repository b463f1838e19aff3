"""Engines of a target against the shipped one for processors: answers, crop boxes and heatmaps.

    python scripts/engine_agreement.py --target cuda --device 0 --json agreement.json

Builds the embedded model for the target in every precision asked for, asks both engines the built-in
questions, prints the figures, and exits with 1 when they are not within the limits below. Needs the extras
[gpu,build] and the checkout.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vicrop_engine import ViCropEngine
from vicrop_engine.builder import build_model
from vicrop_engine.engine_dir.registry import find_model
from vicrop_engine.examples import signs
from vicrop_export.checks.agreement import MAX_NEW_TOKENS, SAME_BOX, Compared, compare

MODEL = "llava-signs"


@dataclass(frozen=True)
class Limits:
    """Least share of equal answers, least share of boxes that overlap by half, most of the median rel-L2."""

    answers: float
    boxes: float
    heatmaps: float


# Of fp32 and fp16 what their sums may round; of the others some more than what they change on a processor:
# answers 100 and 99.0 %, boxes 98.5 and 97.5 %, heatmaps 0.013 and 0.031.
LIMITS = {
    "fp32": Limits(0.995, 0.995, 1e-3),
    "fp16": Limits(0.99, 0.98, 1e-2),
    "int8": Limits(0.98, 0.96, 4e-2),
    "int4": Limits(0.97, 0.94, 8e-2),
}


def main() -> int:
    """Compare every precision asked for."""
    options = _options()
    place = {name: value for name in ("device", "provider") if (value := getattr(options, name)) is not None}
    usual = ViCropEngine.load(find_model(MODEL).shipped_engine)
    found: dict[str, float] = {}
    within = True
    with tempfile.TemporaryDirectory(prefix="vicrop-agreement-") as folder:
        for precision in options.precision or default_precisions(options.target):
            output = Path(folder) / precision
            build_model(find_model(MODEL), output, precision=precision, target=options.target)
            engine = ViCropEngine.load(output, **place)
            compared = ask_both(engine, usual, options.questions)
            found |= figures(f"{precision} on {engine.provider}", compared)
            within &= is_within(compared, LIMITS[precision])
    print(json.dumps(found, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(found), encoding="utf-8")
    return 0 if within else 1


def default_precisions(target: str) -> tuple[str, ...]:
    """Those that a target is compared in."""
    return {"cuda": ("fp16", "int8", "int4"), "tensorrt": ("fp32", "fp16", "int8")}.get(target, ("fp32",))


def ask_both(engine: ViCropEngine, usual: ViCropEngine, questions: int | None) -> list[Compared]:
    """The outcome of each built-in question, or of the first so many."""
    return [
        compare(
            *(each.ask(image, example.question, max_new_tokens=MAX_NEW_TOKENS) for each in (engine, usual))
        )
        for image, example in signs()[:questions]
    ]


def figures(name: str, compared: Sequence[Compared]) -> Mapping[str, float]:
    """Shares of equal answers, of equal and of like boxes, and the heatmaps' median and largest rel-L2."""
    overlaps = [each.overlap for each in compared]
    heatmaps = [each.heatmap for each in compared]
    return {
        f"{name}: questions": len(compared),
        f"{name}: same answer": float(np.mean([each.same_answer for each in compared])),
        f"{name}: same box": float(np.mean([overlap == 1.0 for overlap in overlaps])),
        f"{name}: box overlaps by half": float(np.mean([overlap >= SAME_BOX for overlap in overlaps])),
        f"{name}: heatmap rel-L2, median": float(np.median(heatmaps)),
        f"{name}: heatmap rel-L2, largest": float(np.max(heatmaps)),
    }


def is_within(compared: Sequence[Compared], limits: Limits) -> bool:
    """Whether all three stay within the limits."""
    return bool(
        np.mean([each.same_answer for each in compared]) >= limits.answers
        and np.mean([each.overlap >= SAME_BOX for each in compared]) >= limits.boxes
        and np.median([each.heatmap for each in compared]) <= limits.heatmaps
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="cuda", help="cuda, tensorrt or cpu")
    parser.add_argument("--precision", nargs="+", choices=LIMITS, help="else the target's own")
    parser.add_argument("--device", type=int, help="number of the GPU; else the first")
    parser.add_argument("--provider", help="cpu: run the target's engines on the processor instead")
    parser.add_argument("--questions", type=int, help="how many; else all there are")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
