"""The few layers LLaVA is made of, written so that they export to plain ONNX operators.

Weights are kept as [in, out], the layout of ONNX MatMul, so no exported graph holds a transposed copy. Knows
nothing of checkpoints' names or of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from vicrop_export.operators import project, rms_norm


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _tanh_gelu(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "quick_gelu": _quick_gelu,
    "relu": functional.relu,
    "silu": functional.silu,
    "swish": functional.silu,
}


def constant(value: Tensor) -> nn.Parameter:
    """A float32 weight that takes no gradient."""
    return nn.Parameter(value.to(torch.float32).contiguous(), requires_grad=False)


class Projection(nn.Module):
    """x·W + b for a checkpoint's weight [out, in] and optional bias [out].

    With `source`, the checkpoint's name of the weight, `weight` only describes its shape and stays as it is.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, source: str | None = None) -> None:
        super().__init__()
        described = nn.Parameter(weight.t(), requires_grad=False)
        self.weight = constant(weight.t()) if source is None else described
        self.bias = None if bias is None else constant(bias)
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = project(x, self.weight)
        return projected if self.bias is None else projected + self.bias


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis."""

    def __init__(self, weight: Tensor, bias: Tensor, eps: float) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = constant(weight), constant(bias), eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class RmsNorm(nn.Module):
    """Root-mean-square normalisation over the last axis."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = constant(weight), eps

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = rms_norm(x, self.weight, self.eps)
        return normed
