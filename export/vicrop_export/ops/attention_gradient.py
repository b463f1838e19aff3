"""The gradient of attention as one custom operator: its definition in torch and its translation to ONNX.

One operator serves the decoder (rotary positions, grouped queries, a bias) and the vision tower (neither).
The weights of attention are computed again, one layer at a time, instead of being kept for all layers.
"""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import FLOAT
from onnxscript import opset18 as op
from torch import Tensor

from vicrop_export.ops.attention import fold, onnx_rotate, rotate, split_heads, weights_of
from vicrop_export.ops.small import Translations, ints, number, sizes

Gradients = tuple[Tensor, Tensor, Tensor]


@torch.library.custom_op("vicrop::attention_gradient", mutates_args=())
def attention_gradient(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    bias: Tensor | None,
    head_dim: int,
) -> Gradients:
    """Gradients at query, key and value of attention among the tokens of one prompt or picture.

    gradient [losses, tokens, heads·dim] at the mixed values, query [1, tokens, heads·dim], key and value
    [1, tokens, kv_heads·dim], cos and sin [1, 1, tokens, dim/2] or no rotation, bias [1, 1, tokens, tokens]
    or none. The three are as wide as what they belong to, for each loss.
    """
    num_tokens, kv_heads = query.shape[1], key.shape[2] // head_dim
    heads = [x.reshape(*x.shape[:2], -1, head_dim).transpose(1, 2) for x in (gradient, query, key, value)]
    mixed, query, key, value = heads
    if cos is not None and sin is not None:
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
    query = query.reshape(1, kv_heads, -1, num_tokens, head_dim) * head_dim**-0.5
    mixed = mixed.reshape(len(mixed), kv_heads, -1, num_tokens, head_dim)
    key, value = key.unsqueeze(2), value.unsqueeze(2)
    scores = torch.matmul(query, key.transpose(-1, -2))
    weights = torch.softmax(scores if bias is None else scores + bias.unsqueeze(2), dim=-1)
    at_weights = torch.matmul(mixed, value.transpose(-1, -2))
    at_scores = weights * (at_weights - (weights * at_weights).sum(-1, keepdim=True))
    at_query = torch.matmul(at_scores, key).flatten(1, 2) * head_dim**-0.5
    at_key = torch.matmul(at_scores.transpose(-1, -2), query).sum(2)
    at_value = torch.matmul(weights.transpose(-1, -2), mixed).sum(2)
    if cos is not None and sin is not None:
        at_query, at_key = rotate(at_query, cos, -sin), rotate(at_key, cos, -sin)
    at_query, at_key, at_value = (x.transpose(1, 2).flatten(2) for x in (at_query, at_key, at_value))
    return at_query.contiguous(), at_key.contiguous(), at_value.contiguous()


@attention_gradient.register_fake
def _(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    bias: Tensor | None,
    head_dim: int,
) -> Gradients:
    narrow = gradient.new_empty(gradient.shape[0], gradient.shape[1], key.shape[2])
    return torch.empty_like(gradient), narrow, torch.empty_like(narrow)


def translate_attention_gradient(
    gradient: FLOAT,
    query: FLOAT,
    key: FLOAT,
    value: FLOAT,
    cos: FLOAT | None,
    sin: FLOAT | None,
    bias: FLOAT | None,
    head_dim: int,
) -> tuple[FLOAT, FLOAT, FLOAT]:
    """Plain opset 18; query groups are rows of their KV head, which sums them where they share it."""
    heads, kv_heads = sizes(query)[2] // head_dim, sizes(key)[2] // head_dim
    mixed, query, key, value = (split_heads(x, head_dim) for x in (gradient, query, key, value))
    if cos is not None:
        query, key = onnx_rotate(query, cos, sin), onnx_rotate(key, cos, sin)
    query = op.Mul(query, number(head_dim**-0.5))
    weights = fold(weights_of(query, key, bias, heads, kv_heads), heads, kv_heads)
    mixed, query = fold(mixed, heads, kv_heads), fold(query, heads, kv_heads)
    at_weights = op.MatMul(mixed, op.Transpose(value, perm=[0, 1, 3, 2]))
    weighted = op.Mul(weights, at_weights)
    at_scores = op.Sub(weighted, op.Mul(weights, op.ReduceSum(weighted, ints(-1), keepdims=1)))
    at_query = op.Mul(fold(op.MatMul(at_scores, key), kv_heads, heads), number(head_dim**-0.5))
    at_key = op.MatMul(op.Transpose(at_scores, perm=[0, 1, 3, 2]), query)
    at_value = op.MatMul(op.Transpose(weights, perm=[0, 1, 3, 2]), mixed)
    if sin is not None:
        back = op.Neg(sin)
        at_query, at_key = onnx_rotate(at_query, cos, back), onnx_rotate(at_key, cos, back)
    return _joined(at_query), _joined(at_key), _joined(at_value)


def _joined(x: Any) -> Any:
    return op.Reshape(op.Transpose(x, perm=[0, 2, 1, 3]), ints(0, 0, -1))


TRANSLATIONS: Translations = {torch.ops.vicrop.attention_gradient.default: translate_attention_gradient}
