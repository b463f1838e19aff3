"""Decoder attention for ONNX Runtime's CUDA provider: one run of tokens after the cached ones, causal.

That provider's GroupQueryAttention refuses a bias (docs/cuda.md), so suffixes cannot lie side by side: each
is a pass of its own. Only the attention rows take a bias, of the rows alone. Batch is 1.
"""

from __future__ import annotations

import torch
from onnxscript import FLOAT, INT64
from onnxscript import opset18 as op
from torch import Tensor

from vicrop_export.ops import contrib as contrib_ops
from vicrop_export.ops.attention import INT32, Outputs, attention, tapped_rows
from vicrop_export.ops.small import Translations, ints, sizes


@torch.library.custom_op("vicrop::causal_attention", mutates_args=())
def causal_attention(
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
    """`attention` in place, where every new token may look at all before it and at itself.

    bias [1, 1, rows, total] holds the lines of the causal bias of the tokens at `tap_positions` [rows]; all
    else is as there.
    """
    seq, total = query.shape[1], bias.shape[3]
    visible = torch.full((1, 1, seq, total), float("-inf")).triu(total - seq + 1)
    outputs: Outputs = attention(
        query, key, value, past_key, past_value, cos, sin, visible, tap_positions, True
    )
    return outputs


@causal_attention.register_fake
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
) -> Outputs:
    rows = query.new_empty(tap_positions.shape[0], query.shape[2] // past_key.shape[3], bias.shape[3])
    return torch.empty_like(query), rows, torch.empty_like(past_key), torch.empty_like(past_value)


def translate_causal_attention(
    query: FLOAT,
    key: FLOAT,
    value: FLOAT,
    past_key: FLOAT,
    past_value: FLOAT,
    cos: FLOAT,
    sin: FLOAT,
    bias: FLOAT,
    tap_positions: INT64,
) -> tuple[FLOAT, FLOAT, FLOAT, FLOAT]:
    """The fused operators without a bias; rows as in the flavour for processors.

    With past and present bound to one buffer no KV is ever copied.
    """
    kv_heads, dim = sizes(past_key)[1], sizes(past_key)[3]
    heads = sizes(query)[2] // dim
    table = [op.Squeeze(half, ints(0, 1)) for half in (cos, sin)]
    query = contrib_ops.rotary_embedding(query, ints(0), *table, num_heads=heads)
    key = contrib_ops.rotary_embedding(key, ints(0), *table, num_heads=kv_heads)
    total = op.Shape(bias, start=3, end=4)
    lengths = op.Cast(op.Sub(total, ints(1)), to=INT32), op.Cast(total, to=INT32)
    mixed, present_key, present_value = contrib_ops.group_query_attention(
        *(query, key, value, past_key, past_value, *lengths), num_heads=heads, kv_num_heads=kv_heads
    )
    rows = tapped_rows(query, present_key, bias, total, tap_positions, (heads, kv_heads, dim))
    return mixed, rows, present_key, present_value


TRANSLATIONS: Translations = {torch.ops.vicrop.causal_attention.default: translate_causal_attention}
