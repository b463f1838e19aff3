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

from vicrop_export.ops.small import Translations, ints, number, sizes


@torch.library.custom_op("vicrop::token_attention", mutates_args=())
def token_attention(
    query: Tensor, past_key: Tensor, past_value: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The mixed values [1, heads·dim] of one token, and its attention after softmax [heads, capacity].

    query [1, heads·dim]; past_key and past_value [1, kv_heads, capacity, dim], whole buffers of finite
    numbers, the token's own row among them; bias [1, 1, 1, capacity], 0 where it may look and -inf elsewhere.
    """
    _, kv_heads, capacity, dim = past_key.shape
    scores = torch.matmul(query.reshape(1, kv_heads, -1, dim) * dim**-0.5, past_key.transpose(2, 3))
    weights = torch.softmax(scores + bias, dim=-1)
    mixed = torch.matmul(weights, past_value)
    return mixed.reshape(1, -1), weights.reshape(-1, capacity).clone()


@token_attention.register_fake
def _(query: Tensor, past_key: Tensor, past_value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query), query.new_empty(query.shape[1] // past_key.shape[3], bias.shape[3])


@torch.library.custom_op("vicrop::token_attention_back", mutates_args=())
def token_attention_back(
    gradient: Tensor, query: Tensor, weights: Tensor, past_key: Tensor, past_value: Tensor, own_row: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """From the gradient [1, heads·dim] at the mixed values those at attention, query, own key and own value.

    At the attention [heads, capacity], at the query [1, heads·dim], at key and value [1, kv_heads·dim] of the
    token itself, which are in row `own_row` [1] of the cache. Other tokens' are constants.
    """
    _, kv_heads, capacity, dim = past_key.shape
    grouped, asked = (x.reshape(1, kv_heads, -1, dim) for x in (gradient, query))
    looked = weights.reshape(1, kv_heads, -1, capacity)
    at_weights = torch.matmul(grouped, past_value.transpose(2, 3))
    at_scores = looked * (at_weights - (looked * at_weights).sum(-1, keepdim=True)) * dim**-0.5
    at_query = torch.matmul(at_scores, past_key)
    at_key = (at_scores.index_select(3, own_row) * asked).sum(2)
    at_value = (looked.index_select(3, own_row) * grouped).sum(2)
    flat = at_query.reshape(1, -1), at_key.reshape(1, -1), at_value.reshape(1, -1)
    return at_weights.reshape(-1, capacity), *flat


@token_attention_back.register_fake
def _(
    gradient: Tensor, query: Tensor, weights: Tensor, past_key: Tensor, past_value: Tensor, own_row: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    own = query.new_empty(1, past_key.shape[1] * past_key.shape[3])
    return torch.empty_like(weights), torch.empty_like(query), own, torch.empty_like(own)


def translate_forwards(query: FLOAT, past_key: FLOAT, past_value: FLOAT, bias: FLOAT) -> tuple[FLOAT, FLOAT]:
    """The definition in ONNX."""
    kv_heads, dim = sizes(past_key)[1], sizes(past_key)[3]
    asked = _grouped(op.Mul(query, number(dim**-0.5)), kv_heads, dim)
    scores = _times_each_row(asked, past_key)
    weights = op.Softmax(op.Add(scores, bias), axis=-1)
    mixed = op.MatMul(weights, past_value)
    return op.Reshape(mixed, ints(1, -1)), op.Flatten(weights, axis=3)


def translate_backwards(
    gradient: FLOAT, query: FLOAT, weights: FLOAT, past_key: FLOAT, past_value: FLOAT, own_row: INT64
) -> tuple[FLOAT, FLOAT, FLOAT, FLOAT]:
    """The definition in ONNX."""
    kv_heads, dim = sizes(past_key)[1], sizes(past_key)[3]
    grouped, asked = _grouped(gradient, kv_heads, dim), _grouped(query, kv_heads, dim)
    looked = op.Reshape(weights, ints(1, kv_heads, sizes(weights)[0] // kv_heads, -1))
    at_weights = _times_each_row(grouped, past_value)
    mean = op.ReduceSum(op.Mul(looked, at_weights), ints(-1), keepdims=1)
    at_scores = op.Mul(op.Mul(looked, op.Sub(at_weights, mean)), number(dim**-0.5))
    at_query = op.MatMul(at_scores, past_key)
    at_key = op.ReduceSum(op.Mul(op.Gather(at_scores, own_row, axis=3), asked), ints(2), keepdims=0)
    at_value = op.ReduceSum(op.Mul(op.Gather(looked, own_row, axis=3), grouped), ints(2), keepdims=0)
    flat = (op.Reshape(x, ints(1, -1)) for x in (at_query, at_key, at_value))
    return op.Flatten(at_weights, axis=3), *flat


def _times_each_row(x: Any, buffer: Any) -> Any:
    """x [1, kv_heads, group, dim] times every row, [1, kv_heads, group, capacity]; copies no buffer."""
    products = op.MatMul(buffer, op.Transpose(x, perm=[0, 1, 3, 2]))
    return op.Transpose(products, perm=[0, 1, 3, 2])


def _grouped(x: Any, kv_heads: int, dim: int) -> Any:
    """[1, heads·dim] to [1, kv_heads, group, dim]."""
    return op.Reshape(x, ints(1, kv_heads, -1, dim))


TRANSLATIONS: Translations = {
    torch.ops.vicrop.token_attention.default: translate_forwards,
    torch.ops.vicrop.token_attention_back.default: translate_backwards,
}
