"""ONNX Runtime's own operators, as far as the graphs use them, so that translations can call them by name.

The onnx package has no schemas of them; these say inputs, outputs and attributes as the runtime has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx.defs import OpSchema
from onnxscript.values import Op, Opset

DOMAIN = "com.microsoft"
_OPSET, _STANDARD = Opset(DOMAIN, 1), Opset("", 18)
_Option = OpSchema.FormalParameterOption


def contrib_op(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attributes: Sequence[str],
    opset: Opset = _OPSET,
) -> Any:
    """An operator of float tensors to call in a translation; None leaves an optional input out.

    `name:int32` is a tensor of that type and `name?` may be left out; attributes are integers unless they say
    `name:float`.
    """
    schema = OpSchema(
        name,
        opset.domain,
        opset.version,
        inputs=[_parameter(text) for text in inputs],
        outputs=[_parameter(text) for text in outputs],
        type_constraints=[("T", ["tensor(float)"], "")],
        attributes=[_attribute(text) for text in attributes],
    )
    return Op(opset, name, schema)


def _parameter(text: str) -> OpSchema.FormalParameter:
    name, _, kind = text.rstrip("?").partition(":")
    option = _Option.Optional if text.endswith("?") else _Option.Single
    return OpSchema.FormalParameter(name, f"tensor({kind})" if kind else "T", param_option=option)


def _attribute(text: str) -> OpSchema.Attribute:
    name, _, kind = text.partition(":")
    number = OpSchema.AttrType.FLOAT if kind else OpSchema.AttrType.INT
    return OpSchema.Attribute(name, number, required=False)


group_query_attention = contrib_op(
    "GroupQueryAttention",
    [
        *("query", "key", "value", "past_key", "past_value", "seqlens_k:int32"),
        *("total_sequence_length:int32", "cos_cache?", "sin_cache?", "position_ids:int64?"),
        "attention_bias?",
    ],
    ["output", "present_key", "present_value"],
    ["num_heads", "kv_num_heads"],
)
rotary_embedding = contrib_op(
    "RotaryEmbedding", ["input", "position_ids:int64", "cos_cache", "sin_cache"], ["output"], ["num_heads"]
)
fused_matmul = contrib_op("FusedMatMul", ["A", "B"], ["Y"], ["transB", "alpha:float"])
multi_head_attention = contrib_op("MultiHeadAttention", ["query", "key", "value"], ["output"], ["num_heads"])
simplified_layer_normalization = contrib_op(  # registered in the standard domain, though no standard has it
    "SimplifiedLayerNormalization", ["X", "scale"], ["Y"], ["axis", "epsilon:float"], _STANDARD
)
