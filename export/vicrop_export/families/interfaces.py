"""What a model family gives a build: facts of a checkpoint, names, modules, prompts, and transformers' own.

The rest of the package knows models through this alone. A family is an object made of one checkpoint's
configuration; no weights are read by making it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tokenizers import Tokenizer
from torch import Tensor, nn

from vicrop_engine.engine_dir.records import (
    InstructionReader,
    LayerSource,
    Preprocessing,
    Prompts,
    VisionGeometry,
)
from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors
from vicrop_export.onnx_files.export import GraphInterface
from vicrop_export.probe import Picture

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ImageSettings:
    """How one input of the vision tower is made, and the family's own settings for the manifest.

    `most_inputs` is how many inputs a picture is at most; `most_tokens` is as FamilyRecord says.
    """

    preprocessing: Preprocessing
    settings: dict[str, Any] = field(default_factory=dict)
    most_inputs: int = 1
    most_tokens: int | None = None


class SecondStage(Protocol):
    """What comes after the vision tower where the vision part reads the prompt's text beside the picture."""

    @property
    def reader(self) -> InstructionReader:
        """What the runtime has to know of it."""

    def tokenizer(self, directory: Path) -> Tokenizer:
        """The tokenizer of what it reads. Raises CheckpointError."""

    def module(self, tensors: CheckpointTensors) -> nn.Module:
        """`image_states` [1, patches, any] and `instruction_ids` [1, text] to `image_embeds` and `looked`.

        The embeds are [1, image_tokens, hidden]; the other is how much they looked at the cells, [heads,
        image_tokens, cells], in the layer that the reader names.
        """

    def interface(self) -> GraphInterface:
        """The interface of its graph."""

    def gradient_module(self, tensors: CheckpointTensors) -> nn.Module:
        """The same with `suffix_embeds` [1, suffix, hidden], on through the decoder, and back.

        It gives `looked` and the loss's `gradient` at it, [heads, image_tokens, cells] each; the loss is the
        logarithm of the likeliest next token's probability.
        """

    def gradient_interface(self) -> GraphInterface:
        """The interface of that graph."""


class ExportFamily(Protocol):
    """One checkpoint's model as its family reads it; what is not supported raises CheckpointError by name."""

    @property
    def name(self) -> str:
        """What the manifest calls the family."""

    @property
    def text(self) -> TextFacts:
        """The language model."""

    @property
    def geometry(self) -> VisionGeometry:
        """One input of the vision tower and the cells that its tokens stand for."""

    @property
    def image_token(self) -> int:
        """The id that stands for one image embedding."""

    @property
    def has_pixel_gradients(self) -> bool:
        """Whether there is a graph for pure-grad."""

    @property
    def extra_rows(self) -> Sequence[str]:
        """Tensors [hidden], by canonical name, that are among a picture's embeddings and of no input."""

    @property
    def second_stage(self) -> SecondStage | None:
        """What reads the prompt's text with the tower's states; None where these are image embeds already."""

    @property
    def has_published_flow(self) -> bool:
        """Whether the method's authors published their four passes for this family."""

    @property
    def default_layer(self) -> tuple[int, LayerSource]:
        """The heatmap layer where none is asked for, and where that number is from."""

    def canonical_name(self, stored: str) -> str:
        """A tensor's one name for a file's or transformers' own.

        It begins with `vision_tower.`, `multi_modal_projector.`, `language_model.` or `lm_head.`.
        """

    def image_settings(self, directory: Path) -> ImageSettings:
        """The image processor as settings. Raises CheckpointError for one that does anything else."""

    def prompts(self, tokenizer: Tokenizer) -> Prompts:
        """The templates with this checkpoint's tokens. Raises CheckpointError for tokens that are missing."""

    def end_tokens(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Ids that end an answer beside those of the generation settings."""

    def one_input(self, prompts: Prompts) -> str:
        """The text of one input of the vision tower in a prompt, its image placeholder once."""

    @property
    def window(self) -> int:
        """Side of the smallest crop window in pixels."""

    def vision(self, tensors: CheckpointTensors, half: bool) -> nn.Module:
        """The vision tower and projector; with `half` attention is in float16.

        Square inputs `pixel_values` [images, 3, side, side] give `image_embeds` [images, image_tokens,
        hidden]; a picture's own arrays, by name, its embeddings [1 + added, tokens, hidden]. Before a second
        stage they give `image_states` [images, patches, any].
        """

    def vision_interface(self, in_place: bool) -> GraphInterface:
        """The interface of its graph; if not for a target that works `in_place`, of standard operators."""

    @property
    def picture_axes(self) -> Mapping[str, tuple[int, int, int]]:
        """Least, usual and most size of each axis of the graph's that is a picture's own."""

    def picture(self) -> Picture:
        """A small picture of seeded noise to compare the graphs and transformers on."""

    def pixel_gradients(self, tensors: CheckpointTensors) -> nn.Module:
        """The graph for pure-grad. Raises SettingError where `has_pixel_gradients` is not set."""

    @property
    def reference(self) -> type[PreTrainedModel]:
        """transformers' own class of the whole model."""

    def image_features(self, model: nn.Module, picture: Mapping[str, Tensor]) -> Tensor:
        """What transformers' model makes of a picture: [1 + added, tokens, hidden].

        A picture for a second stage has `instruction_ids` [1, text] too.
        """

    def last_logits(self, model: nn.Module, embeds: Tensor, is_image: Tensor, positions: Tensor) -> Tensor:
        """Its logits [2, vocab] after the last two tokens of `embeds` [1 + added, tokens, hidden].

        `is_image` [tokens] are those of the picture; `positions` are [axes, tokens].
        """

    def decoder_layers(self, model: nn.Module) -> Iterable[nn.Module]:
        """The layers of transformers' language model in order, each with its `self_attn`."""


def text_logits(model: Any, embeds: Tensor) -> Tensor:
    """`ExportFamily.last_logits` where positions are counted and embeddings are one slice."""
    logits: Tensor = model(inputs_embeds=embeds, use_cache=False, logits_to_keep=2).logits[0]
    return logits
