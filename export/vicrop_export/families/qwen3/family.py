"""Qwen3-VL for a build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from torch import Tensor, nn

from vicrop_engine.errors import CheckpointError
from vicrop_export.checkpoint.config import CONFIG
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.families.interfaces import ImageSettings
from vicrop_export.families.qwen.family import QwenFamily
from vicrop_export.families.qwen.processor import read_image_settings
from vicrop_export.families.qwen3.facts import TappedFacts, read_facts
from vicrop_export.families.qwen3.vision import TappedTower

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Qwen3(QwenFamily):
    """One checkpoint of this family; what its properties and methods are says ExportFamily."""

    name: ClassVar[str] = "qwen3-vl"
    system: ClassVar[str] = ""

    def __init__(self, facts: TappedFacts, images: ImageSettings) -> None:
        super().__init__(facts.tower, facts.text, facts.image_token, images)
        self.facts = facts

    @classmethod
    def read(cls, directory: Path, max_pixels: int | None = None) -> Self:
        """Of a checkpoint directory. Raises CheckpointError, and SettingError for `max_pixels`."""
        facts = read_facts(directory)
        settings = {"window": 0, "table": facts.table}
        images = read_image_settings(directory, facts.tower.patch_size, settings, max_pixels)
        return cls(facts, images)

    def vision(self, tensors: CheckpointTensors, half: bool) -> nn.Module:
        return TappedTower(tensors, self.facts, half)

    @property
    def reference(self) -> type[PreTrainedModel]:
        from transformers import Qwen3VLForConditionalGeneration

        return Qwen3VLForConditionalGeneration

    def last_logits(self, model: Any, embeds: Tensor, is_image: Tensor, positions: Tensor) -> Tensor:
        # The whole model adds only what it makes of pixels itself; its decoder takes what there is.
        output = model.model.language_model(
            inputs_embeds=embeds[:1],
            position_ids=positions.unsqueeze(1),
            use_cache=False,
            visual_pos_masks=is_image[None],
            deepstack_visual_embeds=list(embeds[1:, is_image]),
        )
        logits: Tensor = model.lm_head(output.last_hidden_state[0, -2:])
        return logits


def refuse_mixture(directory: Path, max_pixels: int | None = None) -> NoReturn:
    """Raises CheckpointError for the models of this generation that are a mixture of experts."""
    raise CheckpointError(
        f"{directory / CONFIG}: the decoder is a mixture of experts, which no graph has; choose a dense "
        "checkpoint of 2B, 4B or 8B parameters"
    )
