"""The image processors of LLaVA-1.5 checkpoints as settings: CLIP's, and LLaVA's, which pads to a square."""

from __future__ import annotations

from pathlib import Path

from vicrop_engine.engine_dir.records import Preprocessing
from vicrop_export.checkpoint.processor import demand_plain, load_processor, preprocessing_of

WANTED = "CLIPImageProcessor or LlavaImageProcessor"


def read_preprocessing(directory: Path, image_size: int) -> Preprocessing:
    """Settings that make pictures of `image_size` a side. Raises CheckpointError."""
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    processor = load_processor(directory, WANTED)
    if isinstance(processor, LlavaImageProcessorPil):
        return preprocessing_of(processor, image_size, pad_to_square=bool(processor.do_pad))
    demand_plain(processor, WANTED)
    return preprocessing_of(processor, image_size)
