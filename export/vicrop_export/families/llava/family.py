"""LLaVA-1.5 for a build: one picture, one input of its tower, and the prompts of the published method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor, nn

from vicrop_engine.engine_dir.records import LayerSource, Prompts, VisionGeometry, default_layer
from vicrop_engine.images.seen import PIXELS
from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checkpoint.tokenizer import image_placeholder
from vicrop_export.families.bounds import refuse_bound
from vicrop_export.families.interfaces import ImageSettings, text_logits
from vicrop_export.families.llava.facts import LlavaFacts, read_facts
from vicrop_export.families.llava.names import canonical_name
from vicrop_export.families.llava.pixel_gradient import PixelGradients
from vicrop_export.families.llava.processor import read_preprocessing
from vicrop_export.families.llava.vision import VisionTower
from vicrop_export.families.questions import ASKED, GENERAL_QUESTION
from vicrop_export.modules.interfaces import square_interface
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.probe import Picture

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
    extra_rows: ClassVar[tuple[str, ...]] = ()
    second_stage: ClassVar[None] = None

    @classmethod
    def read(cls, directory: Path, max_pixels: int | None = None) -> Self:
        """Of a checkpoint directory. Raises CheckpointError, and SettingError for `max_pixels`."""
        refuse_bound(max_pixels)
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

    def vision_interface(self, in_place: bool) -> GraphInterface:
        return square_interface(self.geometry, one=not in_place)

    @property
    def window(self) -> int:
        return self.geometry.image_size

    @property
    def picture_axes(self) -> Mapping[str, tuple[int, int, int]]:
        return {}

    def picture(self) -> Picture:
        shape = 1, 3, self.geometry.image_size, self.geometry.image_size
        pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
        return Picture.of_pixels(pixels, self.geometry.image_tokens)

    def pixel_gradients(self, tensors: CheckpointTensors) -> nn.Module:
        return PixelGradients(tensors, self.facts)

    @property
    def reference(self) -> type[PreTrainedModel]:
        from transformers import LlavaForConditionalGeneration

        return LlavaForConditionalGeneration

    def image_features(self, model: Any, picture: Mapping[str, Tensor]) -> Tensor:
        # All hidden states are asked for because transformers takes feature layer 0 for "none".
        features = model.get_image_features(pixel_values=picture[PIXELS], output_hidden_states=True)
        embeds: Tensor = features.pooler_output[0]
        return embeds[None]

    def last_logits(self, model: Any, embeds: Tensor, is_image: Tensor, positions: Tensor) -> Tensor:
        return text_logits(model, embeds)

    def decoder_layers(self, model: Any) -> Iterable[nn.Module]:
        layers: Iterable[nn.Module] = model.model.language_model.layers
        return layers
