"""The SigLIP tower on whole tiles, pixel shuffle and one projection, as one torch module.

A tile is square and full, so each patch has its own position. Knows nothing of preprocessing or of ONNX.
"""

from __future__ import annotations

from torch import Tensor, nn

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.smolvlm.facts import TowerFacts
from vicrop_export.modules.vision import VisionLayer, cut_patches
from vicrop_export.ops.layers import Projection, constant


class PatchEmbedding(nn.Module):
    """Patches with their positions: [tiles, 3, side, side] to [tiles, patches, hidden].

    The patch convolution is a reshape and a product; its bias is part of the positions.
    """

    def __init__(self, tensors: CheckpointTensors, facts: TowerFacts) -> None:
        super().__init__()
        prefix = "vision_tower.embeddings"
        self.grid, self.patch = facts.grid, facts.patch_size
        self.patches = Projection(tensors.get(f"{prefix}.patch_embedding.weight").flatten(1))
        bias = tensors.get(f"{prefix}.patch_embedding.bias")
        self.positions = constant(tensors.get(f"{prefix}.position_embedding.weight") + bias)

    def forward(self, pixel_values: Tensor) -> Tensor:
        embedded: Tensor = self.patches(cut_patches(pixel_values, self.grid, self.patch)) + self.positions
        return embedded


class TileTower(nn.Module):
    """`pixel_values` [tiles, 3, side, side] to `image_embeds` [tiles, image_tokens, text hidden]."""

    def __init__(self, tensors: CheckpointTensors, facts: TowerFacts, half: bool = False) -> None:
        super().__init__()
        self.embeddings = PatchEmbedding(tensors, facts)
        self.layers = nn.ModuleList(
            VisionLayer(tensors, index, facts, half) for index in range(facts.num_layers)
        )
        self.last_norm = tensors.layer_norm("vision_tower.post_layernorm", facts.norm_eps)
        self.projector = tensors.projection("multi_modal_projector.proj")
        self.cells, self.scale = facts.cells, facts.scale

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden = self.embeddings(pixel_values)
        for layer in self.layers:
            hidden = layer(hidden)
        embeds: Tensor = self.projector(self.shuffled(self.last_norm(hidden)))
        return embeds

    def shuffled(self, hidden: Tensor) -> Tensor:
        """Scale × scale neighbours side by side: [tiles, patches, n] to [tiles, image_tokens, scale²·n]."""
        cells, scale = self.cells, self.scale
        split = hidden.reshape(-1, cells, scale, cells, scale, hidden.shape[-1])
        return split.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)
