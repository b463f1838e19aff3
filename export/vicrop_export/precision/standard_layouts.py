"""How graphs of standard operators store and multiply weights, for TensorRT: as floats, or quantized (QDQ).

What QuantizeLinear and DequantizeLinear stand around is one product in few bits to TensorRT, and floats that
were rounded to any other runtime. Knows nothing of which weight gets which.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import ClassVar

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicrop_engine.arrays import Floats
from vicrop_engine.errors import BuildError
from vicrop_export.ops.node_list import NodeList
from vicrop_export.precision.byte_products import Arrays, Exact, Values
from vicrop_export.precision.layouts import Widened, to_half

LARGEST_FLOAT8 = 448.0  # of e4m3
_TIGHTER = (1.0, 0.92, 0.85, 0.78)  # of the scale that holds a block's largest weight


class ForwardLayout:
    """A layout of graphs that have no way back: those of standard operators have no gradients."""

    stacks: ClassVar[bool] = False  # arrays have the inputs first

    def row_nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        raise BuildError("gradients are asked of a graph of standard operators; report this")

    column_nodes = row_nodes

    def plain(self, x: Floats, arrays: Arrays) -> Exact:
        raise BuildError("products of standard operators are not compared one by one; report this")

    def floats(self, made: NodeList, stored: Values, size: tuple[int, int]) -> Widened:
        raise BuildError("gradients are asked of a graph of standard operators; report this")

    def bulk(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        raise BuildError("gradients are asked of a graph of standard operators; report this")


@dataclass(frozen=True)
class HalfProduct(ForwardLayout):
    """float16 [in, out], multiplied in float16."""

    bits: float = 16

    def encode(self, weight: Tensor) -> Arrays:
        return {"": to_half(weight).t().contiguous().numpy()}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        return np.asarray(arrays[""], np.float32)

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        made = NodeList()
        _half_product(made, x, stored[""])
        return made.nodes


@dataclass(frozen=True)
class ByteProduct(ForwardLayout):
    """int8 [in, out] with a scale per output, multiplied in float16; tokens are not rounded."""

    bits: float = 8

    def encode(self, weight: Tensor) -> Arrays:
        steps, scales = _per_output(weight, 127)
        return {"": steps.round_().to(torch.int8).numpy(), "_scales": scales.numpy()}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        return np.asarray(arrays[""].astype(np.float32) * arrays["_scales"], np.float32)

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        made = NodeList()
        weight = made.add("DequantizeLinear", stored[""], stored["_scales"], axis=1)
        _half_product(made, x, made.add("Cast", weight, to=ir.DataType.FLOAT16.value))
        return made.nodes


@dataclass(frozen=True)
class Float8Product(ForwardLayout):
    """float8 (e4m3) [in, out] with a scale per output; tokens are rounded likewise. Needs opset 19.

    Each token is first divided by its largest number, so that one constant step serves all of them.
    """

    bits: float = 8

    def encode(self, weight: Tensor) -> Arrays:
        steps, scales = _per_output(weight, LARGEST_FLOAT8)
        return {"": steps.numpy().astype(ml_dtypes.float8_e4m3fn), "_scales": scales.numpy()}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        return np.asarray(arrays[""].astype(np.float32) * arrays["_scales"], np.float32)

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        made = NodeList()
        zero = made.constant(0, ml_dtypes.float8_e4m3fn)
        step = made.constant(1 / LARGEST_FLOAT8, np.float32)
        largest = made.add("ReduceMax", made.add("Abs", x), made.constant([-1], np.int64), keepdims=1)
        largest = made.add("Max", largest, made.constant(1e-30, np.float32))
        rounded = made.add("QuantizeLinear", made.add("Div", x, largest), step, zero)
        tokens = made.add("DequantizeLinear", rounded, step, zero)
        weight = made.add("DequantizeLinear", stored[""], stored["_scales"], axis=1)
        made.add("Mul", made.add("MatMul", tokens, weight), largest)
        return made.nodes


@dataclass(frozen=True)
class BlockProduct(ForwardLayout):
    """4 bits [in, out] with a float16 scale per `block` inputs, multiplied in float16. Needs opset 21.

    Tokens are not rounded. Inputs that are no multiple of `block` are in smaller blocks.
    """

    block: int = 128

    @property
    def bits(self) -> float:
        return 4 + 16 / self.block

    def encode(self, weight: Tensor) -> Arrays:
        num_out, num_in = weight.shape
        blocks = weight.to(torch.float32).reshape(num_out, -1, gcd(num_in, self.block))
        scales = to_half(_best_scales(blocks)).clamp_min(torch.finfo(torch.float16).tiny)
        whole = _in_four_bits(blocks, scales.to(torch.float32)).reshape(num_out, num_in)
        return {
            "": whole.to(torch.int8).t().contiguous().numpy().astype(ml_dtypes.int4),
            "_scales": scales.t().contiguous().numpy(),
        }

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        whole, scales = arrays[""].astype(np.float32), arrays["_scales"].astype(np.float32)
        return np.asarray(whole * np.repeat(scales, len(whole) // len(scales), axis=0))

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        made = NodeList()
        block = gcd(size[0], self.block)
        weight = made.add("DequantizeLinear", stored[""], stored["_scales"], axis=0, block_size=block)
        _half_product(made, x, weight)
        return made.nodes


def _per_output(weight: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """A weight [out, in] as steps [in, out] of at most `largest`, and the size of each output's steps."""
    weight = weight.to(torch.float32)
    scales = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / largest
    return (weight / scales.unsqueeze(1)).t().contiguous(), scales


def _half_product(made: NodeList, x: ir.Value, weight: ir.Value) -> None:
    half = made.add("Cast", x, to=ir.DataType.FLOAT16.value)
    made.add("Cast", made.add("MatMul", half, weight), to=ir.DataType.FLOAT.value)


def _best_scales(blocks: Tensor) -> Tensor:
    """Scales [out, blocks] of whole numbers from -8 to 7, above zero, of the least squared error of a few."""
    whole = blocks.abs().amax(-1).clamp_min(torch.finfo(torch.float32).tiny) / 7
    best, least = whole, torch.full_like(whole, torch.inf)
    for share in _TIGHTER:
        tried = whole * share
        error = (_in_four_bits(blocks, tried) * tried.unsqueeze(-1) - blocks).square_().sum(-1)
        best, least = torch.where(error < least, tried, best), torch.minimum(error, least)
    return best


def _in_four_bits(blocks: Tensor, scales: Tensor) -> Tensor:
    return (blocks / scales.unsqueeze(-1)).round_().clamp_(-8, 7)
