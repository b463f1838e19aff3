"""The image processor of these families as settings: between how many pixels a picture is seen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from vicrop_export.checkpoint.processor import (
    demand_setting,
    demand_steps,
    load_processor,
    refuse_processor,
    square_input,
)
from vicrop_export.families.bounds import bounded
from vicrop_export.families.interfaces import ImageSettings
from vicrop_export.families.qwen.facts import FRAMES, MERGED

WANTED = "Qwen2VLImageProcessor"
STEPS = ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb")
MOST_CELLS = 1280  # of a picture, whatever more its processor allows: attention's work grows with the square


def read_image_settings(
    directory: Path, patch: int, settings: dict[str, int], max_pixels: int | None
) -> ImageSettings:
    """Of a processor for patches of `patch` pixels, and the tower's `settings`.

    A picture has MOST_CELLS at most where `max_pixels` does not say. Raises CheckpointError, and SettingError
    for a bound that cannot be.
    """
    processor = load_processor(directory, WANTED)
    _demand_kind(processor)
    demand_steps(processor, STEPS)
    for key, wanted in (("patch_size", patch), ("merge_size", MERGED), ("temporal_patch_size", FRAMES)):
        demand_setting(
            getattr(processor, key) == wanted, key, getattr(processor, key), f"{wanted}, the tower's"
        )
    least, most = _pixels(processor)
    cell = (MERGED * patch) ** 2
    demand_setting(
        cell <= most and least <= most, "size", dict(processor.size), f"from {cell} pixels upwards"
    )
    most = bounded(max_pixels, MOST_CELLS * cell, cell, most)
    own = {"patch": patch, "min_pixels": min(least, most), "max_pixels": most}
    side = math.isqrt(most // cell) * MERGED * patch
    return ImageSettings(square_input(processor, side), own | settings)


def _pixels(processor: Any) -> tuple[int, int]:
    """How many a picture has at least and at most, under the names of edges."""
    size = {key: value for key, value in dict(processor.size or {}).items() if value is not None}
    given = size.get("shortest_edge"), size.get("longest_edge")
    for value in given:
        demand_setting(
            isinstance(value, int) and value > 0, "size", size, "shortest_edge and longest_edge in pixels"
        )
    least, most = (int(value or 0) for value in given)
    return least, most


def _demand_kind(processor: Any) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    if type(processor) is not Qwen2VLImageProcessorPil:
        refuse_processor(processor, WANTED)
