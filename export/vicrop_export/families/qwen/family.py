"""What the families of Qwen's towers give a build alike: a picture of any size is one run of image tokens."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from vicrop_engine.engine_dir.records import LayerSource, Prompts, VisionGeometry
from vicrop_engine.errors import SettingError
from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checkpoint.tokenizer import demand_token, image_placeholder
from vicrop_export.families.interfaces import ImageSettings
from vicrop_export.families.questions import ASKED, GENERAL_QUESTION
from vicrop_export.families.qwen.facts import TowerFacts
from vicrop_export.families.qwen.interface import grid_of, noise_picture, picture_axes, picture_interface
from vicrop_export.families.qwen.names import canonical_name
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.probe import Picture

BEGIN, END = "<|im_start|>", "<|im_end|>"
BEFORE, AFTER = "<|vision_start|>", "<|vision_end|>"
SYSTEM = f"{BEGIN}system\nYou are a helpful assistant.{END}\n"
WINDOW = 224  # pixels, of the published method on Qwen2.5-VL
PUBLISHED = 36, 22  # layers of the model that the method was published with, and its heatmap layer


class QwenFamily(ABC):
    """What its properties and methods are says ExportFamily; `system` is what a prompt begins with."""

    name: ClassVar[str]
    system: ClassVar[str]
    has_pixel_gradients: ClassVar[bool] = False
    has_published_flow: ClassVar[bool] = False
    extra_rows: ClassVar[tuple[str, ...]] = ()
    second_stage: ClassVar[None] = None

    def __init__(self, tower: TowerFacts, text: TextFacts, image_token: int, images: ImageSettings) -> None:
        self.tower, self.text, self.image_token, self._images = tower, text, image_token, images

    @property
    def geometry(self) -> VisionGeometry:
        """The largest square, and the most tokens of any picture."""
        cell, most = self.tower.cell, self._images.settings["max_pixels"]
        tokens = most // cell**2
        side = math.isqrt(tokens)
        return VisionGeometry(
            image_size=side * cell,
            patch_size=cell,
            rows=side,
            cols=side,
            image_tokens=tokens,
            patch_offset=0,
        )

    @property
    def window(self) -> int:
        return WINDOW

    @property
    def default_layer(self) -> tuple[int, LayerSource]:
        num_layers, layer = PUBLISHED
        return int((layer + 0.5) * self.text.num_layers / num_layers), "scaled, not measured"

    def canonical_name(self, stored: str) -> str:
        return canonical_name(stored)

    def image_settings(self, directory: Path) -> ImageSettings:
        return self._images

    def prompts(self, tokenizer: Tokenizer) -> Prompts:
        placeholder = image_placeholder(tokenizer, self.image_token)
        for token in (BEGIN, END, BEFORE, AFTER):
            demand_token(tokenizer, token)
        begin, image = f"{self.system}{BEGIN}user\n", f"{BEFORE}{placeholder}{AFTER}"
        asked = f"{ASKED}{END}\n{BEGIN}assistant\n"
        return Prompts(
            question=begin + image + asked,
            two_image_question=begin + 2 * image + asked,
            general_question=GENERAL_QUESTION,
            image_placeholder=placeholder,
        )

    def end_tokens(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        return (demand_token(tokenizer, END),)

    def one_input(self, prompts: Prompts) -> str:
        return prompts.image_placeholder

    def vision_interface(self, in_place: bool) -> GraphInterface:
        return picture_interface(self.picture(), in_place)

    @property
    def picture_axes(self) -> Mapping[str, tuple[int, int, int]]:
        settings = self._images.settings
        return picture_axes(self.geometry.image_tokens, settings["window"])

    def picture(self) -> Picture:
        settings = self._images.settings
        return noise_picture(settings["patch"], settings["window"], settings["table"])

    def pixel_gradients(self, tensors: CheckpointTensors) -> nn.Module:
        raise SettingError("pure-grad has no graph for patches of any picture; build without --pure-grad")

    def decoder_layers(self, model: Any) -> Iterable[nn.Module]:
        layers: Iterable[nn.Module] = model.model.language_model.layers
        return layers

    @abstractmethod
    def vision(self, tensors: CheckpointTensors, half: bool) -> nn.Module: ...

    @property
    @abstractmethod
    def reference(self) -> Any: ...

    def image_features(self, model: Any, picture: Mapping[str, Tensor]) -> Tensor:
        features = model.get_image_features(picture["patches"], grid_of(picture["patch_positions"]))
        added = [own for own in getattr(features, "deepstack_features", None) or ()]
        return torch.stack([torch.cat(tuple(part)) for part in (features.pooler_output, *added)])

    @abstractmethod
    def last_logits(self, model: Any, embeds: Tensor, is_image: Tensor, positions: Tensor) -> Tensor: ...
