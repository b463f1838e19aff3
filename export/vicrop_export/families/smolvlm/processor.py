"""The image processors of this family as settings: how one tile is made, and into how many a picture is cut.

The processor alone is loaded, never the whole one that wants packages for videos.
"""

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

WANTED = "SmolVLMImageProcessor or Idefics3ImageProcessor"
STEPS = ("do_resize", "do_rescale", "do_normalize", "do_image_splitting", "do_convert_rgb")
LONGEST_EDGE = "longest_edge"
LARGEST_EDGE = 4096  # pixels, from where transformers scales down once more


def read_image_settings(directory: Path, side: int) -> ImageSettings:
    """Of a processor whose tiles are of `side` pixels. Raises CheckpointError."""
    processor = load_processor(directory, WANTED)
    _demand_kind(processor)
    demand_steps(processor, STEPS)
    tile = _longest_edge(processor.max_image_size)
    demand_setting(
        tile == side, "max_image_size", processor.max_image_size, f"{LONGEST_EDGE} {side}, the tower's"
    )
    longest = _longest_edge(processor.size)
    fits = isinstance(longest, int) and side <= longest <= LARGEST_EDGE
    demand_setting(fits, "size", dict(processor.size), f"{LONGEST_EDGE} from {side} to {LARGEST_EDGE}")
    along = -(-int(longest + longest % 2) // side)  # the other side of a square is made even
    return ImageSettings(
        square_input(processor, side),
        {LONGEST_EDGE: int(longest)},
        most_inputs=1 if along == 1 else along**2 + 1,  # the whole picture is one more
    )


def _longest_edge(size: Any) -> Any:
    """The one number of a size that names nothing else, else None."""
    named = {key: value for key, value in dict(size or {}).items() if value is not None}
    return named.get(LONGEST_EDGE) if len(named) == 1 else None


def _demand_kind(processor: Any) -> None:
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    if type(processor) not in (Idefics3ImageProcessorPil, SmolVLMImageProcessorPil):
        refuse_processor(processor, WANTED)
