"""What runs of an engine's graphs take by arithmetic: floating-point operations, and bytes of weights read.

Operations are those of the model's own products, counted from the graphs when the engine was built; a
precision may take more of its own kind for each. Knows nothing of stages or of time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from vicrop_engine.engine_dir.manifest import (
    GRADIENT,
    GRAPHS,
    INSTRUCTED,
    INSTRUCTED_GRADIENT,
    PIXEL_GRADIENTS,
    Manifest,
)

VISION, LOWER, UPPER = GRAPHS


def num_flops(terms: Mapping[str, int], axes: Mapping[str, int]) -> int:
    """Operations, two for every multiply-add, of a run whose axes have these sizes.

    `terms` are a graph's in the manifest: {"seq*total": 64} is 64 multiply-adds for every new token and key.
    Raises KeyError for an axis that the run does not name.
    """
    names = {term: term.split("*") if term else [] for term in terms}
    return 2 * sum(count * math.prod(axes[axis] for axis in names[term]) for term, count in terms.items())


def weight_bytes(manifest: Manifest, graph: str) -> int:
    """Bytes of weights that one run of a graph reads, however many tokens it is of.

    Those with gradients have no file of their own and go through the weights there and back; of the lower
    layers grad-att's goes through those from the first heatmap layer on.
    """
    vision, lower, upper = (_file_bytes(manifest, name) for name in (VISION, LOWER, UPPER))
    if graph == PIXEL_GRADIENTS:
        return 2 * (vision + lower + upper)
    if graph == INSTRUCTED_GRADIENT:
        return 2 * (_file_bytes(manifest, INSTRUCTED) + lower + upper)
    if graph == GRADIENT:
        num_lower = manifest.decoder.num_lower_layers
        return 2 * (lower * (num_lower - min(manifest.crop.layers)) // num_lower + upper)
    return _file_bytes(manifest, graph)


def _file_bytes(manifest: Manifest, graph: str) -> int:
    entry = manifest.files.get(f"{graph}.onnx.data") or manifest.files[f"{graph}.onnx"]
    return entry.size
