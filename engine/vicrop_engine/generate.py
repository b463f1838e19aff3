"""Prefill and greedy decode on the decoder graphs, and reading attention rows on the way.

Knows token ids, image embeds and KV caches; nothing of questions, pictures or crops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vicrop_engine.backend import Feed, Graph, Graphs
from vicrop_engine.config import DecoderGeometry, SpecialTokens
from vicrop_engine.counters import Tally
from vicrop_engine.kv_cache import KVCache, Tensor

Floats = npt.NDArray[np.float32]
Taps = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pass:
    """What one prefill left: the cache after it, the last token's logits [vocab], its attention by graph.

    `attention` holds the last token's rows of lower and upper graph, each [layers, 1, heads, cache.length].
    """

    cache: KVCache
    logits: Floats
    attention: tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Generation:
    """Generated ids, the end sign included when it was reached, and each one's probability."""

    ids: tuple[int, ...]
    probabilities: tuple[float, ...]

    @property
    def confidence(self) -> float:
        """Geometric mean of the probabilities of the generated tokens, the end sign included."""
        logs = [math.log(max(value, 1e-300)) for value in self.probabilities]
        return math.exp(sum(logs) / len(logs))


class Decoder:
    """The language model of one engine."""

    def __init__(
        self,
        graphs: Graphs,
        embeddings: Floats,
        geometry: DecoderGeometry,
        tokens: SpecialTokens,
        tally: Tally,
    ) -> None:
        self._graphs = graphs
        self._embeddings = embeddings
        self._tokens = tokens
        self._tally = tally
        self._num_lower = geometry.num_lower_layers
        empty = np.zeros((1, geometry.num_kv_heads, 0, geometry.head_dim), np.float32)
        self._empty = KVCache(_pasts(graphs.lower, empty), _pasts(graphs.upper, empty), 0)

    def prefill(
        self, ids: Sequence[int], images: Sequence[Floats], cache: KVCache | None = None, tap: bool = False
    ) -> Pass:
        """Run `ids` through all layers after `cache`; image tokens take the rows of `images` in order.

        `images` are [image_tokens, hidden] each. With `tap` the last token's attention is read.
        """
        cache = cache or self._empty
        lower = self._lower(self._embed(ids, images), cache, tap)
        upper = self._upper(lower["hidden_states"], len(ids), cache, tap)
        grown = KVCache(_presents(lower), _presents(upper), cache.length + len(ids))
        logits = upper["logits"].numpy().reshape(-1)
        return Pass(grown, logits, (lower["attention"], upper.get("attention")))

    def attention(self, ids: Sequence[int], cache: KVCache, layers: Sequence[int]) -> Floats:
        """The last token's attention rows [layers, heads, total] when `ids` follow `cache`.

        Stops at the lower graph unless a layer above it is asked for; keeps no cache.
        """
        lower = self._lower(self._embed(ids, ()), cache, True)
        if max(layers) < self._num_lower:
            return self.rows((lower["attention"], None), layers)
        upper = self._upper(lower["hidden_states"], len(ids), cache, True)
        return self.rows((lower["attention"], upper["attention"]), layers)

    def rows(self, attention: tuple[Tensor, Tensor | None], layers: Sequence[int]) -> Floats:
        """Rows [layers, heads, total] picked by absolute layer from what a pass left."""
        lower = attention[0].numpy()
        upper = attention[1].numpy() if attention[1] is not None and max(layers) >= self._num_lower else lower
        picked = [
            lower[layer, -1] if layer < self._num_lower else upper[layer - self._num_lower, -1]
            for layer in layers
        ]
        return np.stack(picked)

    def decode(self, start: Pass, max_new_tokens: int) -> Generation:
        """Greedy tokens from the logits of `start` until an end sign or `max_new_tokens`."""
        ids: list[int] = []
        probabilities: list[float] = []
        current = start
        while True:
            token = int(np.argmax(current.logits))
            ids.append(token)
            probabilities.append(_probability(current.logits, token))
            if token in self._tokens.eos or len(ids) == max_new_tokens:
                return Generation(tuple(ids), tuple(probabilities))
            self._tally.add(decode_steps=1)
            current = self.prefill([token], (), current.cache)

    def _embed(self, ids: Sequence[int], images: Sequence[Floats]) -> Floats:
        """[1, len, hidden]: rows of the table, with image embeds in place of image tokens."""
        index = np.asarray(ids, np.int64)
        embeds: Floats = self._embeddings[index]
        if images:
            embeds[index == self._tokens.image] = np.concatenate(images)
        return embeds[None]

    def _lower(self, embeds: Floats, cache: KVCache, tap: bool) -> dict[str, Tensor]:
        num_new = embeds.shape[1]
        self._tally.add(lower_tokens=num_new)
        feeds: dict[str, Feed] = {"inputs_embeds": embeds, **_positions(cache, num_new, tap)}
        return self._graphs.lower.run({**feeds, **cache.lower})

    def _upper(self, hidden: Tensor, num_new: int, cache: KVCache, tap: bool) -> dict[str, Tensor]:
        self._tally.add(upper_tokens=num_new)
        feeds: dict[str, Feed] = {"hidden_states": hidden, **_positions(cache, num_new, tap)}
        return self._graphs.upper.run({**feeds, **cache.upper})


def _positions(cache: KVCache, num_new: int, tap: bool) -> dict[str, Feed]:
    positions = np.arange(cache.length, cache.length + num_new, dtype=np.int64)[None]
    taps: Taps = np.array([num_new - 1] if tap else [], np.int64)
    return {"position_ids": positions, "tap_positions": taps}


def _pasts(graph: Graph, empty: Floats) -> dict[str, Tensor]:
    return {name: graph.tensor(empty) for name in graph.inputs if name.startswith("past_key_values.")}


def _presents(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The grown keys and values under the names they go in by next time."""
    return {
        name.replace("present.", "past_key_values.", 1): value
        for name, value in outputs.items()
        if name.startswith("present.")
    }


def _probability(logits: Floats, token: int) -> float:
    shifted = logits.astype(np.float64) - float(logits.max())
    return float(np.exp(shifted[token]) / np.exp(shifted).sum())
