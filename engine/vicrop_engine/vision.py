"""The vision tower: pixels to image embeds, remembered by the pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vicrop_engine.backend import Graph
from vicrop_engine.counters import Tally
from vicrop_engine.prefix_cache import ByteCache, pixel_digest

Floats = npt.NDArray[np.float32]


class VisionTower:
    """Image embeds of one engine; the same pixels are run once while they are in the cache."""

    def __init__(self, graph: Graph, cache_bytes: int, tally: Tally) -> None:
        self._graph = graph
        self._tally = tally
        self.cache: ByteCache[Floats] = ByteCache(cache_bytes)

    def embed(self, pixels: Floats) -> Floats:
        """Image embeds [image_tokens, hidden] of pixels [1, 3, height, width]."""
        key = pixel_digest(pixels)
        embeds = self.cache.get(key)
        if embeds is not None:
            self._tally.add(vision_hits=1)
            return embeds
        self._tally.add(vision_images=1)
        fresh: Floats = self._graph.run({"pixel_values": pixels})["image_embeds"].numpy()[0]
        self.cache.put(key, fresh)
        return fresh
