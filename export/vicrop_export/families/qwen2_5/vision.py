"""The towers of Qwen2-VL and Qwen2.5-VL with their mergers, as torch modules."""

from __future__ import annotations

from torch import Tensor, nn

from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.qwen.tower import (
    BLOCKS,
    Block,
    GatedMlp,
    Merger,
    PatchAngles,
    PlainMlp,
    Windows,
    layer_norm,
    patch_projection,
    rms_norm,
)
from vicrop_export.families.qwen2_5.facts import WindowedFacts

PROJECTOR = "multi_modal_projector"


class FullTower(nn.Module):
    """Qwen2-VL's: patches [patches, 3·2·patch²] to `image_embeds` [1, tokens, hidden], all look at all."""

    def __init__(self, tensors: CheckpointTensors, facts: WindowedFacts, half: bool = False) -> None:
        super().__init__()
        tower = facts.tower
        self.patches, self.angles = patch_projection(tensors), PatchAngles(tower)
        self.blocks = nn.ModuleList()
        for index in range(tower.num_layers):
            mlp = PlainMlp(tensors, f"{BLOCKS}.{index}.mlp", tower.activation, ("fc1", "fc2"))
            self.blocks.append(Block(tensors, index, tower, half, layer_norm, mlp))
        self.merger = Merger(tensors, PROJECTOR, layer_norm(tensors, f"{PROJECTOR}.ln_q"))

    def forward(self, patches: Tensor, patch_positions: Tensor) -> Tensor:
        hidden, rotation = self.patches(patches), self.angles(patch_positions)
        for block in self.blocks:
            hidden = block(hidden, rotation, None)
        merged: Tensor = self.merger(hidden)
        return merged.unsqueeze(0)


class WindowedTower(nn.Module):
    """Qwen2.5-VL's: the same, but that in most layers patches look within windows.

    `window_rows` [windows, slots] and `patch_slots` [patches] say which.
    """

    def __init__(self, tensors: CheckpointTensors, facts: WindowedFacts, half: bool = False) -> None:
        super().__init__()
        tower = facts.tower
        self.patches, self.angles = patch_projection(tensors), PatchAngles(tower)
        self.full_layers = facts.full_layers
        self.blocks = nn.ModuleList()
        for index in range(tower.num_layers):
            mlp = GatedMlp(tensors, f"{BLOCKS}.{index}.mlp", tower.activation)
            self.blocks.append(Block(tensors, index, tower, half, rms_norm, mlp))
        self.merger = Merger(tensors, PROJECTOR, rms_norm(tensors, f"{PROJECTOR}.ln_q"))

    def forward(
        self, patches: Tensor, patch_positions: Tensor, window_rows: Tensor, patch_slots: Tensor
    ) -> Tensor:
        hidden, rotation = self.patches(patches), self.angles(patch_positions)
        windows = Windows(window_rows, patch_slots)
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, rotation, None if index in self.full_layers else windows)
        merged: Tensor = self.merger(hidden)
        return merged.unsqueeze(0)
