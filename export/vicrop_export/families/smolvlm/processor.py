"""The image processor of SmolVLM and Idefics3 as settings: how one tile is made, and what is cut to tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_engine.errors import CheckpointError
from vicrop_export.checkpoint.processor import load_processor, refuse_processor, triple
from vicrop_export.families.interfaces import ImageSettings

WANTED = "SmolVLMImageProcessor or Idefics3ImageProcessor"


def read_image_settings(directory: Path, side: int) -> ImageSettings:
    """Settings of a processor that cuts pictures to tiles of `side`. Raises CheckpointError."""
    processor = _processor(directory)
    edge = processor.size.longest_edge
    if not edge or edge > 4096:
        raise CheckpointError(
            f"the image processor's size is {dict(processor.size)}, wanted a 'longest_edge' of 4096 at most"
        )
    most = -(-edge // side)
    tile = Preprocessing(
        resize="exact",
        height=side,
        width=side,
        resample=int(processor.resample),
        center_crop=False,
        crop_height=side,
        crop_width=side,
        rescale_factor=float(processor.rescale_factor) if processor.do_rescale else 1.0,
        mean=triple(processor.image_mean) if processor.do_normalize else (0.0, 0.0, 0.0),
        std=triple(processor.image_std) if processor.do_normalize else (1.0, 1.0, 1.0),
    )
    tiles = 1 if most == 1 else most**2 + 1
    _demand(processor, side)
    return ImageSettings(tile, {"longest_edge": int(edge)}, most_inputs=tiles)


def _processor(directory: Path) -> Any:
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    processor = load_processor(directory, WANTED)
    if not isinstance(processor, SmolVLMImageProcessorPil | Idefics3ImageProcessorPil):
        refuse_processor(processor, WANTED)
    return processor


def _demand(processor: Any, side: int) -> None:
    """Raise CheckpointError for settings that make other tiles than those of the tower."""
    largest = processor.max_image_size["longest_edge"]
    wanted = {"do_resize": True, "do_image_splitting": True}
    for name, value in wanted.items():
        if bool(getattr(processor, name)) is not value:
            raise CheckpointError(
                f"the image processor's {name} is {getattr(processor, name)}, wanted {value}; build with it "
                "so, and ask with one tile by picture_tiles"
            )
    if largest != side:
        raise CheckpointError(
            f"the image processor makes tiles of {largest} pixels, and the vision tower of config.json "
            f"takes {side}"
        )
