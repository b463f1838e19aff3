"""Boxes around everything SAM can tell apart in a picture: masks for a grid of points, and the best of them.

Knows nothing of questions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vicrop_engine.arrays import Floats
from vicrop_engine.external.manifest import checked_settings, mend_tool
from vicrop_engine.external.masks import enlarger, suppressed
from vicrop_engine.external.settings import SamSettings
from vicrop_engine.images.geometry import Box
from vicrop_engine.images.picture import Picture
from vicrop_engine.images.preprocessing import preprocess
from vicrop_engine.runtime.graphs import open_graph
from vicrop_engine.runtime.host_graph import Graph

BATCH = 64  # points prompted at once


class Segmenter:
    """An open segmenter."""

    def __init__(self, image: Graph, masks: Graph, settings: SamSettings) -> None:
        self._image, self._masks, self._settings = image, masks, settings

    def boxes(self, picture: Picture) -> list[Box]:
        """A box around each mask that is kept, the surest first; perhaps none."""
        settings = self._settings
        inner = input_size(picture.size, settings.side)
        pixels = self._pixels(picture, inner)
        embeddings = self._image.run({"pixel_values": pixels})["image_embeddings"]
        points = grid_points(settings.points_per_side, inner)
        boxes: list[Box] = []
        scores: list[float] = []
        enlarge = None
        for start in range(0, len(points), BATCH):
            batch = points[None, start : start + BATCH, None]
            found = self._masks.run({"image_embeddings": embeddings, "input_points": batch})
            logits = found["masks"].numpy()[0]
            sure = found["scores"].numpy()[0]
            enlarge = enlarge or enlarger(logits.shape[-1], settings.side, inner, picture.size)
            for point, candidate in np.argwhere(sure > settings.predicted_iou):
                stability, box = enlarge.measure(logits[point, candidate], settings.stability_offset)
                if box is not None and stability > settings.stability:
                    boxes.append(box)
                    scores.append(float(sure[point, candidate]))
        return suppressed(boxes, scores, settings.overlap)

    def _pixels(self, picture: Picture, inner: tuple[int, int]) -> Floats:
        side = self._settings.side
        pixels = np.zeros((1, 3, side, side), np.float32)
        pixels[:, :, : inner[1], : inner[0]] = preprocess(
            picture.image, self._settings.pixels.at(*inner)
        ).pixels
        return pixels


def input_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height that a picture of `size` (width, height) has when its longer side is `side`."""
    scale = side / max(size)
    width, height = (max(1, int(length * scale + 0.5)) for length in size)
    return width, height


def grid_points(points_per_side: int, inner: tuple[int, int]) -> Floats:
    """Points [points, 2] as x, y in the middle of equal cells, row by row."""
    middles = (np.arange(points_per_side) + 0.5) / points_per_side
    y, x = np.meshgrid(middles * inner[1], middles * inner[0], indexing="ij")
    points: Floats = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)
    return points


def open_segmenter(directory: Path, threads: int | None = None) -> Segmenter:
    """Open a directory made by `vicrop-engine build sam`.

    Raises EngineDirectoryError, EngineDamagedError and ProviderError.
    """
    settings = checked_settings(directory, "sam", SamSettings)
    image, masks = (
        open_graph(directory / f"{name}.onnx", mend_tool("sam"), threads)
        for name in ("sam_image", "sam_masks")
    )
    return Segmenter(image, masks, settings)
