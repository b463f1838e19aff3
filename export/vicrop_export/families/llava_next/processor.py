"""The image processor of LLaVA-NeXT as settings: how one input is made, and what a picture is fitted into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vicrop_export.checkpoint.processor import (
    demand_setting,
    demand_steps,
    load_processor,
    refuse_processor,
    square_input,
)
from vicrop_export.families.interfaces import ImageSettings
from vicrop_export.families.llava_next.facts import NextFacts

WANTED = "LlavaNextImageProcessor"
STEPS = ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb")


def read_image_settings(directory: Path, facts: NextFacts) -> ImageSettings:
    """Of a processor that makes tiles of the tower's size. Raises CheckpointError."""
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    processor, side = load_processor(directory, WANTED), facts.vision.image_size
    if type(processor) is not LlavaNextImageProcessorPil:
        refuse_processor(processor, WANTED)
    demand_steps(processor, STEPS)
    demand_setting(_is_square(processor.size, side), "size", processor.size, f"{side}, the tower's")
    crop = processor.crop_size
    demand_setting(not crop or _is_square(crop, side), "crop_size", crop, f"{side}, the tower's")
    pinpoints = tuple(tuple(pair) for pair in processor.image_grid_pinpoints)
    same = pinpoints == facts.pinpoints
    demand_setting(same, "image_grid_pinpoints", processor.image_grid_pinpoints, "those of config.json")
    tiles = [(height // side, width // side) for height, width in facts.pinpoints]
    grid, base = facts.vision.grid, facts.vision.image_tokens
    return ImageSettings(
        square_input(processor, side),
        {"pinpoints": [list(pair) for pair in facts.pinpoints]},
        most_inputs=1 + max(rows * cols for rows, cols in tiles),
        most_tokens=base + max(rows * grid * (cols * grid + 1) for rows, cols in tiles),
    )


def _is_square(size: Any, side: int) -> bool:
    """Whether a size names `side` alone, as its shortest edge or as height and width."""
    named = {key: value for key, value in dict(size or {}).items() if value is not None}
    return named in ({"shortest_edge": side}, {"height": side, "width": side})
