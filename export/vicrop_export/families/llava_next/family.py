"""LLaVA-NeXT for a build: LLaVA-1.5's tower with tiles as its images, and its checkpoints' own prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from vicrop_engine.engine_dir.records import LayerSource, Prompts, default_layer
from vicrop_engine.errors import CheckpointError, SettingError
from vicrop_engine.images.seen import PIXELS
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.checkpoint.tokenizer import image_placeholder
from vicrop_export.families.bounds import refuse_bound
from vicrop_export.families.interfaces import ImageSettings
from vicrop_export.families.llava.family import Llava
from vicrop_export.families.llava_next.facts import NextFacts, read_facts
from vicrop_export.families.llava_next.processor import read_image_settings
from vicrop_export.families.questions import ASKED, GENERAL_QUESTION

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VICUNA = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the human's questions. USER: "
)
# By the decoder's model_type, what stands before a picture and after it: the templates of the model cards of
# llava-hf/llava-v1.6-mistral-7b-hf and llava-hf/llava-v1.6-vicuna-7b-hf.
TEMPLATES = {"mistral": ("[INST] ", f"\n{ASKED} [/INST]"), "llama": (VICUNA, f"\n{ASKED} ASSISTANT:")}
OTHER_CHATS = ("<|im_start|>", "<|start_header_id|>")  # signs of chats that neither is


@dataclass(frozen=True)
class LlavaNext(Llava):
    """One checkpoint of this family; what its properties and methods are says ExportFamily."""

    facts: NextFacts

    name = "llava-next"
    has_pixel_gradients = False
    has_published_flow = False
    extra_rows: ClassVar[tuple[str, ...]] = ("image_newline",)

    @classmethod
    def read(cls, directory: Path, max_pixels: int | None = None) -> Self:
        """Of a checkpoint directory. Raises CheckpointError, and SettingError for `max_pixels`."""
        refuse_bound(max_pixels)
        return cls(read_facts(directory))

    @property
    def default_layer(self) -> tuple[int, LayerSource]:
        return default_layer(self.text.num_layers), "scaled, not measured"

    def image_settings(self, directory: Path) -> ImageSettings:
        return read_image_settings(directory, self.facts)

    def prompts(self, tokenizer: Tokenizer) -> Prompts:
        for sign in OTHER_CHATS:
            if tokenizer.token_to_id(sign) is not None:
                raise CheckpointError(
                    f"tokenizer.json has the sign {sign!r}, and this version has the prompts of Mistral's "
                    "and Vicuna's chats alone; choose a checkpoint with one of these"
                )
        placeholder = image_placeholder(tokenizer, self.image_token)
        before, after = TEMPLATES[self.facts.text_kind]
        return Prompts(
            question=before + placeholder + after,
            two_image_question=before + 2 * placeholder + after,
            general_question=GENERAL_QUESTION,
            image_placeholder=placeholder,
        )

    def pixel_gradients(self, tensors: CheckpointTensors) -> nn.Module:
        raise SettingError("pure-grad has no graph for tiles; build without --pure-grad")

    @property
    def reference(self) -> type[PreTrainedModel]:
        from transformers import LlavaNextForConditionalGeneration

        return LlavaNextForConditionalGeneration

    def image_features(self, model: Any, picture: Mapping[str, Tensor]) -> Tensor:
        # One input's, before they are packed: `get_image_features` takes no base without tiles.
        states = model.model.vision_tower(picture[PIXELS], output_hidden_states=True).hidden_states
        chosen = [states[layer][:, 1:] for layer in self.facts.vision.feature_layers]
        embeds: Tensor = model.model.multi_modal_projector(torch.cat(chosen, dim=-1))
        return embeds
