"""What `config.json` says about towers and decoders of these families, as far as they are alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vicrop_export.checkpoint.config import Rope, TextFacts, demand, demand_activation, read_text_facts

MERGED, FRAMES, CHANNELS = 2, 2, 3  # patches a side of a cell; pictures, and colours, of a patch
POSITION_AXES = 3  # of the decoder: time, row and column


@dataclass(frozen=True)
class TowerFacts:
    """Sizes of the tower; `theta` is the base of its angles."""

    num_layers: int
    num_heads: int
    hidden_size: int
    patch_size: int
    activation: str
    theta: float

    @property
    def cell(self) -> int:
        """Side of what one token stands for, in pixels."""
        return MERGED * self.patch_size

    @property
    def head_dim(self) -> int:
        """Dimensions of a head: an angle by row and one by column for each four."""
        return self.hidden_size // self.num_heads


def read_tower(vision: Any, hidden_size: int) -> TowerFacts:
    """Of the configuration of a tower whose states have `hidden_size`. Raises CheckpointError."""
    patch, rope = vision.patch_size, vision.rope_parameters or {}
    demand(isinstance(patch, int), "vision_config.patch_size", patch, "one whole number")
    for key, wanted in (
        ("spatial_merge_size", MERGED),
        ("temporal_patch_size", FRAMES),
        ("in_channels", CHANNELS),
    ):
        got = getattr(vision, key)
        demand(got == wanted, f"vision_config.{key}", got, str(wanted))
    kind = rope.get("rope_type", "axial")
    demand(kind == "axial", "vision_config rope type", kind, "'axial'")
    fits = hidden_size % (4 * vision.num_heads) == 0
    wanted_heads = f"a divisor of a quarter of {hidden_size}"
    demand(fits, "vision_config.num_heads", vision.num_heads, wanted_heads)
    return TowerFacts(
        num_layers=vision.depth,
        num_heads=vision.num_heads,
        hidden_size=hidden_size,
        patch_size=patch,
        activation=demand_activation("vision_config.hidden_act", vision.hidden_act),
        theta=float(rope.get("rope_theta", 10000.0)),
    )


def read_text(config: Any, model: str, *, interleaved: bool, added_embeds: int = 0) -> TextFacts:
    """The decoder, whose positions have three axes. Raises CheckpointError for what graphs lack."""
    text = config.text_config
    used = getattr(text, "use_sliding_window", False)
    demand(not used, "text_config.use_sliding_window", used, "false")
    facts = read_text_facts(config, (model,))
    sections = tuple((text.rope_parameters or {}).get("mrope_section") or ())
    half = facts.head_dim // 2
    fits = len(sections) == POSITION_AXES and sum(sections) == half
    demand(fits, "text_config mrope_section", sections, f"three numbers that are {half} together")
    rope = Rope(facts.rope.theta, sections, interleaved)
    return replace(facts, rope=rope, added_embeds=added_embeds)
