"""What `config.json` says about a LLaVA-NeXT checkpoint: LLaVA-1.5's parts, and the sizes of whole tiles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vicrop_export.checkpoint.config import demand, read_config, read_text_facts
from vicrop_export.families.llava.facts import LlavaFacts, vision_facts


@dataclass(frozen=True)
class NextFacts(LlavaFacts):
    """The same; `text_kind` is the decoder's model_type, `pinpoints` heights and widths of whole tiles."""

    text_kind: str
    pinpoints: tuple[tuple[int, int], ...]


def read_facts(directory: Path) -> NextFacts:
    """Read and check `config.json`. Raises CheckpointError naming what is not supported."""
    from transformers import LlavaNextConfig

    config = read_config(directory, LlavaNextConfig)
    strategy, side = config.vision_feature_select_strategy, config.vision_config.image_size
    demand(strategy == "default", "vision_feature_select_strategy", strategy, "'default'")
    vision, pinpoints = vision_facts(config), config.image_grid_pinpoints
    return NextFacts(
        vision,
        read_text_facts(config),
        config.image_token_id,
        config.text_config.model_type,
        whole_tiles(pinpoints, side),
    )


def whole_tiles(pinpoints: object, side: int) -> tuple[tuple[int, int], ...]:
    """Heights and widths as pairs. Raises CheckpointError unless each is of whole tiles of `side`."""
    wanted = f"pairs of height and width, each a multiple of {side} from {side} up"
    pairs = pinpoints if isinstance(pinpoints, list) else []
    fits = [
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(isinstance(length, int) and length >= side and length % side == 0 for length in pair)
        for pair in pairs
    ]
    demand(bool(fits) and all(fits), "image_grid_pinpoints", pinpoints, wanted)
    return tuple((int(height), int(width)) for height, width in pairs)
