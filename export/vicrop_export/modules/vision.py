"""What vision towers share: pictures cut into patches, and the encoder layer of CLIP and SigLIP.

Knows nothing of preprocessing, of what stands before and after the layers, or of ONNX.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.ops.layers import ACTIVATIONS
from vicrop_export.ops.small import full_attention


class LayerFacts(Protocol):
    """What an encoder layer has to be told."""

    @property
    def num_heads(self) -> int:
        """Heads of its attention."""

    @property
    def activation(self) -> str:
        """A key of ACTIVATIONS."""

    @property
    def norm_eps(self) -> float:
        """What is added to a variance."""


def cut_patches(pixel_values: Tensor, grid: int, patch: int) -> Tensor:
    """[images, 3, side, side] to [images, grid², 3·patch²], row by row.

    Pixels beyond the last whole patch are dropped, as a convolution does.
    """
    side = grid * patch
    whole = pixel_values[:, :, :side, :side]
    cells = whole.reshape(-1, 3, grid, patch, grid, patch)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


class VisionLayer(nn.Module):
    """An encoder layer, norms first: [images, tokens, hidden] to the same, attention in float16 if `half`."""

    def __init__(self, tensors: CheckpointTensors, index: int, facts: LayerFacts, half: bool = False) -> None:
        super().__init__()
        prefix = f"vision_tower.encoder.layers.{index}"
        self.norm1 = tensors.layer_norm(f"{prefix}.layer_norm1", facts.norm_eps)
        self.norm2 = tensors.layer_norm(f"{prefix}.layer_norm2", facts.norm_eps)
        self.query, self.key, self.value, self.output = (
            tensors.projection(f"{prefix}.self_attn.{name}_proj") for name in ("q", "k", "v", "out")
        )
        self.fc1 = tensors.projection(f"{prefix}.mlp.fc1")
        self.fc2 = tensors.projection(f"{prefix}.mlp.fc2")
        self.activation = ACTIVATIONS[facts.activation]
        self.num_heads, self.kind = facts.num_heads, torch.float16 if half else torch.float32

    def forward(self, hidden: Tensor) -> Tensor:
        normed = self.norm1(hidden)
        projected = (part(normed).to(self.kind) for part in (self.query, self.key, self.value))
        mixed = full_attention(*projected, self.num_heads).to(torch.float32)
        hidden = hidden + self.output(mixed)
        lifted: Tensor = self.fc2(self.activation(self.fc1(self.norm2(hidden))))
        return hidden + lifted
