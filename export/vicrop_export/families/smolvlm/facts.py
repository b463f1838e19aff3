"""What `config.json` says about a SmolVLM or Idefics3 checkpoint: its tower, connector and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicrop_export.checkpoint.config import (
    TextFacts,
    demand,
    demand_activation,
    read_config,
    read_text_facts,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class TileFacts:
    """Sizes of the vision tower; `shuffle` patches a side go into one token."""

    hidden_size: int
    num_layers: int
    num_heads: int
    image_size: int
    patch_size: int
    shuffle: int
    activation: str
    norm_eps: float

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size

    @property
    def cells(self) -> int:
        """Tokens per side."""
        return self.grid // self.shuffle


@dataclass(frozen=True)
class SmolVLMFacts:
    """Everything the graphs and the manifest need to know about the architecture."""

    vision: TileFacts
    text: TextFacts
    image_token: int


def read_facts(directory: Path, kind: type[PreTrainedConfig]) -> SmolVLMFacts:
    """Read and check `config.json`. Raises CheckpointError naming what is not supported."""
    config = read_config(directory, kind)
    return SmolVLMFacts(_vision_facts(config), read_text_facts(config), int(config.image_token_id))


def _vision_facts(config: Any) -> TileFacts:
    vision, shuffle = config.vision_config, config.scale_factor
    for name in ("image_size", "patch_size"):
        value = getattr(vision, name)
        demand(isinstance(value, int), f"vision_config.{name}", value, "one whole number")
    demand(vision.num_channels == 3, "vision_config.num_channels", vision.num_channels, "3")
    grid = vision.image_size // vision.patch_size
    demand(
        isinstance(shuffle, int) and shuffle > 0 and grid % shuffle == 0,
        "scale_factor",
        shuffle,
        f"a divisor of the {grid} patches of a side",
    )
    return TileFacts(
        hidden_size=vision.hidden_size,
        num_layers=vision.num_hidden_layers,
        num_heads=vision.num_attention_heads,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        shuffle=shuffle,
        activation=demand_activation("vision_config.hidden_act", vision.hidden_act),
        norm_eps=vision.layer_norm_eps,
    )
