"""SmolVLM2, SmolVLM and Idefics3 for a build: one input of the tower is a tile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tokenizers import Tokenizer
from torch import Tensor, nn

from vicrop_engine.engine_dir.records import LayerSource, Prompts, VisionGeometry, default_layer
from vicrop_engine.errors import CheckpointError
from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checkpoint.tokenizer import image_placeholder
from vicrop_export.families.interfaces import ImageSettings
from vicrop_export.families.questions import ASKED, GENERAL_QUESTION
from vicrop_export.families.smolvlm.facts import SmolVLMFacts, read_facts
from vicrop_export.families.smolvlm.names import canonical_name
from vicrop_export.families.smolvlm.processor import read_image_settings
from vicrop_export.families.smolvlm.vision import TileTower

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BEGIN, END = "<|im_start|>", "<end_of_utterance>"
AROUND, GLOBAL, FIRST_TILE = "<fake_token_around_image>", "<global-img>", "<row_1_col_1>"


@dataclass(frozen=True)
class SmolVLM:
    """One checkpoint of this family; what its properties and methods are says ExportFamily."""

    facts: SmolVLMFacts
    reference: type[PreTrainedModel]

    name = "smolvlm"
    has_pixel_gradients = False
    has_published_flow = False

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Of a checkpoint directory of SmolVLM or SmolVLM2. Raises CheckpointError."""
        from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

        return cls(read_facts(directory, SmolVLMConfig), SmolVLMForConditionalGeneration)

    @classmethod
    def read_idefics3(cls, directory: Path) -> Self:
        """Of a checkpoint directory of Idefics3 or SmolVLM-1. Raises CheckpointError."""
        from transformers import Idefics3Config, Idefics3ForConditionalGeneration

        return cls(read_facts(directory, Idefics3Config), Idefics3ForConditionalGeneration)

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
            patch_size=vision.patch_size * vision.shuffle,
            rows=vision.cells,
            cols=vision.cells,
            image_tokens=vision.cells**2,
            patch_offset=0,
        )

    @property
    def default_layer(self) -> tuple[int, LayerSource]:
        return default_layer(self.text.num_layers), "scaled, not measured"

    def canonical_name(self, stored: str) -> str:
        return canonical_name(stored)

    def image_settings(self, directory: Path) -> ImageSettings:
        return read_image_settings(directory, self.facts.vision.image_size)

    def prompts(self, tokenizer: Tokenizer) -> Prompts:
        placeholder = image_placeholder(tokenizer, self.image_token)
        for sign in (AROUND, GLOBAL, FIRST_TILE, END):
            if tokenizer.token_to_id(sign) is None:
                raise CheckpointError(
                    f"tokenizer.json has no {sign!r}, which prompts of this family are made of; the files "
                    "are not from one checkpoint"
                )
        begin = BEGIN if tokenizer.token_to_id(BEGIN) is not None else ""
        template = f"{ASKED}{END}\nAssistant:"
        return Prompts(
            question=f"{begin}User:{placeholder}{template}",
            two_image_question=f"{begin}User:{2 * placeholder}{template}",
            general_question=GENERAL_QUESTION,
            image_placeholder=placeholder,
        )

    def end_tokens(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        end = tokenizer.token_to_id(END)
        return () if end is None else (int(end),)

    def one_input(self, prompts: Prompts) -> str:
        return f"{AROUND}{GLOBAL}{prompts.image_placeholder}{AROUND}"

    def vision(self, tensors: CheckpointTensors, half: bool) -> nn.Module:
        return TileTower(tensors, self.facts.vision, half)

    def pixel_gradients(self, tensors: CheckpointTensors) -> nn.Module:
        raise NotImplementedError("`has_pixel_gradients` says that there are none")

    def image_features(self, model: Any, pixel_values: Tensor) -> Tensor:
        features = model.get_image_features(pixel_values[None])
        embeds: Tensor = features.pooler_output[0]
        return embeds

    def decoder_layers(self, model: Any) -> Iterable[nn.Module]:
        layers: Iterable[nn.Module] = model.model.text_model.layers
        return layers
