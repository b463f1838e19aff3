"""How the weight of a projection is stored and multiplied with: one class per way.

Each turns a float weight [out, in] into the arrays of the file, and a product in the graph into the nodes
that use them. Which weight gets which is decided in `precision.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

CONTRIB = "com.microsoft"
FINER = 254  # steps of a second byte in one step of the first, so that half a step either way is a byte
Arrays = dict[str, NDArray[Any]]
Values = Mapping[str, ir.Value]


class Layout(Protocol):
    """One way to store a weight."""

    @property
    def bits(self) -> float:
        """Bits one weight takes in the file, scales included."""

    def encode(self, weight: Tensor) -> Arrays:
        """The arrays of a weight [out, in] by the ending of their names; `""` is the weight itself.

        Raises OverflowError for numbers the layout cannot hold.
        """

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        """The weight [in, out] that these arrays stand for."""

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        """Nodes for `x` [..., in] times the stored weight of `size` (in, out); the last gives the product."""


@dataclass(frozen=True)
class Whole:
    """float32 [in, out], multiplied as it is."""

    bits: float = 32

    def encode(self, weight: Tensor) -> Arrays:
        return {"": weight.to(torch.float32).t().contiguous().numpy()}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        return np.asarray(arrays[""], np.float32)

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        return [ir.node("MatMul", [x, stored[""]])]


@dataclass(frozen=True)
class Half:
    """float16 [in, out], widened to float32 before the product."""

    bits: float = 16

    def encode(self, weight: Tensor) -> Arrays:
        return {"": to_half(weight).t().contiguous().numpy()}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        return np.asarray(arrays[""], np.float32)

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        widened = ir.node("Cast", [stored[""]], {"to": ir.DataType.FLOAT.value})
        return [widened, ir.node("MatMul", [x, widened.outputs[0]])]


@dataclass(frozen=True)
class Bytes:
    """int8 [in, out] with a scale per output; tokens become bytes as they come, each by its largest number.

    The products are of whole numbers: unsigned tokens around 128 times signed weights. Tokens, and weights
    too, may have a second byte for what the first one rounds away, in 254ths of its step.
    """

    fine_tokens: bool = False
    fine_weights: bool = False

    def __post_init__(self) -> None:
        if self.fine_weights and not self.fine_tokens:
            raise ValueError("weights of two bytes are for tokens of two bytes; ask for fine_tokens as well")

    @property
    def bits(self) -> float:
        return 16 if self.fine_weights else 8

    def encode(self, weight: Tensor) -> Arrays:
        weight = weight.to(torch.float32)
        scales = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        steps = weight / scales.unsqueeze(1)
        whole = steps.round()
        arrays = {"": _turned(whole), "_scales": scales.numpy()}
        if self.fine_weights:
            arrays["_rest"] = _turned(((steps - whole) * FINER).round())
        return arrays

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        steps = arrays[""].astype(np.float32)
        if self.fine_weights:
            steps += arrays["_rest"] / np.float32(FINER)
        return np.asarray(steps * arrays["_scales"], np.float32)

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        made = _Nodes()
        one, middle = made.constant(1, np.float32), made.constant(128, np.uint8)

        def products(tokens: ir.Value, weight: str) -> ir.Value:
            inputs = (tokens, stored[weight], one, stored["_scales"], middle)
            return made.add("MatMulIntegerToFloat", *inputs, domain=CONTRIB)

        largest = made.add("ReduceMax", made.add("Abs", x), made.constant([-1], np.int64), keepdims=1)
        scale = made.add("Mul", largest, made.constant(1 / 127, np.float32))
        scale = made.add("Max", scale, made.constant(1e-30, np.float32))
        steps = made.add("Div", x, scale)
        whole = made.add("QuantizeLinear", steps, one, middle)
        if not self.fine_tokens:
            made.add("Mul", products(whole, ""), scale)
            return made.nodes
        finer = made.constant(1 / FINER, np.float32)
        rest = made.add("Sub", steps, made.add("Round", steps))
        rest = made.add("QuantizeLinear", rest, finer, middle)
        total, rest = made.split(products(made.add("Concat", whole, rest, axis=-2), ""), axis=-2)
        if self.fine_weights:
            rest = made.add("Add", rest, products(whole, "_rest"))
        made.add("Mul", made.add("Add", total, made.add("Mul", rest, finer)), scale)
        return made.nodes


@dataclass(frozen=True)
class Blocks:
    """4 or 8 bits with a scale per block of inputs, for MatMulNBits, which rounds tokens per block too."""

    width: int
    block: int = 128

    @property
    def bits(self) -> float:
        return self.width + 32 / self.block

    def encode(self, weight: Tensor) -> Arrays:
        blocks = _blocks(weight.to(torch.float32), self.block)
        scales = _scales4(blocks) if self.width == 4 else blocks.abs().amax(-1) / 127
        scales = torch.where(scales.abs() < torch.finfo(torch.float32).tiny, 1.0, scales)
        whole = _rounded(blocks, scales, self.width).add_(1 << (self.width - 1)).to(torch.uint8)
        packed = whole[..., 0::2] | (whole[..., 1::2] << 4) if self.width == 4 else whole
        return {"_packed": packed.numpy(), "_scales": scales.numpy()}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        packed, scales = arrays["_packed"], arrays["_scales"]
        if self.width == 4:
            packed = np.stack((packed & 15, packed >> 4), axis=-1).reshape(*packed.shape[:2], -1)
        values = (packed.astype(np.float32) - (1 << (self.width - 1))) * scales[..., None]
        return np.ascontiguousarray(values.reshape(len(values), -1).T)

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        sizes = {"K": size[0], "N": size[1], "bits": self.width, "block_size": self.block}
        inputs = [x, stored["_packed"], stored["_scales"]]
        return [ir.node("MatMulNBits", inputs, {**sizes, "accuracy_level": 4}, domain=CONTRIB)]


_SHRINK = (0.92, 0.85)  # of the scale that holds a block's largest weight; a tighter one often costs less


class _Nodes:
    """Nodes in the order they were added."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []

    def add(self, kind: str, *inputs: ir.Value, domain: str = "", **attributes: Any) -> ir.Value:
        self.nodes.append(ir.node(kind, list(inputs), attributes, domain=domain))
        return self.nodes[-1].outputs[0]

    def constant(self, value: object, dtype: type[np.generic]) -> ir.Value:
        return self.add("Constant", value=ir.tensor(np.array(value, dtype)))

    def split(self, x: ir.Value, axis: int) -> tuple[ir.Value, ir.Value]:
        self.nodes.append(ir.node("Split", [x], {"axis": axis, "num_outputs": 2}, num_outputs=2))
        first, second = self.nodes[-1].outputs
        return first, second


def _turned(whole: Tensor) -> NDArray[np.int8]:
    """Whole numbers [out, in] as int8 [in, out]."""
    return np.asarray(whole.to(torch.int8).t().contiguous().numpy())


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


def to_half(weight: Tensor) -> Tensor:
    """A tensor in float16. Raises OverflowError for numbers beyond it."""
    half = weight.to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        raise OverflowError("holds a number beyond float16's largest, 65504")
    return half
