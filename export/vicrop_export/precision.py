"""Which weights of a model are stored how, by the precision asked for.

The reasons and the measurements are in docs/precision.md. Knows names of tensors, not what the layouts do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vicrop_export.layouts import Blocks, Bytes, Half, Layout, Whole

_QUERY_OR_KEY = re.compile(r"layers\.(\d+)\.self_attn\.[qk]_proj\.")
VISION = ("vision_tower.", "multi_modal_projector.")
EMBEDDINGS = "language_model.embed_tokens.weight"
HEAD = ("lm_head.", EMBEDDINGS)


@dataclass(frozen=True)
class Precision:
    """Layouts of the projections of vision tower and projector, decoder layers and language head.

    `looking` is for queries and keys up to the highest heatmap layer, which decide where the crop is.
    `embeddings` is the type of the token table. Norms, biases and positions stay float32.
    """

    vision: Layout
    decoder: Layout
    looking: Layout
    head: Layout
    embeddings: type[np.floating]

    def layout(self, source: str, num_lower_layers: int) -> Layout:
        """The layout of the projection with this name in the checkpoint."""
        if source.startswith(VISION):
            return self.vision
        if source.startswith(HEAD):
            return self.head
        found = _QUERY_OR_KEY.search(source)
        return self.looking if found and int(found[1]) < num_lower_layers else self.decoder

    def num_bytes(self, name: str, shape: Sequence[int], num_lower_layers: int) -> int:
        """What the checkpoint's tensor `name` takes in an engine."""
        count = math.prod(shape)
        if name == EMBEDDINGS:
            return count * np.dtype(self.embeddings).itemsize
        if len(shape) != 2 or "position" in name:
            return 4 * count
        return math.ceil(count * self.layout(name, num_lower_layers).bits / 8)


PRECISIONS = {
    "fp32": Precision(Whole(), Whole(), Whole(), Whole(), np.float32),
    "fp16": Precision(Half(), Half(), Half(), Half(), np.float16),
    "int8": Precision(Bytes(), Bytes(), Bytes(), Blocks(8), np.float16),
    "int4": Precision(Bytes(), Blocks(4), Blocks(8), Blocks(8), np.float16),
}
