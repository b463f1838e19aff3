"""Products of whole prompts, in other bytes than those of decode steps.

A step reads each weight once for one token, so that the fewest bytes are best. A prompt multiplies it with
hundreds, and other products are faster than those of four bits; and on processors without VNNI, where a
product of bytes takes half the time of one of floats instead of a quarter, so are floats than tokens or
weights of two bytes. docs/precision.md has the measurements. Knows layouts and sizes; nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import onnx_ir as ir

from vicrop_engine.arrays import Floats
from vicrop_engine.engine_dir.manifest import ENCODERS, EVERY_GRAPH, PREFILL, WIDE
from vicrop_export.ops.node_list import NodeList
from vicrop_export.precision.block_layout import Blocks, outputs_in_parts
from vicrop_export.precision.byte_products import (
    ONE_BYTE,
    Arrays,
    Exact,
    Values,
    byte_products,
    exact_product,
    rounded_to_bytes,
)
from vicrop_export.precision.layouts import Bytes, Layout

TWIN_SPARE = 1 << 30  # bytes of memory that all twins of an engine may take beside the usual graphs


class Product(Protocol):
    """One way to multiply with a stored weight; every Layout is one."""

    @property
    def bits(self) -> float:
        """Bits one weight takes in memory at work."""

    @property
    def stacks(self) -> bool:
        """As a layout's."""

    def plain(self, x: Floats, arrays: Arrays) -> Exact:
        """As a layout's."""

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        """As a layout's."""


@dataclass(frozen=True)
class AsFloats:
    """Bytes as float32; tokens are not rounded."""

    stored_as: Bytes
    bits: ClassVar[float] = 32
    stacks: ClassVar[bool] = Bytes.stacks

    def plain(self, x: Floats, arrays: Arrays) -> Exact:
        return exact_product(x, self.stored_as.decode(arrays))

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        made = NodeList()
        weight = self.stored_as.floats(made, stored, size)
        made.add("MatMul", x, weight.value)
        return made.nodes


@dataclass(frozen=True)
class AsBytes:
    """Four bits with a scale per block as bytes with a scale per output; a token is rounded to a byte."""

    stored_as: Blocks
    bits: ClassVar[float] = 8
    stacks: ClassVar[bool] = Blocks.stacks

    def plain(self, x: Floats, arrays: Arrays) -> Exact:
        tokens = rounded_to_bytes(x, ONE_BYTE)[0]
        parts = [self._encode(part, x.shape[-1]) for part in outputs_in_parts(arrays, x.shape[-1])]
        weights = (part[""] * part["_scales"].astype(np.float64) for part in parts)
        return np.concatenate([exact_product(tokens, weight) for weight in weights], axis=-1)

    def encode(self, arrays: Arrays, num_in: int) -> Arrays:
        """The bytes [in, out] and scales [out] of a weight that is stored as `arrays`.

        They are written to the twin's own file: ONNX Runtime would make them when the engine is opened, but
        keeps every step on the way there for all weights at once, some twenty bytes for each.
        """
        parts = [self._encode(part, num_in) for part in outputs_in_parts(arrays, num_in)]
        return {ending: np.concatenate([part[ending] for part in parts], axis=-1) for ending in parts[0]}

    def _encode(self, arrays: Arrays, num_in: int) -> Arrays:
        weight = self.stored_as.decode(arrays)[:num_in]
        scales = np.maximum(np.abs(weight).max(0) * np.float32(1 / ONE_BYTE.weight), np.float32(1e-30))
        return {"": np.round(weight / scales).astype(np.int8), "_scales": scales}

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        """The product with what `encode` made."""
        made = NodeList()
        byte_products(made, x, stored, ONE_BYTE)
        return made.nodes


def prefill_product(layout: Layout) -> AsFloats | AsBytes | None:
    """How a prompt is multiplied with a weight of this layout in a twin; None where as in the usual graph."""
    if isinstance(layout, Bytes) and layout.fine_tokens:
        return AsFloats(layout)
    if isinstance(layout, Blocks) and layout.width == 4 and not layout.half:
        return AsBytes(layout)
    return None


def plan_twins(
    graphs: Mapping[str, Iterable[str]],
    shapes: Mapping[str, Sequence[int]],
    layout_of: Callable[[str], Layout],
) -> dict[str, int]:
    """The twins that are worth it, and what the weights of each take in memory beside the usual graph's.

    `graphs` are the checkpoint's names of each one's weights. A twin with floats is for processors without
    VNNI and called so. Those of bytes come first, which gain most, then the others, each in the order of
    EVERY_GRAPH, while they fit TWIN_SPARE together. The vision part has no decode steps, so that its twins
    replace its graphs; a decoder keeps both.
    """
    wanted: dict[str, int] = {}
    for name in EVERY_GRAPH:
        layouts = {source: layout_of(source) for source in graphs.get(name, ())}
        products = {source: prefill_product(layout) for source, layout in layouts.items()}
        if not any(products.values()):
            continue
        bits = 0.0
        for source, layout in layouts.items():
            at_work = (products[source] or layout).bits - (layout.bits if name in ENCODERS else 0)
            bits += at_work * math.prod(shapes[source])
        floats = any(isinstance(product, AsFloats) for product in products.values())
        wanted[name + (WIDE if floats else PREFILL)] = math.ceil(bits / 8)
    twins: dict[str, int] = {}
    for name, size in sorted(wanted.items(), key=lambda item: item[0].endswith(WIDE)):
        if sum(twins.values()) + size <= TWIN_SPARE:
            twins[name] = size
    return twins


def num_own_bytes(shapes: Mapping[str, Sequence[int]], layout_of: Callable[[str], Layout]) -> int:
    """What twins have on the disk at most, in files of their own."""
    own = (name for name in shapes if isinstance(prefill_product(layout_of(name)), AsBytes))
    return min(sum(math.prod(shapes[name]) for name in own), TWIN_SPARE)
