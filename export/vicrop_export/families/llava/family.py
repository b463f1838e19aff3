"""LLaVA-1.5 for a build: one picture, one input of its tower, and the prompts of the published method."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tokenizers import Tokenizer
from torch import Tensor, nn

from vicrop_engine.engine_dir.records import LayerSource, Prompts, VisionGeometry, default_layer
from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checkpoint.tokenizer import image_placeholder
from vicrop_export.families.interfaces import ImageSettings
from vicrop_export.families.llava.facts import LlavaFacts, read_facts
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.families.llava.pixel_gradient import PixelGradients
from vicrop_export.families.llava.processor import read_preprocessing
from vicrop_export.families.llava.vision import VisionTower
from vicrop_export.families.questions import ASKED, GENERAL_QUESTION

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TEMPLATE = f"\nUSER: {ASKED}\nASSISTANT:"
PUBLISHED = 32, 14  # layers of the model that the method was published with, and its heatmap layer


@dataclass(frozen=True)
class Llava:
    """One checkpoint of this family; what its properties and methods are says ExportFamily."""

    facts: LlavaFacts

    name = "llava-1.5"
    has_pixel_gradients = True
    has_published_flow = True

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Of a checkpoint directory. Raises CheckpointError."""
        return cls(read_facts(directory))

    @property
    def text(self) -> TextFacts:
        return self.facts.text

    @property
    def image_token(self) -> int:
        return self.facts.image_token

    @property
    def geometry(self) -> VisionGeometry:
        vision = self.facts.vision
        return VisionGeometry(
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            rows=vision.grid,
            cols=vision.grid,
            image_tokens=vision.image_tokens,
            patch_offset=int(vision.keeps_class_token),
        )

    @property
    def default_layer(self) -> tuple[int, LayerSource]:
        num_layers = self.text.num_layers
        layer = default_layer(num_layers)
        return layer, "published" if (num_layers, layer) == PUBLISHED else "scaled, not measured"

    def canonical_name(self, stored: str) -> str:
        return canonical_name(stored)

    def image_settings(self, directory: Path) -> ImageSettings:
        return ImageSettings(read_preprocessing(directory, self.facts.vision.image_size))

    def prompts(self, tokenizer: Tokenizer) -> Prompts:
        placeholder = image_placeholder(tokenizer, self.image_token)
        return Prompts(
            question=placeholder + TEMPLATE,
            two_image_question=2 * placeholder + TEMPLATE,
            general_question=GENERAL_QUESTION,
            image_placeholder=placeholder,
        )

    def end_tokens(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        return ()

    def one_input(self, prompts: Prompts) -> str:
        return prompts.image_placeholder

    def vision(self, tensors: CheckpointTensors, half: bool) -> nn.Module:
        return VisionTower(tensors, self.facts.vision, half)

    def pixel_gradients(self, tensors: CheckpointTensors) -> nn.Module:
        return PixelGradients(tensors, self.facts)

    @property
    def reference(self) -> type[PreTrainedModel]:
        from transformers import LlavaForConditionalGeneration

        return LlavaForConditionalGeneration

    def image_features(self, model: Any, pixel_values: Tensor) -> Tensor:
        # All hidden states are asked for because transformers takes feature layer 0 for "none".
        features = model.get_image_features(pixel_values=pixel_values, output_hidden_states=True)
        embeds: Tensor = features.pooler_output[0]
        return embeds

    def decoder_layers(self, model: Any) -> Iterable[nn.Module]:
        layers: Iterable[nn.Module] = model.model.language_model.layers
        return layers
