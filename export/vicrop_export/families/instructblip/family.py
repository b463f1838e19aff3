"""InstructBLIP for a build: a vision transformer, a Q-Former that reads the question, and Vicuna."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor, nn

from vicrop_engine.engine_dir.records import LayerSource, Prompts, VisionGeometry
from vicrop_engine.errors import SettingError
from vicrop_engine.images.seen import PIXELS
from vicrop_engine.model.instructed import IDS, STATES
from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.processor import demand_plain, load_processor, preprocessing_of
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checkpoint.tokenizer import demand_token, image_placeholder
from vicrop_export.families.bounds import refuse_bound
from vicrop_export.families.instructblip.facts import BlipFacts, read_facts
from vicrop_export.families.instructblip.names import canonical_name
from vicrop_export.families.instructblip.stage import QFormerStage
from vicrop_export.families.instructblip.vision import VisionTransformer
from vicrop_export.families.interfaces import ImageSettings
from vicrop_export.families.questions import GENERAL_QUESTION
from vicrop_export.modules.interfaces import square_interface
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.probe import Picture

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WANTED = "BlipImageProcessor"
TEMPLATE = "Question: {question} Short answer:"
END = "</s>"
PUBLISHED = 32, 15  # layers of the model that the method was published with, and its heatmap layer
INSTRUCTION = 9  # ids of the instruction that a build compares on


@dataclass(frozen=True)
class InstructBlip:
    """One checkpoint of this family; what its properties and methods are says ExportFamily."""

    facts: BlipFacts

    name = "instructblip"
    has_pixel_gradients = False
    has_published_flow = False
    extra_rows: ClassVar[tuple[str, ...]] = ()

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
            image_tokens=self.facts.qformer.num_queries,
            patch_offset=0,
        )

    @property
    def default_layer(self) -> tuple[int, LayerSource]:
        num_layers, (published, own) = self.text.num_layers, PUBLISHED
        if num_layers == published:
            return own, "published"
        return int((own + 0.5) * num_layers / published), "scaled, not measured"

    @property
    def second_stage(self) -> QFormerStage:
        return QFormerStage(self.facts)

    def canonical_name(self, stored: str) -> str:
        return canonical_name(stored)

    def image_settings(self, directory: Path) -> ImageSettings:
        processor = load_processor(directory, WANTED)
        demand_plain(processor, WANTED)
        return ImageSettings(preprocessing_of(processor, self.facts.vision.image_size))

    def prompts(self, tokenizer: Tokenizer) -> Prompts:
        placeholder = image_placeholder(tokenizer, self.image_token)
        return Prompts(
            question=placeholder + TEMPLATE,
            two_image_question=2 * placeholder + TEMPLATE,
            general_question=GENERAL_QUESTION,
            image_placeholder=placeholder,
            pictures_first=True,
        )

    def end_tokens(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        # The published generation settings say 1, which is where a text begins; answers end with this one.
        return (demand_token(tokenizer, END),)

    def one_input(self, prompts: Prompts) -> str:
        return prompts.image_placeholder

    def vision(self, tensors: CheckpointTensors, half: bool) -> nn.Module:
        return VisionTransformer(tensors, self.facts.vision)

    def vision_interface(self, in_place: bool) -> GraphInterface:
        return square_interface(self.geometry, one=not in_place, output=STATES)

    @property
    def window(self) -> int:
        return self.geometry.image_size

    @property
    def picture_axes(self) -> Mapping[str, tuple[int, int, int]]:
        return {}

    def picture(self) -> Picture:
        random, side = np.random.default_rng(0), self.geometry.image_size
        pixels = random.standard_normal((1, 3, side, side), np.float32)
        ids = random.integers(0, self.facts.qformer.vocab_size, INSTRUCTION).tolist()
        made = Picture.of_pixels(pixels, self.geometry.image_tokens)
        return replace(made, instruction=tuple(ids))

    def pixel_gradients(self, tensors: CheckpointTensors) -> nn.Module:
        raise SettingError("pure-grad has no graph for a Q-Former; build without --pure-grad")

    @property
    def reference(self) -> type[PreTrainedModel]:
        from transformers import InstructBlipForConditionalGeneration

        return InstructBlipForConditionalGeneration

    def image_features(self, model: Any, picture: Mapping[str, Tensor]) -> Tensor:
        features = model.get_image_features(
            pixel_values=picture[PIXELS], qformer_input_ids=picture[IDS], return_dict=True
        )
        embeds: Tensor = features.pooler_output
        return embeds

    def last_logits(self, model: Any, embeds: Tensor, is_image: Tensor, positions: Tensor) -> Tensor:
        made = model.language_model(inputs_embeds=embeds, use_cache=False, logits_to_keep=2)
        logits: Tensor = made.logits[0]
        return logits

    def decoder_layers(self, model: Any) -> Iterable[nn.Module]:
        layers: Iterable[nn.Module] = model.language_model.model.layers
        return layers
