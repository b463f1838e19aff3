"""Which weights of a model are stored how, by the precision asked for.

The reasons and the measurements are in docs/precision.md. Knows names of tensors, not what the layouts do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vicrop_export.precision.block_layout import Blocks
from vicrop_export.precision.layouts import Bytes, Half, Layout, Whole
from vicrop_export.precision.standard_layouts import BlockProduct, ByteProduct, Float8Product, HalfProduct

_PROJECTION = re.compile(r"layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)_proj\.")
VISION = ("vision_tower.", "multi_modal_projector.")
EMBEDDINGS = "language_model.embed_tokens.weight"
HEAD = ("lm_head.", EMBEDDINGS)
SPARE = 256 << 20  # bytes that keeping the layers below the heatmap in more bits may cost an engine


@dataclass(frozen=True)
class Precision:
    """Layouts of the projections of vision tower and projector, decoder layers and language head.

    Where the crop is depends on the decoder up to the highest heatmap layer: `looking` is for the queries
    and keys up to there, `below` for the other projections of the layers before it. `frugal` takes the place
    of `below` where `below` costs more than SPARE bytes beyond it. `embeddings` is the type of the token
    table. Norms, biases and positions stay float32.
    """

    vision: Layout
    looking: Layout
    below: Layout
    decoder: Layout
    head: Layout
    embeddings: type[np.floating]
    frugal: Layout | None = None

    def fitted(self, shapes: Mapping[str, Sequence[int]], num_lower_layers: int) -> Precision:
        """These layouts for a model of these tensors, by their names in the checkpoint."""
        if self.frugal is None:
            return self
        below = sum(
            math.prod(shape) for name, shape in shapes.items() if _part(name, num_lower_layers) == "below"
        )
        dear = below * (self.below.bits - self.frugal.bits) / 8 > SPARE
        return replace(self, below=self.frugal) if dear else self

    def layout(self, source: str, num_lower_layers: int) -> Layout:
        """The layout of the projection with this name in the checkpoint."""
        layout: Layout = getattr(self, _part(source, num_lower_layers))
        return layout

    def num_bytes(self, name: str, shape: Sequence[int], num_lower_layers: int) -> int:
        """What the checkpoint's tensor `name` takes in an engine."""
        count = math.prod(shape)
        if name == EMBEDDINGS:
            return count * np.dtype(self.embeddings).itemsize
        if len(shape) != 2 or any(part in name for part in ("position", "word_embeddings")):
            return 4 * count
        return math.ceil(count * self.layout(name, num_lower_layers).bits / 8)


def _part(source: str, num_lower_layers: int) -> str:
    """The field of Precision that holds the layout of this projection."""
    if source.startswith(VISION):
        return "vision"
    if source.startswith(HEAD):
        return "head"
    found = _PROJECTION.search(source)
    layer, kind = (int(found[1]), found[2]) if found else (num_lower_layers, "")
    if kind in ("q", "k") and layer < num_lower_layers:
        return "looking"
    return "below" if layer < num_lower_layers - 1 else "decoder"


_WHOLE, _HALF = Whole(), Half()
_FINE, _FINEST = Bytes(fine_tokens=True), Bytes(fine_tokens=True, fine_weights=True)
PRECISIONS: dict[str, Precision] = {
    "fp32": Precision(_WHOLE, _WHOLE, _WHOLE, _WHOLE, _WHOLE, np.float32),
    "fp16": Precision(_HALF, _HALF, _HALF, _HALF, _HALF, np.float16),
    "int8": Precision(_FINEST, _FINEST, _FINE, Bytes(), Blocks(8), np.float16),
    "int4": Precision(_FINE, _FINE, _FINE, Blocks(4), Blocks(8), np.float16, frugal=Blocks(4)),
}

# For ONNX Runtime's CUDA provider, whose products of bytes are no faster: tokens are float16 throughout, and
# weights are float16 or blocks of bits. float32 it has no attention for; the row is what others are held to.
_SAME, _BYTE, _NIBBLE = Half(half=True), Blocks(8, half=True), Blocks(4, half=True)
CUDA_PRECISIONS: dict[str, Precision] = {
    "fp32": PRECISIONS["fp32"],
    "fp16": Precision(_SAME, _SAME, _SAME, _SAME, _SAME, np.float16),
    "int8": Precision(_SAME, _BYTE, _BYTE, _BYTE, _BYTE, np.float16),
    "int4": Precision(_SAME, _BYTE, _BYTE, _NIBBLE, _BYTE, np.float16, frugal=_NIBBLE),
}

# For TensorRT: floats, or QuantizeLinear and DequantizeLinear around products.
_HALVES, _BYTES, _FLOAT8 = HalfProduct(), ByteProduct(), Float8Product()
STANDARD_PRECISIONS: dict[str, Precision] = {
    "fp32": PRECISIONS["fp32"],
    "fp16": Precision(_HALVES, _HALVES, _HALVES, _HALVES, _HALVES, np.float16),
    "int8": Precision(_HALVES, _HALVES, _BYTES, _BYTES, _BYTES, np.float16),
    "int4": Precision(_HALVES, _HALVES, _BYTES, BlockProduct(), _BYTES, np.float16, frugal=BlockProduct()),
    "fp8": Precision(_HALVES, _HALVES, _FLOAT8, _FLOAT8, _FLOAT8, np.float16),
}
