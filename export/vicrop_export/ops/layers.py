"""The few layers models are made of, written so that they export to plain ONNX operators.

Weights are kept as [in, out], the layout of ONNX MatMul, so no exported graph holds a transposed copy. Knows
nothing of checkpoints' names or of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import pi, tau

import torch
from torch import Tensor, nn
from torch.nn import functional

from vicrop_export.ops.small import project, rms_norm


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

TANH_GELU = (2 / pi) ** 0.5, 0.044715  # of x + 0.044715 x³


def _sigmoid_derivative(x: Tensor, slope: float) -> Tensor:
    """Of x·sigmoid(slope·x)."""
    share = torch.sigmoid(slope * x)
    return share * (1 + slope * x * (1 - share))


def _gelu_derivative(x: Tensor) -> Tensor:
    slope: Tensor = 0.5 * (1 + torch.erf(x * 0.5**0.5)) + x * torch.exp(-0.5 * x * x) / tau**0.5
    return slope


def _tanh_gelu_derivative(x: Tensor) -> Tensor:
    scale, cubic = TANH_GELU
    tanh = torch.tanh(scale * (x + cubic * x * x * x))
    slope: Tensor = 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * scale * (1 + 3 * cubic * x * x)
    return slope


DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": _gelu_derivative,
    "gelu_new": _tanh_gelu_derivative,
    "gelu_pytorch_tanh": _tanh_gelu_derivative,
    "quick_gelu": partial(_sigmoid_derivative, slope=1.702),
    "relu": lambda x: (x > 0).to(x.dtype),
    "silu": partial(_sigmoid_derivative, slope=1.0),
    "swish": partial(_sigmoid_derivative, slope=1.0),
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
