"""How the weight of a projection is stored and multiplied with: one class per way.

Each turns a float weight [out, in] into the arrays of the file, and a product in the graph into the nodes
that use them. Which weight gets which is decided in `rules.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicrop_engine.arrays import Floats
from vicrop_export.ops.node_list import NodeList
from vicrop_export.precision.byte_products import (
    CONTRIB,
    ONE_BYTE,
    TWO_BYTES,
    Arrays,
    Exact,
    Range,
    Values,
    byte_products,
    exact_product,
    rounded_to_bytes,
)


class Widened(NamedTuple):
    """A weight as float32 [in, out], or `turned` [out, in]."""

    value: ir.Value
    turned: bool = False


class Layout(Protocol):
    """One way to store a weight."""

    @property
    def bits(self) -> float:
        """Bits one weight takes in the file, scales included."""

    @property
    def stacks(self) -> bool:
        """Whether all arrays have the outputs first, so that weights of one input lie one after the other."""

    def encode(self, weight: Tensor) -> Arrays:
        """The arrays of a weight [out, in] by the ending of their names; `""` is the weight itself.

        Raises OverflowError for numbers the layout cannot hold.
        """

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        """The weight [in, out] that these arrays stand for."""

    def plain(self, x: Floats, arrays: Arrays) -> Exact:
        """`x` [n, in] times the stored weight, rounded as `nodes` do and multiplied in plain arithmetic."""

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        """Nodes for `x` [..., in] times the stored weight of `size` (in, out); the last gives the product."""

    def row_nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        """The same for one token, `x` [1, in], of a runtime that packs no weights."""

    def column_nodes(self, column: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        """Nodes for the weight [in, out] times `column` [out, 1], the way back; from the same bytes."""

    def floats(self, made: NodeList, stored: Values, size: tuple[int, int]) -> Widened:
        """The weight as float32, of what is stored alone: a runtime may make it when it opens a graph."""

    def bulk(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The shapes of the arrays that the weight's bytes are in, by the ending of their names."""


@dataclass(frozen=True)
class Whole:
    """float32 [in, out], multiplied as it is."""

    bits: float = 32
    stacks: ClassVar[bool] = False

    def encode(self, weight: Tensor) -> Arrays:
        return {"": weight.to(torch.float32).t().contiguous().numpy()}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        return np.asarray(arrays[""], np.float32)

    def plain(self, x: Floats, arrays: Arrays) -> Exact:
        return exact_product(x, self.decode(arrays))

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        return [ir.node("MatMul", [x, stored[""]])]

    row_nodes = nodes

    def column_nodes(self, column: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        return [ir.node("MatMul", [stored[""], column])]

    def floats(self, made: NodeList, stored: Values, size: tuple[int, int]) -> Widened:
        return Widened(stored[""])

    def bulk(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {}  # a float already: nothing is made of it


@dataclass(frozen=True)
class Half:
    """float16 [in, out], widened to float32 before the product unless tokens are `half` as well."""

    bits: float = 16
    half: bool = False
    stacks: ClassVar[bool] = False

    def encode(self, weight: Tensor) -> Arrays:
        return {"": to_half(weight).t().contiguous().numpy()}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        return np.asarray(arrays[""], np.float32)

    def plain(self, x: Floats, arrays: Arrays) -> Exact:
        return exact_product(x.astype(np.float16 if self.half else np.float32), self.decode(arrays))

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        if self.half:
            return [ir.node("MatMul", [x, stored[""]])]
        widened = ir.node("Cast", [stored[""]], {"to": ir.DataType.FLOAT.value})
        return [widened, ir.node("MatMul", [x, widened.outputs[0]])]

    row_nodes = nodes

    def column_nodes(self, column: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        widened = ir.node("Cast", [stored[""]], {"to": ir.DataType.FLOAT.value})
        return [widened, ir.node("MatMul", [widened.outputs[0], column])]

    def floats(self, made: NodeList, stored: Values, size: tuple[int, int]) -> Widened:
        return Widened(made.add("Cast", stored[""], to=ir.DataType.FLOAT.value))

    def bulk(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {"": size}


@dataclass(frozen=True)
class Bytes:
    """int8 [in, out] with a scale per output; tokens become bytes as they come, each by its largest number.

    The products are of whole numbers: unsigned tokens around a middle times signed weights. Tokens, and
    weights too, may have a second byte for what the first one rounds away, in steps that half a step of it
    fills.
    """

    fine_tokens: bool = False
    fine_weights: bool = False
    stacks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.fine_weights and not self.fine_tokens:
            raise ValueError("weights of two bytes are for tokens of two bytes; ask for fine_tokens as well")

    @property
    def bits(self) -> float:
        return 16 if self.fine_weights else 8

    @property
    def range(self) -> Range:
        """The whole numbers of the first bytes."""
        return TWO_BYTES if self.fine_tokens else ONE_BYTE

    def encode(self, weight: Tensor) -> Arrays:
        weight = weight.to(torch.float32)
        scales = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / self.range.weight
        steps = weight / scales.unsqueeze(1)
        whole = steps.round()
        arrays = {"": _turned(whole), "_scales": scales.numpy()}
        if self.fine_weights:
            arrays["_rest"] = _turned(((steps - whole) * self._finer).round())
        return arrays

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        steps = arrays[""].astype(np.float32)
        if self.fine_weights:
            steps += arrays["_rest"] / np.float32(self._finer)
        return np.asarray(steps * arrays["_scales"], np.float32)

    def plain(self, x: Floats, arrays: Arrays) -> Exact:
        whole, rest = rounded_to_bytes(x, self.range)
        scales = arrays["_scales"].astype(np.float64)
        tokens = whole + rest if self.fine_tokens else whole
        product = exact_product(tokens, arrays[""] * scales)
        if self.fine_weights:
            product += exact_product(whole, arrays["_rest"] / self._finer * scales)
        return product

    def nodes(self, x: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        made = NodeList()
        byte_products(
            made, x, stored, self.range, fine_tokens=self.fine_tokens, fine_weights=self.fine_weights
        )
        return made.nodes

    row_nodes = nodes

    def column_nodes(self, column: ir.Value, stored: Values, size: tuple[int, int]) -> list[ir.Node]:
        made = NodeList()
        scales = made.add("Unsqueeze", stored["_scales"], made.constant([1], np.int64))
        column = made.add("Mul", column, scales)
        whole = made.add("MatMul", made.floats(stored[""]), column)
        if self.fine_weights:
            made.add("Add", whole, made.add("MatMul", made.floats(stored["_rest"], 1 / self._finer), column))
        return made.nodes

    def floats(self, made: NodeList, stored: Values, size: tuple[int, int]) -> Widened:
        whole = made.add("Cast", stored[""], to=ir.DataType.FLOAT.value)
        if self.fine_weights:
            rest = made.add("Cast", stored["_rest"], to=ir.DataType.FLOAT.value)
            rest = made.add("Mul", rest, made.constant(1 / self._finer, np.float32))
            whole = made.add("Add", whole, rest)
        return Widened(made.add("Mul", whole, stored["_scales"]))

    def bulk(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        return {"": size, "_rest": size} if self.fine_weights else {"": size}

    @property
    def _finer(self) -> int:
        """Steps of a weight's second byte in one of its first."""
        return 2 * self.range.weight


def float_nodes(
    layout: Layout, x: ir.Value, stored: Values, size: tuple[int, int], *, back: bool
) -> list[ir.Node]:
    """Nodes for `x` [..., in] times the weight, or with `back` [..., out] times the weight transposed.

    Tokens are not rounded, and the weight is that which is stored, as a float, made when `x` is there: one
    weight at a time is as wide as that.
    """
    made = NodeList()
    late = {ending: once_there(made, x, stored[ending], shape) for ending, shape in layout.bulk(size).items()}
    weight = layout.floats(made, {**stored, **late}, size)
    made.add("FusedMatMul", x, weight.value, domain=CONTRIB, transB=int(weight.turned != back))
    return made.nodes


def once_there(made: NodeList, x: ir.Value, stored: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    """The stored array of `shape`, not to be had before `x`, so that a runtime widens nothing ahead."""
    nothing = made.add("Mul", made.add("Shape", x, start=-1), made.constant([0], np.int64))
    return made.add("Reshape", stored, made.add("Add", nothing, made.constant(shape, np.int64)))


def _turned(whole: Tensor) -> NDArray[np.int8]:
    """Whole numbers [out, in] as int8 [in, out]."""
    return np.asarray(whole.to(torch.int8).t().contiguous().numpy())


def to_half(weight: Tensor) -> Tensor:
    """A tensor in float16. Raises OverflowError for numbers beyond it."""
    half = weight.to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        raise OverflowError("holds a number beyond float16's largest, 65504")
    return half
