"""Angles of rotary positions, of one axis as in Llama or of several (arXiv 2409.12191, section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.config import Rope
from vicrop_export.ops.layers import constant

Rotation = tuple[Tensor, Tensor]


class RotaryAngles(nn.Module):
    """Cosine and sine of every position's angles: [axes, seq] to two [1, 1, seq, head_dim / 2].

    Each angle is turned by the position on its own axis.
    """

    def __init__(self, head_dim: int, rope: Rope) -> None:
        super().__init__()
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        self.inverse_frequencies = constant(1.0 / rope.theta**exponents)
        self.num_axes = rope.num_axes
        self.axes: Tensor
        if rope.num_axes > 1:
            self.register_buffer("axes", torch.tensor(rope.axes), persistent=False)

    def forward(self, position_ids: Tensor) -> Rotation:
        positions = position_ids.to(torch.float32)
        if self.num_axes == 1:
            angles = positions.unsqueeze(1).unsqueeze(3) * self.inverse_frequencies
        else:
            chosen = positions.index_select(0, self.axes).t()
            angles = (chosen * self.inverse_frequencies).unsqueeze(0).unsqueeze(0)
        return torch.cos(angles), torch.sin(angles)
