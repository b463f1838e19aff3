"""What `config.json` says about a checkpoint of this family: its SigLIP tower, pixel shuffle and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicrop_export.checkpoint.config import (
    CONFIG,
    TextFacts,
    demand,
    demand_activation,
    read_config,
    read_json,
    read_text_facts,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

NEWER, OLDER = "smolvlm", "idefics3"  # what config.json calls them; the same architecture


@dataclass(frozen=True)
class TowerFacts:
    """Sizes of the tower: `image_size` is the side of a tile, `scale` × `scale` patches become one token."""

    num_layers: int
    num_heads: int
    image_size: int
    patch_size: int
    scale: int
    activation: str
    norm_eps: float

    @property
    def grid(self) -> int:
        """Patches per side of a tile."""
        return self.image_size // self.patch_size

    @property
    def cells(self) -> int:
        """Tokens per side of a tile."""
        return self.grid // self.scale


@dataclass(frozen=True)
class TiledFacts:
    """Everything the graphs and the manifest need to know; `kind` is the configuration's model_type."""

    kind: str
    tower: TowerFacts
    text: TextFacts
    image_token: int


def read_facts(directory: Path) -> TiledFacts:
    """Read and check `config.json`. Raises CheckpointError naming what is not supported."""
    kind = str(read_json(directory / CONFIG).get("model_type"))
    config = read_config(directory, configuration_of(kind))
    return TiledFacts(kind, _tower_facts(config), read_text_facts(config), config.image_token_id)


def configuration_of(kind: str) -> type[PreTrainedConfig]:
    """transformers' configuration of a model_type of this family."""
    from transformers import Idefics3Config, SmolVLMConfig

    return Idefics3Config if kind == OLDER else SmolVLMConfig


def model_of(kind: str) -> type[PreTrainedModel]:
    """transformers' class of a model_type of this family."""
    from transformers import Idefics3ForConditionalGeneration, SmolVLMForConditionalGeneration

    return Idefics3ForConditionalGeneration if kind == OLDER else SmolVLMForConditionalGeneration


def _tower_facts(config: Any) -> TowerFacts:
    vision = config.vision_config
    for name in ("image_size", "patch_size"):
        value = getattr(vision, name)
        demand(isinstance(value, int), f"vision_config.{name}", value, "one whole number")
    demand(vision.num_channels == 3, "vision_config.num_channels", vision.num_channels, "3")
    grid = vision.image_size // vision.patch_size
    divisors = [size for size in range(1, grid + 1) if grid % size == 0]
    wanted = f"a divisor of the {grid} patches a side"
    demand(config.scale_factor in divisors, "scale_factor", config.scale_factor, wanted)
    return TowerFacts(
        num_layers=vision.num_hidden_layers,
        num_heads=vision.num_attention_heads,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        scale=config.scale_factor,
        activation=demand_activation("vision_config.hidden_act", vision.hidden_act),
        norm_eps=vision.layer_norm_eps,
    )
