"""The vision tower: pixels to image embeds, remembered by the pixels.

A picture is one input of the tower or several, whose embeds then follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from vicrop_engine.arrays import Floats
from vicrop_engine.byte_cache import ByteCache
from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import GRAPHS
from vicrop_engine.images.preprocessing import pixel_digest
from vicrop_engine.runtime.device import DeviceTensor
from vicrop_engine.runtime.device_graph import DeviceGraphs
from vicrop_engine.runtime.interfaces import OpenGraph

VISION = GRAPHS[0]
MOST_INPUTS = 4  # in one run, where a picture is several; more gain nothing on a processor and take memory


class HostVisionTower:
    """Image embeds of one engine; the same pixels are run once while they are in the cache.

    With `one` the graph takes one picture at a time.
    """

    def __init__(self, graph: OpenGraph, cache_bytes: int, tally: Tally, *, one: bool = False) -> None:
        self._graph, self._one = graph, one
        self._tally = tally
        self.cache: ByteCache[Floats] = ByteCache(cache_bytes)

    def counted_by(self, tally: Tally) -> HostVisionTower:
        """The same tower with a cache of its own for nothing, whose runs are counted there."""
        return HostVisionTower(self._graph, 0, tally, one=self._one)

    def embed(self, pixels: Floats) -> Floats:
        """Image embeds [tokens, hidden] of pixels [inputs, 3, height, width]."""
        return self.embed_all([pixels])[0]

    def embed_all(self, pictures: Sequence[Floats]) -> list[Floats]:
        """The same for several pictures; those not in the cache go through the graph together."""
        keys = [pixel_digest(pixels) for pixels in pictures]
        known = {key: embeds for key in keys if (embeds := self.cache.get(key)) is not None}
        new = {key: pixels for key, pixels in zip(keys, pictures, strict=True) if key not in known}
        self._tally.add(vision_images=len(new), vision_hits=len(keys) - len(new))
        if new:
            known.update(zip(new, self.run(list(new.values())), strict=True))
        for key in new:
            self.cache.put(key, known[key])
        return [known[key] for key in keys]

    def forget(self) -> None:
        """Let go of all embeds."""
        self.cache.clear()

    def check_integrity(self) -> None:
        """Raises AssertionError when the cache does not hold what it says it holds."""
        self.cache.check_integrity()

    def run(self, pictures: Sequence[Floats]) -> list[Floats]:
        """Each picture's embeds, kept nowhere; in memory of its own so that one is let go without others."""
        made = [embeds for inputs in inputs_of_runs(pictures, one=self._one) for embeds in self._run(inputs)]
        places = np.cumsum([0, *map(len, pictures)]).tolist()
        return [joined_inputs(made[start:stop]) for start, stop in pairwise(places)]

    def _run(self, pixels: Floats) -> Floats:
        """Embeds [inputs, tokens, hidden] of one run."""
        self._tally.add(vision_passes=1)
        with self._tally.running(VISION, images=len(pixels)):
            embeds: Floats = self._graph.run({"pixel_values": pixels})["image_embeds"].numpy()
        return embeds


def inputs_of_runs(pictures: Sequence[Floats], *, one: bool = False) -> list[Floats]:
    """The inputs of all pictures in order, as they go through the tower: together, or `one` at a time.

    Where a picture is several, MOST_INPUTS at a time.
    """
    inputs = np.concatenate(list(pictures))
    most = 1 if one else len(inputs) if len(inputs) == len(pictures) else MOST_INPUTS
    return [inputs[start : start + most] for start in range(0, len(inputs), most)]


def joined_inputs(embeds: Sequence[Floats]) -> Floats:
    """One picture's embeds [tokens, hidden], a copy, of those of its inputs."""
    return embeds[0].copy() if len(embeds) == 1 else np.concatenate(list(embeds))


class DeviceVisionTower:
    """Image embeds of one engine; the same pixels are run once while they are in the cache."""

    def __init__(self, graphs: DeviceGraphs, cache_bytes: int, tally: Tally) -> None:
        self._graph, self._rows = graphs.vision, graphs.rows
        self._tally = tally
        self.cache: ByteCache[DeviceTensor] = ByteCache(cache_bytes)

    def embed(self, pixels: Floats) -> DeviceTensor:
        """Image embeds [1, tokens, hidden] of pixels [inputs, 3, height, width]."""
        return self.embed_all([pixels])[0]

    def embed_all(self, pictures: Sequence[Floats]) -> list[DeviceTensor]:
        """The same for several pictures; those not in the cache go through the graph in one run."""
        keys = [pixel_digest(pixels) for pixels in pictures]
        known = {key: embeds for key in keys if (embeds := self.cache.get(key)) is not None}
        new = {key: pixels for key, pixels in zip(keys, pictures, strict=True) if key not in known}
        self._tally.add(vision_images=len(new), vision_hits=len(keys) - len(new))
        if new:
            known.update(zip(new, self._run(list(new.values())), strict=True))
        for key in new:
            self.cache.put(key, known[key])
        return [known[key] for key in keys]

    def forget(self) -> None:
        """Let go of all embeds."""
        self.cache.clear()

    def check_integrity(self) -> None:
        """Raises AssertionError when the cache does not hold what it says it holds."""
        self.cache.check_integrity()

    def _run(self, pictures: Sequence[Floats]) -> list[DeviceTensor]:
        """Each picture's embeds, in memory of its own so that one is let go without the others."""
        self._tally.add(vision_passes=1)
        pixels = np.concatenate(list(pictures)).astype(self._graph.states)
        embeds = self._graph.run({"pixel_values": pixels})["image_embeds"]
        if len(pixels) == 1:
            return [embeds]
        each = embeds.num_rows // len(pixels)
        places = np.split(np.arange(embeds.num_rows), each * np.cumsum([*map(len, pictures)])[:-1])
        return [
            self._rows.run({"first": embeds, "second": embeds, "index": place})["picked"] for place in places
        ]
