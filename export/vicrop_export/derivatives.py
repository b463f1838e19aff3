"""Derivatives of the activations in `modules.ACTIVATIONS`, under the same names.

A test holds each against automatic differentiation. Knows nothing of layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_TANH_SLOPE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715


def _gated(x: Tensor, slope: float) -> Tensor:
    """Of x · sigmoid(slope · x)."""
    share = torch.sigmoid(slope * x)
    return share * (1 + slope * x * (1 - share))


def _silu(x: Tensor) -> Tensor:
    return _gated(x, 1.0)


def _quick_gelu(x: Tensor) -> Tensor:
    return _gated(x, 1.702)


def _gelu(x: Tensor) -> Tensor:
    below = 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))
    return below + x * torch.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


def _tanh_gelu(x: Tensor) -> Tensor:
    turned = torch.tanh(_TANH_SLOPE * (x + _TANH_CUBE * x * x * x))
    inner = _TANH_SLOPE * (1 + 3 * _TANH_CUBE * x * x)
    return 0.5 * (1 + turned) + 0.5 * x * (1 - turned * turned) * inner


def _relu(x: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)


DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": _gelu,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "quick_gelu": _quick_gelu,
    "relu": _relu,
    "silu": _silu,
    "swish": _silu,
}
