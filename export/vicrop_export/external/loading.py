"""Opens a checkpoint of a localizer model with transformers, and refuses what is of another type.

Knows configuration files and weights as such; not what a model computes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vicrop_engine.errors import CheckpointError
from vicrop_engine.external.settings import PixelSettings
from vicrop_export.quiet import reason


def demand_type(directory: Path, model_type: str, example: str) -> None:
    """Raise CheckpointError unless config.json names this type of model."""
    path = directory / "config.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        got = document["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} names no model type ({reason(error)}); fetch it again") from error
    if got != model_type:
        raise CheckpointError(
            f"{directory} is a checkpoint of type {got!r}, wanted {model_type!r}, such as {example}"
        )


def load_model(model_class: Any, directory: Path) -> Any:
    """The model in float32 with plain attention. Raises CheckpointError when weights are missing."""
    import torch

    try:
        model, loaded = model_class.from_pretrained(
            directory,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises many types for damaged checkpoints
        raise CheckpointError(
            f"{directory}: transformers cannot load the checkpoint ({reason(error)}); fetch it again"
        ) from error
    lacking = sorted({*loaded["missing_keys"], *(str(key) for key in loaded["mismatched_keys"])})
    if lacking:
        raise CheckpointError(
            f"{directory}: {len(lacking)} weights are missing or of another shape, the first {lacking[0]}; "
            "wanted the whole checkpoint"
        )
    return model.eval()


def load_processor(directory: Path, wanted: type, name: str) -> Any:
    """The image processor, of class `wanted`. Raises CheckpointError."""
    from transformers import AutoImageProcessor

    loader: Any = AutoImageProcessor
    try:
        processor = loader.from_pretrained(directory, backend="pil", local_files_only=True)
    except Exception as error:  # transformers raises many types for a damaged or unknown processor
        raise CheckpointError(
            f"{directory}: transformers cannot load the image processor ({reason(error)}); wanted {name}"
        ) from error
    if not isinstance(processor, wanted):
        got = type(processor).__name__.removesuffix("Pil")
        raise CheckpointError(f"{directory}: image processor {got} is not supported; wanted {name}")
    return processor


def pixel_settings(processor: Any) -> PixelSettings:
    """How a processor of transformers resamples and normalises, defaults filled in."""
    red, green, blue = processor.image_mean if processor.do_normalize else (0.0, 0.0, 0.0)
    red_std, green_std, blue_std = processor.image_std if processor.do_normalize else (1.0, 1.0, 1.0)
    return PixelSettings(
        resample=int(processor.resample),
        rescale_factor=float(processor.rescale_factor) if processor.do_rescale else 1.0,
        mean=(red, green, blue),
        std=(red_std, green_std, blue_std),
    )
