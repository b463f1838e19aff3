"""Decode steps: a token or two through both graphs, again and again, bound once and filled in place.

Knows tensors of a few tokens; nothing of which token comes next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.kv_cache import Feed, KVBuffers, Tensor

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
NO_TAPS: Ints = np.zeros(0, np.int64)


class DecodeSteps:
    """Steps on these buffers, each of `count` tokens, whose logits are all wanted.

    `tensor` puts an array where the graphs want it.
    """

    def __init__(
        self,
        buffers: KVBuffers,
        tensor: Callable[[npt.NDArray[Any]], Tensor],
        vocab_size: int,
        hidden_size: int,
        count: int = 1,
    ) -> None:
        self.capacity, self._tensor = buffers.capacity, tensor
        self._embeds = np.empty((1, count, hidden_size), np.float32)
        self._positions = np.empty((1, count), np.int64)
        self._blind_to_none = np.zeros((1, 1, 1, buffers.capacity), np.float32)
        self._logits = np.empty((count, vocab_size), np.float32)
        feeds: dict[str, Feed] = {
            "inputs_embeds": self._embeds,
            "hidden_states": np.empty_like(self._embeds),
            "position_ids": self._positions,
            "tap_positions": tensor(NO_TAPS),
            "answer_position": tensor(np.arange(count)),
            "logits": self._logits,
        }
        self._lower, self._upper = buffers.lower.step(feeds), buffers.upper.step(feeds)

    def after(self, embeds: Floats, length: int) -> Floats:
        """Logits [vocab] of one token, `embeds` [1, 1, hidden], that comes after `length` others it sees."""
        logits: Floats = self.run(embeds, length, self._blind_to_none[..., : length + 1])[0]
        return logits

    def run(self, embeds: Floats, positions: Ints | int, bias: Floats) -> Floats:
        """Logits [count, vocab] of `embeds` [1, count, hidden] at these positions.

        `bias` [1, 1, count, total] is 0 where a token may look and -inf elsewhere.
        """
        self._embeds[:] = embeds
        self._positions[:] = positions
        changed = {"attention_bias": self._tensor(bias)}
        self._lower.run(changed)
        self._upper.run(changed)
        return self._logits.copy()
