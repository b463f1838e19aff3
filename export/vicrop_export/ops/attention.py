"""Decoder attention as one custom operator: its definition in torch, and its translations to ONNX operators.

One operator per layer keeps tracing short, and a translation says exactly which ONNX operators a target gets:
ONNX Runtime's fused ones, which write the KV buffers in place, or standard ones, which give the new tokens'
keys and values back. Rotary positions, the KV cache and the attention rows are inside. All tokens lie along
one axis, whatever they belong to: products of weights take them together. In place they may be the next
tokens of several sequences, one of each, whose buffers lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from onnxscript import FLOAT, INT64
from onnxscript import opset18 as op
from torch import Tensor

from vicrop_export.ops import contrib as contrib_ops
from vicrop_export.ops.small import Translations, ints, number, sizes

Outputs = tuple[Tensor, Tensor, Tensor, Tensor]
Values = Sequence[Any]
FLOAT32, INT32 = 1, 6  # ONNX's numbers of the types
HEAD_DIM_MULTIPLE = 8  # what ONNX Runtime's GroupQueryAttention asks of head_dim


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
    in_place: bool,
) -> Outputs:
    """Grouped-query attention over past and new tokens, and the attention rows of some of them.

    query [1, seq, heads·dim], key and value [1, seq, kv_heads·dim], cos and sin [1, 1, seq, dim/2], bias
    [1, 1, seq, total], 0 where a new token may look and -inf elsewhere, causality included. past_key and
    past_value are buffers [1, kv_heads, capacity, dim] of which total − seq rows are in use, or, without
    `in_place`, just those rows, token by token: [1, past, kv_heads, dim], float32 or float16, in which then
    all products are. Buffers [batch, …] in place are those of as many sequences with seq / batch new tokens
    each and a bias [batch, 1, seq / batch, total], each with as many rows as its last token sees; then
    nothing is tapped. Gives mixed values [1, seq, heads·dim], attention after softmax [rows, heads, total],
    and keys and values: the buffers with the new rows written, or the new tokens' [1, seq, kv_heads, dim].
    """
    if not in_place:
        buffers = (past.to(query.dtype).transpose(1, 2) for past in (past_key, past_value))
        mixed, rows, *grown = attention(
            query, key, value, *buffers, cos, sin, bias, tap_positions, in_place=True
        )
        num_new = query.shape[1]
        new_key, new_value = (x[:, :, -num_new:].transpose(1, 2).to(past_key.dtype) for x in grown)
        return mixed, rows, new_key.contiguous(), new_value.contiguous()
    if past_key.shape[0] > 1:
        return _side_by_side(query, key, value, past_key, past_value, cos, sin, bias, tap_positions)
    return _in_place(query, key, value, past_key, past_value, cos, sin, bias, tap_positions)


def _in_place(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    cos: Tensor,
    sin: Tensor,
    bias: Tensor,
    tap_positions: Tensor,
) -> Outputs:
    """Of one sequence on its buffers."""
    kv_heads, dim = past_key.shape[1], past_key.shape[3]
    total = bias.shape[3]
    query, key, value = (x.reshape(1, x.shape[1], -1, dim).transpose(1, 2) for x in (query, key, value))
    num_past = total - query.shape[2]
    key = torch.cat((past_key[:, :, :num_past], rotate(key, cos, sin)), dim=2)
    value = torch.cat((past_value[:, :, :num_past], value), dim=2)
    grouped = (rotate(query, cos, sin) * dim**-0.5).reshape(1, kv_heads, -1, query.shape[2], dim)
    weights = torch.softmax(
        torch.matmul(grouped, key.unsqueeze(2).transpose(-1, -2)) + bias.unsqueeze(2), dim=-1
    )
    mixed = torch.matmul(weights, value.unsqueeze(2)).flatten(1, 2).transpose(1, 2).flatten(2)
    rows = weights.index_select(3, tap_positions).flatten(1, 2)[0].transpose(0, 1).contiguous()
    key = torch.cat((key, past_key[:, :, total:]), dim=2)
    value = torch.cat((value, past_value[:, :, total:]), dim=2)
    return mixed, rows, key, value


def _side_by_side(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    cos: Tensor,
    sin: Tensor,
    bias: Tensor,
    tap_positions: Tensor,
) -> Outputs:
    """`attention` of several sequences: each by itself, on as many rows as its last token sees."""
    batch = past_key.shape[0]
    tokens = [x.chunk(batch, dim=1) for x in (query, key, value)]
    rotation = [x.chunk(batch, dim=2) for x in (cos, sin)]
    parts = []
    for index in range(batch):
        total = int(bias[index, 0, -1].eq(0).nonzero().max()) + 1
        own = slice(index, index + 1)
        operands = [part[index] for part in (*tokens, *rotation)]
        past = past_key[own], past_value[own]
        parts.append(
            attention(
                *operands[:3], *past, *operands[3:], bias[own, ..., :total], tap_positions, in_place=True
            )
        )
    mixed, _, keys, values = zip(*parts, strict=True)
    rows = query.new_zeros(0, query.shape[2] // past_key.shape[3], bias.shape[3])
    return torch.cat(mixed, dim=1), rows, torch.cat(keys), torch.cat(values)


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
    in_place: bool,
) -> Outputs:
    dim, total = past_key.shape[3], bias.shape[3]
    rows = query.new_empty(tap_positions.shape[0], query.shape[2] // dim, total)
    new = past_key.new_empty(1, query.shape[1], past_key.shape[2], dim)
    present = torch.empty_like(past_key) if in_place else new
    return torch.empty_like(query), rows, present, torch.empty_like(present)


def translate_attention(
    query: FLOAT,
    key: FLOAT,
    value: FLOAT,
    past_key: FLOAT,
    past_value: FLOAT,
    cos: FLOAT,
    sin: FLOAT,
    bias: FLOAT,
    tap_positions: INT64,
    in_place: bool,
) -> tuple[FLOAT, FLOAT, FLOAT, FLOAT]:
    """The operator in the flavour its module was made for."""
    flavour = in_place_attention if in_place else standard_attention
    return flavour((query, key, value), (past_key, past_value), (cos, sin), bias, tap_positions)


def in_place_attention(
    projected: Values, past: Values, rotation: Values, bias: Any, tap_positions: Any
) -> tuple[Any, Any, Any, Any]:
    """ONNX Runtime's fused operators: with past and present bound to one buffer no KV is ever copied.

    Rotation stands on its own because GroupQueryAttention ignores `position_ids` while the past is empty.
    Sequences side by side are told apart for GroupQueryAttention alone.
    """
    query, key, value = projected
    kv_heads, dim = sizes(past[0])[1], sizes(past[0])[3]
    heads = sizes(query)[2] // dim
    table = [op.Squeeze(half, ints(0, 1)) for half in rotation]
    query = contrib_ops.rotary_embedding(query, ints(0), *table, num_heads=heads)
    key = contrib_ops.rotary_embedding(key, ints(0), *table, num_heads=kv_heads)
    projected, counts = (query, key, value), (heads, kv_heads, kv_heads)
    total = op.Shape(bias, start=3, end=4)
    mixed, present_key, present_value = contrib_ops.group_query_attention(
        *(_by_sequence(x, past[0], count * dim) for x, count in zip(projected, counts, strict=True)),
        *(*past, _last_rows(bias), op.Cast(total, to=INT32), None, None, None, bias),
        num_heads=heads,
        kv_num_heads=kv_heads,
    )
    mixed = op.Reshape(mixed, ints(1, -1, heads * dim))
    seen = op.Gather(bias, tap_positions, axis=2)
    rows = tapped_rows(query, present_key, seen, total, tap_positions, (heads, kv_heads, dim))
    return mixed, rows, present_key, present_value


def tapped_rows(
    query: Any, keys: Any, bias: Any, total: Any, tap_positions: Any, shape: tuple[int, int, int]
) -> Any:
    """Attention [rows, heads, total] of the queries at `tap_positions` over the part of a buffer in use.

    `keys` is the whole buffer, `bias` [1, 1, rows, total] the rows' own, `shape` heads, KV heads and their
    size. The product goes over the whole buffer, and the part in use is kept, so that no key is copied.
    """
    heads, kv_heads, dim = shape
    tapped = op.Reshape(op.Gather(query, tap_positions, axis=1), ints(0, 0, heads, dim))
    tapped = fold(op.Transpose(tapped, perm=[0, 2, 1, 3]), heads, kv_heads)
    scores: Any = contrib_ops.fused_matmul(tapped, keys, transB=1, alpha=dim**-0.5)
    scores = fold(op.Slice(scores, ints(0), total, ints(3)), kv_heads, heads)
    return _by_row(op.Softmax(op.Add(scores, bias), axis=-1))


def _by_sequence(x: Any, buffer: Any, width: int) -> Any:
    """[1, seq, width] to [batch, seq / batch, width], of as many sequences as the buffer has."""
    return op.Reshape(x, op.Concat(op.Shape(buffer, start=0, end=1), ints(-1, width), axis=0))


def _last_rows(bias: Any) -> Any:
    """The row of the last new token of each sequence, int32 [batch]: the last one that it sees, itself."""
    last = op.Gather(bias, ints(-1), axis=2)
    seen: Any = op.Cast(op.Equal(last, number(0.0)), to=INT32)
    return op.Cast(op.Squeeze(op.ArgMax(seen, axis=3, keepdims=0, select_last_index=1), ints(1, 2)), to=INT32)


def standard_attention(
    projected: Values, past: Values, rotation: Values, bias: Any, tap_positions: Any
) -> tuple[Any, Any, Any, Any]:
    """Plain opset 18, which every execution provider and TensorRT take; the new tokens' KV comes back alone.

    Token by token the past is one piece of memory, and what comes back the piece after it. Reshapes use 0
    (keep) and -1 so that no rows and no past are lengths like any other. The rows' softmax is in float32.
    """
    kind = past[0].dtype
    kv_heads, dim = sizes(past[0])[2:]
    heads = sizes(projected[0])[2] // dim
    query, key, value = (op.Reshape(x, ints(0, 0, -1, dim)) for x in projected)
    rotation = [op.Transpose(half, perm=[0, 2, 1, 3]) for half in rotation]
    query = op.Transpose(op.Mul(onnx_rotate(query, *rotation), number(dim**-0.5)), perm=[0, 2, 1, 3])
    new_key, new_value = as_kind(onnx_rotate(key, *rotation), kind), as_kind(value, kind)
    key, value = (
        op.Transpose(op.Concat(rows, new, axis=1), perm=[0, 2, 1, 3])
        for rows, new in zip(past, (new_key, new_value), strict=True)
    )
    query = as_kind(query, kind)
    tapped = scores_of(op.Gather(query, tap_positions, axis=2), key, heads, kv_heads)
    tapped = op.Add(as_kind(tapped, FLOAT32, kind), op.Gather(bias, tap_positions, axis=2))
    weights = op.Softmax(op.Add(scores_of(query, key, heads, kv_heads), as_kind(bias, kind)), axis=-1)
    mixed = fold(op.MatMul(fold(weights, heads, kv_heads), value), kv_heads, heads)
    mixed = op.Reshape(op.Transpose(mixed, perm=[0, 2, 1, 3]), ints(0, 0, -1))
    return as_kind(mixed, FLOAT32, kind), _by_row(op.Softmax(tapped, axis=-1)), new_key, new_value


def as_kind(x: Any, kind: Any, from_kind: Any = FLOAT32) -> Any:
    """`x` of one type of numbers as another; as it is where they are the same."""
    return x if kind == from_kind else op.Cast(x, to=kind)


def weights_of(query: Any, key: Any, bias: Any, heads: int, kv_heads: int) -> Any:
    """Attention after softmax [1, heads, queries, keys] of scaled queries; `bias` may be None."""
    scores = scores_of(query, key, heads, kv_heads)
    return op.Softmax(scores if bias is None else op.Add(scores, bias), axis=-1)


def scores_of(query: Any, key: Any, heads: int, kv_heads: int) -> Any:
    """Scaled queries times keys, [1, heads, queries, keys]."""
    scores = op.MatMul(fold(query, heads, kv_heads), op.Transpose(key, perm=[0, 1, 3, 2]))
    return fold(scores, kv_heads, heads)


def _by_row(rows: Any) -> Any:
    """[1, heads, rows, total] to [rows, heads, total]."""
    return op.Transpose(op.Squeeze(rows, ints(0)), perm=[1, 0, 2])


def fold(x: Any, have: int, want: int) -> Any:
    """[b, have, n, m] to [b, want, n·have / want, m]: query groups into rows of their KV head, or back."""
    return x if have == want else op.Reshape(x, ints(0, want, -1, 0))


def split_heads(x: Any, dim: int) -> Any:
    """[b, tokens, heads·dim] to [b, heads, tokens, dim]."""
    return op.Transpose(op.Reshape(x, ints(0, 0, -1, dim)), perm=[0, 2, 1, 3])


def onnx_rotate(x: Any, cos: Any, sin: Any) -> Any:
    """`rotate` in ONNX operators."""
    first, second = op.Split(x, axis=-1, num_outputs=2)
    turned = op.Sub(op.Mul(first, cos), op.Mul(second, sin))
    return op.Concat(turned, op.Add(op.Mul(second, cos), op.Mul(first, sin)), axis=-1)


TRANSLATIONS: Translations = {torch.ops.vicrop.attention.default: translate_attention}
