"""Decoder attention as one custom operator: its definition in torch, and its translation to ONNX operators.

One operator per layer keeps tracing short, and the translation says exactly which ONNX operators a target
gets. Rotary positions, the KV cache and the causal mask are inside. Batch is 1.
"""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import FLOAT, INT64
from onnxscript import opset18 as op
from torch import Tensor

from vicrop_export.operators import ints, number, sizes

Outputs = tuple[Tensor, Tensor, Tensor, Tensor]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in Llama's layout: dimension i is paired with i + head_dim / 2."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@torch.library.custom_op("vicrop::attention", mutates_args=())
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    cos: Tensor,
    sin: Tensor,
    bias: Tensor,
    tap_positions: Tensor,
    last_only: bool,
) -> Outputs:
    """Grouped-query attention over past and new tokens, and the attention rows of some of them.

    query [1, seq, heads·dim], key and value [1, seq, kv_heads·dim], past_key and past_value
    [1, kv_heads, past, dim], cos and sin [1, 1, seq, dim/2], bias [seq, total], tap_positions [rows].
    Gives the mixed values [1, seq, heads·dim] (with `last_only` [1, 1, heads·dim], of the last token),
    attention after softmax [rows, heads, total], and keys and values [1, kv_heads, total, dim].
    """
    kv_heads, dim = past_key.shape[1], past_key.shape[3]
    query, key, value = (x.reshape(1, x.shape[1], -1, dim).transpose(1, 2) for x in (query, key, value))
    key = torch.cat((past_key, rotate(key, cos, sin)), dim=2)
    value = torch.cat((past_value, value), dim=2)
    grouped = (rotate(query, cos, sin) * dim**-0.5).reshape(1, kv_heads, -1, query.shape[2], dim)
    transposed = key.unsqueeze(2).transpose(-1, -2)
    tapped = torch.matmul(grouped.index_select(3, tap_positions), transposed)
    rows = torch.softmax(tapped + bias.index_select(0, tap_positions), dim=-1)
    if last_only:
        grouped, bias = grouped[:, :, :, -1:], bias[-1:]
    weights = torch.softmax(torch.matmul(grouped, transposed) + bias, dim=-1)
    mixed = torch.matmul(weights, value.unsqueeze(2)).flatten(1, 2).transpose(1, 2).flatten(2)
    return mixed, rows.flatten(1, 2)[0].transpose(0, 1).contiguous(), key, value


@attention.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    cos: Tensor,
    sin: Tensor,
    bias: Tensor,
    tap_positions: Tensor,
    last_only: bool,
) -> Outputs:
    _, kv_heads, _, dim = past_key.shape
    total = bias.shape[1]
    mixed = query.new_empty(1, 1 if last_only else query.shape[1], query.shape[2])
    rows = query.new_empty(tap_positions.shape[0], query.shape[2] // dim, total)
    present = query.new_empty(1, kv_heads, total, dim)
    return mixed, rows, present, torch.empty_like(present)


def standard_attention(
    query: FLOAT,
    key: FLOAT,
    value: FLOAT,
    past_key: FLOAT,
    past_value: FLOAT,
    cos: FLOAT,
    sin: FLOAT,
    bias: FLOAT,
    tap_positions: INT64,
    last_only: bool,
) -> tuple[FLOAT, FLOAT, FLOAT, FLOAT]:
    """The operator in plain opset 18, which every execution provider and TensorRT take.

    Reshapes use 0 (keep) and -1 so that no rows and no past are lengths like any other.
    """
    kv_heads, dim = sizes(past_key)[1], sizes(past_key)[3]
    heads = sizes(query)[2] // dim
    query = op.Mul(_rotate(_split(query, dim), cos, sin), number(dim**-0.5))
    key = op.Concat(past_key, _rotate(_split(key, dim), cos, sin), axis=2)
    value = op.Concat(past_value, _split(value, dim), axis=2)
    tapped = op.Gather(query, tap_positions, axis=2)
    rows = _weights(tapped, key, op.Gather(bias, tap_positions, axis=0), heads, kv_heads)
    rows = op.Transpose(op.Squeeze(rows, ints(0)), perm=[1, 0, 2])
    if last_only:
        query, bias = _last(query, axis=2), _last(bias, axis=0)
    weights = _weights(query, key, bias, heads, kv_heads)
    mixed = _fold(op.MatMul(_fold(weights, heads, kv_heads), value), kv_heads, heads)
    mixed = op.Reshape(op.Transpose(mixed, perm=[0, 2, 1, 3]), ints(0, 0, -1))
    return mixed, rows, key, value


def _weights(query: Any, key: Any, bias: Any, heads: int, kv_heads: int) -> Any:
    scores = op.MatMul(_fold(query, heads, kv_heads), op.Transpose(key, perm=[0, 1, 3, 2]))
    return op.Softmax(op.Add(_fold(scores, kv_heads, heads), bias), axis=-1)


def _fold(x: Any, have: int, want: int) -> Any:
    """[1, have, n, m] to [1, want, n·have / want, m]: query groups into rows of their KV head, or back."""
    return x if have == want else op.Reshape(x, ints(0, want, -1, 0))


def _split(x: Any, dim: int) -> Any:
    return op.Transpose(op.Reshape(x, ints(0, 0, -1, dim)), perm=[0, 2, 1, 3])


def _rotate(x: Any, cos: Any, sin: Any) -> Any:
    first, second = op.Split(x, axis=-1, num_outputs=2)
    turned = op.Sub(op.Mul(first, cos), op.Mul(second, sin))
    return op.Concat(turned, op.Add(op.Mul(second, cos), op.Mul(first, sin)), axis=-1)


def _last(x: Any, axis: int) -> Any:
    return op.Slice(x, ints(-1), ints(2**31 - 1), ints(axis))


TRANSLATIONS = {torch.ops.vicrop.attention.default: standard_attention}
