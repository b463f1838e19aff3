"""What a localizer model's directory says about its use, as plain records read from `settings.json`."""

from __future__ import annotations

from dataclasses import dataclass

from vicrop_engine.engine_dir.records import Preprocessing

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ClipSettings:
    """The image processor of the CLIP checkpoint and the most tokens its text encoder takes."""

    preprocessing: Preprocessing
    context_length: int


@dataclass(frozen=True)
class PixelSettings:
    """How an image processor resizes and normalises; `resample` is Pillow's code."""

    resample: int
    rescale_factor: float
    mean: Triple
    std: Triple

    def at(self, width: int, height: int) -> Preprocessing:
        """The same for a picture resized to exactly this size."""
        return Preprocessing(
            resize="exact",
            height=height,
            width=width,
            resample=self.resample,
            center_crop=False,
            crop_height=height,
            crop_width=width,
            rescale_factor=self.rescale_factor,
            mean=self.mean,
            std=self.std,
        )


@dataclass(frozen=True)
class YoloSettings:
    """The detector's input size and the least confidence of a box.

    The shorter side is scaled to `shortest_edge` unless the longer one would exceed `longest_edge`; both are
    then cut down to a multiple of `multiple`.
    """

    pixels: PixelSettings
    shortest_edge: int
    longest_edge: int
    multiple: int
    confidence: float


@dataclass(frozen=True)
class SamSettings:
    """The segmenter's input and how masks of a grid of points are chosen, as its authors' generator does.

    The longer side is scaled to `side` and the rest of the square filled with zeros. Of the masks of
    `points_per_side` squared points those with more than `predicted_iou` and `stability` remain; stability is
    how little a mask changes when its threshold of 0 moves by `stability_offset`. Of boxes that overlap by
    more than `overlap` the one with the highest predicted IoU is kept.
    """

    pixels: PixelSettings
    side: int
    points_per_side: int
    predicted_iou: float
    stability: float
    stability_offset: float
    overlap: float
