"""One pass through the decoder graphs: what they are fed beside states, and what is left of it.

Knows where tokens stand; nothing of graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vicrop_engine.arrays import Floats, Ints
from vicrop_engine.model.kv_cache import HostKVBuffers, KVCache, host_buffers
from vicrop_engine.model.packing import PackedPrompt, PackedStep
from vicrop_engine.runtime.interfaces import Feed, Tensor


@dataclass(frozen=True)
class HostOutput:
    """What a pass over a prefix and its suffixes left.

    `cache` ends with the first suffix; `logits` [vocab] are those after it, None when no suffix went up.
    `attention` holds every suffix's last row of lower and upper graph, each [layers, suffixes, heads, total];
    None where nothing was read. `tapped` [1, suffixes, hidden] are their last tokens' states where the lowest
    heatmap layer begins, and `block` is where all tokens stand.
    """

    cache: KVCache
    logits: Floats | None
    block: PackedPrompt
    attention: tuple[Floats | None, Floats | None] = (None, None)
    tapped: Floats | None = None

    def rows(self, suffix: int) -> dict[int, Floats]:
        """Attention [heads, total] of a suffix's last token, by absolute layer."""
        parts = [part[:, suffix] for part in self.attention if part is not None]
        return dict(enumerate(row for part in parts for row in part))

    @property
    def next_position(self) -> int:
        """That of the token after the first suffix."""
        return self.block.next_position

    @property
    def total(self) -> int:
        """Tokens of prefix and suffixes."""
        return self.block.total


def gradient_inputs(output: HostOutput, suffix: int) -> dict[str, Feed]:
    """What the gradient graph is fed about a suffix's last token. Raises ValueError without taps."""
    block, buffers = output.block, host_buffers(output.cache.buffers)
    if output.tapped is None:
        raise ValueError("gradients are of a pass just made with gradients, in an engine that has them")
    last = block.ends[suffix]
    return {
        "tapped_states": output.tapped[:, suffix : suffix + 1],
        "position_ids": block.position_ids[:, last : last + 1],
        "attention_bias": block.last_bias(suffix, buffers.capacity),
        "own_row": np.array([block.own_row(suffix)]),
        **buffers.lower.buffers,
        **buffers.upper.buffers,
    }


class ForwardInputs:
    """What both graphs are fed beside states."""

    def __init__(
        self,
        block: PackedPrompt | PackedStep,
        tap: bool,
        tensor: Callable[[npt.NDArray[Any]], Tensor],
    ) -> None:
        ends = block.ends
        last = np.array([block.num_new - 1])  # of a prefix alone: no product likes to be empty
        answers = ends if isinstance(block, PackedStep) else ends[:1] if len(ends) else last
        arrays: dict[str, npt.NDArray[Any]] = {
            "position_ids": block.position_ids,
            "tap_positions": ends if tap else NO_TAPS,
            "attention_bias": block.bias(),
            "answer_position": answers,
        }
        self.tensors = {name: tensor(array) for name, array in arrays.items()}
        self.num_new, self.tap = block.num_new, tap
        self.sizes = {
            "seq": block.num_new,
            "total": block.total,
            "rows": len(ends) if tap else 0,
            "answers": len(answers),
            "prefix_tokens": block.prefix - block.done if isinstance(block, PackedPrompt) else 0,
        }


NO_TAPS: Ints = np.zeros(0, np.int64)


class DecodeSteps:
    """Steps on these buffers, each of `count` tokens, whose logits are all wanted.

    A token's position has `axes` numbers, and its embedding `slices`, of which text has the first alone.
    `tensor` puts an array where the graphs want it. Graphs with `spare_rows` take a bias of all rows of the
    buffers, also those after the last token's: then that of a token alone is bound once as well.
    """

    def __init__(
        self,
        buffers: HostKVBuffers,
        tensor: Callable[[npt.NDArray[Any]], Tensor],
        vocab_size: int,
        hidden_size: int,
        count: int = 1,
        *,
        axes: int = 1,
        slices: int = 1,
        spare_rows: bool = False,
    ) -> None:
        self.capacity, self._tensor = buffers.capacity, tensor
        self._embeds = np.zeros((slices, count, hidden_size), np.float32)
        self._positions = np.empty((axes, count), np.int64)
        self._bias = np.zeros((1, 1, 1, buffers.capacity), np.float32)
        self._whole_bias, self._seen = tensor(self._bias) if spare_rows else None, buffers.capacity
        self._logits = np.empty((count, vocab_size), np.float32)
        feeds: dict[str, Feed] = {
            "inputs_embeds": self._embeds,
            "hidden_states": np.empty((1, count, hidden_size), np.float32),
            "position_ids": self._positions,
            "tap_positions": tensor(NO_TAPS),
            "answer_position": tensor(np.arange(count)),
            "logits": self._logits,
        }
        self._lower, self._upper = buffers.lower.step(feeds), buffers.upper.step(feeds)

    def after(self, embeds: npt.NDArray[np.floating], length: int, position: int | None = None) -> Floats:
        """Logits [vocab] of one token, `embeds` [hidden], that comes after `length` others it sees.

        It stands at `position`, by default at their number. The next step writes over the logits.
        """
        position = length if position is None else position
        logits: Floats = self._step(embeds, position, self._sees(length + 1))[0]
        return logits

    def run(self, embeds: Floats, positions: Ints, bias: Floats) -> Floats:
        """Logits [count, vocab] of `embeds` [count, hidden] at these positions [axes or 1, count].

        `bias` [1, 1, count, total] is 0 where a token may look and -inf elsewhere.
        """
        return self._step(embeds, positions, self._tensor(bias)).copy()

    def _step(self, embeds: npt.NDArray[np.floating], positions: Ints | int, bias: Tensor) -> Floats:
        self._embeds[0] = embeds
        self._positions[:] = positions
        changed = {"attention_bias": bias}
        self._lower.run(changed)
        self._upper.run(changed)
        return self._logits

    def _sees(self, total: int) -> Tensor:
        """The bias of a token that sees the first `total` rows."""
        if self._whole_bias is None:
            return self._tensor(self._bias[..., :total])
        if total == self._seen + 1:
            self._bias[0, 0, 0, self._seen] = 0
        else:
            self._bias[..., :total] = 0
            self._bias[..., total:] = -np.inf
        self._seen = total
        return self._whole_bias
