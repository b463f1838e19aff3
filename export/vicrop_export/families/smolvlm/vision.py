"""SigLIP's tower and the connector as one torch module, on tiles of one side.

It is CLIP's encoder without a class token and a first norm. A tile is always full, so that the positions that
transformers works out from a mask are a constant. Knows nothing of preprocessing or of ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.smolvlm.facts import TileFacts
from vicrop_export.modules.vision import VisionLayer, cut_patches
from vicrop_export.ops.layers import LayerNorm, Projection, constant


class TileTower(nn.Module):
    """`pixel_values` [tiles, 3, side, side] to `image_embeds` [tiles, cells², text hidden]."""

    def __init__(self, tensors: CheckpointTensors, facts: TileFacts, half: bool = False) -> None:
        super().__init__()
        prefix = "vision_tower.embeddings"
        self.grid, self.patch, self.shuffle = facts.grid, facts.patch_size, facts.shuffle
        self.patches = Projection(
            tensors.get(f"{prefix}.patch_embedding.weight").flatten(1),
            tensors.get(f"{prefix}.patch_embedding.bias"),
        )
        positions = tensors.get(f"{prefix}.position_embedding.weight")
        self.positions = constant(positions[position_ids(facts.grid)])
        self.layers = nn.ModuleList(
            VisionLayer(tensors, index, facts, half) for index in range(facts.num_layers)
        )
        self.last_norm: LayerNorm = tensors.layer_norm("vision_tower.post_layernorm", facts.norm_eps)
        self.projection = tensors.projection("multi_modal_projector.proj", bias=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden = self.patches(cut_patches(pixel_values, self.grid, self.patch)) + self.positions
        for layer in self.layers:
            hidden = layer(hidden)
        embeds: Tensor = self.projection(shuffled(self.last_norm(hidden), self.grid, self.shuffle))
        return embeds


def shuffled(hidden: Tensor, grid: int, scale: int) -> Tensor:
    """Blocks of `scale` by `scale` neighbours: [tiles, grid², hidden] to [tiles, cells², scale²·hidden]."""
    cells = grid // scale
    blocks = hidden.reshape(-1, cells, scale, cells, scale, hidden.shape[-1])
    return blocks.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)


def position_ids(grid: int) -> Tensor:
    """Which position each patch of a full tile takes, [grid²], as transformers works it out in float32."""
    edges = torch.arange(1 / grid, 1.0, 1 / grid)
    places = torch.arange(grid, dtype=torch.float32) * (1.0 / torch.tensor([grid]))
    bucket = torch.bucketize(places.clamp(max=1.0 - 1e-6), edges, right=True)
    return (bucket[:, None] * grid + bucket[None]).flatten()
