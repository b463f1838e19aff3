"""What a model family gives a build: facts of a checkpoint, names, modules, prompts, and transformers' own.

The rest of the package knows models through this alone. A family is an object made of one checkpoint's
configuration; no weights are read by making it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tokenizers import Tokenizer
from torch import Tensor, nn

from vicrop_engine.engine_dir.records import LayerSource, Preprocessing, Prompts, VisionGeometry
from vicrop_export.checkpoint.config import TextFacts
from vicrop_export.checkpoint.tensors import CheckpointTensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ImageSettings:
    """How one input of the vision tower is made, and the family's own settings for the manifest.

    `most_inputs` is how many inputs a picture is at most.
    """

    preprocessing: Preprocessing
    settings: dict[str, int] = field(default_factory=dict)
    most_inputs: int = 1


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

    def vision(self, tensors: CheckpointTensors, half: bool) -> nn.Module:
        """`pixel_values` [images, 3, side, side] to `image_embeds` [images, image_tokens, hidden].

        With `half` attention is in float16.
        """

    def pixel_gradients(self, tensors: CheckpointTensors) -> nn.Module:
        """The graph for pure-grad. Raises SettingError where `has_pixel_gradients` is not set."""

    @property
    def reference(self) -> type[PreTrainedModel]:
        """transformers' own class of the whole model."""

    def image_features(self, model: nn.Module, pixel_values: Tensor) -> Tensor:
        """What transformers' model makes of one input [1, 3, side, side]: [image_tokens, hidden]."""

    def decoder_layers(self, model: nn.Module) -> Iterable[nn.Module]:
        """The layers of transformers' language model in order, each with its `self_attn`."""
