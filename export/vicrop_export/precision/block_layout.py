"""Weights in blocks of a few bits: how they are rounded and packed, and the products both ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicrop_engine.arrays import Floats
from vicrop_export.ops.node_list import NodeList
from vicrop_export.precision.byte_products import CONTRIB, Arrays, Exact, Values, exact_product
from vicrop_export.precision.layouts import Widened, to_half

AT_ONCE = 1 << 24  # weights that are rounded at once: of a large vocabulary's each step takes a gigabyte
_SHRINK = (0.92, 0.85)  # of the scale that holds a block's largest weight; a tighter one often costs less


@dataclass(frozen=True)
class Blocks:
    """4 or 8 bits with a scale per block of inputs, for MatMulNBits, which rounds tokens per block too.

    One token of a runtime that packs no weights takes other nodes: there MatMulNBits is 40 times slower.
    With scales of `half` precision tokens are float16 and are not rounded.
    """

    width: int
    block: int = 128
    half: bool = False
    stacks: ClassVar[bool] = True

    @property
    def bits(self) -> float:
        return self.width + (16 if self.half else 32) / self.block

    def encode(self, weight: Tensor) -> Arrays:
        step = max(1, AT_ONCE // weight.shape[1])
        parts = [self._encode(weight[start : start + step]) for start in range(0, len(weight), step)]
        return {ending: np.concatenate([part[ending] for part in parts]) for ending in parts[0]}

    def _encode(self, weight: Tensor) -> Arrays:
        blocks = _blocks(weight.to(torch.float32), self.block)
        scales = _scales4(blocks) if self.width == 4 else blocks.abs().amax(-1) / 127
        if self.half:
            scales = to_half(scales).to(torch.float32)
        scales = torch.where(scales.abs() < torch.finfo(torch.float32).tiny, 1.0, scales)
        whole = _rounded(blocks, scales, self.width).add_(1 << (self.width - 1)).to(torch.uint8)
        packed = whole[..., 0::2] | (whole[..., 1::2] << 4) if self.width == 4 else whole
        stored = scales.to(torch.float16) if self.half else scales
        return {"_packed": packed.numpy(), "_scales": stored.numpy()}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        packed, scales = arrays["_packed"], arrays["_scales"]
        if self.width == 4:
            packed = np.stack((packed & 15, packed >> 4), axis=-1).reshape(*packed.shape[:2], -1)
        values = (packed.astype(np.float32) - (1 << (self.width - 1))) * scales.astype(np.float32)[..., None]
        return np.ascontiguousarray(values.reshape(len(values), -1).T)

    def plain(self, x: Floats, arrays: Arrays) -> Exact:
        tokens = x.astype(np.float16) if self.half else self._rounded_tokens(x)
        parts = outputs_in_parts(arrays, x.shape[-1])
        return np.concatenate([exact_product(tokens, self.decode(part)) for part in parts], axis=-1)

    def _rounded_tokens(self, x: Floats) -> Exact:
        missing = -x.shape[-1] % self.block
        blocks = np.pad(x, ((0, 0), (0, missing))).reshape(len(x), -1, self.block)
        largest = np.abs(blocks).max(-1, keepdims=True)
        inverse = np.float32(127) / np.where(largest == 0, np.float32(1), largest)  # as MatMulNBits takes it
        steps = np.round(blocks * inverse).astype(np.float64)
        rounded: Exact = (steps * (largest / np.float32(127))).reshape(len(x), -1)
        return rounded

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        sizes = {"K": size[0], "N": size[1], "bits": self.width, "block_size": self.block}
        inputs = [x, stored["_packed"], stored["_scales"]]
        rounding = {} if self.half else {"accuracy_level": 4}
        return [ir.node("MatMulNBits", inputs, {**sizes, **rounding}, domain=CONTRIB)]

    def row_nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        """A product per block with the whole numbers as floats, then the scales: the token is not rounded."""
        made = NodeList()
        missing = -size[0] % self.block
        if missing:
            x = made.add("Concat", x, made.constant(np.zeros((1, missing)), np.float32), axis=1)
        shape = -(-size[0] // self.block), -1, 8 // self.width
        tokens = made.add("Reshape", x, made.constant(shape, np.int64))
        columns = [tokens] if self.width == 8 else self._halves(made, tokens)
        pairs = zip(self._parts(made, stored), columns, strict=True)
        products = [made.add("MatMul", *pair) for pair in pairs]  # [blocks, out, 1] each
        total = products[0] if len(products) == 1 else made.add("Add", *products)
        scales = made.add("Unsqueeze", _turned(made, stored["_scales"]), made.constant([2], np.int64))
        total = made.add("ReduceSum", made.add("Mul", total, scales), made.constant([0], np.int64))
        made.add("Reshape", total, made.constant([1, -1], np.int64))
        return made.nodes

    def column_nodes(self, column: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        """The scales first, for they go with the outputs, which are summed over; then a product per block."""
        made = NodeList()
        scaled = _turned(made, made.add("Mul", stored["_scales"], column))
        rows = made.add("Unsqueeze", scaled, made.constant([1], np.int64))  # [blocks, 1, out]
        products = [made.add("MatMul", rows, weights) for weights in self._parts(made, stored)]
        total = products[0]
        if self.width == 4:
            even, both = products
            odd = made.add("Mul", made.add("Sub", both, even), made.constant(1 / 16, np.float32))
            last = made.constant([-1], np.int64)
            total = made.add("Concat", *(made.add("Unsqueeze", part, last) for part in (even, odd)), axis=-1)
        total = made.add("Reshape", total, made.constant([-1, 1], np.int64))
        if size[0] % self.block:
            ends = (made.constant([end], np.int64) for end in (0, size[0], 0))
            made.add("Slice", total, *ends)
        return made.nodes

    def bulk(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {"_packed": (size[1], -(-size[0] // self.block), self.block * self.width // 8)}

    def floats(self, made: NodeList, stored: Values, size: tuple[int, int]) -> Widened:
        whole = stored["_packed"]
        if self.width == 4:
            low = made.add("BitwiseAnd", whole, made.constant(15, np.uint8))
            high = made.add("BitShift", whole, made.constant(4, np.uint8), direction="RIGHT")
            last = made.constant([-1], np.int64)
            whole = made.add("Concat", *(made.add("Unsqueeze", part, last) for part in (low, high)), axis=-1)
            whole = made.add("Reshape", whole, made.constant([0, 0, -1], np.int64))
        whole = made.add("Cast", whole, to=ir.DataType.FLOAT.value)
        steps = made.add("Sub", whole, made.constant(1 << (self.width - 1), np.float32))
        scales = made.add("Unsqueeze", stored["_scales"], made.constant([2], np.int64))
        weight = made.add("Mul", steps, scales)
        weight = made.add("Reshape", weight, made.constant([0, -1], np.int64))
        if size[0] % self.block:
            weight = made.add("Slice", weight, *(made.constant([end], np.int64) for end in (0, size[0], 1)))
        return Widened(weight, turned=True)

    def _parts(self, made: NodeList, stored: Values) -> list[ir.Value]:
        """The whole numbers around zero as floats [blocks, out, block].

        Of four bits the even ones, and these with 16 times the odd ones, which costs one operator less.
        """
        packed = made.add("Transpose", stored["_packed"], perm=[1, 0, 2])
        if self.width == 8:
            return [made.floats(packed, middle=128)]
        even = made.add("BitwiseAnd", packed, made.constant(15, np.uint8))
        return [made.floats(even, middle=8), made.floats(packed, middle=8 + 16 * 8)]

    def _halves(self, made: NodeList, tokens: ir.Value) -> list[ir.Value]:
        """What the even weights, and what the even and odd ones together, are multiplied with."""
        even, odd = made.split(tokens, axis=-1)
        both = made.add("Mul", odd, made.constant(1 / 16, np.float32))
        return [made.add("Sub", even, both), both]


def outputs_in_parts(arrays: Arrays, num_in: int) -> Iterator[Arrays]:
    """A stored weight in parts of AT_ONCE numbers, each of some outputs."""
    num_out, step = len(arrays["_scales"]), max(1, AT_ONCE // num_in)
    for start in range(0, num_out, step):
        yield {ending: array[start : start + step] for ending, array in arrays.items()}


def _turned(made: NodeList, x: ir.Value) -> ir.Value:
    return made.add("Transpose", x, perm=[1, 0])


def _blocks(weight: Tensor, block: int) -> Tensor:
    """[out, in] to [out, blocks, block], the last block filled up with zeros."""
    missing = -weight.shape[1] % block
    padded = torch.nn.functional.pad(weight, (0, missing)) if missing else weight
    return padded.reshape(len(weight), -1, block)


def _scales4(blocks: Tensor) -> Tensor:
    """Scales [out, blocks] of whole numbers from -8 to 7, of the least squared error among a few.

    The largest weight of a block becomes -8, the end that reaches further; so scales may be negative.
    """
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)).squeeze(-1)
    best = largest / -8
    least = _error4(blocks, best)
    for share in _SHRINK:
        tried = largest * (share / -8)
        error = _error4(blocks, tried)
        best, least = torch.where(error < least, tried, best), torch.minimum(error, least)
    return best


def _error4(blocks: Tensor, scales: Tensor) -> Tensor:
    scales = torch.where(scales == 0, 1.0, scales)
    return _rounded(blocks, scales, 4).mul_(scales.unsqueeze(-1)).sub_(blocks).square_().sum(-1)


def _rounded(blocks: Tensor, scales: Tensor, width: int) -> Tensor:
    end = 1 << (width - 1)
    return (blocks / scales.unsqueeze(-1)).round_().clamp_(-end, end - 1)
