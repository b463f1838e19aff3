"""Decode steps: one token after the other through both graphs, bound once and filled in place.

Knows tensors of one token; nothing of which token comes next.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.backend import Graph
from vicrop_engine.kv_cache import KVBuffers

Floats = npt.NDArray[np.float32]
NO_TAPS: npt.NDArray[np.int64] = np.zeros(0, np.int64)


class DecodeSteps:
    """Steps on these buffers, each of one token that may look at all before it."""

    def __init__(self, buffers: KVBuffers, vocab_size: int, hidden_size: int) -> None:
        self._embeds = np.empty((1, 1, hidden_size), np.float32)
        self._position = np.empty((1, 1), np.int64)
        self._bias = np.zeros((1, 1, 1, buffers.capacity), np.float32)
        self._logits = np.empty((1, vocab_size), np.float32)
        arrays: dict[str, npt.NDArray[Any]] = {
            "inputs_embeds": self._embeds,
            "hidden_states": np.empty_like(self._embeds),
            "position_ids": self._position,
            "tap_positions": NO_TAPS,
            "answer_position": np.zeros(1, np.int64),
            "logits": self._logits,
        }
        tensors = {name: Graph.tensor(array) for name, array in arrays.items()}
        self._lower, self._upper = buffers.lower.step(tensors), buffers.upper.step(tensors)

    def run(self, embeds: Floats, length: int) -> Floats:
        """Logits [vocab] after the token of `embeds` [1, 1, hidden], which comes after `length` others."""
        self._embeds[:] = embeds
        self._position[:] = length
        bias = {"attention_bias": Graph.tensor(self._bias[..., : length + 1])}
        self._lower.run(bias)
        self._upper.run(bias)
        logits: Floats = self._logits[0].copy()
        return logits
