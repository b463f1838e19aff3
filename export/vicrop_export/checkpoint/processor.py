"""The checkpoint's image processor as plain settings, with transformers' defaults filled in.

Refuses processors that do more than resize, crop, rescale and normalise. Touches no pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from vicrop_engine.engine_dir.records import Fit, Preprocessing, Resize
from vicrop_engine.errors import CheckpointError
from vicrop_export.quiet import reason

Triple = tuple[float, float, float]


PLAIN = "CLIPImageProcessor"


def read_preprocessing(directory: Path, image_size: int) -> Preprocessing:
    """Settings of a plain processor that make pictures of `image_size` a side. Raises CheckpointError."""
    processor = load_processor(directory, PLAIN)
    demand_plain(processor, PLAIN)
    return preprocessing_of(processor, image_size)


def load_processor(directory: Path, wanted: str) -> Any:
    """transformers' image processor on Pillow; an error says which is `wanted`. Raises CheckpointError."""
    from transformers import AutoImageProcessor

    loader: Any = AutoImageProcessor
    try:
        return loader.from_pretrained(directory, backend="pil", local_files_only=True)
    except Exception as error:  # transformers raises many types for a damaged or unknown processor
        raise CheckpointError(
            f"{directory}: transformers cannot load the image processor ({reason(error)}); wanted {wanted}"
        ) from error


def demand_plain(processor: Any, wanted: str) -> None:
    """Raise CheckpointError for a processor that has steps of its own, or pads."""
    from transformers.image_processing_backends import PilBackend

    if type(processor)._preprocess is not PilBackend._preprocess or processor.do_pad:
        refuse_processor(processor, wanted)


def refuse_processor(processor: Any, wanted: str) -> NoReturn:
    """Raise CheckpointError for this kind of processor."""
    name = type(processor).__name__.removesuffix("Pil")
    raise CheckpointError(f"image processor {name} is not supported; wanted {wanted}")


def preprocessing_of(processor: Any, image_size: int, *, pad_to_square: bool = False) -> Preprocessing:
    """A processor's settings, those of one that makes pictures of `image_size` a side.

    Raises CheckpointError.
    """
    resize, height, width = _resize(processor, image_size)
    crop = processor.crop_size if processor.do_center_crop else None
    crop_height, crop_width = (crop.height, crop.width) if crop else (height, width)
    fixed = resize == "exact" or (pad_to_square and resize == "shortest_edge")
    loses_content = crop is not None and not (fixed and (crop_height, crop_width) == (height, width))
    _demand_size((crop_height, crop_width) if fixed or crop else None, image_size)
    return Preprocessing(
        resize=resize,
        height=height,
        width=width,
        resample=int(processor.resample if processor.resample is not None else 2),
        center_crop=crop is not None,
        crop_height=crop_height,
        crop_width=crop_width,
        rescale_factor=float(processor.rescale_factor) if processor.do_rescale else 1.0,
        mean=triple(processor.image_mean) if processor.do_normalize else (0.0, 0.0, 0.0),
        std=triple(processor.image_std) if processor.do_normalize else (1.0, 1.0, 1.0),
        fit=_fit(resize, loses_content),
        pad_to_square=pad_to_square,
    )


def _resize(processor: Any, image_size: int) -> tuple[Resize, int, int]:
    if not processor.do_resize:
        return "none", image_size, image_size
    size = processor.size
    if size.shortest_edge and not size.longest_edge:
        return "shortest_edge", size.shortest_edge, size.shortest_edge
    if size.height and size.width:
        return "exact", size.height, size.width
    raise CheckpointError(
        f"the image processor resizes to {dict(size)}; wanted 'shortest_edge', or 'height' and 'width'"
    )


def _fit(resize: Resize, loses_content: bool) -> Fit:
    if not loses_content:
        return "processor"
    return "stretch" if resize == "exact" else "pad"


def _demand_size(made: tuple[int, int] | None, image_size: int) -> None:
    if made == (image_size, image_size):
        return
    got = f"{made[1]} x {made[0]} pixels" if made else "pictures of any shape"
    raise CheckpointError(
        f"the image processor makes {got}, and the vision tower of config.json takes "
        f"{image_size} x {image_size}"
    )


def demand_setting(fulfilled: bool, key: str, got: object, wanted: str) -> None:
    """Raise CheckpointError unless what an image processor says under `key` is `fulfilled`."""
    if not fulfilled:
        raise CheckpointError(
            f"the image processor's {key} is {got!r}, wanted {wanted}: the engine makes pixels in no other "
            "way; take this checkpoint's published preprocessor_config.json"
        )


def demand_steps(processor: Any, steps: Iterable[str]) -> None:
    """Raise CheckpointError unless the processor does all of these."""
    for step in steps:
        demand_setting(getattr(processor, step) is True, step, getattr(processor, step), "true")


def square_input(processor: Any, side: int) -> Preprocessing:
    """How a picture is made one input of `side` pixels, whatever its shape, and nothing is cut off."""
    return Preprocessing(
        resize="exact",
        height=side,
        width=side,
        resample=int(processor.resample),
        center_crop=False,
        crop_height=side,
        crop_width=side,
        rescale_factor=float(processor.rescale_factor),
        mean=triple(processor.image_mean),
        std=triple(processor.image_std),
    )


def triple(value: Any) -> Triple:
    """One number for each colour, of one for all or three."""
    if isinstance(value, (int, float)):
        return float(value), float(value), float(value)
    red, green, blue = (float(part) for part in value)
    return red, green, blue
