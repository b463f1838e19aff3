"""The small custom operators the graphs are made of: definition in torch, shape, translation to ONNX.

One operator where torch would trace ten keeps exporting short, and each is one place to change when a target
has something better. Attention of the decoder has a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import FLOAT
from onnxscript import opset18 as op
from torch import Tensor

from vicrop_export.ops import contrib as contrib_ops

Translations = dict[Callable[..., Any], Callable[..., Any]]


@torch.library.custom_op("vicrop::project", mutates_args=())
def project(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., in] times weight [in, out]."""
    return torch.matmul(x, weight)


@project.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[1])


@torch.library.custom_op("vicrop::rms_norm", mutates_args=())
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x divided by its root mean square over the last axis, times weight."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


@rms_norm.register_fake
def _(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("vicrop::project_back", mutates_args=())
def project_back(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient at x of x·W: gradient [1, out] times weight [in, out] transposed, [1, in]."""
    return torch.matmul(gradient, weight.t())


@project_back.register_fake
def _(gradient: Tensor, weight: Tensor) -> Tensor:
    return gradient.new_empty(1, weight.shape[0])


@torch.library.custom_op("vicrop::rms_norm_back", mutates_args=())
def rms_norm_back(gradient: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The gradient at x of `rms_norm`, from the one at its result."""
    scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    weighted = gradient * weight
    return scale * weighted - scale.pow(3) * (x * weighted).mean(-1, keepdim=True) * x


@rms_norm_back.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return torch.empty_like(gradient)


@torch.library.custom_op("vicrop::full_attention", mutates_args=())
def full_attention(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Attention among all tokens of each picture: [images, tokens, hidden] three times to the same."""
    size = (*query.shape[:2], num_heads, -1)
    query, key, value = (x.reshape(size).transpose(1, 2) for x in (query, key, value))
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
    mixed = torch.matmul(torch.softmax(scores, dim=-1), value)
    return mixed.transpose(1, 2).flatten(2)


@full_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    return torch.empty_like(query)


def onnx_project(x: FLOAT, weight: FLOAT) -> FLOAT:
    """MatMul as it is."""
    projected: FLOAT = op.MatMul(x, weight)
    return projected


def onnx_rms_norm(x: FLOAT, weight: FLOAT, eps: float) -> FLOAT:
    """Opset 18 has no such operator: the formula, as ONNX Runtime knows to fuse it (it wants Pow)."""
    mean_square = op.ReduceMean(op.Pow(x, number(2.0)), ints(-1), keepdims=1)
    normed: FLOAT = op.Mul(op.Div(x, op.Sqrt(op.Add(mean_square, number(eps)))), weight)
    return normed


def onnx_project_back(gradient: FLOAT, weight: FLOAT) -> FLOAT:
    """The stored weight on the left of a column: there ONNX Runtime neither packs nor transposes it."""
    column = op.MatMul(weight, op.Reshape(gradient, ints(-1, 1)))
    row: FLOAT = op.Reshape(column, ints(1, -1))
    return row


def onnx_rms_norm_back(gradient: FLOAT, x: FLOAT, weight: FLOAT, eps: float) -> FLOAT:
    """The formula as it is."""
    mean_square = op.Add(op.ReduceMean(op.Mul(x, x), ints(-1), keepdims=1), number(eps))
    weighted = op.Mul(gradient, weight)
    along = op.Div(op.ReduceMean(op.Mul(x, weighted), ints(-1), keepdims=1), mean_square)
    back: FLOAT = op.Div(op.Sub(weighted, op.Mul(along, x)), op.Sqrt(mean_square))
    return back


def onnx_full_attention(query: FLOAT, key: FLOAT, value: FLOAT, num_heads: int) -> FLOAT:
    """Explicit scores, softmax and mixing; [tokens, tokens] stays inside."""
    head_dim = sizes(query)[2] // num_heads
    scale = op.CastLike(number(head_dim**-0.5), query)
    query = op.Transpose(op.Mul(_split(query, head_dim), scale), perm=[0, 2, 1, 3])
    key = op.Transpose(_split(key, head_dim), perm=[0, 2, 3, 1])
    value = op.Transpose(_split(value, head_dim), perm=[0, 2, 1, 3])
    mixed = op.MatMul(op.Softmax(op.MatMul(query, key), axis=-1), value)
    return op.Reshape(op.Transpose(mixed, perm=[0, 2, 1, 3]), ints(0, 0, -1))


def fused_full_attention(query: FLOAT, key: FLOAT, value: FLOAT, num_heads: int) -> FLOAT:
    """ONNX Runtime's fused operator; no [tokens, tokens] is written to memory."""
    mixed: FLOAT = contrib_ops.multi_head_attention(query, key, value, num_heads=num_heads)
    return mixed


def _split(x: Any, head_dim: int) -> Any:
    return op.Reshape(x, ints(0, 0, -1, head_dim))


def sizes(x: Any) -> Any:
    """A traced value's shape; its fixed sizes are numbers."""
    return x.shape


def ints(*values: int) -> Any:
    """An int64 constant [n]."""
    return op.Constant(value_ints=list(values))


def number(value: float) -> Any:
    """A float32 constant."""
    return op.Constant(value_float=value)


FULL_ATTENTION: Callable[..., Any] = torch.ops.vicrop.full_attention.default
TRANSLATIONS: Translations = {
    torch.ops.vicrop.project.default: onnx_project,
    torch.ops.vicrop.rms_norm.default: onnx_rms_norm,
    torch.ops.vicrop.project_back.default: onnx_project_back,
    torch.ops.vicrop.rms_norm_back.default: onnx_rms_norm_back,
    FULL_ATTENTION: onnx_full_attention,
}
