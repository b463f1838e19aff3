"""What `config.json` says about a LLaVA-1.5 checkpoint: its CLIP tower, projector and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import LlavaConfig

from vicrop_export.checkpoint.config import (
    TextFacts,
    demand,
    demand_activation,
    read_config,
    read_text_facts,
)


@dataclass(frozen=True)
class VisionFacts:
    """Sizes of the vision tower and projector; `feature_layers` are indices of hidden states from 0."""

    hidden_size: int
    num_layers: int
    num_heads: int
    image_size: int
    patch_size: int
    activation: str
    norm_eps: float
    feature_layers: tuple[int, ...]
    keeps_class_token: bool
    projector_activation: str

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size

    @property
    def image_tokens(self) -> int:
        """Tokens one image takes in the prompt."""
        return self.grid**2 + int(self.keeps_class_token)


@dataclass(frozen=True)
class LlavaFacts:
    """Everything the graphs and the manifest need to know about the architecture."""

    vision: VisionFacts
    text: TextFacts
    image_token: int


def read_facts(directory: Path) -> LlavaFacts:
    """Read and check `config.json`. Raises CheckpointError naming what is not supported."""
    config = read_config(directory, LlavaConfig)
    return LlavaFacts(vision_facts(config), read_text_facts(config), config.image_token_id)


def vision_facts(config: Any) -> VisionFacts:
    """Those of transformers' configuration. Raises CheckpointError."""
    vision = config.vision_config
    demand(vision.model_type == "clip_vision_model", "vision_config.model_type", vision.model_type, "CLIP")
    for name in ("image_size", "patch_size"):
        value = getattr(vision, name)
        demand(isinstance(value, int), f"vision_config.{name}", value, "one whole number")
    demand(vision.num_channels == 3, "vision_config.num_channels", vision.num_channels, "3")
    strategy = config.vision_feature_select_strategy
    return VisionFacts(
        hidden_size=vision.hidden_size,
        num_layers=vision.num_hidden_layers,
        num_heads=vision.num_attention_heads,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        activation=demand_activation("vision_config.hidden_act", vision.hidden_act),
        norm_eps=vision.layer_norm_eps,
        feature_layers=_feature_layers(config.vision_feature_layer, vision.num_hidden_layers),
        keeps_class_token=strategy == "full",
        projector_activation=demand_activation("projector_hidden_act", config.projector_hidden_act),
    )


def _feature_layers(layers: int | list[int], num_layers: int) -> tuple[int, ...]:
    chosen = [layers] if isinstance(layers, int) else list(layers)
    wanted = f"indices from {-num_layers - 1} to {num_layers}"
    demand(bool(chosen), "vision_feature_layer", layers, wanted)
    for layer in chosen:
        demand(-num_layers - 1 <= layer <= num_layers, "vision_feature_layer", layers, wanted)
    return tuple(layer % (num_layers + 1) for layer in chosen)
