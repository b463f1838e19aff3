"""The custom operators that gradients are made of: definition in torch, shape, translation to ONNX.

A gradient is [losses, tokens, …] for one saved forward [1, tokens, …], so that weights are read once for all
losses. What the forward saved goes through `after` first: nothing is computed again before its gradient is
there, and the runtime does not keep what both have in common. Attention has a file of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import FLOAT
from onnxscript import opset18 as op
from torch import Tensor

from vicrop_export.ops import contrib as contrib_ops
from vicrop_export.ops.small import Translations, ints, number


@torch.library.custom_op("vicrop::transposed", mutates_args=())
def transposed(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., out] times the transpose of weight [in, out]."""
    return torch.matmul(x, weight.t())


@transposed.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@torch.library.custom_op("vicrop::after", mutates_args=())
def after(saved: Tensor, gradient: Tensor) -> Tensor:
    """What was saved [1, tokens, width], once `gradient` [losses, tokens, …] is there."""
    return saved.clone()


@after.register_fake
def _(saved: Tensor, gradient: Tensor) -> Tensor:
    return torch.empty_like(saved)


@torch.library.custom_op("vicrop::layer_norm_gradient", mutates_args=())
def layer_norm_gradient(gradient: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Gradient at the input x of layer normalisation over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    scale = torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + eps)
    normed, weighted = centred * scale, gradient * weight
    along = normed * (weighted * normed).mean(-1, keepdim=True)
    return scale * (weighted - weighted.mean(-1, keepdim=True) - along)


@layer_norm_gradient.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return torch.empty_like(gradient)


def onnx_transposed(x: FLOAT, weight: FLOAT) -> FLOAT:
    """ONNX Runtime's product with a transposed weight, which needs no turned copy of it."""
    product: FLOAT = contrib_ops.fused_matmul(x, weight, transB=1)
    return product


def onnx_after(saved: FLOAT, gradient: FLOAT) -> FLOAT:
    """A reshape to the shape it has, of which one length is read off the gradient."""
    lengths = op.Concat(ints(0), op.Shape(gradient, start=1, end=2), ints(-1), axis=0)
    same: FLOAT = op.Reshape(saved, lengths)
    return same


def onnx_layer_norm_gradient(gradient: FLOAT, x: FLOAT, weight: FLOAT, eps: float) -> FLOAT:
    """The formula as it is."""
    centred = op.Sub(x, _mean(x))
    scale = op.Sqrt(op.Add(_mean(op.Mul(centred, centred)), number(eps)))
    normed, weighted = op.Div(centred, scale), op.Mul(gradient, weight)
    along = op.Mul(normed, _mean(op.Mul(weighted, normed)))
    result: FLOAT = op.Div(op.Sub(op.Sub(weighted, _mean(weighted)), along), scale)
    return result


def _mean(x: Any) -> Any:
    return op.ReduceMean(x, ints(-1), keepdims=1)


TRANSLATIONS: Translations = {
    torch.ops.vicrop.transposed.default: onnx_transposed,
    torch.ops.vicrop.after.default: onnx_after,
    torch.ops.vicrop.layer_norm_gradient.default: onnx_layer_norm_gradient,
}
