"""What the paper prints of LLaVA-1.5-7B (arXiv 2502.17422, Table 2), in percent by its own scorers."""

from __future__ import annotations

from vicrop_engine.engine_dir.registry import DEFAULT
from vicrop_engine.evaluation.scorers.scorer import PAPER

MODEL = DEFAULT
_METHODS = ("none", "rel-att", "grad-att", "pure-grad")
_FIGURES = {
    "textvqa": (47.80, 55.17, 56.06, 51.67),
    "vstar": (42.41, 62.30, 57.07, 46.07),  # crops with high-res
    "pope": (85.27, 87.25, 87.03, 86.06),
    "docvqa": (15.97, 19.63, 19.84, 17.70),
    "aokvqa": (59.01, 60.66, 59.94, 59.92),
    "gqa": (60.48, 60.97, 60.98, 60.54),
    "vqav2": (75.57, 76.51, 76.06, 75.94),
}


_WITHOUT_TILES = {("vstar", "rel-att"): 47.64}


def published(model: str, benchmark: str, scorer: str, method: str, *, tiles: bool) -> float | None:
    """What the paper prints for this, with or without high-res; None where it prints nothing."""
    if model != MODEL or scorer != PAPER or method not in _METHODS or benchmark not in _FIGURES:
        return None
    if benchmark == "vstar" and method != "none" and not tiles:
        return _WITHOUT_TILES.get((benchmark, method))
    return _FIGURES[benchmark][_METHODS.index(method)]
