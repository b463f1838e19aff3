"""The CLIP vision tower up to the feature layer, plus LLaVA's projector, as one torch module.

Layers above the highest feature layer are never read. Knows nothing of preprocessing or of ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.llava.facts import VisionFacts
from vicrop_export.modules.vision import VisionLayer, cut_patches
from vicrop_export.ops.layers import ACTIVATIONS, LayerNorm, Projection, constant


class PatchEmbedding(nn.Module):
    """Class token and patches with their positions: [images, 3, side, side] to [images, 1 + patches, hidden].

    The patch convolution is a reshape and a product.
    """

    def __init__(self, tensors: CheckpointTensors, facts: VisionFacts) -> None:
        super().__init__()
        prefix = "vision_tower.embeddings"
        self.grid, self.patch = facts.grid, facts.patch_size
        self.patches = Projection(tensors.get(f"{prefix}.patch_embedding.weight").flatten(1))
        positions = tensors.get(f"{prefix}.position_embedding.weight")
        self.class_token = constant(tensors.get(f"{prefix}.class_embedding") + positions[0])
        self.positions = constant(positions[1:])

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = cut_patches(pixel_values, self.grid, self.patch)
        embedded = self.patches(patches) + self.positions
        class_token = self.class_token.expand(embedded.shape[0], 1, -1)
        return torch.cat((class_token, embedded), dim=1)


class VisionTower(nn.Module):
    """`pixel_values` [images, 3, side, side] to `image_embeds` [images, image_tokens, text hidden].

    Hidden states 0 to n are those after the first norm and after each layer, before any final norm.
    """

    def __init__(self, tensors: CheckpointTensors, facts: VisionFacts, half: bool = False) -> None:
        super().__init__()
        self.embeddings = PatchEmbedding(tensors, facts)
        self.first_norm: LayerNorm = tensors.layer_norm("vision_tower.pre_layrnorm", facts.norm_eps)
        self.layers = nn.ModuleList(
            VisionLayer(tensors, index, facts, half) for index in range(max(facts.feature_layers))
        )
        self.feature_layers, self.patch_offset = facts.feature_layers, 0 if facts.keeps_class_token else 1
        self.linear1, self.linear2 = (
            tensors.projection(f"multi_modal_projector.linear_{index}") for index in (1, 2)
        )
        self.activation = ACTIVATIONS[facts.projector_activation]

    def forward(self, pixel_values: Tensor) -> Tensor:
        states = [self.first_norm(self.embeddings(pixel_values))]
        for layer in self.layers:
            states.append(layer(states[-1]))
        features = torch.cat([states[index][:, self.patch_offset :] for index in self.feature_layers], dim=-1)
        embeds: Tensor = self.linear2(self.activation(self.linear1(features)))
        return embeds
