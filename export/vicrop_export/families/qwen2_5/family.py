"""Qwen2-VL and Qwen2.5-VL for a build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn

from vicrop_engine.engine_dir.records import LayerSource
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.interfaces import ImageSettings
from vicrop_export.families.qwen.family import PUBLISHED, SYSTEM, QwenFamily
from vicrop_export.families.qwen.processor import read_image_settings
from vicrop_export.families.qwen2_5.facts import NEWER, WindowedFacts, model_of, read_facts
from vicrop_export.families.qwen2_5.vision import FullTower, WindowedTower

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Qwen2_5(QwenFamily):
    """One checkpoint of this family; what its properties and methods are says ExportFamily."""

    name: ClassVar[str] = "qwen2.5-vl"
    system: ClassVar[str] = SYSTEM

    def __init__(self, facts: WindowedFacts, images: ImageSettings) -> None:
        super().__init__(facts.tower, facts.text, facts.image_token, images)
        self.facts = facts

    @classmethod
    def read(cls, directory: Path, max_pixels: int | None = None) -> Self:
        """Of a checkpoint directory. Raises CheckpointError, and SettingError for `max_pixels`."""
        facts = read_facts(directory)
        settings = {"window": facts.window, "table": 0}
        images = read_image_settings(directory, facts.tower.patch_size, settings, max_pixels)
        return cls(facts, images)

    @property
    def default_layer(self) -> tuple[int, LayerSource]:
        layer, source = super().default_layer
        is_published = self.facts.kind == NEWER and (self.text.num_layers, layer) == PUBLISHED
        return layer, "published" if is_published else source

    def vision(self, tensors: CheckpointTensors, half: bool) -> nn.Module:
        made = WindowedTower if self.facts.kind == NEWER else FullTower
        return made(tensors, self.facts, half)

    @property
    def reference(self) -> type[PreTrainedModel]:
        return model_of(self.facts.kind)

    def last_logits(self, model: Any, embeds: Tensor, is_image: Tensor, positions: Tensor) -> Tensor:
        # Without positions transformers would count them on one axis, and say nothing.
        own = positions.unsqueeze(1)
        output = model(inputs_embeds=embeds, position_ids=own, use_cache=False, logits_to_keep=2)
        logits: Tensor = output.logits[0]
        return logits
