"""The vision tower: pictures to image embeds, remembered by what the tower takes of them.

A picture is one square input of the tower or several, whose embeds then follow each other or are picked with
the engine's extra rows, or arrays of its own sizes, which go through the graph by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.byte_cache import ByteCache
from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import GRAPHS
from vicrop_engine.images.seen import PIXELS, VisionInputs
from vicrop_engine.runtime.device import DeviceTensor
from vicrop_engine.runtime.device_graph import DeviceGraphs
from vicrop_engine.runtime.interfaces import OpenGraph

VISION = GRAPHS[0]
MOST_INPUTS = 4  # in one run, where a picture is several; more gain nothing on a processor and take memory


class HostVisionTower:
    """Image embeds of one engine; the same picture is run once while its embeds are in the cache.

    With `one` the graph takes one picture at a time. `extra` [rows, hidden] may be picked among a picture's.
    """

    def __init__(
        self,
        graph: OpenGraph,
        cache_bytes: int,
        tally: Tally,
        *,
        one: bool = False,
        extra: Floats | None = None,
    ) -> None:
        self._graph, self._one, self._extra = graph, one, extra
        self._tally = tally
        self.cache: ByteCache[Floats] = ByteCache(cache_bytes)

    def counted_by(self, tally: Tally) -> HostVisionTower:
        """The same tower with a cache of its own for nothing, whose runs are counted there."""
        return HostVisionTower(self._graph, 0, tally, one=self._one, extra=self._extra)

    def embed(self, inputs: VisionInputs) -> Floats:
        """Image embeds [1 + added, tokens, hidden] of a picture."""
        return self.embed_all([inputs])[0]

    def embed_all(self, pictures: Sequence[VisionInputs]) -> list[Floats]:
        """The same for several pictures; those not in the cache go through the graph together if they can."""
        keys = [inputs.digest for inputs in pictures]
        known = {key: embeds for key in keys if (embeds := self.cache.get(key)) is not None}
        new = {key: inputs for key, inputs in zip(keys, pictures, strict=True) if key not in known}
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

    def run(self, pictures: Sequence[VisionInputs]) -> list[Floats]:
        """Each picture's embeds, kept nowhere; in memory of its own so that one is let go without others."""
        if not all(inputs.are_square for inputs in pictures):
            return [self._run(inputs).copy() for inputs in pictures]
        squares = [inputs.pixels for inputs in pictures]
        runs = inputs_of_runs(squares, one=self._one)
        made = [embeds for pixels in runs for embeds in self._run(VisionInputs.of_pixels(pixels))]
        places = np.cumsum([0, *map(len, squares)]).tolist()
        return [
            self._packed(made[start:stop], inputs.picked)
            for inputs, (start, stop) in zip(pictures, pairwise(places), strict=True)
        ]

    def _packed(self, embeds: Sequence[Floats], picked: Ints | None) -> Floats:
        """One picture's embeds [1, tokens, hidden] of those of its inputs."""
        if picked is None:
            return joined_inputs(embeds)
        extra = [] if self._extra is None else [self._extra]
        packed: Floats = np.concatenate([*embeds, *extra])[picked][None]
        return packed

    def _run(self, inputs: VisionInputs) -> Floats:
        """Embeds of one run: [inputs, tokens, hidden] of square ones, else [1 + added, tokens, hidden]."""
        self._tally.add(vision_passes=1)
        sizes = {"images": len(inputs.pixels)} if inputs.are_square else inputs.sizes
        with self._tally.running(VISION, **sizes):
            [made] = self._graph.run(dict(inputs.arrays)).values()
        embeds: Floats = made.numpy()
        return embeds


def inputs_of_runs(pictures: Sequence[Floats], *, one: bool = False) -> list[Floats]:
    """The inputs of all pictures in order, as they go through the tower: together, or `one` at a time.

    Where a picture is several, MOST_INPUTS at a time.
    """
    inputs = np.concatenate(list(pictures))
    most = 1 if one else len(inputs) if len(inputs) == len(pictures) else MOST_INPUTS
    return [inputs[start : start + most] for start in range(0, len(inputs), most)]


def joined_inputs(embeds: Sequence[Floats]) -> Floats:
    """One picture's embeds [1, tokens, hidden], a copy, of those of its inputs."""
    return embeds[0][None].copy() if len(embeds) == 1 else np.concatenate(list(embeds))[None]


def rows_of(inputs: VisionInputs, places: Ints, total: int) -> Ints:
    """Which rows of a run of `total`, and on through the extra ones, are the picture at `places`."""
    if inputs.picked is None:
        return places
    extra = total + np.arange(inputs.picked.max(initial=0) + 1)
    return np.concatenate((places, extra))[inputs.picked]


class DeviceVisionTower:
    """Image embeds of one engine; the same picture is run once while its embeds are in the cache.

    `extra` [rows, hidden] may be picked among a picture's.
    """

    def __init__(
        self, graphs: DeviceGraphs, cache_bytes: int, tally: Tally, extra: Floats | None = None
    ) -> None:
        self._graph, self._rows = graphs.vision, graphs.rows
        self._extra = None if extra is None else extra[None].astype(graphs.vision.states)
        self._tally = tally
        self.cache: ByteCache[DeviceTensor] = ByteCache(cache_bytes)

    def embed(self, inputs: VisionInputs) -> DeviceTensor:
        """Image embeds [1 + added, tokens, hidden] of a picture."""
        return self.embed_all([inputs])[0]

    def embed_all(self, pictures: Sequence[VisionInputs]) -> list[DeviceTensor]:
        """The same for several pictures; those not in the cache go through the graph together if they can."""
        keys = [inputs.digest for inputs in pictures]
        known = {key: embeds for key in keys if (embeds := self.cache.get(key)) is not None}
        new = {key: inputs for key, inputs in zip(keys, pictures, strict=True) if key not in known}
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

    def _run(self, pictures: Sequence[VisionInputs]) -> list[DeviceTensor]:
        """Each picture's embeds, in memory of its own so that one is let go without the others."""
        if not all(inputs.are_square for inputs in pictures):
            return [self._run_alone(inputs) for inputs in pictures]
        self._tally.add(vision_passes=1)
        squares = [inputs.pixels for inputs in pictures]
        pixels = np.concatenate(squares).astype(self._graph.states)
        [embeds] = self._graph.run({PIXELS: pixels}).values()
        if len(pixels) == 1 and pictures[0].picked is None:
            return [embeds]
        each = embeds.num_rows // len(pixels)
        places = np.split(np.arange(embeds.num_rows), each * np.cumsum([*map(len, squares)])[:-1])
        extra = embeds if self._extra is None else self._extra
        return [
            self._rows.run(
                {"first": embeds, "second": extra, "index": rows_of(inputs, place, embeds.num_rows)}
            )["picked"]
            for inputs, place in zip(pictures, places, strict=True)
        ]

    def _run_alone(self, inputs: VisionInputs) -> DeviceTensor:
        self._tally.add(vision_passes=1)
        floats = self._graph.states
        arrays = {
            name: array.astype(floats) if np.issubdtype(array.dtype, np.floating) else array
            for name, array in inputs.arrays.items()
        }
        [embeds] = self._graph.run(arrays).values()
        return embeds
