"""What `config.json` says about a LLaVA checkpoint, with transformers' defaults filled in.

Refuses architectures and settings the graphs do not have, by name. Reads no tensors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicrop_engine.errors import CheckpointError
from vicrop_export.ops.layers import ACTIVATIONS
from vicrop_export.quiet import reason

CONFIG = "config.json"
TEXT_MODELS = ("llama", "mistral")


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
    projector_bias: bool

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size

    @property
    def image_tokens(self) -> int:
        """Tokens one image takes in the prompt."""
        return self.grid**2 + int(self.keeps_class_token)


@dataclass(frozen=True)
class TextFacts:
    """Sizes and settings of the language model."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    activation: str
    norm_eps: float
    rope_theta: float
    attention_bias: bool
    mlp_bias: bool
    tied_embeddings: bool


@dataclass(frozen=True)
class LlavaFacts:
    """Everything the graphs and the manifest need to know about the architecture."""

    vision: VisionFacts
    text: TextFacts
    image_token: int


def read_facts(directory: Path) -> LlavaFacts:
    """Read and check `config.json`. Raises CheckpointError naming what is not supported."""
    document = read_json(directory / CONFIG)
    _demand(document.get("model_type") == "llava", "model_type", document.get("model_type"), "'llava'")
    from transformers import LlavaConfig

    try:
        config = LlavaConfig.from_dict(document)
    except Exception as error:  # transformers raises whatever its validators do
        raise CheckpointError(f"{directory / CONFIG}: transformers refuses it: {reason(error)}") from error
    return LlavaFacts(_vision_facts(config), _text_facts(config), config.image_token_id)


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object of a checkpoint. Raises CheckpointError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.parent}: no {path.name}; wanted a LLaVA checkpoint directory"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON ({error}); fetch the checkpoint again"
        ) from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds no JSON object; fetch the checkpoint again")
    return document


def _vision_facts(config: Any) -> VisionFacts:
    vision = config.vision_config
    _demand(vision.model_type == "clip_vision_model", "vision_config.model_type", vision.model_type, "CLIP")
    for name in ("image_size", "patch_size"):
        value = getattr(vision, name)
        _demand(isinstance(value, int), f"vision_config.{name}", value, "one whole number")
    _demand(vision.num_channels == 3, "vision_config.num_channels", vision.num_channels, "3")
    strategy = config.vision_feature_select_strategy
    return VisionFacts(
        hidden_size=vision.hidden_size,
        num_layers=vision.num_hidden_layers,
        num_heads=vision.num_attention_heads,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        activation=_activation("vision_config.hidden_act", vision.hidden_act),
        norm_eps=vision.layer_norm_eps,
        feature_layers=_feature_layers(config.vision_feature_layer, vision.num_hidden_layers),
        keeps_class_token=strategy == "full",
        projector_activation=_activation("projector_hidden_act", config.projector_hidden_act),
        projector_bias=config.multimodal_projector_bias,
    )


def _text_facts(config: Any) -> TextFacts:
    text = config.text_config
    kind = text.model_type
    _demand(kind in TEXT_MODELS, "text_config.model_type", kind, " or ".join(map(repr, TEXT_MODELS)))
    return TextFacts(
        hidden_size=text.hidden_size,
        num_layers=text.num_hidden_layers,
        num_heads=text.num_attention_heads,
        num_kv_heads=text.num_key_value_heads,
        head_dim=text.head_dim,
        vocab_size=text.vocab_size,
        context_length=_context_length(text),
        activation=_activation("text_config.hidden_act", text.hidden_act),
        norm_eps=text.rms_norm_eps,
        rope_theta=_rope_theta(text.rope_parameters or {}),
        attention_bias=getattr(text, "attention_bias", False),
        mlp_bias=getattr(text, "mlp_bias", False),
        tied_embeddings=bool(config.tie_word_embeddings),
    )


def _context_length(text: Any) -> int:
    """Positions there are; no more than a sliding window holds, so that every token sees all before it."""
    window = getattr(text, "sliding_window", None)
    return int(min(text.max_position_embeddings, window or text.max_position_embeddings))


def _rope_theta(rope: dict[str, Any]) -> float:
    kind = rope.get("rope_type", "default")
    _demand(kind == "default", "text_config rope type", kind, "'default' (no rope scaling)")
    partial = rope.get("partial_rotary_factor", 1.0)
    _demand(partial == 1.0, "text_config partial_rotary_factor", partial, "1.0")
    return float(rope.get("rope_theta", 10000.0))


def _feature_layers(layers: int | list[int], num_layers: int) -> tuple[int, ...]:
    chosen = [layers] if isinstance(layers, int) else list(layers)
    wanted = f"indices from {-num_layers - 1} to {num_layers}"
    _demand(bool(chosen), "vision_feature_layer", layers, wanted)
    for layer in chosen:
        _demand(-num_layers - 1 <= layer <= num_layers, "vision_feature_layer", layers, wanted)
    return tuple(layer % (num_layers + 1) for layer in chosen)


def _activation(key: str, name: str) -> str:
    _demand(name in ACTIVATIONS, key, name, f"one of {', '.join(ACTIVATIONS)}")
    return name


def _demand(fulfilled: bool, key: str, got: object, wanted: str) -> None:
    if not fulfilled:
        raise CheckpointError(
            f"{CONFIG}: {key} is {got!r}, wanted {wanted}; only checkpoints of LLaVA-1.5's architecture "
            "(CLIP tower, Llama or Mistral decoder) can be built"
        )
