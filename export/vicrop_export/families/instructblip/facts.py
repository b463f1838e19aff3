"""What `config.json` says about an InstructBLIP checkpoint: its ViT, its Q-Former and the decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicrop_export.checkpoint.config import (
    TextFacts,
    demand,
    demand_activation,
    read_config,
    read_text_facts,
)

PUBLISHED_ENTRIES, PUBLISHED_ENTRY = 6, 2  # cross-attentions of the published Q-Former, and the method's one


@dataclass(frozen=True)
class ViTFacts:
    """Sizes of the vision transformer, whose class token is handed on with the patches."""

    hidden_size: int
    num_layers: int
    num_heads: int
    image_size: int
    patch_size: int
    activation: str
    norm_eps: float

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class QFormerFacts:
    """Sizes of the Q-Former; every `every` layers from the first on look at the picture.

    `num_queries` are the tokens that a picture takes, and `most_tokens` how long an instruction may be.
    """

    num_layers: int
    num_heads: int
    num_queries: int
    every: int
    vocab_size: int
    most_tokens: int
    activation: str
    norm_eps: float

    @property
    def entry(self) -> int:
        """Which of the layers that look at the picture the heatmap is read from, scaled to their number."""
        entries = -(-self.num_layers // self.every)
        return int((PUBLISHED_ENTRY + 0.5) * entries / PUBLISHED_ENTRIES)


@dataclass(frozen=True)
class BlipFacts:
    """Everything the graphs and the manifest need to know about the architecture."""

    vision: ViTFacts
    qformer: QFormerFacts
    text: TextFacts
    image_token: int


def read_facts(directory: Path) -> BlipFacts:
    """Read and check `config.json`. Raises CheckpointError naming what is not supported."""
    from transformers import InstructBlipConfig

    config = read_config(directory, InstructBlipConfig)
    token = config.image_token_index
    wanted = "the id of the token that stands for a picture, which later published files name"
    demand(isinstance(token, int), "image_token_index", token, wanted)
    return BlipFacts(_vision(config.vision_config), _qformer(config), read_text_facts(config), token)


def _vision(vision: Any) -> ViTFacts:
    for name in ("image_size", "patch_size"):
        value = getattr(vision, name)
        demand(isinstance(value, int), f"vision_config.{name}", value, "one whole number")
    return ViTFacts(
        hidden_size=vision.hidden_size,
        num_layers=vision.num_hidden_layers,
        num_heads=vision.num_attention_heads,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        activation=demand_activation("vision_config.hidden_act", vision.hidden_act),
        norm_eps=vision.layer_norm_eps,
    )


def _qformer(config: Any) -> QFormerFacts:
    qformer, queries = config.qformer_config, config.num_query_tokens
    demand(isinstance(queries, int) and queries > 0, "num_query_tokens", queries, "a whole number from 1 up")
    return QFormerFacts(
        num_layers=qformer.num_hidden_layers,
        num_heads=qformer.num_attention_heads,
        num_queries=queries,
        every=qformer.cross_attention_frequency,
        vocab_size=qformer.vocab_size,
        most_tokens=qformer.max_position_embeddings,
        activation=demand_activation("qformer_config.hidden_act", qformer.hidden_act),
        norm_eps=qformer.layer_norm_eps,
    )
