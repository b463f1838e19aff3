"""SmolVLM for a build: one tile is one input of the tower, and a picture's tiles are written as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor, nn

from vicrop_engine.engine_dir.records import LayerSource, Prompts, VisionGeometry, default_layer
from vicrop_engine.errors import SettingError
from vicrop_engine.images.seen import PIXELS
from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checkpoint.tokenizer import demand_token, image_placeholder
from vicrop_export.families.bounds import refuse_bound
from vicrop_export.families.interfaces import ImageSettings, text_logits
from vicrop_export.families.questions import ASKED, GENERAL_QUESTION
from vicrop_export.families.smolvlm.facts import TiledFacts, model_of, read_facts
from vicrop_export.families.smolvlm.names import canonical_name
from vicrop_export.families.smolvlm.processor import read_image_settings
from vicrop_export.families.smolvlm.vision import TileTower
from vicrop_export.modules.interfaces import square_interface
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.probe import Picture

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BEGIN, END = "<|im_start|>", "<end_of_utterance>"
AROUND, WHOLE, FIRST_TILE = "<fake_token_around_image>", "<global-img>", "<row_1_col_1>"
TEMPLATE = f"{ASKED}{END}\nAssistant:"


@dataclass(frozen=True)
class SmolVLM:
    """One checkpoint of this family; what its properties and methods are says ExportFamily."""

    facts: TiledFacts

    name = "smolvlm"
    has_pixel_gradients = False
    has_published_flow = False
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
        tower = self.facts.tower
        return VisionGeometry(
            image_size=tower.image_size,
            patch_size=tower.patch_size * tower.scale,
            rows=tower.cells,
            cols=tower.cells,
            image_tokens=tower.cells**2,
            patch_offset=0,
        )

    @property
    def default_layer(self) -> tuple[int, LayerSource]:
        return default_layer(self.text.num_layers), "scaled, not measured"

    def canonical_name(self, stored: str) -> str:
        return canonical_name(stored)

    def image_settings(self, directory: Path) -> ImageSettings:
        return read_image_settings(directory, self.facts.tower.image_size)

    def prompts(self, tokenizer: Tokenizer) -> Prompts:
        placeholder = image_placeholder(tokenizer, self.image_token)
        for token in (BEGIN, END, AROUND, WHOLE, FIRST_TILE):
            demand_token(tokenizer, token)
        return Prompts(
            question=f"{BEGIN}User:{placeholder}{TEMPLATE}",
            two_image_question=f"{BEGIN}User:{2 * placeholder}{TEMPLATE}",
            general_question=GENERAL_QUESTION,
            image_placeholder=placeholder,
        )

    def end_tokens(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        return (demand_token(tokenizer, END),)

    def one_input(self, prompts: Prompts) -> str:
        return f"{AROUND}{WHOLE}{prompts.image_placeholder}{AROUND}"

    def vision(self, tensors: CheckpointTensors, half: bool) -> nn.Module:
        return TileTower(tensors, self.facts.tower, half)

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
        raise SettingError("pure-grad has no graph for tiles; build without --pure-grad")

    @property
    def reference(self) -> type[PreTrainedModel]:
        return model_of(self.facts.kind)

    def image_features(self, model: Any, picture: Mapping[str, Tensor]) -> Tensor:
        embeds: Tensor = model.get_image_features(pixel_values=picture[PIXELS][None]).pooler_output[0]
        return embeds[None]

    def last_logits(self, model: Any, embeds: Tensor, is_image: Tensor, positions: Tensor) -> Tensor:
        return text_logits(model, embeds)

    def decoder_layers(self, model: Any) -> Iterable[nn.Module]:
        layers: Iterable[nn.Module] = model.model.text_model.layers
        return layers
