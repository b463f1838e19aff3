"""The steps of the backward written by hand, each against autograd in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vicrop_export.ops.layers import ACTIVATIONS, DERIVATIVES
from vicrop_export.ops.small import project_back, rms_norm_back
from vicrop_export.ops.token_attention import token_attention, token_attention_back

HEADS, DIM, CAPACITY, TOTAL, OWN = 6, 4, 11, 9, 7


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_has_its_derivative(name: str) -> None:
    x = torch.linspace(-6, 6, 400, dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(ACTIVATIONS[name](x).sum(), x)
    torch.testing.assert_close(DERIVATIVES[name](x.detach()), wanted, rtol=1e-9, atol=1e-9)


def test_products_and_norms() -> None:
    x, weight, scale = noise(1, 8).requires_grad_(), noise(8, 5), noise(8)
    at_result, at_norm = noise(1, 5), noise(1, 8)
    (wanted,) = torch.autograd.grad(x @ weight, x, at_result)
    torch.testing.assert_close(project_back(at_result, weight), wanted)
    (wanted,) = torch.autograd.grad(x * torch.rsqrt(x.pow(2).mean() + 0.1) * scale, x, at_norm)
    torch.testing.assert_close(rms_norm_back(at_norm, x.detach(), scale, 0.1), wanted)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_attention_of_one_token(kv_heads: int) -> None:
    """Rows it may not look at hold far off numbers; the gradient reaches its own row and nobody else's."""
    query, own_key, own_value = (
        noise(1, heads * DIM).requires_grad_() for heads in (HEADS, kv_heads, kv_heads)
    )
    keys, values = noise(1, kv_heads, CAPACITY, DIM), noise(2, kv_heads, CAPACITY, DIM)[:1]
    keys[:, :, TOTAL:] = values[:, :, TOTAL:] = 1e3
    bias = torch.zeros(1, 1, 1, CAPACITY, dtype=torch.float64)
    bias[..., TOTAL:] = bias[..., 2] = -torch.inf
    here = torch.zeros(CAPACITY, 1, dtype=torch.bool)
    here[OWN] = True
    key = torch.where(here, own_key.reshape(1, kv_heads, 1, DIM), keys)
    value = torch.where(here, own_value.reshape(1, kv_heads, 1, DIM), values)
    group = HEADS // kv_heads
    scores = query.reshape(1, HEADS, 1, DIM) @ key.repeat_interleave(group, 1).transpose(2, 3) * DIM**-0.5
    weights = torch.softmax(scores + bias, dim=-1)
    mixed = (weights @ value.repeat_interleave(group, 1)).reshape(1, -1)
    at_mixed = noise(3, HEADS * DIM)[:1]
    wanted = torch.autograd.grad(mixed, (weights, query, own_key, own_value), at_mixed)

    buffers = key.detach(), value.detach()
    got_mixed, looked = token_attention(query.detach(), *buffers, bias)
    torch.testing.assert_close(got_mixed, mixed.detach())
    torch.testing.assert_close(looked, weights.detach()[0, :, 0])
    got = token_attention_back(at_mixed, query.detach(), looked, *buffers, torch.tensor([OWN]))
    for one, other in zip(got, (wanted[0][0, :, 0], *wanted[1:]), strict=True):
        torch.testing.assert_close(one, other)
