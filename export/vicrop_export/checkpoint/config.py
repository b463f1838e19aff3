"""What `config.json` says, with transformers' defaults filled in: what all model families share of it.

Refuses decoders and settings the graphs do not have, by name. Reads no tensors; what a picture becomes is a
family's own to read.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicrop_engine.errors import CheckpointError
from vicrop_export.ops.layers import ACTIVATIONS
from vicrop_export.quiet import reason

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

CONFIG = "config.json"
TEXT_MODELS = ("llama", "mistral")


@dataclass(frozen=True)
class Rope:
    """Rotary positions: the base of the angles, and how many of them each axis of a position turns.

    Without `sections` there is one axis. They lie in blocks, or `interleaved`: the axes in turn, and the
    first one's left over at the end.
    """

    theta: float
    sections: tuple[int, ...] = ()
    interleaved: bool = False

    @property
    def num_axes(self) -> int:
        """Numbers a token's position has."""
        return len(self.sections) or 1

    @property
    def axes(self) -> list[int]:
        """The axis of each angle, where there are several."""
        if not self.interleaved:
            return [axis for axis, number in enumerate(self.sections) for _ in range(number)]
        axes = [0] * sum(self.sections)
        for axis, number in list(enumerate(self.sections))[1:]:
            for place in range(axis, min(self.num_axes * number, len(axes)), self.num_axes):
                axes[place] = axis
        return axes


@dataclass(frozen=True)
class TextFacts:
    """Sizes and settings of the language model.

    `added_embeds` is how many further slices an embedding has: number i + 1 is added after layer i.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    activation: str
    norm_eps: float
    rope: Rope
    attention_bias: bool
    mlp_bias: bool
    tied_embeddings: bool
    added_embeds: int = 0


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object of a checkpoint. Raises CheckpointError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent}: no {path.name}; wanted a checkpoint directory") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON ({error}); fetch the checkpoint again"
        ) from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds no JSON object; fetch the checkpoint again")
    return document


def read_config(directory: Path, kind: type[PreTrainedConfig]) -> Any:
    """The document as transformers' configuration of this `kind`. Raises CheckpointError."""
    try:
        return kind.from_dict(read_json(directory / CONFIG))
    except CheckpointError:
        raise
    except Exception as error:  # transformers raises whatever its validators do
        raise CheckpointError(f"{directory / CONFIG}: transformers refuses it: {reason(error)}") from error


def read_text_facts(config: Any, models: Collection[str] = TEXT_MODELS) -> TextFacts:
    """The language model of transformers' configuration, one of `models`.

    Raises CheckpointError for what graphs lack.
    """
    text = config.text_config
    kind = text.model_type
    demand(kind in models, "text_config.model_type", kind, " or ".join(map(repr, models)))
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return TextFacts(
        hidden_size=text.hidden_size,
        num_layers=text.num_hidden_layers,
        num_heads=text.num_attention_heads,
        num_kv_heads=text.num_key_value_heads,
        head_dim=head_dim,
        vocab_size=text.vocab_size,
        context_length=_context_length(text),
        activation=demand_activation("text_config.hidden_act", text.hidden_act),
        norm_eps=text.rms_norm_eps,
        rope=Rope(_rope_theta(text.rope_parameters or {})),
        attention_bias=getattr(text, "attention_bias", False),
        mlp_bias=getattr(text, "mlp_bias", False),
        tied_embeddings=_ties(config),
    )


def _ties(config: Any) -> bool:
    """What the whole configuration says, or its language model's where that says nothing."""
    says = config if hasattr(config, "tie_word_embeddings") else config.text_config
    return bool(says.tie_word_embeddings)


def _context_length(text: Any) -> int:
    """Positions there are; no more than a sliding window holds, so that every token sees all before it."""
    window = getattr(text, "sliding_window", None)
    return int(min(text.max_position_embeddings, window or text.max_position_embeddings))


def _rope_theta(rope: dict[str, Any]) -> float:
    kind = rope.get("rope_type", "default")
    demand(kind == "default", "text_config rope type", kind, "'default' (no rope scaling)")
    partial = rope.get("partial_rotary_factor", 1.0)
    demand(partial == 1.0, "text_config partial_rotary_factor", partial, "1.0")
    return float(rope.get("rope_theta", 10000.0))


def demand_activation(key: str, name: str) -> str:
    """The name of an activation there is. Raises CheckpointError."""
    demand(name in ACTIVATIONS, key, name, f"one of {', '.join(ACTIVATIONS)}")
    return name


def demand(fulfilled: bool, key: str, got: object, wanted: str) -> None:
    """Raise CheckpointError unless what `key` says is `fulfilled`."""
    if not fulfilled:
        raise CheckpointError(
            f"{CONFIG}: {key} is {got!r}, wanted {wanted}; no graph has anything else, choose another "
            "checkpoint"
        )
