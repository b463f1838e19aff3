"""The second stage of a vision part: a picture's states and an instruction to image embeds.

They are remembered by both; the tower sees the picture once for all instructions. Knows states and ids;
nothing of questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.byte_cache import ByteCache
from vicrop_engine.counters import Tally
from vicrop_engine.engine_dir.manifest import INSTRUCTED, INSTRUCTED_GRADIENT
from vicrop_engine.images.seen import VisionInputs
from vicrop_engine.model.embedding import TokenTable
from vicrop_engine.model.interfaces import VisionTower
from vicrop_engine.model.prompts import Prompt
from vicrop_engine.model.states import ImageEmbeds, of_kind, on_host
from vicrop_engine.runtime.device import DeviceTensor
from vicrop_engine.runtime.device_graph import DeviceGraph
from vicrop_engine.runtime.host_graph import Graph
from vicrop_engine.runtime.interfaces import OpenGraph

STATES, IDS = "image_states", "instruction_ids"  # what the graph calls its inputs
EMBEDS, LOOKED = "image_embeds", "looked"  # and its outputs
SUFFIX_EMBEDS, GRADIENT = "suffix_embeds", "gradient"  # what the graph with a way back has besides


class InstructedStage:
    """The stage of one engine; the same picture and instruction are run once while they are in the cache."""

    def __init__(self, graph: OpenGraph | DeviceGraph, cache_bytes: int, tally: Tally) -> None:
        self._graph, self._tally = graph, tally
        self.cache: ByteCache[ImageEmbeds] = ByteCache(cache_bytes)

    def counted_by(self, tally: Tally) -> InstructedStage:
        """The same stage with the same cache, whose runs are counted there."""
        other = InstructedStage(self._graph, 0, tally)
        other.cache = self.cache
        return other

    def embed_all(self, pictures: Sequence[VisionInputs], tower: VisionTower) -> list[ImageEmbeds]:
        """Embeds [1, tokens, hidden] of each picture for its instruction, with their mixer [tokens, cells].

        States of the others come from the `tower`, together. Raises RunError.
        """
        keys = [inputs.key for inputs in pictures]
        known = {key: kept for key in keys if (kept := self.cache.get(key)) is not None}
        new = {key: inputs for key, inputs in zip(keys, pictures, strict=True) if key not in known}
        self._tally.add(instructed_hits=len(keys) - len(new))
        for key, states in zip(new, tower.embed_all(list(new.values())), strict=True):
            known[key] = self.run(new[key], states)
            self.cache.put(key, known[key])
        return [known[key] for key in keys]

    def run(self, inputs: VisionInputs, states: Floats | DeviceTensor) -> ImageEmbeds:
        """The embeds of one picture whose `states` [1, patches, hidden] the tower gave, kept nowhere."""
        if inputs.instruction is None:
            raise ValueError("the vision part reads an instruction with a picture; give it one by `asked`")
        ids: Ints = np.asarray(inputs.instruction, np.int64)[None]
        self._tally.add(instructed_passes=1)
        with self._tally.running(INSTRUCTED, instruction=ids.shape[1]):
            embeds, looked = self._outputs(states, ids)
        return ImageEmbeds(embeds, mixer=np.asarray(looked, np.float32).mean(axis=0))

    def forget(self) -> None:
        """Let go of all embeds."""
        self.cache.clear()

    def check_integrity(self) -> None:
        """Raises AssertionError when the cache does not hold what it says it holds."""
        self.cache.check_integrity()

    def _outputs(self, states: Floats | DeviceTensor, ids: Ints) -> tuple[Floats | DeviceTensor, Floats]:
        """Embeds where the decoder takes them, and attention [heads, tokens, cells] on the host."""
        if isinstance(self._graph, DeviceGraph):
            made = self._graph.run({STATES: of_kind(DeviceTensor, states), IDS: ids})
            return made[EMBEDS], self._graph.device.host(made[LOOKED])
        outputs = self._graph.run({STATES: on_host(states), IDS: ids})
        return outputs[EMBEDS].numpy(), outputs[LOOKED].numpy()


class InstructedGradients:
    """How prompts' answers hang on what the second stage looked at, of one engine.

    `open_graph` opens the graph that goes back to it; `table` has the tokens' embeddings.
    """

    def __init__(self, open_graph: Callable[[], Graph], table: TokenTable, tally: Tally) -> None:
        self._open, self._table, self._tally = open_graph, table, tally

    def counted_by(self, tally: Tally) -> InstructedGradients:
        """The same, whose runs are counted there."""
        return InstructedGradients(self._open, self._table, tally)

    def helpful(self, inputs: VisionInputs, prompt: Prompt, tower: VisionTower) -> Floats:
        """Attention times its gradient where that is above zero, mean over heads, [tokens, cells].

        The loss is the logarithm of the probability of the likeliest token after the prompt, whose prefix are
        the picture's tokens. Raises RunError.
        """
        states, ids = on_host(tower.embed(inputs)), np.asarray([inputs.instruction], np.int64)
        embeds = self._table.embed(prompt.suffix)
        self._tally.add(instructed_gradients=1)
        graph = self._open()
        with self._tally.running(INSTRUCTED_GRADIENT, instruction=ids.shape[1], total=len(prompt)):
            outputs = graph.run({STATES: states, IDS: ids, SUFFIX_EMBEDS: embeds})
        looked, gradient = outputs[LOOKED].numpy(), outputs[GRADIENT].numpy()
        helpful: Floats = (looked * np.maximum(gradient, 0)).mean(axis=0)
        return helpful
