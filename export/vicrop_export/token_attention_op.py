"""Attention of one token over a KV cache that holds it already, forwards and backwards, as custom operators.

Definition in torch and translation to standard ONNX operators, which every target takes. Queries come in
rotated. Batch is 1; a query head reads the KV head of its group.
"""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import FLOAT, INT64
from onnxscript import opset18 as op
from torch import Tensor

from vicrop_export.operators import Translations, ints, number, sizes


@torch.library.custom_op("vicrop::token_attention", mutates_args=())
def token_attention(
    query: Tensor, past_key: Tensor, past_value: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The mixed values [1, heads·dim] of one token, and its attention after softmax [heads, total].

    query [1, heads·dim]; past_key and past_value [1, kv_heads, capacity, dim] of which `total` rows are in
    use, the token's own among them; bias [1, 1, 1, total], 0 where it may look and -inf elsewhere.
    """
    _, kv_heads, _, dim = past_key.shape
    total = bias.shape[3]
    scores = torch.matmul(
        query.reshape(1, kv_heads, -1, dim) * dim**-0.5, past_key[:, :, :total].transpose(2, 3)
    )
    weights = torch.softmax(scores + bias, dim=-1)
    mixed = torch.matmul(weights, past_value[:, :, :total])
    return mixed.reshape(1, -1), weights.reshape(-1, total).clone()


@token_attention.register_fake
def _(query: Tensor, past_key: Tensor, past_value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query), query.new_empty(query.shape[1] // past_key.shape[3], bias.shape[3])


@torch.library.custom_op("vicrop::token_attention_back", mutates_args=())
def token_attention_back(
    gradient: Tensor, query: Tensor, weights: Tensor, past_key: Tensor, past_value: Tensor, own_row: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """From the gradient [1, heads·dim] at the mixed values those at attention, query, own key and own value.

    At the attention [heads, total], at the query [1, heads·dim], at key and value [1, kv_heads·dim] of the
    token itself, which are in row `own_row` [1] of the cache. Other tokens' are constants.
    """
    _, kv_heads, _, dim = past_key.shape
    total = weights.shape[1]
    grouped, asked = (x.reshape(1, kv_heads, -1, dim) for x in (gradient, query))
    looked = weights.reshape(1, kv_heads, -1, total)
    at_weights = torch.matmul(grouped, past_value[:, :, :total].transpose(2, 3))
    at_scores = looked * (at_weights - (looked * at_weights).sum(-1, keepdim=True)) * dim**-0.5
    at_query = torch.matmul(at_scores, past_key[:, :, :total])
    at_key = (at_scores.index_select(3, own_row) * asked).sum(2)
    at_value = (looked.index_select(3, own_row) * grouped).sum(2)
    flat = at_query.reshape(1, -1), at_key.reshape(1, -1), at_value.reshape(1, -1)
    return at_weights.reshape(-1, total), *flat


@token_attention_back.register_fake
def _(
    gradient: Tensor, query: Tensor, weights: Tensor, past_key: Tensor, past_value: Tensor, own_row: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    own = query.new_empty(1, past_key.shape[1] * past_key.shape[3])
    return torch.empty_like(weights), torch.empty_like(query), own, torch.empty_like(own)


def translate_forwards(query: FLOAT, past_key: FLOAT, past_value: FLOAT, bias: FLOAT) -> tuple[FLOAT, FLOAT]:
    """The definition in ONNX; buffers are cut to the rows in use."""
    kv_heads, dim = sizes(past_key)[1], sizes(past_key)[3]
    total = op.Shape(bias, start=3, end=4)
    asked = _grouped(op.Mul(query, number(dim**-0.5)), kv_heads, dim)
    scores = op.MatMul(asked, op.Transpose(_used(past_key, total), perm=[0, 1, 3, 2]))
    weights = op.Softmax(op.Add(scores, bias), axis=-1)
    mixed = op.MatMul(weights, _used(past_value, total))
    return op.Reshape(mixed, ints(1, -1)), op.Reshape(weights, _rows(total))


def translate_backwards(
    gradient: FLOAT, query: FLOAT, weights: FLOAT, past_key: FLOAT, past_value: FLOAT, own_row: INT64
) -> tuple[FLOAT, FLOAT, FLOAT, FLOAT]:
    """The definition in ONNX."""
    kv_heads, dim = sizes(past_key)[1], sizes(past_key)[3]
    total = op.Shape(weights, start=1, end=2)
    grouped, asked = _grouped(gradient, kv_heads, dim), _grouped(query, kv_heads, dim)
    looked = op.Reshape(weights, op.Concat(ints(1, kv_heads, -1), total, axis=0))
    at_weights = op.MatMul(grouped, op.Transpose(_used(past_value, total), perm=[0, 1, 3, 2]))
    mean = op.ReduceSum(op.Mul(looked, at_weights), ints(-1), keepdims=1)
    at_scores = op.Mul(op.Mul(looked, op.Sub(at_weights, mean)), number(dim**-0.5))
    at_query = op.MatMul(at_scores, _used(past_key, total))
    at_key = op.ReduceSum(op.Mul(op.Gather(at_scores, own_row, axis=3), asked), ints(2), keepdims=0)
    at_value = op.ReduceSum(op.Mul(op.Gather(looked, own_row, axis=3), grouped), ints(2), keepdims=0)
    flat = (op.Reshape(x, ints(1, -1)) for x in (at_query, at_key, at_value))
    return op.Reshape(at_weights, _rows(total)), *flat


def _used(buffer: Any, total: Any) -> Any:
    return op.Slice(buffer, ints(0), total, ints(2))


def _grouped(x: Any, kv_heads: int, dim: int) -> Any:
    """[1, heads·dim] to [1, kv_heads, group, dim]."""
    return op.Reshape(x, ints(1, kv_heads, -1, dim))


def _rows(total: Any) -> Any:
    return op.Concat(ints(-1), total, axis=0)


TRANSLATIONS: Translations = {
    torch.ops.vicrop.token_attention.default: translate_forwards,
    torch.ops.vicrop.token_attention_back.default: translate_backwards,
}
