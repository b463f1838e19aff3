"""Boxes of objects in a picture, by a detector of the YOLO family (YOLOS).

Knows nothing of questions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vicrop_engine.arrays import Floats
from vicrop_engine.external.manifest import checked_settings, mend_tool
from vicrop_engine.external.settings import YoloSettings
from vicrop_engine.images.geometry import Box
from vicrop_engine.images.picture import Picture
from vicrop_engine.images.preprocessing import preprocess
from vicrop_engine.runtime.graphs import open_graph
from vicrop_engine.runtime.host_graph import Graph


class Detector:
    """An open detector."""

    def __init__(self, graph: Graph, settings: YoloSettings) -> None:
        self._graph, self._settings = graph, settings

    def boxes(self, picture: Picture) -> list[Box]:
        """The objects found with enough confidence, in whole pixels inside the picture; perhaps none."""
        size = input_size(picture.size, self._settings)
        pixels = preprocess(picture.image, self._settings.pixels.at(*size)).pixels
        found = self._graph.run({"pixel_values": pixels})
        confident = confidences(found["logits"].numpy()[0]) > self._settings.confidence
        return in_pixels(found["boxes"].numpy()[0][confident], picture.size)


def input_size(size: tuple[int, int], settings: YoloSettings) -> tuple[int, int]:
    """Width and height that a picture of `size` (width, height) is resized to, as YolosImageProcessor does.

    Where that would be less than one patch, it is one patch.
    """
    short, long = min(size), max(size)
    edge = float(settings.shortest_edge)
    if long / short * edge > settings.longest_edge:
        edge = settings.longest_edge * short / long
    scaled = (round(edge), int(edge * long / short)) if short < long else (round(edge), round(edge))
    first, second = (max(side - side % settings.multiple, settings.multiple) for side in scaled)
    return (first, second) if size[0] < size[1] else (second, first)


def confidences(logits: Floats) -> Floats:
    """The largest probability of a class [queries] from [queries, classes + 1]; the last is "no object"."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Floats = powers[:, :-1].max(axis=-1) / powers.sum(axis=-1)
    return shares


def in_pixels(boxes: Floats, size: tuple[int, int]) -> list[Box]:
    """Centre, width and height [boxes, 4] in shares of a picture as corners, rounded and cut to its edges."""
    middles, halves = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64) / 2
    first, last = (np.rint(corner * size).astype(np.int64) for corner in (middles - halves, middles + halves))
    corners = np.concatenate((np.maximum(first, 0), np.minimum(last, size)), axis=1).tolist()
    found = [(x0, y0, x1, y1) for x0, y0, x1, y1 in corners if x0 < x1 and y0 < y1]
    return list(dict.fromkeys(found))


def open_detector(directory: Path, threads: int | None = None) -> Detector:
    """Open a directory made by `vicrop-engine build yolo`.

    Raises EngineDirectoryError, EngineDamagedError and ProviderError.
    """
    settings = checked_settings(directory, "yolo", YoloSettings)
    return Detector(open_graph(directory / "yolo.onnx", mend_tool("yolo"), threads), settings)
