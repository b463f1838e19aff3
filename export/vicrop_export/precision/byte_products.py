"""Products of whole numbers of a byte: their range, a graph's nodes, and the same done plainly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from vicrop_engine.arrays import Floats
from vicrop_export.ops.node_list import NodeList

CONTRIB = "com.microsoft"
Arrays = dict[str, NDArray[Any]]
Exact = NDArray[np.float64]
Values = Mapping[str, ir.Value]


@dataclass(frozen=True)
class Range:
    """The largest whole numbers that tokens and weights become, whose sums are exact on every processor.

    On x86 without VNNI ONNX Runtime adds two products u8·s8 in 16 bits. Tokens are unsigned around `middle`,
    so that two products are at most 2 · (2 · token + 1) · weight, which has to stay below 32,768.
    """

    token: int
    weight: int

    @property
    def middle(self) -> int:
        """What a token of zero becomes."""
        return self.token + 1


ONE_BYTE = Range(token=127, weight=63)  # what rounds a token to one byte loses most: that has all of its bits
TWO_BYTES = Range(token=63, weight=127)


def rounded_to_bytes(x: Floats, largest: Range) -> tuple[Exact, Exact]:
    """Tokens [n, in] as one byte each by the token's largest number, and what a second byte adds to that."""
    scale = np.maximum(np.abs(x).max(-1, keepdims=True) * np.float32(1 / largest.token), np.float32(1e-30))
    steps, finer = x / scale, 2 * largest.token
    rest = np.round((steps - np.round(steps)) / np.float32(1 / finer)).astype(np.float64) / finer
    return np.round(steps).astype(np.float64) * scale, rest * scale


def exact_product(x: NDArray[np.floating], weight: NDArray[np.floating]) -> Exact:
    """x [n, in] times weight [in, out], or [in and more, out], in float64."""
    return np.asarray(x.astype(np.float64) @ weight[: x.shape[-1]].astype(np.float64))


def byte_products(
    made: NodeList,
    x: ir.Value,
    stored: Values,
    largest: Range,
    *,
    fine_tokens: bool = False,
    fine_weights: bool = False,
) -> None:
    """Add the nodes of `x` [..., in] times the bytes `stored`, [in, out] under "" and perhaps "_rest".

    What `_scales` [out] say is a step of the outputs' weights.
    """
    one, middle = made.constant(1, np.float32), made.constant(largest.middle, np.uint8)

    def products(tokens: ir.Value, weight: str, unit: ir.Value = one) -> ir.Value:
        inputs = (tokens, stored[weight], unit, stored["_scales"], middle)
        return made.add("MatMulIntegerToFloat", *inputs, domain=CONTRIB)

    furthest = made.add("ReduceMax", made.add("Abs", x), made.constant([-1], np.int64), keepdims=1)
    scale = made.add("Mul", furthest, made.constant(1 / largest.token, np.float32))
    scale = made.add("Max", scale, made.constant(1e-30, np.float32))
    steps = made.add("Div", x, scale)
    whole = made.add("QuantizeLinear", steps, one, middle)
    if not fine_tokens:
        made.add("Mul", products(whole, ""), scale)
        return
    finer = made.constant(1 / (2 * largest.token), np.float32)
    rest = made.add("Sub", steps, made.add("Round", steps))
    rest = made.add("QuantizeLinear", rest, finer, middle)
    total, rest = made.split(products(made.add("Concat", whole, rest, axis=-2), ""), axis=-2)
    if fine_weights:
        in_token_steps = made.constant(largest.token / largest.weight, np.float32)
        rest = made.add("Add", rest, products(whole, "_rest", in_token_steps))
    made.add("Mul", made.add("Add", total, made.add("Mul", rest, finer)), scale)
