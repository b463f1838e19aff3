"""Muon in float32: momentum whose 2-D updates are orthogonalised by a Newton-Schulz iteration.

After Jordan et al. 2024 with the RMS matching of Liu et al. 2025 (arXiv 2502.16982). PyTorch's own
torch.optim.Muon iterates in bfloat16, which a CPU without bfloat16 units runs some forty times slower.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of `matrices` [count, rows, cols], rows <= cols, towards one."""
    a, b, c = COEFFICIENTS
    x: Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Muon for 2-D weights; matrices of one shape are iterated together."""

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update; `closure` is not used."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[min(weight.shape), max(weight.shape)].append(weight)
            for weights in by_shape.values():
                updates = torch.stack([self._momentum(weight, group["momentum"]) for weight in weights])
                for weight, update in zip(weights, orthogonalise(updates), strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    turned = update if weight.shape[0] <= weight.shape[1] else update.T
                    weight.add_(turned, alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)

    def _momentum(self, weight: Tensor, momentum: float) -> Tensor:
        assert weight.grad is not None
        buffer: Tensor = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
        buffer.lerp_(weight.grad, 1 - momentum)
        update: Tensor = weight.grad.lerp(buffer, momentum)
        return update if weight.shape[0] <= weight.shape[1] else update.T
