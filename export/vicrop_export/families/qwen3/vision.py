"""The tower of Qwen3-VL with its mergers, as a torch module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.qwen.tower import (
    BLOCKS,
    Block,
    Merger,
    PatchAngles,
    PlainMlp,
    layer_norm,
    patch_projection,
)
from vicrop_export.families.qwen3.facts import TappedFacts
from vicrop_export.ops.layers import constant

NAMES = "linear_fc1", "linear_fc2"
PROJECTOR = "multi_modal_projector"


class TappedTower(nn.Module):
    """Patches [patches, 3·2·patch²] to `image_embeds` [1 + tapped layers, tokens, hidden].

    A patch's position is the sum of four of a table, `taps` [patches, 4] of them by `tap_weights`.
    """

    def __init__(self, tensors: CheckpointTensors, facts: TappedFacts, half: bool = False) -> None:
        super().__init__()
        tower = facts.tower
        self.patches, self.angles = patch_projection(tensors), PatchAngles(tower)
        self.positions = constant(tensors.get("vision_tower.position_embedding.weight"))
        self.blocks = nn.ModuleList()
        for index in range(tower.num_layers):
            mlp = PlainMlp(tensors, f"{BLOCKS}.{index}.mlp", tower.activation, NAMES)
            self.blocks.append(Block(tensors, index, tower, half, layer_norm, mlp))
        self.tapped_layers = facts.tapped_layers
        places = [PROJECTOR, *(f"{PROJECTOR}.deepstack.{place}" for place in range(len(facts.tapped_layers)))]
        self.mergers = nn.ModuleList(
            Merger(tensors, place, layer_norm(tensors, f"{place}.norm"), NAMES) for place in places
        )

    def forward(self, patches: Tensor, patch_positions: Tensor, taps: Tensor, tap_weights: Tensor) -> Tensor:
        places = self.positions.index_select(0, taps.flatten()).reshape(*taps.shape, -1)
        hidden = self.patches(patches) + (places * tap_weights.unsqueeze(2)).sum(1)
        rotation = self.angles(patch_positions)
        tapped: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, rotation, None)
            if index in self.tapped_layers:
                tapped.append(self.mergers[1 + len(tapped)](hidden))
        return torch.stack([self.mergers[0](hidden), *tapped])
