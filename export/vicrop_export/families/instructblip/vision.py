"""InstructBLIP's vision transformer as one torch module: pixels to the states of class token and patches.

Queries, keys and values come of one product. Knows nothing of preprocessing or of ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.instructblip.facts import ViTFacts
from vicrop_export.modules.vision import cut_patches
from vicrop_export.ops.layers import ACTIVATIONS, Projection, constant
from vicrop_export.ops.small import full_attention


class PatchEmbedding(nn.Module):
    """Class token and patches with their positions: [images, 3, side, side] to [images, 1 + patches, hidden].

    The patch convolution is a reshape and a product; its bias is part of the positions.
    """

    def __init__(self, tensors: CheckpointTensors, facts: ViTFacts) -> None:
        super().__init__()
        prefix = "vision_tower.embeddings"
        self.grid, self.patch = facts.grid, facts.patch_size
        self.patches = Projection(tensors.get(f"{prefix}.patch_embedding.weight").flatten(1))
        positions = tensors.get(f"{prefix}.position_embedding")[0]
        self.class_token = constant(tensors.get(f"{prefix}.class_embedding")[0, 0] + positions[0])
        self.positions = constant(positions[1:] + tensors.get(f"{prefix}.patch_embedding.bias"))

    def forward(self, pixel_values: Tensor) -> Tensor:
        embedded = self.patches(cut_patches(pixel_values, self.grid, self.patch)) + self.positions
        class_token = self.class_token.expand(embedded.shape[0], 1, -1)
        return torch.cat((class_token, embedded), dim=1)


class Layer(nn.Module):
    """An encoder layer, norms first: [images, tokens, hidden] to the same."""

    def __init__(self, tensors: CheckpointTensors, index: int, facts: ViTFacts) -> None:
        super().__init__()
        prefix = f"vision_tower.encoder.layers.{index}"
        self.norm1 = tensors.layer_norm(f"{prefix}.layer_norm1", facts.norm_eps)
        self.norm2 = tensors.layer_norm(f"{prefix}.layer_norm2", facts.norm_eps)
        self.mixed = tensors.projection(f"{prefix}.self_attn.qkv")
        self.output = tensors.projection(f"{prefix}.self_attn.projection")
        self.fc1 = tensors.projection(f"{prefix}.mlp.fc1")
        self.fc2 = tensors.projection(f"{prefix}.mlp.fc2")
        self.activation, self.num_heads = ACTIVATIONS[facts.activation], facts.num_heads

    def forward(self, hidden: Tensor) -> Tensor:
        query, key, value = self.mixed(self.norm1(hidden)).chunk(3, dim=-1)
        hidden = hidden + self.output(full_attention(query, key, value, self.num_heads))
        lifted: Tensor = self.fc2(self.activation(self.fc1(self.norm2(hidden))))
        return hidden + lifted


class VisionTransformer(nn.Module):
    """`pixel_values` [images, 3, side, side] to `image_states` [images, 1 + patches, hidden]."""

    def __init__(self, tensors: CheckpointTensors, facts: ViTFacts) -> None:
        super().__init__()
        self.embeddings = PatchEmbedding(tensors, facts)
        self.layers = nn.ModuleList(Layer(tensors, index, facts) for index in range(facts.num_layers))
        self.last_norm = tensors.layer_norm("vision_tower.post_layernorm", facts.norm_eps)

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden = self.embeddings(pixel_values)
        for layer in self.layers:
            hidden = layer(hidden)
        states: Tensor = self.last_norm(hidden)
        return states
