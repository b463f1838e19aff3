"""What `config.json` says about a Qwen2-VL or Qwen2.5-VL checkpoint: its tower and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicrop_export.checkpoint.config import CONFIG, TextFacts, demand, read_config, read_json
from vicrop_export.families.qwen.facts import TowerFacts, read_text, read_tower

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

NEWER, OLDER = "qwen2_5_vl", "qwen2_vl"  # what config.json calls them


@dataclass(frozen=True)
class WindowedFacts:
    """Everything the graphs and the manifest need to know; `kind` is the configuration's model_type.

    All layers of the tower but `full_layers` look within windows of `window` cells a side; 0 without.
    """

    kind: str
    tower: TowerFacts
    window: int
    full_layers: tuple[int, ...]
    text: TextFacts
    image_token: int


def read_facts(directory: Path) -> WindowedFacts:
    """Read and check `config.json`. Raises CheckpointError naming what is not supported."""
    kind = str(read_json(directory / CONFIG).get("model_type"))
    config = read_config(directory, configuration_of(kind))
    vision = config.vision_config
    is_newer = kind == NEWER
    tower = read_tower(vision, vision.hidden_size if is_newer else vision.embed_dim)
    out = vision.out_hidden_size if is_newer else vision.hidden_size
    text = read_text(config, f"{kind}_text", interleaved=False)
    demand(out == text.hidden_size, "vision_config's output", out, f"the decoder's {text.hidden_size}")
    return WindowedFacts(
        kind=kind,
        tower=tower,
        window=_window(vision, tower) if is_newer else 0,
        full_layers=tuple(vision.fullatt_block_indexes) if is_newer else tuple(range(tower.num_layers)),
        text=text,
        image_token=config.image_token_id,
    )


def configuration_of(kind: str) -> type[PreTrainedConfig]:
    """transformers' configuration of a model_type of this family."""
    from transformers import Qwen2_5_VLConfig, Qwen2VLConfig

    return Qwen2VLConfig if kind == OLDER else Qwen2_5_VLConfig


def model_of(kind: str) -> type[PreTrainedModel]:
    """transformers' class of a model_type of this family."""
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLForConditionalGeneration

    return Qwen2VLForConditionalGeneration if kind == OLDER else Qwen2_5_VLForConditionalGeneration


def _window(vision: Any, tower: TowerFacts) -> int:
    """Cells a side, as transformers rounds pixels to them."""
    cells = int(vision.window_size // tower.cell)
    demand(cells > 0, "vision_config.window_size", vision.window_size, f"{tower.cell} pixels or more")
    return cells
