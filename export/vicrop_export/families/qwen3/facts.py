"""What `config.json` says about a Qwen3-VL checkpoint: its tower and decoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vicrop_export.checkpoint.config import TextFacts, demand, read_config
from vicrop_export.families.qwen.facts import TowerFacts, read_text, read_tower

KIND = "qwen3_vl"


@dataclass(frozen=True)
class TappedFacts:
    """Everything the graphs and the manifest need to know.

    The tower has a table of `table` x `table` positions; what comes out of its `tapped_layers` is added in
    the decoder's first layers.
    """

    tower: TowerFacts
    table: int
    tapped_layers: tuple[int, ...]
    text: TextFacts
    image_token: int


def read_facts(directory: Path) -> TappedFacts:
    """Read and check `config.json`. Raises CheckpointError naming what is not supported."""
    from transformers import Qwen3VLConfig

    config = read_config(directory, Qwen3VLConfig)
    vision = config.vision_config
    tower = read_tower(vision, vision.hidden_size)
    tapped, number = tuple(vision.deepstack_visual_indexes), vision.num_position_embeddings
    wanted = f"layers from 0 to {tower.num_layers - 1} in order"
    in_order = list(tapped) == sorted(set(tapped)) and set(tapped) <= set(range(tower.num_layers))
    demand(in_order, "vision_config.deepstack_visual_indexes", list(tapped), wanted)
    table = math.isqrt(number)
    demand(table**2 == number > 0, "vision_config.num_position_embeddings", number, "a square number")
    text = read_text(config, f"{KIND}_text", interleaved=True, added_embeds=len(tapped))
    out = vision.out_hidden_size
    demand(out == text.hidden_size, "vision_config's output", out, f"the decoder's {text.hidden_size}")
    fits = len(tapped) <= text.num_layers
    demand(fits, "vision_config.deepstack_visual_indexes", list(tapped), f"at most {text.num_layers}")
    return TappedFacts(tower, table, tapped, text, config.image_token_id)
